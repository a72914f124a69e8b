# SPDX-License-Identifier: Apache-2.0
"""table_peers.py - servers of keys that the benchmarks of the room table compare: ours, Redis and memcached. Each is
started on its own core, loaded with the same client from another one, and judged by the processor time of all its
processes.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import common

START_SECONDS_MAX = 30
REPLY_SECONDS_MAX = 120
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
LATENCY_HEADINGS = ("what", "server", "/cpu-s", "/s", *PERCENTILES)


def tasks_of(pid):
    """The process PID and all that come from it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            tasks = list(pathlib.Path(f"/proc/{one}/task").iterdir())
            for task in tasks:
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
        found.append(one)
    return found


def cpu_s(pid):
    """Processor time of the process PID, its children and all their threads, so far."""
    spent = 0
    for one in tasks_of(pid):
        for task in pathlib.Path(f"/proc/{one}/task").iterdir():
            try:
                spent += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue
    return spent / 1e9


def resident_bytes(pid):
    """Memory of the process PID and its children; what they share is counted once."""
    total = 0
    for one in tasks_of(pid):
        for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Wire:
    """One connection that speaks RESP2, for setting things up and reading counters; no load comes from here."""

    def __init__(self, address, user=None, password=None):
        unix = isinstance(address, (str, pathlib.Path))
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.socket.settimeout(REPLY_SECONDS_MAX)
        self.socket.connect(str(address) if unix else ("127.0.0.1", address))
        self.file = self.socket.makefile("rb")
        if user:
            self.call("AUTH", user, password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        return self.reply()

    def reply(self):
        line = self.file.readline().rstrip(b"\r\n")
        if not line:
            raise ConnectionResetError("the server closed the connection")
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise common.Failed("a command", 1, rest.decode(errors="replace"))
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        raise common.Failed("a command", 1, f"no reply: {line!r}")

    def info(self, name):
        """A number of INFO."""
        found = re.search(rb"(?m)^%s:(\d+)" % name.encode(), self.call("INFO"))
        if not found:
            raise common.Failed("INFO", 1, f"has no {name}")
        return int(found[1])


class Server:
    """One server that runs: on TCP port PORT and, where it can, on the Unix socket PATH."""
    name, tool, path = "", "", None

    def __init__(self, bench):
        self.bench = bench
        self.core = min(os.sched_getaffinity(0) ^ set(range(os.cpu_count())) or {0})
        self.process = None

    def missing(self):
        return None if shutil.which(self.tool) else f"{self.tool} is not installed"

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        self.folder = self.bench.folder(self.name.replace(" ", "-"))
        self.port = free_port()
        words = [str(word) for word in self.command()]
        self.process = subprocess.Popen(
            words, cwd=self.folder, env=self.bench.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.core}))
        try:
            self.await_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_port(self):
        end = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise common.Failed(self.name, self.process.poll(), "it does not listen")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_s(self):
        return cpu_s(self.process.pid)

    def resident_bytes(self):
        return resident_bytes(self.process.pid)

    def address(self, unix=False):
        return self.path if unix else self.port


class RespServer(Server):
    login = ()

    def wire(self):
        return Wire(self.port, *self.login)

    def protocol(self):
        return "resp"

    def words(self, what):
        return {"GET": ("GET", "KEY"), "SET": ("SET", "KEY", "VALUE")}[what]


class Ours(RespServer):
    """dormouse table, one tenant `default` without a password."""
    name, tool = "ours", "dormouse"

    def __init__(self, bench, *options):
        super().__init__(bench)
        self.program = bench.args.build / "dormouse"
        self.options = options

    def missing(self):
        if not self.program.exists():
            return f"{self.program} is not built"
        return None if "--resp" in common.output_of([self.program, "table", "--help"]) else "has no verb table"

    def version(self):
        return common.output_of([self.program, "--version"]).strip()

    def command(self):
        self.path = str(self.folder / "socket")
        return [self.program, "table", "--resp", self.port, "--resp", self.path, *self.options]


class Redis(RespServer):
    name, tool = "redis", "redis-server"

    def version(self):
        return "Redis " + common.output_of([self.tool, "--version"]).split("v=")[1].split()[0]

    def command(self):
        self.path = str(self.folder / "socket")
        return [self.tool, "--port", self.port, "--unixsocket", self.path, "--save", "", "--appendonly", "no",
                "--bind", "127.0.0.1"]


class Memcached(Server):
    """memcached with one thread, as ours and Redis have. HOW is its text or its meta protocol."""
    tool = "memcached"

    def __init__(self, bench, how, *options):
        super().__init__(bench)
        self.how, self.options = how, options
        self.name = " ".join(["memcached", how, *options])

    def version(self):
        return common.output_of([self.tool, "--version"]).strip()

    def command(self):
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [self.tool, *user, "-t", 1, "-m", 1024, "-U", 0, "-l", "127.0.0.1", "-p", self.port, *self.options]

    def protocol(self):
        return self.how

    def words(self, what):
        return (what.lower(),)


