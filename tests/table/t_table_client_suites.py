#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_client_suites.py - the tests that the authors of two clients for Node, `redis` and `ioredis`, wrote for them
pass with a served table.

npm fetches exactly the versions of suites/package-lock.json, by their digests; these still came with their tests. What asks for
what a table is not is left out by suites/*.left_out, with reasons. All others run with Redis first: a test that fails there
(Node or Redis is too new for it) says nothing about us; any other must pass with us.
"""
import sys

sys.dont_write_bytecode = True
from served import *
import re

SUITES = pathlib.Path(__file__).resolve().parent / "suites"
FETCHED = pathlib.Path(program).parent / "client-suites"
FETCH_SECONDS_MAX, SUITE_SECONDS_MAX = 240, 120
# So that npm gives up soon where there is no net.
PATIENCE = ["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-timeout", "30000"]
# What npm says when the fault is in suites/, not in the net.
OUR_FAULTS = ("EINTEGRITY", "EUSAGE", "ETARGET", "E404", "EJSONPARSE")
# The password and the port of a server that tests of `redis` ask; it is no more where their author left it.
THEIR_PASSWORD, THEIR_PASSWORD_PORT = "664b1b6aaf134e1ec281945a8de702a9", 9006
FAILURES_MAX = 20


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


# ---------------------------------------------------------------- to get the suites

def fetched():
    """The folder with both suites; it is kept in the build folder."""
    lock = (SUITES / "package-lock.json").read_bytes()
    if FETCHED.is_dir() and (FETCHED / "package-lock.json").read_bytes() == lock:
        return FETCHED
    new = FETCHED.with_name("client-suites.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SUITES / name, new)
    said = "it did not end"
    try:
        npm = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
             "--cache", work / "npm", *PATIENCE],
            cwd=new, capture_output=True, stdin=subprocess.DEVNULL, timeout=FETCH_SECONDS_MAX)
        said = npm.stderr.decode(errors="replace")
        if npm.returncode == 0:
            shutil.rmtree(FETCHED, ignore_errors=True)
            new.rename(FETCHED)
            return FETCHED
    except subprocess.TimeoutExpired:
        pass
    if any(fault in said for fault in OUR_FAULTS):
        ok(False, "npm fetches what the lock names", said)
        done()
    errors = [line for line in said.splitlines() if "error" in line] or [said]
    skip_all(f"npm cannot fetch the suites: {errors[0]}")


def left_out(name):
    """Names of tests by the reason for which they are left out."""
    reasons, names = {}, None
    for line in (SUITES / f"{name}.left_out").read_text().splitlines():
        if line.startswith("["):
            names = reasons.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("# "):
            names.append(line)
    return reasons


# ---------------------------------------------------------------- to run them

class Outcome:
    """What a suite did: ALL its tests, those that PASSED, and those that FAILED with what it said of them."""

    def __init__(self):
        self.all, self.passed, self.failed = [], [], {}


def node(folder, ports, names, script, *args, last=None):
    """Run SCRIPT without the tests NAMES until it ends or prints LAST; what it printed on both streams."""
    env = {**clean_env(), "DOR_PORTS": json.dumps(ports), "DOR_LEFT_OUT": json.dumps(sorted(names))}
    out, err = work / "suite.out", work / "suite.err"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(["node", "--no-deprecation", "-r", SUITES / "ports.js", SUITES / script, *args], cwd=folder,
                                   env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    end = time.monotonic() + SUITE_SECONDS_MAX
    while process.poll() is None and time.monotonic() < end and not (last and last in out.read_bytes()):
        time.sleep(0.05)
    process.kill()
    process.wait()
    return out.read_text(errors="replace"), err.read_text(errors="replace")


def all_told(text):
    found = re.search(r"^# all: (\[.*\])$", text, re.MULTILINE)
    return json.loads(found.group(1)) if found else []


def run_node_redis(folder, ports, names):
    """It ends at the first failure, so go on without what failed."""
    outcome, names = Outcome(), set(names)
    while len(outcome.failed) < FAILURES_MAX:
        with Wire(ports[0][1]) as wire:
            wire.call("FLUSHALL")
        text, errors = node(folder, ports, names, "node_redis.js", last=b"  completed ")
        outcome.all = all_told(text)
        known = {name.lower(): name for name in outcome.all}
        started = [known[name] for name in re.findall(r"^- \x1b\[1m(\w+)\x1b\[0m:", text, re.MULTILINE) if name in known]
        if re.search(r"^  completed ", text, re.MULTILINE):
            outcome.passed = started
            return outcome
        failed = started[-1] if started else "its begin"
        outcome.failed[failed] = (text + errors)[-3000:]
        if failed in names or not started:
            return outcome
        names.add(failed)
    return outcome


def run_ioredis(folder, ports, names):
    outcome = Outcome()
    for file in sorted((folder / "node_modules/ioredis/test/functional").glob("*.js")):
        text, errors = node(folder, ports, names, "ioredis.js", file.name)
        outcome.all += all_told(text)
        events = [json.loads(line) for line in text.splitlines() if re.match(r'\["(pass|fail|end)",', line)]
        for kind, about in events:
            if kind == "pass":
                outcome.passed.append(about["fullTitle"])
            elif kind == "fail":
                outcome.failed[about["fullTitle"].strip()] = about.get("stack") or about.get("err")
        if not events or events[-1][0] != "end":
            outcome.failed[f"the end of {file.name}"] = (text + errors)[-3000:]
    return outcome


# ---------------------------------------------------------------- to judge

def names_test(entry, title):
    return title.startswith(entry[:-1]) if entry.endswith(" *") else title == entry


def test_suite(name, run, folder, theirs, ours, count_min):
    """RUN the suite NAME with Redis and with us; at least COUNT_MIN of its tests must have passed with us."""
    reasons = left_out(name)
    names = [one for some in reasons.values() for one in some]
    peer = run(folder, theirs, names)
    own = run(folder, ours, names + list(peer.failed))
    for title in own.passed:
        ok(True, f"{name}: {title}")
    for title, said in own.failed.items():
        ok(False, f"{name}: {title}", said)
    for title, said in peer.failed.items():
        skip("it fails with Redis, too", f"{name}: {title}")
    for reason, some in reasons.items():
        count = sum(any(names_test(one, title) for one in some) for title in own.all)
        print(f"# {name}: {count} left out: {reason}")
    is_([one for one in names if not any(names_test(one, title) for title in own.all)], [],
        f"{name}: each that is left out is there")
    skipped = sum(any(names_test(one, title) for one in names) for title in own.all)
    is_(skipped + len(own.passed) + len(own.failed) + len(peer.failed), len(own.all), f"{name}: every test was run or left out")
    ok(len(own.passed) >= count_min, f"{name}: {len(own.passed)} of {len(own.all)} tests were run with us and passed",
       f"at least {count_min} must")


def main():
    for command in ("node", "npm", "redis-server"):
        if not shutil.which(command):
            skip_all(f"{command} is not installed")
    folder = fetched()
    add_tenant(work / "tenants", "default", THEIR_PASSWORD)
    peers = [redis_server(), redis_server("--requirepass", THEIR_PASSWORD)]
    servers = [our_server(), our_server("--tenants", work / "tenants")]
    theirs, ours = ([[6379, two[0].port], [THEIR_PASSWORD_PORT, two[1].port]] for two in (peers, servers))
    test_suite("node_redis", run_node_redis, folder, theirs, ours, 38)
    test_suite("ioredis", run_ioredis, folder, theirs, ours, 50)
    for server in servers:
        is_(server.stop(), 0, "the server ends as it should")
    done()


if __name__ == "__main__":
    main()
