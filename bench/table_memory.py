#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A million string keys of 20 to 40 bytes take at most 32 bytes a key beyond key and value, and at most half of what
Redis takes.

Resident memory is that of all processes of a server, what they share counted once, and less what it was before the first
key. What is counted as used is each server's own number (used_memory of INFO), less what it was before.
"""
import common
import table_peers

KEYS = 1_000_000
VALUES_BYTES = (16, 200)
BYTES_MAX = 32


def measured(bench, server, keys, value_bytes):
    """Bytes a key beyond key and value: resident, and used."""
    with server, server.wire() as wire:
        resident, used = server.resident_bytes(), wire.info("used_memory")
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
        keys = KEYS // (10 if bench.quick else 1)
        for value_bytes in VALUES_BYTES:
            mine = measured(bench, ours, keys, value_bytes)
            theirs = measured(bench, redis, keys, value_bytes) if redis in able else (None, None)
            for what, one, other in zip(("resident", "counted as used"), mine, theirs):
                words = f"values of {value_bytes} bytes: bytes a key, {what}"
                bench.row(words, f"{one:.1f}", target=("<=", BYTES_MAX), value=one)
                if other is not None:
                    bench.row(words, f"{one:.1f}", redis.name, f"{other:.1f}", one / other, ("<=", 0.5))


if __name__ == "__main__":
    main()
