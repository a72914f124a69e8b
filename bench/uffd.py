#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A page fault that `dormouse wake --uffd-socket` answers from its restore cache takes at most 1.3 times as long at p50,
and at most 2 times at p99, as one that a process answers that does nothing but UFFDIO_COPY from plain memory, be its
handler on the same core or on the other one; a working set of at most 25 MiB is there, restore cache cold and store in
the page cache, within 1.5 times of copying the same bytes in from plain memory.

uffd.c is the sandbox and the plain process, which copies with one thread; ours decodes with two and copies with a third,
so its processor time is told as well. At the end the same with working sets stored uncompressed (cluster_codec=none),
and what the store takes with either. Faults are single pages at random, without windows around them.
"""
import contextlib
import os
import pathlib
import resource
import signal
import subprocess

import common
import peers

ROUNDS = 5
FAULTS = 8000
SET_PAGES = 6400
READY_SECONDS_MAX = 60


def processor_s(pid):
    """The processor time of process PID and its children that live, so far."""
    spent = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0]) / 1e9
        spent += sum(processor_s(child) for child in (task / "children").read_text().split())
    return spent


def processor_s_of_ended():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def server(bench, ours, name, *options, spent_s=None):
    """A server of snapshot NAME, free to use all cores; its socket. SPENT_S, a list, gets its processor time from
    then on until it has ended."""
    path = bench.work / "socket"
    command = [ours.path, "--store", ours.folder, "wake", name, "--uffd-socket", path, *options]
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               env=bench.environment, preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count())))
    try:
        if b"listening" not in process.stdout.readline():
            raise common.Failed("dormouse wake", process.wait(READY_SECONDS_MAX), "it does not listen")
        before_s = processor_s(process.pid)
        yield path
        if spent_s is not None:
            ended_s = processor_s_of_ended()
            process.wait(READY_SECONDS_MAX)
            spent_s.append(processor_s_of_ended() - ended_s - before_s)
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
    taken, spent_s = [], []
    for _ in range(rounds):
        # What is measured teaches, too: every round begins with the same working set.
        ours.call("working-set", "forget", name)
        bench.measure("working_set", "learn", ours.folder, name, SET_PAGES, 1)
        common.warm_folder(ours.folder)
        with server(bench, ours, name, "--once", spent_s=spent_s) as path:
            taken.append(bench.measure("uffd", "push", path, ours.folder, name, bench.image(name), bench.args.core,
                                       how))
    mine, theirs = ([one[f"{side}_ns"] / 1e6 for one in taken] for side in ("ours", "peer"))
    ratios = [one / other for one, other in zip(mine, theirs)]
    mib = taken[0]["pages"] * common.PAGE_BYTES / 2**20
    bench.row(f"{name}, working set of {mib:.1f} MiB, {words}", f"{common.median(mine):.1f} ms",
              "copied in from memory", f"{common.median(theirs):.1f} ms", common.median(ratios), target, n=rounds,
              spread=common.span(ratios))
    if target is not None:
        costs = [one * 1e3 / other for one, other in zip(spent_s, theirs)]
        bench.row(f"{name}, processor time of that, from listening to the server's end",
                  f"{common.median(spent_s) * 1e3:.1f} ms", "copied in from memory", f"{common.median(theirs):.1f} ms",
                  common.median(costs), None, n=rounds, spread=common.span(costs))


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
        stored = [common.folder_bytes(ours.folder)]
        for function in functions:
            push(bench, ours, f"{function}-b", rounds, "wait", "pushed", ("<=", 1.5))
            push(bench, ours, f"{function}-b", rounds, "touch", "touched in order meanwhile", None)
        faults(bench, ours, f"{functions[0]}-b", rounds)
        for function in functions:
            ours.call("working-set", "forget", f"{function}-b")
            bench.measure("working_set", "learn", ours.folder, f"{function}-b", SET_PAGES, 1)
        ours.call("gc", "--cluster", "--option", "cluster_codec=none")
        stored.append(common.folder_bytes(ours.folder))
        for function in functions:
            push(bench, ours, f"{function}-b", rounds, "wait", "stored uncompressed, pushed", ("<=", 1.5))
        bench.table(["working sets stored", "the whole store takes"],
                    [[how, common.decimal(size)] for how, size in zip(("by LZ4", "uncompressed"), stored)])


if __name__ == "__main__":
    main()
