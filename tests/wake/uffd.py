# SPDX-License-Identifier: Apache-2.0
"""uffd.py - what the tests of waking through userfaultfd share: the server, the monitor (vmm.c), and a store with
one snapshot. What cli.py has is here as well."""
import array
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli import *

VMM = os.path.abspath(os.environ.get("DORMOUSE_VMM", "build/tests/wake/vmm"))
PAGES = 4096
SECONDS = 60
CANNOT_RUN = 77

libc = ctypes.CDLL(None, use_errno=True)


def make_uffd(features=0):
    """What a monitor makes: by system call or, where that is forbidden, from the device."""
    fd = libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0 and os.access("/dev/userfaultfd", os.R_OK):
        with open("/dev/userfaultfd", "rb", buffering=0) as device:
            fd = libc.ioctl(device.fileno(), 0xAA00, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        print(f"1..0 # SKIP no userfaultfd for this user: {os.strerror(ctypes.get_errno())}")
        sys.exit(CANNOT_RUN)
    api = array.array("Q", [0xAA, features, 0])
    if libc.ioctl(fd, 0xC018AA3F, ctypes.c_void_p(api.buffer_info()[0])) != 0:
        print("Bail out! the userfaultfd cannot be opened")
        sys.exit(1)
    return fd


os.close(make_uffd())
rng = make_seed()
store = new_store()
data = make_image(rng, PAGES)
image = write("image", data)
prepare("put", "one", image, store=store)


class Server:
    """`dormouse wake`, until the end of the with statement."""
    count = 0

    def __init__(self, *args, snapshot="one", where=None, path=None):
        Server.count += 1
        self.path = path or str(work / f"socket{Server.count}")
        self.log = work / f"log{Server.count}"
        self.command = [program, "--store", where or store, "--json", "wake", snapshot, "--uffd-socket", self.path, *args]

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                            env={**clean_env(), "DOR_LOG": "info"})
        until = time.monotonic() + SECONDS
        while "wake listening " not in self.said() and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        self.stat = {}
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()
        self.process.stdout.close()

    def worker(self):
        """The process that does the work: the keeper's child."""
        words = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(words[0]) if words else None

    def end(self, number=signal.SIGTERM):
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        try:
            out, _ = self.process.communicate(timeout=SECONDS)
            self.stat = json.loads(out) if out else {}
        except subprocess.TimeoutExpired:
            self.process.kill()
            ok(False, "the server ends when it is told", self.said())
        return self.process.returncode

    def said(self):
        return self.log.read_text(errors="replace")

    def says(self, words, name, count=1):
        until = time.monotonic() + SECONDS
        while self.said().count(words) < count and time.monotonic() < until:
            time.sleep(0.02)
        return ok(self.said().count(words) >= count, name, f"wanted {words!r} {count} times", self.said()[-2000:])

    def vmm(self, *options, of=image):
        return subprocess.Popen([VMM, self.path, of, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)


def finish(vmm, name, want=0):
    """Let a monitor run to its end and check how it ended; what it printed."""
    try:
        out, err = vmm.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        vmm.kill()
        out, err = vmm.communicate()
        ok(False, name, "it hangs", out, err)
        return {}
    if vmm.returncode == CANNOT_RUN:
        skip(err.strip().removeprefix("vmm: "), name)
        return {}
    ok(vmm.returncode == want, name, f"exit code {vmm.returncode}", out, err)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def say(vmm, line="go"):
    vmm.stdin.write(line + "\n")
    vmm.stdin.flush()


def hear(vmm, want):
    """Wait until the monitor has said WANT."""
    line = vmm.stdout.readline().strip()
    if line != want:
        ok(False, f"the monitor says {want}", line)


def connect(server):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(SECONDS)
    client.connect(server.path)
    return client


def mapping(address=0x7f0000000000, size=PAGE, offset=0, **more):
    return {"base_host_virt_addr": address, "size": size, "offset": offset, "page_size": PAGE, **more}


def answer(client):
    """What the server says before it hangs up; None when it does not."""
    said = b""
    try:
        while part := client.recv(4096):
            said += part
    except ConnectionResetError:
        pass
    except TimeoutError:
        return None
    return said.decode(errors="replace")
