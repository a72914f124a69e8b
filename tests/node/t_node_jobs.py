#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_jobs.py - work that lasts: writers queue, readers go on beside them, jobs are watched and cancelled."""
import sys
import threading

sys.dont_write_bytecode = True
from node import *

rng = make_seed()
store = new_store()
small = make_image(rng, 64)
small_path = write("small.mem", small)
SLOW_BYTES = 160 << 20
slow_path = write("slow.mem", make_slow(rng, SLOW_BYTES))
SLOW_PUT = {"image": slow_path, "options": SLOW, "no_inspect": True}
daemon = Daemon(store, config="queue_max = 3\nreaders = 2\njobs_kept = 4\n")


def start_slow(name, **query):
    query = "&".join(f"{key}={value}" for key, value in {"async": "true", **query}.items())
    return daemon.says("PUT", f"/snapshots/{name}?{query}", SLOW_PUT, status=202)["id"]


def test_progress():
    job = start_slow("slow", job="watched")
    is_(job, "watched", "a client may choose the id")
    daemon.wait_for("the put runs", job, "running")
    seen = set()
    while len(seen) < 3 and (told := daemon.says("GET", "/jobs/watched"))["state"] == "running":
        seen.add(told["done_bytes"])
        time.sleep(0.01)
    ok(len(seen) >= 3 and told["total_bytes"] == SLOW_BYTES, "progress is told", seen, told)


def test_readers_beside():
    """While the writer works, all that reads is answered."""
    daemon.says("GET", "/stat")
    daemon.says("GET", "/snapshots")
    told = re.findall(r"^dormouse_node_running_jobs (\d+)$", daemon.ask("GET", "/metrics")[2].decode(), re.M)
    is_(told, ["2"], "metrics see both jobs")
    is_(daemon.says("GET", "/jobs/watched")["state"], "running", "readers run beside the writer")
    refuses(BUSY, "", "another process may not write", "--no-daemon", "rm", "slow", store=store)


def test_queue():
    queued = [daemon.says("PUT", f"/snapshots/q{i}?async=true", {"image": small_path}, status=202) for i in range(3)]
    is_([job["state"] for job in queued], ["queued"] * 3, "writers wait for each other")
    daemon.refuses(503, "busy", "wait already", "no more than may wait", "POST", "/gc")
    is_(daemon.says("DELETE", f"/jobs/{queued[1]['id']}")["state"], "cancelled", "one that waits is cancelled at once")
    told = daemon.says("GET", f"/jobs/{queued[1]['id']}")
    is_(told["error"]["error"], "busy", "and says why it has no result")
    daemon.says("DELETE", "/jobs/watched")
    daemon.wait_for("one that runs is cancelled soon", "watched", "cancelled")
    daemon.wait_for("the next has its turn", queued[2]["id"], "done")
    is_(names(store), ["q0", "q2"], "what was cancelled is not there")
    works("and has left the store well", "check", store=store)


def test_gone_client():
    client = daemon.connect()
    body = json.dumps(SLOW_PUT).encode()
    client.sendall(b"PUT /snapshots/left?job=left HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    daemon.wait_for("a client waits for its put", "left", "running")
    client.close()
    daemon.wait_for("who closes the connection cancels it", "left", "cancelled")
    client = daemon.connect()
    client.sendall(b"PUT /snapshots/half?job=half HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" %
                   len(body) + body)
    daemon.wait_for("another one waits", "half", "running")
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.6)
    is_(daemon.says("GET", "/jobs/half")["state"], "running", "one that only has nothing more to say is waited with")
    daemon.says("DELETE", "/jobs/half")
    said = read_all(client)
    ok(said.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in said, "and hears that it was cancelled", said)


def test_history():
    for i in range(6):
        daemon.says("POST", f"/gc?job=gc-{i}")
    kept = [row["id"] for row in daemon.says("GET", "/jobs")["jobs"]]
    is_(kept, ["gc-5", "gc-4", "gc-3", "gc-2"], "the last jobs are kept")
    daemon.says("GET", "/stat")
    is_([row["id"] for row in daemon.says("GET", "/jobs")["jobs"]], kept, "readers that were answered are not")


def test_together():
    """Many clients at once: all puts are done, all reads see whole snapshots."""
    wrong = []

    def put(i):
        data = make_image(random.Random(i), 32, small)
        told = daemon.ask("PUT", f"/snapshots/t{i}/image", data)
        while told[0] == 503:
            time.sleep(0.02)
            told = daemon.ask("PUT", f"/snapshots/t{i}/image", data)
        back = daemon.ask("GET", f"/snapshots/t{i}/image")
        while back[0] == 503:
            time.sleep(0.02)
            back = daemon.ask("GET", f"/snapshots/t{i}/image")
        if told[0] != 200 or back[2] != data:
            wrong.append((i, told, back[0]))

    threads = [threading.Thread(target=put, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ok(not wrong, "24 clients put and get at once", *wrong)
    is_(len([name for name in names(store) if name.startswith("t")]), 24, "and all of them are there")


test_progress()
test_readers_beside()
test_queue()
test_gone_client()
test_history()
test_together()
is_(daemon.end(), 0, "it ends well")
works("check", "check", store=store)
done()
