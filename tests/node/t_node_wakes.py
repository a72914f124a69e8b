#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_wakes.py - wakes that the daemon hosts: what can be asked of them, their ends, and that sandboxes outlive
the daemon, with an heir and with systemd's descriptor store."""
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent / "wake"))
from uffd import *
from node import *

TEST_SECONDS = 60
prepare("put", "two", image, store=store)


class Wake:
    """One that DAEMON hosts; a Server as far as monitors are concerned."""
    count = 0

    def __init__(self, daemon, snapshot="one", **body):
        Wake.count += 1
        self.daemon, self.id, self.path = daemon, f"wake-{Wake.count}", str(work / f"hosted-{Wake.count}.sock")
        self.body = {"snapshot": snapshot, "uffd_socket": self.path, **body}
        self.told = daemon.says("PUT", f"/wakes/{self.id}", self.body)

    def ask(self):
        return self.daemon.says("GET", f"/wakes/{self.id}")

    def wait(self, name, condition):
        until = time.monotonic() + TEST_SECONDS
        while not condition(told := self.ask()) and time.monotonic() < until:
            time.sleep(0.02)
        return ok(condition(told), name, told)

    def vmm(self, *options, of=image):
        return Server.vmm(self, *options, of=of)


def test_life():
    daemon = Daemon(store)
    wake, other = Wake(daemon), Wake(daemon, "two", core="any", fill=True, window_bytes=4096, socket_mode="660")
    is_((wake.told["state"], wake.told["snapshot"], wake.told["uffd_socket"], wake.told["connected"]),
        ("listening", "one", wake.path, 0), "a wake is told as it is")
    is_(os.stat(other.path).st_mode & 0o777, 0o660, "its socket has the permissions that were asked for")
    is_([row["id"] for row in daemon.says("GET", "/wakes")["wakes"]], [other.id, wake.id], "both are listed")
    clients = [wake.vmm("balloons=1"), wake.vmm(), other.vmm()]
    for client in clients:
        finish(client, "a sandbox has its memory from the daemon")
    wake.wait("those who are gone are counted", lambda told: told["ended"] == 2 and told["connected"] == 0)
    told = wake.ask()
    ok(told["faults"] > 0 and told["copied_pages"] > 0 and told["clients"] == 2 and told["lost_pages"] == 0, "and what was done", told)
    values = dict(line.rsplit(" ", 1) for line in daemon.ask("GET", "/metrics")[2].decode().splitlines() if line[0] != "#")
    is_((values["dormouse_wake_sockets"], values["dormouse_wake_uffd_clients_total"]), ("2", "3"), "metrics sum them up")
    waits = wake.vmm("wait=1", "keep=0")
    hear(waits, "ready")
    wake.wait("one more is there", lambda told: told["clients"] == 3)
    prepare("rm", "two", store=store)
    prepare("put", "two", image, store=store)
    ended = daemon.says("DELETE", f"/wakes/{wake.id}")
    is_((ended["state"], ended["clients"], ended["ended"]), ("ended", 3, 3), "a wake that is deleted ends when it may")
    ok(not os.path.exists(wake.path), "its socket is gone")
    say(waits)
    finish(waits, "its sandbox has got all its memory before")
    daemon.refuses(404, "not found", wake.id, "then it is not known any more", "GET", f"/wakes/{wake.id}")
    values = dict(line.rsplit(" ", 1) for line in daemon.ask("GET", "/metrics")[2].decode().splitlines() if line[0] != "#")
    is_((values["dormouse_wake_sockets"], values["dormouse_wake_uffd_clients_total"]), ("1", "4"), "but its numbers are kept")
    once = Wake(daemon, once=True)
    finish(once.vmm(), "a sandbox of a wake for one")
    until = time.monotonic() + TEST_SECONDS
    while daemon.ask("GET", f"/wakes/{once.id}")[0] == 200 and time.monotonic() < until:
        time.sleep(0.05)
    daemon.refuses(404, "not found", "", "ends by itself", "GET", f"/wakes/{once.id}")
    is_(daemon.end(), 0, "the daemon ends well")
    ok(not os.path.exists(other.path), "and takes its wakes along")


