#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_http.py - clients that are broken, slow, many or not welcome: each hears why, and the others are unharmed."""
import resource
import stat
import sys

sys.dont_write_bytecode = True
from node import *

rng = make_seed()
image = make_image(rng, 16)
path = write("a.mem", image)


def goes_on(daemon, name):
    is_(daemon.ask("GET", "/version")[0], 200, f"{name}: others are answered")


def test_garbage():
    daemon = Daemon(new_store("garbage"), config="request_seconds = 2\n")
    for name, data in {
        "noise": rng.randbytes(4096) + b"\r\n\r\n",
        "no version": b"GET /version\r\n\r\n",
        "no path": b"GET\r\n\r\n",
        "TLS": bytes.fromhex("160301020001000000") + rng.randbytes(256),
        "an endless line": b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n",
        "huge headers": b"GET /version HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(64)) + b"\r\n",
        "many headers": b"GET /version HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
        "a negative length": b"PUT /snapshots/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: -5\r\n\r\n{}",
        "an absurd length": b"PUT /snapshots/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        "a wrong chunk": b"PUT /snapshots/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "zero bytes": bytes(1000) + b"\r\n\r\n",
    }.items():
        client = daemon.connect(timeout=20)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        said = read_all(client)
        status = said.split(b" ")[1:2]
        ok(not said or (said.startswith(b"HTTP/1.") and status and b"400" <= status[0] < b"600"),
           f"{name}: refused", said[:200])
        goes_on(daemon, name)
    is_(daemon.end(), 0, "it ends well")


def test_slow():
    """Who dawdles is shown the door; who waits for work or sends an image steadily is not."""
    daemon = Daemon(new_store("slow"), config="request_seconds = 1\n")
    start = time.monotonic()
    silent, dripping = daemon.connect(), daemon.connect()
    body = daemon.connect()
    body.sendall(b"PUT /snapshots/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    upload = daemon.connect()
    upload.sendall(b"PUT /snapshots/up/image HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(image))
    closed = set()
    for i in range(0, len(image), PAGE):
        upload.sendall(image[i:i + PAGE])
        for name, client, drop in (("dripping", dripping, b"G"), ("body", body, b" ")):
            try:
                client.send(drop)
            except OSError:
                closed.add(name)
        time.sleep(0.15)
    is_(closed, {"dripping", "body"}, "one byte at a time does not last")
    is_(read_all(silent)[:20], b"", "nor does silence")
    ok(time.monotonic() - start < 10, "and all that was soon")
    said = read_all(upload)
    ok(said.startswith(b"HTTP/1.1 200 "), "an image that takes longer in all is put", said[:300])
    numbers = daemon.ask("GET", "/metrics")[2].decode()
    ok("dormouse_node_slow_connections_total 0\n" not in numbers, "the metrics tell of it")
    is_(daemon.end(), 0, "it ends well")


def test_many():
    """A thousand connections, of which the daemon wants 900."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        skip(f"only {hard} descriptors", "1,000 connections")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    daemon = Daemon(new_store("many"), config="connections_max = 900\n")
    clients = [daemon.connect() for _ in range(1000)]
    for client in clients:
        try:
            client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        except OSError:
            pass
    answers = [client.recv(1 << 16) for client in clients]
    served = sum(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    is_((served, len(refused)), (900, 100), "of 1,000 connections 900 are served, the others hear that it is too much")
    ok(all(b"900 connections" in answer for answer in refused), "in words", refused[:1])
    for client in clients:
        client.close()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if daemon.raw(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 "):
            break
        time.sleep(0.05)
    goes_on(daemon, "when they are gone")
    is_(daemon.end(), 0, "it ends well")


def test_keep_alive():
    daemon = Daemon(new_store("alive"))
    connection = http.client.HTTPConnection("dormouse", timeout=20)
    connection.sock = daemon.connect()
    for i in range(50):
        connection.request("GET", ("/version", "/snapshots", "/nothing")[i % 3])
        connection.getresponse().read()
    ok("dormouse_node_connections_total 2\n" in daemon.ask("GET", "/metrics")[2].decode(),
       "many requests go through one connection")
    connection.close()
    is_(daemon.end(), 0, "it ends well")


def try_as(uid, gid, daemon):
    """What the daemon says to a process of another user, who may reach the socket."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            said = daemon.raw(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        except OSError as error:
            said = str(error).encode()
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1 << 16).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return said


def test_permissions():
    plain = Daemon(new_store("plain"))
    is_(stat.S_IMODE(os.stat(plain.socket).st_mode), 0o600, "the socket is its owner's")
    is_(plain.end(), 0, "it ends well")
    wide = Daemon(new_store("wide"), "--socket-mode", "0666", config="allow_uids = 3001, 3002\nallow_gids = 4001\n")
    is_(stat.S_IMODE(os.stat(wide.socket).st_mode), 0o666, "--socket-mode says otherwise")
    if os.geteuid() != 0:
        skip("only root can be other users", "permissions")
        return
    os.chmod(work, 0o755)
    said = try_as(3000, 3000, wide)
    ok("403" in said and '"denied"' in said and "user 3000" in said, "who is not allowed is told so", said)
    ok("200 OK" in try_as(3001, 3000, wide), "a user who is allowed is served")
    ok("200 OK" in try_as(3000, 4001, wide), "so is a member of a group")
    goes_on(wide, "the daemon's own user")
    is_(wide.end(), 0, "it ends well")


test_garbage()
test_slow()
test_many()
test_keep_alive()
test_permissions()
done()
