#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_crowd.py - many connections, slow ones, half requests, wrong passwords and noise: a served table stays bounded,
and whoever behaves is answered."""
import resource
import sys
import threading

sys.dont_write_bytecode = True
from served import *

IDLE = 10_000
IDLE_BYTES_MAX = 16 << 10       # of the server's memory, one idle connection
HALVES = 1000
SLOW_READERS, SLOW_REQUESTS, VALUE_BYTES = 20, 400, 200_000
GROWTH_BYTES_MAX = 200 << 20    # while somebody else misbehaves
HUGE_BYTES = 512 << 20
WRONG_PASSWORDS, GUESSERS, GUESSES_AT_ONCE = 1000, 20, 5
NOISE = 300

rng = make_seed()


def served(server, name):
    """Whether a newcomer is served."""
    with Wire(server.port) as wire:
        is_(wire.calls([["SET", "newcomer", name], ["GET", "newcomer"]]), [("+", b"OK"), ("$", name.encode())],
            f"{name}: a newcomer is served")


def room_for(count):
    """How many of COUNT connections this process may hold."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(count, hard - 200)


def test_idle(server):
    count = room_for(IDLE)
    if count < IDLE:
        print(f"# {count} connections instead of {IDLE}: this user may open no more files")
    before = memory_bytes(server)
    wires = []
    for i in range(count):
        one = socket.create_connection(("127.0.0.1", server.port), REPLY_SECONDS_MAX)
        one.sendall(encoded("PING"))
        wires.append(one)
    answers = [one.recv(64) for one in wires]
    is_(set(answers), {b"+PONG\r\n"}, f"{count} connections, all answered")
    each = (memory_bytes(server) - before) / count
    print(f"# {each:.0f} bytes of memory an idle connection")
    ok(each <= IDLE_BYTES_MAX, f"an idle connection takes at most {IDLE_BYTES_MAX} bytes", each)
    served(server, "among idle ones")
    for one in rng.sample(wires, 100):
        one.sendall(encoded("ECHO", "still here"))
        is_ok = one.recv(64) == b"$10\r\nstill here\r\n"
        if not is_ok:
            break
    ok(is_ok, "idle connections are answered later on, too")
    for one in wires:
        one.close()
    served(server, "after idle ones")


def test_slow_readers(server):
    """Each wants 80 MB and takes nothing."""
    value = rng.randbytes(VALUE_BYTES)
    with Wire(server.port) as wire:
        wire.call("SET", "large", value)
    before = memory_bytes(server)
    readers = [Wire(server.port) for _ in range(SLOW_READERS)]
    for reader in readers:
        reader.send(encoded("GET", "large") * SLOW_REQUESTS)
    served(server, "beside slow readers")
    time.sleep(0.5)
    growth = memory_bytes(server) - before
    ok(growth <= GROWTH_BYTES_MAX, "what they do not read does not pile up", f"{growth >> 20} MiB more")
    with Wire(server.port) as wire:
        wire.call("SET", "large", b"new")
    got = [readers[0].reply() for _ in range(SLOW_REQUESTS)]
    ok(all(one in (("$", value), ("$", b"new")) for one in got), "and who reads at last gets whole answers")
    ok(got == sorted(got, key=lambda one: one[1] == b"new"), "old ones before new ones")
    for reader in readers:
        reader.close()
    served(server, "after slow readers")