def test_refusals():
    daemon = Daemon(store)
    wake = Wake(daemon)
    path = str(work / "refused.sock")
    body = {"snapshot": "one", "uffd_socket": path}

    def no(status, error, words, name, wanted="new", **change):
        daemon.refuses(status, error, words, name, "PUT", f"/wakes/{wanted}", {**body, **change})

    no(409, "exists", wake.id, "an id that is taken", wanted=wake.id)
    no(404, "not found", "none", "no such snapshot", snapshot="none")
    no(503, "busy", "listens", "a socket that is taken", uffd_socket=wake.path)
    no(409, "exists", "no socket", "a file in its place", uffd_socket=image)
    no(404, "not found", "", "a folder that is not there", uffd_socket="/nowhere/socket")
    no(400, "usage error", "absolute", "a relative path", uffd_socket="socket")
    no(400, "usage error", "bytes", "a path that is too long", uffd_socket="/" + "p" * 200)
    no(400, "usage error", "wanted", "no snapshot", snapshot=None)
    no(400, "usage error", "wanted", "no socket", uffd_socket=None)
    no(400, "usage error", "window", "an odd window", window_bytes=5000)
    no(400, "usage error", "clients_max", "too many clients", clients_max=1 << 40)
    no(400, "usage error", "core", "no such core", core="-1")
    no(400, "usage error", "mode", "no such permissions", socket_mode="rw")
    no(400, "usage error", "64 bytes", "an id that is too long", wanted="w" * 65)
    daemon.refuses(404, "not found", "new", "nothing to delete", "DELETE", "/wakes/new")
    is_([row["id"] for row in daemon.says("GET", "/wakes")["wakes"]], [wake.id], "nothing of it is left")
    holds(image, data, "the file is as it was")
    ok(not os.path.exists(path), "and no socket")
    garbage = connect(wake)
    garbage.sendall(b"garbage")
    garbage.shutdown(socket.SHUT_WR)
    ok("handshake" in (answer(garbage) or ""), "who makes no sense is told")
    finish(wake.vmm(), "and others do not notice")
    wake.wait("it is counted", lambda told: told["refused"] >= 1)
    is_(daemon.end(), 0, "the daemon ends well")


