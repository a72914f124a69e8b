#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_node_errors.py - what the daemon refuses, with which status and words; after each it goes on."""
import sys

sys.dont_write_bytecode = True
from node import *

rng = make_seed()
store = new_store()
image = make_image(rng, 64)
path = write("a.mem", image)
daemon = Daemon(store, config="""
# bounds that are easy to reach
body_bytes_max = 4K   # JSON
upload_bytes_max = 1M
header_bytes_max = 8K
""")
daemon.says("PUT", "/snapshots/a", {"image": path})
refuses = daemon.refuses
USAGE_ERROR, MISSING = "usage error", "not found"


def test_addresses():
    refuses(404, MISSING, "/openapi.json", "an unknown address", "GET", "/nothing")
    refuses(404, MISSING, "/openapi.json", "no address", "GET", "/")
    refuses(404, MISSING, "/openapi.json", "too long an address", "GET", "/snapshots/a/explain/more")
    refuses(400, USAGE_ERROR, "bare %", "a bare percent sign", "GET", "/snapshots/a%2")
    refuses(400, USAGE_ERROR, "bare %", "no digits behind it", "GET", "/snapshots/a%zz")
    refuses(400, USAGE_ERROR, "zero byte", "a zero byte", "GET", "/snapshots/a%00b")
    refuses(400, USAGE_ERROR, "UTF-8", "a name that is not UTF-8", "GET", "/snapshots/%ff%fe")
    refuses(400, USAGE_ERROR, "'/'", "a name with a slash", "GET", "/snapshots/..%2f..%2fetc")
    refuses(400, USAGE_ERROR, "", "a name with a line end", "PUT", "/snapshots/a%0ab", {"image": path})
    refuses(400, USAGE_ERROR, "", "the name ..", "DELETE", "/snapshots/%2e%2e")
    refuses(400, USAGE_ERROR, "too long", "a name of a page", "GET", f"/snapshots/{'x' * 4200}")
    status, headers, _ = daemon.ask("PATCH", "/snapshots/a")
    is_((status, headers["Allow"]), (405, "GET, PUT, DELETE"), "another method is told which there are")


def test_bodies():
    put = ("PUT", "/snapshots/b")
    refuses(400, USAGE_ERROR, "no JSON", "no JSON", *put, b"image")
    refuses(400, USAGE_ERROR, "no JSON", "half of JSON", *put, b'{"image": "')
    refuses(400, USAGE_ERROR, "JSON object", "a list", *put, b"[1]")
    refuses(400, USAGE_ERROR, "nested", "too deep a nest", *put, b"[" * 2000 + b"]" * 2000)
    refuses(400, USAGE_ERROR, '"imgae"', "an unknown key", *put, {"imgae": path})
    refuses(400, USAGE_ERROR, "no JSON", "a key twice", *put, b'{"image":"/a","image":"/b"}')
    refuses(400, USAGE_ERROR, "image: must be a text", "a number as path", *put, {"image": 1})
    refuses(400, USAGE_ERROR, "absolute", "a relative path", *put, {"image": "a.mem"})
    refuses(400, USAGE_ERROR, "true or false", "a text as flag", *put, {"image": path, "replace": "yes"})
    refuses(400, USAGE_ERROR, "list", "a text as list", *put, {"images": path})
    refuses(400, USAGE_ERROR, "at most 64", "too long a list", *put, {"images": ["/"] * 65})
    refuses(400, USAGE_ERROR, "must be a text", "a number in options", *put, {"image": path, "options": {"codec": 1}})
    refuses(400, USAGE_ERROR, "nonsense", "an unknown option", *put, {"image": path, "options": {"nonsense": "1"}})
    refuses(400, USAGE_ERROR, "not negative", "a negative number", "POST", "/gc", {"work_bytes_max": -1})
    refuses(400, USAGE_ERROR, "not negative", "a fraction", "POST", "/gc", {"work_bytes_max": 1.5})
    refuses(400, USAGE_ERROR, "one of image, images", "no image", *put)
    refuses(400, USAGE_ERROR, "one of image, images", "too many", *put, {"image": path, "images": [path]})
    refuses(413, USAGE_ERROR, "at most 4096", "too long a body", *put, {"image": "/" + "x" * 5000})
    refuses(413, USAGE_ERROR, "at most 2", "a body where none is read", "POST", "/check", b"x" * 100)
    refuses(413, USAGE_ERROR, "at most 1048576", "too long an image", "PUT", "/snapshots/b/image", bytes(1 << 21))
    refuses(400, USAGE_ERROR, "", "an image that is not whole pages", "PUT", "/snapshots/b/image", b"x" * 5000)
    refuses(400, USAGE_ERROR, "", "no image", "PUT", "/snapshots/b/image", b"")


def test_chunked():
    """A body without a length is bounded as well."""
    said = daemon.raw(b"PUT /snapshots/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
                      b"1000\r\n" + b" " * 4096 + b"\r\n" + b"10\r\n" + b" " * 16 + b"\r\n0\r\n\r\n")
    ok(said.startswith(b"HTTP/1.1 413 "), "too long a body in pieces", said)
    said = daemon.raw(b"PUT /snapshots/p/image HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
                      b"".join(b"1000\r\n" + image[i:i + PAGE] + b"\r\n" for i in range(0, len(image), PAGE)) + b"0\r\n\r\n")
    ok(said.startswith(b"HTTP/1.1 200 ") and daemon.ask("GET", "/snapshots/p/image")[2] == image,
       "an image in pieces is put")


