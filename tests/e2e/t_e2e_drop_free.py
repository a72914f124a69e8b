#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_drop_free.py - guests do not miss the pages that put --drop-free took from them.

Real guests are put with it, got back and restored, twenty times in all, and each computes its answer anew: the
same as before. What was dropped is what the guest's own kernel called free, and nothing else has changed.
"""
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli", "tests/e2e"]
from cli import *
from truth import Truth

RESTORES = 20
guests = pathlib.Path(program).parent / "guests"
NAMES = "pyjson-a pymat-a jstpl-a caes-a fork-pyjson-1 mix-612".split()
store = str(work / "store")


def changed_pages(before, after):
    """The numbers of pages that are not the same, all of which must be zeros after."""
    changed = set()
    with open(before, "rb") as one, open(after, "rb") as two:
        for number, page in enumerate(iter(lambda: one.read(PAGE), b"")):
            now = two.read(PAGE)
            if page != now:
                changed.add(number)
                if any(now):
                    return None
    return changed


def restores(name, image, times):
    for turn in range(times):
        ran = subprocess.run([sys.executable, "tools/guest/restore-check", str(guests / name), "--mem", str(image)],
                             capture_output=True, timeout=200)
        if ran.returncode != 0 and any(words in ran.stderr for words in (b"is not the kit", b"kernel.json")):
            return skip("the kit it was made with is not here", f"{name}: restored")
        if not ok(ran.returncode == 0, f"{name}: restore {turn + 1} of {times} gives the same answer",
                  ran.stderr.decode(errors="replace")):
            return None


there = [name for name in NAMES if (guests / name / "mem").exists()]
if not there:
    print("1..0 # SKIP no guests in the build folder")
    sys.exit(77)
says("init", "init", store=store)
for name in there:
    mem, out = guests / name / "mem", work / "out"
    said = says(f"{name}: put", "put", name, str(mem), "--drop-free", store=store)
    says(f"{name}: get", "get", name, "-o", str(out), store=store)
    changed = changed_pages(mem, out)
    ok(changed is not None, f"{name}: nothing but zeros took the place of pages")
    is_(len(changed or ()) * PAGE, said["dropped_bytes"], f"{name}: {len(changed or ())} pages were dropped")
    ok(changed, f"{name}: and there was something to drop")
    truth = Truth(guests / name / "gt")
    used = [pfn for pfn in changed or () if truth.is_used(pfn)]
    is_(used, [], f"{name}: none of them is in use, says the guest's kernel")
    restores(name, out, -(-RESTORES // len(there)))
done()
