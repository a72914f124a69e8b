#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_wake_mount.py - a mount shows what is in the store, byte for byte, and an error where it cannot.

Folders, attributes, reads at all offsets, images with frames, writes, many readers at once, snapshots that
come, go and are replaced, names, damage, and every way in which a mount can end.
"""
import errno
import mmap
import signal
import stat
import struct
import threading

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/cli")
from cli import *

READERS = 12
WAIT_S = 50
ODD_NAMES = ["a b", "a,b", "-dash", "näme", "semi;colon\"quote'", "x" * 200, "new.part", "memory"]
rng = make_seed()
store = str(work / "store")
place = work / "mount"
running = []
prepare("init", store=store)
images = {"first": make_image(rng, 700)}
images["second"] = make_image(rng, 700, images["first"])


class Mount:
    """A mount in the foreground, ready when it is there."""

    def __init__(self, *options, folder=store, at=place):
        at.mkdir(exist_ok=True)
        self.at = at
        command = [program, "--store", folder, "mount", str(at), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=clean_env())
        running.append(self)
        self.line = self.process.stdout.readline().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGTERM)

    def end(self, number=None):
        """Send the signal and wait; the exit code and what it said."""
        if number and self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=WAIT_S)[1].decode()
        if self in running:
            running.remove(self)
        return self.process.returncode, said


def unmount(at):
    subprocess.run(["umount" if os.geteuid() == 0 else "fusermount3", *([] if os.geteuid() == 0 else ["-u"]), at],
                   stderr=subprocess.DEVNULL)


@atexit.register
def end_all():
    for mount in list(running):
        mount.process.kill()
        mount.end()
    for at in work.glob("mount*"):
        subprocess.run(["fusermount3", "-u", "-q", "-z", str(at)], stderr=subprocess.DEVNULL)


def error_of(action, *args):
    """The errno with which ACTION fails, 0 when it does not."""
    try:
        action(*args)
    except OSError as error:
        return error.errno
    return 0


def crc64(data):
    """Jones, as Firecracker ends its states."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def wait_gone(path):
    deadline = time.monotonic() + WAIT_S
    while os.path.ismount(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not os.path.ismount(path)


# ---------------------------------------------------------------------- what is there


def put_all():
    for name, image in images.items():
        prepare("put", name, write(f"{name}.mem", image), "--sidecar", write("state", f"of {name}".encode()),
                store=store)
    folder = work / "fire"
    folder.mkdir()
    (folder / "mem").write_bytes(images["first"])
    state = struct.pack("<Q", 0x0710198486640000) + rng.randbytes(5000) + bytes(9000)
    (folder / "vmstate").write_bytes(state + struct.pack("<Q", crc64(state)))
    prepare("put", "fire", str(folder), store=store)
    images["fire"] = images["first"]
    note = b"\x05\0\0\0\x04\0\0\0\x01\0\0\0CORE\0\0\0\0abcd"
    head = bytearray(64)
    head[:16] = b"\x7fELF\2\1\1" + bytes(9)
    struct.pack_into("<HHIQQQIHHHHHH", head, 16, 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at, pages = 64 + 2 * 56, images["second"]
    headers = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(note), 0, 4)
    headers += struct.pack("<IIQQQQQQ", 1, 6, at + len(note), 0, 1 << 20, len(pages), len(pages), 0)
    core = bytes(head) + headers + note + pages
    prepare("put", "core", write("core", core), store=store)
    images["core"] = pages
    return folder, core


def test_files(mount, folder, core):
    at = mount.at
    is_(mount.line, f"mounted {store} on {at}\n", "it says when it is ready")
    is_(left_in(at), sorted(images), "a folder for each snapshot")
    is_(left_in(at / "first"), ["memory", "sidecars"], "a raw image is its memory")
    is_(left_in(at / "fire"), ["image", "memory", "sidecars"], "others have an image too")
    for name, image in images.items():
        holds(at / name / "memory", image, f"{name}: memory")
    holds(at / "second/sidecars/state", b"of second", "a sidecar")
    is_(left_in(at / "fire/image"), ["mem", "vmstate"], "an image that is a folder")
    for name in ("mem", "vmstate"):
        holds(at / "fire/image" / name, (folder / name).read_bytes(), f"its {name}")
    holds(at / "core/image", core, "an image that is a file, its pages in the midst")
    is_((at / "fire/image/mem").stat().st_ino, (at / "fire/memory").stat().st_ino,
        "a file that is the memory is the same file")
    is_(error_of(os.stat, at / "third"), errno.ENOENT, "a name that is not there")
    is_(error_of(os.stat, at / "first/image"), errno.ENOENT, "an image that is not there")
    is_(error_of(os.stat, at / "first/sidecars/x"), errno.ENOENT, "a sidecar that is not there")


def test_attributes(at):
    info = (at / "first/memory").stat()
    is_(info.st_size, len(images["first"]), "the size of memory")
    ok(stat.S_ISREG(info.st_mode) and info.st_mode & 0o077 == 0, "only its owner may look", oct(info.st_mode))
    shown = json.loads(run("--json", "show", "first", store=store).stdout)
    is_(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(info.st_mtime)), shown["created"][:19], "its time is the snapshot's")
    zeros = sum(images["first"][i:i + PAGE] == bytes(PAGE) for i in range(0, len(images["first"]), PAGE))
    is_(info.st_blocks * 512, info.st_size - zeros * PAGE, "zero pages take no blocks")
    with open(at / "first/memory", "rb") as file:
        first = next(i for i in range(700) if images["first"][i * PAGE:][:PAGE] == bytes(PAGE))
        is_(os.lseek(file.fileno(), 0, os.SEEK_HOLE), first * PAGE, "and are holes")
        is_(error_of(os.lseek, file.fileno(), info.st_size, os.SEEK_DATA), errno.ENXIO, "no data past the end")
    inodes = {path: path.stat().st_ino for path in at.rglob("*")}
    ok(len(set(inodes.values())) == len(inodes) - 1, "inode numbers are all different, but of the one file")
    return inodes


