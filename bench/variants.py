#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of the store is good for: the same eight images put with parts left out, with other chunk and group
sizes and codecs, and with one index for all pages or one for each region type.

This is the comparison that SnapStore and Medes make of themselves, on our input. There is no target; all are
held against the defaults.
"""
import re
import shutil

import common
import peers

def each_region(name, value):
    return tuple(f"{region}_{name}={value}" for region in ("nrt", "rx_map", "w_map"))


MEDES = ("normalise=no", "slides=no", "patch_group_bytes=0", *each_region("group_pages", 1))
DEFAULTS = "dormouse, defaults"

# Label, options, whether pages get region types.
VARIANTS = [
    (DEFAULTS, (), False),
    ("exact duplicates only", ("similarity=no",), False),
    ("no normalisation", ("normalise=no",), False),
    ("no slides in patches", ("slides=no",), False),
    ("Medes-like: no normalisation, slides, packing", MEDES, False),
    ("Medes-like and nothing compressed", MEDES + ("codec=none",), False),
    ("region types, each sees all", ("cross_types=yes",), True),
    ("region types, each for itself", ("cross_types=no",), True),
    ("region types, one index for all", ("split_types=no",), True),
    *((f"chunks of {kib} KiB", each_region("chunk_bytes", kib * 1024), False) for kib in (16, 64)),
    *((f"chunks of {kib} KiB, exact duplicates only",
       ("similarity=no", *each_region("chunk_bytes", kib * 1024)), False) for kib in (16, 64)),
    *((f"groups of {pages} plain page{'s' if pages > 1 else ''}", each_region("group_pages", pages), False)
      for pages in (1, 2, 8, 16, 64)),
    *((f"patches in groups of {size or 'one'}", (f"patch_group_bytes={size}",), False)
      for size in (0, 4096, 65536)),
    *((f"candidates {count}", (f"candidates={count}",), False) for count in (2, 4)),
    ("codec lz4", ("codec=lz4",), False),
    *((f"zstd level {level} for plain pages", (f"raw_level={level}",), False) for level in (1, 3, 9)),
    ("nothing compressed", ("codec=none",), False),
]
HEADINGS = ("variant", "stored", "of the defaults", "put", "get", "random plain page", "random patched page")


# ---------------------------------------------------------------- region types

def words(data, offset, count):
    return [int.from_bytes(data[at:at + 8], "little") for at in range(offset, offset + 8 * count, 8)]


def region_types(recording, page_count):
    """One byte a page from what the guest's kernel said of itself (format: tools/guest/record.c): 2 when some
    process maps the page writable, else 1 when one maps it at all, else 0."""
    data = recording.read_bytes()
    if data[4096:4104] != b"DMGT0001":
        raise common.Skip(f"{recording.parent.name}: no recording of what its pages are")
    text_offset, text_bytes = words(data, 4096 + 8 * 4, 2)
    types, kind = bytearray(page_count), 0
    for line in data[text_offset:text_offset + text_bytes].decode(errors="replace").splitlines():
        if line.startswith("M "):
            kind = 2 if "w" in line.split()[2] else 1
        elif line.startswith("P "):
            frame = int(line.split()[2], 16)
            if frame < page_count:
                types[frame] = max(types[frame], kind)
    return bytes(types)


def put_all(bench, ours, images, types):
    """Put IMAGES, with region TYPES if there are any; processor seconds."""
    ours.new()
    if not types:
        return sum(ours.put(name, image).cpu_s for name, image in images.items())
    program = bench.program("put_typed")
    return sum(ours.run(program, ours.folder, name, image, types[name], *ours.options).cpu_s
               for name, image in images.items())


def get_all(bench, ours, images):
    """Get all back and compare; processor seconds."""
    spent, got = 0, bench.target / "got"
    for name, image in images.items():
        spent += ours.get(name, got).cpu_s
        if not common.same_bytes(image, got):
            raise RuntimeError(f"{ours.name}: wrong bytes of {name}")
        got.unlink()
    return spent


def page_costs(bench, ours, name, image, rounds):
    """p50 of a random page as a multiple of decoding a zstd -1 frame of it, plain and patched; "-" for none."""
    runs = [bench.measure("random_page", ours.folder, name, image, turn + 1, *ours.options)
            for turn in range(rounds)]
    costs = []
    for kind in ("raw", "patched"):
        ratios = [run[kind]["ours_p50_ns"] / max(run[kind]["peer_p50_ns"], 1) for run in runs]
        costs.append(f"{common.median(ratios):.1f} x zstd" if runs[0][kind]["pages"] else "-")
    return costs


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        images = {f"{function}-{boot}": bench.image(f"{function}-{boot}") for function in functions for boot in "ab"}
        logical = sum(image.stat().st_size for image in images.values())
        if not bench.use([peers.Dormouse(bench)]):
            return
        types = {}
        for name, image in images.items():
            types[name] = bench.work / f"{name}.types"
            types[name].write_bytes(region_types(image.with_name("gt"), image.stat().st_size // common.PAGE_BYTES))
        pages = b"".join(path.read_bytes() for path in types.values())
        lines, whole = [], None
        for label, options, typed in VARIANTS:
            ours = peers.Dormouse(bench, options, re.sub(r"\W+", "-", label))
            try:
                put_s = put_all(bench, ours, images, types if typed else None)
            except common.Failed as error:
                bench.skip(label, error.words)
                continue
            stored = ours.stored_bytes()
            whole = whole or stored
            get_s = get_all(bench, ours, images)
            name = list(images)[-1]
            costs = page_costs(bench, ours, name, images[name], bench.rounds(3))
            lines.append((label, common.share(stored, logical), f"{stored / whole:.2f}",
                          common.rate(logical, put_s), common.rate(logical, get_s), *costs))
            shutil.rmtree(ours.folder)
            bench.say(f"{label}: {common.share(stored, logical)}")
        bench.table(HEADINGS, lines)
        bench.note(f"{', '.join(images)}; rates by processor time, one run each; a random page of {list(images)[-1]} "
                   "at p50 as a multiple of decoding one zstd -1 frame of it")
        bench.note("region types are the guest kernel's own account at the moment of the snapshot: "
                   + ", ".join(f"{text} {100 * pages.count(number) / len(pages):.1f} %" for number, text in
                               enumerate(("not mapped", "mapped and not writable", "mapped writable")))
                   + " of the pages")


if __name__ == "__main__":
    main()
