#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_uffd_senseless.py - clients of the userfaultfd socket that make no sense are told so, and concern nobody else."""
import json
import os
import resource
import socket
import sys
import time

sys.dont_write_bytecode = True
from uffd import *


def test_sockets():
    path = str(work / "socket")
    refuses(USAGE, "needs a way in", "no way in", "wake", "one", store=store)
    refuses(NOT_FOUND, "no snapshot", "no such snapshot", "wake", "none", "--uffd-socket", path, store=store)
    ok(not os.path.exists(path), "leaves no socket")
    refuses(USAGE, "socket", "a path that is too long", "wake", "one", "--uffd-socket", "x" * 200, store=store)
    refuses(EXISTS, "no socket", "a file", "wake", "one", "--uffd-socket", image, store=store)
    refuses(NOT_FOUND, "No such file", "no directory", "wake", "one", "--uffd-socket", f"{work}/none/s", store=store)
    for option, value in (("--socket-mode", "0"), ("--socket-mode", "1000"), ("--socket-mode", "rw"), ("--core", "-1"),
                          ("--core", "x"), ("--window", "5000"), ("--window", "512K"), ("--cache", "4K")):
        refuses(USAGE, "", f"{option} {value}", "wake", "one", "--uffd-socket", path, option, value, store=store)
    with Server("--socket-mode", "640") as server:
        is_(os.stat(server.path).st_mode & 0o777, 0o640, "the socket has its mode")
        refuses(BUSY, "somebody listens", "a second server", "wake", "one", "--uffd-socket", server.path, store=store)
        finish(server.vmm(), "the first one does not notice")


def refused(server, words, name, text, fds=None, wait=False):
    client = connect(server)
    own = [make_uffd()] if fds is None else fds
    if isinstance(text, (list, dict)):
        text = json.dumps(text).encode()
    try:
        socket.send_fds(client, [text], own)
        if not wait:
            client.shutdown(socket.SHUT_WR)
    except BrokenPipeError:
        pass
    said = answer(client)
    ok(said is not None and words in said, f"refused: {name}", f"wanted {words!r}", said)
    client.close()
    for fd in own:
        os.close(fd)


