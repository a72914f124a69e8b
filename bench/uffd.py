#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A page fault that `dormouse wake --uffd-socket` answers from its restore cache takes at most 1.3 times as long at p50,
and at most 2 times at p99, as one that a process answers that does nothing but UFFDIO_COPY from plain memory, be its
handler on the same core or on the other one; a working set of at most 25 MiB is there, restore cache cold and store in
the page cache, within 1.5 times of copying the same bytes in from plain memory.

uffd.c is the sandbox and the plain process. Faults are single pages at random, without windows around them.
"""
import contextlib
import os
import signal
import subprocess

import common
import peers

ROUNDS = 5
FAULTS = 8000
SET_PAGES = 6400
READY_SECONDS_MAX = 60


@contextlib.contextmanager
def server(bench, ours, name, *options):
    """A server of snapshot NAME, free to use all cores; its socket."""
    path = bench.work / "socket"
    command = [ours.path, "--store", ours.folder, "wake", name, "--uffd-socket", path, *options]
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               env=bench.environment, preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count())))
    try:
        if b"listening" not in process.stdout.readline():
            raise common.Failed("dormouse wake", process.wait(READY_SECONDS_MAX), "it does not listen")
        yield path
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=READY_SECONDS_MAX)


def faults(bench, ours, name, rounds):
    core = bench.args.core
    others = [one for one in range(os.cpu_count()) if one != core]
    places = [("same core", core, core), ("same core, found by itself", core, None)]
    if others:
        places.append(("other core", others[0], others[0]))
    else:
        bench.skip("handler on another core", "this machine has one")
    options = ["--window", "4K", "--no-working-set", "--cache", "1G"]
    for place, floor_core, own_core in places:
        with server(bench, ours, name, *options, *([] if own_core is None else ["--core", str(own_core)])) as path:
            taken = [bench.measure("uffd", "faults", path, bench.image(name), FAULTS, turn + 1, core, floor_core)
                     for turn in range(rounds)]
        for percentile, limit in ((50, 1.3), (99, 2)):
            mine, theirs = ([one[f"{side}_p{percentile}_ns"] for one in taken] for side in ("ours", "peer"))
            ratios = [one / other for one, other in zip(mine, theirs)]
            bench.row(f"fault, handler on the {place}, p{percentile}", f"{common.median(mine) / 1e3:.1f} us",
                      "bare UFFDIO_COPY", f"{common.median(theirs) / 1e3:.1f} us", common.median(ratios), ("<=", limit),
                      n=rounds, spread=common.span(ratios))
        bench.say(f"faults, {place}: done")


def push(bench, ours, name, rounds, how, words, target):
    taken = []
    for _ in range(rounds):
        # What is measured teaches, too: every round begins with the same working set.
        ours.call("working-set", "forget", name)
        bench.measure("working_set", "learn", ours.folder, name, SET_PAGES, 1)
        common.warm_folder(ours.folder)
        with server(bench, ours, name, "--once") as path:
            taken.append(bench.measure("uffd", "push", path, ours.folder, name, bench.image(name), bench.args.core,
                                       how))
    mine, theirs = ([one[f"{side}_ns"] / 1e6 for one in taken] for side in ("ours", "peer"))
    ratios = [one / other for one, other in zip(mine, theirs)]
    mib = taken[0]["pages"] * common.PAGE_BYTES / 2**20
    bench.row(f"{name}, working set of {mib:.1f} MiB, {words}", f"{common.median(mine):.1f} ms",
              "copied in from memory", f"{common.median(theirs):.1f} ms", common.median(ratios), target, n=rounds,
              spread=common.span(ratios))


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        if not os.access("/dev/userfaultfd", os.R_OK) and os.geteuid() != 0:
            raise common.Skip("no userfaultfd for this user")
        rounds = bench.rounds(ROUNDS)
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        ours.new()
        for function in functions:
            ours.put(f"{function}-a", bench.image(f"{function}-a"))
            ours.put(f"{function}-b", bench.image(f"{function}-b"), parent=f"{function}-a")
        for function in functions:
            bench.measure("working_set", "learn", ours.folder, f"{function}-b", SET_PAGES, 1)
        ours.call("gc", "--cluster")
        for function in functions:
            push(bench, ours, f"{function}-b", rounds, "wait", "pushed", ("<=", 1.5))
            push(bench, ours, f"{function}-b", rounds, "touch", "touched in order meanwhile", None)
        faults(bench, ours, f"{functions[0]}-b", rounds)


if __name__ == "__main__":
    main()
