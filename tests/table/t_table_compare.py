#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_compare.py - the same random commands, right and wrong ones, go to Redis and to us, and get the same answers,
byte for byte where these do not depend on a clock or on an order that nobody promises."""
import sys

sys.dont_write_bytecode = True
from served import *

ROUNDS = int(os.environ.get("DOR_ROUNDS", "120"))
REQUESTS_AT_ONCE = 64
CLOCK_SLACK_MS = 5000
SHORT, SHORT_S = b"20", 0.06    # a time to live, and how long to wait until it is over

rng = make_seed()
WRONG_GREETINGS = [["HELLO", b"9"], ["HELLO", b"x"], ["HELLO", b"2", "FOO"], ["HELLO", b"2", "SETNAME"], ["AUTH"]]
# Not in a transaction: what may hand a connection over is refused there.
GREETINGS = [*WRONG_GREETINGS, ["AUTH", b"a", b"b", b"c"]]
# Flags by which clients choose where and when to send a command.
TOLD_FLAGS = {("+", flag) for flag in (b"write", b"readonly", b"denyoom", b"fast", b"movablekeys", b"no_auth", b"admin",
                                      b"no_multi")}
KEYS = [b"", b"a", b"b", b"key", b"77", b"077", b"-1", b"0", b"4294967295", b"4294967296", b"18446744073709551616",
        b"x" * 300, b"k\r\n\x00\xff", b"h[a]llo", b"hello", "schlüssel".encode(), b"user:1", b"user:2", b"user:10"]
NUMBERS = [b"0", b"1", b"-1", b"7", b"10", b"100", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
           b"1.5", b" 1", b"1 ", b"", b"abc", b"0x10", b"+5", b"00", b"-0"]
FLOATS = NUMBERS + [b"3.0e3", b"0.1", b"-0.5", b"nan", b"inf", b"1e400", b"5.", b".5"]
PATTERNS = [b"*", b"user:*", b"h?llo", b"h[ae]llo", b"h[^x]*", b"[0-9]*", b"\\*", b"h\\[a\\]llo", b"*[", b"", b"user:[1-2]"]
# Far away, or gone at once.
SECONDS = [b"1000", b"100000", b"99999999"]
BAD_TIMES = [b"0", b"-1", b"9223372036854775807", b"92233720368547758070", b"x", b""]


def key():
    return rng.choice(KEYS)


def value():
    return rng.choice([
        lambda: rng.choice(NUMBERS), lambda: rng.randbytes(rng.randrange(40)), lambda: b"v" * rng.randrange(2000),
        lambda: b"some words", lambda: b""])()


def any_case(word):
    return rng.choice([word, word.lower(), word.capitalize()])


def set_options():
    words = []
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        words += rng.choice([
            ["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EX", rng.choice(SECONDS)], ["PX", rng.choice(SECONDS) + b"000"],
            ["EX", rng.choice(BAD_TIMES)], ["PX", rng.choice(BAD_TIMES)], ["EX"], ["FOO"],
            ["EXAT", str(int(time.time()) + 5000)], ["PXAT", str(int(time.time() * 1000) + 5_000_000)], ["EXAT", b"1"]])
    return [any_case(word) if isinstance(word, str) else word for word in words]


def when(command):
    """A time for EXPIRE and its kin: far away, past, or none at all."""
    if rng.random() < 0.25:
        # The end of all time is "never" to us.
        return rng.choice([bad for bad in BAD_TIMES[1:] if (command, bad) != ("PEXPIREAT", b"9223372036854775807")])
    ahead = int(rng.choice(SECONDS))
    base = int(time.time()) if command.endswith("AT") else 0
    return str((base + ahead) * (1000 if command.startswith("P") else 1)).encode()


def expire():
    command = rng.choice(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
    options = rng.choice([[], [], [], ["NX"], ["XX"], ["GT"], ["LT"], ["NX", "XX"], ["GT", "LT"], ["XX", "GT"], ["FOO"]])
    return [command, key(), when(command), *map(any_case, options)]


def several(least=1, most=5):
    return [key() for _ in range(rng.randrange(least, most))]


def pairs():
    return [word for one in several() for word in (one, value())]


def malformed():
    return rng.choice([
        ["NOSUCH"], ["NOSUCH", b"a", b"b" * 200, b"\r\n'\\"], ["GET"], ["GET", b"a", b"b"], ["SET", b"a"], ["MSET", b"a"],
        ["MSET", b"a", b"b", b"c"], ["MGET"], ["DEL"], ["INCRBY", b"a"], ["EXPIRE", b"a"], ["GETRANGE", b"a", b"x", b"1"],
        ["GETRANGE", b"a", b"1"], ["SETRANGE", b"a", b"-1", b"x"], ["SETRANGE", b"a", b"536870912", b"x"],
        ["SETRANGE", b"a", b"x", b"x"], ["SELECT", b"1"], ["SELECT", b"x"], ["SELECT"], ["ECHO"], ["PING", b"a", b"b"],
        ["CLIENT"], ["CLIENT", "NOSUCH"], ["CLIENT", "SETNAME", b"two words"], ["CLIENT", "SETNAME"],
        ["CONFIG"], ["CONFIG", "NOSUCH"], ["MEMORY", "NOSUCH"], ["COMMAND", "NOSUCH"], ["TYPE"], ["KEYS"], ["SCAN", b"x"],
        ["SCAN", b"0", "COUNT", b"0"], ["SCAN", b"0", "COUNT", b"x"], ["SCAN", b"0", "FOO"], ["FLUSHALL", "FOO"],
        ["FCALL"], ["FCALL", b"nosuch"], ["FCALL", b"nosuch", b"x"], ["FCALL", b"nosuch", b"0"],
        ["FCALL", b"nosuch", b"3", b"a"], ["FCALL", b"nosuch", b"-1"], ["FCALL_RO", b"nosuch", b"0"], ["FUNCTION"],
        ["FUNCTION", "NOSUCH"], ["FUNCTION", "DELETE", b"nosuch"], ["FUNCTION", "LOAD", b"no shebang"],
        ["FUNCTION", "LOAD", b"#!nosuch name=x\n"], ["FUNCTION", "LIST", b"x"], ["FUNCTION", "KILL"],
        ["DBSIZE", b"a"], ["PERSIST"], ["WATCH"],
        ["CLIENT", "KILL"], ["CLIENT", "KILL", b"1.2.3.4:5"], ["CLIENT", "KILL", "ID", b"x"], ["CLIENT", "KILL", "ID", b"0"],
        ["CLIENT", "KILL", "ID", b"999999999"], ["CLIENT", "KILL", "TYPE", b"x"], ["CLIENT", "KILL", "FOO", b"x"],
        ["CLIENT", "KILL", "SKIPME", b"x"], ["CLIENT", "LIST", "TYPE", b"x"], ["CLIENT", "LIST", "ID", b"x"],
        ["CLIENT", "LIST", "FOO"], ["CLIENT", "REPLY", "FOO"], ["CLIENT", "ID", b"x"], ["CLIENT", "NO-EVICT", b"x"],
        ["CLIENT", "GETREDIR"], ["CONFIG", "GET"], ["CONFIG", "GET", b"nosuch"], ["COMMAND", "INFO", b"nosuch"],
        ["COMMAND", "DOCS", b"nosuch"], ["COMMAND", "COUNT", b"x"], ["MEMORY", "USAGE"], ["MEMORY", "USAGE", b"a", "FOO"],
        ["MEMORY", "USAGE", b"a", "SAMPLES", b"x"], ["MEMORY", "USAGE", b"a", "SAMPLES"], ["OBJECT", "NOSUCH", b"a"],
        ["OBJECT", "ENCODING"], ["TIME", b"x"], ["LASTSAVE", b"x"], ["BGSAVE", "FOO"],
        ["GETEX", b"a", "EX"], ["GETEX", b"a", "EX", b"1", "PX", b"1"], ["GETEX", b"a", "PERSIST", "EX", b"9"],
        ["GETEX", b"a", "NX"], ["SCAN", b"0", "MATCH"], ["SCAN", b"0", "TYPE", b"x", "COUNT", b"-1"], ["SCAN", b"-1"], ["SCAN", b""], ["SCAN", b"+"], ["SCAN", b" 1"], ["SCAN", b"99999999999999999999"],
        ["SCAN", b"+9\x00x"],
        *WRONG_GREETINGS, ["SAVE", b"a"], ["RANDOMKEY", b"a"], [b""], [b"\r\n"], ["EXISTS"], ["TTL", b"a", b"b"], ["INCRBYFLOAT", b"a"]])


COMMANDS = [
    (20, lambda: ["SET", key(), value(), *set_options()]),
    (20, lambda: ["GET", key()]),
    (4, lambda: ["SETNX", key(), value()]),
    (4, lambda: ["GETSET", key(), value()]),
    (4, lambda: ["GETDEL", key()]),
    (6, lambda: ["GETRANGE", key(), rng.choice(NUMBERS[:8]), rng.choice(NUMBERS[:8])]),
    (6, lambda: ["SETRANGE", key(), str(rng.randrange(3000)), value()]),
    (6, lambda: ["APPEND", key(), value()]),
    (6, lambda: ["STRLEN", key()]),
    (6, lambda: ["MGET", *several()]),
    (6, lambda: ["MSET", *pairs()]),
    (2, lambda: ["MSETNX", *pairs()]),
    (3, lambda: [rng.choice(["SETEX", "PSETEX"]), key(), rng.choice(SECONDS + BAD_TIMES[:2]), value()]),
    (3, lambda: ["GETEX", key(), *rng.choice([[], ["PERSIST"], ["EX", rng.choice(SECONDS)], ["EX", b"0"], ["FOO"]])]),
    (2, lambda: ["GETEX", key(), rng.choice(["PX", "EX"]), rng.choice(BAD_TIMES + SECONDS)]),
    (2, lambda: ["GETEX", key(), *rng.choice([["EXAT", str(int(time.time()) + 5000)], ["EXAT", b"1"], ["PXAT", b"x"],
                                              ["PXAT", str(int(time.time() * 1000) + 5_000_000)]])]),
    (2, lambda: rng.choice(LOOSE)()),
    (2, lambda: ["SUBSTR", key(), rng.choice(NUMBERS[:8]), rng.choice(NUMBERS[:8])]),
    (2, lambda: ["TOUCH", *several()]),
    (6, lambda: ["DEL", *several()]),
    (3, lambda: ["UNLINK", *several()]),
    (5, lambda: ["EXISTS", *several()]),
    (5, lambda: [rng.choice(["INCR", "DECR"]), key()]),
    (5, lambda: [rng.choice(["INCRBY", "DECRBY"]), key(), rng.choice(NUMBERS)]),
    (5, lambda: ["INCRBYFLOAT", key(), rng.choice(FLOATS)]),
    (10, expire),
    (4, lambda: ["TTL", key()]),
    (4, lambda: ["PTTL", key()]),
    (4, lambda: [rng.choice(["EXPIRETIME", "PEXPIRETIME"]), key()]),
    (4, lambda: ["PERSIST", key()]),
    (3, lambda: ["TYPE", key()]),
    (2, lambda: ["KEYS", rng.choice(PATTERNS)]),
    (2, lambda: ["PING"]),
    (2, lambda: ["PING", value()]),
    (2, lambda: ["ECHO", value()]),
    (1, lambda: ["SELECT", b"0"]),
    (1, lambda: ["CLIENT", "GETNAME"]),
    (1, lambda: ["CLIENT", "SETNAME", rng.choice([b"somebody", b"", b"x"])]),
    (1, lambda: [rng.choice(["FLUSHALL", "FLUSHALL", "FLUSHDB"]), *rng.choice([[], ["ASYNC"], ["SYNC"]])]),
    (8, malformed),
    (4, lambda: ["MULTI"]),
    (6, lambda: ["EXEC"]),
    (2, lambda: ["DISCARD"]),
    (2, lambda: ["WATCH", *several()]),
    (1, lambda: ["UNWATCH"]),
]
# Here what is said depends on the server; whether it is nothing, an error or something of a kind does not.
LOOSE = [
    lambda: ["RANDOMKEY"], lambda: ["MEMORY", "USAGE", key()], lambda: ["MEMORY", "USAGE", key(), "SAMPLES", b"5"],
    lambda: ["OBJECT", "REFCOUNT", key()], lambda: ["OBJECT", "ENCODING", key()], lambda: ["CLIENT", "ID"], lambda: ["CLIENT", "INFO"], lambda: ["CLIENT", "LIST"],
    lambda: ["CLIENT", "LIST", "TYPE", "normal"], lambda: ["CLIENT", "LIST", "ID", b"1", b"2"], lambda: ["TIME"],
    lambda: ["DBSIZE"], lambda: ["COMMAND", "COUNT"], lambda: ["LASTSAVE"], lambda: ["INFO", "keyspace"],
    lambda: ["CONFIG", "GET", "maxmemory"], lambda: ["COMMAND", "DOCS", "get"], lambda: ["SCAN", b"0", "COUNT", b"7"],
    lambda: ["SCAN", b"0", "MATCH", rng.choice(PATTERNS)], lambda: ["COMMAND", "LIST"]]
LOOSE_WORDS = {tuple(one()[:2 if one()[0] in ("CLIENT", "MEMORY", "OBJECT", "CONFIG", "COMMAND") else 1]) for one in LOOSE}
WEIGHTS = [weight for weight, _ in COMMANDS]
CLOCKED = {b"TTL": 1000, b"PTTL": 1, b"EXPIRETIME": 1000, b"PEXPIRETIME": 1}
EXPIRING = (b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT")


def command():
    words = rng.choices(COMMANDS, WEIGHTS)[0][1]()
    return [words[0] if rng.random() < 0.9 or not isinstance(words[0], str) else any_case(words[0]), *words[1:]]


def name_of(words):
    return (words[0] if isinstance(words[0], bytes) else words[0].encode()).upper()


def is_loose(words):
    texts = tuple(word.upper() if isinstance(word, str) else word for word in words[:2])
    return texts in LOOSE_WORDS or texts[:1] in LOOSE_WORDS


class Queue:
    """What a connection has waiting between MULTI and EXEC, so that EXEC's answers can be read by their commands."""

    def __init__(self):
        self.open, self.waiting = False, []

    def commands_of(self, words, reply):
        """The commands whose answers REPLY to WORDS holds; None when it is the answer to WORDS itself."""
        name = name_of(words)
        if name == b"MULTI" and reply == ("+", b"OK"):
            self.open, self.waiting = True, []
        elif reply == ("+", b"QUEUED"):
            self.waiting.append(words)
        elif name in (b"EXEC", b"DISCARD") and self.open:
            done, self.open, self.waiting = self.waiting, False, []
            return done if reply[0] == "*" and reply[1] is not None else None
        return None


