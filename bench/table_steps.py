#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No step of a table takes over 1 ms: neither a command on one key nor a turn of upkeep, while it grows to millions of keys,
shrinks, loses what has expired, and is emptied.

One thread calls the table as a worker does (table_steps.c): keys of 20 to 40 bytes, a turn of upkeep after each 1,024
commands. All rounds do the same; of a step counts the processor time of the round that took least, page faults and calls
into the kernel included: a pause that belongs to a step is in all rounds, an interrupt is not. The longest of the wall is
beside, as it came.
"""
import common
import table_peers

KEYS = (1_000_000, 10_000_000)
ROUNDS = 3
STEP_MS_MAX = 1
TIMES = ("p50_ns", "p999_ns", "max_ns", "wall_max_ns")
PHASES = {
    "grow": "SET of a new key", "grow_upkeep": "upkeep meanwhile", "delete": "DEL, to the last eight keys",
    "shrink_upkeep": "upkeep meanwhile and after", "random": "RANDOMKEY of eight", "expire_set": "SET again, half with a time",
    "expire_upkeep": "upkeep when all have expired", "flush": "FLUSHALL, three libraries stay",
    "flush_upkeep": "upkeep after that"}


def duration(ns):
    return f"{ns / 1000:.1f} us" if ns < 1_000_000 else f"{ns / 1e6:.2f} ms"


def main():
    with common.Bench(__file__, __doc__) as bench:
        if not bench.use([table_peers.Ours(bench)]):
            return
        rounds = bench.rounds(ROUNDS, 2)
        lines = []
        for keys in KEYS:
            keys //= 10 if bench.quick else 1
            said = bench.measure("table_steps", keys, rounds)
            for phase, what in PHASES.items():
                one = said[phase]
                bench.row(f"{keys:,} keys: {what}: longest step", duration(one["max_ns"]),
                          target=("<=", STEP_MS_MAX), unit=" ms", value=one["max_ns"] / 1e6, n=one["n"])
                lines.append([f"{keys:,}", what, *(duration(one[name]) for name in TIMES)])
        bench.table(["keys", "what", "p50", "p99.9", "longest", "longest by the wall"], lines)


if __name__ == "__main__":
    main()
