#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_working_set.py - working-set show and forget, and what ls, show, stat and check tell of one."""
import sys

sys.dont_write_bytecode = True
from cli import *

import working_sets
from working_sets import xxhash

if xxhash is None:
    print("1..0 # SKIP libxxhash.so.0 is not installed")
    sys.exit(77)
rng = make_seed()
store = new_store()
PAGES = 640
data = b"".join(rng.randbytes(PAGE) for _ in range(PAGES))
image = write("image", data)


def teach(wakes, windows):
    return working_sets.teach(store, "a", PAGES, wakes, windows)


def test_none():
    refuses(NOT_FOUND, "no wake has taught one", "no set yet", "working-set", "show", "a", store=store)
    refuses(NOT_FOUND, "has no working set", "nothing to forget", "working-set", "forget", "a", store=store)
    refuses(NOT_FOUND, "no snapshot b", "no such snapshot", "working-set", "show", "b", store=store)
    refuses(USAGE, "show and forget", "another action", "working-set", "learn", "a", store=store)
    is_(says("ls", "ls", store=store)["snapshots"][0]["working_set"], None, "ls has none")
    is_(says("show", "show", "a", store=store)["working_set"], None, "show neither")
    is_(says("stat", "stat", store=store)["working_set_bytes"], 0, "stat counts none")


def test_show():
    path = teach(5, [(2, 0x00FF, 200, 0b1011), (3, 0x0001, 0, 0b11), (30, 0x0003, 0, 0b10001)])
    told = says("working-set show", "working-set", "show", "a", store=store)
    is_(told["runs"], [[48, 1], [32, 8]], "runs come in the order of need")
    is_((told["wakes"], told["pages"], told["bytes"], told["image_pages"], told["candidate_pages"]),
        (5, 9, 9 * PAGE, PAGES, 2), "with their numbers")
    is_(told["pages_by_share"], {"third": 0, "two_thirds": 8, "all": 1}, "and how sure they are")
    is_(told["file_bytes"], path.stat().st_size, "and what the list takes")
    text = works("working-set show in words", "working-set", "show", "a", store=store).decode()
    ok("learnt from 5 wakes" in text and "9" in text, "says the same", text)
    picture = "".join(line.split()[1] for line in text.splitlines() if line.startswith("  0x") or line.strip().startswith("0 "))
    ok(max(map(len, text.splitlines())) <= 80, "in 80 columns", text)
    ok("0" in picture or "1111" in text, "with a map", text)
    is_(says("ls", "ls", store=store)["snapshots"][0]["working_set"], {"wakes": 5, "pages": 9}, "ls tells of it")
    is_(says("show", "show", "a", store=store)["working_set"], {"wakes": 5, "pages": 9}, "so does show")
    ok(b"working set" in works("show in words", "show", "a", store=store), "in words too")
    is_(says("stat", "stat", store=store)["working_set_bytes"], path.stat().st_size, "stat counts it")


def test_cluster():
    told = says("gc --cluster", "gc", "--cluster", store=store)
    is_(told["clustered_pages"], 9, "stores the pages of the set together")
    is_(says("again", "gc", "--cluster", store=store)["clustered_pages"], 0, "and only once")
    is_(says("show", "working-set", "show", "a", store=store)["pages"], 9, "the set is still known")
    out = str(work / "clustered")
    works("get", "--quiet", "get", "a", "-o", out, store=store)
    holds(out, data, "the snapshot is as ever")
    works("check", "check", store=store)


def test_damage():
    path = teach(1, [(0, 1, 0, 3)])
    path.write_bytes(path.read_bytes()[:-1])
    refuses(CORRUPT, "forget it", "a damaged set", "working-set", "show", "a", store=store)
    is_(says("ls", "ls", store=store)["snapshots"][0]["working_set"], None, "ls does without")
    found = run("check", store=store)
    ok(found.returncode == CORRUPT and b"wset." in found.stdout + found.stderr, "check finds it", found)
    out = str(work / "out")
    works("get", "--quiet", "get", "a", "-o", out, store=store)
    holds(out, data, "the snapshot is as ever")


def test_forget():
    is_(says("working-set forget", "working-set", "forget", "a", store=store), {"name": "a"}, "tells what it forgot")
    ok(not list(pathlib.Path(store).glob("wset.*")), "the file is gone")
    works("check", "check", store=store)
    path = teach(1, [(0, 1, 0, 3)])
    works("rm", "rm", "a", store=store)
    ok(not path.exists(), "rm takes it away")


works("put", "put", "a", image, store=store)
test_none()
test_show()
test_cluster()
test_damage()
test_forget()
done()
