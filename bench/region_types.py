#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What chunk size, codec and group size are worth for each region type by itself: the same eight images, looked into
by put, with one option of one type changed at a time. The defaults of the options are chosen by it.

There is no target; all are held against the defaults.
"""
import json
import re
import shutil

import common
import peers

TYPES = (("NRT", "nrt"), ("RX_MAP", "rx_map"), ("W_MAP", "w_map"))
CHANGES = [*((f"chunks of {kib} KiB", f"chunk_bytes={kib * 1024}") for kib in (16, 64)),
           ("codec lz4", "codec=lz4"),
           *((f"groups of {pages} page{'s' if pages > 1 else ''}", f"group_pages={pages}") for pages in (1, 2, 8, 16))]
DEFAULTS = ("all", "the defaults: chunks of 4 KiB, zstd, groups of 4 pages", ())
VARIANTS = [DEFAULTS, *((label, text, (f"{prefix}_{option}",)) for label, prefix in TYPES for text, option in CHANGES)]
HEADINGS = ("region type", "variant", "stored", "of the defaults", "put", "get")
ROUNDS = 3


def measure(bench, ours, images):
    """Stored bytes and the median seconds of processor time for putting and for getting all IMAGES."""
    puts, gets, got = [], [], bench.target / "got"
    for turn in range(bench.rounds(ROUNDS)):
        ours.new()
        puts.append(sum(ours.put(name, image).cpu_s for name, image in images.items()))
        spent = 0
        for name, image in images.items():
            spent += ours.get(name, got).cpu_s
            if turn == 0 and not common.same_bytes(image, got):
                raise RuntimeError(f"{ours.name}: wrong bytes of {name}")
            got.unlink()
        gets.append(spent)
    return ours.stored_bytes(), common.median(puts), common.median(gets)


def stored_by_type(ours):
    """What each type's pages take, as text."""
    stat = json.loads(common.output_of([ours.path, "--store", ours.folder, "--json", "stat"]))["by_region_type"]
    sizes = {label: stat[prefix]["raw_bytes"] + stat[prefix]["patched_bytes"] for label, prefix in TYPES}
    return ", ".join(f"{label} {100 * size / sum(sizes.values()):.0f} %" for label, size in sizes.items())


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        images = {f"{function}-{boot}": bench.image(f"{function}-{boot}") for function in functions for boot in "ab"}
        logical = sum(image.stat().st_size for image in images.values())
        if not bench.use([peers.Dormouse(bench)]):
            return
        lines, whole = [], None
        for label, text, options in VARIANTS:
            ours = peers.Dormouse(bench, options, re.sub(r"\W+", "-", f"{label} {text}"))
            stored, put_s, get_s = measure(bench, ours, images)
            if whole is None:
                whole = stored
                bench.note(f"of the stored pages' bytes: {stored_by_type(ours)}")
            lines.append((label, text, common.share(stored, logical), f"{stored / whole:.3f}",
                          common.rate(logical, put_s), common.rate(logical, get_s)))
            shutil.rmtree(ours.folder)
            bench.say(f"{label}, {text}: {common.share(stored, logical)}")
        bench.table(HEADINGS, lines)
        bench.note(f"{', '.join(images)}; rates by processor time, median of {bench.rounds(ROUNDS)} rounds")
        bench.note("group sizes are those of images that resemble stored ones; a mostly new image has base_group_pages")


if __name__ == "__main__":
    main()
