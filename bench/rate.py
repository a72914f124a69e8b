#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""By processor time on one core, put of a second boot runs at 1.2 or more of the rate of zstd -1 and put of a
first image at 0.8 or more, at 3 or more of restic and casync and 1.2 or more of borg (fixed 64 KiB, zstd 3); get of a
whole image runs at 1.3 or more of zstd -d and 3 or more of borg, restic and casync.

What counts is user and system time of the whole process tree, start and end of the program included. The
inputs are written without holes, are in the page cache, and are read by all; stores lie in one file system; what
is got is written to a file in memory. In each round the participants take turns, in an order that
rotates; the ratio is the median of the ratios of the single rounds, the spread their range.
"""
import common
import peers

ROUNDS = 5
PUTS = ("put, first image", "put, second boot")
GET = "get, second boot"
TARGETS = {
    peers.Zstd: {PUTS[0]: 0.8, PUTS[1]: 1.2, GET: 1.3},
    peers.Borg: {PUTS[0]: 1.2, PUTS[1]: 1.2, GET: 3},
    peers.Restic: {PUTS[0]: 3, PUTS[1]: 3, GET: 3},
    peers.Casync: {PUTS[0]: 3, PUTS[1]: 3, GET: 3},
}


def one_turn(bench, participant, images, check):
    """Put the two boots of a function into an empty store and get the second back: the usages by what was done."""
    participant.new()
    spent = {}
    for what, image in zip(PUTS, images):
        common.warm(image)
        spent[what] = participant.put(image.stem, image)
    common.warm_folder(participant.folder)
    got = bench.target / "got"
    spent[GET] = participant.get(images[1].stem, got)
    if check and not common.same_bytes(images[1], got):
        raise RuntimeError(f"{participant.name}: wrong bytes of {images[1].name}")
    got.unlink()
    return spent


def dense_images(bench, function, holes):
    """The two boots as files without holes (or as they are)."""
    images = []
    for boot in "ab":
        image = bench.work / f"{function}-{boot}.mem"
        (common.link if holes else common.copy_dense)(bench.image(f"{function}-{boot}"), image)
        images.append(image)
    return images


def measure(bench, participants, functions, rounds, holes=False):
    """Processor seconds over all FUNCTIONS: {participant: {what: [one sum a round]}}. A turn before the first is
    not counted: in it memory comes from the host for the first time, and what is got is compared."""
    spent = {participant: {what: [0.0] * rounds for what in (*PUTS, GET)} for participant in participants}
    for function in functions:
        images = dense_images(bench, function, holes)
        for turn in range(-1, rounds):
            shift = turn % len(participants)
            for participant in participants[shift:] + participants[:shift]:
                for what, usage in one_turn(bench, participant, images, check=turn < 0).items():
                    if turn >= 0:
                        spent[participant][what][turn] += usage.cpu_s
        for image in images:
            image.unlink()
        bench.say(f"{function}{' with holes' if holes else ''}: {rounds} rounds done")
    return spent


def rows(bench, spent, ours, logical_bytes, rounds, label="", judged=True):
    for what in (*PUTS, GET):
        mine = spent[ours][what] if ours else None
        for peer in spent:
            if peer is ours:
                continue
            theirs = spent[peer][what]
            ratios = [b / a for a, b in zip(mine, theirs)] if mine else None
            bench.row(what + label, common.rate(logical_bytes, common.median(mine)) if mine else "-", peer.name,
                      common.rate(logical_bytes, common.median(theirs)),
                      common.median(ratios) if ratios else None,
                      (">=", TARGETS[type(peer)][what]) if judged else None, n=rounds,
                      spread=common.span(ratios or [logical_bytes / 1e6 / seconds for seconds in theirs],
                                         2 if ratios else 0))


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        rounds = bench.rounds(ROUNDS)
        ours = peers.Dormouse(bench)
        able = bench.use([ours, *(kind(bench) for kind in TARGETS)])
        logical_bytes = sum(bench.image(f"{function}-b").stat().st_size for function in functions)
        mine = ours if ours in able else None
        rows(bench, measure(bench, able, functions, rounds), mine, logical_bytes, rounds)
        few = [participant for participant in able if isinstance(participant, (peers.Dormouse, peers.Zstd))]
        if mine and len(few) == 2:
            rows(bench, measure(bench, few, functions, rounds, holes=True), mine, logical_bytes, rounds,
                 ", image with holes", judged=False)
        bench.note(f"rates are logical bytes over processor time, summed over {', '.join(functions)}")
        bench.note("ours, borg and restic wait until what they stored is on the disk; zstd and casync do not")


if __name__ == "__main__":
    main()
