#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_wake_mount.py - real guests wake from a mount, and answer as they did before they slept.

One after the other, ten at once, with the page cache dropped; when the mount's program is killed under them they
end with an error and never see zeros. Guests are those in the build folder's guests/. Prints TAP.
"""
import signal
import sys
import threading

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli", "tools/guest"]
import vm
from cli import *

CLONES = 10
WAIT_S = 60
IMAGES = ("pyjson-a", "fork-pyjson-2", "caes-a")
guests = pathlib.Path(program).parent / "guests"
kit = str(guests / "kit")
store = str(work / "store")
place = work / "mount"
started = []


@atexit.register
def end_all():
    for process in started:
        process.kill()
    subprocess.run(["fusermount3", "-u", "-q", "-z", str(place)], stderr=subprocess.DEVNULL)


def meta_of(name):
    return vm.read_json(guests / name / "meta.json")


def begin(command, **how):
    process = subprocess.Popen(command, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
    started.append(process)
    return process


def mount(*options):
    """A mount that is ready."""
    process = begin([program, "--store", store, "mount", str(place), *options], stdin=subprocess.DEVNULL)
    process.stdout.readline()
    return process


def end(process, number=signal.SIGTERM):
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)


def drop_caches():
    """Whether it could be done."""
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


class Clone:
    """A guest that `dormouse run` woke."""

    def __init__(self, snapshot, image, number, *options):
        disk = work / f"disk-{number}"
        vm.make_disk(disk, vm.shape_of(meta_of(image)))
        self.answer = meta_of(image)["answer"]
        self.asleep = True
        self.process = begin([program, "--store", store, "run", snapshot, "--set", f"kit={kit}",
                              "--set", f"gt={disk}", *options], stdin=subprocess.PIPE)

    def wait(self):
        """Until it goes on."""
        if self.asleep:
            self.asleep = not self.process.stdout.readline().startswith("woke ")

    def ask(self):
        """What the function answers; None when the guest ended instead."""
        self.wait()
        try:
            self.process.stdin.write("ask\n")
            self.process.stdin.flush()
        except OSError:
            return None
        watch = threading.Timer(WAIT_S, self.process.kill)
        watch.start()
        try:
            for line in self.process.stdout:
                if line.startswith("ANSWER "):
                    return line[7:].strip()
        finally:
            watch.cancel()
        return None

    def end(self):
        """QEMU ends when run is told to."""
        end(self.process)
        return self.process.returncode


def wakes(title, snapshot, image, *options):
    clone = Clone(snapshot, image, 0, *options)
    answer = clone.ask()
    clone.end()
    ok(answer == clone.answer, title, answer, clone.answer)


def put_all():
    for name in IMAGES:
        description = work / "qemu.json"
        description.write_text(json.dumps(vm.run_description(meta_of(name))))
        prepare("put", name, str(guests / name / "mem"), "--sidecar", str(guests / name / "devstate"),
                "--sidecar", str(description), store=store, timeout=300)
    folder = work / "folder"
    folder.mkdir()
    for name in ("mem", "devstate"):
        vm.copy_sparse(guests / "pyjson-a" / name, folder / name)
    (folder / "qemu.json").write_text(json.dumps(vm.run_description(meta_of("pyjson-a"))))
    prepare("put", "folder", str(folder), store=store, timeout=300)


def test_one():
    for name in IMAGES:
        wakes(f"{name}: wakes and answers, with a mount of its own", name, name)
    wakes("an image put as a folder", "folder", "pyjson-a")
    ok(not any("dormouse" in line and str(work) in line for line in open("/proc/mounts")), "and leaves no mount")


def filters_of(process_id):
    """How many filters of system calls a process has."""
    for line in open(f"/proc/{process_id}/status"):
        if line.startswith("Seccomp_filters:"):
            return int(line.split()[1])
    return None


def test_advice():
    """What a guest needed is learnt alone, and QEMU's advice to the kernel is kept back unless it is wanted."""
    if filters_of("self") is None:
        skip("the kernel does not tell of filters", "QEMU's advice")
        return
    for options, more in (((), 1), (("--huge-pages",), 0)):
        clone = Clone(IMAGES[0], IMAGES[0], 0, *options)
        clone.wait()
        process = clone.process.pid
        qemu = int(pathlib.Path(f"/proc/{process}/task/{process}/children").read_text())
        is_(filters_of(qemu), filters_of("self") + more, f"filters of QEMU {' '.join(options)}")
        clone.end()