over = set()  # keys whose time came before anything else was asked


def alike(words, theirs, ours):
    """Whether two answers to WORDS say the same."""
    if theirs == ours:
        return True
    if name_of(words) == b"MEMORY" and len(words) > 2 and words[2] in over and ours[1] is None:
        return True  # Redis measures a key whose time has come as long as nobody has looked
    name = name_of(words)
    if is_loose(words):
        return theirs[0] == ours[0] and (theirs[1] is None) == (ours[1] is None)
    if name in CLOCKED and theirs[0] == ours[0] == ":":
        return theirs[1] > 0 and abs(theirs[1] - ours[1]) * CLOCKED[name] <= CLOCK_SLACK_MS
    if name in EXPIRING and theirs[0] == ours[0] == ":" and {word.upper() for word in words[3:]} & {"GT", "LT"}:
        return True  # which of two times is later may be a matter of a millisecond
    if name == b"KEYS" and theirs[0] == ours[0] == "*":
        return sorted(theirs[1]) == sorted(ours[1])
    return False


def differences(queue, requests, theirs, ours):
    for words, their_reply, our_reply in zip(requests, theirs, ours):
        inner = queue.commands_of(words, their_reply)
        if inner is not None and our_reply[0] == "*" and len(our_reply[1] or ()) == len(inner):
            pairs_of_replies = zip(inner, their_reply[1], our_reply[1])
        else:
            pairs_of_replies = [(words, their_reply, our_reply)]
        for one, their_one, our_one in pairs_of_replies:
            if not alike(one, their_one, our_one):
                yield f"{one!r:.300}\n  Redis {their_one!r:.300}\n  ours  {our_one!r:.300}"