def test_reads(at, core):
    files = [(at / "first/memory", images["first"]), (at / "core/image", core)]
    for path, data in files:
        fd = os.open(path, os.O_RDONLY)
        good = True
        for _ in range(300):
            offset, size = rng.randrange(len(data)), rng.randrange(1, 300000)
            good = good and os.pread(fd, size, offset) == data[offset:offset + size]
        ok(good, f"{path.parent.name}/{path.name}: reads at odd offsets")
        is_(os.pread(fd, 100, len(data) - 7), data[-7:], "a read over the end")
        is_(os.pread(fd, 100, len(data)), b"", "a read at the end")
        is_(os.pread(fd, 100, len(data) + 12345), b"", "a read past the end")
        os.close(fd)
    # Past the page cache the kernel hands odd offsets through.
    fd = os.open(at / "first/memory", os.O_RDWR)
    data, good = images["first"], True
    for _ in range(200):
        offset, size = rng.randrange(len(data)), rng.randrange(1, 700000)
        good = good and os.pread(fd, size, offset) == data[offset:offset + size]
    ok(good, "the same past the page cache")
    os.close(fd)


def test_writes(at):
    path = at / "first/memory"
    for name, action in {
        "a new file": lambda: open(at / "new", "w"),
        "a new file in a snapshot": lambda: open(at / "first/new", "w"),
        "a new folder": lambda: os.mkdir(at / "new"),
        "a link": lambda: os.symlink("x", at / "new"),
        "removing": lambda: os.unlink(path),
        "removing a folder": lambda: os.rmdir(at / "first/sidecars"),
        "renaming": lambda: os.rename(at / "first", at / "other"),
        "cutting": lambda: os.truncate(path, 0),
        "opening a sidecar for writing": lambda: os.open(at / "first/sidecars/state", os.O_RDWR),
        "opening to cut": lambda: os.open(path, os.O_RDWR | os.O_TRUNC),
        "a new mode": lambda: os.chmod(path, 0o777),
    }.items():
        found = error_of(action)
        ok(found in (errno.EROFS, errno.EACCES), f"refused: {name}", errno.errorcode.get(found, found))
    fd = os.open(path, os.O_RDWR)
    is_(error_of(os.pwrite, fd, b"x", 0), errno.EROFS, "refused: writing")
    is_(error_of(mmap.mmap, fd, PAGE), errno.ENODEV, "refused: a shared mapping that could be written to")
    private = mmap.mmap(fd, len(images["first"]), flags=mmap.MAP_PRIVATE)
    private[5] = 77
    is_(private[:5] + private[6:], images["first"][:5] + images["first"][6:], "a private mapping may be")
    private.close()
    os.close(fd)
    holds(path, images["first"], "and nobody sees it")


