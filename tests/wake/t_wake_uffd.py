#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_uffd.py - sandboxes woken through userfaultfd: right pages in every kind of memory, whatever they
let go meanwhile; what cannot be read is SIGBUS or waits, never zeros."""
import os
import pathlib
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
from uffd import *

QUIET_SECONDS = 2  # of a guest, after which a server learns from it


def test_kinds_of_memory():
    with Server() as server:
        for options in (["memory=anon"], ["memory=shared"], ["memory=memfd"], ["field=old"], ["field=none"], ["regions=1"],
                        ["regions=64"], ["keep=0"], ["hang_up=1"], ["thread_id=1", "threads=4"]):
            said = finish(server.vmm(*options), f"a guest with {' '.join(options)}")
            ok(not said or said["touched"] >= PAGES, "and it touched all pages", said)
        is_(server.end(), 0, "the server ends")
        ok(not os.path.exists(server.path), "and takes its socket away")
        is_((server.stat["refused"], server.stat["lost_pages"]), (0, 0), "nobody was refused, no page was lost")
    for options in (["--window", "4K", "--no-working-set"], ["--window", "256K"], ["--core", "any"], ["--core", "0"],
                    ["--cache", "1M"], ["--fill"]):
        with Server(*options) as server:
            finish(server.vmm("balloons=1"), f"a server with {' '.join(options)}")


def test_removal():
    with Server() as server:
        for memory in ("anon", "shared", "memfd"):
            removals = 0
            vmms = [server.vmm(f"memory={memory}", "balloons=3", "threads=5", "rounds=2", f"seed={seed}",
                               f"keep={seed % 2}") for seed in range(3)]
            for vmm in vmms:
                removals += finish(vmm, f"balloons in {memory} memory while others fault").get("removals", 0)
            ok(removals > 100, "and they let many ranges go", removals)
        is_(server.end(), 0, "the server ends")
        ok(server.stat["removals"] > 300, "it heard of the removals", server.stat)


def test_working_set():
    """What is checked holds of wakes that are learnt from whole. A server learns when a guest has been quiet for
    two seconds: where one was held up for so long and the lesson is short, all is done once more."""
    for turn in range(5):
        folder = new_store(f"learning{turn}")
        prepare("put", "one", image, store=folder)
        if learn_twice(folder):
            return
    ok(False, "five guests one after the other were held up")


def was_held_up(said, set_of, touched):
    known = set_of.get("pages", 0) + set_of.get("candidate_pages", 0)
    return said.get("seconds", 0) >= QUIET_SECONDS and known != touched


def learn_twice(folder):
    """Three wakes of the same guest; False when it was held up."""
    first, end = 992, 1408  # whole windows: nothing comes beside what is touched that is not touched too
    touched = sum(any(data[page * PAGE:(page + 1) * PAGE]) for page in range(first, end))
    pages = [f"only={first}-{end}", "write=0"]
    with Server(where=folder) as server:
        said = finish(server.vmm(*pages), "a first wake")
    copied = server.stat["copied_pages"]
    set_of = says("it was learnt from", "working-set", "show", "one", store=folder)
    if was_held_up(said, set_of, touched):
        return False
    beside = set_of.get("candidate_pages", 0)
    ok(set_of.get("wakes") == 1 and set_of.get("pages", 0) > 0 and beside > 0, "one wake, pages and what came beside them", set_of)
    is_(set_of.get("pages", 0) + beside, touched, "which are all that were touched")
    with Server(where=folder) as server:
        said = finish(server.vmm(*pages, f"await={set_of['pages']}"), "a second wake")
    is_(server.stat["pushed_pages"], set_of["pages"], "what was asked for is given ahead")
    ok(server.stat["faults"] >= beside, "what came beside it must be asked for", beside, server.stat)
    set_of = says("it was learnt from again", "working-set", "show", "one", store=folder)
    if was_held_up(said, set_of, touched):
        return False
    is_((set_of.get("pages"), set_of.get("candidate_pages")), (touched, 0), "and then it is known what is needed")
    with Server(where=folder) as server:
        finish(server.vmm(*pages, f"await={set_of['pages'] * 9 // 10}"), "a third wake")
    ok(server.stat["pushed_pages"] >= set_of["pages"] * 9 // 10, "the working set is given ahead", server.stat)
    ok(server.stat["copied_pages"] < copied / 4, "and hardly anything is asked for", copied, server.stat)
    return True


def test_finish():
    """A signal gives everybody all pages, after which nobody is needed."""
    for memory in ("anon", "shared", "memfd"):
        with Server() as server:
            vmm = server.vmm("wait=1", "keep=0", f"memory={memory}", "balloons=1")
            hear(vmm, "ready")
            server.says("client=1 ", "a guest that has touched nothing")
            is_(server.end(), 0, "the server is told to end, and does")
            say(vmm)
            finish(vmm, f"the guest in {memory} memory has all its pages")


def test_once():
    with Server("--once") as server:
        finish(server.vmm(), "a guest")
        try:
            server.process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pass
        is_(server.process.returncode, 0, "the server ends with it")


def test_huge_pages():
    pool = pathlib.Path("/proc/sys/vm/nr_hugepages")
    before = pool.read_text()
    try:
        pool.write_text("24")
    except OSError as error:
        skip(f"no huge pages: {error}", "a guest in huge pages")
        return
    try:
        if int(pool.read_text()) < 24:
            skip("no huge pages are free", "a guest in huge pages")
            return
        with Server() as server:
            for memory in ("anon", "shared", "memfd"):
                finish(server.vmm("page=2097152", f"memory={memory}", "balloons=1"), f"a guest in huge pages, {memory}")
        with Server("--fill") as server:
            finish(server.vmm("page=2097152"), "the same, filled up meanwhile")
    finally:
        pool.write_text(before)


def test_damage():
    folder = new_store("damaged")
    prepare("put", "one", image, store=folder)
    for path in pathlib.Path(folder).iterdir():
        if path.name.startswith("seg"):
            path.chmod(0o600)
            with open(path, "r+b") as file:
                size = path.stat().st_size
                file.seek(size // 3)
                file.write(rng.randbytes(size // 6))
    with Server(where=folder) as server:
        vmm = server.vmm("write=0")
        said = finish(vmm, "a guest whose image is damaged reads no wrong byte")
        ok(said.get("bus_errors", 0) > 0, "but SIGBUS", said)
        server.says("page_lost", "the log tells")
    ok(server.stat.get("lost_pages", 0) > 0, "and they are counted", server.stat)
    with Server("--hold", where=folder) as server:
        vmm = server.vmm("write=0")
        server.says("then=hold", "with --hold the guest waits")
        ok(vmm.poll() is None, "and lives")
        vmm.kill()
        vmm.communicate()
        server.says("client_ended", "until it is killed")


def test_removed_snapshot():
    folder = new_store("removed")
    prepare("put", "one", image, store=folder)
    with Server("--no-working-set", where=folder) as server:
        vmm = server.vmm("wait=1", "threads=1")
        hear(vmm, "ready")
        server.says("client=1 ", "a guest that waits")
        prepare("rm", "one", store=folder)
        prepare("gc", store=folder)
        say(vmm)
        finish(vmm, "its snapshot is removed meanwhile: all pages are right")
        server.says("client_ended", "it has ended")
        vmm = server.vmm("wait=1", "write=0", "threads=1")
        hear(vmm, "ready")
        server.says("client=2 ", "another one")
        os.kill(server.worker(), signal.SIGKILL)
        server.says("snapshot_gone", "the next worker finds no snapshot")
        say(vmm)
        said = finish(vmm, "no page is wrong")
        is_(said.get("bus_errors"), 2 * PAGES, "each is SIGBUS")


test_kinds_of_memory()
test_removal()
test_working_set()
test_finish()
test_once()
test_huge_pages()
test_damage()
test_removed_snapshot()
done()
