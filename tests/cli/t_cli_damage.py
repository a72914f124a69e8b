#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_damage.py - a store whose files were cut, overwritten or lost: an error and its exit code, never wrong bytes."""
import shutil
import struct
import sys

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
store = new_store("whole")
images = {"one": make_image(rng, 300)}
images["two"] = make_image(rng, 300, images["one"])
images["apart"] = make_image(rng, 300)
for name, data in images.items():
    domain = "apart" if name == "apart" else "default"
    prepare("put", name, write(f"{name}.mem", data), "--domain", domain, "--sidecar", write("state", b"state of " + name.encode()),
        store=store)
whole = {path: path.read_bytes() for path in sorted(pathlib.Path(store).rglob("*")) if path.is_file() and path.stat().st_size}


def copy_with(path, data):
    """A copy of the store in which PATH holds DATA, or is gone when that is None."""
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    target = copy / path.relative_to(store)
    if data is None:
        target.unlink()
    else:
        target.write_bytes(data)
    return str(copy)


def read_all(folder):
    """What becomes of getting each image: "same", the exit code, or what must never be."""
    outcomes = {}
    for name, data in images.items():
        place = work / "out"
        place.mkdir()
        result = run("get", name, "-o", str(place / "mem"), "--sidecars", str(place / "sidecars"), store=folder)
        if result.returncode != 0:
            outcomes[name] = "rubbish left" if left_in(place) else result.returncode
        elif (place / "mem").read_bytes() != data or (place / "sidecars/state").read_bytes() != b"state of " + name.encode():
            outcomes[name] = "wrong bytes"
        else:
            outcomes[name] = "same"
        shutil.rmtree(place)
    return outcomes


def test_version():
    path = pathlib.Path(store) / "catalog"
    data = bytearray(whole[path])
    data[8:12] = struct.pack("<I", 99)
    folder = copy_with(path, bytes(data))
    for args in (["ls"], ["stat"], ["gc"], ["check"], ["check", "--repair"], ["rm", "one"], ["put", "x", str(work / "one.mem")],
                 ["get", "one", "-o", str(work / "x")]):
        refuses(UNSUPPORTED, "99", f"{' '.join(args[:2])} on a store of another version", *args, store=folder)
    ok((pathlib.Path(folder) / "catalog").read_bytes() == data, "which is left alone")


def kinds_of_damage(data):
    at = rng.randrange(len(data))
    changed = bytearray(data)
    changed[at] ^= 1 << rng.randrange(8)
    noise = bytearray(data)
    noise[at:at + 64] = rng.randbytes(len(noise[at:at + 64]))
    return {"cut in half": data[:len(data) // 2], "empty": b"", "one bit changed": bytes(changed), "noise inside": bytes(noise),
            "all noise": rng.randbytes(len(data)), "longer": data + rng.randbytes(100), "gone": None}


def look_at(folder, what):
    """Every verb ends with an exit code; what comes back is right; check tells, repair saves."""
    for args in (["ls"], ["stat"], ["show", "one"], ["explain", "two"]):
        result = run(*args, store=folder)
        ok(result.returncode in (0, NOT_FOUND, CORRUPT), f"{what}: {args[0]} ends with {result.returncode}", result.stderr)
    outcomes = read_all(folder)
    ok(set(outcomes.values()) <= {"same", NOT_FOUND, CORRUPT}, f"{what}: get gives the image or an error", outcomes)
    result = run("--json", "check", store=folder)
    harmed = set(outcomes.values()) != {"same"}
    # Without its catalog a folder is no store, as far as anybody can tell who must not change it.
    telling = (CORRUPT, NOT_FOUND) if what == "catalog gone" else (CORRUPT,) if harmed else (0, CORRUPT)
    ok(result.returncode in telling, f"{what}: check tells", outcomes, result)
    result = run("check", "--repair", store=folder)
    ok(result.returncode in (0, CORRUPT), f"{what}: check --repair ends with {result.returncode}", result)
    result = run("check", store=folder)
    is_(result.returncode, 0, f"{what}: then all is well")
    after = read_all(folder)
    ok(set(after.values()) <= {"same", NOT_FOUND}, f"{what}: what is there is whole, the rest is gone", after)
    ok(all(after[name] == "same" for name in images if outcomes[name] == "same"), f"{what}: nothing whole was given up",
       outcomes, after)
    result = run("put", "new", str(work / "one.mem"), store=folder)
    is_(result.returncode, 0, f"{what}: and it takes new images")
    return outcomes


def test_damage():
    damages = [(path, kind, changed) for path, data in whole.items() for kind, changed in kinds_of_damage(data).items()]
    for path, kind, changed in damages[rng.randrange(every)::every]:
        outcomes = look_at(copy_with(path, changed), f"{path.name} {kind}")
        if path.name.startswith("seg") or path.name.startswith("snap"):
            ok("same" in outcomes.values(), f"{path.name} {kind}: other snapshots can be read", outcomes)


ok(set(read_all(store).values()) == {"same"}, "the whole store is fine")
test_version()
test_damage()
done()
