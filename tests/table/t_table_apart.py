#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_apart.py - a tenant of a shared worker whose functions overrun their limits gets a worker of its own: its
connections go on there, those of its neighbours notice nothing, and nothing is lost on the way."""
from tables import *

LIBRARY = """#!js name=lib
let n = 0;
redis.registerFunction("count", () => ++n);
redis.registerFunction("put", (keys, args) => { kv.put(keys[0], args[0]); for (;;); });
redis.registerFunction("loop", () => { for (;;); });
redis.registerFunction("bomb", () => { const all = []; for (;;) all.push(new Array(1000).fill(all.length)); });
redis.registerFunction("pattern", () => /(a+)+$/.test("a".repeat(60) + "b"));
"""


def load(client):
    answer = client.ask("FUNCTION", "LOAD", LIBRARY)
    if str(answer).startswith("ERR there is no engine"):
        skip_all(answer)
    return answer


def has_left(front, count):
    return wait_for(lambda: front.events().count("tenant_apart") == count)


def ticks_of(worker):
    """Processor time, in hundredths of a second."""
    fields = pathlib.Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def policies_of(worker):
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{worker}/task")
            if pathlib.Path(f"/proc/{worker}/task/{thread}/comm").read_text() == "table-worker\n"}


def gives_way(client, worker, name):
    """What the engine cannot stop, and never asks, only gets what others leave."""
    status, limits = (pathlib.Path(f"/proc/{worker}/{what}").read_text() for what in ("status", "limits"))
    nice = limits.split("Max nice priority")[1].split()[0]
    client.send(command("FCALL", "pattern", 0))
    if int(status.split("CapEff:")[1].split()[0], 16) & 1 << 23 or nice == "unlimited" or int(nice) >= 20:
        ok(wait_for(lambda: os.SCHED_IDLE in policies_of(worker), 5), f"{name} a pattern gives way from its begin")
    else:
        skip("this worker may not come back from there", f"{name} a pattern gives way from its begin")
    client.read()


def test_leaves(front):
    quiet, loud = front.client("quiet", "quince"), front.client("loud", "lemon")
    load(quiet), load(loud)
    shared = workers_of(front)
    is_(len(shared), 1, "two tenants share a worker")
    is_([quiet.ask("FCALL", "count", 0) for _ in range(2)], [1, 2], "one has a variable")
    loud.ask("SET", "key", "value")
    idle, changing, watching = (front.client("loud", "lemon") for _ in range(3))
    is_([changing.ask("MULTI"), changing.ask("SET", "half", "1")], ["OK", "QUEUED"], "one is in a transaction")
    is_([idle.ask("PING"), watching.ask("WATCH", "key")], ["PONG", "OK"], "one idles, one watches a key")
    idle.ask("HELLO", "3")
    idle.ask("CLIENT", "SETNAME", "idler")
    loud.send(command("FCALL", "put", 1, "half", "1") + command("SET", "after", "2") +
              b"".join(command("GET", "after") for _ in range(1000)))
    answer = loud.read()
    ok(str(answer).startswith("BUSY"), "a function that never ends is an error to its caller", answer)
    is_(loud.read(), "OK", "what it sent behind that is done")
    is_({loud.read() for _ in range(1000)}, {"2"}, "in order, and all of it")
    ok(has_left(front, 1) and len(workers_of(front)) == 2, "by another worker", front.events()[-500:])
    ok(shared[0] in workers_of(front), "the shared one is there")
    is_(loud.ask("GET", "key"), "value", "the table went along")
    is_(loud.ask("EXISTS", "half"), 0, "without what was half done")
    is_(idle.ask("CLIENT", "GETNAME"), "idler", "who was idle goes on as before")
    is_(idle.ask("HGETALL", "x") is not None, True, "with its protocol")
    ok(changing.is_gone() and watching.is_gone(), "who was in the middle of something is cut off")
    is_(quiet.ask("FCALL", "count", 0), 3, "the neighbour has kept its connection and its variables")
    is_(loud.ask("FCALL", "count", 0), 1, "functions are there too")
    is_(front.client("loud", "lemon").ask("GET", "after"), "2", "new connections find the table")
    return shared[0]


def test_stays_away(front, shared):
    """What it does from now on is its own worker's time."""
    loud, quiet = front.client("loud", "lemon"), front.client("quiet", "quince")
    for name, word in (("loop", "BUSY"), ("bomb", "OOM"), ("pattern", "BUSY")):
        loud.send(command("FCALL", name, 0))
        is_(quiet.ask("PING"), "PONG", f"{name}: the neighbour is served meanwhile")
        answer = loud.read()
        ok(str(answer).startswith((word, "BUSY")), f"{name}: it is stopped", answer)
    is_(len(workers_of(front)), 2, "and there is no third worker")
    gives_way(loud, next(pid for pid in workers_of(front) if pid != shared), "after calls that were stopped")
    os.kill(next(pid for pid in workers_of(front) if pid != shared), signal.SIGKILL)
    ok(loud.is_gone(), "when its worker dies")
    again = wait_for(lambda: front.client("loud", "lemon"))
    is_(again.ask("GET", "key"), "value", "it gets another one")
    ok(shared in workers_of(front) and len(workers_of(front)) == 2, "of its own")


