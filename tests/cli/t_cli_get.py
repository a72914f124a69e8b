#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_get.py - get puts a file in place as a whole or leaves nothing: no half image, no temporary file."""
import os
import resource
import subprocess
import sys

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = new_store()
data = make_image(rng, 400) + bytes(2 << 20)
image = write("image", data)
state = write("state", rng.randbytes(5000))
prepare("put", "one", image, "--sidecar", state, store=store)


def fresh(name):
    folder = work / name
    folder.mkdir()
    return folder


def test_targets():
    folder = fresh("targets")
    (folder / "directory").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(image)
    before = left_in(folder)
    for path, code, words in (
            ("-", USAGE, "standard output"), ("", USAGE, "empty"), (folder / "directory", USAGE, "is a directory"),
            (f"{folder}/directory/", USAGE, "no name"), (f"{folder}/.", USAGE, "no name"), (f"{folder}/..", USAGE, "no name"),
            (folder / "fifo", USAGE, "only a regular file"), (folder / "link", USAGE, "symbolic link"),
            ("/dev/null", USAGE, "only a regular file"), (folder / "none/file", NOT_FOUND, "No such file"),
            (f"{image}/file", IO, "Not a directory"), (folder / ("x" * 256), USAGE, "too long"),
            ("x/" * 3000, USAGE, "too long")):
        refuses(code, words, f"-o {str(path)[-12:]!r}", "get", "one", "-o", str(path), store=store)
    is_(left_in(folder), before, "nothing is left behind")
    holds(image, data, "and what the link shows is as it was")


def test_in_place():
    folder = fresh("place")
    out = folder / "out"
    works("get", "get", "one", "-o", str(out), store=store)
    holds(out, data, "the image is there")
    is_(left_in(folder), ["out"], "and nothing else")
    is_(out.stat().st_mode & 0o777, 0o600, "only its owner can read it")
    ok(out.stat().st_blocks * 512 < len(data), "pages of zeros are holes")
    out.write_bytes(b"older and longer" * (1 << 20))
    out.chmod(0o644)
    works("get onto a file", "get", "one", "-o", str(out), store=store)
    holds(out, data, "replaces it")
    is_(out.stat().st_mode & 0o777, 0o644, "and keeps its permissions")
    long = folder / ("n" * 255)
    works("get to the longest name", "get", "one", "-o", str(long), store=store)
    holds(long, data, "which works too")
    works("get to a name without a folder", "get", "one", "-o", "here", store=store, cwd=folder)
    works("get to a name that looks like an option", "get", "one", "-o-there", store=store, cwd=folder)
    is_(left_in(folder), ["-there", "here", "n" * 255, "out"], "both are there")


def test_sidecars():
    folder = fresh("sidecars")
    out = str(folder / "out")
    text = works("get with sidecars", "get", "one", "-o", out, "--sidecars", str(folder / "new"), store=store)
    ok(b"new/state" in text, "tells what it wrote", text)
    is_(left_in(folder / "new"), ["state"], "into a new folder")
    ok((folder / "new/state").read_bytes() == pathlib.Path(state).read_bytes(), "they are the same")
    works("get with sidecars again", "get", "one", "-o", out, f"--sidecars={folder}/new", store=store)
    is_(left_in(folder / "new"), ["state"], "replaces them")
    os.remove(out)
    refuses(USAGE, "not a directory", "sidecars into a file", "get", "one", "-o", out, "--sidecars", image, store=store)
    refuses(NOT_FOUND, "No such file", "sidecars into a folder of no folder", "get", "one", "-o", out,
            "--sidecars", f"{folder}/a/b", store=store)
    (folder / "full").mkdir()
    (folder / "full/state").mkdir()
    refuses(USAGE, "is a directory", "a directory where a sidecar goes", "get", "one", "-o", out,
            "--sidecars", f"{folder}/full", store=store)
    refuses(USAGE, "same file", "image and sidecar in one place", "get", "one", "-o", f"{folder}/state",
            "--sidecars", str(folder), store=store)
    is_(left_in(folder), ["full", "new"], "nothing is left behind")
    works("get without sidecars of an image that has some", "get", "one", "-o", out, store=store)


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_limits():
    folder = fresh("limits")
    out = folder / "out"
    out.write_bytes(b"older")
    refuses(NO_SPACE, "out", "get beyond the limit of a file's size", "get", "one", "-o", str(out),
            "--sidecars", str(folder / "new"), store=store, preexec_fn=limit_file_size)
    is_((left_in(folder), out.read_bytes()), (["out"], b"older"), "leaves the older file and nothing else")
    locked, readable = fresh("locked"), work / "readable"
    locked.chmod(0o555)
    shutil.copytree(store, readable)
    for path in (readable, *readable.iterdir()):
        path.chmod(0o755)
    denies(f"{locked.name}/out", "get into a folder that may not be written", "get", "one", "-o",
           str(locked / "out"), store=str(readable))


# Runs in a mount namespace of its own: $1 the program, $2 a folder to mount on, $3 the store, $4 an image.
FULL_DISK = r"""
mount -t tmpfs -o size=1m none "$2" || exit 77
echo older >"$2/out"
"$1" --store "$3" get one -o "$2/out" --sidecars "$2/new"; echo "get $?"
cat "$2/out"; ls -A "$2"
rm "$2/out"
"$1" --quiet --store "$2/store" init; echo "init $?"
"$1" --store "$2/store" put one "$4"; echo "put $?"
"$1" --store "$2/store" --quiet check; echo "check $?"
"$1" --store "$2/store" --json ls | tr -d ' \n'
"""


def test_full_disk():
    folder = fresh("mount")
    noise = write("noise", rng.randbytes(4 << 20))
    works("put of an image that does not shrink", "put", "noise", noise, store=store)
    options = ["-m"] if os.geteuid() == 0 else ["-rm"]
    script = FULL_DISK.replace("get one", "get noise")
    result = subprocess.run(["unshare", *options, "sh", "-c", script, "sh", program, folder, store, noise],
                            capture_output=True, text=True)
    if "init 0" not in result.stdout:
        skip("cannot mount a small file system here", "get and put on a full disk")
        return
    lines = result.stdout.splitlines()
    is_(lines[:3], [f"get {NO_SPACE}", "older", "out"], "get on a full disk leaves the older file and nothing else")
    is_(lines[3:6], ["init 0", f"put {NO_SPACE}", "check 0"], "put on a full disk leaves the store in order")
    is_(lines[6:], ['{"snapshots":[]}'], "and empty")
    ok(all(line.startswith("dormouse: ") for line in result.stderr.splitlines()), "with clear words", result.stderr)


test_targets()
test_in_place()
test_sidecars()
test_limits()
test_full_disk()
done()
