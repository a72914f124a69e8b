#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A storage function looks keys up at least 5 times as fast as one that does so by native calls which copy the value, and
at least half as fast as C.

100,000 nodes of a graph with 50 friends on average, in one table (table_access.c). Walks of 3 hops read the lengths of
the last lists, or all numbers in them; keys of text are those of users, in an order that defeats caches. Keys are opened
one by one, or some dozens together (kv.follow(), kv.openAll()), which waits for memory once for all of them; a native
call and C, which is table_find(), take one at a time. The rows are lookups by a second of one thread's processor time,
after the engine has compiled; a native call copies into an array that is used again, or returns a new one, as Shredder's
did. A module of WebAssembly (table_access_wasm.c) does the same in both ways.
"""
import os

import common
import table_peers

ROUNDS = 5
NODES = 100_000
WORKLOADS = {"khop": "walk, lengths", "sum": "walk, all numbers", "text": "keys of text"}
WAYS = {"runtime": "one by one", "many": "together"}
MODULE_WAYS = {"wasm": "one by one", "wasm_many": "together"}
PEERS = {"scratch": ("native call that copies", (">=", 5)), "fresh": ("native call, new array", None),
         "c": ("C", (">=", 0.5))}


def rows(bench, name, taken, way, rounds):
    mine = taken[way]
    for peer, (peer_name, target) in PEERS.items():
        ratios = [one / other for one, other in zip(mine, taken[peer])]
        bench.row(f"{name}: lookups", f"{table_peers.thousands(common.median(mine))}/s", peer_name,
                  f"{table_peers.thousands(common.median(taken[peer]))}/s", common.median(ratios), target, n=rounds,
                  spread=common.span(ratios))


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours = table_peers.Ours(bench)
        plugin = bench.args.build / "src/table/libdormouse-js.so"
        if not bench.use([ours]):
            return
        if not plugin.exists():
            raise common.Skip("this build has no engine of storage functions")
        # Its compilers work beside it; only the calling thread is counted.
        os.sched_setaffinity(0, range(os.cpu_count()))
        bench.environment["DORMOUSE_ENGINE"] = str(plugin)
        # As in the server, where the engine is loaded later; the program is linked with it.
        bench.environment["JSC_usePollingTraps"] = "1"
        rounds = bench.rounds(ROUNDS, 2)
        said = bench.measure("table_access", NODES // (5 if bench.quick else 1), rounds, *table_peers.module(bench, "table_access_wasm.c"))
        for workload, name in WORKLOADS.items():
            for way, way_name in WAYS.items():
                rows(bench, f"{name}, {way_name}", said[workload], way, rounds)
            for way, way_name in MODULE_WAYS.items():
                if way in said[workload]:
                    rows(bench, f"{name}, WebAssembly, {way_name}", said[workload], way, rounds)


if __name__ == "__main__":
    main()
