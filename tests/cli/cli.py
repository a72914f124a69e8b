# SPDX-License-Identifier: Apache-2.0
"""cli.py - what the tests of the command line share: TAP, the program, a folder of their own, seeded images.

A test program imports this, makes its checks and ends with done(). The program under test is $DORMOUSE,
else build/dormouse.
"""
import atexit
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

PAGE = 4096
USAGE, NOT_FOUND, EXISTS, CORRUPT, IO, NO_SPACE, NO_MEMORY, BUSY, TIMEOUT, DENIED, UNSUPPORTED = range(1, 12)

# Of long rows of points, at each of which something is wrong, a program tries one in so many.
every = int(os.environ.get("DOR_EVERY") or 1)

program = os.path.abspath(os.environ.get("DORMOUSE", "build/dormouse"))
work = pathlib.Path(tempfile.mkdtemp(prefix="dormouse-test-"))
atexit.register(shutil.rmtree, work, ignore_errors=True)
results = []


def ok(passed, name, *about):
    """One check. ABOUT is shown when it fails."""
    results.append(bool(passed))
    print(f"{'ok' if passed else 'not ok'} {len(results)} - {name}", flush=True)
    for words in about if not passed else ():
        for line in str(words).splitlines():
            print(f"# {line}", flush=True)
    return passed


def is_(got, want, name):
    return ok(got == want, name, f"got  {got!r}", f"want {want!r}")


def skip(reason, name):
    results.append(True)
    print(f"ok {len(results)} - {name} # SKIP {reason}", flush=True)


def done():
    print(f"1..{len(results)}")
    sys.exit(0 if results and all(results) else 1)


def run(*args, store=None, env=None, **how):
    """Run dormouse to its end; bytes of both streams and the exit code."""
    command = [program] + (["--store", store] if store is not None else []) + list(args)
    how = {"stdin": subprocess.DEVNULL, "timeout": 50, **how}
    return subprocess.run(command, capture_output="stdout" not in how, env={**clean_env(), **(env or {})}, **how)


def clean_env():
    return {key: value for key, value in os.environ.items() if key != "DORMOUSE_STORE"}


def works(name, *args, **how):
    """Run what must work, and check that it does; what it printed."""
    result = run(*args, **how)
    ok(result.returncode == 0 and result.stderr == b"", name,
       f"exit code {result.returncode}", result.stderr.decode(errors="replace"))
    return result.stdout


def says(name, *args, **how):
    """The same with --json; what it printed as an object."""
    text = works(name, "--json", *args, **how)
    try:
        return json.loads(text)
    except ValueError as error:
        ok(False, f"{name}: prints JSON", error, text)
        return {}


def refuses(code, words, name, *args, **how):
    """Run what must fail with CODE; standard error must be one clean line that holds WORDS."""
    result = run(*args, **how)
    said = result.stderr.decode(errors="replace")
    line = said[:-1]
    clean = said.endswith("\n") and said.startswith("dormouse: ") and line.isprintable()
    ok(result.returncode == code and words in said and clean and result.stdout == b"", name,
       f"exit code {result.returncode}, wanted {code} and {words!r}", said, result.stdout)
    return said


def powerless():
    """How to run the program where file modes must hold: as we are, or as nobody since root may do everything; None
    where nobody cannot run it."""
    if os.geteuid() != 0:
        return {}
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    work.chmod(0o755)
    try:
        return nobody if run("--version", **nobody).returncode == 0 else None
    except (OSError, subprocess.SubprocessError):
        return None


def denies(words, name, *args, **how):
    """Run what modes of files forbid; refuses() says the rest."""
    who = powerless()
    if who is None:
        skip("root may do everything, and nobody cannot run the program", name)
    else:
        refuses(DENIED, words, name, *args, **who, **how)


def prepare(*args, **how):
    """Run what the checks stand on; without it they would mean nothing."""
    result = run(*args, **how)
    if result.returncode != 0:
        print(f"Bail out! {args} ends with {result.returncode}: {result.stderr.decode(errors='replace')}")
        sys.exit(1)


def new_store(name="store", *options):
    path = str(work / name)
    prepare("init", *options, store=path)
    return path


def holds(path, data, name):
    """Check that the file at PATH has exactly the bytes DATA."""
    path = pathlib.Path(path)
    return ok(path.is_file() and path.read_bytes() == data, name,
              f"{path.stat().st_size} bytes, wanted {len(data)}" if path.is_file() else "it is not there")


def names(store):
    return [row["name"] for row in json.loads(run("--json", "ls", store=store).stdout)["snapshots"]]


def make_seed():
    seed = int(os.environ.get("DOR_SEED") or time.time_ns() % 10**9)
    print(f"# seed={seed}", flush=True)
    return random.Random(seed)


def make_image(rng, page_count, base=None):
    """Pages as guests have them: zero, equal to others, similar to others, new ones."""
    pages = []
    old = [base[i:i + PAGE] for i in range(0, len(base), PAGE)] if base else []
    for _ in range(page_count):
        choice = rng.random()
        known = old + pages
        if choice < 0.4:
            pages.append(bytes(PAGE))
        elif choice < 0.6 and known:
            pages.append(rng.choice(known))
        elif choice < 0.8 and known:
            page = bytearray(rng.choice(known))
            for _ in range(rng.randrange(1, 20)):
                page[rng.randrange(PAGE)] = rng.randrange(256)
            pages.append(bytes(page))
        else:
            # Half text-like, half noise, so that it can be compressed, but not to nothing.
            pages.append(rng.randbytes(PAGE // 2) + rng.randbytes(16) * (PAGE // 32))
    return b"".join(pages)


def write(name, data):
    path = work / name
    path.write_bytes(data)
    return str(path)


def left_in(folder):
    return sorted(os.listdir(folder))
