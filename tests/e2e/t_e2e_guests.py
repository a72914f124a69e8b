#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_guests.py - the promise as a whole: memory of real guests comes out byte for byte and runs.

Each guest is restored from what came out of the store, and its function gives the right answer.
Guests are those in the build folder's guests/. What is missing of tools/guest/corpus --small
--variants, or was made with another kit than the tools make now, is booted first.
"""
import re
import shutil
import struct
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli", "tools/guest"]
import vm
from cli import *

# What each variant's kernel must say of its machine, and where its RAM must be.
MACHINES = {
    "pyjson-612": "cpus=0 nodes=0 la57=0 pti=0",
    "mix-a": "cpus=0 nodes=0 la57=0 pti=0",
    "mix-612": "cpus=0 nodes=0 la57=0 pti=0",
    "pyjson-2cpu": "cpus=0-1 nodes=0 la57=0 pti=0",
    "caes-4g": "cpus=0 nodes=0 la57=0 pti=0",
    "caes-numa": "cpus=0-1 nodes=0-1 la57=0 pti=0",
    "caes-la57": "cpus=0 nodes=0 la57=1 pti=0",
    "caes-pti": "cpus=0 nodes=0 la57=0 pti=1",
    "pyjson-nokaslr": "cpus=0 nodes=0 la57=0 pti=0",
}
GIB = 1 << 30
# Bits of /proc/kpageflags: include/uapi/linux/kernel-page-flags.h.
DIRTY, ANON, SWAPBACKED, HUGETLB, NOPAGE, THP = 4, 12, 14, 17, 20, 22
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
    """Guests that are there and right are kept. Why those that are missing still are."""
    missing = missing_packages() if shutil.which("dpkg-query") else ["dpkg"]
    if missing:
        reason = f"these packages are missing: {' '.join(missing)}"
        return reason if have_guests() else skip_all(f"no guests in {guests}, and {reason}")
    command = ["tools/guest/corpus", "--small", "--variants", str(guests)]
    made = subprocess.run(command, capture_output=True, text=True)
    said = made.stderr.strip().splitlines() or ["made no images"]
    if made.returncode != 0 or not have_guests():
        bail(f"tools/guest/corpus: {said[-1]}")
    return next((line for line in said if line.startswith("build: no ")), said[-1])


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


# ------------------------------------------------------------------ variants


class Record:
    """What a guest's kernel said of its memory; the format is in tools/guest/record.c."""

    def __init__(self, image):
        self.meta = json.loads((image / "meta.json").read_text())
        data = (image / "gt").read_bytes()
        magic, pages, flags, _, text, text_bytes, _, self.function = struct.unpack_from("<8s7Q", data, 4096)
        ok(magic == b"DMGT0001", f"{image.name}: has a record")
        self.flags = struct.unpack_from(f"<{pages}Q", data, flags)
        self.names, self.mapped, self.heads = [], 0, {}
        for line in data[text:text + text_bytes].decode().splitlines():
            self.take(line.split())

    def take(self, words):
        """A line of the record: heads gets the first page of each file that is mapped from its start."""
        if words[0] == "PID":
            self.names.append(words[2])
        elif words[0] == "M":
            at_start = len(words) == 7 and words[3] == "00000000" and words[6].startswith("/srv/")
            self.head = (words[6], int(words[1].split("-")[0], 16)) if at_start else None
        else:
            self.mapped += 1
            if self.head and int(words[1], 16) == self.head[1]:
                self.heads[self.head[0]] = int(words[2], 16)

    def count(self, *bits, without=()):
        want, unwanted = sum(1 << bit for bit in bits), sum(1 << bit for bit in without)
        return sum(1 for flags in self.flags if flags & want == want and not flags & unwanted)

    def offset(self, frame):
        """Where a page frame is in the memory file."""
        address = frame << 12
        for piece in self.meta["ram"]:
            if piece["gpa"] <= address < piece["gpa"] + piece["bytes"]:
                return piece["offset"] + address - piece["gpa"]
        return None


def check_record(name):
    image = guests / name
    record = Record(image)
    ram, size = record.meta["ram"], (image / "mem").stat().st_size
    said = re.search(r"^MACHINE (.*?)\r?$", (image / "console").read_text(errors="replace"), re.M)
    is_(said and said.group(1), MACHINES[name], f"{name}: the kernel sees the machine that was asked for")
    is_([piece["offset"] for piece in ram], [sum(p["bytes"] for p in ram[:i]) for i in range(len(ram))],
        f"{name}: pieces of RAM follow each other in the file")
    is_(sum(piece["bytes"] for piece in ram), size, f"{name}: and are all of it")
    is_(len(record.flags), (ram[-1]["gpa"] + ram[-1]["bytes"]) // PAGE, f"{name}: every page frame is recorded")
    ok(record.mapped > 1000 and "agent" in record.names and record.function > 1, f"{name}: so are processes",
       record.names, record.mapped)
    with open(image / "mem", "rb") as memory:
        for path, frame in record.heads.items():
            memory.seek(record.offset(frame))
            is_(memory.read(4), b"\x7fELF", f"{name}: {path} is in the file where the record says")
    return record


def check_mix(name, record):
    """Every kind of page that functions/mix.c makes is in its image."""
    is_(sorted(set(record.names)), ["agent", "busybox", "mix", "mix-mapper", "mix-worker"], f"{name}: processes")
    is_(record.count(THP), 4 * 512, f"{name}: four transparent huge pages")
    is_(record.count(HUGETLB), 4 * 512, f"{name}: four pages of hugetlb")
    dirty, shmem = record.count(DIRTY, without=(ANON, SWAPBACKED)), record.count(SWAPBACKED, without=(ANON,))
    ok(dirty >= 640, f"{name}: file pages not yet written back", dirty)
    ok(shmem >= 1000, f"{name}: shared memory", shmem)


def check_variant(name):
    if not (guests / name / "meta.json").is_file():
        skip(f"not made: {why_missing}", f"{name}: is there")
        return
    record = check_record(name)
    if name.startswith("mix-"):
        check_mix(name, record)
    if name == "caes-4g":
        is_(record.meta["ram"], [{"offset": 0, "gpa": 0, "bytes": 3 * GIB},
                                 {"offset": 3 * GIB, "gpa": 4 * GIB, "bytes": GIB // 2}], f"{name}: RAM around the hole")
        ok(record.count(NOPAGE) >= GIB // PAGE, f"{name}: the hole has no pages")
    put(name)
    get(name)
    kit = guests / "kit"
    try:
        ours = vm.kit_id(str(kit), vm.shape_of(record.meta)) == record.meta["kit"]
    except OSError:
        ours = False
    if ours:
        wake(name)
    else:
        skip("made with another kit than guests/kit", f"{name}: wakes and answers")
        (work / f"{name}.mem").unlink()


if shutil.which("qemu-system-x86_64") is None:
    skip_all("there is no qemu-system-x86_64; tools/bootstrap guest installs it")
why_missing = make_guests()
store = new_store()
for each in IMAGES:
    put(each)
for each in IMAGES:
    get(each)
works("check", "--quiet", "check", store=store, timeout=300)
for each in IMAGES:
    wake(each)
for each in MACHINES:
    check_variant(each)
works("check of all", "--quiet", "check", store=store, timeout=300)
done()
