#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The second boot of a function whose first boot is stored (another kernel and user address layout) adds at most
1.5 % of the image, and at most 0.75 of what zstd -3 --long=31 --patch-from the first boot makes of it.

Added is the growth of the store folder, all metadata included. zstd is told which file to compare with; ours
is measured both told (--parent) and not told.
"""
import common
import peers

IMAGE_SHARE_MAX, RATIO_MAX = 1.5, 0.75


def added_bytes(bench, ours, function, told):
    """Bytes that the second boot adds to a store that holds only the first."""
    first, second = (bench.image(f"{function}-{boot}") for boot in "ab")
    ours.new()
    ours.put("first", first)
    before = ours.stored_bytes()
    ours.put("second", second, parent="first" if told else None)
    added = ours.stored_bytes() - before
    got = bench.target / "got"
    ours.get("second", got)
    if not common.same_bytes(second, got):
        raise RuntimeError(f"{function}: wrong bytes")
    got.unlink()
    return added


def rows(bench, what, sizes, theirs, image_bytes):
    """SIZES and THEIRS are bytes by function; the total stands for the mean."""
    peer = peers.ZstdPatch.name
    for function, size in sizes.items():
        bench.row(f"{function}, {what}", common.share(size, image_bytes), peer,
                  common.share(theirs.get(function), image_bytes),
                  common.quotient(size, theirs.get(function)), ("<=", RATIO_MAX))
    mean = sum(sizes.values()) / len(sizes)
    their_mean = sum(theirs.values()) / len(theirs) if theirs else None
    bench.row(f"mean, {what}", common.share(mean, image_bytes), peer,
              common.share(their_mean, image_bytes), common.quotient(mean, their_mean), ("<=", RATIO_MAX))
    for name, size in (("mean", mean), ("worst", max(sizes.values()))):
        bench.row(f"{name} share of the image, {what}", common.share(size, image_bytes),
                  target=("<=", IMAGE_SHARE_MAX), value=100 * size / image_bytes, unit=" %")


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        image_bytes = bench.image(f"{functions[0]}-b").stat().st_size
        theirs = {}
        if bench.use([zstd := peers.ZstdPatch(bench)]):
            zstd.new()
            for function in functions:
                first, second = (bench.image(f"{function}-{boot}") for boot in "ab")
                theirs[function], _ = zstd.patch(first, second)
                zstd.check(first, second)
                bench.say(f"{function}: zstd {common.share(theirs[function], image_bytes)}")
        if bench.use([ours := peers.Dormouse(bench)]):
            for what, told in (("first boot named", True), ("not named", False)):
                rows(bench, what, {function: added_bytes(bench, ours, function, told) for function in functions},
                     theirs, image_bytes)
        else:
            for function, size in theirs.items():
                bench.row(function, peer=zstd.name, theirs=common.share(size, image_bytes))


if __name__ == "__main__":
    main()