def test_others_leave(front):
    """Each for its own reason, also at load."""
    other = front.client("bomber", "banana")
    load(other)
    answer = other.ask("FCALL", "bomb", 0)
    ok(str(answer).startswith(("OOM", "BUSY")), "a function that fills its memory is an error", answer)
    ok(has_left(front, 2), "and a reason to be put apart")
    is_(other.ask("FCALL", "count", 0), 1, "it is served on")
    is_(len(workers_of(front)), 3, "by a worker of its own")
    third = front.client("loader", "lime")
    answer = third.ask("FUNCTION", "LOAD", "#!js name=lib\nfor (;;);")
    ok("took longer" in str(answer), "so is a library that never ends to load", answer)
    ok(has_left(front, 3), "and that too")
    is_(third.ask("FUNCTION", "LIST"), [], "nothing of it is there")


def test_stuck(front, shared):
    """A shared worker that its engine cannot stop is killed for all; the reason is put apart."""
    quiet, stuck = front.client("quiet", "quince"), front.client("stuck", "straw")
    load(stuck)
    quiet.ask("SET", "mine", "1")
    before = len(workers_of(front))
    idle = ticks_of(shared)
    stuck.send(command("FCALL", "loop", 0))
    ok(wait_for(lambda: ticks_of(shared) > idle + 10), "a call runs")
    os.kill(shared, signal.SIGSTOP)
    ok(quiet.is_gone(), "a shared worker that is stuck in a call is killed")
    ok("worker_stuck" in front.events(), "and the log says so")
    quiet = wait_for(lambda: front.client("quiet", "quince"))
    is_(quiet.ask("PING"), "PONG", "it comes again")
    known = set(workers_of(front))
    is_(quiet.ask("GET", "mine"), "1", "its tenants are served again, with their tables")
    stuck = wait_for(lambda: front.client("stuck", "straw"))
    is_(stuck.ask("FCALL", "count", 0), 1, "the reason too")
    is_(len(workers_of(front)), before + 1, "in a worker of its own")
    own = (set(workers_of(front)) - known).pop() if len(set(workers_of(front)) - known) == 1 else None
    if ok(own is not None, "which is new"):
        gives_way(stuck, own, "after a kill")


tenants = str(work / "tenants")
for name, password, *more in (("quiet", "quince"), ("loud", "lemon"), ("bomber", "banana", "call_ms=2000"),
                              ("loader", "lime"), ("stuck", "straw", "call_ms=1500")):
    add_tenant(tenants, name, password, "isolation=shared", "domain=pool", *more)
front = Front(tenants=tenants)
shared = test_leaves(front)
test_stays_away(front, shared)
test_others_leave(front)
test_stuck(front, shared)
is_(front.end(), 0, "the front ends well")
done()
