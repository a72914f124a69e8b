#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_offload.py - machines come to the daemon from monitors and go back, in threads of their own: nobody who is slow
holds up a writer, and the last answer means that all is on disk."""
import contextlib
import pathlib
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wake"))
import offload_peer as peer
from node import *
from offload_peer import ERROR, OK, Machine, Receiver, Slot

SECONDS = 60
LOW, HIGH = 0, 4 << 30
rng = make_seed()
machine = Machine([Slot(0, LOW, make_image(rng, 96)), Slot(1, HIGH, make_image(rng, 64))])
image_path = write("small.mem", make_image(rng, 16))
steps = peer.steps_of(machine)
paths = (str(work / f"monitor-{i}.sock") for i in range(1000))


def wait_until(condition):
    until = time.monotonic() + SECONDS
    while not (got := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return got


class Asking:
    """A request that another thread waits for."""

    def __init__(self, daemon, method, target, body):
        self.thread = threading.Thread(target=self.run, args=(daemon, method, target, body))
        self.thread.start()

    def run(self, daemon, *request):
        self.status, _, data = daemon.ask(*request, timeout=SECONDS)
        self.told = json.loads(data)

    def done(self, name, status=200, words=""):
        self.thread.join(SECONDS)
        ok(not self.thread.is_alive() and self.status == status and words in (self.told.get("message") or ""), name,
           f"wanted {status} {words!r}", getattr(self, "status", None), getattr(self, "told", None))
        return self.told


def listening(path):
    """Whether somebody does; whoever only looks is no monitor to him."""
    with socket.socket(socket.AF_UNIX) as end:
        return end.connect_ex(path) == 0


def take(daemon, name, **body):
    """The daemon listens for a monitor: the request, and where."""
    path = next(paths)
    asking = Asking(daemon, "PUT", f"/snapshots/{name}", {"offload": path, **body})
    wait_until(lambda: listening(path) or not asking.thread.is_alive())
    return asking, path


def begin(path, count):
    """A monitor that has said COUNT of its messages."""
    end = peer.connect(path)
    for step in steps[:count]:
        assert peer.ask(end, *step[1:3], payload=step[3]) == OK
    return end


def ask_last(end):
    """The answer to the last message; None when the other side is gone."""
    try:
        return peer.ask(end, *steps[-1][1:3], payload=steps[-1][3])
    except peer.Gone:
        return None


def names_of(daemon):
    return [row["name"] for row in daemon.says("GET", "/snapshots")["snapshots"]]


def check_memory(receiver, name):
    wrong = [hex(gpa + at) for gpa, size in machine.ranges for at in range(0, size, PAGE)
             if receiver.read(gpa + at) != machine.at(gpa + at, PAGE)]
    ok(not wrong, name, *wrong[:5])


def test_take(daemon):
    asking, path = take(daemon, "app", timeout_ns=30 * 10**9)
    is_(os.stat(path).st_mode & 0o777, 0o600, "the socket is the daemon's user's alone")
    end = begin(path, len(steps) - 1)
    ok("app" not in names_of(daemon), "nothing is stored before the last message")
    is_(ask_last(end), OK, "the monitor's last message is answered")
    ok("app" in names(store), "and then the snapshot is on disk")
    told = asking.done("the put ends")
    is_((told["name"], told["logical_bytes"], told["warning"]), ("app", 160 * PAGE, None), "and says what it stored")
    ok(not os.path.exists(path), "the socket is gone")
    asking, path = take(daemon, "again", parent="app", no_inspect=True, options={"codec": "lz4"})
    is_(peer.send(path, machine, peer.COMPLETE), [OK] * len(steps), "a machine that runs on, with options")
    ok(asking.done("is put")["added_bytes"] < 16 * PAGE, "and shares its pages")
    asking, path = take(daemon, "app", replace=True)
    peer.send(path, machine)
    asking.done("one is replaced")
    asking, path = take(daemon, "app")
    is_(peer.send(path, machine)[-1], ERROR, "without being told to it is not: the monitor hears of it")
    asking.done("and so does who asked", 409, "app")


def test_give(daemon):
    for mode in ({}, {"resume": True}):
        path = next(paths)
        receiver = Receiver(path)
        told = daemon.says("POST", "/snapshots/app/offload", {"socket": path, **mode}, timeout=SECONDS)
        receiver.wait()
        is_((receiver.error, receiver.last), (None, peer.COMPLETE if mode else peer.COMPLETE_PAUSED),
            f"a machine is given {mode}")
        check_memory(receiver, "its memory is whole")
        is_((told["pages"], told["requests"]), (160, 0), "and counted")
        receiver.close()
    path = next(paths)
    receiver = Receiver(path, postcopy=True)
    asking = Asking(daemon, "POST", "/snapshots/app/offload", {"socket": path, "postcopy": True, "no_fill": True})
    receiver.wait()
    is_(receiver.error, None, "postcopy: it is handed over")
    for gpa in (LOW, LOW + 7 * PAGE, HIGH + 63 * PAGE):
        is_((receiver.page_fault(gpa), receiver.read(gpa)), (OK, machine.at(gpa, PAGE)), f"the page at {gpa:#x} is asked for")
    ok(asking.thread.is_alive(), "the wake lasts as long as the monitor")
    daemon.says("PUT", "/snapshots/meanwhile", {"image": image_path})
    receiver.close()
    told = asking.done("and ends with it")
    is_((told["requests"], told["failed_requests"]), (3, 0), "with its numbers")
    ok(daemon.says("GET", "/snapshots/app")["working_set"] is not None, "what was asked for is learnt")
    before = daemon.says("GET", "/wakes")["server"]["hits"]
    path = next(paths)
    receiver = Receiver(path, postcopy=True)
    asking = Asking(daemon, "POST", "/snapshots/again/offload", {"socket": path, "postcopy": True, "no_fill": True})
    receiver.wait()
    for gpa in (LOW, LOW + 7 * PAGE, HIGH + 63 * PAGE):
        is_((receiver.page_fault(gpa), receiver.read(gpa)), (OK, machine.at(gpa, PAGE)), f"{gpa:#x} of a snapshot that is alike")
    receiver.close()
    asking.done("ends, too")
    ok(daemon.says("GET", "/wakes")["server"]["hits"] >= before + 2, "its pages came from the cache they share")


def test_others_go_on(daemon):
    """A monitor that has not come, and one that is half-way, hold up no writer and no reader."""
    waiting, unused = take(daemon, "waiting")
    half, path = take(daemon, "half")
    end = begin(path, 2)
    daemon.says("PUT", "/snapshots/other", {"image": image_path})
    daemon.says("DELETE", "/snapshots/other")
    ok("half" not in names_of(daemon), "others write and read meanwhile")
    states = {row["name"]: row["state"] for row in daemon.says("GET", "/jobs")["jobs"] if row["name"] in ("waiting", "half")}
    is_(states, {"waiting": "running", "half": "running"}, "both are jobs that run")
    for step in steps[2:]:
        status = peer.ask(end, *step[1:3], payload=step[3])
    is_(status, OK, "the slow one comes to its end")
    half.done("and is stored")
    is_(peer.send(unused, machine), [OK] * len(steps), "the late one too")
    waiting.done("and is stored")


def test_turn(daemon):
    """A machine that is here waits for its turn among the writers, and may be cancelled there."""
    slow = write("slow.mem", make_slow(rng, 24 << 20))
    for cancelled in (False, True):
        put = daemon.says("PUT", f"/snapshots/slow-{cancelled}?async=true", {"image": slow, "options": SLOW}, status=202)
        daemon.wait_for("a long put runs", put["id"], "running")
        name, path = f"turn-{cancelled}", next(paths)
        job = daemon.says("PUT", f"/snapshots/{name}?async=true", {"offload": path}, status=202)
        wait_until(lambda: listening(path))
        answers = []
        end = begin(path, len(steps) - 1)
        monitor = threading.Thread(target=lambda: answers.append(ask_last(end)))
        monitor.start()
        wait_until(lambda: metric(daemon, "dormouse_node_queued_writes") == 1)
        is_((answers, daemon.says("GET", f"/jobs/{put['id']}")["state"]), ([], "running"), "the monitor waits for it")
        daemon.says("DELETE", f"/jobs/{job['id'] if cancelled else put['id']}")
        monitor.join(SECONDS)
        is_(answers, [ERROR if cancelled else OK], "cancelled in the queue" if cancelled else "then it is its turn")
        daemon.wait_for("its job has ended", job["id"], "cancelled" if cancelled else "done")
        is_(name in names_of(daemon), not cancelled, "and the snapshot is there or not")
        daemon.says("DELETE", f"/jobs/{put['id']}")
        daemon.wait_for("the long put was cancelled", put["id"], "cancelled")
    daemon.says("PUT", "/snapshots/after-turns", {"image": image_path})


def metric(daemon, name):
    lines = daemon.ask("GET", "/metrics")[2].decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def test_cancel(daemon):
    for count in (0, 1, 3):
        path = next(paths)
        job = daemon.says("PUT", "/snapshots/cancelled?async=true", {"offload": path}, status=202)
        wait_until(lambda: listening(path))
        end = begin(path, count) if count else None
        daemon.says("DELETE", f"/jobs/{job['id']}")
        daemon.wait_for(f"a job is cancelled after {count} messages", job["id"], "cancelled")
        ok(not os.path.exists(path), "its socket is gone")
        if end:
            ok(ask_last(end) in (ERROR, None), "and the monitor is not told that all is well")
    path = next(paths)
    client = daemon.connect()
    body = json.dumps({"offload": path}).encode()
    client.sendall(b"PUT /snapshots/hung HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    ok(wait_until(lambda: listening(path)), "somebody asks")
    client.close()
    ok(wait_until(lambda: not os.path.exists(path)), "who hangs up ends the listening")
    path = next(paths)
    receiver = Receiver(path, postcopy=True)
    job = daemon.says("POST", "/snapshots/app/offload?async=true", {"socket": path, "postcopy": True}, status=202)
    receiver.wait()
    daemon.says("DELETE", f"/jobs/{job['id']}")
    daemon.wait_for("a wake is cancelled", job["id"], "cancelled")
    receiver.close()
    ok(not {"cancelled", "hung"} & set(names_of(daemon)), "nothing of it is stored")


def test_silent(daemon):
    second = 10**9
    for count in (0, 1, len(steps) - 1):
        asking, path = take(daemon, "silent", timeout_ns=second)
        with contextlib.closing(begin(path, count)):
            asking.done(f"silence after {count} messages", 504, "silent")
    asking, path = take(daemon, "silent")
    begin(path, 2).close()
    asking.done("a monitor that hangs up", 500, "hung up")
    path = next(paths)
    receiver = Receiver(path)       # is not called with postcopy: it never asks for pages
    daemon.refuses(504, "timed out", "memory_mode=postcopy", "a receiver that does not ask", "POST", "/snapshots/app/offload",
                   {"socket": path, "postcopy": True, "timeout_ns": second})
    receiver.close()
    ok("silent" not in names_of(daemon), "nothing of it is stored")


def test_refusals(daemon):
    path = next(paths)

    def no(status, error, words, name, method="PUT", target="/snapshots/x", **body):
        daemon.refuses(status, error, words, name, method, target, body)

    no(400, "usage error", "one of", "a machine and an image", offload=path, image=image_path)
    no(400, "usage error", "one of", "a machine and images", offload=path, images=[image_path])
    no(400, "usage error", "one of", "nothing")
    no(400, "usage error", "whole", "a diff of a machine", offload=path, diff=True, parent="app")
    no(400, "usage error", "whole", "a format", offload=path, format="raw")
    no(400, "usage error", "absolute", "a relative path", offload="socket")
    no(400, "usage error", "timeout_ns", "a timeout for a file", image=image_path, timeout_ns=1)
    no(400, "usage error", "timeout_ns", "a negative timeout", offload=path, timeout_ns=-1)
    no(400, "usage error", "name", "no such name", target="/snapshots/" + "n" * 300, offload=path)
    no(404, "not found", "", "no such folder", offload="/nowhere/at/all")
    no(409, "exists", "no socket", "a file in its place", offload=image_path)
    no(503, "busy", "listens", "a socket that is taken", offload=daemon.socket)
    wake = {"method": "POST", "target": "/snapshots/app/offload"}
    no(404, "not found", "receive-migration", "nobody to give it to", **wake, socket=path)
    no(400, "usage error", "socket", "no socket", **wake)
    no(400, "usage error", "no_fill", "half a machine", **wake, socket=path, no_fill=True)
    no(404, "not found", "none", "no such snapshot", "POST", "/snapshots/none/offload", socket=path)
    daemon.says("PUT", "/snapshots/raw", {"image": image_path})
    no(501, "unsupported", "memory alone", "memory alone is no machine", "POST", "/snapshots/raw/offload", socket=path)
    asking, path = take(daemon, "x", sidecars=["/nowhere/sidecar"])
    is_(peer.send(path, machine)[-1], ERROR, "a sidecar that is not there: the monitor goes on")
    asking.done("and who asked is told", 404, "sidecar")
    asking, path = take(daemon, "x")
    with peer.connect(path) as end:
        end.sendall(b"\xff" * 16)
        asking.done("junk for a monitor's message", 500, "no command")


def test_many():
    """No more than machines_max at a time, and all of them at once."""
    store_of_many = new_store("many")
    daemon = Daemon(store_of_many, config="machines_max = 3\n")
    taken = [take(daemon, f"m{i}") for i in range(3)]
    daemon.refuses(503, "busy", "machines_max", "one too many", "PUT", "/snapshots/m3", {"offload": next(paths)})
    monitors = [threading.Thread(target=peer.send, args=(path, machine)) for _, path in taken]
    for monitor in monitors:
        monitor.start()
    for asking, _ in taken:
        asking.done("one of three that come at once")
    for monitor in monitors:
        monitor.join(SECONDS)
    is_(names_of(daemon), ["m0", "m1", "m2"], "all are stored")
    asking, path = take(daemon, "m3")
    peer.send(path, machine)
    asking.done("then there is room again")
    is_(daemon.end(), 0, "the daemon ends well")
    works("the store is good", "check", store=store_of_many)


class Verb:
    """The command line, which finds the daemon."""

    def __init__(self, *args):
        self.process = subprocess.Popen([program, "--store", store, *args], env=clean_env(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, name, code=0, words=""):
        out, err = self.process.communicate(timeout=SECONDS)
        ok(self.process.returncode == code and words in err, name, self.process.returncode, out, err)
        return out


def test_command_line(daemon):
    path = os.path.relpath(next(paths))
    verb = Verb("--json", "put", "by-verb", "--offload", path, "--parent", "app")
    wait_until(lambda: listening(path))
    is_(peer.send(path, machine), [OK] * len(steps), "the verb puts a machine")
    told = json.loads(verb.end("and ends well"))
    is_((told["name"], told["logical_bytes"]), ("by-verb", 160 * PAGE), "with what was stored")
    is_([row["name"] for row in daemon.says("GET", "/jobs")["jobs"]][0], "by-verb", "through the daemon")
    verb = Verb("put", "stopped", "--offload", path)
    wait_until(lambda: listening(path))
    verb.process.send_signal(signal.SIGTERM)
    verb.end("a signal ends the waiting", -signal.SIGTERM, "waiting for a machine")
    ok(wait_until(lambda: not os.path.exists(path)), "and the daemon listens no more")
    verb = Verb("put", "slow", "--offload", path, "--timeout", "1s")
    wait_until(lambda: listening(path))
    with contextlib.closing(begin(path, 1)):
        verb.end("its timeout is the daemon's", TIMEOUT, "silent")
    receiver = Receiver(path, postcopy=True)
    verb = Verb("--json", "wake", "by-verb", "--offload", path, "--postcopy", "--no-fill", "--resume")
    receiver.wait()
    is_((receiver.error, receiver.last), (None, peer.COMPLETE), "the verb wakes a machine")
    is_((receiver.page_fault(LOW), receiver.read(LOW)), (OK, machine.at(LOW, PAGE)), "which asks for a page")
    receiver.close()
    told = json.loads(verb.end("and ends with it"))
    is_((told["name"], told["pages"], told["requests"]), ("by-verb", 160, 1), "with its numbers")
    Verb("wake", "by-verb", "--offload", path).end("nobody waits for it", NOT_FOUND, "receive-migration")
    receiver = Receiver(path, postcopy=True)
    verb = Verb("wake", "by-verb", "--offload", path, "--postcopy")
    receiver.wait()
    verb.process.send_signal(signal.SIGINT)
    verb.end("a signal ends the wake", -signal.SIGINT)
    receiver.close()


def test_end(daemon):
    """A daemon that ends does not wait for who has not come, but for who has begun; nor for ever."""
    waiting, path = take(daemon, "never")
    begun, begun_path = take(daemon, "last")
    end = begin(begun_path, 2)
    daemon.process.send_signal(signal.SIGTERM)
    waiting.done("who waits for a monitor is told", 503, "stopped")
    ok(not os.path.exists(path), "and its socket is gone")
    for step in steps[2:]:
        status = peer.ask(end, *step[1:3], payload=step[3])
    is_(status, OK, "a monitor that has begun comes to its end")
    begun.done("and is stored")
    is_(daemon.end(None), 0, "the daemon ends well")
    ok("last" in names(store), "with its last machine")
    again = Daemon(store, config="drain_seconds = 1\n")
    asking, path = take(again, "stuck")
    end = begin(path, 2)
    again.process.send_signal(signal.SIGTERM)
    asking.done("one that is stuck is stopped when it is late", 503, "stopped")
    is_(ask_last(end), None, "and its monitor goes on alone")
    is_(again.end(None), 0, "the daemon ends well")


def test_killed():
    daemon = Daemon(store)
    path = next(paths)
    daemon.says("PUT", "/snapshots/killed?async=true", {"offload": path}, status=202)
    wait_until(lambda: listening(path))
    end = begin(path, len(steps) - 1)
    daemon.end(signal.SIGKILL)
    is_(ask_last(end), None, "the daemon is killed: the monitor goes on with its machine")
    daemon = Daemon(store)
    ok("killed" not in names_of(daemon), "which is not stored")
    daemon.end()


store = new_store()
served = Daemon(store)
test_take(served)
test_give(served)
test_others_go_on(served)
test_turn(served)
test_cancel(served)
test_silent(served)
test_refusals(served)
test_many()
test_command_line(served)
test_end(served)
test_killed()
works("the store is good after all that", "check", store=store)
done()
