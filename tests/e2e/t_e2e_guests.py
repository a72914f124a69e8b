#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_guests.py - the promise as a whole: memory of real guests comes out byte for byte and runs.

Each guest is restored from what came out of the store, and its function gives the right answer.
Guests are those in the build folder's guests/, booted by tools/guest/corpus --small when they are
not there yet.
"""
import re
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/cli")
from cli import *

IMAGES = ("pyjson-a", "pyjson-b", "fork-pyjson-2")
guests = pathlib.Path(program).parent / "guests"


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def bail(words):
    print(f"Bail out! {words}")
    sys.exit(1)


def missing_packages():
    """Those of tools/guest/packages that this machine has not."""
    wanted = re.findall(r"^[^#\s]+", pathlib.Path("tools/guest/packages").read_text(), re.M)
    command = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *wanted]
    query = subprocess.run(command, capture_output=True, text=True)
    present = {line.split()[1] for line in query.stdout.splitlines() if line.startswith("ii")}
    return [name for name in wanted if name not in present]


def have_guests():
    needed = ["kit/kit.json"] + [f"{name}/meta.json" for name in IMAGES]
    return all((guests / path).is_file() for path in needed)


def make_guests():
    missing = missing_packages() if shutil.which("dpkg-query") else ["dpkg"]
    if missing:
        skip_all(f"no guests in {guests}, and these packages are missing: {' '.join(missing)}")
    command = ["tools/guest/corpus", "--small", str(guests)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0 or not have_guests():
        said = made.stderr.strip().splitlines() or ["made no images"]
        bail(f"tools/guest/corpus: {said[-1]}")


def same_file(a, b):
    return subprocess.run(["cmp", "--", str(a), str(b)], capture_output=True).returncode == 0


def put(name):
    image = guests / name
    result = says(f"{name}: put", "put", name, str(image / "mem"),
                  "--sidecar", str(image / "devstate"), store=store, timeout=300)
    added, logical = result.get("added_bytes", 0), result.get("logical_bytes", 0)
    print(f"# {name}: {logical} bytes, {added} added")
    ok(0 < added < logical / 4, f"{name}: takes less than a quarter", result)


def get(name):
    memory, sidecars = work / f"{name}.mem", work / name
    works(f"{name}: get", "--quiet", "get", name, "-o", str(memory), "--sidecars", str(sidecars),
          store=store, timeout=300)
    ok(same_file(guests / name / "mem", memory), f"{name}: the memory is the same")
    ok(same_file(guests / name / "devstate", sidecars / "devstate"),
       f"{name}: the device state is the same")


def wake(name):
    """The answer of the guest's function is the one of meta.json, or restore-check says so."""
    command = ["tools/guest/restore-check", str(guests / name), "--mem", str(work / f"{name}.mem"),
               "--devstate", str(work / name / "devstate")]
    ran = subprocess.run(command, capture_output=True, text=True)
    ok(ran.returncode == 0, f"{name}: wakes and answers", ran.stdout, ran.stderr)
    (work / f"{name}.mem").unlink()


if shutil.which("qemu-system-x86_64") is None:
    skip_all("there is no qemu-system-x86_64; tools/bootstrap guest installs it")
if not have_guests():
    make_guests()
store = new_store()
for each in IMAGES:
    put(each)
for each in IMAGES:
    get(each)
works("check", "--quiet", "check", store=store, timeout=300)
for each in IMAGES:
    wake(each)
done()
