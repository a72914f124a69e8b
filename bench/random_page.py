#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One random page of a second boot, from an open store in the page cache with nothing decoded before, takes at p50
at most 3 times as long as decoding one 4 KiB zstd -1 frame of the same page if it is stored plain, and at most 6
times if it is stored as a patch.

random_page.c measures; this script repeats it and takes the median of the ratios of the single rounds.
"""
import common
import peers

ROUNDS = 5
LIMITS = {"raw": 3, "patched": 6}


def stored(bench, ours, functions):
    """A store with both boots of each of FUNCTIONS."""
    ours.new()
    for function in functions:
        ours.put(f"{function}-a", bench.image(f"{function}-a"))
        ours.put(f"{function}-b", bench.image(f"{function}-b"), parent=f"{function}-a")


def times(bench, ours, functions, rounds):
    """[{function: what random_page.c printed}], one a round."""
    taken = []
    for turn in range(rounds):
        taken.append({function: bench.measure(
            "random_page", ours.folder, f"{function}-b", bench.image(f"{function}-b"), turn + 1, *ours.options)
            for function in functions})
        bench.say(f"round {turn + 1} of {rounds} done")
    return taken


def row(bench, function, kind, percentile, taken):
    # Nanoseconds are whole numbers; max() keeps a kind without pages from dividing by nothing.
    runs = [one[function][kind] for one in taken]
    key = f"p{percentile}_ns"
    ratios = [one[f"ours_{key}"] / max(one[f"peer_{key}"], 1) for one in runs]
    ours, theirs = (common.median([one[f"{side}_{key}"] for one in runs]) for side in ("ours", "peer"))
    bench.row(f"{function}, {kind} page, p{percentile}", f"{ours / 1e3:.1f} us", "zstd -1 of one page",
              f"{theirs / 1e3:.1f} us", common.median(ratios), ("<=", LIMITS[kind]) if percentile == 50 else None,
              n=len(runs), spread=common.span(ratios))


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        stored(bench, ours, functions)
        taken = times(bench, ours, functions, bench.rounds(ROUNDS))
        noise, counts = [], []
        for function in functions:
            for kind in LIMITS:
                pages = taken[0][function][kind]["pages"]
                if not pages:
                    bench.skip(f"{function}, {kind} pages", "the snapshot has none")
                    continue
                for percentile in (50, 99):
                    row(bench, function, kind, percentile, taken)
                noise += [one[function][kind]["again_p50_ns"] / max(one[function][kind]["peer_p50_ns"], 1)
                          for one in taken]
                counts.append(f"{function} {pages} {kind}")
        bench.versions["libzstd"] = f"libzstd {taken[0][functions[0]]['libzstd']}"
        bench.note(f"pages in random order a round: {', '.join(counts)}")
        if noise:
            bench.note(f"the peer's own p50, measured twice in a run, differed by a factor of {common.span(noise)}; "
                       "no ratio here is better known than that")


if __name__ == "__main__":
    main()
