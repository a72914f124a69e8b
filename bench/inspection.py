#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looking into guests (region types, references to their root image, no free pages) makes a store of four
functions booted twice, and of one more kernel where its guest is made, take at most 0.65 of what it takes without,
and at most 0.6 of tar | zstd -1 --long=31; 95 % of clean file pages become references; and it takes at most a
quarter of the processor time of a put.

Every image is got back. Without --drop-free it must be the same byte for byte; with it, pages that the guest's
allocator calls free are zeros. SnapStore's own figure for its comparison is 2.4 times (Middleware'23).
"""
import json
import shutil

import common
import peers

LESS_MAX, SOLID_MAX, REFERENCE_MIN, TIME_MAX = 0.65, 0.6, 95, 0.25
ROUNDS = 5


class Inspecting(peers.Dormouse):
    """A store that is told of the guests' root image, and how to put."""

    def __init__(self, bench, name, root=None, words=()):
        super().__init__(bench, name=name)
        self.root, self.words = root, words

    def new(self, label=""):
        super().new(label)
        if self.root:
            self.call("root", "add", self.root)
        return self

    def put(self, name, image, parent=None):
        return self.call("put", name, image, *self.words, *(["--parent", parent] if parent else []))

    def told(self, *words):
        return json.loads(common.output_of([self.path, "--store", self.folder, "--json", *words]))


def stored(bench, ours, images, changes):
    """Stored bytes of all images, each got back; pages may be zeros instead where CHANGES."""
    ours.new()
    for name, image in images.items():
        ours.put(name, image)
        got = bench.target / "got"
        ours.get(name, got)
        if not changes and not common.same_bytes(image, got):
            raise RuntimeError(f"{ours.name}: wrong bytes of {name}")
        got.unlink()
    return ours.stored_bytes()


def referenced(ours, images):
    """Of clean file pages that are not zero, how many per cent became references."""
    pages = references = 0
    for name in images:
        file_clean = ours.told("explain", name)["by_class"].get("file_clean", {})
        pages += file_clean.get("logical_bytes", 0) - file_clean.get("zero_bytes", 0)
        references += file_clean.get("reference_bytes", 0)
    return 100 * references / max(pages, 1)


def critical(bench, ours, images):
    """PARS: pages that deserve several copies, in per cent of all."""
    total = several = 0
    for image in images.values():
        importances = json.loads(common.output_of([ours.path, "--json", "inspect", image]))["importances"]
        total += sum(importances.values())
        several += importances["critical"]
    return 100 * several / total


def put_seconds(bench, ours, image, rounds):
    times = []
    for _ in range(rounds):
        ours.new()
        times.append(ours.put("one", image).cpu_s)
    return common.median(times)


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        images = {f"{function}-{boot}": bench.image(f"{function}-{boot}")
                  for function in functions for boot in "ab"}
        another = bench.args.guests / "pyjson-612" / "mem"
        if another.exists() and not bench.quick:
            images["pyjson-612"] = another
        root = bench.args.guests / "rootfs.ext4"
        blind = Inspecting(bench, "without inspection", words=["--no-inspect"])
        seeing = Inspecting(bench, "inspection")
        rooted = Inspecting(bench, "inspection and root image", root)
        full = Inspecting(bench, "inspection, root image, --drop-free", root, ["--drop-free"])
        solid = peers.SolidZstd(bench)
        if blind not in bench.use([blind, solid]):
            return
        logical = sum(image.stat().st_size for image in images.values())
        without = stored(bench, blind, images, False)
        solid.pack(images)
        theirs = solid.stored_bytes()
        for ours in (seeing, rooted, full):
            size = stored(bench, ours, images, ours is full)
            for peer, bytes_, bound in ((blind.name, without, LESS_MAX), (solid.name, theirs, SOLID_MAX)):
                bench.row(f"{len(images)} images, {ours.name}", common.share(size, logical), peer,
                          common.share(bytes_, logical), common.quotient(size, bytes_),
                          ("<=", bound) if ours is full else None)
            bench.say(f"{ours.name} done")
        percent = referenced(full, images)
        bench.row("clean file pages that became references", f"{percent:.1f} %", target=(">=", REFERENCE_MIN),
                  value=percent, unit=" %")
        percent = critical(bench, full, images)
        bench.row("pages that PARS would keep several copies of", f"{percent:.1f} %", value=percent, unit=" %")
        rounds = bench.rounds(ROUNDS)
        image = images[f"{functions[0]}-a"]
        with_it, without_it = (put_seconds(bench, each, image, rounds) for each in (seeing, blind))
        share = 100 * (1 - without_it / with_it)
        bench.row("share of inspection in the put of a first image", f"{share:.1f} %", target=("<=", TIME_MAX * 100),
                  value=share, unit=" %", n=rounds)
        shutil.rmtree(solid.folder)


if __name__ == "__main__":
    main()