def test_half_requests(server):
    whole = encoded("SET", "half", b"v" * 3000)
    wires = [Wire(server.port) for _ in range(min(HALVES, room_for(HALVES)))]
    for i, wire in enumerate(wires):
        wire.send(whole[:1 + i * (len(whole) - 1) // len(wires)])
    served(server, "beside half requests")
    for i, wire in enumerate(wires[::2]):
        wire.send(whole[1 + 2 * i * (len(whole) - 1) // len(wires):])
    is_({wire.reply() for wire in wires[::2]}, {("+", b"OK")}, "half requests are answered when they are whole")
    for wire in wires:
        wire.close()
    with Wire(server.port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in encoded("SET", "bytes", "one by one") + b"GET bytes\r\n":
            wire.send(bytes([byte]))
        is_([wire.reply(), wire.reply()], [("+", b"OK"), ("$", b"one by one")], "a request byte by byte")


def test_promises(server):
    """Values that are announced and do not come."""
    before = memory_bytes(server)
    wires = [Wire(server.port) for _ in range(100)]
    for wire in wires:
        wire.send(b"*3\r\n$3\r\nSET\r\n$7\r\npromise\r\n$%d\r\nabc" % HUGE_BYTES)
    served(server, "beside promises of 512 MiB")
    growth = memory_bytes(server) - before
    ok(growth <= GROWTH_BYTES_MAX, "promises take no memory", f"{growth >> 20} MiB more")
    for wire in wires:
        wire.close()
    served(server, "after promises")
    with Wire(server.port) as wire:
        is_(wire.call("EXISTS", "promise"), (":", 0), "a half value is no value")
        large = rng.randbytes(1 << 20) * 40
        is_(wire.calls([["SET", "large", large], ["STRLEN", "large"], ["DEL", "large"]]),
            [("+", b"OK"), (":", len(large)), (":", 1)], "and the memory is there for others")


def noise():
    """Something that is almost a request."""
    good = rng.choice([encoded("SET", "n", rng.randbytes(30)), encoded("GET", "n"), b"PING\r\n", encoded("MULTI")]) * 3
    bad = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        bad[rng.randrange(len(bad))] = rng.choice([*b"*$\r\n-0123456789", rng.randrange(256)])
    return rng.choice([bytes(bad), rng.randbytes(rng.randrange(1, 5000)), bytes(bad)[:rng.randrange(len(bad))]])


def test_noise(server):
    for _ in range(NOISE):
        one = socket.create_connection(("127.0.0.1", server.port), REPLY_SECONDS_MAX)
        try:
            one.sendall(noise())
            one.shutdown(rng.choice([socket.SHUT_WR, socket.SHUT_RDWR]))
            one.settimeout(0.001)
            one.recv(1 << 16)
        except (TimeoutError, OSError):
            pass
        one.close()
    served(server, "after noise")


def guess(server, name, count, answers):
    """A few at a time: who does not come to an end is sent away."""
    for first in range(0, count, GUESSES_AT_ONCE):
        with Wire(server.port) as wire:
            answers += wire.calls([["AUTH", name, f"guess {first + i}"] for i in range(GUESSES_AT_ONCE)])


def test_wrong_passwords():
    tenants = work / "tenants"
    add_tenant(tenants, "alice", "the right one")
    server = our_server("--tenants", tenants)
    answers = []
    threads = [threading.Thread(target=guess, args=(server, "alice" if i % 2 else "nobody", WRONG_PASSWORDS // GUESSERS,
                                                    answers)) for i in range(GUESSERS)]
    for thread in threads:
        thread.start()
    with Wire(server.port) as wire:
        is_(wire.call("GET", "a")[1][:6], b"NOAUTH", "nobody is served without a password")
        is_(wire.call("AUTH", "alice", "the right one"), ("+", b"OK"), "the right password beside wrong ones")
        is_(wire.calls([["SET", "a", "1"], ["GET", "a"]]), [("+", b"OK"), ("$", b"1")], "and its owner is served")
    for thread in threads:
        thread.join()
    is_((len(answers), {one[0] for one in answers}, {one[1][:9] for one in answers}),
        (WRONG_PASSWORDS, {"-"}, {b"WRONGPASS"}), f"{WRONG_PASSWORDS} wrong passwords are refused")
    is_(len({one[1] for one in answers}), 1, "who is not there is refused in the same words")
    with Wire(server.port) as wire:
        is_(wire.call("HELLO", "3", "AUTH", "alice", "the right one")[0], "%", "the right one is right afterwards")
    is_(server.stop(), 0, "the server ends as it should")


def main():
    server = our_server()
    # First of all, while no memory is left over from others.
    test_idle(server)
    test_half_requests(server)
    test_promises(server)
    test_noise(server)
    test_slow_readers(server)
    is_(server.stop(), 0, "the server ends as it should")
    test_wrong_passwords()
    done()


if __name__ == "__main__":
    main()
