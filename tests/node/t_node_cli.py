#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_cli.py - the command line through a daemon: the same output, JSON and exit codes as without one."""
import difflib
import re
import sys

sys.dont_write_bytecode = True
from node import *

rng = make_seed()
# A warm index may suggest another of two similar pages than one just built, and few pages decide whether an image
# counts as mostly new: both would make sizes differ.
alone, served = (new_store(name, "--option", "base_fast_level=0", "--option", "similarity=no") for name in ("alone", "served"))
image = make_image(rng, 256)
second = make_image(rng, 256, image)
root = b"".join(rng.randbytes(PAGE) for _ in range(64))
a, b, disk = write("a.mem", image), write("b.mem", second), write("disk.img", root)
sidecar = write("vmstate", b"device state")
daemon = Daemon(served)
os.chdir(work)


def blur(text):
    """Without what differs from run to run: times, and sizes of recipes, which hold the time of the put."""
    text = re.sub(rb"[0-9.]+ (?:ms|s|B|KiB|MiB|%)( |,|\n|$)", rb"N\1", text)
    text = re.sub(rb'"(elapsed_ns|added|modified|created|woken)": ("[^"]*"|\d+)', rb'"\1": X', text)
    text = re.sub(rb'"((?:added|before|after|freed|recipe|exclusive|shared)_bytes|bytes)": \d+', rb'"\1": N', text)
    text = re.sub(rb" +", b" ", text)
    return text.replace(served.encode(), b"STORE").replace(alone.encode(), b"STORE")


def same(name, *args, code=0):
    """Run it on both stores: exit code and both streams must be the same."""
    left, right = (run(*args, store=store) for store in (alone, served))
    got, want = ((r.returncode, blur(r.stdout), blur(r.stderr)) for r in (right, left))
    lines = [[f"exit code {code}", *out.decode().splitlines(), *err.decode().splitlines()] for code, out, err in (want, got)]
    ok(got == want and want[0] == code, name, *difflib.unified_diff(*lines, "alone", "daemon", lineterm="", n=0))


def test_same():
    same("put", "put", "a", a, "--sidecar", sidecar)
    same("put with a parent, as JSON", "--json", "put", "b", b, "--parent", "a", "--domain", "default")
    same("put of a relative path", "put", "relative", "a.mem", "--quiet")
    same("put --replace", "--json", "put", "a", a, "--replace", "--sidecar", sidecar)
    same("put --option", "--json", "put", "plain", b, "--option", "rx_map_codec=lz4", "--option", "codec=lz4")
    same("put of a name that is taken", "put", "a", a, code=EXISTS)
    same("the same as JSON", "--json", "put", "a", a, code=EXISTS)
    same("put of no image", "put", "c", str(work / "nowhere"), code=NOT_FOUND)
    same("put of half a page", "put", "c", write("half", b"x"), code=USAGE)
    same("put with an unknown parent", "put", "c", a, "--parent", "ghost", code=NOT_FOUND)
    same("put with a bad name", "put", "a/b", a, code=USAGE)
    same("put with a bad option", "put", "c", a, "--option", "codec=none such", code=USAGE)
    same("put --drop-free, with a warning", "put", "free", a, "--drop-free", "--quiet")
    same("put --diff without parent", "put", "c", a, "--diff", code=USAGE)
    same("root add", "--json", "root", "add", "disk.img")
    same("root add again", "root", "add", disk, "--name", "disk.img")
    same("put of references", "--json", "put", "r", disk)
    same("root rm while needed", "root", "rm", "disk.img", code=BUSY)
    same("root rm by path", "--json", "root", "rm", "./disk.img", "--absorb")
    same("rm", "rm", "b")
    same("rm as JSON", "--json", "rm", "relative")
    same("rm of nothing", "rm", "b", code=NOT_FOUND)
    same("gc", "gc")
    same("gc --squeeze", "--json", "gc", "--squeeze", "--older-than", "0")
    same("gc --older-than alone", "gc", "--older-than", "1d", code=USAGE)
    same("check --repair", "check", "--repair")
    same("check", "--json", "check")
    same("ls", "--json", "ls")
    same("explain", "--json", "explain", "a")
    out = work / "out"
    works("get", "--quiet", "get", "a", "-o", str(out), store=served)
    holds(out, image, "get gives it back")


