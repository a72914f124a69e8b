#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_function_deaths.py - storage functions over the deaths of their worker and of the front: behind the filter of
system calls each new process reads its libraries again, from the table or from the log, and what calls answered is
there, each of them whole; also of a tenant that left a shared worker, and while it left."""
from tables import *

LIBRARY = """#!js name=lib
redis.registerFunction("move", (keys, args) => {
    const step = kv.incr("steps");
    for (let i = 0; i < 20; i++) kv.put("part" + i, step);
    return step;
});
redis.registerFunction("loop", () => { kv.put("part3", "half done"); for (;;); });
redis.registerFunction("parts", () => [...Array(20).keys()].map((i) => kv.get("part" + i)), {flags: ["no-writes"]});
"""
OTHER = "#!js name=other\nredis.registerFunction('other', () => 'here', {flags: ['no-writes']});"
WARM_CALLS, CALLS, LIVES = 20, 400, 5


def load(client):
    answer = client.ask("FUNCTION", "LOAD", LIBRARY)
    if str(answer).startswith("ERR there is no engine"):
        skip("there is no engine in this build", "storage functions over deaths")
        done()
        sys.exit(0)
    client.ask("FUNCTION", "LOAD", OTHER)


def is_filtered(pid):
    return {line.split()[1] for thread in os.listdir(f"/proc/{pid}/task")
            for line in pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
            if line.startswith("Seccomp:")} == {"2"}


def check(client, answered, name):
    """Each call happened as a whole or not, and none that was answered is missing."""
    steps = int(client.ask("GET", "steps") or 0)
    parts = client.ask("FCALL", "parts", 0)
    ok(steps >= answered, f"{name}: {steps} calls are there of {answered} answered ones")
    is_(set(parts), {str(steps)} if steps else {None}, f"{name}: none is half there")
    is_(client.ask("FCALL", "other", 0), "here", f"{name}: and all libraries are")
    return steps


def call_until_gone(client, answered):
    try:
        for _ in range(CALLS):
            answered = max(answered, client.read())
    except Gone:
        pass
    return answered


def test_worker_dies(front, user):
    client = connect(front, user, user)
    load(client)
    answered = max(client.ask("FCALL", "move", 0) for _ in range(WARM_CALLS))
    for life in range(LIVES):
        pids = workers_of(front)
        client.send(command("FCALL", "move", 0) * CALLS)
        for _ in range(30 * life):
            answered = max(answered, client.read())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        answered = call_until_gone(client, answered)
        client = connect(front, user, user)
        answered = check(client, answered, f"{user}, life {life}")
        if "no_filter" in front.events():
            skip("a sanitizer makes calls that the filter refuses", "the new process is behind the filter")
        else:
            ok(all(is_filtered(pid) for pid in workers_of(front)), "the new process is behind the filter")
    return answered


def test_leaves(front, user):
    """From the shared worker, with a log; then its own dies."""
    client = connect(front, user, user)
    load(client)
    neighbour = connect(front, "other", "other")
    load(neighbour)
    shared = set(workers_of(front))
    client.send(command("FCALL", "move", 0) * 100 + command("FCALL", "loop", 0) + command("FCALL", "move", 0) * 100)
    answers = [client.read() for _ in range(201)]
    is_(answers[:100], list(range(1, 101)), "calls before it leaves")
    ok(str(answers[100]).startswith("BUSY"), "the call for which it leaves", answers[100])
    is_(answers[101:], list(range(101, 201)), "calls behind that go on where it is now")
    ok("tenant_apart" in front.events() and len(set(workers_of(front)) - shared) == 1, "in a worker of its own")
    answered = check(client, 200, "it has left")
    for pid in set(workers_of(front)) - shared:
        os.kill(pid, signal.SIGKILL)
    ok(client.is_gone(), "its own worker dies")
    client = connect(front, user, user)
    answered = check(client, answered, "after that")
    is_(neighbour.ask("FCALL", "other", 0), "here", "its neighbour has its connection still")
    return answered


def start(folder):
    return Front("--dir", folder, tenants=tenants)


tenants = str(work / "tenants")
for name, *more in (("alone", "log=always"), ("memory",), ("shared", "log=always", "isolation=shared", "domain=pool"),
                    ("other", "isolation=shared", "domain=pool")):
    add_tenant(tenants, name, name, *more)
folder = str(work / "tables")
os.mkdir(folder)
front = start(folder)
kept = {"alone": test_worker_dies(front, "alone"), "shared": test_leaves(front, "shared")}
test_worker_dies(front, "memory")
front.process.kill()
front.process.wait()
front = start(folder)
for user, answered in kept.items():
    client = connect(front, user, user)
    steps = check(client, answered, f"{user}, another front")
    is_(client.ask("FCALL", "move", 0), steps + 1, f"{user}: and goes on")
front.end()
done()
