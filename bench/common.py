# SPDX-License-Identifier: Apache-2.0
"""common.py - what all benchmarks share: measuring a process tree by its processor time, the folder that a
benchmark works in and clears, rows of results with their targets, and the machine they were measured on.

A benchmark is a script with one claim in its docstring. It makes a Bench, adds rows to it and leaves; the
Bench prints the rows and writes BUILD/bench/NAME.json. Ratios compare two participants in one run on one
input; nothing here fails because something was slow.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUNCTIONS = ("pyjson", "pymat", "jstpl", "caes")
FORKS = ("fork-pyjson-1", "fork-pyjson-2", "fork-pymat-1", "fork-jstpl-1")
PAGE_BYTES = 4096
BLOCK_BYTES = 1 << 20
COMMAND_SECONDS_MAX = 3600      # a command that hangs is ended; no result depends on this


class Skip(Exception):
    """A participant or a whole benchmark cannot run here; the text says why."""


class Failed(RuntimeError):
    """A command ended badly; WORDS are what it said."""

    def __init__(self, command, code, words):
        super().__init__(f"{command}: exit {code}: {words}")
        self.words = words


@dataclasses.dataclass
class Usage:
    """What one command took, its children included."""
    user_s: float
    system_s: float
    wall_s: float
    peak_bytes: int

    @property
    def cpu_s(self):
        return self.user_s + self.system_s

    def __add__(self, other):
        return Usage(self.user_s + other.user_s, self.system_s + other.system_s,
                     self.wall_s + other.wall_s, max(self.peak_bytes, other.peak_bytes))


def run(command, folder=None, environment=None, stdout=None):
    """Run COMMAND (a list, or a string for the shell) to its end and say what it took."""
    shell = isinstance(command, str)
    words = ["/bin/bash", "-o", "pipefail", "-c", command] if shell else [str(word) for word in command]
    begin = time.monotonic()
    with subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL if stdout is None else stdout,
                          stderr=subprocess.PIPE, process_group=0) as process:
        def end(number=signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
        watch = threading.Timer(COMMAND_SECONDS_MAX, end)
        watch.start()
        try:
            errors = process.stderr.read()
            _, status, spent = os.wait4(process.pid, 0)
        except BaseException:
            end()
            raise
        finally:
            watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = errors.decode(errors="replace").strip()[-2000:]
        raise Failed(" ".join(words), process.returncode, tail)
    return Usage(spent.ru_utime, spent.ru_stime, time.monotonic() - begin, spent.ru_maxrss * 1024)


def output_of(command):
    """The text a short command prints on both streams, or "" when it cannot run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def folder_bytes(path):
    """Apparent size of all regular files below PATH. Directories themselves are not counted, which is to the
    advantage of whoever makes many of them."""
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            info = os.lstat(os.path.join(where, name))
            if os.path.isfile(os.path.join(where, name)):
                total += info.st_size
    return total


def warm(*paths):
    """Bring files into the page cache."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(BLOCK_BYTES):
                pass


def warm_folder(path):
    for where, _, names in os.walk(path):
        warm(*(os.path.join(where, name) for name in names if os.path.isfile(os.path.join(where, name))))


def same_bytes(one, two):
    """Whether two files hold the same bytes; a missing file equals nothing."""
    try:
        if os.stat(one).st_size != os.stat(two).st_size:
            return False
    except FileNotFoundError:
        return False
    with open(one, "rb", buffering=0) as left, open(two, "rb", buffering=0) as right:
        while True:
            block = left.read(BLOCK_BYTES)
            if block != right.read(BLOCK_BYTES):
                return False
            if not block:
                return True


def copy_dense(source, target):
    """Copy a file and write its holes as zeros, so that no reader can skip them."""
    with open(source, "rb", buffering=0) as left, open(target, "wb", buffering=0) as right:
        while block := left.read(BLOCK_BYTES):
            right.write(block)


def link(source, target):
    """The same file under another name, holes and all; a copy where there cannot be one."""
    try:
        os.link(source, target)
    except OSError:
        subprocess.run(["cp", "--sparse=always", source, target], check=True)


def decimal(size):
    """Bytes in units of 1000."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB" if size < 1e7 else f"{size / 1e6:.1f} MB"


