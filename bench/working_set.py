#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A working set of at most 25 MiB is pushed in at most 0.8 of the time after gc --cluster, which adds at most 10 %
to the store: LZ4 is larger than zstd, and quicker.

The runtime process's pages are taught as working set, window by window in a random order, to both boots of each
function. One thread of working_set.c pushes it from a page server opened anew with its restore cache cold, store in
the page cache, and reads the same pages plain from the image in memory; both copy them in by UFFDIO_COPY. (`dormouse
wake` decodes with two threads and copies with a third: see uffd.)
"""
import common
import peers

ROUNDS = 5
PUSHES = 5
PAGES = 6400


def push(bench, ours, name, rounds):
    return [bench.measure("working_set", "push", ours.folder, name, bench.image(name), PUSHES)
            for _ in range(rounds)]


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        names = [f"{function}-{boot}" for function in functions for boot in "ab"]
        rounds = bench.rounds(ROUNDS)
        ours.new()
        for name in names:
            ours.put(name, bench.image(name), parent=f"{name[:-1]}a" if name.endswith("b") else None)
        for name in names:
            bench.measure("working_set", "learn", ours.folder, name, PAGES, 1)
        before = {name: push(bench, ours, name, rounds) for name in names}
        bytes_before = ours.stored_bytes()
        ours.call("gc", "--cluster")
        bytes_after = ours.stored_bytes()
        for name in names:
            after = push(bench, ours, name, rounds)
            old, new, cached, plain = (common.median([one[key] for one in runs]) / 1e6 for runs, key in (
                (before[name], "ours_ns"), (after, "ours_ns"), (after, "cached_ns"), (after, "peer_ns")))
            ratios = [one["ours_ns"] / other["ours_ns"] for one, other in zip(after, before[name])]
            mib = after[0]["pages"] * common.PAGE_BYTES / 2**20
            bench.row(f"{name}, working set of {mib:.1f} MiB", f"{new:.1f} ms", "before gc --cluster", f"{old:.1f} ms",
                      common.median(ratios), ("<=", 0.8), n=len(ratios), spread=common.span(ratios))
            bench.row(f"{name}, the same", f"{new:.1f} ms", "plain from memory", f"{plain:.1f} ms", new / plain, None,
                      n=len(ratios))
            bench.row(f"{name}, by way of the restore cache", f"{cached:.1f} ms", "plain from memory", f"{plain:.1f} ms",
                      cached / plain, None, n=len(ratios))
        bench.row("stored bytes", common.decimal(bytes_after), "before gc --cluster", common.decimal(bytes_before),
                  bytes_after / bytes_before, ("<=", 1.1), n=1)


if __name__ == "__main__":
    main()
