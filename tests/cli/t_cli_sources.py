#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_sources.py - put takes more than a memory file: cores, folders, diffs; get gives each back as it was."""
import struct
import sys

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = str(work / "store")
full = make_image(rng, 600)
image = write("full.mem", full)


def make_core(pages):
    """An ELF core of one stretch of memory at 1 MiB that begins in the midst of a page of the file."""
    note = b"\x05\0\0\0\x04\0\0\0\x01\0\0\0CORE\0\0\0\0abcd"
    head = bytearray(64)
    head[:16] = b"\x7fELF\2\1\1" + bytes(9)
    at = 64 + 2 * 56
    struct.pack_into("<HHIQQQIHHHHHH", head, 16, 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load_at = at + len(note)
    headers = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(note), 0, 4)
    headers += struct.pack("<IIQQQQQQ", 1, 6, load_at, 0, 1 << 20, len(pages), len(pages), 0)
    return bytes(head) + headers + note + pages


def make_diff(name, base, changed):
    """A sparse file with the pages of CHANGED (number -> bytes) as data, and the memory it makes of BASE."""
    path = work / name
    result = bytearray(base)
    with open(path, "wb") as f:
        f.truncate(len(base))
        for number, page in changed.items():
            f.seek(number * PAGE)
            f.write(page)
            result[number * PAGE : (number + 1) * PAGE] = page
    return str(path), bytes(result)


def page_of(byte):
    return bytes([byte]) * PAGE


