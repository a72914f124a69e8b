#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""In a chain of 2,500 generations, each put with the one before as parent, a full get of the last generation costs at
most 1.1 of the processor time of a get of the first, and so do opening it in a page
server that runs, its restore cache empty, and 1,600 windows of 64 KiB at random. The first opening after a page
server's start reads the tables of all segments that the snapshot needs.

depth.c measures. A seeded writer changes 200 to 400 pages of a real image a generation: most in a hot set that
recurs, the others anywhere; words, lines of 64 bytes, and whole pages. The bytes come from another real
image.
"""
import common
import peers

ROUNDS = 7
GENERATIONS = [1, 10, 200, 1000, 2500]
QUICK_GENERATIONS = [1, 10, 50]
GET_MAX = 1.1
SEED = 20


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        generations = QUICK_GENERATIONS if bench.quick else GENERATIONS
        rounds = bench.rounds(ROUNDS, 3)
        image = bench.image("pyjson-a")
        result = bench.measure("depth", bench.work / "store", image, bench.image("jstpl-b"), SEED, rounds,
                               ",".join(map(str, generations)), *ours.options)
        image_bytes = image.stat().st_size
        spent = result["get_ns"]
        first = spent[str(generations[0])]

        def row(label, times, target):
            ratios = [mine / other for mine, other in zip(times, first)]
            bench.row(f"get, {label}", common.rate(image_bytes, common.median(times) / 1e9), "get, generation 1",
                      common.rate(image_bytes, common.median(first) / 1e9), common.median(ratios), target,
                      n=rounds, spread=common.span(ratios))

        for generation in generations[1:]:
            row(f"generation {generation}", spent[str(generation)], ("<=", GET_MAX))
        row(f"content of generation {generations[-1]} alone in a store", spent["alone"], None)
        for what, key, limit in (("wake", "wake_ns", ("<=", GET_MAX)), ("first opening", "open_ns", None)):
            woken = result[key]
            of_first = woken[str(generations[0])]
            for label, times, target in (*((f"generation {one}", woken[str(one)], limit) for one in generations[1:]),
                                         (f"content of generation {generations[-1]} alone in a store", woken["alone"], None)):
                ratios = [mine / other for mine, other in zip(times, of_first)]
                bench.row(f"{what}, {label}", f"{common.median(times) / 1e6:.1f} ms", f"{what}, generation 1",
                          f"{common.median(of_first) / 1e6:.1f} ms", common.median(ratios), target, n=rounds,
                          spread=common.span(ratios))
        last, alone = result["wake_ns"][str(generations[-1])], result["wake_ns"]["alone"]
        ratios = [mine / other for mine, other in zip(last, alone)]
        bench.row(f"wake, generation {generations[-1]}", f"{common.median(last) / 1e6:.1f} ms", "the same content alone in a store",
                  f"{common.median(alone) / 1e6:.1f} ms", common.median(ratios), ("<=", GET_MAX), n=rounds,
                  spread=common.span(ratios))
        count = generations[-1] - 1
        put_rate = common.rate(image_bytes * count, result["put_ns"] / 1e9)
        bench.note(f"rates and ratios by processor time; put of a generation ran at {put_rate}; "
                   f"{result['logical_bytes'] / 2**30:.1f} GiB logical became "
                   f"{common.decimal(result['stored_bytes'])}")
        bench.note("the content changes from generation to generation too: the last row says by how much that alone "
                   "changes the cost")


if __name__ == "__main__":
    main()
