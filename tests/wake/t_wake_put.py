#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_put.py - put of the memory of a running process and of its memory file: what it had, whichever way, alone or by
a daemon; and the process goes on."""
import pathlib
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "node"))
from node import *

PAGES = 300
# It lets whoever wants trace it, as a child of the tracer would be, and tells where its memory is and how it does.
OWNER = """
import ctypes, hashlib, mmap, os, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(2**64 - 1), 0, 0, 0)
data = open(sys.argv[1], "rb").read()
memory = mmap.mmap(-1, len(data), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = data
fd = os.memfd_create("memory")
os.truncate(fd, len(data))
for at in range(0, len(data), 4096):
    if data[at:at + 4096].strip(b"\\0"):
        os.pwrite(fd, data[at:at + 4096], at)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), fd, flush=True)
for line in sys.stdin:
    if line == "change\\n":
        memory[:4096] = b"x" * 4096
    print(hashlib.sha256(memory).hexdigest(), flush=True)
"""


class Owner:
    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, "-c", OWNER, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        address, self.fd = map(int, self.process.stdout.readline().split())
        self.pid = str(self.process.pid)
        self.range = f"{address:x}-{address + PAGES * PAGE:x}"
        self.first = f"{address:x}-{address + PAGE:x}"
        self.half = f"{address + 1:x}-{address + PAGE + 1:x}"
        self.rest = f"{address + PAGE:x}-{address + PAGES * PAGE:x}"

    def ask(self, word="how"):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def check_put(name, data, *args, store):
    told = says(f"{name}: put", "put", name, *args, store=store)
    works(f"{name}: get", "get", name, "-o", str(work / "back"), store=store)
    holds(work / "back", data, f"{name}: is the memory")
    return told.get("live", {})


def test_process(store, owner, data):
    before = owner.ask()
    ways = {"marked": ["--no-inspect"], "settled": [], "copied": ["--copy"], "copied-plain": ["--copy", "--no-inspect"]}
    for name, args in ways.items():
        live = check_put(name, data, "--pid", owner.pid, "--range", owner.range, *args, store=store)
        ok(live.get("pid") == int(owner.pid) and live.get("pause_ns", 0) > 0, f"{name}: it tells of the pause", live)
        if "--copy" in args:
            is_(live.get("way"), "copy", f"{name}: it was copied")
        is_(owner.ask(), before, f"{name}: the process goes on with its memory")
    swapped = data[PAGE:] + data[:PAGE]
    live = check_put("ranges", swapped, "--pid", owner.pid, "--range", owner.rest, "--range", owner.first, store=store)
    is_(live.get("ranges"), [owner.rest, owner.first], "ranges: it tells which")
    check_put("file", data, "--memfd", f"{owner.pid}:{owner.fd}", store=store)
    is_(owner.ask("change") != before, True, "the process writes on")
    check_put("changed", b"x" * PAGE + data[PAGE:], "--pid", owner.pid, "--range", owner.range, store=store)
    works("all of its memory", "put", "all", "--pid", owner.pid, "--no-inspect", "--quiet", store=store)
    ok(owner.ask(), "which it still has")
    out = works("words", "put", "words", "--pid", owner.pid, "--range", owner.range, store=store).decode()
    ok("stood still for" in out, "are about the pause", out)
    is_(run("check", store=store).returncode, 0, "the store is good")


def test_daemon(owner, data):
    store = new_store("served")
    daemon = Daemon(store)
    check_put("by-daemon", b"x" * PAGE + data[PAGE:], "--pid", owner.pid, "--range", owner.range, store=store)
    check_put("file-by-daemon", data, "--memfd", f"{owner.pid}:{owner.fd}", store=store)
    daemon.end()


def test_refused(store, owner):
    for name, args, words in (
            ("no number", ["--pid", "x"], "process number"), ("a negative number", ["--pid", "-1"], "process number"),
            ("no descriptor", ["--memfd", owner.pid], "PID:FD"), ("junk after it", ["--memfd", "1:2x"], "PID:FD"),
            ("a range of nothing", ["--pid", owner.pid, "--range", "1000-1000"], "START-END"),
            ("a range that ends before", ["--pid", owner.pid, "--range", "2000-1000"], "START-END"),
            ("a range of half pages", ["--pid", owner.pid, "--range", owner.half], "whole pages"),
            ("a range without a process", ["--range", "1000-2000", str(work / "data")], "--range needs"),
            ("a copy without a process", ["--copy", str(work / "data")], "--copy needs"),
            ("two sources", ["--pid", owner.pid, "--memfd", "1:1"], "one source"),
            ("a diff", ["--pid", owner.pid, "--diff"], "--diff"),
            ("a format", ["--pid", owner.pid, "--format", "raw"], "--format"),
            ("free pages unseen", ["--pid", owner.pid, "--no-inspect", "--drop-free"], "--no-inspect")):
        refuses(USAGE, words, name, "put", "x", *args, store=store)
    refuses(NOT_FOUND, "no readable memory", "a range where nothing is", "put", "x", "--pid", owner.pid, "--range",
            "1000-2000", store=store)
    refuses(NOT_FOUND, "", "no such process", "put", "x", "--pid", str((1 << 22) + 1), store=store)
    refuses(NOT_FOUND, "", "no such descriptor", "put", "x", "--memfd", f"{owner.pid}:999", store=store)
    refuses(USAGE, "no file of whole pages", "a pipe", "put", "x", "--memfd", f"{owner.pid}:0", store=store)
    is_("x" in names(store), False, "nothing was stored")
    ok(owner.ask(), "and the process goes on")


def main():
    rng = make_seed()
    data = make_image(rng, PAGES)
    store = new_store()
    with Owner(write("data", data)) as owner:
        test_process(store, owner, data)
        test_daemon(owner, data)
        test_refused(store, owner)
    done()


if __name__ == "__main__":
    main()
