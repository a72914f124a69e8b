#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A QEMU guest on a mounted snapshot that has been woken before answers for the first time after at most 0.75 of the
time that it takes on a local raw file when the page cache is cold, and at most 1.1 when it is warm; 25 clones of one
snapshot at once have at most 1.2 times the private memory of what they dirtied, and at p95 their last needed page
after at most 3 times the time of a single one.

Cold means: the page cache is dropped. Then `dormouse run` is started, and all that it does is counted: it opens the
store, mounts, and starts QEMU. Working sets were learnt from other such wakes before, and gc --cluster has stored
their pages together. The raw file has the same QEMU, kit and arguments, only memory and device state come from
elsewhere. What is least is that with memory and device state in the page cache and all else cold: QEMU itself and the
guest's disk, which no way of waking brings sooner. Warm guests are on a mount that was there before. Clones are processes that touch what a real guest touched
(fault_trace.c, clones.c). Of the snapshot base the working set is learnt from a guest that becomes one function, and
what is measured is one that becomes another. The slow disk is this one, held to 125 MB/s by a control group: what a
volume of a cloud reads by default.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import common
import peers

sys.path.insert(0, str(common.ROOT / "tools/guest"))
import vm

ROUNDS = 5
CLONES = 25
TEACHING = 2
WAIT_S = 60
SLOW_DISK_RATE = 125_000_000
GROUPS = pathlib.Path("/sys/fs/cgroup")
DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")
# Snapshot: what teaches and what is measured, as roles; None is the function that it has.
CLONED = {"base": ("pyjson", "pymat"), "pyjson-b": (None, None)}


class Mounted:
    """A mount of a store, in a program of its own."""

    def __init__(self, bench, ours):
        self.place = bench.work / "mount"
        self.place.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [ours.path, "--store", ours.folder, "mount", self.place, "--trust-writers"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=bench.environment)
        if not self.process.stdout.readline():
            raise common.Skip("nothing can be mounted here, see above")

    def __enter__(self):
        return self.place

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=WAIT_S)


def drop_caches():
    os.sync()
    DROP_CACHES.write_text("3")


@contextlib.contextmanager
def recording(bench, size_bytes, trace):
    """A QEMU that is started in here writes down the faults of its memory."""
    words = {"LD_PRELOAD": str(bench.program("fault_trace.so")), "FAULT_TRACE": str(trace),
             "FAULT_TRACE_BYTES": str(size_bytes)}
    os.environ.update(words)
    try:
        yield
    finally:
        for word in words:
            del os.environ[word]


@contextlib.contextmanager
def slow_disk(folder):
    """This process and those that it starts in here read at a limited rate from the disk of FOLDER."""
    if (GROUPS / "cgroup.controllers").exists():
        parent, file, words = GROUPS, "io.max", f"rbps={SLOW_DISK_RATE}"
    else:
        parent, file, words = GROUPS / "blkio", "blkio.throttle.read_bps_device", str(SLOW_DISK_RATE)
    device = folder.stat().st_dev
    partition = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    disk = partition.parent if (partition / "partition").exists() else partition
    group = parent / f"dormouse-bench-{os.getpid()}"
    inside = False
    try:
        group.mkdir()
        (group / file).write_text(f"{(disk / 'dev').read_text().strip()} {words}")
        (group / "cgroup.procs").write_text(str(os.getpid()))
        inside = True
    except OSError as error:
        raise common.Skip(f"no disk can be slowed here: {error}")
    finally:
        if not inside and group.exists():
            group.rmdir()
    try:
        yield
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