def test_copy():
    other = new_store("other")
    second_daemon = Daemon(other)
    copied = says("copy to a served store", "copy", "a", "--to", other, store=served)
    is_((copied["to"], copied["as"]), (other, "a"), "says the same")
    is_(names(other), ["a"], "it is there")
    refuses(EXISTS, "", "a second time it is refused", "copy", "a", "--to", other, store=alone)
    is_(second_daemon.end(), 0, "it ends well")


def test_choice():
    refuses(BUSY, "", "--no-daemon does not ask", "--no-daemon", "rm", "a", store=served)
    refuses(NOT_FOUND, "no daemon listens", "--socket of nobody", "--socket", str(work / "nobody"), "rm", "a", store=served)
    works("--socket alone will do", "--socket", daemon.socket, "put", "by-socket", a, "--quiet")
    works("so will $DORMOUSE_SOCKET", "rm", "by-socket", env={"DORMOUSE_SOCKET": daemon.socket})
    works("a store that is named counts more", "put", "mine", a, "--quiet", store=alone, env={"DORMOUSE_SOCKET": daemon.socket})
    ok("mine" in names(alone) and "mine" not in names(served), "than the environment")
    foreign = new_store("foreign")
    with socket.socket(socket.AF_UNIX) as fake:
        fake.bind(os.path.join(foreign, "daemon.sock"))
        fake.listen()
        for code, words, answer in ((CORRUPT, b"does not answer as a daemon", b"SSH-2.0-nonsense\r\n\r\n"),
                                    (CORRUPT, b"no JSON", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"),
                                    (CORRUPT, b"another shape", b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\n{}"),
                                    (IO, b"ended before it answered", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
                                    (IO, b"ended before it answered", b"")):
            client = subprocess.Popen([program, "--store", foreign, "rm", "a"], stderr=subprocess.PIPE, env=clean_env())
            fake.accept()[0].close()  # only looks whether somebody listens
            peer, _ = fake.accept()
            peer.recv(1 << 16)
            peer.sendall(answer)
            peer.close()
            said = client.communicate(timeout=20)[1]
            ok(client.returncode == code and words in said, f"a daemon that answers {answer!r}", client.returncode, said)


def test_stop():
    """A signal to the command line stops the daemon's work for it."""
    slow = write("slow.mem", make_slow(rng, 48 << 20))
    for number in (signal.SIGINT, signal.SIGKILL):
        client = subprocess.Popen([program, "--store", served, "put", "slow", slow, "--no-inspect", "--option",
                                   "raw_level=19", "--option", "base_fast_level=0"], stderr=subprocess.PIPE, env=clean_env())
        while not any(row["state"] == "running" for row in daemon.says("GET", "/jobs")["jobs"]):
            time.sleep(0.01)
        client.send_signal(number)
        client.communicate(timeout=30)
        is_(client.returncode, -number, f"dies of {number.name}")
        job = daemon.says("GET", "/jobs")["jobs"][0]["id"]
        daemon.wait_for("and its put is cancelled", job, "cancelled")
    ok("slow" not in names(served), "nothing of it is in the store")


def test_end_meanwhile():
    slow = write("slow.mem", make_slow(rng, 48 << 20))
    client = subprocess.Popen([program, "--store", served, "put", "slow", slow, "--no-inspect", "--option", "raw_level=19",
                               "--option", "base_fast_level=0"], stderr=subprocess.PIPE, env=clean_env())
    while not any(row["state"] == "running" for row in daemon.says("GET", "/jobs")["jobs"]):
        time.sleep(0.01)
    daemon.end(signal.SIGKILL)
    said = client.communicate(timeout=30)[1]
    ok(client.returncode == IO and b"daemon" in said, "a daemon that is killed under a client's put", client.returncode, said)
    works("leaves the store to the command line", "put", "after", a, "--quiet", store=served)
    works("which is well", "check", store=served)


test_same()
test_copy()
test_choice()
test_stop()
test_end_meanwhile()
done()
