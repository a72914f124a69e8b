#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_serve.py - a worker under clients that behave badly or ask for much: half requests, absurd lengths, readers
that do not read, ten thousand that say nothing, values of megabytes in all commands; by epoll and by io_uring."""
import resource
import struct
import sys
import threading

sys.dont_write_bytecode = True
from served import *

LOOPS = ("epoll", "uring")
IDLE = 10000
IDLE_BYTES_MAX = 2048            # of a connection that says nothing, in the worker
SECONDS_MAX = 30
BIG = bytes(range(256)) * (5 << 12)  # 5 MiB


def rss_bytes(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def waits(condition):
    """Whether CONDITION holds before long."""
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def closes(server, data):
    """What is said to DATA before the connection is closed; None when it is not."""
    with Wire(server.port, timeout=SECONDS_MAX) as wire:
        said = []
        try:
            wire.send(data)
            while True:
                said.append(wire.reply())
        except TimeoutError:
            return None
        except (Closed, ConnectionError):
            return said


def test_broken(server):
    def error(text):
        return [("-", b"ERR Protocol error: " + text)]

    cases = [
        (b"*1\r\n$99999999999\r\n", error(b"invalid bulk length")),
        (b"*99999999999\r\n", error(b"invalid multibulk length")),
        (b"*1\r\nPING\r\n", error(b"expected '$', got 'P'")),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n", [("+", b"PONG"), *error(b"invalid bulk length")]),
        (b"*" + b"1" * 70000, error(b"too big mbulk count string")),
        (b"*1\r\n$" + b"1" * 70000, error(b"too big bulk count string")),
        (b"a" * 70000, error(b"too big inline request")),
        (b"GET 'a\r\n", error(b"unbalanced quotes in request")),
        (b"QUIT\r\nPING\r\n", [("+", b"OK")]),
    ]
    for data, want in cases:
        is_(closes(server, data), want, f"{data[:30]!r} ends its connection")


def test_pieces(server):
    """A pipeline in pieces of any length gives the same answers."""
    requests = [encoded("SET", f"key:{i}", b"v" * (i * 7 % 300)) for i in range(200)]
    requests += [encoded("GET", f"key:{i}") for i in range(200)]
    data = b"".join(requests) + b"PING\r\nECHO 'a b'\r\n" + encoded("SET", "big", b"x" * 100000) + encoded("STRLEN", "big")
    want = [("+", b"OK")] * 200 + [("$", b"v" * (i * 7 % 300)) for i in range(200)]
    want += [("+", b"PONG"), ("$", b"a b"), ("+", b"OK"), (":", 100000)]
    for step in (1, 7, 1000, 16384, len(data)):
        with Wire(server.port) as wire:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            piece = data[-100200:] if step == 1 else data
            head = len(data) - len(piece)
            wire.send(data[:head])
            sender = threading.Thread(
                target=lambda: [wire.send(piece[at:at + step]) for at in range(0, 3000 if step == 1 else len(piece), step)])
            sender.start()
            sender.join()
            if step == 1:
                wire.send(piece[3000:])
            ok([wire.reply() for _ in want] == want, f"in pieces of {step}: the same answers")


def test_half(server):
    """Half a request, and its sender goes."""
    for data in (b"*", b"*2\r\n$3\r\nGET", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$400000\r\nabc", b"GET"):
        for _ in range(20):
            with Wire(server.port) as wire:
                wire.send(data)
    with Wire(server.port) as wire:
        ok(waits(lambda: wire.call("CLIENT", "LIST")[1].count(b"\n") == 1), "half requests leave nobody behind")
        is_(wire.call("PING"), ("+", b"PONG"), "and the server answers")


def test_large(server):
    with Wire(server.port) as wire:
        wire.call("FLUSHALL")
        before = wire.call("INFO", "memory")[1]
        is_(wire.call("SET", "a", BIG), ("+", b"OK"), "SET of 5 MiB")
        is_(wire.call("GET", "a"), ("$", BIG), "and GET")
        is_(wire.call("SET", "b", BIG, "EX", 100, "NX"), ("+", b"OK"), "SET with options behind the value")
        ok(90 <= wire.call("TTL", "b")[1] <= 100, "has its time")
        is_(wire.call("SET", "b", BIG, "NX"), ("$", None), "one that is refused by NX")
        is_(wire.call("SET", "b", BIG, "FOO"), ("-", b"ERR syntax error"), "one with a wrong option")
        is_(wire.call("SETEX", "c", 100, BIG), ("+", b"OK"), "SETEX")
        is_(wire.call("GETSET", "c", BIG[1:]), ("$", BIG), "GETSET")
        is_(wire.call("APPEND", "c", BIG), (":", 2 * len(BIG) - 1), "APPEND")
        is_(wire.call("SETRANGE", "c", 3, BIG), (":", 2 * len(BIG) - 1), "SETRANGE")
        is_(wire.call("GETRANGE", "c", 3, 2 + len(BIG)), ("$", BIG), "GETRANGE")
        is_(wire.call("MSET", "d", BIG, "e", b"small", "f", BIG[2:]), ("+", b"OK"), "MSET")
        is_(wire.call("MGET", "d", "e", "f"), ("*", [("$", BIG), ("$", b"small"), ("$", BIG[2:])]), "MGET")
        is_(wire.call("ECHO", BIG), ("$", BIG), "ECHO")
        is_(wire.call("GET", BIG)[0], "-", "a key of 5 MiB is refused")
        is_(wire.call(BIG)[0], "-", "and a command of 5 MiB")
        replies = wire.calls([["MULTI"], ["SET", "g", BIG], ["APPEND", "g", BIG], ["STRLEN", "g"], ["EXEC"]])
        is_(replies[4], ("*", [("+", b"OK"), (":", 2 * len(BIG)), (":", 2 * len(BIG))]), "MULTI with large values")
        wire.calls([["MULTI"], ["SET", "g", BIG]])
        is_(wire.call("DISCARD"), ("+", b"OK"), "DISCARD of one")
        with Wire(server.port) as other:
            other.send(encoded("SET", "h", BIG)[:-1000])
            waits(lambda: wire.call("DBSIZE")[1] >= 6)
            is_(wire.call("FLUSHALL"), ("+", b"OK"), "FLUSHALL while a large value comes")
            other.send(encoded("SET", "h", BIG)[-1000:])
            is_(other.reply(), ("+", b"OK"), "which is stored after it")
            is_(other.call("GET", "h"), ("$", BIG), "and whole")
        wire.call("FLUSHALL")
        used = [int(text.split(b"used_memory:")[1].split(b"\r")[0]) for text in (before, wire.call("INFO", "memory")[1])]
        is_(used[1], used[0], "nothing of it is left")


def test_full(server):
    """At the limit of 64 MiB."""
    with Wire(server.port) as wire:
        wire.call("FLUSHALL")
        replies = [wire.call("SET", f"k{i}", BIG) for i in range(14)]
        oom = ("-", b"OOM command not allowed when used memory > 'maxmemory'.")
        is_((replies[0], replies[-1]), (("+", b"OK"), oom), "at the limit SET of a large value is refused")
        is_(wire.call("SET", "a", b"x" * (40 << 20)), oom, "also one that could never fit")
        is_(wire.call("PING"), ("+", b"PONG"), "and the connection goes on")
        is_(wire.call("GET", "k0"), ("$", BIG), "what is there can be read")
        wire.call("FLUSHALL")
        is_(wire.call("SET", "a", b"x"), ("+", b"OK"), "emptied, it takes values again")


def test_slow_reader(server):
    """Who does not read is read from no further than a bound, and harms nobody."""
    with Wire(server.port) as wire, Wire(server.port) as slow:
        wire.call("SET", "v", b"x" * 10000)
        before = rss_bytes(server)
        slow.socket.setblocking(False)
        request, sent = encoded("GET", "v") * 1000, 0
        end = time.monotonic() + 2
        while time.monotonic() < end and sent < 100000:
            try:
                slow.socket.send(request)
                sent += 1
            except BlockingIOError:
                time.sleep(0.01)
        ok(sent < 100000, "a pipeline whose replies nobody reads stops")
        # A quarter of the input's bound is kept of what it writes.
        ok(rss_bytes(server) - before < 64 << 20, f"with little memory: {(rss_bytes(server) - before) >> 10} KiB")
        is_(wire.call("PING"), ("+", b"PONG"), "others are answered")
        wire.call("DEL", "v")
        wire.call("SET", "v", b"y")
        slow.socket.settimeout(SECONDS_MAX)
        got = sum(slow.reply()[0] == "$" for _ in range(2000))
        is_(got, 2000, "when it reads, it goes on")


def test_stalled(loop):
    """A reader who takes nothing at all for longer than it may, or lets too much wait, is closed."""
    server = plain_server(loop, "--stall", 1, "--output-max", 1 << 20, "--input-max", 1 << 20)
    with Wire(server.port) as wire, Wire(server.port) as slow:
        wire.call("SET", "v", b"x" * (8 << 20))
        slow.send(encoded("GET", "v") * 20)
        ok(waits(lambda: wire.call("CLIENT", "LIST")[1].count(b"\n") == 1), f"{loop}: a stalled reader is closed")
    with Wire(server.port) as wire, Wire(server.port) as greedy:
        wire.calls([["SET", f"key:{i}:{'x' * 100}", b""] for i in range(20000)])
        greedy.send(encoded("KEYS", "*") * 3)
        ok(waits(lambda: wire.call("CLIENT", "LIST")[1].count(b"\n") == 1), f"{loop}: too long a reply closes")
    with Wire(server.port) as wire:
        said = closes(server, encoded("MSET", *[b"x" * 60000] * 40))
        is_(said, [], f"{loop}: too long a request closes")
        is_(wire.call("PING"), ("+", b"PONG"), f"{loop}: others are answered")
    is_(server.stop(), 0, f"{loop}: it ends as it should")


def is_small(each, name):
    """Whether a connection takes no more than it may: EACH bytes."""
    if os.environ.get("DOR_SANITIZER", "none") != "none":
        skip("a sanitizer has memory of its own", name)
    else:
        ok(each <= IDLE_BYTES_MAX, name, f"{each:.0f} bytes each")


def test_idle(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before, wires = rss_bytes(server), []
    for i in range(count):
        one = socket.socket()
        one.connect(("127.0.0.1", server.port))
        wires.append(one)
    with Wire(server.port) as wire:
        is_(wire.call("CLIENT", "LIST", "ID", 0)[0], "$", f"{count} idle connections")
        ok(waits(lambda: b"connected_clients:%d\r" % (count + 1) in wire.call("INFO", "clients")[1]), "all are counted")
        each = (rss_bytes(server) - before) / count
        is_small(each, "each takes little")
        for one in wires[:100]:
            one.sendall(b"PING\r\n")
        is_({one.recv(100) for one in wires[:100]}, {b"+PONG\r\n"}, "they are answered")
        after = (rss_bytes(server) - before) / count
        is_small(after, "and little when they are idle again")
        for i, one in enumerate(wires):
            if i % 2:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        ok(waits(lambda: b"connected_clients:1\r" in wire.call("INFO", "clients")[1]), "all are gone")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_session(server):
    with Wire(server.port) as one, Wire(server.port, 3) as two:
        ids = [wire.call("CLIENT", "ID")[1] for wire in (one, two)]
        ok(ids[0] != ids[1], "each client has a number of its own")
        one.call("CLIENT", "SETNAME", "first")
        is_(one.call("CLIENT", "SETINFO", "lib-name", "lib"), ("+", b"OK"), "CLIENT SETINFO")
        line = one.call("CLIENT", "INFO")[1]
        ok(b" name=first " in line and b" lib-name=lib " in line and b" resp=2 " in line, "CLIENT INFO", line)
        is_(two.call("CLIENT", "LIST", "ID", ids[0])[1].count(b"\n"), 1, "CLIENT LIST ID")
        is_(two.call("HELLO", 3)[0], "%", "HELLO 3 answers a map")
        is_(two.call("CONFIG", "GET", "maxmem*", "save")[0], "%", "CONFIG GET too")
        is_(two.call("GET", "none"), ("_", None), "and a null of its own")
        is_(two.call("INFO")[0], "=", "INFO is a verbatim text")
        one.send(encoded("CLIENT", "REPLY", "OFF") + encoded("PING") + encoded("CLIENT", "REPLY", "ON") + encoded("ECHO", "a") +
                 encoded("CLIENT", "REPLY", "SKIP") + encoded("ECHO", "b") + encoded("ECHO", "c"))
        is_([one.reply() for _ in range(3)], [("+", b"OK"), ("$", b"a"), ("$", b"c")], "CLIENT REPLY")
        is_(one.call("CLIENT", "KILL", "ID", ids[1]), (":", 1), "CLIENT KILL")
        ok(two.is_closed(), "closes the other")
        count = one.call("COMMAND", "COUNT")[1]
        is_(len(one.call("COMMAND")[1]), count, "COMMAND tells all of them")
        is_(len(one.call("COMMAND", "DOCS")[1]), 2 * count, "COMMAND DOCS too")
        is_(one.call("COMMAND", "INFO", "nosuch"), ("*", [("$", None)]), "COMMAND INFO of none")
        info = one.call("COMMAND", "INFO", "get")[1][0][1]
        is_((info[0], info[1], info[3:6]), (("$", b"get"), (":", 2), [(":", 1)] * 3), "COMMAND INFO GET")
        is_(one.call("RESET"), ("+", b"RESET"), "RESET")
        is_(one.call("CLIENT", "GETNAME"), ("$", None), "takes the name")
        is_(one.call("AUTH", "somebody", "x")[1].split()[0], b"WRONGPASS", "without a front there is one user")


def test_expiry(server):
    """Keys whose time has come go without being asked for."""
    with Wire(server.port) as wire:
        wire.call("FLUSHALL")
        wire.calls([["SET", f"k{i}", "v", "PX", 50] for i in range(1000)])
        ok(waits(lambda: wire.call("DBSIZE") == (":", 0)), "a thousand keys expire")
        ok(b"expired_keys:1000\r" in wire.call("INFO", "stats")[1], "and are counted")


def main():
    for loop in LOOPS:
        server = plain_server(loop, "--limit", 64)
        if not server:
            skip(f"no {loop} here", f"{loop}: a worker among bad clients")
            continue
        print(f"# {loop}")
        test_broken(server)
        test_pieces(server)
        test_half(server)
        test_expiry(server)
        test_large(server)
        test_full(server)
        test_slow_reader(server)
        test_session(server)
        test_idle(server)
        is_(server.stop(), 0, f"{loop}: it ends as it should")
        test_stalled(loop)
    done()


if __name__ == "__main__":
    main()
