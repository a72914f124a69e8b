#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_tenants.py - tables hosted by the daemon: tenants come and go by request, use their tables, show in the metrics,
and end with the daemon."""
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent / "table"))
from node import *
from tables import Client, Gone, processes, wait_for

store = new_store()
resp = str(work / "resp.sock")
daemon = Daemon(store, "--resp", resp)


def metrics():
    data = daemon.ask("GET", "/metrics")[2].decode()
    return {name: value for name, value in
            (line.rsplit(" ", 1) for line in data.splitlines() if not line.startswith("#"))}


def enter(name, password):
    """A client whose worker answers; None when it is refused, or handed over to a worker that has just died."""
    client = Client(resp)
    try:
        return client if client.ask("AUTH", name, password) == "OK" and client.ask("PING") == "PONG" else None
    except Gone:
        return None


is_(Client(resp).ask("GET", "a"), "NOAUTH Authentication required.", "the daemon serves tables, to nobody yet")
daemon.says("PUT", "/tenants/alice", {"password": "apple"})
client = wait_for(lambda: enter("alice", "apple"))
is_(client.ask("SET", "key", "value"), "OK", "who is added by request can write")
is_(client.ask("GET", "key"), "value", "and read")
row = wait_for(lambda: [row for row in daemon.says("GET", "/tenants")["tenants"] if row["keys"] == 1])
ok(row and row[0]["worker"] > 0 and row[0]["connections"] == 1 and row[0]["commands"] >= 2,
   "the list tells of keys, connections, commands and the worker", row)
found = metrics()
is_((found["dormouse_table_tenants"], found["dormouse_table_workers_running"], found["dormouse_table_keys"]),
    ("1", "1", "1"), "and so do the metrics")
ok(int(found["dormouse_table_hand_overs_total"]) >= 1, "with counters", found)
os.kill(row[0]["worker"], signal.SIGKILL)
ok(wait_for(lambda: row[0]["worker"] not in processes("table-worker")), "its worker dies")
again = wait_for(lambda: enter("alice", "apple"))
is_(again.ask("GET", "key"), "value", "which costs no key")
ok(wait_for(lambda: metrics()["dormouse_table_dead_workers_total"] == "1"), "and is counted")
added = subprocess.run([program, "tenant", "add", "bob", "--tenants", os.path.join(store, "tenants.json")],
                       input=b"berry\n", capture_output=True)
is_(added.returncode, 0, "a tenant is added to the file in the store")
daemon.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: enter("bob", "berry")), "SIGHUP has it read")
daemon.says("DELETE", "/tenants/bob")
ok(wait_for(lambda: enter("bob", "berry") is None), "who is removed by request is out")
is_(daemon.end(), 0, "the daemon ends")
try:
    gone = again.read() is None
except Gone:
    gone = True
ok(gone, "and closes the tenants' connections")
ok(row[0]["worker"] not in processes("table-worker"), "no worker is left")
ok(not os.path.exists(resp), "nor the socket")
plain = Daemon(store)
status, _, data = plain.ask("GET", "/tenants")
is_((status, json.loads(data)["error"]), (501, "unsupported"), "a daemon without --resp has no tables")
is_(plain.end(), 0, "and ends as well")
works("check", "check", store=store)
done()
