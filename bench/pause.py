#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A process whose memory is put stands still for at most a tenth of the time that copying its memory takes, while
two of its threads write to all of it all the time.

`put --pid` marks the memory while the process is stopped and saves pages before their first write; `put --pid --copy`
copies it meanwhile. Both tell how long the process was stopped. pause.c is the process; it tells the longest time
between two writes of one thread, which holds what it waited for processors, too. What it writes during the
put, by the second, is set against what it wrote in a second before.
"""
import json
import os
import subprocess
import time

import common
import peers

ROUNDS = 5
SIZES_MIB = (256, 1024)
IMAGE = "pyjson-a"


class Source:
    """A process that writes to its memory."""

    def __init__(self, bench, mib):
        self.process = subprocess.Popen([bench.program("pause"), str(mib), bench.image(IMAGE)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.range = self.process.stdout.readline().strip()
        self.began = time.monotonic()

    def since(self):
        """Writes a second and the longest time without one, since the last call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        seconds, self.began = time.monotonic() - self.began, time.monotonic()
        return told["writes"] / seconds, told["longest_ns"] / 1e6

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def put(bench, ours, source, way):
    """(stopped ms, whole put ms, longest time without a write in ms, share of the writes of a quiet second, ...)"""
    source.since()
    time.sleep(1)
    quiet, _ = source.since()
    command = [ours.path, "--store", ours.folder, "--json", "put", "live", "--replace", "--no-inspect", "--pid",
               str(source.process.pid), "--range", source.range, *way]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=bench.environment)
    if done.returncode:
        raise common.Failed("put", done.returncode, "see above")
    rate, longest_ms = source.since()
    told = json.loads(done.stdout)
    live = told["live"]
    if live["way"] != ("copy" if way else "mark"):
        raise common.Skip("userfaultfd cannot mark memory here")
    return {"stopped_ms": live["pause_ns"] / 1e6, "whole_ms": told["elapsed_ns"] / 1e6, "longest_ms": longest_ms,
            "share": rate / quiet, "saved": live["saved_pages"], "faults": live["write_faults"]}


def middle(rounds, key):
    return common.median([one[key] for one in rounds])


def main():
    with common.Bench(__file__, __doc__) as bench:
        os.sched_setaffinity(0, range(os.cpu_count()))
        bench.note("on all cores: a process and who puts it are seldom on one")
        ours = peers.Dormouse(bench)
        if not bench.use([ours]):
            return
        lines = []
        for mib in SIZES_MIB[:1] if bench.quick else SIZES_MIB:
            mark, copy = [], []
            with Source(bench, mib) as source:
                for _ in range(bench.rounds(ROUNDS)):
                    mark.append(put(bench, ours.new(), source, []))
                    copy.append(put(bench, ours.new(), source, ["--copy"]))
            ratios = [one["stopped_ms"] / other["stopped_ms"] for one, other in zip(mark, copy)]
            stopped = middle(mark, "stopped_ms")
            bench.row(f"{mib} MiB, stopped", f"{stopped:.2f} ms", "copied while stopped",
                      f"{middle(copy, 'stopped_ms'):.1f} ms", common.median(ratios), ("<=", 0.1), n=len(ratios),
                      spread=common.span(ratios, 3))
            bench.row(f"{mib} MiB, stopped", f"{stopped:.2f} ms", "stopped until all is on disk",
                      f"{middle(copy, 'whole_ms'):.0f} ms", stopped / middle(copy, "whole_ms"), None, n=len(ratios))
            for way, rounds in (("marked", mark), ("copied", copy)):
                lines.append((f"{mib} MiB", way, f"{middle(rounds, 'whole_ms'):.0f} ms",
                              f"{middle(rounds, 'longest_ms'):.1f} ms", f"{100 * middle(rounds, 'share'):.0f} %",
                              f"{middle(rounds, 'faults'):.0f}", f"{middle(rounds, 'saved'):.0f}"))
        bench.table(("memory", "way", "whole put", "longest time without a write", "writes, of a quiet second's",
                     "write faults", "pages saved"), lines)


if __name__ == "__main__":
    main()