@contextlib.contextmanager
def running(servers):
    """All of SERVERS at the same time; who is not asked does nothing."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield


# ---------------------------------------------------------------- load

class Load:
    """What a client got done: OPS requests, how long it took, and what it cost the server."""

    def __init__(self, requests, wall_s, server_s, latency_us, more):
        self.requests, self.wall_s, self.server_s, self.latency_us, self.more = (
            requests, wall_s, server_s, latency_us, more)

    @property
    def per_cpu_s(self):
        return self.requests / max(self.server_s, 1e-9)

    @property
    def per_s(self):
        return self.requests / max(self.wall_s, 1e-9)


def module(bench, source):
    """SOURCE, in C, compiled to WebAssembly: a list of its path; an empty one where it cannot be."""
    if not shutil.which("clang") or not shutil.which("wasm-ld"):
        return []
    here = pathlib.Path(__file__).resolve().parent
    target = bench.work / pathlib.Path(source).with_suffix(".wasm")
    subprocess.run(["clang", "--target=wasm32", "-mbulk-memory", "-O2", "-nostdlib", "-Wl,--no-entry", "-I", here.parent / "include",
                    "-o", target, here / source], check=True)
    return [target]


def load(bench, server, words, *, address=None, missing=False, **settings):
    """Load SERVER with our own client."""
    protocol = server.protocol()
    begin_s = server.cpu_s()
    said = bench.measure("load", protocol, address or server.port, *(f"{key}={value}" for key, value in settings.items()),
                         "--", *words)
    spent_s = server.cpu_s() - begin_s
    if said["missing"] and not missing:
        raise common.Failed(f"{server.name} {' '.join(words)}", 1, f"{said['missing']} keys are not there")
    return Load(said["requests"], said["wall_s"], spent_s, said["latency_us"], said)


def fill(bench, server, keys, value_bytes, **settings):
    """All KEYS keys, once each."""
    return load(bench, server, server.words("SET"), keys=keys, value=value_bytes, requests=keys, order="sequential",
                pipeline=16, connections=8, **settings)


def redis_benchmark(bench, server, words, *, pipeline, requests, keys, value_bytes, connections=50, unix=False):
    """Load SERVER with redis-benchmark. WORDS is one of its tests, as ("-t", "get"), or a command."""
    where = ["-s", server.path] if unix else ["-h", "127.0.0.1", "-p", str(server.port)]
    command = ["redis-benchmark", *where, "-c", connections, "-n", requests, "-P", pipeline, "-r", keys,
               "-d", value_bytes, "--precision", 3, *words]
    begin_s = server.cpu_s()
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=bench.environment, timeout=600)
    spent_s = server.cpu_s() - begin_s
    if done.returncode:
        raise common.Failed("redis-benchmark", done.returncode, done.stdout[-500:])
    return Load(requests, *benchmark_report(done.stdout, requests, spent_s))


def benchmark_report(text, requests, spent_s):
    """What redis-benchmark prints: throughput, a summary of latencies and its HdrHistogram's percentiles."""
    throughput = re.search(r"throughput summary: ([\d.]+) requests per second", text)
    summary = re.search(r"avg +min +p50 +p95 +p99 +max\s+" + r"([\d.]+)\s+" * 6, text)
    curve = [(float(share), float(ms)) for share, ms in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", text)]
    if not throughput or not summary or not curve:
        raise common.Failed("redis-benchmark", 0, f"another report than expected: {text[-500:]}")
    numbers = dict(zip(("avg", "min", "p50", "p95", "p99", "max"), map(float, summary.groups())))
    first = lambda least: next((ms for share, ms in curve if share >= least), numbers["max"])
    latency_us = {"p50": numbers["p50"] * 1e3, "p90": first(90) * 1e3, "p99": numbers["p99"] * 1e3,
                  "p99.9": first(99.9) * 1e3, "max": numbers["max"] * 1e3}
    return requests / float(throughput[1]), spent_s, latency_us, {}


def thousands(rate):
    return f"{rate / 1e6:.2f} M" if rate >= 999_500 else f"{rate / 1e3:.0f} k" if rate >= 10_000 else f"{rate:.0f}"


def latency_line(what, server_name, loads):
    """A row below LATENCY_HEADINGS."""
    rates = [thousands(common.median([getattr(one, by) for one in loads])) for by in ("per_cpu_s", "per_s")]
    return [what, server_name, *rates, *latency_cells(loads)]


def latency_cells(loads):
    """Each percentile, the median of the rounds; of the maximum the worst."""
    cells = []
    for point in PERCENTILES:
        values = [one.latency_us[point] for one in loads]
        us = max(values) if point == "max" else common.median(values)
        cells.append(f"{us:.0f} us" if us < 10_000 else f"{us / 1e3:.1f} ms")
    return cells


def pair_row(bench, what, ours, peer_name, theirs, target=None, by="per_cpu_s", unit="/cpu-s"):
    """A row that compares rounds in pairs, and how far the ratios lay apart."""
    mine, other = ([getattr(one, by) for one in loads] for loads in (ours, theirs))
    ratios = [one / two for one, two in zip(mine, other)]
    bench.row(what, f"{thousands(common.median(mine))}{unit}", peer_name, f"{thousands(common.median(other))}{unit}",
              common.median(ratios), target, n=len(ratios), spread=common.span(ratios))
