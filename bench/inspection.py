#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looking into guests (region types, references to their root image, no free pages) makes a store of four
functions booted twice, and of one more kernel where its guest is made, take at most 0.65 of what it takes without,
and at most 0.6 of tar | zstd -1 --long=31; 95 % of clean file pages become references; it takes at most a
quarter of the processor time of a put, of a full image or a diff; and by itself, in the page cache, a guest of 256 MiB
takes at most 0.25 s and one of 4 GiB without holes 1 s.

Every image is got back. Without --drop-free it must be the same byte for byte; with it, pages that the guest's
allocator calls free are zeros. SnapStore says of itself that it takes 2.4 times less space than raw memory files of
FaaSnap (Middleware'23); its program and its guests are not public, so ours are held against raw memory files of ours.
"""
import json
import shutil

import common
import peers

LESS_MAX, SOLID_MAX, REFERENCE_MIN, TIME_MAX = 0.65, 0.6, 95, 0.25
SMALL_SECONDS, GIB_SECONDS, SNAPSTORE = 0.25, 0.25, 2.4
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


def put_seconds(ours, image, rounds):
    times = []
    for _ in range(rounds):
        ours.new()
        times.append(ours.put("one", image).cpu_s)
    return common.median(times)


def put_diff_seconds(bench, words, rounds):
    """The put of a diff that makes a fork of its base, each time into a new store that has the base."""
    base, fork = (bench.image(name) for name in ("base", common.FORKS[0]))
    ours = Inspecting(bench, "diffs", words=words).new()
    ours.put("base", base)
    ours.put("fork", fork, "base")
    diff = bench.work / "fork.diff"
    ours.call("get", "fork", "--diff-from", "base", "-o", diff)
    times = []
    for _ in range(rounds):
        ours.new()
        ours.put("base", base)
        times.append(ours.call("put", "fork", diff, "--diff", "--parent", "base", *words).cpu_s)
        got = bench.target / "got"
        ours.get("fork", got)
        if not common.same_bytes(fork, got):
            raise RuntimeError("wrong bytes of a fork that was put as a diff")
        got.unlink()
    return common.median(times)


def shares_of_put(bench, seeing, blind, image):
    """How much of the time of a put is inspection."""
    rounds = bench.rounds(ROUNDS)
    spent = [("a first image", [put_seconds(each, image, rounds) for each in (seeing, blind)])]
    if all((bench.args.guests / name / "mem").exists() for name in ("base", common.FORKS[0])):
        spent.append(("a diff of a fork", [put_diff_seconds(bench, words, rounds)
                                           for words in ([], ["--no-inspect"])]))
    for what, (with_it, without_it) in spent:
        share = 100 * (1 - without_it / with_it)
        bench.row(f"share of inspection in the put of {what}", f"{share:.1f} %", target=("<=", TIME_MAX * 100),
                  value=share, unit=" %", n=rounds)


def inspect_seconds(bench, label, image, seconds_max):
    program, rounds = bench.args.build / "dormouse", bench.rounds(ROUNDS)
    common.warm(image)
    times = [common.run([program, "--quiet", "inspect", image], environment=bench.environment).cpu_s
             for _ in range(rounds)]
    bench.row(f"inspection of {label}", f"{common.median(times):.3f} s", target=("<=", seconds_max),
              value=common.median(times), unit=" s", n=rounds, spread=common.span(times, 3))


def inspect_alone(bench, image):
    inspect_seconds(bench, "a guest of 256 MiB, page cache warm", image, SMALL_SECONDS)
    large = bench.args.guests / "caes-4g" / "mem"
    if not large.exists() or bench.quick:
        bench.skip("a large guest", "a quick run" if bench.quick else "no guest image caes-4g")
        return
    dense = bench.target / "dense"
    common.copy_dense(large, dense)
    gib = dense.stat().st_size / 2**30
    inspect_seconds(bench, f"a guest of {gib:.1f} GiB, its holes written as zeros, page cache warm", dense,
                    GIB_SECONDS * gib)
    dense.unlink()


def against_raw(bench, ours, images, logical, size):
    """The saving that SnapStore says of itself."""
    zero = sum(ours.told("explain", name)["zero_bytes"] for name in images)
    for what, raw in (("raw memory files", logical), ("their pages that are not zero", logical - zero)):
        bench.row(f"space of {what}, by what {ours.name} stores", f"{raw / size:.1f} x",
                  "SnapStore, as published, by raw FaaSnap memory files", f"{SNAPSTORE} x", raw / size / SNAPSTORE,
                  (">=", 1))


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
            if ours is seeing:
                against_raw(bench, ours, images, logical, size)
            bench.say(f"{ours.name} done")
        percent = referenced(full, images)
        bench.row("clean file pages that became references", f"{percent:.1f} %", target=(">=", REFERENCE_MIN),
                  value=percent, unit=" %")
        percent = critical(bench, full, images)
        bench.row("pages that PARS would keep several copies of", f"{percent:.1f} %", value=percent, unit=" %")
        image = images[f"{functions[0]}-a"]
        shares_of_put(bench, seeing, blind, image)
        inspect_alone(bench, image)
        shutil.rmtree(solid.folder)


if __name__ == "__main__":
    main()
