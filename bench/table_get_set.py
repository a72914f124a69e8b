#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GET and SET of 200-byte values by a second of the server's processor time: at least as many as Redis without
pipelining, 1.4 times as many with 16 requests at once and 1.5 times with 64, and at least as many as memcached.

100,000 keys, 50 connections, servers with one thread on one core, client on another, taking turns in every round. Rows
against Redis come from redis-benchmark; those against memcached from our own client (load.c), which loads all servers
alike, memcached in its faster protocol. Percentiles are medians of the rounds, the maximum is the worst of all.
"""
import common
import table_peers

ROUNDS = 5
KEYS = 100_000
VALUE_BYTES = 200
PIPELINES = {1: 1.0, 16: 1.4, 64: 1.5}
REQUESTS = {1: 40_000, 16: 320_000, 64: 640_000}
OPERATIONS = ("GET", "SET")


def requests_of(bench, pipeline):
    return REQUESTS[pipeline] // (4 if bench.quick else 1)


def against_redis(bench, servers, rounds, lines):
    """By redis-benchmark, over TCP and over a Unix socket."""
    ours, redis = servers
    for unix in (False, True):
        place = ", Unix socket" if unix else ""
        for pipeline, target in PIPELINES.items():
            taken = {(operation, server.name): [] for operation in OPERATIONS for server in servers}
            for _ in range(rounds):
                for operation in OPERATIONS:
                    for server in servers:
                        taken[operation, server.name].append(table_peers.redis_benchmark(
                            bench, server, ("-t", operation.lower()), pipeline=pipeline, keys=KEYS, unix=unix,
                            requests=requests_of(bench, pipeline), value_bytes=VALUE_BYTES))
            for operation in OPERATIONS:
                what = f"{operation} -P {pipeline}{place}"
                table_peers.pair_row(bench, what, taken[operation, ours.name], redis.name, taken[operation, redis.name],
                                     None if unix else (">=", target))
                lines += [table_peers.latency_line(what, server.name, taken[operation, server.name]) for server in servers]
            bench.say(f"redis-benchmark -P {pipeline}{place}: done")


def against_memcached(bench, ours, peers, others, rounds, lines):
    """By our own client; OTHERS are loaded beside them, so that one table has them all."""
    everybody = (ours, *others, *peers)
    for pipeline in PIPELINES:
        taken = {(operation, server.name): [] for operation in OPERATIONS for server in everybody}
        for _ in range(rounds):
            for operation in OPERATIONS:
                for server in everybody:
                    taken[operation, server.name].append(table_peers.load(
                        bench, server, server.words(operation), pipeline=pipeline, keys=KEYS, value=VALUE_BYTES,
                        requests=requests_of(bench, pipeline)))
        for operation in OPERATIONS:
            what = f"{operation}, {pipeline} at once, load"
            best = max(peers, key=lambda peer: common.median([one.per_cpu_s for one in taken[operation, peer.name]]))
            table_peers.pair_row(bench, what, taken[operation, ours.name], best.name, taken[operation, best.name],
                                 (">=", 1.0))
            lines += [table_peers.latency_line(what, server.name, taken[operation, server.name]) for server in everybody]
        bench.say(f"load, {pipeline} at once: done")


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours, redis = table_peers.Ours(bench), table_peers.Redis(bench)
        peers = [table_peers.Memcached(bench, "text"), table_peers.Memcached(bench, "meta"),
                 table_peers.Memcached(bench, "meta", "-R", "1000")]
        able = bench.use([ours, redis, *peers])
        if ours not in able:
            return
        rounds = bench.rounds(ROUNDS)
        with table_peers.running(able):
            for server in able:
                table_peers.fill(bench, server, KEYS, VALUE_BYTES)
            lines = []
            if redis in able:
                against_redis(bench, (ours, redis), rounds, lines)
            if peers[0] in able:
                against_memcached(bench, ours, [peer for peer in peers if peer in able],
                                  [redis] if redis in able else [], rounds, lines)
            bench.table(table_peers.LATENCY_HEADINGS, lines)


if __name__ == "__main__":
    main()
