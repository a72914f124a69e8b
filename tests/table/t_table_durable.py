#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_table_durable.py - tables with a log outlive their processes: whatever is killed, and whenever, no answered write is
lost and no other appears; snapshots are taken meanwhile; a full disk refuses writes and loses none."""
import random
import threading
import zlib

from tables import *

seed = int(os.environ.get("DOR_SEED") or time.time())
print(f"# seed={seed}")
chance = random.Random(seed)


def value_of(key, version):
    return f"{version}:" + "v" * (zlib.crc32(f"{key} {version}".encode()) % 400)


class Writer(threading.Thread):
    """Writes ever new versions of its keys, 16 at a time; knows which were answered and which may be there."""

    def __init__(self, front, tenant, name, known):
        super().__init__(daemon=True)
        self.front, self.tenant, self.name_, self.known = front, tenant, name, known
        self.refused = self.answered = 0

    def run(self):
        try:
            client = connect(self.front, *self.tenant)
            version = max((v for v, _ in self.known.values()), default=0)
            while True:
                version += 1
                keys = [f"{self.name_}:{chance.randrange(300)}" for _ in range(16)]
                for key in keys:
                    self.known.setdefault(key, (0, set()))[1].add(version)
                client.send(b"".join(command("SET", key, value_of(key, version)) for key in keys))
                for key in keys:
                    if client.read() == "OK":
                        self.known[key] = (version, {v for v in self.known[key][1] if v > version})
                        self.answered += 1
                    else:
                        self.refused += 1
        except (Gone, OSError, AssertionError):
            pass


def wrong_keys(client, known):
    """Keys that hold neither what was answered last nor what was asked for and not answered."""
    wrong = []
    for key, (version, maybe) in known.items():
        got = client.ask("GET", key)
        fine = {value_of(key, v) for v in maybe} | ({value_of(key, version)} if version else {None})
        if got not in fine:
            wrong.append((key, version, sorted(maybe), got and got[:8]))
    return wrong


def settle(known, client):
    """What is there now is what counts."""
    for key in known:
        got = client.ask("GET", key)
        known[key] = (int(got.split(":")[0]) if got else 0, set())


def kill_all(front):
    for pid in (*workers_of(front), front.process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    front.process.wait()


def start(folder):
    return Front("--dir", folder, tenants=tenants)


def test_kills(tenant, folder):
    """Everything is killed in the midst of writes, snapshots and starts."""
    known = {}
    answered = 0
    saved = 0
    for life in range(6):
        front = start(folder)
        client = connect(front, *tenant)
        if not ok(client, f"{tenant[0]}, life {life}: it is served"):
            return
        is_(wrong_keys(client, known), [], "no answered write is lost, and no other is there")
        settle(known, client)
        saved = max(saved, client.ask("LASTSAVE"))
        writer = Writer(front, tenant, "w", known)
        writer.start()
        time.sleep(chance.random() * 0.6)
        if life % 2 == 1:
            is_(client.ask("BGSAVE"), "Background saving started", "a snapshot begins")
        if life == 4:
            os.kill(chance.choice(workers_of(front)), signal.SIGKILL)
            ok(connect(front, *tenant), "a worker dies, and another takes over")
        time.sleep(chance.random() * 0.4)
        kill_all(front)
        writer.join(30)
        answered += writer.answered
    front = start(folder)
    client = connect(front, *tenant)
    is_(wrong_keys(client, known), [], "at the end too")
    ok(answered > 1000, f"{answered} writes were answered")
    # Each snapshot so far may have been killed before its end.
    ok(wait_for(lambda: client.ask("SAVE") == "OK", 30) and client.ask("LASTSAVE") > 0, "a snapshot can be taken")
    is_(front.end(), 0, "it ends when it is told")


def test_atomic(folder):
    """All of an EXEC is there, or nothing."""
    front = start(folder)
    client = connect(front, "alice", "apple")
    client.ask("FLUSHALL")
    stop = threading.Event()

    def write():
        try:
            n = 0
            while not stop.is_set():
                n += 1
                client.send(command("MULTI") + b"".join(command("SET", f"m{i}", n) for i in range(20)) + command("EXEC"))
                for _ in range(22):
                    client.read()
        except Gone:
            pass

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.4)
    kill_all(front)
    stop.set()
    thread.join(30)
    front = start(folder)
    client = connect(front, "alice", "apple")
    ok(len({client.ask("GET", f"m{i}") for i in range(20)}) == 1, "an EXEC is there as a whole")
    front.end()


def test_worker_death_is_healed(folder):
    front = start(folder)
    client = connect(front, "alice", "apple")
    before = client.ask("LASTSAVE")
    is_(client.ask("SET", "healed", "1"), "OK", "a write")
    time.sleep(1.1)  # LASTSAVE counts seconds
    os.kill(workers_of(front)[0], signal.SIGKILL)
    client = connect(front, "alice", "apple")
    ok(wait_for(lambda: client.ask("LASTSAVE") > before, 30), "after a worker's death a snapshot is taken unasked")
    kill_all(front)
    front = start(folder)
    is_(connect(front, "alice", "apple").ask("GET", "healed"), "1", "and has everything")
    front.end()


def test_save(folder):
    """SAVE answers when the snapshot is there, and holds up nobody else."""
    front = start(folder)
    client, other, gone = (connect(front, "alice", "apple") for _ in range(3))
    client.ask("SET", "saved", "1")
    before = client.ask("LASTSAVE")
    time.sleep(1.1)  # LASTSAVE counts seconds
    gone.send(command("SAVE"))
    gone.close()
    ok(wait_for(lambda: other.ask("LASTSAVE") > before), "who asked for it may go")
    before = other.ask("LASTSAVE")
    time.sleep(1.1)
    client.send(command("SAVE") + command("LASTSAVE") + command("CLIENT", "REPLY", "SKIP") + command("PING")
                + command("GET", "saved"))
    is_(other.ask("GET", "saved"), "1", "others are served")
    is_((client.read(), client.read() > before, client.read()), ("OK", True, "1"),
        "SAVE: what comes behind it sees that it is done")
    client.send(command("MULTI") + command("SAVE") + command("EXEC"))
    is_([client.read()[:9] for _ in range(3)], ["OK", "ERR Comma", "EXECABORT"], "there is none inside MULTI")
    kill_all(front)
    front = start(folder)
    is_(connect(front, "alice", "apple").ask("GET", "saved"), "1", "and it is kept")
    front.end()


def test_damage(folder):
    front = start(folder)
    client = connect(front, "alice", "apple")
    is_({client.ask("SET", f"d{i}", "x" * 100) for i in range(50)}, {"OK"}, "fifty writes")
    front.end()
    logs = list(pathlib.Path(folder, "tables/alice").glob("log.*"))
    is_(len(logs), 1, "there is one log")
    data = bytearray(logs[0].read_bytes())
    data[len(data) // 2] ^= 1
    logs[0].write_bytes(data)
    front = start(folder)
    try:
        got = front.client("alice", "apple").ask("PING")
    except (AssertionError, Gone) as failure:
        got = str(failure)
    ok(got != "PONG", "a damaged log is not served", got)
    ok(f"{logs[0].name}: damaged at " in front.events(), "and the place is said")
    is_(connect(front, "bob", "berry").ask("PING"), "PONG", "others are served")
    front.end()
    front = Front("--repair", "--dir", folder, tenants=tenants)
    client = connect(front, "alice", "apple")
    is_(client and client.ask("GET", "d0"), "x" * 100, "repaired, it is served with what is before the damage")
    is_(client.ask("GET", "d49"), None, "and not with what is behind it")
    ok(pathlib.Path(folder, "tables/alice", f"bad.{logs[0].name}").exists(), "which is kept aside")
    front.end()


def test_full_disk():
    """On a file system of a few megabytes."""
    folder = work / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=6m", "none", folder], capture_output=True).returncode != 0:
        skip("no file system can be mounted here", "a full disk")
        return
    try:
        front = start(str(folder))
        client = connect(front, "alice", "apple")
        client.ask("SET", "first", "1")
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(2 << 20))
        kept, refused = {}, None
        for i in range(200):
            answer = client.ask("SET", f"f{i}", "y" * 50000)
            if answer != "OK":
                refused = answer
                break
            kept[f"f{i}"] = "y" * 50000
        ok(refused is not None and refused.startswith("MISCONF"), f"a full disk refuses a write after {len(kept)}", refused)
        is_(client.ask("GET", "first"), "1", "reads go on")
        is_(client.ask("GET", f"f{len(kept)}"), None, "what was refused is not there")
        ballast.unlink()
        is_(client.ask("SET", "later", "2"), "OK", "with space again writes go on")
        source = ("#!js name=fill\nredis.registerFunction('fill', () => { kv.put('first', 'x');"
                  " for (let i = 0; i < 100; i++) kv.put('g' + i, 'z'.repeat(50000)); });")
        loaded = client.ask("FUNCTION", "LOAD", source)
        if loaded == "fill":
            said = client.ask("FCALL", "fill", "0")
            ok("MISCONF" in said, "and a function's write", said)
            is_((client.ask("GET", "first"), client.ask("GET", "g0")), ("1", None), "of which nothing is done")
        else:
            skip(loaded, "a function on a full disk")
        kill_all(front)
        front = start(str(folder))
        client = connect(front, "alice", "apple")
        is_([key for key, value in kept.items() if client.ask("GET", key) != value], [], "nothing is lost")
        is_(client.ask("GET", "later"), "2", "nor what came later")
        front.end()
    finally:
        subprocess.run(["umount", folder], check=False)


tenants = str(work / "tenants.json")
add_tenant(tenants, "alice", "apple", "log=always")
add_tenant(tenants, "bob", "berry", "log=everysec")
add_tenant(tenants, "carl", "cherry", "log=always", "isolation=shared")
test_kills(("alice", "apple"), str(work / "always"))
test_kills(("bob", "berry"), str(work / "everysec"))
test_kills(("carl", "cherry"), str(work / "shared"))
test_atomic(str(work / "always"))
test_worker_death_is_healed(str(work / "always"))
test_save(str(work / "always"))
test_damage(str(work / "always"))
test_full_disk()
done()