def short_life(queue, theirs, ours):
    """A key whose time comes before anything else is asked."""
    words = ["SET", key(), value(), "PX", SHORT]
    found = list(differences(queue, [words], [theirs.call(*words)], [ours.call(*words)]))
    time.sleep(SHORT_S)
    over.add(words[1])
    return found


def scanned(wire, *options):
    """All keys that a SCAN from begin to end meets."""
    cursor, keys = b"0", set()
    while True:
        kind, reply = wire.call("SCAN", cursor, *options)
        if kind == "-":
            return reply
        cursor = reply[0][1]
        keys.update(one[1] for one in reply[1][1])
        if cursor == b"0":
            return keys


def same_keys(redis, ours):
    """What is left of both tables, key by key."""
    for options in ([], ["COUNT", "3"], ["MATCH", "user:*"], ["TYPE", "string"], ["TYPE", "list"]):
        theirs, mine = scanned(redis, *options), scanned(ours, *options)
        if theirs != mine:
            yield f"SCAN {options}: Redis {theirs!r:.300}, ours {mine!r:.300}"
    keys = sorted({*scanned(redis), *KEYS})
    for one, their_reply, our_reply in zip(keys, redis.calls([["GET", key] for key in keys]),
                                           ours.calls([["GET", key] for key in keys])):
        if their_reply != our_reply:
            yield f"GET {one!r}: Redis {their_reply!r:.200}, ours {our_reply!r:.200}"
    # Keys whose time has come are counted until somebody looks, as was done above.
    theirs, mine = redis.call("DBSIZE"), ours.call("DBSIZE")
    if theirs != mine:
        yield f"DBSIZE: Redis {theirs!r}, ours {mine!r}"


