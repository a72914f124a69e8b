#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A million string keys of 20 to 40 bytes take at most 32 bytes a key beyond key and value, and at most half of what
Redis takes.

Resident memory is that of all processes of a server, what they share counted once, and less what it was before the first
key, when the server had answered and all its processes had come up. What is counted as used is each server's own number
(used_memory of INFO), less what it was before. Room for buckets doubles at 720,896 and 1,441,792 keys: the other counts
are just before and behind.
"""
import time

import common
import table_peers

KEYS = 1_000_000
OTHER_KEYS = (720_000, 722_000, 1_440_000, 1_444_000)
VALUES_BYTES = (16, 200)
BYTES_MAX = 32
SETTLED_SECONDS = 1


def settled_bytes(server):
    """Resident memory when it has stopped growing: processes of a server that has just begun are still coming up."""
    before, now = -1, server.resident_bytes()
    while now > before:
        time.sleep(SETTLED_SECONDS)
        before, now = now, server.resident_bytes()
    return now


def measured(bench, server, keys, value_bytes):
    """Bytes a key beyond key and value: resident, and used."""
    with server, server.wire() as wire:
        used = wire.info("used_memory")
        resident = settled_bytes(server)
        done = table_peers.fill(bench, server, keys, value_bytes, shape="long")
        if wire.call("DBSIZE") != keys:
            raise common.Failed(server.name, 1, "not all keys are there")
        beyond = done.more["key_bytes"] + keys * value_bytes
        resident = server.resident_bytes() - resident - beyond
        used = wire.info("used_memory") - used - beyond
    return resident / keys, used / keys


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours, redis = table_peers.Ours(bench), table_peers.Redis(bench)
        able = bench.use([ours, redis])
        if ours not in able:
            return
        part = 10 if bench.quick else 1
        keys = KEYS // part
        for value_bytes in VALUES_BYTES:
            mine = measured(bench, ours, keys, value_bytes)
            theirs = measured(bench, redis, keys, value_bytes) if redis in able else (None, None)
            for what, one, other in zip(("resident", "counted as used"), mine, theirs):
                words = f"values of {value_bytes} bytes: bytes a key, {what}"
                bench.row(words, f"{one:.1f}", target=("<=", BYTES_MAX), value=one)
                if other is not None:
                    bench.row(words, f"{one:.1f}", redis.name, f"{other:.1f}", one / other, ("<=", 0.5))
            for count in OTHER_KEYS:
                one, _ = measured(bench, ours, count // part, value_bytes)
                words = f"{count // part:,} keys, values of {value_bytes} bytes: bytes a key, resident"
                bench.row(words, f"{one:.1f}", target=("<=", BYTES_MAX), value=one)


if __name__ == "__main__":
    main()
