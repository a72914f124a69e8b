#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_front.py - who connects is who has the password, gets to one's own table with all that was sent
behind it, sees nothing of others, and may become somebody else; what is broken gets an error and costs nobody else."""
from tables import *

WRONG = "WRONGPASS invalid username-password pair or user is disabled."
NOAUTH = "NOAUTH Authentication required."


def test_auth(front):
    client = front.client()
    is_(client.ask("GET", "k"), NOAUTH, "nothing without a password")
    is_(client.ask("PING"), NOAUTH, "not even PING")
    is_(client.ask("AUTH", "alice", "wrong"), WRONG, "a wrong password")
    is_(client.ask("AUTH", "nobody", "apple"), WRONG, "an unknown tenant")
    is_(client.ask("AUTH", "alice\x01", "apple"), WRONG, "an impossible one")
    is_(client.ask("AUTH", "apple"), WRONG, "default is not there")
    is_(client.ask("AUTH", "alice", "x" * 600), WRONG, "a password that is too long")
    is_(client.ask("AUTH", "alice", "apple\0x"), WRONG, "one with a zero byte")
    is_(client.ask("AUTH"), "ERR wrong number of arguments for 'auth' command", "AUTH alone")
    is_(client.ask("AUTH", "a", "b", "c"), "ERR syntax error", "AUTH with too much")
    is_(client.ask("AUTH", "alice", "apple"), "OK", "the right password")
    is_(client.ask("PING"), "PONG", "and all is open")
    is_(client.ask("SET", "k", "v"), "OK", "SET")
    is_(client.ask("GET", "k"), "v", "GET")
    inline = front.client()
    inline.send(b"AUTH alice apple\r\nGET k\r\n")
    is_([inline.read(), inline.read()], ["OK", "v"], "inline commands")
    quiet = front.client()
    is_(quiet.ask("QUIT"), "OK", "QUIT before AUTH")
    ok(quiet.is_gone(), "closes")


def test_hello(front):
    client = front.client()
    ok(client.ask("HELLO", "3").startswith("NOAUTH HELLO must be called"), "HELLO without AUTH")
    is_(client.ask("HELLO", "4", "AUTH", "alice", "apple"), "NOPROTO unsupported protocol version", "HELLO 4")
    is_(client.ask("HELLO", "x"), "ERR Protocol version is not an integer or out of range", "HELLO x")
    is_(client.ask("HELLO", "3", "AUTH", "alice", "no"), WRONG, "HELLO with a wrong password")
    answer = client.ask("HELLO", "3", "AUTH", "alice", "apple", "SETNAME", "me")
    ok(isinstance(answer, dict) and answer.get("proto") == 3, "HELLO 3 with the right one is a map", answer)
    is_(client.ask("CLIENT", "GETNAME"), "me", "and the name is set")
    two = front.client()
    answer = two.ask("HELLO", "2", "AUTH", "alice", "apple")
    ok(isinstance(answer, list) and answer[answer.index("proto") + 1] == 2, "HELLO 2 is a list", answer)


def test_pipeline(front):
    client = front.client()
    count = 2000
    client.send(command("AUTH", "alice", "apple") + b"".join(
        command("SET", f"p{i}", "x" * 50) for i in range(count)) + command("DBSIZE"))
    is_(client.read(), "OK", "AUTH with a pipeline behind it")
    is_({client.read() for _ in range(count)}, {"OK"}, "all of the pipeline is answered")
    ok(client.read() >= count, "and done")
    client = front.client()
    for byte in command("AUTH", "alice", "apple") + command("GET", "p7"):
        client.send(bytes([byte]))
    is_([client.read(), client.read()], ["OK", "x" * 50], "byte by byte")
    client = front.client()
    big = "y" * 3000000
    client.send(command("AUTH", "alice", "apple") + command("SET", "big", big))
    is_([client.read(), client.read()], ["OK", "OK"], "a large value behind AUTH")
    is_(len(client.ask("GET", "big")), len(big), "is there")
    client.ask("FLUSHALL")


def test_become_another(front):
    client = front.client("alice", "apple")
    client.ask("SET", "whose", "alice")
    is_(client.ask("AUTH", "bob", "nope"), WRONG, "a wrong password later on")
    is_(client.ask("GET", "whose"), "alice", "leaves one who one was")
    number = client.ask("CLIENT", "ID")
    is_(client.ask("AUTH", "bob", "berry"), "OK", "the right one of another tenant")
    is_(client.ask("GET", "whose"), None, "leads to another table")
    is_(client.ask("CLIENT", "ID"), number, "with the same id")
    client.ask("SET", "whose", "bob")
    client.send(command("GET", "whose") + command("AUTH", "alice", "apple") + command("GET", "whose")
                + command("AUTH", "bob", "no") + command("GET", "whose") + command("AUTH", "bob", "berry")
                + command("GET", "whose"))
    is_([client.read() for _ in range(7)], ["bob", "OK", "alice", WRONG, "alice", "OK", "bob"],
        "back and forth in one pipeline, each reply in its place")
    big = "z" * 3000000
    client.send(command("SET", "big", big) + command("AUTH", "alice", "apple") + command("SET", "big", big[1:])
                + command("STRLEN", "big") + command("AUTH", "bob", "berry") + command("STRLEN", "big")
                + b"".join(command("SET", f"s{i}", "x" * 1000) for i in range(2000)))
    is_([client.read() for _ in range(6)], ["OK", "OK", "OK", len(big) - 1, "OK", len(big)], "with large values about")
    is_({client.read() for _ in range(2000)}, {"OK"}, "and many small ones behind")
    client.ask("FLUSHALL")
    client.ask("SET", "whose", "bob")
    answer = client.ask("HELLO", "3", "AUTH", "alice", "apple")
    ok(isinstance(answer, dict), "HELLO with AUTH from a connected client", answer)
    is_(client.ask("GET", "whose"), "alice", "changes the tenant too")
    for words in (("AUTH", "bob", "berry"), ("HELLO", "2", "AUTH", "bob", "berry"), ("AUTH", "x")):
        client.send(command("MULTI") + command(*words) + command("SET", "whose", "nobody") + command("EXEC")
                    + command("GET", "whose"))
        is_([client.read()[:12] for _ in range(5)], ["OK", "ERR Command ", "QUEUED", "EXECABORT Tr", "alice"],
            f"{' '.join(words)} inside MULTI: nothing is done for anybody")
    client.send(command("MULTI") + command("HELLO", "2", "SETNAME", "two") + command("GET", "whose") + command("EXEC"))
    is_([client.read(), client.read(), client.read()], ["OK", "QUEUED", "QUEUED"], "HELLO without AUTH is queued")
    done_now = client.read()
    ok(done_now[0][done_now[0].index("proto") + 1] == 2 and done_now[1] == "alice", "and done", done_now)


def test_nothing_of_others(front):
    alice, bob = front.client("alice", "apple"), front.client("bob", "berry")
    alice.ask("FLUSHALL"), bob.ask("FLUSHALL")
    for i in range(100):
        alice.ask("SET", f"a{i}", i)
    bob.ask("SET", "b", "1")
    is_(bob.ask("DBSIZE"), 1, "DBSIZE counts one's own keys")
    is_(bob.ask("KEYS", "*"), ["b"], "KEYS shows them")
    is_(bob.ask("SCAN", "0", "COUNT", "1000"), ["0", ["b"]], "SCAN too")
    is_(bob.ask("EXISTS", "a1"), 0, "EXISTS knows no others")
    alice.ask("CLIENT", "SETNAME", "alices-client")
    ok("alices-client" not in bob.ask("CLIENT", "LIST"), "CLIENT LIST shows no others")
    ok("keys=101" not in bob.ask("INFO") and "keys=100" not in bob.ask("INFO"), "nor does INFO")
    is_(bob.ask("FLUSHALL"), "OK", "FLUSHALL")
    is_(alice.ask("DBSIZE"), 100, "is for one's own")
    ok(len(workers_of(front)) == 2, "each has a process of one's own")


def test_bad_input(front):
    other = front.client("alice", "apple")
    for name, data in {
            "a broken head": b"*x\r\n", "a negative length": b"*1\r\n$-5\r\n", "no dollar": b"*1\r\n4\r\nPING\r\n",
            "a huge count": b"*1000000\r\n", "many words": b"*11\r\n" + b"$1\r\na\r\n" * 11,
            "a huge argument": b"*2\r\n$4\r\nAUTH\r\n$500000000\r\n", "a long line": b"a" * 70000,
            "a long argument": b"*2\r\n$4\r\nAUTH\r\n$60000\r\n" + b"x" * 20000,
            "an open quote": b"AUTH \"alice\r\n"}.items():
        client = front.client()
        try:
            client.send(data)
            answer = client.read()
            ok(answer.startswith("ERR Protocol error"), f"{name} before AUTH: an error", answer)
            ok(client.is_gone(), f"{name}: and the end")
        except (Gone, BrokenPipeError, ConnectionResetError):
            ok(name.startswith("a long"), f"{name} before AUTH: the end")
    client = front.client()
    client.send(b"*0\r\n\r\n\r\n" + command("AUTH", "alice", "apple"))
    is_(client.read(), "OK", "empty commands are passed over")
    client = front.client()
    answers = set()
    for _ in range(40):
        client.send(command("PING") * 500)
        answers |= {client.read() for _ in range(500)}
    is_(answers, {NOAUTH}, "a long pipeline of refused commands")
    client = front.client()
    client.socket.settimeout(1)
    try:
        client.send(command("PING") * 1000000)
        ok(False, "who does not read is not read from")
    except TimeoutError:
        ok(True, "who does not read is not read from")
    client = front.client()
    client.send(command("AUTH", "alice", "apple")[:-3])
    client.close()
    is_(other.ask("PING"), "PONG", "others notice nothing")


def test_default():
    tenants = make_tenants("default.json", default=None, alice="apple")
    front = Front(tenants=tenants)
    client = front.client()
    is_(client.ask("SET", "k", "1"), "OK", "without a password one is the default tenant, if that is so")
    ok(client.ask("AUTH", "apple").startswith("ERR AUTH <password> called without any password configured"),
       "which has none")
    is_(client.ask("AUTH", "alice", "apple"), "OK", "others are there too")
    is_(client.ask("GET", "k"), None, "with a table of their own")
    is_(client.ask("AUTH", "default", "anything"), "OK", "any password is right for who needs none")
    is_(client.ask("GET", "k"), "1", "and leads back")
    hello = front.client()
    ok(isinstance(hello.ask("HELLO", "3"), dict), "HELLO without AUTH works there")
    broken = front.client()
    broken.send(b"*x\r\n")
    ok(str(broken.read()).startswith("ERR Protocol error"), "broken requests too")
    is_(front.end(), 0, "SIGTERM ends it")


def test_many(front):
    """More connections than threads or processes: idle ones, and those that say nothing at all."""
    clients = []
    for i in range(1500):
        client = front.client()
        client.send(command("AUTH", *(("alice", "apple") if i % 2 else ("bob", "berry"))))
        clients.append(client)
    is_({client.read() for client in clients}, {"OK"}, "1,500 connections authenticate")
    is_({client.ask("ECHO", i) for i, client in enumerate(clients)}, {str(i) for i in range(1500)},
        "and each is answered with its own")
    silent = [front.client() for _ in range(1000)]
    is_(clients[0].ask("PING"), "PONG", "1,000 that say nothing do not matter")
    for client in clients + silent:
        client.close()
    again = front.client("alice", "apple")
    ok(wait_for(lambda: len(again.ask("CLIENT", "LIST").splitlines()) == 1), "those that went are forgotten")


tenants = make_tenants("tenants.json", alice="apple", bob="berry")
front = Front(tenants=tenants)
is_(front.first_line, f"listening at {front.path}\n", "it says where it listens")
is_(os.stat(front.path).st_mode & 0o777, 0o600, "its socket is its owner's alone")
test_auth(front)
test_hello(front)
test_pipeline(front)
test_become_another(front)
test_nothing_of_others(front)
test_bad_input(front)
test_many(front)
test_default()
is_(front.end(), 0, "SIGTERM ends it well")
ok(not os.path.exists(front.path), "and takes its socket away")
done()
