#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_routes.py - every route of the daemon does what its verb does, and the document tells of all of them."""
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parent.parent / "wake"))
import offload_peer
import threading
from node import *
import working_sets

rng = make_seed()
store, other = new_store(), new_store("other")
image = make_image(rng, 256)
image_path = write("a.mem", image)
sidecar_path = write("a.vmstate", b"device state")
second = make_image(rng, 256, image)
root = b"".join(rng.randbytes(PAGE) for _ in range(64))
root_path = write("disk.img", root)
daemon = Daemon(store, "--resp", str(work / "resp.sock"))
used = set()
ask_before = daemon.ask


def ask(method, target, *args, **how):
    """Notes which operations the test has tried."""
    operation = find_operation(method, target)
    if operation:
        used.add(operation["operationId"])
    return ask_before(method, target, *args, **how)


daemon.ask = ask


def rows(name, pattern):
    text = (ROOT / "src/node" / name).read_text()
    return [match.groups() for match in re.finditer(pattern, text)]


def test_document():
    routes = rows("routes.def", r'ROUTE\((\w+), "([^"]+)", (\w+), \w+, (\w+)\)')
    told = [(method.upper(), path, operation["operationId"])
            for path, operations in DOCUMENT["paths"].items() for method, operation in operations.items()]
    is_(sorted(row[:3] for row in routes), sorted(told), "the document has the routes of the program")
    fields = rows("bodies.def", r'FIELD\((\w+), "(\w+)", (\w+), \w+\)')
    kinds = {"PATH": "string", "NAME": "string", "TEXT": "string", "FLAG": "boolean", "NUMBER": "integer",
             "PATHS": "array", "SETTINGS": "object"}
    for method, path, _, body in routes:
        wanted = {key: kinds[kind] for owner, key, kind in fields if owner == body}
        operation = DOCUMENT["paths"][path][method.lower()]
        query = {p["name"]: p["schema"]["type"] for p in operation.get("parameters", []) if p.get("in") == "query"}
        said = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        got = query if said is None else {key: value["type"] for key, value in resolve(said)["properties"].items()}
        is_(got, wanted, f"{method} {path}: may say what the document tells")
    served = daemon.says("GET", "/openapi.json")
    is_(served, DOCUMENT, "it is served as well")


def same(target, *verb):
    """What the daemon says is what --json says."""
    is_(daemon.says("GET", target), says(" ".join(verb), *verb, store=store), f"{target} is {' '.join(verb)}")


