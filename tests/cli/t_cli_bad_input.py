#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_bad_input.py - every file and name that cannot be used is refused with its own words, and nothing is lost."""
import os
import socket
import sys

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = new_store()
good = make_image(rng, 200)
image = write("good.mem", good)


def fingerprint(folder):
    """Names and sizes of the store's files: a refused put must leave them alone."""
    return sorted((str(path), path.stat().st_size) for path in pathlib.Path(folder).rglob("*"))


def huge_file():
    """A sparse file of more than 2^44 bytes; None where no file system takes one."""
    for folder in (work, pathlib.Path("/dev/shm")):
        path = folder / f"dormouse-huge-{os.getpid()}"
        try:
            with open(path, "wb") as file:
                file.truncate((1 << 44) + PAGE)
            return path
        except OSError:
            path.unlink(missing_ok=True)
    return None


def test_images():
    os.mkfifo(work / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(work / "socket"))
    (work / "loop").symlink_to("loop")
    cases = (
        ("a missing image", str(work / "none"), NOT_FOUND, "No such file"),
        ("an empty path", "", USAGE, "empty"),
        ("an empty image", write("empty", b""), USAGE, "empty"),
        ("an unaligned image", write("unaligned", good + b"x"), USAGE, "1 more than a multiple of 4096"),
        ("a short image", write("short", b"x" * 4095), USAGE, "not whole pages"),
        ("a pipe", str(work / "fifo"), USAGE, "is a pipe"),
        ("a socket", str(work / "socket"), USAGE, "is a socket"),
        ("a device", "/dev/zero", USAGE, "is a device"),
        ("a file as directory", image + "/x", IO, "Not a directory"),
        ("a link to itself", str(work / "loop"), IO, "symbolic links"),
    )
    before = fingerprint(store)
    for name, path, code, words in cases:
        refuses(code, words, name, "put", "bad", path, store=store)
        # A sidecar may have any size.
        if not name.endswith(("empty image", "unaligned image", "short image")):
            refuses(code, words, f"{name} as sidecar", "put", "bad", image, "--sidecar", path, store=store)
    (work / "folder").mkdir()
    refuses(USAGE, "folder", "an empty folder", "put", "bad", str(work / "folder"), store=store)
    write("folder/notes", b"no memory in here")
    refuses(USAGE, "folder", "a folder of other things", "put", "bad", str(work / "folder"), store=store)
    refuses(USAGE, "is a directory", "a folder as sidecar", "put", "bad", image, "--sidecar", str(work), store=store)
    refuses(USAGE, "--parent", "a diff of nothing", "put", "bad", image, "--diff", store=store)
    refuses(NOT_FOUND, "nobody", "a diff of nobody", "put", "bad", image, "--diff", "--parent", "nobody", store=store)
    refuses(USAGE, "--no-inspect", "free pages of a guest not looked at", "put", "bad", image, "--drop-free",
            "--no-inspect", store=store)
    refuses(USAGE, "png", "an unknown format", "put", "bad", image, "--format", "png", store=store)
    is_(fingerprint(store), before, "the store's files are as they were")
    read_end, write_end = os.pipe()
    result = run("put", "bad", "/dev/stdin", store=store, stdin=read_end)
    os.close(write_end)
    is_((result.returncode, b"is a pipe" in result.stderr), (USAGE, True), "standard input that is a pipe")
    with open(image, "rb") as file:
        works("standard input that is a file", "put", "stdin", "/dev/stdin", store=store, stdin=file)
    works("and away with it", "rm", "stdin", store=store)
    is_(names(store), ["kept"], "nothing was stored")


def test_large():
    path = huge_file()
    if path is None:
        skip("no file system here takes a sparse file of 16 TiB", "a too large image")
    else:
        refuses(USAGE, "too large", "a too large image", "put", "bad", str(path), store=store)
        path.unlink()
    big = work / "big"
    with open(big, "wb") as file:
        file.truncate((256 << 20) + 1)
    refuses(USAGE, "too large", "a too large sidecar", "put", "bad", image, "--sidecar", str(big), store=store)
    big.unlink()


def test_unreadable():
    path = pathlib.Path(write("unreadable", good))
    path.chmod(0)
    denies("Permission denied", "an unreadable image", "put", "bad", str(path), store=store)


def test_names():
    bad = ["", ".", "..", "a/b", "/", "a\nb", "a\tb", "\033[31m", "\x7f", "x" * 201, "\u00e9" * 101, b"\xff", b"\xed\xa0\x80",
           "a\u0085b"]
    for name in bad:
        shown = repr(name)[:40]
        refuses(USAGE, "name", f"put under {shown}", "put", name, image, store=store)
        refuses(USAGE, "name", f"copy as {shown}", "copy", "kept", "--to", store, "--as", name, store=store)
        refuses(USAGE, "name", f"domain {shown}", "put", "x", image, "--domain", name, store=store)
        for verb in ("show", "explain", "rm"):
            result = run(verb, name, store=store)
            ok(result.returncode in (USAGE, NOT_FOUND) and result.stderr.decode(errors="replace")[:-1].isprintable(),
               f"{verb} {shown}", result)
    for name in ("x" * 200, "\u00e9" * 100, "a b", "-", "...", "a\\b", "%s%n", "\u6771\u4eac"):
        works(f"put under {name[:20]!r}", "put", "--", name, image, store=store)
        works(f"rm {name[:20]!r}", "rm", "--", name, store=store)


def test_sidecars():
    for folder in ("a", "b"):
        (work / folder).mkdir()
        write(f"{folder}/state", folder.encode())
    refuses(USAGE, "another one named state", "two sidecars of one name", "put", "bad", image,
            "--sidecar", str(work / "a/state"), "--sidecar", str(work / "b/state"), store=store)
    write("con\ntrol", b"x")
    refuses(USAGE, "sidecar", "a sidecar with a bad name", "put", "bad", image, "--sidecar", str(work / "con\ntrol"),
            store=store)


def test_stores():
    refuses(NOT_FOUND, "none", "no directory", "ls", store=str(work / "none"))
    (work / "plain").mkdir()
    refuses(NOT_FOUND, "plain", "a directory that is no store", "ls", store=str(work / "plain"))
    result = run("ls", store=image)
    ok(result.returncode not in (0, CORRUPT), "a file as store", result)
    result = run("init", store=image)
    ok(result.returncode != 0, "init onto a file", result)
    (work / "locked").mkdir(mode=0o555)
    denies("locked", "init where nothing may be written", "init", store=str(work / "locked/store"))


prepare("put", "kept", image, store=store)
test_images()
test_large()
test_unreadable()
test_names()
test_sidecars()
test_stores()
is_(names(store), ["kept"], "nothing else was stored")
works("the store is in order", "check", store=store)
works("and what was there", "get", "kept", "-o", str(work / "kept.out"), store=store)
holds(work / "kept.out", good, "is still the same")
done()
