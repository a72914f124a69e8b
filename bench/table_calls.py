#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An empty storage function is called at least as often as Redis calls an empty Lua function at -P 16; a walk over the
friends of friends of friends of a node in one call is at least 60 times as fast as a client that walks by pipelined
MGETs, and 40 times as fast as a Lua function of Redis; 4 bytes of a value of 4 KiB by FCALL come with at least 20 times
fewer bytes on the wire and 3 times as often as the whole value by GET, and so do those of 50 values by one FCALL, against
one MGET.

The graph has 100,000 nodes with 50 friends on average, kept as 32-bit numbers in one value a node; a walk of 3 hops
sums the lengths of about 2,550 lists (khop.c, which also is the client, by hiredis; the same walks everywhere, which
must give the same sum). In JavaScript the lists of all friends of a node are opened together (kv.follow()), and of
those of the last hop only the lengths are asked for (kv.lengths()); for comparison also one by one; a module of
WebAssembly does it together (table_calls_wasm.c); in Lua the last hop asks only for lengths. Wall times of walks are
those of one connection that waits for each answer; /cpu-s are calls by a second of the server's processor time, by
redis-benchmark and our own client (load.c), after functions have been called long enough to be compiled. Keys of the
parts come opened (open-keys), for comparison also as text that the function opens. With one key a call most of the cost
is the request, the less the more of them come at once.
"""
import common
import table_peers

ROUNDS = 5
NODES, DEGREE, DEPTH, GRAPH_SEED = 100_000, 50, 3, 11
# Walks in a round; the client without pipelining is slow.
WALKS = {"gets": 4, "mget": 40, "strlen": 40, "call": 400, "one": 400, "module": 400}
WALK_NAMES = {"gets": "client, a GET a node", "mget": "client, MGETs of 100 pipelined",
              "strlen": "client, the last hop by STRLEN", "one": "FCALL, a kv.open() a node",
              "module": "FCALL of a module"}
VALUE_BYTES, VALUES, PARTS = 4096, 10_000, 50
EMPTY_REQUESTS, PART_REQUESTS, WALK_REQUESTS = 300_000, 200_000, 400
PIPELINES = (16, 64)
# Before anything is counted; our compilers work beside the first calls, and their time would be charged to these.
WARM_CALLS = {("FCALL", "noop", "0"): 100_000, ("FCALL", "part", "1", "KEY"): 100_000,
              ("FCALL", "part_named", "1", "KEY"): 100_000, ("FCALL", "parts", str(PARTS), *["KEY"] * PARTS): 4_000,
              ("FCALL", "parts_named", str(PARTS), *["KEY"] * PARTS): 4_000,
              ("FCALL", "khop", "0", "NUMBER", str(DEPTH)): 2_000, ("FCALL", "one", "0", "NUMBER", str(DEPTH)): 2_000,
              ("FCALL", "module", "0", "NUMBER", str(DEPTH)): 2_000}

LUA = b"""#!lua name=bench
local function walk(node, depth)
  local list = redis.call('GET', node)
  local sum = #list / 4
  for i = 1, #list, 4 do
    local a, b, c, d = string.byte(list, i, i + 3)
    local friend = string.format('%.0f', a + b * 256 + c * 65536 + d * 16777216)
    if depth == 2 then sum = sum + redis.call('STRLEN', friend) / 4
    else sum = sum + walk(friend, depth - 1) end
  end
  return sum
end
redis.register_function{function_name='noop', callback=function() end, flags={'no-writes'}}
redis.register_function{function_name='khop', callback=function(keys, args) return walk(args[1], tonumber(args[2])) end,
                        flags={'no-writes'}}
redis.register_function{function_name='one', callback=function(keys, args) return walk(args[1], tonumber(args[2])) end,
                        flags={'no-writes'}}
local function parts(keys)
  local parts = {}
  for i = 1, #keys do parts[i] = redis.call('GETRANGE', keys[i], 0, 3) end
  return parts
