#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_roots.py - pages of real guests that are blocks of the image they booted from become references.

Which pages are clean pages of files is what the guests' own kernels said. Guests are those in the build
folder's guests/, with the image they have as root.
"""
import hashlib
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli", "tests/e2e"]
from cli import *
from truth import Truth

guests = pathlib.Path(program).parent / "guests"
image = guests / "rootfs.ext4"
NAMES = ("pyjson-a", "pyjson-b", "jstpl-a")
ZERO = bytes(PAGE)
# The share of clean pages of files that must be references.
LEAST = 0.95


def pages_of(path):
    with open(path, "rb") as file:
        while page := file.read(PAGE):
            yield page


def digest(page):
    return hashlib.blake2b(page, digest_size=16).digest()


def check_guest(name, blocks, store, without):
    memory = guests / name / "mem"
    put = says(f"{name}: put", "put", name, str(memory), store=store, timeout=300)
    plain = says(f"{name}: put without the image", "put", name, str(memory), store=without, timeout=300)
    found = [page != ZERO and digest(page) in blocks for page in pages_of(memory)]
    classes = list(Truth(guests / name / "gt").classes())
    clean = [at for at, page in enumerate(pages_of(memory)) if classes[at] == "file_clean" and page != ZERO]
    share = sum(found[at] for at in clean) / len(clean)
    explained = says(f"{name}: explain", "explain", name, store=store)
    references = explained["reference_bytes"] // PAGE
    print(f"# {name}: {references} references, {share:.2%} of {len(clean)} clean pages of files, "
          f"{put['added_bytes']} bytes added, {plain['added_bytes']} without the image")
    is_(references, sum(found), f"{name}: every page that is a block of the image is a reference")
    ok(share >= LEAST, f"{name}: so are clean pages of files", share)
    out = work / "out.mem"
    works(f"{name}: get", "--quiet", "get", name, "-o", str(out), store=store, timeout=300)
    ok(subprocess.run(["cmp", "--", str(out), str(memory)]).returncode == 0, f"{name}: comes back byte for byte")
    out.unlink()
    return put["added_bytes"], plain["added_bytes"]


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


NAMES = [name for name in NAMES if (guests / name / "gt").is_file()]
if not image.is_file() or not NAMES:
    skip_all(f"no guests in {guests}; tools/guest/corpus makes them")
store, without = new_store(), new_store("without")
works("root add", "--quiet", "root", "add", str(image), store=store, timeout=300)
blocks = {digest(page) for page in pages_of(image) if len(page) == PAGE}
added = [check_guest(name, blocks, store, without) for name in NAMES]
ok(sum(ours for ours, _ in added) < 0.9 * sum(plain for _, plain in added), "the guests take less", added)
works("check", "--quiet", "check", store=store, timeout=300)
refuses(BUSY, f"{len(NAMES)} snapshot", "the image is needed", "root", "rm", image.name, store=store)
done()
