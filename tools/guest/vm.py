# SPDX-License-Identifier: Apache-2.0
"""Run one guest of the kit under QEMU; used by snap, corpus and restore-check.

The idea: guest RAM is a plain file (memory-backend-file), so a paused guest's memory is that
file, and everything else of the guest ("devstate") is a QEMU migration stream that leaves shared
RAM out. The console and QMP are socket pairs handed to QEMU, so there are no socket paths to
clean up. QEMU is killed when this process ends in any way, and every wait has a deadline.
"""
import ctypes
import hashlib
import json
import mmap
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

QEMU = "qemu-system-x86_64"
GT_TEXT = 4 << 20           # room for text in the ground truth, as in record.c
SILENCE = 40                # seconds without console output that count as a hang
STUCK = 6                   # so many looks, a second apart, at a CPU busy at one address do too
BOOTS = 6                   # attempts before a boot is given up
LIBC = ctypes.CDLL(None, use_errno=True)


class GuestError(Exception):
    """The guest or QEMU did not do what was asked."""


class GuestHang(GuestError):
    """No progress for too long."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def exit_on_signals():
    """Turn the usual signals into SystemExit, so that `finally` blocks run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))


def die_with_parent():
    """In a child before exec: PR_SET_PDEATHSIG, so that it never outlives this process."""
    LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)


def find_kit(start):
    """The kit of a snapshot: `kit` in a folder above it."""
    at = os.path.abspath(start)
    while True:
        for kit in (at, os.path.join(at, "kit")):
            if os.path.isfile(os.path.join(kit, "kit.json")):
                return kit
        if at == os.path.dirname(at):
            raise GuestError(f"no guest kit at or above {start}; make one with tools/guest/build")
        at = os.path.dirname(at)


def read_json(path):
    with open(path) as f:
        return json.load(f)


def kernel_folder(kit, shape):
    """Where a guest's vmlinuz and initramfs are: in the kit, or in a folder of it named for the series."""
    return os.path.join(kit, shape["kernel"]) if shape["kernel"] else kit


def kernel_json(kit, shape):
    return read_json(os.path.join(kernel_folder(kit, shape), "kernel.json" if shape["kernel"] else "kit.json"))


def kit_id(kit, shape):
    """What must not change between snapshot and restore: the three files' digests."""
    k = {**read_json(os.path.join(kit, "kit.json")), **kernel_json(kit, shape)}
    return {name: k[name] for name in ("vmlinuz", "initramfs", "rootfs.ext4")}


# What a guest is made of when nothing else is said. A machine of `nodes` > 1 is a PC, since microvm
# has no NUMA: its disks are on PCI then. kernel: a series the kit has besides its own, such as "6.12".
# cx16: see "wild flags" in README.md.
SHAPE = {"kernel": None, "cpus": 1, "mib": 256, "nodes": 1, "la57": False, "cx16": False, "modules": [], "append": ""}
LOW = 3 << 30               # microvm puts what RAM is over this behind the hole below 4 GiB


def shape_of(meta):
    """The shape of an image, from its meta.json."""
    return {**SHAPE, "mib": meta["mem_mib"], **meta.get("shape", {"cx16": True})}


def ram_map(shape):
    """Where each piece of the memory file is in guest-physical memory, and on which NUMA node."""
    size = shape["mib"] << 20
    if shape["nodes"] > 1:
        part = size // shape["nodes"]
        return [{"offset": n * part, "gpa": n * part, "bytes": part, "node": n} for n in range(shape["nodes"])]
    pieces = [{"offset": 0, "gpa": 0, "bytes": min(size, LOW)}]
    if size > LOW:
        pieces.append({"offset": LOW, "gpa": 4 << 30, "bytes": size - LOW})
    return pieces


def frames(shape):
    """One more than the highest page frame number."""
    last = ram_map(shape)[-1]
    return (last["gpa"] + last["bytes"]) >> 12


def qemu_version():
    text = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, text=True, check=True, timeout=30).stdout
    return re.search(r"version (\S+)", text).group(1)


