#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_end.py - how a daemon begins and ends: sockets, systemd's protocols, SIGTERM, kill -9, wrong settings."""
import sys
import threading

sys.dont_write_bytecode = True
from node import *

rng = make_seed()
image = make_image(rng, 64)
path = write("a.mem", image)
slow_path = write("slow.mem", make_slow(rng, 12 << 20))
SLOW_PUT = {"image": slow_path, "options": SLOW, "no_inspect": True}


def answer_later(daemon, *request):
    """Ask in a thread; what comes back is appended to the list."""
    got = []
    thread = threading.Thread(target=lambda: got.append(daemon.ask(*request)))
    thread.start()
    return thread, got


def test_drain():
    store = new_store("drain")
    daemon = Daemon(store)
    thread, got = answer_later(daemon, "PUT", "/snapshots/slow?job=slow", SLOW_PUT)
    daemon_wait(daemon, "slow")
    queued, refused = answer_later(daemon, "PUT", "/snapshots/queued?job=queued", {"image": path})
    idle = daemon.connect()
    while daemon.ask("GET", "/jobs/queued")[0] != 200:
        time.sleep(0.01)
    daemon.process.send_signal(signal.SIGTERM)
    thread.join()
    queued.join()
    is_(got[0][0], 200, "after SIGTERM, running work ends and is answered")
    is_(refused[0][0], 503, "what had not begun is refused")
    is_(daemon.process.wait(30), 0, "the daemon ends")
    is_(read_all(idle), b"", "and closes idle connections")
    is_(names(store), ["slow"], "the work is in the store")
    ok("daemon.sock" not in left_in(store), "the socket is gone")
    works("check", "check", store=store)


def daemon_wait(daemon, job):
    """Wait for a job that is only about to be asked for."""
    while daemon.ask("GET", f"/jobs/{job}")[0] != 200 or daemon.says("GET", f"/jobs/{job}")["state"] == "queued":
        time.sleep(0.01)


def test_deadline():
    store = new_store("deadline")
    daemon = Daemon(store, config="drain_seconds = 0\n")
    thread, got = answer_later(daemon, "PUT", "/snapshots/slow?job=slow", SLOW_PUT)
    daemon_wait(daemon, "slow")
    is_(daemon.end(), 0, "after the deadline the daemon ends all the same")
    thread.join()
    is_((got[0][0], json.loads(got[0][2])["error"]), (503, "busy"), "its client hears that the work was stopped")
    is_(names(store), [], "nothing of it is in the store")
    works("check", "check", store=store)


def test_second_signal():
    store = new_store("twice")
    daemon = Daemon(store)
    thread, got = answer_later(daemon, "PUT", "/snapshots/slow?job=slow", SLOW_PUT)
    daemon_wait(daemon, "slow")
    daemon.process.send_signal(signal.SIGTERM)
    while os.path.exists(daemon.socket):
        time.sleep(0.01)
    is_(daemon.end(signal.SIGINT), 0, "a second signal ends it sooner")
    thread.join()
    is_(got[0][0], 503, "and its work")


def test_kill():
    store = new_store("kill")
    for i in range(4):
        daemon = Daemon(store)
        daemon.says("PUT", f"/snapshots/before-{i}", {"image": path})
        job = daemon.says("PUT", f"/snapshots/slow-{i}?async=true", SLOW_PUT, status=202)["id"]
        daemon.wait_for("a put runs", job, "running")
        time.sleep(rng.random() / 2)
        daemon.end(signal.SIGKILL)
        ok(os.path.exists(daemon.socket), "a killed daemon leaves its socket")
        works("the command line does not mind it", "put", f"between-{i}", path, "--quiet", store=store)
    daemon = Daemon(store)
    wanted = sorted(f"{name}-{i}" for name in ("before", "between") for i in range(4))
    is_([row["name"] for row in daemon.says("GET", "/snapshots")["snapshots"]], wanted, "the next one has what was done")
    is_(daemon.says("POST", "/check")["finding_count"], 0, "and nothing of what was not")
    is_(daemon.end(), 0, "it ends well")


def test_sockets():
    store = new_store("sockets")
    elsewhere = str(work / "elsewhere.sock")
    daemon = Daemon(store, "--socket", elsewhere)
    is_(os.readlink(os.path.join(store, "daemon.sock")), elsewhere, "the store's folder tells where the socket is")
    refuses(BUSY, "", "one daemon for a store", "serve", store=store)
    refuses(BUSY, "listens there", "one for a socket", "serve", "--socket", elsewhere, store=new_store("other"))
    is_(daemon.end(), 0, "it ends well")
    ok(not os.path.lexists(os.path.join(store, "daemon.sock")) and not os.path.exists(elsewhere), "both are gone")
    taken = write("taken", b"precious")
    refuses(EXISTS, "no socket", "no file is replaced", "serve", "--socket", taken, store=store)
    holds(taken, b"precious", "nor changed")
    deep = work / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    store = str(deep / "store")
    prepare("init", store=store)
    daemon = Daemon(store)
    daemon.socket = os.path.relpath(daemon.socket, "/proc/self/cwd")
    works("a path too long for an address will do", "put", "a", path, "--quiet", store=store)
    refuses(BUSY, "", "and it went through the daemon", "--no-daemon", "rm", "a", store=store)
    is_(daemon.end(), 0, "it ends well")


def test_settings():
    store = new_store("settings")
    for words_wanted, text in {
        "conf:2": "readers = 2\nnonsense\n", "no option": "colour = red\n", "readers": "readers = 0\n",
        "mode": "socket_mode = rw-\n", "list of numbers": "allow_uids = me\n", "connections-max": "connections_max = many\n",
    }.items():
        said = refuses(USAGE, "", f"settings: {text.strip()!r}", "serve", "--config", write("conf", text.encode()), store=store)
        ok(words_wanted.split()[0] in said, "says where", said)
    refuses(USAGE, "text", "settings that are no text", "serve", "--config", write("conf", b"readers = 1\0"), store=store)
    refuses(NOT_FOUND, "", "settings that are not there", "serve", "--config", str(work / "nowhere"), store=store)
    refuses(USAGE, "mode", "--socket-mode", "serve", "--socket-mode", "9", store=store)
    refuses(NOT_FOUND, "", "no store", "serve", store=str(work / "nowhere"))
    ok("daemon.sock" not in left_in(store), "nothing is left")


ACTIVATE = """import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid())); os.set_inheritable(3, True)
os.execv(sys.argv[2], sys.argv[2:])"""


def test_systemd():
    store = new_store("systemd")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(work / "notify.sock"))
    notify.settimeout(20)
    passed = str(work / "passed.sock")
    daemon = Daemon(store, command=[sys.executable, "-c", ACTIVATE, passed], env={"NOTIFY_SOCKET": str(work / "notify.sock")})
    is_(notify.recv(1000), b"READY=1", "it says when it is ready")
    is_(os.readlink(os.path.join(store, "daemon.sock")), passed, "it listens where systemd does")
    daemon.socket = passed
    works("and is found", "put", "a", path, "--quiet", store=store)
    daemon.process.send_signal(signal.SIGTERM)
    is_(notify.recv(1000), b"STOPPING=1", "it says when it is ending")
    is_(daemon.process.wait(30), 0, "it ends well")
    ok(os.path.exists(passed), "the socket is systemd's to remove")


test_drain()
test_deadline()
test_second_signal()
test_kill()
test_sockets()
test_settings()
test_systemd()
done()
