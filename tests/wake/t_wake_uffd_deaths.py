#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_uffd_deaths.py - sandboxes outlive the processes that serve them, without a wrong byte; nobody is
concerned when a sandbox dies."""
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
from uffd import *


def test_guest_dies():
    with Server() as server:
        stays = server.vmm("wait=1")
        hear(stays, "ready")
        for keep in (0, 1):
            vmm = server.vmm("pace_us=1000", f"keep={keep}", "threads=4")
            server.says(f"wake client client={2 + keep} ", "a guest that will be killed")
            time.sleep(0.2)
            vmm.kill()
            vmm.communicate()
        server.says("client_ended", "guests that were killed are forgotten", 2)
        say(stays)
        finish(stays, "the other one does not notice")


def test_worker_dies():
    """Again and again, in the middle of faults and removals."""
    for memory in ("anon", "shared", "memfd"):
        with Server() as server:
            vmms = [server.vmm("threads=4", "balloons=2", "pace_us=300", "rounds=1", f"memory={memory}", f"keep={i % 2}",
                               f"seed={i}") for i in range(2)]
            server.says("wake client client=2 ", "two guests are there")
            kills = 0
            for _ in range(12):
                worker = server.worker()
                if worker and any(vmm.poll() is None for vmm in vmms):
                    os.kill(worker, signal.SIGKILL)
                    kills += 1
                time.sleep(0.06)
            for vmm in vmms:
                finish(vmm, f"a guest in {memory} memory outlives {kills} workers without a wrong byte")
            is_(server.end(), 0, "the server ends well")
            ok(server.stat["adopted"] > 0, "guests were taken over", server.stat)
            is_(server.stat["clients"], 2, "two guests were counted")


def test_keeper_dies():
    """Its worker serves those who are there, and nobody else: the next server takes the socket over."""
    with Server() as server:
        busy = server.vmm("pace_us=100", "keep=0")
        waits = server.vmm("wait=1", "keep=0")
        hear(waits, "ready")
        server.says("wake client client=2 ", "two guests are there")
        worker = server.worker()
        server.process.kill()
        server.process.wait()
        server.says("keeper_died", "their keeper is killed")
        finish(busy, "who was in the middle of it has all its pages")
        with Server("--once", path=server.path) as second:
            finish(second.vmm(), "another server replaces the abandoned socket")
            second.process.wait(timeout=SECONDS)
            is_(second.process.returncode, 0, "and ends well")
        ok(os.path.exists(f"/proc/{worker}"), "meanwhile the worker stays for who is left")
        say(waits)
        finish(waits, "who has all its pages, too")
        until = time.monotonic() + SECONDS
        while is_running(worker) and time.monotonic() < until:
            time.sleep(0.05)
        ok(not is_running(worker), "then it ends")


def is_running(pid):
    """Whether the process is there, and not only its exit code that nobody asks for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


test_guest_dies()
test_worker_dies()
test_keeper_dies()
done()
