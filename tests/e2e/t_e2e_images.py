#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_images.py - images that real programs made, taken apart and put together again.

QEMU's memory files and device state (a guest restored from the copy answers right), its
dump-guest-memory with and without paging (the pages are those of pmemsave), mapped-ram of a running
guest (which runs on from the copy), cores by gdb and by the kernel, dumps by CRIU. Other programs
than the installed ones can be tried: DOR_QEMU (9 or later) and DOR_CRIU. Prints TAP.
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tools/guest")
import vm  # noqa: E402

PAGE = 4096
MIB = 256
guests = pathlib.Path(os.environ.get("DORMOUSE", "build/dormouse")).parent / "guests"
reframe = os.environ.get("DOR_REFRAME", "build/tests/guest/reframe")
count = failures = 0


def ok(condition, name, words=""):
    global count, failures
    count += 1
    failures += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {name}", flush=True)
    if not condition and words:
        print("# " + str(words).replace("\n", "\n# "))
    return bool(condition)


def skip(name, reason):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {reason}", flush=True)


def same(a, b):
    """Files or folders of files, byte for byte."""
    return subprocess.run(["diff", "-r", "--", str(a), str(b)], capture_output=True).returncode == 0


def takes_apart(name, image, work, form):
    """Row and frame of IMAGE make it again; what reframe says, the copy, and the row's file."""
    copy, row = work / f"{name}.copy", work / f"{name}.row"
    done = subprocess.run([reframe, str(image), str(copy), str(row)], capture_output=True, text=True)
    if not ok(done.returncode == 0, f"{name}: is read and written", done.stderr):
        return None, copy, row
    info = json.loads(done.stdout)
    print(f"# {name}: {info['pages']} pages, {info['zero_pages']} zero, {len(info['ranges'])} ranges, "
          f"frame {info['frame_bytes']} bytes")
    ok(info["format"] == form, f"{name}: is {form}", info["format"])
    ok(same(image, copy), f"{name}: is the same byte for byte")
    return info, copy, row


# ---------------------------------------------------------------------- QEMU


def test_folders(work):
    """All images of the corpus; one of them runs on from the copy."""
    for image in sorted(path.parent for path in guests.glob("*/devstate")):
        info, copy, row = takes_apart(image.name, image, work, "qemu")
        if info:
            mib = vm.read_json(image / "meta.json")["mem_mib"]
            # These machines have a hole for devices from 3 to 4 GiB.
            areas = [{"pages": min(mib, 3072) << 8, "address": 0, "space": 0}]
            if mib > 3072:
                areas.append({"pages": mib - 3072 << 8, "address": 4 << 30, "space": 0})
            ok(info["ranges"] == areas, f"{image.name}: the row is the guest's memory", info["ranges"])
            ok(same(row, image / "mem"), f"{image.name}: all of it")
        if image.name == "pyjson-a":
            command = ["tools/guest/restore-check", str(copy), "--kit", str(guests / "kit")]
            done = subprocess.run(command, capture_output=True, text=True)
            ok(done.returncode == 0, "the guest runs on from the copy", done.stderr)
        shutil.rmtree(copy, ignore_errors=True)
        row.unlink(missing_ok=True)


def row_is(info, row, memory, but=range(0)):
    """Whether the row's ranges hold what MEMORY, a file of guest physical memory, holds there.

    The addresses of BUT are left out: the guest sees firmware there, not its RAM.
    """
    with open(row, "rb") as a, open(memory, "rb") as b:
        for area in info["ranges"]:
            data = a.read(area["pages"] * PAGE)
            start = area.get("address", MIB << 20)
            b.seek(start)
            there = b.read(len(data)) if start < MIB << 20 else data
            if start <= but.start and but.stop <= start + len(data):
                there = there[:but.start - start] + data[but.start - start:but.stop - start] + there[but.stop - start:]
            if there != data:
                return False
    return True