def data_pages(path):
    """The numbers of pages that the file has data for."""
    pages = set()
    with open(path, "rb") as f:
        at, end = 0, os.fstat(f.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            stop = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            pages.update(range(at // PAGE, (stop + PAGE - 1) // PAGE))
            at = stop
    return pages


def apply(base, path):
    """What a Firecracker diff means: data replaces, holes keep."""
    result = bytearray(base)
    content = pathlib.Path(path).read_bytes()
    for number in data_pages(path):
        result[number * PAGE : (number + 1) * PAGE] = content[number * PAGE : (number + 1) * PAGE]
    return bytes(result)


def test_core():
    core = make_core(full)
    path = write("core", core)
    said = says("put a core", "put", "core", path, store=store)
    is_(said["logical_bytes"], len(full), "only its memory counts as pages")
    out = work / "core.out"
    says("get it", "get", "core", "-o", str(out), store=store)
    holds(out, core, "a core comes back byte for byte")
    said = says("the memory in it", "put", "same", image, store=store)
    is_(said["raw_bytes"] + said["patched_bytes"], 0, "is the memory that is stored already")
    says("copy the core", "init", store=str(work / "other"))
    says("into another store", "copy", "core", "--to", str(work / "other"), store=store)
    says("get it there", "get", "core", "-o", str(out), store=str(work / "other"))
    holds(out, core, "the copy has its frame")
    refuses(USAGE, "odd", "a core called raw", "put", "bad", write("odd", core[:-1]), "--format", "raw", store=store)


def test_diffs():
    says("put the full image", "put", "full", image, store=store)
    one, after_one = make_diff("one.diff", full, {3: page_of(7), 100: page_of(8), 599: bytes(PAGE)})
    two, after_two = make_diff("two.diff", after_one, {3: page_of(9), 5: page_of(0), 200: full[:PAGE]})
    out = work / "diff.out"
    said = says("put a diff", "put", "one", one, "--diff", "--parent", "full", store=store)
    is_(said["logical_bytes"], len(full), "it makes a full snapshot")
    says("get it", "get", "one", "-o", str(out), store=store)
    holds(out, after_one, "a diff is applied: holes keep the parent's pages")
    if os.access("/dev/shm", os.W_OK):
        in_memory, after = make_diff("memory.diff", full, {3: page_of(7), 100: page_of(8)})
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            subprocess.run(["cp", "--sparse=always", in_memory, f"{folder}/diff"], check=True)
            says("look at a diff that is in memory", "inspect", f"{folder}/diff", store=None)
            says("put it as if it were none", "put", "odd", f"{folder}/diff", store=store)
            says("forget that", "rm", "odd", store=store)
            for name in ("memory", "again"):
                says(f"put a diff that is in memory: {name}", "put", name, f"{folder}/diff", "--diff", "--parent", "full", store=store)
                says("get it", "get", name, "-o", str(out), store=store)
                holds(out, after, "nobody who looked at it has filled its holes")
                says("forget it", "rm", name, store=store)
                out.unlink()
    says("put both at once", "put", "two", one, two, "--diff", "--parent", "full", store=store)
    says("get them", "get", "two", "-o", str(out), store=store)
    holds(out, after_two, "a chain of diffs is applied in order")
    for name in ("full", "one", "same", "core"):
        says(f"rm {name}", "rm", name, store=store)
    says("gc", "gc", store=store)
    says("get it again", "get", "two", "-o", str(out), store=store)
    holds(out, after_two, "the snapshot needs no parent")
    whole = run("put", "whole", two, image, "--diff", "--parent", "two", store=store)
    ok(whole.returncode == 0 and b"diff 2 of 2 has no hole" in whole.stderr, "a diff without holes is one, and it is told", whole.stderr)
    says("get it", "get", "whole", "-o", str(out), store=store)
    holds(out, full, "it replaces everything")
    refuses(USAGE, "2 ", "a diff of another size", "put", "bad", write("short.diff", bytes(2 * PAGE)), "--diff",
            "--parent", "two", store=store)
    return after_two


def test_diff_from(before):
    changed, after = make_diff("three.diff", before, {0: page_of(1), 77: bytes(PAGE), 78: page_of(2)})
    says("put another generation", "put", "three", changed, "--diff", "--parent", "two", store=store)
    out = work / "from.out"
    says("get a diff", "get", "three", "--diff-from", "two", "-o", str(out), store=store)
    want = {n for n in range(len(after) // PAGE) if after[n * PAGE : (n + 1) * PAGE] != before[n * PAGE : (n + 1) * PAGE]}
    is_(data_pages(out), want, "it has the pages that differ as data, zeros too, and no others")
    is_(apply(before, out), after, "applied to the other it makes the snapshot")
    says("get no diff", "get", "two", "--diff-from", "two", "-o", str(out), store=store)
    is_((data_pages(out), out.stat().st_size), (set(), len(after)), "from itself a snapshot differs nowhere")
    refuses(NOT_FOUND, "nobody", "a diff from nobody", "get", "two", "--diff-from", "nobody", "-o", str(out), store=store)
    says("put a small one", "put", "small", write("small.mem", full[: 4 * PAGE]), store=store)
    refuses(USAGE, "size", "a diff from another size", "get", "two", "--diff-from", "small", "-o", str(out), store=store)


def test_drop_free():
    ran = run("put", "kept", image, "--drop-free", store=store)
    ok(ran.returncode == 0 and b"free pages are kept" in ran.stderr, "free pages of what is no guest are kept", ran.stderr)
    out = work / "kept.out"
    says("get it", "get", "kept", "-o", str(out), store=store)
    holds(out, full, "and it comes back whole")


def test_lists():
    rows = says("ls", "ls", store=store)["snapshots"]
    ok(all(sum(row["pages_by_class"].values()) > 0 for row in rows if row["name"] == "kept"), "ls knows classes")
    for by in ("class", "region-type"):
        ran = run("ls", "--by", by, store=store)
        ok(ran.returncode == 0 and b"kept" in ran.stdout, f"ls by {by}", ran.stderr)
    refuses(USAGE, "colour", "ls by something else", "ls", "--by", "colour", store=store)
    said = says("explain", "explain", "kept", store=store)
    is_(sum(row["logical_bytes"] for row in said["by_class"].values()), said["logical_bytes"], "classes add up")
    said = says("put unseen", "put", "unseen", image, "--no-inspect", store=store)
    is_(said["pages_by_class"], None, "classes of an image that was not inspected are not known")


def test_damaged():
    """A framed image whose pages are damaged is not got in part."""
    damaged = str(work / "damaged")
    prepare("init", store=damaged)
    prepare("put", "core", write("damaged.core", make_core(full)), store=damaged)
    segment = max(pathlib.Path(damaged).rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x55
    segment.write_bytes(data)
    folder = work / "out"
    folder.mkdir()
    refuses(CORRUPT, segment.name, "a core with a damaged page", "get", "core", "-o", str(folder / "core"), store=damaged)
    is_(left_in(folder), [], "leaves no file")
    (folder / "core").write_bytes(b"old")
    refuses(CORRUPT, segment.name, "over an older file", "get", "core", "-o", str(folder / "core"), store=damaged)
    holds(folder / "core", b"old", "leaves that one")
    is_(left_in(folder), ["core"], "and no other")


says("init", "init", store=store)
test_core()
test_damaged()
test_diff_from(test_diffs())
test_drop_free()
test_lists()
done()
