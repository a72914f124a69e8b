#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_offload.py - a machine goes from one monitor into a store and into another, whole, byte for byte, and is asked for page
by page; each side may die, lie or fall silent at every message."""
import contextlib
import pathlib
import signal
import struct
import sys
import threading

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cli")]
import offload_peer as peer
from cli import *
from offload_peer import ERROR, OK, Machine, Receiver, Slot

LOW, HIGH = 0, 4 << 30
rng = make_seed()


def pages_of(count):
    """Pages of which some are zero, some alike."""
    return make_image(rng, count)


def make_machine():
    """Two slots in one zone, as a machine of more than 3 GiB has, and a third that is partly plugged."""
    plugged = bytearray(16 * PAGE)
    plugged[:8 * PAGE] = pages_of(8)
    slots = [Slot(0, LOW, pages_of(96)), Slot(1, HIGH, pages_of(64), offset=96 * PAGE),
             Slot(5, HIGH + (1 << 30), bytes(plugged), virtio_mem=True)]
    return Machine(slots, [(LOW, 96 * PAGE), (HIGH, 64 * PAGE), (HIGH + (1 << 30), 8 * PAGE)])


@contextlib.contextmanager
def started(*args, store):
    """Run dormouse beside the test; it must have ended when the test comes back."""
    process = subprocess.Popen([program, "--store", store, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=clean_env(), text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for_socket(path, process):
    """Until PROCESS listens there; whoever only looks whether it does is no monitor to it."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with peer.socket.socket(peer.socket.AF_UNIX) as end:
            if end.connect_ex(str(path)) == 0:
                return
        time.sleep(0.01)


def end_of(process, name, code=0, words=""):
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        out, err = process.communicate()
    ok(process.returncode == code and words in err, name, f"exit code {process.returncode}, wanted {code}", out, err)
    return out


@contextlib.contextmanager
def taking(store, name, *args):
    path = work / "take.sock"
    with started("put", name, "--offload", str(path), *args, store=store) as process:
        wait_for_socket(path, process)
        yield process, path


def put_machine(store, name, machine, *args, last=peer.COMPLETE_PAUSED):
    with taking(store, name, *args) as (process, path):
        is_(peer.send(path, machine, last), [OK] * (4 + len(machine.slots)), f"{name}: every message is answered Ok")
        out = end_of(process, f"{name}: put ends well")
    ok(not path.exists(), f"{name}: the socket is gone")
    return out


# ---------------------------------------------------------------- taking

def test_put(store, machine):
    put_machine(store, "app", machine)
    folder = work / "folder"
    works("get writes the folder", "get", "app", "-o", str(folder), store=store)
    is_(left_in(folder), ["config.json", "memory-ranges", "migration_config.json", "state.json"], "its files")
    holds(folder / "memory-ranges", machine.memory(), "memory-ranges is the memory, range by range")
    holds(folder / "state.json", machine.state(), "state.json is the state as it was sent")
    holds(folder / "migration_config.json", machine.config(), "the configuration is kept as it was sent")
    holds(folder / "config.json", json.dumps(machine.vm_config).encode(), "config.json is the machine's part of it")
    works("the folder is a snapshot of Cloud Hypervisor", "put", "again", str(folder), "--format", "cloud-hypervisor",
          store=store)
    is_(says("the machine is stored once", "explain", "again", store=store)["exclusive_bytes"] < 65536, True,
        "its memory is shared with the first")
    put_machine(store, "running", machine, "--parent", "app", "--no-inspect", last=peer.COMPLETE)
    is_(run("--json", "check", store=store).returncode, 0, "the store is good")


def test_durable_before_answer(store, machine):
    """When the last answer comes the snapshot is there, for whoever looks."""
    with taking(store, "durable") as (process, path):
        with peer.connect(path) as end:
            for _, data, fd, payload in peer.steps_of(machine):
                status = peer.ask(end, data, fd, payload)
            ok(status == OK and "durable" in names(store), "the snapshot is there when the monitor hears Ok")
        end_of(process, "put ends well")


