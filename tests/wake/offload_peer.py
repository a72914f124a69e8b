# SPDX-License-Identifier: Apache-2.0
"""offload_peer.py - the monitor's side of Cloud Hypervisor's migration protocol, written from its description:

    request  u16 command, 6 bytes (Start: u16 version), u64 bytes of payload; little endian
    answer   u16 status (1 Ok, 2 Error), 6 bytes, u64 bytes of payload
    commands 1 Start, 2 Config, 3 State, 4 Memory, 5 Complete, 6 Abandon, 7 MemoryFd (u32 slot, sent with the
             descriptor), 8 CompletePaused, 9 PageFault ({u64 gpa, u64 length})
    role     u16 on a second connection: 1 memory, 2 faults

A Machine has memory in slots and knows its JSON. send() is what send-migration with local=on does, Receiver what
receive-migration does.
"""
import json
import mmap
import os
import socket
import struct
import threading

PAGE = 4096
START, CONFIG, STATE, MEMORY, COMPLETE, ABANDON, MEMORY_FD, COMPLETE_PAUSED, PAGE_FAULT = range(1, 10)
OK, ERROR = 1, 2
FAULT_ROLE = 2
SECONDS_MAX = 60


class Slot:
    """Guest memory at GPA, in a memory file of its own at OFFSET."""

    def __init__(self, number, gpa, data, offset=0, virtio_mem=False):
        self.number, self.gpa, self.data, self.offset, self.virtio_mem = number, gpa, data, offset, virtio_mem
        self.fd = os.memfd_create(f"slot-{number}")
        os.ftruncate(self.fd, offset + len(data))
        for at in range(0, len(data), PAGE):
            page = data[at:at + PAGE]
            if page.strip(b"\0"):
                os.pwrite(self.fd, page, offset + at)

    def row(self):
        return {"slot": self.number, "gpa": self.gpa, "size": len(self.data), "zone_id": "mem0",
                "virtio_mem": self.virtio_mem, "file_offset": self.offset}


class Machine:
    """What a monitor has: slots, a configuration, a state. BIG stands for numbers of 64 bits, which must stay."""

    def __init__(self, slots, ranges=None):
        self.slots = slots
        self.ranges = ranges or [(slot.gpa, len(slot.data)) for slot in slots]
        self.manager = {"memory_ranges": {"data": [{"gpa": gpa, "length": length} for gpa, length in self.ranges]},
                        "guest_ram_mappings": [slot.row() for slot in slots],
                        "arch_mem_regions": [{"base": 0, "size": 2**64 - 1, "r_type": "Ram"}]}
        self.vm_config = {"cpus": {"boot_vcpus": 2}, "memory": {"size": sum(len(s.data) for s in slots),
                                                                 "shared": True}, "big": 2**64 - 1}
        self.cpuid = [{"function": 1, "eax": 0x80000001, "text": "{\"vm_config\": }"}]

    def config(self):
        early = dict(self.manager, memory_ranges={"data": []})
        return json.dumps({"vm_config": self.vm_config, "common_cpuid": self.cpuid,
                           "memory_manager_data": early}).encode()

    def state(self):
        return json.dumps({
            "snapshots": {"cpu-manager": {"snapshots": {}, "snapshot_data": {"state": "{}"}},
                          "memory-manager": {"snapshots": {},
                                             "snapshot_data": {"state": json.dumps(self.manager)}}},
            "snapshot_data": {"state": json.dumps({"clock": None, "common_cpuid": self.cpuid})}}).encode()

    def memory(self):
        """The bytes of all ranges in the order of the table: memory-ranges."""
        return b"".join(self.at(gpa, length) for gpa, length in self.ranges)

    def at(self, gpa, length):
        out = b""
        while length:
            slot = next(s for s in self.slots if s.gpa <= gpa < s.gpa + len(s.data))
            piece = slot.data[gpa - slot.gpa:][:length]
            out += piece
            gpa += len(piece)
            length -= len(piece)
        return out


class Gone(Exception):
    """The other side hung up."""


def request(command, length=0, version=0):
    return struct.pack("<HH4xQ", command, version, length)


def answer(status=OK):
    return struct.pack("<H6xQ", status, 0)


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(SECONDS_MAX)
    peer.connect(str(path))
    return peer


def receive(peer, size, fds=None):
    """Exactly SIZE bytes; descriptors that come along are added to FDS."""
    data = b""
    while len(data) < size:
        try:
            piece, got, _, _ = socket.recv_fds(peer, size - len(data), 4)
        except ConnectionResetError as error:
            raise Gone from error
        if got and fds is None:
            raise ValueError("a descriptor where none belongs")
        if got:
            fds += got
        if not piece:
            raise Gone
        data += piece
    return data


def ask(peer, data, fd=None, payload=b""):
    """Send a request and its payload (with a descriptor), as the monitor does; the status that comes back."""
    try:
        peer.sendall(data)
        if fd is not None:
            socket.send_fds(peer, [payload], [fd])
        elif payload:
            peer.sendall(payload)
        status, length = struct.unpack("<H6xQ", receive(peer, 16))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Gone from error
    assert length == 0, "answers have no payload here"
    return status