end
local function part(keys) return redis.call('GETRANGE', keys[1], 0, 3) end
redis.register_function{function_name='parts', callback=parts, flags={'no-writes'}}
redis.register_function{function_name='parts_named', callback=parts, flags={'no-writes'}}
redis.register_function{function_name='part', callback=part, flags={'no-writes'}}
redis.register_function{function_name='part_named', callback=part, flags={'no-writes'}}
"""

JS = b"""#!js name=bench
const friends = [0, 1, 2, 3].map(() => new Int32Array(128));
function walk(list, depth) {
  const count = kv.len(list) >>> 2, found = friends[depth];
  let sum = count;
  if (depth === 2) {
    kv.lengths(list, 0, count, found);
    for (let i = 0; i < count; i++) sum += found[i] >>> 2;
  } else {
    kv.follow(list, 0, count, found, 300);
    for (let i = 0; i < count; i++) sum += walk(found[i], depth - 1);
  }
  return sum;
}
function oneByOne(node, depth) {
  const list = kv.open(node), count = kv.len(list) >>> 2;
  if (depth === 1) return count;
  let sum = count;
  for (let i = 0; i < count; i++) sum += oneByOne(kv.u32(list, i), depth - 1);
  return sum;
}
const found = new Int32Array(1024);
const first = (handles, count) => {
  const numbers = [];
  for (let i = 0; i < count; i++) numbers.push(kv.u32(handles[i], 0));
  return numbers;
};
redis.registerFunction('noop', () => {}, {flags: ['no-writes']});
redis.registerFunction('khop', (keys, args) => walk(kv.open(+args[0]), +args[1]), {flags: ['no-writes']});
redis.registerFunction('one', (keys, args) => oneByOne(+args[0], +args[1]), {flags: ['no-writes']});
redis.registerFunction('parts', (keys) => first(keys, keys.length), {flags: ['no-writes', 'open-keys']});
redis.registerFunction('parts_named', (keys) => first(found, kv.openAll(keys, found, 4)), {flags: ['no-writes']});
redis.registerFunction('part', (keys) => kv.u32(keys[0], 0), {flags: ['no-writes', 'open-keys']});
redis.registerFunction('part_named', (keys) => kv.u32(kv.open(keys[0]), 0), {flags: ['no-writes']});
"""


def prepare(bench, server, library):
    with server.wire() as wire:
        wire.call("FUNCTION", "LOAD", "REPLACE", library)
    bench.measure("khop", "fill", server.port, NODES, DEGREE, GRAPH_SEED)
    table_peers.fill(bench, server, VALUES, VALUE_BYTES)
    for source in table_peers.module(bench, "table_calls_wasm.c") if server.name == "ours" else []:
        with server.wire() as wire:
            wire.call("FUNCTION", "LOAD", "REPLACE", b"#!wasm name=module\n" + source.read_bytes())
        server.has_module = True
    for words, count in WARM_CALLS.items():
        if words[1] == "module" and "module" not in ways(server):
            continue
        requests = count if server.name == "ours" else count // 100
        table_peers.load(bench, server, words, keys=VALUES, requests=requests, pipeline=4, missing=True)
    bench.say(f"{server.name}: filled, and its functions called")


def empty_calls(bench, servers, rounds, lines):
    taken = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            taken[server.name].append(table_peers.redis_benchmark(
                bench, server, ("FCALL", "noop", "0"), pipeline=16, keys=NODES, value_bytes=VALUE_BYTES,
                requests=EMPTY_REQUESTS // (4 if bench.quick else 1)))
    add_rows(bench, "FCALL of an empty function -P 16", servers, taken, (">=", 1.0), lines)


def add_rows(bench, what, servers, taken, target, lines):
    ours, *others = servers
    for other in others:
        table_peers.pair_row(bench, what, taken[ours.name], other.name, taken[other.name], target)
    lines += [table_peers.latency_line(what, server.name, taken[server.name]) for server in servers]
    bench.say(f"{what}: done")


def ways(server):
    """How SERVER can be walked: a module is not for all."""
    return [how for how in WALKS if how != "module" or getattr(server, "has_module", False)]


class Walks:
    """Walks by one connection; HOW is that of khop.c."""

    def __init__(self, bench, server, how, turn):
        begin_s = server.cpu_s()
        count = max(WALKS[how] // (4 if bench.quick else 1), 1)
        said = bench.measure("khop", how, server.port, NODES, DEPTH, count, turn + 1)
        server_s = server.cpu_s() - begin_s
        self.how, self.sum, self.calls = how, said["sum"], count
        self.latency_us, self.ms = said["latency_us"], said["wall_s"] * 1e3 / count
        self.per_s, self.per_cpu_s = count / said["wall_s"], count / max(server_s, 1e-9)


def check_sums(bench, servers, turn):
    """Everybody walks the same ways and must come to the same end."""
    found = {}
    for server in servers:
        for how in ways(server):
            said = bench.measure("khop", how, server.port, NODES, DEPTH, 1, turn + 1)
            found[f"{server.name}, {how}"] = said["sum"]
    if len(set(found.values())) != 1:
        raise common.Failed("khop", 1, f"walks differ: {found}")


def walk_rows(bench, servers, taken, how_mine, what, rounds):
    ours = servers[0]
    mine = taken[ours.name, how_mine]
    for how, name in WALK_NAMES.items():
        for server in servers[:1] if how in ("one", "module") else servers[1:] + servers[:1]:
            if how == how_mine or how not in ways(server):
                continue
            theirs = taken[server.name, how]
            ratios = [other.ms / one.ms for one, other in zip(mine, theirs)]
            target = (">=", 60) if how in ("gets", "mget") and server is not ours and how_mine == "call" else None
            bench.row(what, f"{common.median([one.ms for one in mine]):.3f} ms", f"{name}, {server.name}",
                      f"{common.median([one.ms for one in theirs]):.2f} ms", common.median(ratios), target, n=rounds,
                      spread=common.span(ratios))


def walks(bench, servers, rounds, lines):
    check_sums(bench, servers, rounds)
    ours = servers[0]
    taken = {(server.name, how): [] for server in servers for how in ways(server)}
    for turn in range(rounds):
        for how in WALKS:
            for server in servers:
                if how in ways(server):
                    taken[server.name, how].append(Walks(bench, server, how, turn))
    for mine, what in (("call", "a walk in one FCALL, times as fast"), ("module", "the same of a module")):
        if mine in ways(ours):
            walk_rows(bench, servers, taken, mine, what, rounds)
    for server in servers:
        lines += [table_peers.latency_line(f"walk, {WALK_NAMES.get(how, 'FCALL')}", server.name,
                                           taken[server.name, how]) for how in ways(server)]
    bench.say("walks of one connection: done")


def walks_at_once(bench, servers, rounds, lines):
    """Calls of walks as throughput, for the processor time that each costs the server."""
    taken = {server.name: [] for server in servers}
    of_module = []
    ours = servers[0]
    for turn in range(rounds):
        for server in servers:
            taken[server.name].append(walk_load(bench, server, "khop", turn, 20 if server is ours else 1))
        if "module" in ways(ours):
            of_module.append(walk_load(bench, ours, "module", turn, 20))
    add_rows(bench, "walk by FCALL, 4 connections", servers, taken, (">=", 40), lines)
    if of_module:
        for server in servers[1:]:
            table_peers.pair_row(bench, "the same of a module", of_module, server.name, taken[server.name])
        lines.append(table_peers.latency_line("walk by FCALL of a module", ours.name, of_module))


def walk_load(bench, server, function, turn, times):
    return table_peers.load(bench, server, ("FCALL", function, "0", "NUMBER", str(DEPTH)), connections=4, keys=NODES,
                            seed=turn + 1, requests=WALK_REQUESTS * times // (4 if bench.quick else 1))


def parts(bench, servers, rounds, lines, pipeline):
    """4 bytes of a value against the whole, at our server and at Redis."""
    ours = servers[0]
    asked = {"GET": ("GET", "KEY"), "FCALL": ("FCALL", "part", "1", "KEY"), "GETRANGE": ("GETRANGE", "KEY", "0", "3")}
    taken = {(server.name, what): [] for server in servers for what in asked}
    by_name = []
    for _ in range(rounds):
        for what, words in asked.items():
            for server in servers:
                taken[server.name, what].append(part_load(bench, server, words, pipeline))
        by_name.append(part_load(bench, ours, ("FCALL", "part_named", "1", "KEY"), pipeline))
    one, whole = taken[ours.name, "FCALL"], taken[ours.name, "GET"]
    wire = [(load.more["sent_bytes"] + load.more["received_bytes"]) / load.requests for load in (whole[0], one[0])]
    what = f"4 bytes of 4 KiB by FCALL -P {pipeline}"
    bench.row(f"{what}: bytes on the wire of a request and its reply", f"{wire[1]:.1f}", "our GET", f"{wire[0]:.1f}",
              wire[0] / wire[1], (">=", 20))
    table_peers.pair_row(bench, what, one, "our GET", whole, (">=", 3), by="per_s", unit="/s")
    table_peers.pair_row(bench, what, one, "our GET", whole, (">=", 3))
    table_peers.pair_row(bench, what, one, "our FCALL, by kv.open()", by_name)
    for server in servers[1:]:
        for peer in asked:
            table_peers.pair_row(bench, what, one, f"{server.name} {peer}", taken[server.name, peer],
                                 (">=", 3) if peer == "GET" else None)
    lines += [table_peers.latency_line(f"4 bytes of 4 KiB, {how} -P {pipeline}", name, loads)
              for (name, how), loads in taken.items()]


def part_load(bench, server, words, pipeline):
    requests = PART_REQUESTS // (4 if bench.quick else 1) // (4 if words[0] == "GET" else 1)
    return table_peers.load(bench, server, words, pipeline=pipeline, keys=VALUES, requests=requests)


def many_parts(bench, servers, rounds, lines):
    """The same of many values with one request, as who wants many would ask: one FCALL against one MGET."""
    ours, keys = servers[0], ["KEY"] * PARTS
    asked = {"MGET": ("MGET", *keys), "FCALL": ("FCALL", "parts", str(PARTS), *keys),
             "FCALL, by kv.openAll()": ("FCALL", "parts_named", str(PARTS), *keys)}
    taken = {(server.name, what): [] for server in servers for what in asked}
    for _ in range(rounds):
        for what, words in asked.items():
            for server in servers:
                taken[server.name, what].append(table_peers.load(
                    bench, server, words, connections=10, pipeline=16, keys=VALUES,
                    requests=PART_REQUESTS // PARTS * 4 // (4 if bench.quick else 1) // (4 if what == "MGET" else 1)))
    one, whole = taken[ours.name, "FCALL"], taken[ours.name, "MGET"]
    wire = [(load.more["sent_bytes"] + load.more["received_bytes"]) / load.requests for load in (whole[0], one[0])]
    what = f"4 bytes of each of {PARTS} values of 4 KiB by one FCALL"
    bench.row(f"{what}: bytes on the wire", f"{wire[1]:.0f}", "our MGET", f"{wire[0]:.0f}", wire[0] / wire[1], (">=", 20))
    table_peers.pair_row(bench, what, one, "our MGET", whole, (">=", 3), by="per_s", unit="/s")
    for server in servers:
        for peer in asked:
            if (server, peer) != (ours, "FCALL") and (server is ours or "," not in peer):
                table_peers.pair_row(bench, what, one, f"{server.name} {peer}", taken[server.name, peer],
                                     (">=", 3) if peer == "MGET" else None)
    lines += [table_peers.latency_line(f"{PARTS} keys, {what}", name, loads) for (name, what), loads in taken.items()]


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours, redis = table_peers.Ours(bench), table_peers.Redis(bench)
        able = bench.use([ours, redis])
        if ours not in able:
            return
        bench.program("khop")
        rounds, lines = bench.rounds(ROUNDS), []
        with table_peers.running(able):
            for server in able:
                prepare(bench, server, JS if server is ours else LUA)
            for part in (empty_calls, walks, walks_at_once):
                part(bench, able, rounds, lines)
            for pipeline in PIPELINES:
                parts(bench, able, rounds, lines, pipeline)
            many_parts(bench, able, rounds, lines)
        bench.table(table_peers.LATENCY_HEADINGS, lines)


if __name__ == "__main__":
    main()