def test_put_killed(store, machine):
    """The monitor dies at each message, or does: nothing is stored, and the other side learns of it."""
    steps = peer.steps_of(machine)
    for number, (name, data, fd, payload) in enumerate(steps):
        # Who hangs up before the first byte only looked whether somebody listens.
        for part in ("before", "within") if number else ("within",):
            with taking(store, "dead") as (process, path):
                end = peer.connect(path)
                for step in steps[:number]:
                    assert peer.ask(end, *step[1:3], payload=step[3]) == OK
                if part == "within":
                    end.sendall((data + payload)[:len(data + payload) // 2])
                end.close()
                end_of(process, f"the monitor dies {part} {name}", IO, "hung up")
        with taking(store, "dead") as (process, path):
            with peer.connect(path) as end:
                for step in steps[:number]:
                    assert peer.ask(end, *step[1:3], payload=step[3]) == OK
                process.kill()
                process.wait()
                try:
                    peer.ask(end, data, fd, payload)
                    ok(False, f"put is killed before {name}: the monitor hears nothing more")
                except peer.Gone:
                    ok(True, f"put is killed before {name}: the monitor hears nothing more")
        (work / "take.sock").unlink(missing_ok=True)
    ok("dead" not in names(store), "nothing was stored")


def refused(store, name, words, steps, code=CORRUPT):
    """All STEPS but the last are fine; the last is answered with Error."""
    with taking(store, "bad") as (process, path):
        with peer.connect(path) as end:
            statuses = []
            try:
                for _, data, fd, payload in steps:
                    statuses.append(peer.ask(end, data, fd, payload))
                is_(statuses, [OK] * (len(steps) - 1) + [ERROR], f"{name}: the monitor hears Error")
            except peer.Gone:
                ok(False, f"{name}: the monitor hears Error", f"hung up after {statuses}")
        end_of(process, name, code, words)


def test_bad_monitor(store, machine):
    start, *memory, config, state, complete = peer.steps_of(machine)
    junk = ("junk", peer.request(77), None, b"")
    huge = ("huge", peer.request(peer.CONFIG, 1 << 60), None, b"")
    refused(store, "no Start", "may not come here", [memory[0]])
    refused(store, "an unknown command", "no command 77", [start, junk])
    refused(store, "another version", "version 9", [("Start", peer.request(peer.START, version=9), None, b"")], UNSUPPORTED)
    refused(store, "Config before memory", "may not come here", [start, config])
    refused(store, "State before Config", "may not come here", [start, memory[0], state])
    refused(store, "Complete before State", "may not come here", [start, *memory, config, complete])
    refused(store, "Config twice", "may not come here", [start, *memory, config, config])
    refused(store, "memory after Config", "may not come here", [start, memory[0], config, memory[1]])
    refused(store, "a slot twice", "came twice", [start, memory[0], memory[0]])
    refused(store, "an absurd length", "may not come here", [start, memory[0], huge])
    refused(store, "memory as bytes", "local=on", [start, ("Memory", peer.request(peer.MEMORY, 32), None, bytes(32))],
            UNSUPPORTED)
    refused(store, "no descriptor", "without a descriptor", [start, (*memory[0][:2], None, memory[0][3])])
    with open("/dev/null", "rb") as null:
        refused(store, "a descriptor of a device", "no memory file", [start, (*memory[0][:2], null.fileno(), memory[0][3])])
    refused(store, "a slot without memory", "came without memory", [start, *memory[:2], config, state, complete])
    extra = ("more", memory[0][1], memory[0][2], struct.pack("<I", 99))
    refused(store, "memory without a slot", "memory came for 4 slots", [start, *memory, extra, config, state, complete])
    short = Machine([Slot(0, LOW, bytes(PAGE * 4))])
    short.slots[0].data = bytes(PAGE * 8)
    refused(store, "a memory file that is short", "has only 16384", peer.steps_of(Machine(short.slots)))


def test_bad_texts(store, machine):
    start, *memory, config, state, complete = peer.steps_of(machine)

    def with_texts(config_text, state_text):
        return [start, *memory, ("Config", peer.request(peer.CONFIG, len(config_text)), None, config_text),
                ("State", peer.request(peer.STATE, len(state_text)), None, state_text), complete]

    def with_rows(change):
        changed = json.loads(config[3])
        change(changed["memory_manager_data"]["guest_ram_mappings"])
        return with_texts(json.dumps(changed).encode(), state[3])

    refused(store, "Config is no JSON", "machine: Config", with_texts(b"{", state[3]))
    refused(store, "Config is no object", "no JSON object", with_texts(b"[]", state[3]))
    refused(store, "State is no JSON", "state.json", with_texts(config[3], b"nothing"))
    refused(store, "Config has no machine", "no vm_config", with_texts(
        json.dumps({k: v for k, v in json.loads(config[3]).items() if k != "vm_config"}).encode(), state[3]))
    refused(store, "Config says a thing twice", "duplicate", with_texts(b'{"vm_config":{},"vm_config":{}}', state[3]))
    refused(store, "slots overlap", "overlap", with_rows(lambda rows: rows[1].update(gpa=PAGE)))
    refused(store, "a slot is not of pages", "whole pages", with_rows(lambda rows: rows[0].update(size=PAGE + 1)))
    refused(store, "a slot is negative", "not possible", with_rows(lambda rows: rows[0].update(gpa=-PAGE)))
    refused(store, "a slot reaches beyond all", "has only", with_rows(lambda rows: rows[0].update(file_offset=1 << 50)))
    refused(store, "a slot is not in the table", "file of its own", with_rows(lambda rows: rows[2].update(virtio_mem=False)),
            UNSUPPORTED)
    wide = Machine(machine.slots, [(LOW, 96 * PAGE), (HIGH, 64 * PAGE), (HIGH + (2 << 30), 8 * PAGE)])
    refused(store, "the table has what no slot has", "no slot has", with_texts(config[3], wide.state()))
    twice = Machine(machine.slots, machine.ranges + [(LOW, PAGE)])
    refused(store, "the table has a page twice", "overlaps", with_texts(config[3], twice.state()))
    ok("bad" not in names(store), "nothing was stored")


def test_silent_monitor(store, machine):
    steps = peer.steps_of(machine)
    for number in (0, 1, 3):
        with taking(store, "silent", "--timeout", "1s") as (process, path):
            with peer.connect(path) as end:
                for step in steps[:number]:
                    assert peer.ask(end, *step[1:3], payload=step[3]) == OK
                end_of(process, f"silence after {number} messages", TIMEOUT, "silent")
    with taking(store, "silent", "--timeout", "1s") as (process, path):
        with peer.connect(path) as end:
            data = peer.request(peer.START)
            began = time.monotonic()
            with contextlib.suppress(OSError):
                while process.poll() is None and time.monotonic() < began + 60:
                    end.sendall(data[:1])
                    data = data[1:] or b"x"
                    time.sleep(0.2)
            end_of(process, "a message byte by byte", TIMEOUT, "silent")
    with taking(store, "silent") as (process, path):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        is_(process.returncode, -signal.SIGTERM, "waiting for a monitor ends with a signal")
    ok(not path.exists(), "and leaves no socket")
    with taking(store, "silent") as (process, path):
        with peer.connect(path) as end:
            assert peer.ask(end, *steps[0][1:3]) == OK
            is_(peer.ask(end, peer.request(peer.ABANDON)), OK, "Abandon is answered Ok")
        end_of(process, "the monitor gives up", IO, "gave up")


def test_socket(store):
    path = work / "take.sock"
    path.write_bytes(b"precious")
    refuses(EXISTS, "is no socket", "a file at the socket's path", "put", "x", "--offload", str(path), store=store)
    holds(path, b"precious", "which stays")
    path.unlink()
    stale = socket_at(path)
    stale.close()
    with taking(store, "x") as (process, _):
        refuses(BUSY, "somebody listens", "two at one path", "put", "y", "--offload", str(path), store=store)
        is_(os.stat(path).st_mode & 0o777, 0o600, "the socket is the owner's alone")
        process.terminate()
        process.communicate()
    refuses(USAGE, "--diff", "a diff of a machine", "put", "x", "--offload", str(path), "--diff", store=store)
    refuses(USAGE, "--offload", "a timeout for a file", "put", "x", "y", "--timeout", "1s", store=store)
    refuses(USAGE, "1 to 82 bytes", "a name that is too long", "put", "x", "--offload", "/" + "n" * 200, store=store)
    refuses(USAGE, "one source", "an image and a machine", "put", "x", "y", "--offload", str(path), store=store)
    refuses(USAGE, "one source", "neither", "put", "x", store=store)
    refuses(NOT_FOUND, "nobody listens", "nobody at the other end", "wake", "app", "--offload", str(path), store=store)
    refuses(USAGE, "way in", "no way in", "wake", "app", store=store)
    refuses(USAGE, "--postcopy", "no-fill alone", "wake", "app", "--no-fill", "--offload", str(path), store=store)


def socket_at(path):
    end = peer.socket.socket(peer.socket.AF_UNIX)
    end.bind(str(path))
    return end


def test_lock(store, machine):
    """A writer that is busy is met before the machine is touched, and it lives on."""
    with taking(store, "first") as (process, path):
        with peer.connect(path) as end:
            assert peer.ask(end, peer.request(peer.START)) == OK
            other = work / "other.sock"
            with started("put", "second", "--offload", str(other), store=store) as second:
                wait_for_socket(other, second)
                with peer.connect(other) as late:
                    try:
                        is_(peer.ask(late, peer.request(peer.START)), ERROR, "a monitor that comes to a busy store")
                    except peer.Gone:
                        ok(True, "a monitor that comes to a busy store")
                end_of(second, "put says why", BUSY, "")
    ok("first" not in names(store), "nothing was stored")


# ---------------------------------------------------------------- giving

@contextlib.contextmanager
def giving(store, name, *args, **how):
    path = work / "give.sock"
    path.unlink(missing_ok=True)
    receiver = Receiver(path, postcopy="--postcopy" in args, **how)
    try:
        with started("--json", "wake", name, "--offload", str(path), *args, store=store) as process:
            yield process, receiver
    finally:
        receiver.close()


def addresses_of(machine):
    return [gpa + at for gpa, length in machine.ranges for at in range(0, length, PAGE)]


def check_memory(receiver, machine, name):
    wrong = [hex(gpa) for gpa in addresses_of(machine) if receiver.read(gpa) != machine.at(gpa, PAGE)]
    ok(not wrong, name, *wrong[:5])


def test_wake_whole(store, machine, name):
    with giving(store, name, "--resume") as (process, receiver):
        end_of(process, f"{name}: wake ends well")
        receiver.wait()
        is_(receiver.error, None, f"{name}: the monitor has nothing to complain of")
        is_(receiver.order, ["Start"] + ["MemoryFd"] * len(machine.slots) + ["Config", "State", "Complete"],
            f"{name}: the order of messages")
        is_(receiver.last, peer.COMPLETE, f"{name}: --resume lets the machine run")
        is_(receiver.state, json.loads(machine.state()), f"{name}: the state is as it was")
        is_(receiver.config["vm_config"], machine.vm_config, f"{name}: the configuration too, numbers of 64 bits and all")
        is_(receiver.config["common_cpuid"], machine.cpuid, f"{name}: and the processor's")
        check_memory(receiver, machine, f"{name}: the memory is whole")


def test_wake_postcopy(store, machine):
    with giving(store, "app", "--postcopy", "--no-fill") as (process, receiver):
        receiver.wait()
        is_((receiver.error, receiver.last), (None, peer.COMPLETE_PAUSED), "postcopy: the machine is handed over")
        everything = addresses_of(machine)
        is_(sum(map(receiver.is_there, everything)), 0, "and nothing is there yet")
        rng.shuffle(everything)
        for gpa in everything[:100]:
            before = receiver.is_there(gpa)
            status = receiver.page_fault(gpa)
            if not (status == OK and receiver.is_there(gpa) and receiver.read(gpa) == machine.at(gpa, PAGE)):
                ok(False, f"the page at {gpa:#x}", f"status {status}, before {before}")
        ok(True, "what is asked for is there after the answer, zeros too")
        is_(receiver.page_fault(LOW, 96 * PAGE), OK, "a whole slot at once")
        is_(receiver.read(LOW, 96 * PAGE), machine.at(LOW, 96 * PAGE), "is right")
        receiver.write(LOW + PAGE, b"mine" * 1024)
        is_(receiver.page_fault(LOW + PAGE), OK, "a page that is there")
        is_(receiver.read(LOW + PAGE), b"mine" * 1024, "is not given over what the machine wrote")
        receiver.discard(LOW + PAGE)
        is_((receiver.page_fault(LOW + PAGE), receiver.is_there(LOW + PAGE), receiver.read(LOW + PAGE)),
            (OK, True, bytes(PAGE)), "a page that the machine gave back is zero then")
        unplugged = HIGH + (1 << 30) + 12 * PAGE
        is_((receiver.page_fault(unplugged), receiver.read(unplugged)), (OK, bytes(PAGE)), "what was not plugged is zero")
        receiver.close()
        stat = json.loads(end_of(process, "wake ends when the monitor does"))
        ok(stat["requests"] >= 100 and stat["failed_requests"] == 0, "it counted", stat)


def test_wake_fill(store, machine):
    with giving(store, "app", "--postcopy") as (process, receiver):
        receiver.wait()
        stored = [gpa for gpa in addresses_of(machine) if machine.at(gpa, PAGE).strip(b"\0")]
        for _ in range(3000):
            if all(map(receiver.is_there, stored)):
                break
            time.sleep(0.02)
        wrong = [hex(gpa) for gpa in stored if receiver.read(gpa) != machine.at(gpa, PAGE)]
        ok(all(map(receiver.is_there, stored)) and not wrong, "all is filled in without being asked for", *wrong[:5])
        is_(process.poll(), None, "and zeros can still be asked for")
        receiver.close()
        end_of(process, "until the monitor ends")


def ask_badly(receiver, data):
    try:
        receiver.fault.sendall(data)
        return struct.unpack("<H6xQ", peer.receive(receiver.fault, 16))[0]
    except (peer.Gone, BrokenPipeError, ConnectionResetError):
        return None


def test_bad_receiver(store, machine):
    ranges = {"not aligned": (1, PAGE), "of nothing": (LOW, 0), "in no slot": (3 << 30, PAGE),
              "beyond its slot": (LOW + 95 * PAGE, 2 * PAGE), "of all there is": (LOW, 2**64 - PAGE),
              "at the end of all": (2**64 - PAGE, PAGE), "not whole": (LOW, 100)}
    for name, (gpa, length) in ranges.items():
        with giving(store, "app", "--postcopy", "--no-fill") as (process, receiver):
            receiver.wait()
            data = peer.request(peer.PAGE_FAULT, 16) + struct.pack("<QQ", gpa, length)
            ok(ask_badly(receiver, data) in (ERROR, None), f"a page fault {name} gets no page")
            end_of(process, f"a page fault {name} ends it", CORRUPT, "no slot has")
    for name, data in {"another command": peer.request(peer.STATE, 4), "junk": b"\xff" * 16,
                       "a fault without a range": peer.request(peer.PAGE_FAULT, 0)}.items():
        with giving(store, "app", "--postcopy", "--no-fill") as (process, receiver):
            receiver.wait()
            ok(ask_badly(receiver, data) in (ERROR, None), f"{name} for a page fault gets nothing")
            end_of(process, f"{name} for a page fault ends it", CORRUPT, "")
    for refuse in ("Start", "MemoryFd", "Config", "State", "Complete"):
        with giving(store, "app", refuse=refuse) as (process, receiver):
            end_of(process, f"the monitor refuses {refuse}", IO, "refused")


def test_not_postcopy(store):
    """A monitor that was not told to ask for pages would run on nothing: it is found out in time."""
    path = work / "give.sock"
    path.unlink(missing_ok=True)
    receiver = Receiver(path, postcopy=False)
    with started("wake", "app", "--offload", str(path), "--postcopy", "--timeout", "1s", store=store) as process:
        end_of(process, "the monitor was not called with memory_mode=postcopy", TIMEOUT, "memory_mode=postcopy")
        receiver.wait()
        is_(receiver.state, None, "it was given no state")
    receiver.close()


class Die(Exception):
    pass


def test_receiver_killed(store, machine):
    for mode in ([], ["--postcopy"]):
        for at in ("Start", "MemoryFd", "Config", "State", "Complete"):
            def hook(name, at=at):
                if name == at:
                    raise Die
            with giving(store, "app", *mode, hook=hook) as (process, receiver):
                end_of(process, f"the monitor dies at {at} {mode}", IO, "")
            ended = threading.Event()

            def fall_silent(name, at=at):
                if name == at:
                    ended.wait(60)
            with giving(store, "app", "--timeout", "1s", *mode, hook=fall_silent) as (process, receiver):
                end_of(process, f"the monitor falls silent at {at} {mode}", TIMEOUT, "")
                ended.set()
            reached, killed = threading.Event(), threading.Event()

            def wait(name, at=at):
                if name == at:
                    reached.set()
                    killed.wait(60)
            with giving(store, "app", *mode, hook=wait) as (process, receiver):
                reached.wait(60)
                process.kill()
                process.wait()
                killed.set()
                receiver.wait()
                # The very last answer may be one that nobody hears.
                ok(receiver.error is not None or at == "Complete",
                   f"wake is killed at {at} {mode}: the monitor does not go on", receiver.error)


def test_damage(store, machine):
    """A page that cannot be read is an error to the monitor, never zeros."""
    bad = work / "damaged"
    shutil.copytree(store, bad)
    for segment in bad.glob("seg.*"):
        data = bytearray(segment.read_bytes())
        for at in range(len(data) // 8, len(data) - 4096, 997):
            data[at] ^= 0x55
        segment.write_bytes(data)
    with giving(str(bad), "app", "--postcopy", "--no-fill") as (process, receiver):
        receiver.wait()
        if receiver.last is None:
            end_of(process, "the damage is found before the machine goes on", CORRUPT, "")
            return
        failed = wrong = 0
        for gpa in range(LOW, LOW + 96 * PAGE, PAGE):
            status = receiver.page_fault(gpa)
            failed += status == ERROR
            wrong += status == OK and receiver.read(gpa) != machine.at(gpa, PAGE)
        ok(failed > 0 and wrong == 0, "pages that are damaged are refused, the others right", f"{failed}, {wrong}")
        receiver.close()
        end_of(process, "and the wake goes on to its end")


def main():
    store = new_store()
    machine = make_machine()
    test_put(store, machine)
    test_durable_before_answer(store, machine)
    test_put_killed(store, machine)
    test_bad_monitor(store, machine)
    test_bad_texts(store, machine)
    test_silent_monitor(store, machine)
    test_socket(store)
    test_lock(store, machine)
    test_wake_whole(store, machine, "app")
    test_wake_whole(store, machine, "again")
    test_wake_postcopy(store, machine)
    test_wake_fill(store, machine)
    test_bad_receiver(store, machine)
    test_not_postcopy(store)
    test_receiver_killed(store, machine)
    test_damage(store, machine)
    write("raw", make_image(rng, 8))
    prepare("put", "raw", str(work / "raw"), store=store)
    with giving(store, "raw") as (process, receiver):
        end_of(process, "memory alone is no machine", UNSUPPORTED, "memory alone")
    is_(run("check", store=store).returncode, 0, "the store is good after all that")
    done()


if __name__ == "__main__":
    main()