def steps_of(machine, last=COMPLETE_PAUSED):
    """The exchange of send-migration as (name, request, descriptor, payload)."""
    config, state = machine.config(), machine.state()
    steps = [("Start", request(START), None, b"")]
    steps += [(f"MemoryFd {slot.number}", request(MEMORY_FD, 4), slot.fd, struct.pack("<I", slot.number))
              for slot in machine.slots]
    steps += [("Config", request(CONFIG, len(config)), None, config),
              ("State", request(STATE, len(state)), None, state),
              ("Complete", request(last), None, b"")]
    return steps


def send(path, machine, last=COMPLETE_PAUSED, before=lambda name: None):
    """send-migration: all statuses, to the first that is not Ok."""
    statuses = []
    with connect(path) as peer:
        for name, data, fd, payload in steps_of(machine, last):
            before(name)
            statuses.append(ask(peer, data, fd, payload))
            if statuses[-1] != OK:
                break
    return statuses


class Receiver:
    """receive-migration, with memory_mode=postcopy if POSTCOPY. HOOK(name) may end it by an exception at each step;
    REFUSE is the name of a step that is answered with Error."""

    def __init__(self, path, postcopy=False, hook=lambda name: None, refuse=None):
        self.path, self.postcopy, self.hook, self.refuse = str(path), postcopy, hook, refuse
        self.slots, self.config, self.state, self.last, self.order = {}, None, None, None, []
        self.fault, self.error = None, None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(SECONDS_MAX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.peer, _ = self.listener.accept()
            self.peer.settimeout(SECONDS_MAX)
            while self.last is None:
                self.step()
        except Exception as error:      # of any kind: the test looks at it
            self.error = error
            self.close()

    def step(self):
        command, version, length = struct.unpack("<HH4xQ", receive(self.peer, 16))
        assert (version, length > 0) == (0, command in (CONFIG, STATE, MEMORY_FD)), (command, version, length)
        name = {START: "Start", MEMORY_FD: "MemoryFd", CONFIG: "Config", STATE: "State"}.get(command, "Complete")
        self.order.append(name)
        self.hook(name)
        if command == MEMORY_FD:
            fds = []
            number, = struct.unpack("<I", receive(self.peer, length, fds))
            self.slots[number], = fds
        elif command == CONFIG:
            self.config = json.loads(receive(self.peer, length))
            self.map()
        elif command == STATE:
            self.state = json.loads(receive(self.peer, length))
        if name == self.refuse:
            self.peer.sendall(answer(ERROR))
            raise ValueError("refused")
        self.peer.sendall(answer())
        if command == CONFIG and self.postcopy:
            self.accept_fault()
        if command in (COMPLETE, COMPLETE_PAUSED):
            self.last = command

    def accept_fault(self):
        self.fault, _ = self.listener.accept()
        self.fault.settimeout(SECONDS_MAX)
        role, = struct.unpack("<H", receive(self.fault, 2))
        assert role == FAULT_ROLE, role

    def map(self):
        self.rows = self.config["memory_manager_data"]["guest_ram_mappings"]
        for row in self.rows:
            assert os.fstat(self.slots[row["slot"]]).st_size >= row["file_offset"] + row["size"]

    def place(self, gpa):
        row = next(r for r in self.rows if r["gpa"] <= gpa < r["gpa"] + r["size"])
        return self.slots[row["slot"]], row["file_offset"] + gpa - row["gpa"]

    def is_there(self, gpa):
        """Whether the page is in the memory file."""
        fd, at = self.place(gpa)
        try:
            return os.lseek(fd, at, os.SEEK_DATA) == at
        except OSError:
            return False

    def read(self, gpa, length=PAGE):
        fd, at = self.place(gpa)
        return os.pread(fd, length, at)

    def write(self, gpa, data):
        fd, at = self.place(gpa)
        os.pwrite(fd, data, at)

    def discard(self, gpa, length=PAGE):
        """What a balloon does."""
        fd, at = self.place(gpa)
        with mmap.mmap(fd, length, offset=at) as view:
            view.madvise(mmap.MADV_REMOVE)

    def page_fault(self, gpa, length=PAGE):
        return ask(self.fault, request(PAGE_FAULT, 16), payload=struct.pack("<QQ", gpa, length))

    def wait(self):
        self.thread.join(SECONDS_MAX)
        assert not self.thread.is_alive(), "the exchange hangs"
        return self

    def close(self):
        """Hang up everywhere; the thread ends by it, also when nobody ever came."""
        if self.thread.is_alive() and os.path.exists(self.path):
            with socket.socket(socket.AF_UNIX) as end:
                end.connect_ex(self.path)
        ends = [end for end in (getattr(self, "peer", None), self.fault, self.listener) if end is not None]
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if threading.current_thread() is not self.thread:
            self.thread.join(SECONDS_MAX)
        for end in ends:
            end.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
        while self.slots:
            os.close(self.slots.popitem()[1])