def test_streams(redis, ours, protocol):
    """One connection each, many requests at once."""
    queue, found = Queue(), []
    with Wire(redis.port, protocol) as their_wire, Wire(ours.port, protocol) as our_wire:
        for _ in range(ROUNDS):
            requests = [command() for _ in range(rng.randrange(1, REQUESTS_AT_ONCE))]
            found += differences(queue, requests, their_wire.calls(requests), our_wire.calls(requests))
            if rng.random() < 0.2 and not queue.open:
                found += short_life(queue, their_wire, our_wire)
            if len(found) > 20:
                break
        for wire in (their_wire, our_wire):
            wire.call("DISCARD")
        found += same_keys(their_wire, our_wire)
    ok(not found, f"RESP{protocol}: the same answers as Redis", *found[:20])


def test_rivals(redis, ours):
    """Several connections, one request each in turn: what one changes fails the transactions of the others."""
    found, pairs_of_wires = [], [(Wire(redis.port), Wire(ours.port), Queue()) for _ in range(4)]
    for _ in range(ROUNDS * 8):
        theirs, mine, queue = rng.choice(pairs_of_wires)
        words = command()
        if name_of(words) in (b"GET", b"STRLEN"):
            words = rng.choice([["WATCH", key()], ["MULTI"], ["EXEC"]])
        found += differences(queue, [words], [theirs.call(*words)], [mine.call(*words)])
        if rng.random() < 0.01 and not queue.open:
            found += short_life(queue, theirs, mine)
        if len(found) > 20:
            break
    for wires in pairs_of_wires:
        for wire in wires[:2]:
            wire.close()
    ok(not found, "four rivals: the same answers as Redis", *found[:20])