class Images:
    """The guests' images, as local files and in a store."""

    def __init__(self, bench, ours, names):
        self.bench, self.ours, self.guests = bench, ours, bench.args.guests
        self.raw = bench.folder("raw")
        ours.new()
        for name in names:
            (self.raw / name).mkdir()
            for file in ("mem", "devstate"):
                vm.copy_sparse(bench.image(name).parent / file, self.raw / name / file)
            description = self.raw / name / "qemu.json"
            description.write_text(json.dumps(vm.run_description(self.meta(name))))
            ours.call("put", name, self.raw / name / "mem", "--sidecar", self.raw / name / "devstate",
                      "--sidecar", description, *(["--parent", f"{name[:-1]}a"] if name.endswith("-b") else []))

    def meta(self, name):
        return vm.read_json(self.guests / name / "meta.json")

    def guest(self, name, memory):
        """A QEMU on the file MEMORY that takes no device state yet, and its second disk."""
        meta = self.meta(name)
        disk = self.bench.work / "disk"
        vm.make_disk(disk, vm.shape_of(meta))
        return vm.Guest(str(self.guests / "kit"), str(memory), str(disk), meta["accel"], meta["cmdline"],
                        vm.shape_of(meta), share="off", incoming=True), disk

    def answer(self, guest, name, disk, role=None):
        """Have the guest answer, or become the function ROLE."""
        if role:
            vm.set_role(disk, role)
            return guest.wait_line("READY")
        guest.send("ask\n")
        said = guest.wait_line("ANSWER")
        if said != self.meta(name)["answer"]:
            raise common.Failed(f"the guest {name}", 0, f"wrong answer {said}")
        return said

    def first_answer_s(self, name, memory, state):
        begin = time.monotonic()
        guest, disk = self.guest(name, memory)
        with guest:
            guest.load(state)
            self.answer(guest, name, disk)
            return time.monotonic() - begin

    def first_answer_run_s(self, name):
        """With `dormouse run`, from its own start on."""
        disk = self.bench.work / "disk"
        vm.make_disk(disk, vm.shape_of(self.meta(name)))
        command = [self.ours.path, "--store", self.ours.folder, "run", name, "--set", f"kit={self.guests / 'kit'}",
                   "--set", f"gt={disk}"]
        begin = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env=self.bench.environment) as process:
            watch = threading.Timer(WAIT_S, process.kill)
            watch.start()
            try:
                said = self.answer_of(process)
                elapsed = time.monotonic() - begin
            finally:
                watch.cancel()
                process.terminate()
                words = process.communicate(timeout=WAIT_S)[1]
        if said != self.meta(name)["answer"]:
            raise common.Failed(f"the guest {name}", process.returncode, f"wrong answer {said}; {words}")
        return elapsed

    @staticmethod
    def answer_of(process):
        """What is sent to the guest before `run` says that it goes on is lost."""
        for line in process.stdout:
            if line.startswith("woke "):
                process.stdin.write("ask\n")
                process.stdin.flush()
            if line.startswith("ANSWER "):
                return line.removeprefix("ANSWER ").strip()
        return None

    def trace(self, name, role, target):
        """Write down the faults of a guest up to its answer."""
        memory = self.raw / name / "mem"
        with recording(self.bench, memory.stat().st_size, target):
            guest, disk = self.guest(name, memory)
        with guest:
            guest.load(self.raw / name / "devstate")
            self.answer(guest, name, disk, role)
            end = target.stat().st_size
        os.truncate(target, end)


# ---------------------------------------------------------------- start to first answer

def from_mount(place, name):
    return place / name / "memory", place / name / "sidecars/devstate"


def cold(bench, ours, images, name, rounds):
    """[(ours, peer's, the least)] in seconds."""
    files = images.raw / name / "mem", images.raw / name / "devstate"
    taken = []
    for _ in range(rounds):
        drop_caches()
        woken = images.first_answer_run_s(name)
        drop_caches()
        raw = images.first_answer_s(name, *files)
        drop_caches()
        common.warm(*files)
        taken.append((woken, raw, images.first_answer_s(name, *files)))
    return taken


def warm(bench, ours, images, name, rounds):
    files = images.raw / name / "mem", images.raw / name / "devstate"
    with Mounted(bench, ours) as place:
        common.warm(*files, *from_mount(place, name))
        return [(images.first_answer_s(name, *from_mount(place, name)), images.first_answer_s(name, *files))
                for _ in range(rounds)]


def cold_slow(bench, ours, images, name, rounds):
    with slow_disk(images.raw):
        return cold(bench, ours, images, name, rounds)


