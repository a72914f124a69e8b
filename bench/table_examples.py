#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The libraries of examples/ answer questions about a graph and about orders with less of the server's processor time than it
takes to hand a client the values that it would need, and 5 times as many as functions of Redis in Lua do.

The graph has ego-Facebook's shape: people within two friendships of one, and the 10 who share most friends with one. Of 20,000
orders those that were paid or sent, by region. A network 64-32-16-10 reads one digit, or 100: there the function computes what the client
would, so a client that fetches once and computes itself costs the server less. All libraries and data are those of the
examples; clients are C by hiredis (table_examples.c), the Lua is table_examples.lua, and all come to the same sums. A client "with the
weights" has fetched them before; so has the Lua. Of one connection that waits for each answer.
"""
import subprocess

import common
import table_peers

ROUNDS = 3
EXAMPLES = common.ROOT / "examples"
DATA = {"graph": ("./friends.py make | ./friends.py load", "graph.js"),
        "aggregate": ("./orders.py", "orders.js"),
        "network": ("./digits.py", "network.js")}
HOWS = {"gets": "client, a GET a value", "mget": "client, MGETs of 100", "part": "client, GETRANGEs",
        "kept": "client with the weights", "call": "FCALL"}
# example, workload, what it is, calls of a round by HOW
WORKLOADS = (
    ("graph", "reach", "people within 2 friendships", {"gets": 10, "mget": 100, "call": 2000}),
    ("graph", "suggest", "10 suggestions", {"gets": 10, "mget": 100, "call": 1000}),
    ("aggregate", "totals", "totals of 20,000 orders", {"mget": 10, "part": 6, "call": 200}),
    ("network", "digit", "one digit", {"gets": 200, "mget": 400, "kept": 1000, "call": 2000}),
    ("network", "digits", "100 digits", {"mget": 100, "kept": 200, "call": 200}),
)
# More than the default, which a first call for somebody with very many friends may need before it is compiled, while the
# compiler waits for the same core.
CALL_MS = 1000
LUA_SHARE = 10      # Redis calls that many times fewer functions, for they take longer
WARM_CALLS = {"reach": 6000, "suggest": 6000, "totals": 300, "digit": 20000, "digits": 500}
# What a FCALL is held against, how many times as many answers a second of the server it must be, where that is claimed.
CLIENT_TARGET, LUA_TARGET = (">=", 1), (">=", 5)


class Ours(table_peers.Ours):
    def command(self):
        tenants = self.folder / "tenants.json"
        common.run([self.program, "tenant", "add", "default", f"call_ms={CALL_MS}", "--no-password", "--tenants", tenants])
        return [*super().command(), "--tenants", tenants]


class Answers:
    """What one connection was answered in a round."""

    def __init__(self, bench, server, work, how, count, seed):
        begin_s = server.cpu_s()
        said = bench.measure("table_examples", work, how, server.port, count, seed)
        server_s = server.cpu_s() - begin_s
        self.sum, self.latency_us, self.ms = said["sum"], said["latency_us"], said["wall_s"] * 1e3 / count
        self.per_s, self.per_cpu_s = count / said["wall_s"], count / max(server_s, 1e-9)


def fill(bench, server, example):
    """The data of an example, as its README says, in an empty table."""
    make, library = DATA[example]
    with server.wire() as wire:
        wire.call("FLUSHALL")
        source = "bench/table_examples.lua" if server.name == "redis" else f"examples/{example}/{library}"
        wire.call("FUNCTION", "FLUSH")
        wire.call("FUNCTION", "LOAD", (common.ROOT / source).read_bytes())
    done = subprocess.run(f"{make} | redis-cli -p {server.port} --pipe", shell=True, cwd=EXAMPLES / example,
                          env=bench.environment, capture_output=True, text=True)
    if done.returncode or "errors: 0" not in done.stdout:
        raise common.Failed(example, done.returncode, done.stdout + done.stderr)


def count_of(bench, server, how, calls):
    shared = LUA_SHARE if how == "call" and server.name == "redis" else 1
    return max(calls // shared // (4 if bench.quick else 1), 1)


def check_sums(bench, servers, work, hows):
    found = {(server.name, how): Answers(bench, server, work, how, 3, 99).sum for server in servers for how in hows}
    if len(set(found.values())) != 1:
        raise common.Failed(work, 1, f"answers differ: {found}")


def measure(bench, servers, work, what, calls, rounds, lines):
    check_sums(bench, servers, work, calls)
    Answers(bench, servers[0], work, "call", WARM_CALLS[work], 7)
    taken = {(server.name, how): [] for server in servers for how in calls}
    for turn in range(rounds):
        for how, count in calls.items():
            for server in servers:
                taken[server.name, how].append(
                    Answers(bench, server, work, how, count_of(bench, server, how, count), turn + 1))
    ours, *others = servers
    mine, claimed = taken[ours.name, "call"], work not in ("digit", "digits")
    for server in others:
        for how in calls:
            if how == "gets":
                continue
            theirs, name = taken[server.name, how], f"{server.name}: {HOWS[how]}"
            target = (LUA_TARGET if how == "call" else CLIENT_TARGET) if claimed else None
            table_peers.pair_row(bench, what, mine, name, theirs, target)
            table_peers.pair_row(bench, f"{what}, one after the other", mine, name, theirs, by="per_s", unit="/s")
    lines += [table_peers.latency_line(f"{what}, {HOWS[how]}", server.name, taken[server.name, how])
              for how in calls for server in servers]
    bench.say(f"{what}: done")


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours, redis = Ours(bench), table_peers.Redis(bench)
        able = bench.use([ours, redis])
        if ours not in able:
            return
        bench.program("table_examples")
        rounds, lines, filled = bench.rounds(ROUNDS), [], None
        with table_peers.running(able):
            for example, work, what, calls in WORKLOADS:
                if example != filled:
                    for server in able:
                        fill(bench, server, example)
                    filled = example
                measure(bench, able, work, what, calls, rounds, lines)
        bench.table(table_peers.LATENCY_HEADINGS, lines)


if __name__ == "__main__":
    main()