def test_queries():
    refuses(400, USAGE_ERROR, '"replcae"', "an unknown parameter", "PUT", "/snapshots/b/image?replcae=true", image)
    refuses(400, USAGE_ERROR, '"image"', "a parameter of bodies", "PUT", f"/snapshots/b?image={path}", {"image": path})
    refuses(400, USAGE_ERROR, "true or false", "another word for true", "DELETE", "/roots/x?absorb=yes")
    refuses(400, USAGE_ERROR, "job", "an id with odd characters", "POST", "/gc?job=a%20b")
    refuses(400, USAGE_ERROR, "job", "an id that looks like the daemon's", "POST", "/gc?job=17")
    refuses(400, USAGE_ERROR, "async", "an image later", "GET", "/snapshots/a/image?async=true")
    daemon.says("POST", "/gc?job=mine")
    refuses(409, "exists", "mine", "an id in use", "POST", "/gc?job=mine")


def test_store():
    refuses(404, MISSING, "ghost", "no such snapshot", "GET", "/snapshots/ghost")
    refuses(404, MISSING, "ghost", "nothing to remove", "DELETE", "/snapshots/ghost")
    refuses(404, MISSING, "ghost", "nothing to explain", "GET", "/snapshots/ghost/explain")
    refuses(404, MISSING, "ghost", "nothing to get", "POST", "/snapshots/ghost/get", {"output": str(work / "never")})
    refuses(404, MISSING, "", "no working set", "GET", "/snapshots/a/working-set")
    refuses(404, MISSING, "", "none to forget", "DELETE", "/snapshots/a/working-set")
    refuses(404, MISSING, "sidecar", "no such sidecar", "GET", "/snapshots/a/sidecars/none")
    refuses(404, MISSING, "job 99", "no such job", "GET", "/jobs/99")
    refuses(409, "exists", "a", "a name that is taken", "PUT", "/snapshots/a", {"image": path})
    refuses(404, MISSING, "ghost", "no such parent", "PUT", "/snapshots/b", {"image": path, "parent": "ghost"})
    refuses(404, MISSING, "nowhere", "no such image", "PUT", "/snapshots/b", {"image": str(work / "nowhere")})
    refuses(400, USAGE_ERROR, "parent", "a diff without parent", "PUT", "/snapshots/b", {"image": path, "diff": True})
    refuses(400, USAGE_ERROR, "format", "an unknown format", "PUT", "/snapshots/b", {"image": path, "format": "floppy"})
    refuses(400, USAGE_ERROR, "output", "get without a place", "POST", "/snapshots/a/get", {})
    refuses(400, USAGE_ERROR, "directory", "get onto a folder", "POST", "/snapshots/a/get", {"output": str(work)})
    refuses(400, USAGE_ERROR, "both or neither", "an age without squeeze", "POST", "/gc", {"squeeze_age_ns": 1})
    refuses(404, MISSING, "", "copy to no store", "POST", "/snapshots/a/copy", {"to": str(work / "nowhere")})
    refuses(503, "busy", "", "copy to itself", "POST", "/snapshots/a/copy", {"to": store, "as": "a2"})
    refuses(400, USAGE_ERROR, "to must", "copy to nowhere", "POST", "/snapshots/a/copy", {})
    refuses(400, USAGE_ERROR, "store and name", "copy of nothing", "POST", "/copy", {})
    refuses(400, USAGE_ERROR, "path", "root add without path", "POST", "/roots", {})
    refuses(404, MISSING, "ghost", "no such root image", "DELETE", "/roots/ghost")


def test_cut_image():
    """An image that is cut under the daemon's eyes must not take it along."""
    cut = work / "cut.mem"
    cut.write_bytes(make_slow(rng, 96 << 20))
    job = daemon.says("PUT", "/snapshots/cut?async=true", {"image": str(cut), "options": SLOW, "no_inspect": True},
                      status=202)
    daemon.wait_for("a put is under way", job["id"], "running")
    os.truncate(cut, PAGE)
    daemon.wait_for("an image that is cut meanwhile fails it", job["id"], "failed")
    told = daemon.says("GET", f"/jobs/{job['id']}")["error"]
    is_(told["error"], "input/output error", "with an error that says so")


def test_damage():
    victim = next(name for name in sorted(left_in(store)) if name.startswith("seg."))
    data = bytearray(pathlib.Path(store, victim).read_bytes())
    data[len(data) // 3] ^= 1
    pathlib.Path(store, victim).write_bytes(data)
    checked = daemon.says("POST", "/check")
    ok(checked["findings"] and checked["finding_count"] >= len(checked["findings"]), "check finds damage", checked)
    status, _, data = daemon.ask("GET", "/snapshots/a/image")
    ok((status == 500 and json.loads(data)["error"] == "corrupt") or data == image, "never wrong bytes", status)
    daemon.says("POST", "/repair")
    daemon.says("PUT", "/snapshots/new", {"image": path})
    ok(daemon.ask("GET", "/snapshots/new/image")[2] == image, "after a repair the store goes on")


test_addresses()
test_bodies()
test_chunked()
test_queries()
test_store()
test_cut_image()
test_damage()
is_(names(store), sorted(names(store)), "the store is readable")
is_(daemon.end(), 0, "it ends well")
done()