class Verb:
    """`dormouse wake`, which finds the daemon."""

    def __init__(self, *args):
        Wake.count += 1
        self.path = str(work / f"verb-{Wake.count}.sock")
        self.process = subprocess.Popen(
            [program, "--store", store, "--json", "wake", "one", "--uffd-socket", self.path, *args], env=clean_env(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        until = time.monotonic() + TEST_SECONDS
        while not os.path.exists(self.path) and time.monotonic() < until:
            time.sleep(0.02)

    def vmm(self, *options, of=image):
        return Server.vmm(self, *options, of=of)

    def stat(self):
        """What it says in the end."""
        out, _ = self.process.communicate(timeout=TEST_SECONDS)
        return json.loads(out)


def test_command_line():
    daemon = Daemon(store)
    verb = Verb("--core", "any", "--window", "16K")
    is_([row["uffd_socket"] for row in daemon.says("GET", "/wakes")["wakes"]], [verb.path],
        "the command line wakes through the daemon")
    finish(verb.vmm(), "a sandbox wakes")
    verb.process.send_signal(signal.SIGTERM)
    stat = verb.stat()
    is_((verb.process.returncode, stat["clients"], stat["lost_pages"]), (0, 1, 0), "it ends when it is told, and has the numbers")
    is_(daemon.says("GET", "/wakes")["wakes"], [], "then the wake is gone")
    verb = Verb("--once")
    finish(verb.vmm(), "a sandbox of a wake for one")
    is_((verb.stat()["clients"], verb.process.returncode), (1, 0), "the command line ends after it")
    refuses(NOT_FOUND, "none", "errors come through", "wake", "none", "--uffd-socket", str(work / "x.sock"), store=store)
    is_(daemon.end(), 0, "the daemon ends well")


def test_ends():
    """SIGTERM and SIGKILL with sandboxes in the middle of their faults."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        daemon = Daemon(store, env={"DOR_LOG": "error"})
        one, two = Wake(daemon), Wake(daemon, "two")
        busy = [one.vmm("pace_us=100", "keep=0", "balloons=1", "threads=4"), two.vmm("pace_us=100", "keep=0")]
        waits = two.vmm("wait=1", "keep=0")
        hear(waits, "ready")
        one.wait("all are there", lambda told: told["clients"] == 1)
        two.wait("all are there", lambda told: told["clients"] == 2)
        daemon.end(number)
        say(waits)
        for client in (*busy, waits):
            finish(client, f"a sandbox outlives a daemon that is ended by {number.name}")
        works("the store is free for the next writer", "rm", "two", store=store)
        works("which writes", "put", "two", image, "--quiet", store=store)


class Systemd:
    """As far as a daemon sees it: the socket of NOTIFY_SOCKET, and descriptors by name (sd_notify(3))."""

    def __init__(self):
        self.path = str(work / "notify-wakes.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.kept = []

        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            message, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
            said = dict(line.split("=", 1) for line in message.decode().splitlines())
            if said.get("FDSTORE") == "1":
                self.kept += [(said["FDNAME"], fd) for fd in fds]
            for item in [item for item in self.kept if said.get("FDSTOREREMOVE") == "1" and item[0] == said["FDNAME"]]:
                self.kept.remove(item)
                os.close(item[1])

    def keeps(self, *roles):
        """Wait until descriptors of these roles are kept."""
        until = time.monotonic() + TEST_SECONDS
        while (kept := sorted(name.rsplit("-", 1)[1] for name, _ in self.kept)) != sorted(roles) and time.monotonic() < until:
            time.sleep(0.02)
        return kept == sorted(roles)

    def start(self):
        """A daemon that is given what is kept."""
        names = ":".join(name for name, _ in self.kept)
        fds = [fd for _, fd in self.kept]

        def pass_on():
            high = [os.dup2(fd, 1000 + i, inheritable=False) for i, fd in enumerate(fds)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)

        env = {"NOTIFY_SOCKET": self.path}
        if not fds:
            return Daemon(store, env=env)
        # The shell's pid is the daemon's, which is what LISTEN_PID must say.
        return Daemon(store, env={**env, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names},
                      command=["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"], preexec_fn=pass_on, close_fds=False)


def test_systemd():
    systemd = Systemd()
    daemon = systemd.start()
    one = Wake(daemon)
    busy = one.vmm("pace_us=100", "keep=0", "threads=4", "balloons=1")
    waits = one.vmm("wait=1", "keep=0")
    hear(waits, "ready")
    one.wait("two sandboxes are there", lambda told: told["clients"] == 2)
    ok(systemd.keeps(*2 * ["state", "uffd", "socket"], "state", "socket"), "systemd keeps what must outlive the daemon",
       systemd.kept)
    for _ in range(3):
        daemon.end(signal.SIGKILL)
        daemon = systemd.start()
        one.daemon = daemon
        told = one.ask()
        ok(told["state"] == "listening" and told["adopted"] >= 1, "the next daemon has the wake", told)
    finish(busy, "who was in the middle of it does not notice")
    finish(one.vmm(), "the socket listens as before")
    say(waits)
    finish(waits, "who slept meanwhile has its memory")
    daemon.says("DELETE", f"/wakes/{one.id}")
    ok(systemd.keeps(), "what is over is given back to systemd", systemd.kept)
    is_(daemon.end(), 0, "the daemon ends well")


test_life()
test_refusals()
test_command_line()
test_ends()
test_systemd()
done()