def test_images():
    put = daemon.says("PUT", "/snapshots/a", {"image": image_path, "sidecars": [sidecar_path], "domain": "tenant"})
    is_((put["name"], put["logical_bytes"], put["warning"]), ("a", len(image), None), "put says what it stored")
    put = daemon.says("PUT", "/snapshots/b/image?parent=a&domain=tenant", second)
    ok(0 < put["added_bytes"] < len(second) // 2, "a streamed image finds its parent's pages", put)
    same("/snapshots", "ls")
    same("/snapshots/a", "show", "a")
    same("/snapshots/b/explain", "explain", "b")
    same("/stat", "stat")
    status, headers, data = daemon.ask("GET", "/snapshots/b/image")
    is_((status, headers["Content-Type"]), (200, "application/octet-stream"), "the image can be had")
    ok(data == second, "and is the one that was put")
    ok(daemon.ask("GET", "/snapshots/a/sidecars/a.vmstate")[2] == b"device state", "so can a sidecar")
    got = daemon.says("POST", "/snapshots/a/get", {"output": str(work / "back.mem"), "sidecars": str(work / "back")})
    holds(work / "back.mem", image, "get writes the image")
    holds(work / "back/a.vmstate", b"device state", "and its sidecar")
    is_((got["file"], got["sidecars"]), (str(work / "back.mem"), [str(work / "back/a.vmstate")]), "and says so")
    daemon.says("POST", "/snapshots/b/get", {"output": str(work / "b.diff"), "diff_from": "a"})
    ok(os.stat(work / "b.diff").st_blocks * 512 < len(second), "a diff has holes")
    status, headers, data = daemon.ask("HEAD", "/snapshots/b/image")
    is_((status, headers["Content-Length"], data), (200, str(len(second)), b""), "HEAD tells the size alone")


def test_chain():
    diff = bytearray(len(image))
    path = work / "a.diff"
    with open(path, "wb") as file:
        file.truncate(len(image))
        file.seek(5 * PAGE)
        file.write(root[:PAGE])
    daemon.says("PUT", "/snapshots/a2", {"images": [str(path)], "diff": True, "parent": "a", "domain": "tenant"})
    wanted = image[:5 * PAGE] + root[:PAGE] + image[6 * PAGE:]
    ok(daemon.ask("GET", "/snapshots/a2/image")[2] == wanted, "a diff is put on top of its parent", len(diff))


def test_names():
    name = "läufer %2e+&?#="
    daemon.says("PUT", f"/snapshots/{quote(name)}", {"image": image_path})
    is_(daemon.says("GET", f"/snapshots/{quote(name)}")["name"], name, "names are percent-encoded")
    is_(daemon.says("DELETE", f"/snapshots/{quote(name)}"), {"removed": name}, "also to be removed")


def test_working_sets():
    for method in ("GET", "DELETE"):
        daemon.refuses(404, "not found", "", f"{method} of a working set that is not there", method, "/snapshots/a/working-set")
    if working_sets.xxhash is None:
        skip("libxxhash.so.0 is not installed", "working sets")
        return
    working_sets.teach(store, "a", len(image) // PAGE, 5, [(2, 0x00FF, 200, 0b1011), (3, 0x0001, 0, 0b11)])
    same("/snapshots/a/working-set", "working-set", "show", "a")
    same("/snapshots", "ls")
    is_(daemon.says("DELETE", "/snapshots/a/working-set"), {"name": "a"}, "it can be forgotten")
    is_(daemon.says("GET", "/snapshots/a")["working_set"], None, "and then is")


def test_roots():
    is_(daemon.says("GET", "/roots"), {"roots": []}, "no root images at first")
    added = daemon.says("POST", "/roots", {"path": root_path, "name": "disk"})
    same("/roots", "root", "ls")
    is_(daemon.says("GET", "/roots")["roots"], [added], "a root image is added")
    put = daemon.says("PUT", "/snapshots/r/image", root)
    is_(put["reference_bytes"], len(root), "its blocks become references")
    daemon.refuses(503, "busy", "needed by", "it is not forgotten while needed", "DELETE", "/roots/disk")
    is_(daemon.says("DELETE", "/roots/disk?absorb=true"), {"name": "disk"}, "but can be absorbed")
    daemon.says("POST", "/roots", {"path": root_path})
    is_(daemon.says("DELETE", f"/roots/{quote(os.path.realpath(root_path))}")["name"], os.path.realpath(root_path),
        "a path names a root image too")


def test_copies():
    copied = daemon.says("POST", "/snapshots/a/copy", {"to": other, "as": "a-there"})
    is_((copied["as"], copied["logical_bytes"]), ("a-there", len(image)), "copies to another store")
    copied = daemon.says("POST", "/copy", {"store": other, "name": "a-there", "as": "a-back"})
    is_((copied["as"], copied["to"]), ("a-back", os.path.realpath(store)), "and from there")
    ok(daemon.ask("GET", "/snapshots/a-back/image")[2] == image, "with the same bytes")


def test_upkeep():
    checked = daemon.says("POST", "/check")
    is_((checked["findings"], checked["finding_count"]), ([], 0), "check finds nothing")
    daemon.says("DELETE", "/snapshots/r")
    swept = daemon.says("POST", "/gc")
    ok(swept["complete"] and swept["after_bytes"] < swept["before_bytes"], "gc gives back", swept)
    ok(daemon.says("POST", "/gc", {"squeeze": True, "squeeze_age_ns": 0, "cluster": True})["complete"], "gc squeezes")
    is_(daemon.says("POST", "/repair")["finding_count"], 0, "repair finds nothing either")
    daemon.says("PUT", "/snapshots/after", {"image": image_path, "options": {"codec": "lz4"}})
    ok(daemon.ask("GET", "/snapshots/after/image")[2] == image, "and the store goes on")


def test_rest():
    version = daemon.says("GET", "/version")
    same_words = says("version", "version")
    is_({key: version[key] for key in same_words}, same_words, "the version is the program's")
    is_(version["store"], os.path.realpath(store), "and it says what it serves")
    job = daemon.says("POST", "/gc?async=true", {}, status=202)
    daemon.wait_for("an asynchronous job ends", job["id"], "done")
    told = daemon.says("GET", f"/jobs/{job['id']}")
    ok(told["result"]["complete"] and told["error"] is None, "and has a result", told)
    ok(job["id"] in [row["id"] for row in daemon.says("GET", "/jobs")["jobs"]], "it is in the list of jobs")
    is_(daemon.says("DELETE", f"/jobs/{job['id']}")["state"], "done", "to cancel what has ended changes nothing")
    ok(daemon.says("GET", "/wakes")["server"]["cache_bytes"] == 256 << 20, "the page server's numbers")


def test_wakes():
    path = str(work / "wake.sock")
    snapshot = names(store)[0]
    told = daemon.says("PUT", "/wakes/first", {"snapshot": snapshot, "uffd_socket": path})
    is_((told["state"], told["snapshot"], told["connected"]), ("listening", snapshot, 0), "a wake listens")
    is_(daemon.says("GET", "/wakes/first"), told, "and can be asked for")
    is_(daemon.says("GET", "/wakes")["wakes"], [told], "it is listed")
    is_(daemon.says("DELETE", "/wakes/first")["state"], "ended", "and ends")


def test_machines():
    path = str(work / "monitor.sock")
    machine = offload_peer.Machine([offload_peer.Slot(0, 0, image)])
    put = []
    asking = threading.Thread(target=lambda: put.append(daemon.says("PUT", "/snapshots/m", {"offload": path})))
    asking.start()
    # Who only looks whether somebody listens is no monitor to him.
    while asking.is_alive() and socket.socket(socket.AF_UNIX).connect_ex(path) != 0:
        time.sleep(0.01)
    ok(set(offload_peer.send(path, machine)) == {offload_peer.OK}, "a machine is handed over")
    asking.join()
    is_([row["logical_bytes"] for row in put], [len(image)], "and stored")
    receiver = offload_peer.Receiver(path)
    given = daemon.says("POST", "/snapshots/m/offload", {"socket": path, "resume": True})
    receiver.wait()
    is_((receiver.error, receiver.last), (None, offload_peer.COMPLETE), "and given back")
    is_((given["pages"], given["requests"]), (len(image) // PAGE, 0), "with its numbers")
    ok(receiver.read(0, len(image)) == image, "and with its memory")
    receiver.close()


def test_tenants():
    is_(daemon.says("GET", "/tenants"), {"tenants": []}, "nobody may use tables at first")
    is_(daemon.says("PUT", "/tenants/alice", {"password": "apple", "options": {"limit": "64M", "domain": "d"}}),
        {"name": "alice"}, "a tenant is added")
    daemon.refuses(409, "exists", "alice", "twice is refused", "PUT", "/tenants/alice", {"password": "apple"})
    daemon.refuses(400, "usage error", "password", "so is one without a password", "PUT", "/tenants/bob", {})
    daemon.refuses(400, "usage error", "colour", "and an option that is none", "PUT", "/tenants/bob",
                   {"password": "b", "options": {"colour": "red"}})
    rows = daemon.says("GET", "/tenants")["tenants"]
    for _ in range(100):
        if rows:
            break
        time.sleep(0.05)
        rows = daemon.says("GET", "/tenants")["tenants"]
    is_([(row["name"], row["limit_bytes"], row["domain"], row["worker"]) for row in rows], [("alice", 64 << 20, "d", 0)],
        "and seen, before it has a worker")
    is_(daemon.says("DELETE", "/tenants/alice"), {"removed": "alice"}, "it can be removed")
    daemon.refuses(404, "not found", "alice", "once", "DELETE", "/tenants/alice")


def test_metrics():
    status, headers, data = daemon.ask("GET", "/metrics")
    ok(status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), "metrics for Prometheus")
    found = metric_mistakes(data.decode())
    ok(not found, "in its format", *found)
    values = dict(line.rsplit(" ", 1) for line in data.decode().splitlines() if not line.startswith("#"))
    is_(int(values["dormouse_store_snapshots"]), len(names(store)), "with the store's numbers")
    ok(int(values["dormouse_node_put_bytes_total"]) > 0 and int(values["dormouse_node_failed_jobs_total"]) > 0,
       "and the daemon's", values)


def metric_mistakes(text):
    """What promtool would object to: names, types, help, order, units, doubles."""
    found, types, helps, seen, last = [], {}, set(), set(), None
    sample = re.compile(r'([a-z_][a-z0-9_]*)((?:\{(?:[a-z_]+="[^"\\\n]*",?)+\})?) (-?[0-9.e+]+)')
    if not text.endswith("\n"):
        found.append("no end of the last line")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helps.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in types:
                found.append(f"{name}: two types")
            types[name], last = kind, name
        elif match := sample.fullmatch(line):
            name, labels, _ = match.groups()
            if name != last:
                found.append(f"{line}: not below its type")
            if (name, labels) in seen:
                found.append(f"{line}: twice")
            seen.add((name, labels))
            if (types.get(name) == "counter") != name.endswith("_total"):
                found.append(f"{name}: counters end in _total")
        else:
            found.append(f"{line}: is no sample")
    return found + [f"{name}: no help" for name in types if name not in helps]


test_document()
test_images()
test_chain()
test_names()
test_working_sets()
test_roots()
test_copies()
test_upkeep()
test_rest()
test_wakes()
test_machines()
test_tenants()
test_metrics()
is_(sorted(op["operationId"] for ops in DOCUMENT["paths"].values() for op in ops.values() if op["operationId"] not in used),
    [], "every route was tried")
is_(daemon.end(), 0, "it ends well")
is_(daemon.err, b"", "and has nothing to complain about")
ok("daemon.sock" not in left_in(store), "its socket is gone", left_in(store))
works("check", "check", store=store)
done()
