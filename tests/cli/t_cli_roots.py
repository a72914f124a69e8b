#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_roots.py - root add, ls and rm: what they print, what they refuse, and what put makes of an image."""
import os
import sys

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = new_store()
root = b"".join(rng.randbytes(PAGE) for _ in range(64))
path = write("disk.img", root)
own = b"".join(rng.randbytes(PAGE) for _ in range(8))
data = root[:32 * PAGE] + own + bytes(8 * PAGE) + root[40 * PAGE:]
image = write("image", data)


def roots():
    return says("root ls --json", "root", "ls", store=store)["roots"]


def test_add():
    is_(roots(), [], "no root images at first")
    added = says("root add", "root", "add", path, store=store)
    is_((added["name"], added["path"], added["size_bytes"], added["state"]),
        ("disk.img", os.path.realpath(path), len(root), "present"), "tells what was added")
    ok(b"disk.img" in works("root ls", "root", "ls", store=store), "ls has it")
    is_(roots(), [added], "and says the same as add")
    works("adding it again", "root", "add", path, store=store)
    is_(len(roots()), 1, "adds nothing")
    works("another name", "root", "add", path, "--name", "twin", "--domain", "tenant", store=store)
    is_([(row["name"], row["domain"]) for row in roots()], [("disk.img", None), ("twin", "tenant")], "is another entry")
    works("root rm", "root", "rm", "twin", store=store)
    is_(len(roots()), 1, "takes it away")


def test_references():
    works("put", "put", "a", image, store=store)
    told = says("explain", "explain", "a", store=store)
    is_(told["reference_bytes"], 56 * PAGE, "blocks of the image are references")
    ok(told["raw_stored_bytes"] <= 9 * PAGE, "only the other pages are stored", told)
    ok(says("stat", "stat", store=store)["root_bytes"] > 0, "stat tells what the image takes")
    out = work / "out"
    works("get", "--quiet", "get", "a", "-o", str(out), store=store)
    holds(out, data, "comes back")


def test_trouble():
    out = str(work / "never")
    os.rename(path, f"{path}.aside")
    refuses(NOT_FOUND, "root image disk.img", "get without the image", "get", "a", "-o", out, store=store)
    is_(roots()[0]["state"], "missing", "ls tells that it is missing")
    found = run("check", store=store)
    ok(found.returncode == CORRUPT and b"disk.img is missing" in found.stdout + found.stderr, "so does check", found)
    ok(not os.path.exists(out), "no file is left")
    works("adding it where it is now", "root", "add", f"{path}.aside", "--name", "disk.img", store=store)
    works("get", "--quiet", "get", "a", "-o", out, store=store)
    holds(out, data, "comes back from there")
    os.utime(f"{path}.aside", (1, 1))
    refuses(CORRUPT, "root add", "get after a touch", "get", "a", "-o", out, store=store)
    works("adding it again", "root", "add", f"{path}.aside", "--name", "disk.img", store=store)
    refuses(EXISTS, "other content", "another image under its name", "root", "add", image, "--name", "disk.img",
            store=store)


def test_remove():
    refuses(BUSY, "needed by 1 snapshot: a", "rm while it is needed", "root", "rm", "disk.img", store=store)
    works("rm --absorb", "root", "rm", "disk.img", "--absorb", store=store)
    os.unlink(f"{path}.aside")
    out = work / "absorbed"
    works("get without any image", "--quiet", "get", "a", "-o", str(out), store=store)
    holds(out, data, "comes back")
    works("check", "check", store=store)
    refuses(NOT_FOUND, "disk.img", "rm of what is gone", "root", "rm", "disk.img", store=store)


def test_usage():
    refuses(USAGE, "add IMAGE", "root alone", "root", store=store)
    refuses(USAGE, '"frob"', "an unknown action", "root", "frob", store=store)
    refuses(USAGE, "root add IMAGE", "add without an image", "root", "add", store=store)
    refuses(USAGE, "root ls", "ls with an argument", "root", "ls", "x", store=store)
    refuses(USAGE, "--absorb", "add --absorb", "root", "add", "x", "--absorb", store=store)
    refuses(USAGE, "--name", "ls --name", "root", "ls", "--name", "x", store=store)
    refuses(NOT_FOUND, "nowhere", "an image that is not there", "root", "add", "nowhere", store=store)
    refuses(USAGE, "regular file", "a directory", "root", "add", str(work), "--name", "x", store=store)


test_add()
test_references()
test_trouble()
test_remove()
test_usage()
done()
