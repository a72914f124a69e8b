#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Eight images, four functions booted twice each, take no more bytes than tar | zstd -1 --long=31 over all of
them, which has no random access, and at most 0.7 of what any peer with random access takes; after
gc --squeeze at most 0.85 of the solid stream.

All files of a store are counted by apparent size. Every image is got back from every participant and compared.
"""
import shutil

import common
import peers

SOLID_MAX, RANDOM_MAX, SQUEEZED_MAX = 1.0, 0.7, 0.85


def verified(bench, participant, images):
    """Get all images back and compare them; a participant that gives wrong bytes has no result."""
    folder = bench.target / "all"
    folder.mkdir()
    participant.unpack(images, folder)
    wrong = [name for name, image in images.items() if not common.same_bytes(image, folder / name)]
    shutil.rmtree(folder)
    if wrong:
        raise RuntimeError(f"{participant.name}: wrong bytes in {', '.join(wrong)}")


def ours_sizes(bench, images):
    """Stored bytes of ours before and after squeezing, or (None, None)."""
    if not bench.use([ours := peers.Dormouse(bench)]):
        return None, None
    ours.pack(images)
    verified(bench, ours, images)
    before = ours.stored_bytes()
    ours.squeeze()
    verified(bench, ours, images)
    return before, ours.stored_bytes()


def main():
    with common.Bench(__file__, __doc__) as bench:
        functions = common.FUNCTIONS[:1] if bench.quick else common.FUNCTIONS
        images = {f"{function}-{boot}": bench.image(f"{function}-{boot}")
                  for function in functions for boot in "ab"}
        logical = sum(image.stat().st_size for image in images.values())
        before, after = ours_sizes(bench, images)
        bench.say("ours done")
        kinds = [peers.SolidZstd, peers.Restic, peers.Borg, peers.Casync, peers.Qcow2, peers.Erofs, peers.Squashfs]
        for peer in bench.use([kind(bench) for kind in kinds]):
            peer.pack(images)
            theirs = peer.stored_bytes()
            verified(bench, peer, images)
            access = f"random access: {peer.access}" if peer.access else "no random access"
            cases = [("as put", before, RANDOM_MAX if peer.access else SOLID_MAX)]
            if not peer.access:
                cases.append(("squeezed", after, SQUEEZED_MAX))
            for what, size, bound in cases:
                bench.row(f"{len(images)} images, {what}", common.share(size, logical), f"{peer.name} ({access})",
                          common.share(theirs, logical), common.quotient(size, theirs), ("<=", bound))
            shutil.rmtree(peer.folder)
            bench.say(f"{peer.name} done")
        bench.note(f"{', '.join(images)}: {logical / 2**20:.0f} MiB logical; ours: random access: 4 KiB page")
        bench.note("every image was got back from every participant and compared")


if __name__ == "__main__":
    main()
