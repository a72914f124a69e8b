#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""With the page cache dropped, a guest's memory comes from `dormouse wake --uffd-socket` sooner than from the raw memory
file mapped, and than with a loading set as FaaSnap has it, for fewer bytes are read.

cold.c touches what a real guest touched from its start to its answer, in its order. Another wake than the one that is
measured made the working set and the loading set; of the snapshot base it was a guest that became another function.
The server is started anew for each, its restore cache empty; gc --cluster has stored working sets together. The slow
disk is this one, held to 125 MB/s by a control group: what a volume of a cloud reads by default.
"""
import os

import common
import mount
import peers
import uffd

ROUNDS = 7
TEACHING = 2


def wake(bench, ours, images, name, trace, *words):
    with uffd.server(bench, ours, name, "--once") as path:
        return bench.measure("cold", "wake", path, images.raw / name / "mem", trace, *words)


def teach(bench, ours, images, name, trace, again=True):
    if again:
        ours.call("working-set", "forget", name)
    for _ in range(TEACHING):
        wake(bench, ours, images, name, trace)


def measure(bench, ours, images, name, traces, loading_set, rounds):
    """[(wake, mapped, loading set)]."""
    memory = images.raw / name / "mem"
    taken = []
    for _ in range(rounds):
        teach(bench, ours, images, name, traces[0])
        taken.append((wake(bench, ours, images, name, traces[1], "cold"),
                      bench.measure("cold", "map", memory, traces[1], "cold"),
                      bench.measure("cold", "set", memory, loading_set, traces[1], "cold")))
    return taken


def rows(bench, what, taken):
    for peer, title in ((1, "raw file mapped"), (2, "FaaSnap-like loading set")):
        mine, theirs = ([one[side]["time_ns"] / 1e6 for one in taken] for side in (0, peer))
        ratios = [a / b for a, b in zip(mine, theirs)]
        bench.row(what, f"{common.median(mine):.1f} ms", title, f"{common.median(theirs):.1f} ms", common.median(ratios),
                  ("<=", 1), n=len(ratios), spread=common.span(ratios))


def measure_all(bench, ours, images, name, traces):
    role = mount.CLONED.get(name, (None, None))[1]
    loading_set = bench.work / f"{name}.set"
    bench.measure("cold", "set-make", images.raw / name / "mem", traces[0], loading_set)
    how = ours, images, name, traces, loading_set, bench.rounds(ROUNDS)
    quick = measure(bench, *how)
    what = f"{name}{f' that becomes {role}' if role else ''}, {quick[0][0]['pages']} pages"
    rows(bench, what, quick)
    try:
        with mount.slow_disk(images.raw):
            rows(bench, f"{what}, slow disk", measure(bench, *how))
    except common.Skip as reason:
        bench.skip(f"{what}, slow disk", str(reason))
    bench.say(f"{name} measured")
    return [what, *(common.decimal(common.median([one[side]["disk_bytes"] for one in quick])) for side in range(3))]


def main():
    with common.Bench(__file__, __doc__) as bench:
        os.sched_setaffinity(0, range(os.cpu_count()))
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        if not os.access(mount.DROP_CACHES, os.W_OK):
            raise common.Skip("only root may drop the page cache")
        if not common.output_of([mount.vm.QEMU, "--version"]):
            raise common.Skip("QEMU is not installed, which records what guests need")
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        measured = ["base", *(f"{function}-b" for function in functions)]
        images = mount.Images(bench, ours, [*(f"{function}-a" for function in functions), *measured])
        traces = {}
        for name in measured:
            traces[name] = [bench.work / f"{name}-{letter}.trace" for letter in "ab"]
            for role, trace in zip(mount.CLONED.get(name, (None, None)), traces[name]):
                images.trace(name, role, trace)
            teach(bench, ours, images, name, traces[name][0], again=False)
        ours.call("gc", "--cluster")
        read = [measure_all(bench, ours, images, name, traces[name]) for name in measured]
        bench.table(["bytes read from the disk", "wake", "raw file mapped", "FaaSnap-like loading set"], read)


if __name__ == "__main__":
    main()