def share(size, of):
    """SIZE with its part of OF; "-" where there is none."""
    if size is None:
        return "-"
    return f"{decimal(size)} ({100 * size / of:.3g} %)"


def quotient(ours, theirs):
    """Their ratio, or None when one of them was not measured."""
    return None if ours is None or theirs is None else ours / theirs


def rate(size, seconds):
    return f"{size / 1e6 / max(seconds, 1e-9):.0f} MB/s"


def span(values, digits=2):
    """How far the rounds lay apart."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else "-"


median = statistics.median


# ---------------------------------------------------------------- machine

def cpu_model():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Processor"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_flags():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return set(value.split())
    except OSError:
        pass
    return set()


def machine():
    flags = cpu_flags()
    vector = "AVX-512" if "avx512vbmi2" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "vector": vector,
        "virtual": "hypervisor" in flags,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
    }


def machine_line(info):
    kind = "virtual, " if info["virtual"] else ""
    return (f"{info['cpu']} ({kind}{info['cores']} cores, {info['vector']}), {info['memory_gib']} GiB, "
            f"Linux {info['kernel']}, load {info['load']} when it began")


# ---------------------------------------------------------------- results

@dataclasses.dataclass
class Row:
    """One measured comparison. VALUE is what the target is held against, the ratio where not said."""
    measure: str
    ours: str
    peer: str = "-"
    theirs: str = "-"
    ratio: float = None
    target: str = None
    met: bool = None
    n: int = 1
    spread: str = "-"
    value: float = None


COMPARE = {"<=": lambda value, bound: value <= bound, ">=": lambda value, bound: value >= bound}


def arguments(about):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less input, fewer rounds: a trial, not a result")
    parser.add_argument("--rounds", type=int, help="how often what is timed is repeated")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder (build)")
    parser.add_argument("--guests", type=pathlib.Path, help="guest images (BUILD/guests)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="run on this core (last)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="of the store, for trials; may be repeated")
    parser.add_argument("--keep", action="store_true", help="do not clear the work folder")
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.guests = (args.guests or args.build / "guests").resolve()
    return args


class Bench:
    """One run of one benchmark; use it in a with statement."""

    def __init__(self, script, claim):
        self.name = pathlib.Path(script).stem
        self.claim = " ".join(claim.split("\n\n")[0].split())
        self.args = arguments(claim)
        self.quick = self.args.quick
        self.out = self.args.build / "bench"
        self.work = self.out / f"work-{self.name}"
        self.programs = {}
        self.rows, self.tables, self.notes, self.skipped, self.versions = [], [], [], [], {}

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        os.sched_setaffinity(0, {self.args.core})   # children inherit it
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        shared = pathlib.Path("/dev/shm")
        roomy = shared.is_dir() and shutil.disk_usage(shared).free > 3 << 30
        self.target = (shared / f"dormouse-bench-{os.getpid()}") if roomy else self.work / "target"
        if not roomy:
            self.note("no roomy /dev/shm here: images are got to the disk")
        self.target.mkdir()
        # Nothing a peer caches or keeps as settings leaves the work folder.
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin", "LANG": "C.UTF-8",
            "HOME": str(self.work), "TMPDIR": str(self.work),
        }
        self.machine = machine()
        self.begin = time.monotonic()
        return self

    def __exit__(self, kind, value, trace):
        if not self.args.keep:
            shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.target, ignore_errors=True)
        if kind is Skip:
            self.skip(self.name, str(value))
        if kind in (None, Skip):
            self.finish()
        return kind is Skip

    def rounds(self, full, quick=1):
        return self.args.rounds or (quick if self.quick else full)

    def say(self, text):
        print(f"# [{time.monotonic() - self.begin:6.1f} s] {text}", file=sys.stderr, flush=True)

    def image(self, name):
        path = self.args.guests / name / "mem"
        if not path.exists():
            raise Skip(f"no guest image {name}: run tools/guest/corpus")
        return path

    def folder(self, name):
        """An empty folder for one store."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def program(self, name):
        """A C program of this folder, built once a run if need be."""
        if name in self.programs:
            return self.programs[name]
        if shutil.which("ninja") and (self.args.build / "build.ninja").exists():
            made = subprocess.run(["ninja", "-C", str(self.args.build), f"bench/{name}"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if made.returncode:
                raise Skip(f"bench/{name} cannot be built: {made.stdout.strip()[-600:]}")
        path = self.out / name
        if not path.exists():
            raise Skip(f"bench/{name} is not built")
        self.programs[name] = path
        return path

    def measure(self, name, *words):
        """Run a C program of this folder; the JSON object it prints."""
        command = [str(self.program(name)), *map(str, words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              env=self.environment)
        if done.returncode:
            raise Failed(" ".join(command), done.returncode, "see above")
        return json.loads(done.stdout)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def skip(self, who, reason):
        self.say(f"skipped: {who}: {reason}")
        self.skipped.append({"who": who, "reason": reason})

    def use(self, participants):
        """Those of PARTICIPANTS that can run here; the reason is told for the others."""
        able = []
        for participant in participants:
            reason = participant.missing()
            if reason:
                self.skip(participant.name, reason)
            else:
                self.versions[participant.tool] = participant.version()
                able.append(participant)
        return able

    def row(self, measure, ours="-", peer="-", theirs="-", ratio=None, target=None, value=None, unit="",
            n=1, spread="-"):
        """TARGET is a pair such as ("<=", 0.75), held against VALUE or else against RATIO."""
        held = ratio if value is None else value
        text = f"{target[0]} {target[1]:g}{unit}" if target else None
        met = COMPARE[target[0]](held, target[1]) if target and held is not None else None
        self.rows.append(Row(measure, ours, peer, theirs, ratio, text, met, n, spread, value))

    def table(self, headings, lines):
        """A table that does not compare in pairs; cells are text."""
        self.tables.append({"headings": headings, "lines": lines})

    def finish(self):
        result = {
            "bench": self.name, "claim": self.claim, "quick": self.quick, "date": time.strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - self.begin, 1), "options": self.args.option,
            "machine": self.machine, "versions": self.versions,
            "rows": [dataclasses.asdict(row) for row in self.rows], "tables": self.tables,
            "notes": self.notes, "skipped": self.skipped,
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{self.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(text_of(result))


# ---------------------------------------------------------------- tables

HEADINGS = ("what", "ours", "peer", "peer's", "ratio", "target", "met", "n", "spread")


def cells(row):
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.{2 if row['ratio'] >= 0.1 else 3}f}"
    met = {True: "yes", False: "no", None: "-"}[row["met"]]
    return (row["measure"], row["ours"], row["peer"], row["theirs"], ratio, row["target"] or "-", met,
            str(row["n"]), row["spread"])


def remarks(result):
    """What has to be said below a table."""
    used = ", ".join(version for version in result["versions"].values())
    return [*result["notes"],
            *(f"skipped: {skip['who']}: {skip['reason']}" for skip in result["skipped"]),
            *([f"options: {' '.join(result['options'])}"] if result["options"] else []),
            *([f"versions: {used}"] if used else []),
            f"machine: {machine_line(result['machine'])}; {result['date']}, {result['seconds']} s"
            + (", quick" if result["quick"] else "")]


def tables_of(result):
    """All tables of a result as (headings, lines of cells)."""
    pairs = [(HEADINGS, [cells(row) for row in result["rows"]])] if result["rows"] else []
    return pairs + [(table["headings"], table["lines"]) for table in result["tables"]]


def text_of(result):
    """A result for the terminal."""
    text = [f"{result['bench']}: {result['claim']}"]
    for headings, lines in tables_of(result):
        widths = [max(map(len, column)) for column in zip(headings, *lines)]
        text += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                 for line in (headings, *lines)]
    return "\n".join([*text, *(f"  {remark}" for remark in remarks(result)), ""])


def markdown_of(result):
    """The same for the page."""
    text = [f"### {result['bench']}", "", result["claim"], ""]
    for headings, lines in tables_of(result):
        text += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (headings, *lines)]
        text.insert(len(text) - len(lines), "|" + " --- |" * len(headings))
        text.append("")
    return "\n".join([*text, *(f"- {remark}" for remark in remarks(result)), ""])
