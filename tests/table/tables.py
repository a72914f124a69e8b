# SPDX-License-Identifier: Apache-2.0
"""tables.py - what the tests of `dormouse table` share: starting one, and a client that speaks RESP byte by byte."""
import atexit
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli import *
from served import add_tenant, encoded as command


class Gone(Exception):
    """The server closed the connection."""


class Error(str):
    """An error that was replied."""


class Client:
    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone() from None

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Gone()
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode()

    def _bytes(self, count):
        while len(self.buffer) < count + 2:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count + 2:]
        return data.decode("latin-1")

    def read(self):
        """One reply, as text, number, list, dict or None."""
        line = self._line()
        kind, rest = line[0], line[1:]
        if kind == "+":
            return rest
        if kind == "-":
            return Error(rest)
        if kind in ":":
            return int(rest)
        if kind == "_":
            return None
        if kind == "$" or kind == "=":
            return None if rest == "-1" else self._bytes(int(rest))
        if kind in "*~>":
            return None if rest == "-1" else [self.read() for _ in range(int(rest))]
        if kind == "%":
            return {self.read(): self.read() for _ in range(int(rest))}
        raise ValueError(f"a reply begins with {line!r}")

    def ask(self, *words):
        self.send(command(*words))
        return self.read()

    def is_gone(self):
        try:
            return self.read() is None and False
        except Gone:
            return True

    def close(self):
        self.socket.close()


fronts = []


class Front:
    """`dormouse table` at a Unix socket, and at a TCP port if one is wanted."""

    def __init__(self, *args, tenants=None, env=None, wait=True, **how):
        self.path = str(work / f"resp-{len(fronts)}.sock")
        more = ["--tenants", tenants] if tenants else []
        self.log = open(work / f"log-{len(fronts)}", "w+b")
        self.process = subprocess.Popen(
            [program, "table", "--resp", self.path, *more, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.log, env={**clean_env(), "DOR_LOG": "info", **(env or {})}, **how)
        fronts.append(self)
        if wait:
            self.first_line = self.process.stdout.readline().decode()

    def client(self, *auth, **how):
        client = Client(self.path, **how)
        if auth:
            answer = client.ask("AUTH", *auth)
            if answer != "OK":
                raise AssertionError(f"AUTH {auth}: {answer}")
        return client

    def events(self):
        self.log.flush()
        return (work / os.path.basename(self.log.name)).read_text()

    def end(self, signal_number=signal.SIGTERM, timeout=30):
        self.process.send_signal(signal_number)
        return self.process.wait(timeout)


def kill_fronts():
    for front in fronts:
        if front.process.poll() is None:
            front.process.kill()
            front.process.wait()


atexit.register(kill_fronts)


def processes(name, parent=None):
    """Pids of processes called NAME, children of PARENT if that is given."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = pathlib.Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        comm, rest = text.split("(", 1)[1].rsplit(")", 1)
        fields = rest.split()
        if comm == name and fields[0] != "Z" and (parent is None or int(fields[1]) == parent):
            found.append(int(entry))
    return found


def zygote_of(front):
    found = processes("table-zygote", front.process.pid)
    return found[0] if found else None


def workers_of(front):
    zygote = zygote_of(front)
    return processes("table-worker", zygote) if zygote else []


def wait_for(condition, seconds=20):
    """CONDITION's first true value, or its last one."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


def connect(front, *auth):
    """A client, as soon as there is a worker for it that lives."""
    def attempt():
        try:
            client = front.client(*auth)
            return client if client.ask("PING") == "PONG" else None
        except (AssertionError, Gone, OSError):
            return None
    return wait_for(attempt, 60)


def make_tenants(name, **tenants):
    """A file of tenants by name and password; its path."""
    path = str(work / name)
    for tenant, password in tenants.items():
        add_tenant(path, tenant, password)
    return path
