#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""While 1,000 snapshots of real images, changed by a seeded writer, are put into one open store, the last 50 puts
run at 0.8 or more of the rate (by processor time) of the first 50, and memory grows by at most 24 bytes a stored
page.

scale.c measures. Four guests take turns, put beforehand; each has 200 to 800 pages changed between two turns.
"""
import common
import peers

SNAPSHOTS, WINDOW, CHECKED = 1000, 50, 20
QUICK_SNAPSHOTS, QUICK_WINDOW = 40, 10
PUT_MIN, INDEX_BYTES_MAX = 0.8, 24
SEED = 40


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        snapshots, window = (QUICK_SNAPSHOTS, QUICK_WINDOW) if bench.quick else (SNAPSHOTS, WINDOW)
        images = [bench.image(f"{function}-a") for function in common.FUNCTIONS]
        result = bench.measure("scale", bench.work / "store", SEED, snapshots, window, CHECKED,
                               ",".join(map(str, images)), *ours.options)
        image_bytes = images[0].stat().st_size
        first, last = result["put_ns"][:window], result["put_ns"][-window:]
        ratio = common.median(first) / common.median(last)
        bench.row(f"put rate of the last {window} of {snapshots}",
                  common.rate(image_bytes, common.median(last) / 1e9), f"of the first {window}",
                  common.rate(image_bytes, common.median(first) / 1e9), ratio, (">=", PUT_MIN), n=window,
                  spread=common.span([common.median(first) / one for one in last]))
        memory(bench, result, window)
        bench.note(f"{CHECKED} random snapshots were got back and compared")


def memory(bench, result, window):
    """The index grows with the pages; everything else in memory must not. Peak memory also counts the pages of
    the store's files that happen to be mapped, which the kernel takes back at will: shown, not judged."""
    start, end = result["first"], result["last"]
    pages = end["stored_pages"] - start["stored_pages"]
    index = end["index_bytes"] / max(end["stored_pages"], 1)
    bench.row("similarity and exact index, RAM a stored page", f"{index:.1f} B", target=("<=", INDEX_BYTES_MAX),
              value=index, unit=" B")
    for label, key, target in (("anonymous memory, tables included", "anonymous_bytes", None),
                               ("peak memory, mapped files included", "peak_bytes", None)):
        growth = (end[key] - start[key]) / max(pages, 1)
        bench.row(f"growth of {label}, a stored page", f"{growth:.1f} B", target=target, value=growth, unit=" B")
        rest = [common.decimal(max(at[key] - INDEX_BYTES_MAX * at["stored_pages"], 0)) for at in (end, start)]
        bench.row(f"{label}, beyond 24 bytes a stored page", rest[0], f"ours at put {window}", rest[1])
    for label, at in ((f"after {window} puts", start), ("at the end", end)):
        bench.note(f"{label}: {at['stored_pages']} stored pages, peak memory {common.decimal(at['peak_bytes'])}, "
                   f"anonymous {common.decimal(at['anonymous_bytes'])} between puts; "
                   f"{at['logical_bytes'] / 2**30:.1f} GiB logical in {common.decimal(at['stored_bytes'])}")
    bench.note(f"opening for writing took {result['last_open_ns'] / 1e6:.0f} ms of processor time at the end, "
               f"{result['first_open_ns'] / 1e6:.1f} ms when empty")


if __name__ == "__main__":
    main()