def start_row(bench, what, title, measure, limit):
    name = what[2]
    if measure is not warm and not os.access(DROP_CACHES, os.W_OK):
        bench.skip(f"{name}, {title}", "only root may drop the page cache")
        return
    try:
        taken = measure(bench, *what)
    except common.Skip as reason:
        bench.skip(f"{name}, {title}", str(reason))
        return
    for side, least, target in ((0, "", limit and ("<=", limit)), (2, ", what is least", None)):
        if side >= len(taken[0]):
            continue
        times, raw = (common.median([one[at] for one in taken]) for at in (side, 1))
        ratios = [one[side] / one[1] for one in taken]
        bench.row(f"{name}, start to first answer, {title}{least}", f"{times * 1e3:.0f} ms", "local raw file",
                  f"{raw * 1e3:.0f} ms", common.median(ratios), target, n=len(ratios), spread=common.span(ratios))


def teach(images, names):
    for name in names:
        for _ in range(TEACHING):
            images.first_answer_run_s(name)


def start_rows(bench, ours, images, name, rounds):
    for title, measure, limit in (("cold", cold, 0.75), ("cold, slow disk", cold_slow, None), ("warm", warm, 1.1)):
        start_row(bench, (ours, images, name, rounds), title, measure, limit)
    bench.say(f"{name}: starts measured")


# ---------------------------------------------------------------- clones

def clones(bench, ours, images, name, trace, count):
    """COUNT clones of a mounted snapshot, with nothing in any cache that can be emptied."""
    with Mounted(bench, ours) as place:
        if os.access(DROP_CACHES, os.W_OK):
            drop_caches()
        return bench.measure("clones", place / name / "memory", images.raw / name / "mem", trace, count)


def last_page_ms(taken):
    times = sorted(one["time_ns"] for one in taken["clones"])
    return times[min(len(times) - 1, int(0.95 * len(times)))] / 1e6


def clone_rows(bench, ours, images, name, rounds):
    roles = CLONED[name]
    traces = [bench.work / f"{name}-{letter}.trace" for letter in "ab"]
    for role, trace in zip(roles, traces):
        images.trace(name, role, trace)
    for _ in range(TEACHING):
        clones(bench, ours, images, name, traces[0], 1)
    taken = [[clones(bench, ours, images, name, traces[1], count) for count in (1, CLONES)] for _ in range(rounds)]
    memory = images.raw / name / "mem"
    raw = [[bench.measure("clones", memory, memory, traces[1], count) for count in (1, CLONES)] for _ in range(rounds)]
    bench.say(f"{name}: clones measured")
    many = taken[0][1]
    what = f"{name}{f' that becomes {roles[1]}' if roles[1] else ''}, {many['pages']} pages"
    for title, runs, target in (("", taken, ("<=", 3)), (" of a warm local raw file", raw, None)):
        times = [[last_page_ms(one) for one in pair] for pair in runs]
        ratios = [pair[1] / pair[0] for pair in times]
        bench.row(f"{what}: last needed page of {CLONES} clones{title}, p95",
                  f"{common.median([pair[1] for pair in times]):.0f} ms", "a single one",
                  f"{common.median([pair[0] for pair in times]):.0f} ms", common.median(ratios), target, n=len(ratios),
                  spread=common.span(ratios))
    private = [max(clone["private_bytes"] for clone in pair[1]["clones"]) for pair in taken]
    shares = [one / many["dirtied_bytes"] for one in private]
    bench.row(f"{what}: most private memory of a clone", common.decimal(common.median(private)), "what it dirtied",
              common.decimal(many["dirtied_bytes"]), common.median(shares), ("<=", 1.2), n=len(shares),
              spread=common.span(shares))


def missing():
    """Why nothing can be measured here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse here"
    if not common.output_of([vm.QEMU, "--version"]):
        return "QEMU is not installed"
    return None


def main():
    with common.Bench(__file__, __doc__) as bench:
        os.sched_setaffinity(0, range(os.cpu_count()))  # the mount and the guest beside each other
        if missing():
            raise common.Skip(missing())
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        rounds = bench.rounds(ROUNDS)
        names = [f"{function}-{boot}" for function in functions for boot in "ab"]
        images = Images(bench, ours, [*names, "base"])
        bench.versions["qemu"] = f"QEMU {vm.qemu_version()}"
        measured = [name for name in names if name.endswith("-b")]
        teach(images, measured)
        ours.call("gc", "--cluster")
        for name in measured:
            start_rows(bench, ours, images, name, rounds)
        for name in CLONED:
            clone_rows(bench, ours, images, name, rounds)


if __name__ == "__main__":
    main()
