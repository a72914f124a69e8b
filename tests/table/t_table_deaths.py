#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_deaths.py - whoever dies, the tables stay while the front lives, others are served on, and nobody is left
behind; settings change while it runs."""
import re

from tables import *


def test_worker_dies(front):
    alice = front.client("alice", "apple")
    worker = workers_of(front)[0]
    bob = front.client("bob", "berry")
    alice.send(b"".join(command("SET", f"k{i}", f"value {i}") for i in range(5000)))
    is_({alice.read() for _ in range(5000)}, {"OK"}, "5,000 keys are set")
    is_(bob.ask("SET", "b", "1"), "OK", "another tenant has a key too")
    os.kill(worker, signal.SIGKILL)
    ok(alice.is_gone(), "a worker dies: its connections are closed")
    is_(bob.ask("GET", "b"), "1", "those of others are not")
    again = connect(front, "alice", "apple")
    is_(again.ask("DBSIZE"), 5000, "the next worker has the table")
    is_({again.ask("GET", f"k{i}") == f"value {i}" for i in range(0, 5000, 7)}, {True}, "with its values")
    is_(again.ask("SET", "more", "1"), "OK", "and takes more")
    ok(worker not in workers_of(front), "it is another process")


def read_until_gone(client, count, begin, kept, value_of):
    try:
        for key in range(begin, count):
            if client.read() == "OK":
                kept[key] = value_of(key)
    except Gone:
        pass


def test_kills_in_writes(front):
    """Die again and again while writes run: each key that was answered is there."""
    kept = {}

    def value_of(key):
        return "v" * (key % 100)

    def key_of(key):
        return f"key {key}"

    others = set(workers_of(front))
    for life in range(6):
        client = connect(front, "carl", "cherry")
        if not ok(client, f"life {life}: a worker is there"):
            return
        first = 400 * life
        try:
            client.send(b"".join(command("SET", key_of(k), value_of(k)) for k in range(first, first + 400)))
            read_until_gone(client, first + 200, first, kept, value_of)
        except Gone:
            ok(False, "it lives")
        for pid in set(workers_of(front)) - others:
            os.kill(pid, signal.SIGKILL)
        read_until_gone(client, first + 400, first + 200, kept, value_of)
    client = connect(front, "carl", "cherry")
    lost = [key for key, value in kept.items() if client.ask("GET", key_of(key)) != value]
    ok(len(kept) >= 1200 and not lost, f"{len(kept)} answered writes are there after 6 kills", lost[:5])


def test_zygote_dies(front):
    client = front.client("alice", "apple")
    zygote = zygote_of(front)
    os.kill(zygote, signal.SIGKILL)
    ok(wait_for(lambda: zygote_of(front) not in (None, zygote)), "the zygote dies: there is another")
    is_(client.ask("DBSIZE") > 0, True, "workers that are there do not mind")
    dora = front.client("dora", "date")
    is_(dora.ask("SET", "d", "1"), "OK", "and new ones start")


def test_reload(front, tenants):
    bob = front.client("bob", "berry")
    alice = front.client("alice", "apple")
    add_tenant(tenants, "emil", "egg", "isolation=shared", "domain=pool")
    add_tenant(tenants, "fred", "fig", "isolation=shared", "domain=pool")
    run("tenant", "rm", "bob", "--tenants", tenants)
    run("tenant", "passwd", "alice", "--tenants", tenants, stdin=None, input=b"apricot\n")
    is_(front.client().ask("AUTH", "emil", "egg").split()[0], "WRONGPASS", "who was added is unknown before SIGHUP")
    front.process.send_signal(signal.SIGHUP)
    ok(wait_for(lambda: front.client().ask("AUTH", "emil", "egg") == "OK"), "and known after it")
    ok(wait_for(bob.is_gone), "who was removed is cut off")
    is_(front.client().ask("AUTH", "bob", "berry").split()[0], "WRONGPASS", "and not let in again")
    is_(alice.ask("PING"), "PONG", "whose password has changed stays")
    is_(front.client().ask("AUTH", "alice", "apple").split()[0], "WRONGPASS", "but the old one is wrong now")
    is_(front.client().ask("AUTH", "alice", "apricot"), "OK", "and the new one right")
    emil, fred = front.client("emil", "egg"), front.client("fred", "fig")
    emil.ask("SET", "e", "1")
    is_(fred.ask("DBSIZE"), 0, "tenants of a shared worker see nothing of each other")
    text = pathlib.Path(tenants).read_text()
    pathlib.Path(tenants).write_text("{")
    front.process.send_signal(signal.SIGHUP)
    ok(wait_for(lambda: "tenants_stay" in front.events()), "a broken file is refused")
    is_(emil.ask("GET", "e"), "1", "and changes nothing")
    pathlib.Path(tenants).write_text(text)


LIBRARY = """#!js name=lib
redis.registerFunction("one", () => 1, {flags: ["no-writes"]});
redis.registerFunction("loop", () => { for (;;); });
"""


def policies_of(worker):
    """Of its own threads; helpers of the engine that started in a long call go on as it was, until they end."""
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{worker}/task")
            if pathlib.Path(f"/proc/{worker}/task/{thread}/comm").read_text() == "table-worker\n"}


def test_stuck(front):
    """A worker that goes on after its time, here because it is stopped, is killed by the front."""
    others = set(workers_of(front))
    client = front.client("slow", "salt")
    if str(client.ask("FUNCTION", "LOAD", LIBRARY)).startswith("ERR no engine"):
        skip("there is no engine in this build", "stuck workers are killed")
        return
    client.ask("SET", "key", "1")
    is_(client.ask("FCALL", "one", "0"), 1, "a function runs behind the filter")
    ok(str(client.ask("FCALL", "loop", "0")).startswith("BUSY"), "one that loops is stopped by its worker")
    worker = next(pid for pid in workers_of(front) if pid not in others)
    client.send(command("FCALL", "loop", "0"))
    time.sleep(0.2)
    capabilities = int(pathlib.Path(f"/proc/{worker}/status").read_text().split("CapEff:")[1].split()[0], 16)
    nice = pathlib.Path(f"/proc/{worker}/limits").read_text().split("Max nice priority")[1].split()[0]
    if capabilities & 1 << 23 or nice == "unlimited" or int(nice) >= 20:
        policies = policies_of(worker)
        ok(os.SCHED_IDLE in policies, "a long call only gets what others leave", policies)
    else:
        skip("this worker may not come back from there", "a long call only gets what others leave")
    os.kill(worker, signal.SIGSTOP)
    is_(front.client("alice", "apple").ask("PING"), "PONG", "while it is stuck, others are served")
    ok(client.is_gone(), "a worker that goes on is killed")
    ok("worker_stuck" in front.events(), "and the log says so")
    again = connect(front, "slow", "salt")
    is_(again.ask("GET", "key"), "1", "its table is intact")
    is_(again.ask("FCALL", "one", "0"), 1, "and so are its functions")
    worker = next(pid for pid in workers_of(front) if pid not in others)
    ok(str(again.ask("FCALL", "loop", "0")).startswith("BUSY"), "another long call ends")
    policies = policies_of(worker)
    is_(os.SCHED_IDLE in policies, False, "and its worker is as quick as before")


def test_front_dies(tenants):
    front = Front(tenants=tenants)
    client = front.client("alice", "apricot")
    client.ask("PING")
    zygote, workers = zygote_of(front), workers_of(front)
    ok(zygote and len(workers) == 1, "a worker and a zygote")
    front.process.kill()
    front.process.wait()
    ok(client.is_gone(), "the front dies: its worker ends")
    ok(wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in [zygote] + workers)),
       "and nobody is left")


def test_end(front):
    idle = front.client()
    client = front.client("alice", "apricot")
    pids = workers_of(front) + [zygote_of(front)]
    is_(front.end(), 0, "SIGTERM: the front ends well")
    ok(client.is_gone() and idle.is_gone(), "connections are closed")
    ok(not any(os.path.exists(f"/proc/{pid}") for pid in pids), "and nobody is left")


def test_sandbox(front):
    """The filter is on in every thread of a worker, and nothing of the front is open there."""
    front.client("alice", "apple").ask("PING")
    pid = workers_of(front)[0]
    threads = os.listdir(f"/proc/{pid}/task")
    modes = {line.split()[1] for thread in threads
             for line in pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
             if line.startswith(("Seccomp:", "NoNewPrivs:"))}
    if "no_filter" in front.events():
        skip("a sanitizer makes calls that the filter refuses", "filter and no new privileges in all threads")
    else:
        is_(modes, {"1", "2"}, "filter and no new privileges in all threads")
    if os.geteuid() == 0:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        ok("Uid:\t65534\t65534" in status and re.search("CapEff:\t0000000000(0|8)00000\n", status),
           "it is nobody, with no capability but perhaps that over its priority")
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        ok(not any("tenants" in link or link.startswith(str(work)) and "log-" not in link for link in links),
           "no file is open there", links)


tenants = make_tenants("tenants.json", alice="apple", bob="berry", carl="cherry", dora="date")
add_tenant(tenants, "slow", "salt", "call_ms=500")
front = Front(tenants=tenants)
test_sandbox(front)
test_worker_dies(front)
test_kills_in_writes(front)
test_stuck(front)
test_zygote_dies(front)
test_reload(front, tenants)
test_end(front)
test_front_dies(tenants)
done()
