#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_diffs.py - a diff of a real guest is known as well as the whole of its memory.

A guest and its fork some minutes later: the pages in which they differ make a diff, or two of them one after the
other. Put with its parent, each gives the snapshot that the fork's whole memory gives: the same bytes, and each page
of the same class and region type. So it is when free pages are dropped.
"""
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli"]
from cli import *

guests = pathlib.Path(program).parent / "guests"
BASE, FORKS = "base", ("fork-pyjson-1", "fork-jstpl-1")


def make_diffs(before, after, count):
    """COUNT diffs that make AFTER of BEFORE together: each has its share of the pages, and all but the last also
    wrong bytes for one page that comes later."""
    paths = [work / f"{count}.{i}.diff" for i in range(count)]
    files = [open(path, "wb") for path in paths]
    turn = 0
    with open(before, "rb") as one, open(after, "rb") as two:
        for number, page in enumerate(iter(lambda: one.read(PAGE), b"")):
            now = two.read(PAGE)
            if page == now:
                continue
            for file in files[turn % count:]:
                file.seek(number * PAGE)
                file.write(now if file is files[-1] or turn % 5 else bytes(PAGE))
            turn += 1
    for file in files:
        file.truncate(os.path.getsize(after))
        file.close()
    return turn, [str(path) for path in paths]


def same_bytes(one, two):
    return subprocess.run(["cmp", "-s", one, two]).returncode == 0


def about(said):
    """What must be the same however the memory was given."""
    types = {name: (row["logical_bytes"], row["zero_bytes"]) for name, row in said["by_region_type"].items()}
    return said["pages_by_class"], types


def check(store, name, image, want, *diffs):
    said = says(f"{name}: put", "put", name, *diffs, "--diff", "--parent", BASE, store=store)
    is_(about(said), want, f"{name}: classes and region types are those of the whole memory")
    out = work / "out"
    says(f"{name}: get", "get", name, "-o", str(out), store=store)
    ok(same_bytes(out, image), f"{name}: the bytes are those of the whole memory")
    out.unlink()


there = [name for name in FORKS if (guests / name / "mem").exists() and (guests / BASE / "mem").exists()]
if not there:
    print(f"1..0 # SKIP no fork and its base in {guests}; tools/guest/corpus makes them")
    sys.exit(77)
for fork in there:
    store = new_store(fork)
    before, after = str(guests / BASE / "mem"), str(guests / fork / "mem")
    says(f"{fork}: put its base", "put", BASE, before, store=store)
    whole = says(f"{fork}: put all of it", "put", "whole", after, "--parent", BASE, store=store)
    ok(whole["pages_by_class"]["anon"] > 0, f"{fork}: it is understood")
    pages, one = make_diffs(before, after, 1)
    ok(0 < pages < os.path.getsize(after) // PAGE // 2, f"{fork}: {pages} pages differ")
    check(store, f"{fork}, one diff", after, about(whole), *one)
    check(store, f"{fork}, a chain", after, about(whole), *make_diffs(before, after, 3)[1])
    dropped = says(f"{fork}: all of it without free pages", "put", "dropped", after, "--parent", BASE, "--drop-free",
                   store=store)
    less = work / "less"
    says(f"{fork}: get that", "get", "dropped", "-o", str(less), store=store)
    check(store, f"{fork}, a diff without free pages", less, about(dropped), *one, "--drop-free")
    less.unlink()
    # Whoever did not look into the parent does not know less of the diff.
    says(f"{fork}: put its base unseen", "put", BASE, before, "--no-inspect", "--replace", store=store)
    check(store, f"{fork}, its parent unseen", after, about(whole), *one)
done()