def tsc_khz():
    """The rate of this host's time stamp counter, which TCG hands through, to the nearest MHz."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31" "48c1e220" "4809d0" "c3"))     # rdtsc; shl rdx,32; or rax,rdx; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def moment():                                   # of many pairs of readings, the closest
        return min(((time.monotonic_ns(), rdtsc(), time.monotonic_ns()) for _ in range(50)), key=lambda m: m[2] - m[0])[:2]

    t0, c0 = moment()
    time.sleep(0.1)
    t1, c1 = moment()
    return round((c1 - c0) * 1000 / (t1 - t0)) * 1000


def kernel_cmdline(accel, shape=SHAPE):
    """As plain as can be. Under TCG the kernel is told the TSC rate; see "early hang" in README.md."""
    plain = " ".join(filter(None, ["console=ttyS0 panic=-1 quiet", shape["append"]]))
    if shape["modules"]:
        plain += " MODULES=" + ",".join(shape["modules"])
    if accel != "tcg":
        return plain
    try:
        return f"{plain} tsc_early_khz={tsc_khz()}"
    except OSError as e:                            # no executable memory here: boot may need retries
        say(f"cannot measure the TSC rate: {e}")
        return plain


def machine(shape):
    """Machine and NUMA nodes. The old PC takes nodes by size, so that RAM stays one file of one backend."""
    if shape["nodes"] == 1:
        return ["-machine", "microvm,acpi=on,rtc=on,pcie=off,memory-backend=ram"]
    nodes = [("-numa", f"node,nodeid={n},mem={shape['mib'] // shape['nodes']}M,cpus={n}") for n in range(shape["nodes"])]
    return ["-machine", "pc-i440fx-5.0,memory-backend=ram", *(word for node in nodes for word in node)]


def arguments(accel, cmdline, shape, share, mem, gt, kit, console, qmp):
    """QEMU's arguments. They decide the device layout, so a restore needs the very same ones."""
    mib, boot = shape["mib"], kernel_folder(kit, shape)
    cpu = f"max,la57={'on' if shape['la57'] else 'off'}" + ("" if shape["cx16"] else ",cx16=off")
    disk = "file={},format=raw,if=none,file.locking=off"
    device = "virtio-blk-device" if shape["nodes"] == 1 else "virtio-blk-pci"
    return [
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-accel", accel, "-cpu", cpu, "-smp", str(shape["cpus"]), "-m", f"{mib}M",
        *machine(shape),
        "-object", f"memory-backend-file,id=ram,share={share},mem-path={mem},size={mib}M",
        "-kernel", f"{boot}/vmlinuz", "-initrd", f"{boot}/initramfs", "-append", cmdline,
        "-chardev", f"{console},id=console", "-serial", "chardev:console",
        "-chardev", f"{qmp},id=qmp", "-mon", "chardev=qmp,mode=control",
        "-drive", disk.format(f"{kit}/rootfs.ext4") + ",id=root,readonly=on", "-device", f"{device},drive=root",
        "-drive", disk.format(gt) + ",id=gt", "-device", f"{device},drive=gt",
    ]


def recipe(accel, cmdline, shape):
    """The restoring command line with its file names left open, for meta.json."""
    return [QEMU] + arguments(accel, cmdline, shape, "off", "{mem}", "{gt}", "{kit}",
                              "socket,path={console},server=on,wait=off", "socket,path={qmp},server=on,wait=off") + ["-incoming", "defer"]


def run_description(meta):
    """What `dormouse run` needs to know of an image: its qemu.json, with {kit} and {gt} left open.

    Run adds the memory backend, QMP and -incoming itself; the console is its standard input and output.
    """
    given = arguments(meta["accel"], meta["cmdline"], shape_of(meta), "off", "{mem}", "{gt}", "{kit}", "stdio", "qmp")
    kept, at = [], 0
    while at < len(given):
        if given[at + 1:] and given[at + 1].startswith(("memory-backend-file,", "qmp,", "chardev=qmp,")):
            at += 2
        else:
            kept.append(given[at])
            at += 1
    return {"memory": "ram", "arguments": kept}


def make_disk(path, shape, role=None):
    """The second disk: the role for the guest, then room for its ground truth."""
    with open(path, "wb") as f:
        if role:
            f.write(f"role={role}\n".encode())
        f.truncate(8192 + 16 * frames(shape) + GT_TEXT)


def set_role(path, role):
    with open(path, "r+b") as f:
        f.write(f"role={role}\n".encode().ljust(4096, b"\0"))


