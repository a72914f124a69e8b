# SPDX-License-Identifier: Apache-2.0
"""served.py - what the tests of served tables share: a server that runs, ours or Redis, and a connection that speaks
RESP2 and RESP3 and keeps what it reads as it came.

A reply is a pair of its type's byte and its content: ("+", b"OK"), (":", 1), ("$", b"..."), ("$", None), ("*", [...]),
("%", [...]) with keys and values in turn, ("_", None), ("#", True), (",", b"1.5").
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli import *

START_SECONDS_MAX = 30
REPLY_SECONDS_MAX = 60


class Closed(Exception):
    """The server closed the connection."""


def encoded(*words):
    """A request."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Wire:
    """A connection to ADDRESS, a port of this machine or the path of a Unix socket."""

    def __init__(self, address, protocol=2, timeout=REPLY_SECONDS_MAX):
        tcp = isinstance(address, int)
        self.socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", address) if tcp else str(address))
        self.file = self.socket.makefile("rb", buffering=1 << 16)
        if protocol == 3:
            self.call("HELLO", "3")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *words):
        self.send(encoded(*words))
        return self.reply()

    def calls(self, requests):
        """All of REQUESTS at once; their replies."""
        self.send(b"".join(encoded(*words) for words in requests))
        return [self.reply() for _ in requests]

    def line(self):
        try:
            line = self.file.readline()
        except ConnectionResetError:
            line = b""
        if not line.endswith(b"\r\n"):
            raise Closed(line)
        return line[:-2]

    def body(self, length):
        data = self.file.read(length + 2)
        if len(data) != length + 2 or data[-2:] != b"\r\n":
            raise Closed(data[-64:])
        return data[:-2]

    def reply(self):
        line = self.line()
        kind, rest = chr(line[0]) if line else "", line[1:]
        if kind in "+-,(" and kind:
            return kind, rest
        if kind == ":":
            return kind, int(rest)
        if kind in "$=" and kind:
            return kind, None if rest == b"-1" else self.body(int(rest))
        if kind in "*~>" and kind:
            return kind, None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        if kind == "%":
            return kind, [self.reply() for _ in range(2 * int(rest))]
        if kind == "_":
            return kind, None
        if kind == "#":
            return kind, rest == b"t"
        raise Closed(f"no RESP: {line!r}")

    def is_closed(self):
        """Wait for the server's end of the connection; what still came is thrown away."""
        try:
            while self.socket.recv(1 << 16):
                pass
            return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """COMMAND with its output kept, until it listens on PORT."""

    def __init__(self, command, port, path, **how):
        self.port, self.path = port, path
        self.said = work / f"server-{port}"
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=work, **how)
        atexit.register(self.kill)
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    print(f"Bail out! {command[0]} does not listen: {self.said.read_text(errors='replace')[-2000:]}")
                    sys.exit(1)
                time.sleep(0.02)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Ask it to end; its exit code, None when it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(REPLY_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


def redis_server(*options):
    """Redis as others know it, with one database; None where it is not installed."""
    found = shutil.which("redis-server")
    if not found:
        return None
    port = free_port()
    path = work / f"redis-{port}.sock"
    return Server([found, "--port", port, "--bind", "127.0.0.1", "--unixsocket", path, "--databases", 1, "--save", "",
                   "--appendonly", "no", *options], port, path)


def our_server(*options, **how):
    """A front; without a file of tenants there is one, who needs no password."""
    port = free_port()
    path = work / f"table-{port}.sock"
    return Server([program, "table", "--resp", port, "--resp", path, *options], port, path, env=clean_env(), **how)


plain = os.path.abspath(os.environ.get("DORMOUSE_SERVE_PLAIN", "build/tests/table/serve_plain"))


def plain_server(loop, *options, **how):
    """A worker without a front, for one tenant; None where it cannot have its LOOP."""
    if subprocess.run([plain, "probe", "--loop", loop], capture_output=True, timeout=START_SECONDS_MAX).returncode:
        return None
    port = free_port()
    return Server([plain, port, "--loop", loop, *options], port, None, **how)


def add_tenant(file, name, password, *settings):
    """Add a tenant to FILE; without a password it must be `default`."""
    words = ["tenant", "add", name, *settings, "--tenants", str(file)]
    words += [] if password is not None else ["--no-password"]
    done = subprocess.run([program, *words], capture_output=True, env=clean_env(), timeout=REPLY_SECONDS_MAX,
                          input=b"" if password is None else password.encode() + b"\n")
    if done.returncode:
        print(f"Bail out! {words}: {done.stderr.decode(errors='replace')}")
        sys.exit(1)


def tasks_of(pid):
    """The process PID and all that come from it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
        found.append(one)
    return found


def memory_bytes(server):
    """Memory of all processes of SERVER; what they share is counted once."""
    total = 0
    for pid in tasks_of(server.process.pid):
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
