#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_together.py - two programs on one store, programs that are told to stop, and progress on a terminal."""
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = new_store()
small = write("small", make_image(rng, 100))
big = write("big", rng.randbytes(64 << 20))
prepare("put", "small", small, store=store)


def start(*args, **how):
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    # Under nohup SIGHUP is ignored, and the program rightly keeps it so: begin as a terminal would.
    how.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    return subprocess.Popen([program, "--store", store, *args], env={**clean_env(), "TERM": "xterm"}, **how)


def holds_lock(pid):
    """Whether the process has an advisory lock, which is how a writer keeps others out."""
    folder = f"/proc/{pid}/fdinfo"
    try:
        return any("lock:" in open(f"{folder}/{name}").read() for name in os.listdir(folder))
    except OSError:
        return False


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.002)
    return False


def start_put_and_hold(*args, **how):
    """A put that has the writer's lock and is held still; None when it was too quick for that."""
    put = start("put", *args, **how)
    if not wait_for(lambda: holds_lock(put.pid) or put.poll() is not None) or put.poll() is not None:
        put.communicate()
        return None
    put.send_signal(signal.SIGSTOP)
    return put


def test_second_writer():
    put = start_put_and_hold("big", big)
    if not ok(put is not None, "a put is at work"):
        return
    for args in (["put", "other", small], ["rm", "small"], ["gc"], ["put", "small", small, "--replace"],
                 ["copy", "small", "--to", store, "--as", "copied"]):
        refuses(BUSY, store, f"{args[0]} meanwhile is refused", *args, store=store)
    is_(names(store), ["small"], "readers go on: ls")
    works("readers go on: get", "get", "small", "-o", str(work / "small.out"), store=store)
    works("readers go on: stat", "stat", store=store)
    works("readers go on: explain", "explain", "small", store=store)
    works("readers go on: check", "check", store=store)
    put.send_signal(signal.SIGCONT)
    put.communicate()
    is_((put.returncode, names(store)), (0, ["big", "small"]), "the put ends well")
    works("the lock is free again", "rm", "big", store=store)
    works("gc", "gc", store=store)


def test_stop():
    before = says("stat", "stat", store=store)["stored_bytes"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        put = start_put_and_hold("big", big)
        if not ok(put is not None, f"a put is at work, to get {number.name}"):
            continue
        put.send_signal(number)
        put.send_signal(signal.SIGCONT)
        said = put.communicate()[1].decode()
        is_(put.returncode, -number, f"put dies of {number.name}")
        ok(said.startswith("dormouse: ") and said.count("\n") == 1, "after saying so", said)
        is_(names(store), ["small"], "nothing was stored")
        works("the store is in order", "check", store=store)
    works("gc", "gc", store=store)
    is_(says("stat", "stat", store=store)["stored_bytes"], before, "and as large as before")
    put = start_put_and_hold("big", big)
    put.kill()
    put.communicate()
    is_(names(store), ["small"], "a killed put stores nothing")
    works("and keeps no lock", "put", "small", small, "--replace", store=store)
    works("nor the space", "gc", store=store)
    works("the store is in order", "check", store=store)


def test_stop_get():
    works("put", "put", "big", big, store=store)
    folder = work / "stopped"
    folder.mkdir()
    (folder / "out").write_bytes(b"older")
    for number in (signal.SIGINT, signal.SIGTERM):
        get = start("get", "big", "-o", str(folder / "out"))
        seen = wait_for(lambda: len(left_in(folder)) > 1 or get.poll() is not None)
        get.send_signal(number)
        get.communicate()
        if get.returncode == 0:
            skip("get was too quick to be stopped", f"get dies of {number.name}")
            (folder / "out").write_bytes(b"older")
            continue
        is_((seen, get.returncode), (True, -number), f"get dies of {number.name}")
        is_((left_in(folder), (folder / "out").read_bytes()), (["out"], b"older"),
            "and leaves the older file and nothing else")


def on_terminal(*args, columns=100):
    """Run a put with a terminal as standard error, held still for more than a second; what the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    run("rm", "big", store=store)
    put = start_put_and_hold("big", big, *args, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    if put is None:
        return None
    time.sleep(1.1)
    put.send_signal(signal.SIGCONT)
    got = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        got += part
    os.close(ours)
    put.communicate()
    return got.decode() if put.returncode == 0 else None


def test_progress():
    got = on_terminal()
    ok(got is not None and got.startswith("\rbig  ["), "a bar is drawn", repr(got))
    ok(got and " % " in got and "/s" in got and "of 64.0 MiB" in got, "with percent, bytes and rate", repr(got))
    ok(got and got.endswith("\r\033[K"), "and gone at the end", repr(got))
    for columns in (20, 60, 200):
        got = on_terminal(columns=columns) or "x" * 999
        widest = max(len(line) for line in got.replace("\033[K", "").split("\r"))
        ok(0 < widest < columns, f"it fits into {columns} columns", repr(got))
    for option in ("--quiet", "--json"):
        is_(on_terminal(option), "", f"{option} draws nothing")
    result = run("put", "big", big, "--replace", store=store, env={"TERM": "xterm"})
    is_(result.stderr, b"", "nothing is drawn without a terminal")


test_second_writer()
test_stop()
test_stop_get()
test_progress()
done()
