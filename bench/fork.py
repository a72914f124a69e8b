#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fork of a stored base adds no more bytes than zstd -3 --long=31 --patch-from that base makes of it, and so does
a second fork beside a first one of the same function, with recipe and all other metadata included.

Added is the growth of the store folder. Ours is measured told which snapshot to compare with (--parent), as
zstd is, and not told; and once more in a store that gc --squeeze --older-than 0s has packed before and after.
"""
import common
import peers

RATIO_MAX = 1.0
PAIRS = [("fork-pyjson-1", "fork-pyjson-2"), *(("base", fork) for fork in common.FORKS)]


def added_bytes(bench, ours, base, fork, told):
    ours.new()
    ours.put(base, bench.image(base))
    before = ours.stored_bytes()
    ours.put(fork, bench.image(fork), parent=base if told else None)
    added = ours.stored_bytes() - before
    got = bench.target / "got"
    ours.get(fork, got)
    if not common.same_bytes(bench.image(fork), got):
        raise RuntimeError(f"{fork}: wrong bytes")
    got.unlink()
    return added


def squeezed_bytes(bench, ours, base, fork):
    ours.new()
    ours.put(base, bench.image(base))
    ours.squeeze()
    before = ours.stored_bytes()
    ours.put(fork, bench.image(fork), parent=base)
    ours.squeeze()
    return ours.stored_bytes() - before


def main():
    with common.Bench(__file__, __doc__) as bench:
        pairs = PAIRS[:2] if bench.quick else PAIRS
        able = bench.use([ours := peers.Dormouse(bench), zstd := peers.ZstdPatch(bench)])
        for base, fork in pairs:
            image_bytes = bench.image(fork).stat().st_size
            theirs = None
            if zstd in able:
                zstd.new()
                theirs, _ = zstd.patch(bench.image(base), bench.image(fork))
                zstd.check(bench.image(base), bench.image(fork))
            cases = (("base named", lambda: added_bytes(bench, ours, base, fork, True)),
                     ("not named", lambda: added_bytes(bench, ours, base, fork, False)),
                     ("base named, squeezed", lambda: squeezed_bytes(bench, ours, base, fork)))
            for what, measure in cases:
                size = measure() if ours in able else None
                bench.row(f"{base} to {fork}, {what}", common.share(size, image_bytes), zstd.name,
                          common.share(theirs, image_bytes), common.quotient(size, theirs), ("<=", RATIO_MAX))
            bench.say(f"{base} to {fork} done")


if __name__ == "__main__":
    main()