class Guest:
    """A running QEMU; use as a context manager."""

    def __init__(self, kit, mem, gt, accel, cmdline, shape=SHAPE, share="on", incoming=False, log=None):
        for path in (kit, mem, gt):
            if "," in path:
                raise GuestError(f"QEMU cannot take a comma in a path: {path}")
        self.seen = b""
        self.log = open(log, "wb") if log else None
        ours_qmp, theirs_qmp = socket.socketpair()
        self.console, theirs_console = socket.socketpair()
        fds = (theirs_qmp.fileno(), theirs_console.fileno())
        command = [QEMU] + arguments(accel, cmdline, shape, share, mem, gt, kit, f"socket,fd={fds[1]}", f"socket,fd={fds[0]}")
        if incoming:
            command += ["-incoming", "defer"]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                            pass_fds=fds, preexec_fn=die_with_parent)
        except OSError as e:
            raise GuestError(f"cannot start {QEMU}: {e}")
        finally:
            theirs_qmp.close()
            theirs_console.close()
        self.qmp_socket = ours_qmp
        self.qmp_socket.settimeout(30)
        self.qmp_lines = ours_qmp.makefile("r")
        try:
            self._reply()                           # the greeting
            self.qmp("qmp_capabilities")
            self.qmp("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.qmp_socket.close()
        self.console.close()
        if self.log:
            self.log.close()

    # QMP ------------------------------------------------------------------------------------
    def _reply(self):
        while True:
            try:
                line = self.qmp_lines.readline()
            except ConnectionError:
                line = ""
            except OSError as e:                    # socket.timeout is one
                raise GuestError(f"QMP: {e}")
            if not line:
                try:
                    self.process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    raise GuestError("QEMU closed QMP but runs on")
                text = self.process.stderr.read().decode(errors="replace").strip()
                raise GuestError("QEMU ended: " + (text[-500:] or f"status {self.process.returncode}"))
            message = json.loads(line)
            if "event" not in message:
                return message

    def qmp(self, command, fd=None, **args):
        text = json.dumps({"execute": command, "arguments": args} if args else {"execute": command}).encode() + b"\n"
        try:
            if fd is None:
                self.qmp_socket.sendall(text)
            else:
                socket.send_fds(self.qmp_socket, [text], [fd])
        except ConnectionError:
            pass                                    # QEMU is gone; _reply tells why
        except OSError as e:
            raise GuestError(f"QMP: {e}")
        reply = self._reply()
        if "error" in reply:
            raise GuestError(f"QMP {command}: {reply['error'].get('desc')}")
        return reply.get("return")

    def _await_migration(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = self.qmp("query-migrate")
            if state.get("status") == "completed":
                return
            if state.get("status") in ("failed", "cancelled"):
                raise GuestError(f"migration {state['status']}: {state.get('error-desc', '')}")
            time.sleep(0.005)
        raise GuestError("migration did not end in 60 s")

    def save(self, path):
        """Pause the guest and write its device state."""
        self.qmp("stop")
        with open(path, "wb") as f:
            self.qmp("getfd", fd=f.fileno(), fdname="state")
            self.qmp("migrate", uri="fd:state")
            self._await_migration()

    def load(self, path):
        """Take a device state and let the guest run on."""
        with open(path, "rb") as f:
            self.qmp("getfd", fd=f.fileno(), fdname="state")
            self.qmp("migrate-incoming", uri="fd:state")
            self._await_migration()
        self.qmp("cont")

    def quit(self):
        try:
            self.qmp("quit")
            self.process.wait(timeout=30)
        except (GuestError, subprocess.TimeoutExpired):
            pass
        self.close()

    def busy_at(self):
        """Where the CPU is, or None if it idles. TCG knows that only of a paused guest."""
        self.qmp("stop")
        text = self.qmp("human-monitor-command", **{"command-line": "info registers"})
        self.qmp("cont")
        found = re.search(r"[RE]IP=([0-9a-f]+).*HLT=0", text)
        return found.group(1) if found else None

    # console --------------------------------------------------------------------------------
    def send(self, text):
        self.console.sendall(text.encode())

    def wait_line(self, word, silence=SILENCE, limit=600, boot=False):
        """The next console line that starts with `word`, without the word."""
        begin = progress = time.monotonic()
        places = []
        while True:
            while b"\n" in self.seen:
                line, self.seen = self.seen.split(b"\n", 1)
                line = line.decode(errors="replace").strip()
                if line == word or line.startswith(word + " "):
                    return line[len(word) + 1:]
                if line.startswith("FAILED") or "Kernel panic" in line:
                    raise GuestError(f"guest says: {line}")
            now = time.monotonic()
            if now - progress > silence or now - begin > limit:
                raise GuestHang(f"no {word} after {now - begin:.0f} s, console silent for {now - progress:.0f} s")
            if boot:                             # the early hang spins before the first output
                places = (places + [self.busy_at()])[-STUCK:]
                if len(places) == STUCK and len(set(places)) == 1 and places[0]:
                    raise GuestHang(f"no {word} after {now - begin:.0f} s, CPU stuck at {places[0]}")
            if select.select([self.console], [], [], 1)[0]:
                boot = False
                try:
                    data = self.console.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    self._reply()                   # tells how QEMU ended
                    raise GuestError("the console is gone")
                progress = now
                self.seen += data
                if self.log:
                    self.log.write(data)
                    self.log.flush()


def choose_accel(kit, wanted, scratch):
    """KVM if a guest really boots with it (the device may exist and not work), else TCG."""
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    mem, gt = os.path.join(scratch, "probe-mem"), os.path.join(scratch, "probe-gt")
    os.makedirs(scratch, exist_ok=True)
    try:
        for path in (mem, gt):
            if os.path.exists(path):
                os.unlink(path)
        make_disk(gt, SHAPE)
        with open(mem, "wb") as f:
            f.truncate(SHAPE["mib"] << 20)
        with Guest(kit, mem, gt, "kvm", kernel_cmdline("kvm")) as guest:
            guest.wait_line("BASE", silence=15, limit=20)
        return "kvm"
    except GuestError as e:
        say(f"KVM does not boot a guest here ({e}); using TCG")
        return "tcg"
    finally:
        for path in (mem, gt):
            if os.path.exists(path):
                os.unlink(path)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def copy_sparse(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", "--", source, target], check=True)


def punch_holes(path):
    """Give zero pages back to the file system; not all of those can, and that is no fault."""
    subprocess.run(["fallocate", "--dig-holes", path], stderr=subprocess.DEVNULL)


def fresh_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