def test_greetings(redis, ours):
    with Wire(redis.port) as their_wire, Wire(ours.port) as our_wire:
        found = differences(Queue(), GREETINGS, their_wire.calls(GREETINGS), our_wire.calls(GREETINGS))
        names = [reply[1][::2] for reply in
                 (their_wire.call("HELLO", "3"), our_wire.call("HELLO", "3"))]
        ok(not (left := list(found)), "greetings that are refused", *left)
        is_(names[1], names[0], "and what HELLO tells")


def described(wire, names):
    """Arity, flags and places of keys of commands, by name."""
    return {one[1][0][1]: (one[1][1], sorted({*one[1][2][1]} & TOLD_FLAGS), *one[1][3:6])
            for one in wire.call("COMMAND", "INFO", *names)[1] if one[1] is not None}


def test_descriptions(redis, ours):
    """What COMMAND tells of the commands that both have; programs that route requests go by it."""
    with Wire(redis.port) as their_wire, Wire(ours.port) as our_wire:
        names = [one[1][0][1] for one in our_wire.call("COMMAND")[1]]
        theirs, mine = described(their_wire, names), described(our_wire, names)
    ok(len(theirs) > 40 and mine.keys() >= theirs.keys(), "COMMAND tells of all that is served", sorted(mine))
    found = [f"{name}: Redis {theirs[name]}, ours {mine[name]}" for name in theirs if theirs[name] != mine.get(name)]
    ok(not found, "COMMAND describes commands as Redis does", *found)
    page = pathlib.Path("docs/man/dormouse-table.8").read_text().split(".Sh COMMANDS")[1].split("It differs")[0].split()
    missing = [name for name in names if name.decode().upper() not in page]
    ok(not missing, "the manual page names every command", *missing)