def test_learnt():
    """A mount of run's own gives what was needed, and the next wake learns nothing that was not."""
    prepare("working-set", "forget", IMAGES[2], store=store)
    sizes = []
    for number in range(2):
        wakes(f"{IMAGES[2]}: wake {number + 1}", IMAGES[2], IMAGES[2])
        sizes.append(json.loads(run("working-set", "show", IMAGES[2], "--json", store=store).stdout)["pages"])
    whole = (guests / IMAGES[2] / "mem").stat().st_size // 4096
    ok(0 < sizes[0] < whole // 8, "the working set is a small part of the memory", *sizes, whole)
    ok(sizes[1] < sizes[0] + sizes[0] // 4, "and hardly grows with the next wake", *sizes)


def test_mounted():
    process = mount()
    for name in IMAGES:
        same = subprocess.run(["cmp", str(place / name / "memory"), str(guests / name / "mem")], capture_output=True)
        ok(same.returncode == 0, f"{name}: the mounted memory is the image", same.stdout, same.stderr)
        wakes(f"{name}: wakes from the mount", name, name, "--mount", str(place))
    if drop_caches():
        wakes("with the page cache dropped", IMAGES[0], IMAGES[0], "--mount", str(place))
    else:
        skip("only root may drop the page cache", "with the page cache dropped")
    end(process)
    is_(left_in(place), [], "the mount is gone")


def test_clones():
    for options in ((), ("--trust-writers",)):
        process = mount(*options)
        clones = [Clone(IMAGES[0], IMAGES[0], number, "--mount", str(place)) for number in range(CLONES)]
        answers = [None] * CLONES

        def ask(number):
            answers[number] = clones[number].ask()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLONES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        is_(answers, [clones[0].answer] * CLONES, f"{CLONES} at once {' '.join(options)}")
        for clone in clones:
            clone.end()
        end(process)


def test_killed():
    """The memory that a guest still lacks is an error once nobody serves it."""
    process = mount("--trust-writers")
    asked, woken = (Clone(IMAGES[2], IMAGES[2], number, "--mount", str(place)) for number in range(2))
    is_(asked.ask(), asked.answer, "a guest answers")
    woken.wait()
    end(process, signal.SIGKILL)
    if not drop_caches():
        skip("only root may drop the page cache", "guests whose mount is killed")
        woken.end()
    else:
        is_(woken.ask(), None, "the mount is killed: a guest that lacks memory has no answer")
        said = woken.process.communicate(timeout=WAIT_S)[1]
        ok(woken.process.returncode == IO and "SIG" in said, "it ends, and run says how", woken.process.returncode, said)
        ok(asked.ask() in (None, asked.answer), "and one that had answered before has no wrong one")
    asked.end()
    subprocess.run(["fusermount3", "-u", "-z", str(place)], check=True)


def test_ended_while_reading():
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = mount("--cache", "1M")
        target = work / "copy"
        reader = begin(["dd", f"if={place / IMAGES[0] / 'memory'}", f"of={target}", "bs=64k"], stdin=subprocess.DEVNULL)
        while not target.exists() or target.stat().st_size < 1 << 20:
            time.sleep(0.001)
        end(process, number)
        reader.wait()
        size = target.stat().st_size
        with open(guests / IMAGES[0] / "mem", "rb") as right:
            same = right.read(size) == target.read_bytes()
        whole = size == (guests / IMAGES[0] / "mem").stat().st_size
        ok(same and whole == (reader.returncode == 0), f"{number.name} while it is read: an error, and nothing wrong before",
           f"{size} bytes, exit code {reader.returncode}")
        target.unlink()
        if number == signal.SIGKILL:
            subprocess.run(["fusermount3", "-u", "-z", str(place)], check=True)


def main():
    missing = [name for name in IMAGES if not (guests / name / "meta.json").is_file()]
    reason = None
    if missing:
        reason = f"no guests in {guests}; tools/guest/corpus makes them"
    elif not shutil.which(vm.QEMU):
        reason = "QEMU is not installed"
    elif not os.path.exists("/dev/fuse") or not shutil.which("fusermount3"):
        reason = "no /dev/fuse or no fusermount3 here"
    elif meta_of(IMAGES[0])["qemu"] != vm.qemu_version():
        reason = f"the guests were made with QEMU {meta_of(IMAGES[0])['qemu']}"
    if reason:
        print(f"1..0 # SKIP {reason}")
        sys.exit(77)
    place.mkdir()
    prepare("init", store=store)
    put_all()
    test_one()
    test_advice()
    test_learnt()
    test_mounted()
    test_clones()
    test_killed()
    test_ended_while_reading()
    done()


if __name__ == "__main__":
    main()