def test_dumps(work):
    image = guests / "pyjson-a"
    meta = vm.read_json(image / "meta.json")
    if meta["qemu"] != vm.qemu_version():
        skip("dump-guest-memory", f"the guests were made with QEMU {meta['qemu']}")
        return
    gt = work / "gt"
    shape = vm.shape_of(meta)
    vm.make_disk(gt, shape)
    with vm.Guest(str(guests / "kit"), str(image / "mem"), str(gt), meta["accel"], meta["cmdline"],
                  shape, share="off", incoming=True) as guest:
        guest.load(str(image / "devstate"))
        time.sleep(1)
        guest.qmp("stop")
        guest.qmp("pmemsave", val=0, size=MIB << 20, filename=str(work / "physical"))
        for paging in (False, True):
            guest.qmp("dump-guest-memory", paging=paging, protocol=f"file:{work / f'dump-{paging}'}")
        guest.quit()
    for paging in (False, True):
        name = f"dump-{paging}"
        info, copy, row = takes_apart(name, work / name, work, "elf-core")
        if not info:
            continue
        ok(not info["process"], f"{name}: is of a machine")
        ok(row_is(info, row, work / "physical"), f"{name}: pages are where the guest has them")
        low = sum(area["pages"] for area in info["ranges"] if area.get("address", 1 << 40) < MIB << 20)
        ok(paging or low == (MIB << 20) // PAGE, f"{name}: all of its memory is there", low)
        # With paging there are some ten thousands of program headers.
        ok(info["literal_bytes"] < 8 << 20, f"{name}: the frame has no memory", info["literal_bytes"])
        for path in (copy, row, work / name):
            path.unlink()
    (work / "physical").unlink()


def newer_qemu():
    """A QEMU that knows mapped-ram, or None and why there is none."""
    path = os.environ.get("DOR_QEMU") or shutil.which(vm.QEMU)
    if not path:
        return None, "QEMU is not installed"
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"version (\d+)\.(\S+)", text)
    if not version or int(version[1]) < 9:
        return None, (f"QEMU {version[0][8:] if version else '?'} has no mapped-ram; 9 or later does "
                      "(bookworm-backports; DOR_QEMU names another one)")
    return path, ""


def use_mapped_ram(guest):
    guest.qmp("migrate-set-capabilities", capabilities=[
        {"capability": "x-ignore-shared", "state": False}, {"capability": "mapped-ram", "state": True}])


def test_mapped_ram(work):
    path, why = newer_qemu()
    if not path:
        skip("mapped-ram", why)
        return
    vm.QEMU = path
    kit, memory, gt = str(guests / "kit"), work / "mem", work / "gt"
    cmdline = vm.kernel_cmdline("tcg")
    vm.make_disk(gt, {**vm.SHAPE, "mib": MIB}, "pyjson")
    memory.write_bytes(b"")
    os.truncate(memory, MIB << 20)
    with vm.Guest(kit, str(memory), str(gt), "tcg", cmdline, {**vm.SHAPE, "mib": MIB}) as guest:
        answer = guest.wait_line("READY", boot=True)
        use_mapped_ram(guest)
        # The guest runs meanwhile, so some pages are written and are zero again at the end.
        guest.send("ask\n")
        guest.qmp("migrate", uri=f"file:{work / 'mapped'}")
        guest._await_migration()
        guest.qmp("pmemsave", val=0, size=MIB << 20, filename=str(work / "physical"))
        guest.quit()
    info, copy, row = takes_apart("mapped", work / "mapped", work, "mapped-ram")
    if not info:
        return
    ok(row_is(info, row, work / "physical", range(0xE0000, 0x100000)), "mapped: the row is the guest's memory, zeros too")
    with vm.Guest(kit, str(memory), str(gt), "tcg", cmdline, {**vm.SHAPE, "mib": MIB}, share="off",
                  incoming=True) as guest:
        use_mapped_ram(guest)
        guest.qmp("migrate-incoming", uri=f"file:{copy}")
        guest._await_migration()
        guest.qmp("cont")
        guest.send("ask\n")
        ok(guest.wait_line("ANSWER", limit=120) == answer, "mapped: the guest runs on from the copy")
        guest.quit()


# ---------------------------------------------------------------------- processes