def test_inline(redis, ours):
    """Lines as a person types them."""
    lines = [b"PING\r\n", b"ping\n", b"SET  a   b\r\n", b"GET a\r\n", b'SET "a b" "x\\x41\\n\\"y"\r\n', b'GET "a b"\r\n',
             b"SET 'it\\'s' 'q\\n'\r\n", b"GET \"it's\"\r\n", b"\r\nPING\r\n", b"   \r\nPING\r\n", b"NOSUCH a b\r\n",
             b"\tECHO\tword\t\r\n"]
    broken = [b'SET "a\r\n', b"GET 'a\r\n", b'SET "a"b c\r\n', b"*1\r\n+PING\r\n", b"*x\r\n", b"*2\r\n$3\r\nGET\r\n$x\r\n",
              b"*2\r\n$3\r\nGET\r\n$-5\r\n", b"*1\r\n$600000000\r\n", b"*3000000000\r\n", b"x" * 70000,
              b"*1\r\n$3\r\nGET\r\n*1\r\n:4\r\n"]
    for line in lines:
        answers = []
        for server in (redis, ours):
            with Wire(server.port) as wire:
                wire.send(line)
                answers.append(wire.reply())
        is_(answers[1], answers[0], f"inline {line!r}")
    for line in broken:
        answers = []
        for server in (redis, ours):
            with Wire(server.port, timeout=20) as wire:
                try:
                    wire.send(line)
                    said = []
                    while said[-1:] != [b"closed"]:
                        said.append(wire.reply())
                except (Closed, ConnectionError):
                    said.append(b"closed")
                except TimeoutError:
                    said.append(b"still open")
                answers.append(said)
        is_(answers[1], answers[0], f"broken {line[:40]!r}")


def main():
    redis = redis_server()
    if not redis:
        print("1..0 # SKIP redis-server is not installed")
        sys.exit(77)
    ours = our_server()
    for protocol in (2, 3):
        test_streams(redis, ours, protocol)
    test_rivals(redis, ours)
    test_greetings(redis, ours)
    test_descriptions(redis, ours)
    test_inline(redis, ours)
    is_(ours.stop(), 0, "it ends as it should")
    done()


if __name__ == "__main__":
    main()
