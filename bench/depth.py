#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""In a chain of 2,500 generations, each put with the one before as parent, a full get of the last generation costs at
most 1.1 of the processor time of a get of the first, and so do 400 windows of 64 KiB at random from a page server with
an empty restore cache.

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
        woken = result["wake_ns"]
        of_first = woken[str(generations[0])]

        def wake_row(label, times, target):
            ratios = [mine / other for mine, other in zip(times, of_first)]
            bench.row(f"wake, {label}", f"{common.median(times) / 1e6:.1f} ms", "wake, generation 1",
                      f"{common.median(of_first) / 1e6:.1f} ms", common.median(ratios), target, n=rounds,
                      spread=common.span(ratios))

        for generation in generations[1:]:
            wake_row(f"generation {generation}", woken[str(generation)], ("<=", GET_MAX))
        wake_row(f"content of generation {generations[-1]} alone in a store", woken["alone"], None)
        count = generations[-1] - 1
        put_rate = common.rate(image_bytes * count, result["put_ns"] / 1e9)
        bench.note(f"rates and ratios by processor time; put of a generation ran at {put_rate}; "
                   f"{result['logical_bytes'] / 2**30:.1f} GiB logical became "
                   f"{common.decimal(result['stored_bytes'])}")
        bench.note("the content changes from generation to generation too: the last row says by how much that alone "
                   "changes the cost")


if __name__ == "__main__":
    main()