SLEEPER = """
import ctypes, mmap, os, sys
area = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b"dormice sleep ".ljust(4096, b"z") * 64)
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
if sys.argv[1] == "fork" and os.fork() == 0:
    area[:7] = b"dormous"
sys.stdin.read()
"""


class Sleeper:
    """A process with 64 pages that begin with known bytes; its own session, so CRIU takes it."""

    def __init__(self, work, kind, core=False):
        def limit():
            # The hard limit stays as it is: not every user may raise it.
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (hard if core else 0, hard))

        self.process = subprocess.Popen(
            [sys.executable, "-c", SLEEPER, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=work, start_new_session=True, preexec_fn=limit)
        self.address = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()


def has_pages(info, row, address, space, begins):
    """Whether the row has the sleeper's pages at ADDRESS of the process SPACE."""
    at = 0
    for area in info["ranges"]:
        start, size = area.get("address", 1 << 60), area["pages"] * PAGE
        if area["space"] == space and start <= address and address + 64 * PAGE <= start + size:
            with open(row, "rb") as file:
                file.seek(at + address - start)
                return file.read(64 * PAGE).startswith(begins)
        at += size
    return False


def check_process(name, image, work, form, sleeper):
    info, _, row = takes_apart(name, image, work, form)
    if info:
        ok(info["process"], f"{name}: is of a process")
        ok(has_pages(info, row, sleeper.address, sleeper.process.pid, b"dormice sleep"),
           f"{name}: its memory is where it has it")
    return info, row


def test_gcore(work):
    if not shutil.which("gcore"):
        skip("gcore", "gdb is not installed")
        return
    with Sleeper(work, "one") as sleeper:
        pid = sleeper.process.pid
        done = subprocess.run(["gcore", "-o", str(work / "gcore"), str(pid)], capture_output=True, text=True)
        if not (work / f"gcore.{pid}").exists():
            skip("gcore", (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1])
            return
        check_process("gcore", work / f"gcore.{pid}", work, "elf-core", sleeper)


def test_kernel_core(work):
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern[:1] in "|/" or not pattern:
        skip("the kernel's core", f"cores go to {pattern}")
        return
    with Sleeper(work, "one", core=True) as sleeper:
        os.kill(sleeper.process.pid, signal.SIGABRT)
        sleeper.process.wait()
        cores = [path for path in work.iterdir() if path.name.startswith("core")]
        if not cores:
            skip("the kernel's core", "it wrote none; the limit for cores may be 0")
            return
        check_process("kernel-core", cores[0], work, "elf-core", sleeper)


def test_criu(work):
    criu = os.environ.get("DOR_CRIU") or shutil.which("criu")
    if not criu:
        skip("criu", "criu is not installed")
        return
    dump = work / "criu-dump"
    dump.mkdir()
    with Sleeper(work, "fork") as sleeper:
        command = [criu, "dump", "-t", str(sleeper.process.pid), "-D", str(dump), "--leave-running"]
        for fd in (0, 1):           # its pipes lead out of what is dumped
            command += ["--external", os.readlink(f"/proc/{sleeper.process.pid}/fd/{fd}")]
        done = subprocess.run(command, capture_output=True, text=True)
        if not (dump / "pstree.img").exists():
            words = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
            skip("criu", f"it cannot dump here: {words[-1]}")
            return
        info, row = check_process("criu", dump, work, "criu", sleeper)
        children = {area["space"] for area in info["ranges"]} - {sleeper.process.pid} if info else set()
        ok(any(has_pages(info, row, sleeper.address, child, b"dormous sleep") for child in children),
           "criu: and that of its child where the child has it")


def main():
    vm.exit_on_signals()
    if not os.access(reframe, os.X_OK):
        print(f"1..0 # SKIP {reframe} is not built")
        return 77
    with tempfile.TemporaryDirectory(prefix="dormouse-images.") as folder:
        work = pathlib.Path(folder)
        if (guests / "pyjson-a/meta.json").is_file():
            test_folders(work)
            test_dumps(work)
            test_mapped_ram(work)
        else:
            skip("images of guests", f"no guests in {guests}; tools/guest/corpus makes them")
        test_gcore(work)
        test_kernel_core(work)
        test_criu(work)
    print(f"1..{count}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