def test_senseless():
    size = PAGES * PAGE
    sound = [mapping(size=size)]
    with Server() as server:
        guest = server.vmm("wait=1")
        hear(guest, "ready")
        refused(server, "no JSON", "garbage", b"\x00\xff garbage")
        refused(server, "no JSON", "more than JSON", json.dumps(sound).encode() + b"x")
        refused(server, "hung up", "half a message", json.dumps(sound).encode()[:-1])
        refused(server, "no array", "an object", {"a": 1})
        refused(server, "no array", "an empty array", [])
        refused(server, "no object", "an array of numbers", [1])
        refused(server, "no descriptor", "no descriptor", sound, fds=[])
        refused(server, "no userfaultfd", "another descriptor", sound, fds=list(os.pipe()))
        if os.geteuid() == 0:
            refused(server, "tells of forks", "a userfaultfd with more events", sound, fds=[make_uffd(features=1 << 1)])
        refused(server, "more than two", "too many descriptors", sound, fds=[make_uffd() for _ in range(3)])
        refused(server, "descriptors", "far too many", sound, fds=[os.dup(0) for _ in range(100)])
        refused(server, "memory file", "a pipe as memory", sound, fds=[make_uffd(), *os.pipe()[:1]])
        refused(server, "too short", "a memory file that is too short", sound, fds=[make_uffd(), os.memfd_create("x")])
        refused(server, "not in memory", "a file as memory", sound, fds=[make_uffd(), os.open(write("m", data), os.O_RDWR)])
        refused(server, "past the image", "more memory than the image has", [mapping(size=size + PAGE)])
        refused(server, "past the image", "an offset past the image", [mapping(offset=size)])
        refused(server, "past the image", "an offset past all", [mapping(offset=(1 << 63) - PAGE)])
        refused(server, "past the end of memory", "an address past all", [mapping(address=(1 << 63) - PAGE)])
        refused(server, "no JSON", "a number past all", b'[{"base_host_virt_addr":99999999999999999999,"size":4096,"offset":0}]')
        refused(server, "not aligned", "an address between pages", [mapping(address=0x7f0000000001)])
        refused(server, "not aligned", "a size between pages", [mapping(size=5000)])
        refused(server, "not aligned", "an offset between pages", [mapping(offset=1)])
        refused(server, "not aligned", "an address between huge pages", [mapping(page_size=2 << 20, size=2 << 20, address=PAGE)])
        refused(server, "is empty", "no size", [mapping(size=0)])
        refused(server, "no whole number", "a negative size", [mapping(size=-PAGE)])
        refused(server, "no whole number", "a size with a fraction", [mapping(size=4096.5)])
        refused(server, "no whole number", "a text for a number", [mapping(size="4096")])
        refused(server, "has no offset", "a field that is missing", [{"base_host_virt_addr": PAGE, "size": PAGE}])
        refused(server, "pages of 8192", "pages of another size", [mapping(page_size=8192)])
        refused(server, "differ", "two page sizes", [mapping(page_size_kib=2 << 20)])
        refused(server, "overlaps", "mappings that overlap", [mapping(size=2 * PAGE), mapping(0x7f0000001000, offset=4 * PAGE)])
        refused(server, "overlaps", "mappings of the same pages", [mapping(), mapping(0x7f1000000000)])
        refused(server, "mappings", "too many mappings", [mapping(PAGE * (i + 1), offset=0) for i in range(257)])
        refused(server, "too long", "text without end", b"[" + b" " * (200 << 10), wait=True)
        deep = connect(server)
        deep.sendall(b"[" * 100000)
        ok("no JSON" in (answer(deep) or ""), "refused: brackets without end")
        say(guest)
        finish(guest, "a guest that was there all the time does not notice")
        finish(server.vmm(), "and another is welcome")
        ok(server.stat == {} and server.process.poll() is None, "the server goes on")
        worker = server.worker()
        fds = len(os.listdir(f"/proc/{worker}/fd"))
        for _ in range(50):
            refused_quietly(server)
        until = time.monotonic() + SECONDS
        while len(os.listdir(f"/proc/{worker}/fd")) > fds + 4 and time.monotonic() < until:
            time.sleep(0.05)
        ok(len(os.listdir(f"/proc/{worker}/fd")) <= fds + 4, "refused clients leave no descriptors behind",
           fds, os.listdir(f"/proc/{worker}/fd"))


def refused_quietly(server):
    client = connect(server)
    fds = [make_uffd() for _ in range(5)]
    socket.send_fds(client, [b"[]"], fds)
    answer(client)
    client.close()
    for fd in fds:
        os.close(fd)


def test_in_pieces():
    """One byte at a time, the descriptor with the first."""
    with Server() as server:
        fd = make_uffd()
        client = connect(server)
        text = json.dumps([mapping(size=PAGE)]).encode()
        socket.send_fds(client, [text[:1]], [fd])
        for i in range(1, len(text)):
            client.send(text[i:i + 1])
            time.sleep(0.001)
        server.says("client=1 ", "a handshake in pieces is understood")
        client.close()
        os.close(fd)


def test_crowd():
    """Over a thousand connections that say nothing, and a guest among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Server() as server:
        silent = [connect(server) for _ in range(1000)]
        finish(server.vmm(), "a guest among a thousand who say nothing")
        more = [connect(server) for _ in range(40)]
        ok(any("1024 clients are here already" in (answer(client) or "") for client in more), "who is too many is told")
        for client in silent[100:]:
            client.close()
        said = answer(silent[0])
        ok(said is not None and "not complete after" in said, "who says nothing is sent away in the end", said)
        finish(server.vmm(), "the next guest")
        for client in [*silent[:100], *more]:
            client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many():
    """More guests at once than there are threads that may read, all in a hurry."""
    for options in ([], ["--fill", "--cache", "1M"]):
        with Server(*options) as server:
            for vmm in [server.vmm("only=0-1024", f"seed={i}") for i in range(40)]:
                finish(vmm, f"one of forty guests at once {' '.join(options)}")


test_sockets()
test_senseless()
test_in_pieces()
test_crowd()
test_many()
done()