def test_readers(at):
    names = list(images)
    wrong = []

    def read(seed):
        own = random.Random(seed)
        for _ in range(60):
            name = own.choice(names)
            with open(at / name / "memory", "rb") as file:
                area = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
                start = own.randrange(len(images[name]))
                if area[start:start + 200000] != images[name][start:start + 200000]:
                    wrong.append(name)
                area.close()

    threads = [threading.Thread(target=read, args=(rng.random(),)) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    is_(wrong, [], f"{READERS} readers at once")


# ---------------------------------------------------------------------- the store changes


def test_changes(at):
    late = make_image(rng, 300, images["first"])
    prepare("put", "late", write("late.mem", late), store=store)
    ok("late" in left_in(at), "a snapshot that is put later is listed")
    holds(at / "late/memory", late, "and read")
    with open(at / "late/memory", "rb") as file:
        before = os.fstat(file.fileno()).st_ino
        prepare("rm", "late", store=store)
        prepare("gc", store=store)
        is_(error_of(os.stat, at / "late"), errno.ENOENT, "one that is removed is gone")
        ok("late" not in left_in(at), "from the list too")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        is_(file.read(), late, "but who has it open reads on, after gc")
        again = make_image(rng, 200, late)
        prepare("put", "late", write("late.mem", again), store=store)
        holds(at / "late/memory", again, "the name is given anew: the new one is read")
        ok((at / "late/memory").stat().st_ino != before, "under another inode number")
        file.seek(0)
        is_(file.read(), late, "and who has the old one open still reads that")
    other = make_image(rng, 200, late)
    prepare("put", "late", write("late.mem", other), "--replace", store=store)
    holds(at / "late/memory", other, "a snapshot that is replaced")
    prepare("rm", "late", store=store)


def test_names():
    odd = new_store("odd")
    data = {name: make_image(rng, 20) for name in ODD_NAMES}
    for name, image in data.items():
        prepare("put", "--", name, write("odd.mem", image), store=odd)
    with Mount(folder=odd, at=work / "mount-odd") as mount:
        is_(left_in(mount.at), sorted(ODD_NAMES), "odd names are listed")
        ok(all((mount.at / name / "memory").read_bytes() == image for name, image in data.items()), "and read")


def test_damage():
    """Every page is right or an error; what is stored elsewhere is unharmed."""
    harmed = new_store("harmed")
    prepare("put", "first", write("first.mem", images["first"]), store=harmed)
    prepare("put", "apart", write("second.mem", images["second"]), "--domain", "other", store=harmed)
    segments = sorted((work / "harmed").glob("seg.*"), key=lambda path: path.stat().st_size)
    # One of the largest is of the first snapshot: that which its memory stops being readable for.
    for path in segments[-2:]:
        original = path.read_bytes()
        data = bytearray(original)
        for at in range(len(data) // 4, len(data) // 2, 997):
            data[at] ^= 0x55
        path.write_bytes(data)
        with Mount(folder=harmed, at=work / "mount-harmed") as mount:
            outcomes = {name: judge(mount.at / name / "memory", images["second" if name == "apart" else name])
                        for name in ("first", "apart")}
        bad, good = sorted(outcomes, key=lambda name: -outcomes[name][1])
        ok(outcomes[bad][1] > 0 and outcomes[bad][2] == 0, f"{path.name}: errors, and no wrong byte", outcomes)
        is_(outcomes[good][1:], (0, 0), "the other snapshot is unharmed")
        path.write_bytes(original)


def judge(path, image):
    """Pages of the file that are right, errors, and wrong."""
    right = failed = wrong = 0
    fd = os.open(path, os.O_RDWR)           # past the page cache, so that no error spreads to a neighbour
    for at in range(0, len(image), PAGE):
        try:
            same = os.pread(fd, PAGE, at) == image[at:at + PAGE]
            right, wrong = right + same, wrong + (not same)
        except OSError as error:
            failed += error.errno == errno.EIO
            wrong += error.errno != errno.EIO
    os.close(fd)
    return right, failed, wrong


# ---------------------------------------------------------------------- the end


READ_ON = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
area = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(area[0], flush=True)
sys.stdin.readline()
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
try:
    print("read", len(os.pread(fd, 4096, 2000000)), flush=True)
except OSError as error:
    print("error", error.errno, flush=True)
print("mapped", area[2400000], flush=True)
"""


def test_end(number, detached=False):
    """Who has a file open when a mount ends gets errors."""
    name = "unmounted" if detached else signal.Signals(number).name
    mount = Mount()
    reader = subprocess.Popen([sys.executable, "-c", READ_ON, str(mount.at / "second/memory")], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    is_(reader.stdout.readline(), f"{images['second'][0]}\n", f"{name}: a reader before")
    code, said = mount.end(number)
    is_(code, -number if number == signal.SIGKILL else 0, f"{name}: the exit code")
    is_(said, "", f"{name}: nothing on standard error")
    rest = reader.communicate("\n")[0].split()
    ok(rest[0] == "error" and int(rest[1]) in (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED),
       f"{name}: its reads are errors", rest)
    ok(rest[2:] == [] and reader.returncode == -signal.SIGBUS, f"{name}: and its mapping SIGBUS", rest, reader.returncode)
    if number == signal.SIGKILL:
        is_(error_of(os.listdir, place), errno.ENOTCONN, "the folder is an error")
        refuses(BUSY, "fusermount3 -u", "mounting there again says how to clear it", "mount", str(place), store=store)
        subprocess.run(["fusermount3", "-u", "-z", str(place)], check=True)
    is_(left_in(place), [], f"{name}: the folder is as before")


def test_end_in_use():
    """Files are opened, read and closed while the mount ends, again and again."""
    codes = []
    for number in range(8):
        mount = Mount()
        over = threading.Event()

        def use(name):
            while not over.is_set():
                try:
                    fd = os.open(mount.at / name / "memory", os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.pread(fd, 3 * PAGE, rng.randrange(600) * PAGE)
                    os.close(fd)
                except OSError:
                    pass

        users = [threading.Thread(target=use, args=(name,)) for name in ("first", "second", "fire", "first")]
        for user in users:
            user.start()
        time.sleep(0.02 * number)
        codes.append(mount.end(signal.SIGTERM))
        over.set()
        for user in users:
            user.join()
    is_(codes, [(0, "")] * len(codes), "ended in use, it ends well")
    is_(left_in(place), [], "and the folder is as before")


def test_unmount():
    mount = Mount()
    file = open(mount.at / "first/memory", "rb")
    unmount(mount.at)
    ok(mount.process.poll() is None and file.read() == images["first"], "in use it cannot be unmounted")
    file.close()
    deadline = time.monotonic() + WAIT_S
    while os.path.ismount(mount.at) and time.monotonic() < deadline:
        unmount(mount.at)
        time.sleep(0.02)
    is_(mount.end(), (0, ""), "unmounted by somebody, it ends well")


def test_background():
    says("in the background it returns when it is ready", "mount", str(place), "--background", store=store)
    holds(place / "first/memory", images["first"], "and serves")
    unmount(place)
    ok(wait_gone(place), "until it is unmounted")
    refuses(NOT_FOUND, "no store", "what goes wrong is told before", "mount", str(place), "--background",
            store=str(work))


def test_refusals():
    refuses(NOT_FOUND, "No such file", "no folder to mount on", "mount", str(work / "none"), store=store)
    refuses(USAGE, "is no folder", "a file to mount on", "mount", write("file", b"x"), store=store)
    refuses(USAGE, "hide the store", "over the store", "mount", store, store=store)
    refuses(USAGE, "hide the store", "over the folder of the store", "mount", str(work), store=store)


def main():
    if not os.path.exists("/dev/fuse") or not shutil.which("fusermount3"):
        print("1..0 # SKIP no /dev/fuse or no fusermount3 here")
        sys.exit(77)
    folder, core = put_all()
    test_refusals()
    place.mkdir()
    probe = Mount()
    if not probe.line:
        code, said = probe.end()
        print(f"1..0 # SKIP mounting is not allowed here: {said.strip()}")
        sys.exit(77)
    test_files(probe, folder, core)
    inodes = test_attributes(probe.at)
    test_reads(probe.at, core)
    test_writes(probe.at)
    test_readers(probe.at)
    test_changes(probe.at)
    probe.end(signal.SIGTERM)
    with Mount() as mount:
        is_({path: path.stat().st_ino for path in mount.at.rglob("*")}, inodes, "inode numbers stay over mounts")
        times = [(mount.at / "first/memory").stat().st_mtime_ns for _ in range(2)]
        is_(times[0], times[1], "and so do times")
    test_names()
    test_damage()
    test_end(signal.SIGTERM)
    test_end(signal.SIGKILL)
    test_end_in_use()
    test_unmount()
    test_background()
    done()


if __name__ == "__main__":
    main()
