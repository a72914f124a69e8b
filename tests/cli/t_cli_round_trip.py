#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_round_trip.py - what is put comes back byte for byte, and every verb tells the truth about it."""
import filecmp
import sys

sys.dont_write_bytecode = True
from cli import *

KINDS = "logical_bytes zero_bytes exact_bytes patched_bytes raw_bytes reference_bytes".split()
rng = make_seed()
first = make_image(rng, 1500)
second = make_image(rng, 1700, first)
files = {"first": write("first.mem", first), "second": write("second.mem", second)}
state = write("state", rng.randbytes(70000))
config = write("config.json", b"{}")
nothing = write("nothing", b"")
store = str(work / "store")


def kinds_add_up(object_, name):
    is_(sum(object_[key] for key in KINDS[1:]), object_["logical_bytes"], f"{name}: kinds add up")
    is_(sum(object_["by_region_type"][t]["logical_bytes"] for t in ("nrt", "rx_map", "w_map")),
        object_["logical_bytes"], f"{name}: region types add up")


def comes_back(name, want, *sidecars):
    out = work / f"{name}.out"
    folder = work / f"{name}.sidecars"
    said = says(f"get {name}", "get", name, "-o", str(out), "--sidecars", str(folder), store=store)
    holds(out, want, f"{name} is the same, byte for byte")
    is_(left_in(folder), sorted(pathlib.Path(path).name for path in sidecars), f"{name} has its sidecars")
    for path in sidecars:
        ok(filecmp.cmp(path, folder / pathlib.Path(path).name, shallow=False), f"{name}: {pathlib.Path(path).name} too")
    is_((said["logical_bytes"], len(said["sidecars"])), (len(want), len(sidecars)), f"get {name} tells so")


def test_init():
    is_(says("init", "init", store=store), {"store": store}, "init tells where")
    refuses(EXISTS, store, "init again", "init", store=store)
    stat = says("stat of an empty store", "stat", store=store)
    is_((stat["snapshots"], stat["logical_bytes"]), (0, 0), "which has nothing")
    works("check of an empty store", "check", store=store)
    works("gc of an empty store", "gc", store=store)


def test_put():
    said = says("put", "put", "first", files["first"], "--sidecar", state, "--sidecar", config, "--sidecar", nothing,
                store=store)
    is_(said["logical_bytes"], len(first), "put tells the size")
    is_(said["zero_bytes"], first_zeros(first), "and how much of it is zero")
    ok(0 < said["added_bytes"] < len(first), "and what it added")
    kinds_add_up(said, "put")
    more = says("put with a parent", "put", "second", files["second"], "--parent", "first", store=store)
    kinds_add_up(more, "put with a parent")
    ok(more["patched_bytes"] > 0 and more["exact_bytes"] > 0, "similar and equal pages are found", more)
    text = works("put in words", "put", "third", files["first"], store=store).decode()
    ok("third" in text and "exact" in text, "tells what it did", text)
    is_(works("put --quiet", "--quiet", "put", "fourth", files["first"], store=store), b"", "says nothing")
    refuses(EXISTS, "first", "put under a name that is taken", "put", "first", files["second"], store=store)
    refuses(NOT_FOUND, "nobody", "put with an unknown parent", "put", "x", files["first"], "--parent", "nobody", store=store)
    is_(names(store), ["first", "fourth", "second", "third"], "names are in order, failed ones are not there")


def first_zeros(data):
    return sum(PAGE for i in range(0, len(data), PAGE) if not any(data[i:i + PAGE]))


def test_tell():
    row = says("ls", "ls", store=store)["snapshots"][0]
    is_((row["name"], row["logical_bytes"], row["sidecars"], row["parent"], row["domain"]),
        ("first", len(first), 3, None, "default"), "ls tells what is there")
    ok(len(works("ls in words", "ls", store=store).splitlines()) == 5, "one line a snapshot, and heads")
    shown = says("show", "show", "second", store=store)
    is_((shown["parent"], shown["sidecars"], shown["logical_bytes"]), ("first", [], len(second)), "show tells what it is")
    kinds_add_up(shown, "show")
    sizes = {row["name"]: row["size_bytes"] for row in says("show first", "show", "first", store=store)["sidecars"]}
    is_(sizes, {"state": 70000, "config.json": 2, "nothing": 0}, "show tells the sidecars")
    text = works("show --map", "show", "first", "--map", store=store).decode()
    ok(sum(line.startswith("  ") and "0x" in line for line in text.splitlines()) > 10, "show --map draws", text)
    is_(run("show", "first", "--map", "--json", store=store).returncode, USAGE, "show --map has no JSON")
    explained = says("explain", "explain", "second", store=store)
    kinds_add_up(explained, "explain")
    ok({"recipe_bytes", "exclusive_bytes", "shared_bytes", "freed_bytes", "shared_with"} <= explained.keys(),
       "explain has all keys", explained.keys())
    ok("first" in [row["name"] for row in explained["shared_with"]], "explain names whom it shares with")
    ok(b"shares with" in works("explain in words", "explain", "second", store=store), "in words too")
    stat = says("stat", "stat", store=store)
    is_((stat["snapshots"], stat["logical_bytes"]), (4, 3 * len(first) + len(second)), "stat counts")
    is_(stat["stored_bytes"], folder_bytes(store), "stored bytes are those of the files")
    ok({"zero", "raw", "patched", "reference", "exact"} <= stat["pages_by_kind"].keys(), "stat has pages by kind")
    works("stat in words", "stat", store=store)
    for verb in ("show", "explain", "rm"):
        refuses(NOT_FOUND, "nobody", f"{verb} of an unknown snapshot", verb, "nobody", store=store)
    refuses(NOT_FOUND, "nobody", "get of an unknown snapshot", "get", "nobody", "-o", str(work / "n"), store=store)


def folder_bytes(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def test_options():
    other = str(work / "lz4")
    works("init with an option", "init", "--option", "codec=lz4", store=other)
    works("put there", "put", "first", files["first"], store=other)
    out = work / "lz4.out"
    works("get from there", "get", "first", "-o", str(out), store=other)
    holds(out, first, "it is the same")
    rows = says("options", "options")["options"]
    ok(rows and all({"name", "default", "unit", "text"} <= row.keys() for row in rows), "options have their keys")
    ok(b"codec=" in works("options in words", "options"), "in words too")


def test_copy():
    other = new_store("other")
    said = says("copy", "copy", "second", "--to", other, "--as", "moved", store=store)
    is_((said["as"], said["logical_bytes"]), ("moved", len(second)), "copy tells what it did")
    out = work / "moved.out"
    works("get of the copy", "get", "moved", "-o", str(out), store=other)
    holds(out, second, "the copy is the same")
    refuses(EXISTS, "moved", "copy onto a name that is taken", "copy", "first", "--to", other, "--as", "moved", store=store)
    refuses(NOT_FOUND, "none", "copy to no store", "copy", "first", "--to", str(work / "none"), store=store)
    refuses(NOT_FOUND, "nobody", "copy of an unknown snapshot", "copy", "nobody", "--to", other, store=store)
    works("the other store is in order", "check", store=other)


def test_replace_and_remove():
    said = says("put --replace", "put", "fourth", files["second"], "--replace", "--sidecar", config, store=store)
    is_(said["logical_bytes"], len(second), "the new image is stored")
    comes_back("fourth", second, config)
    says("put --replace of a new name", "put", "fifth", files["first"], "--replace", store=store)
    is_(says("rm", "rm", "first", store=store), {"removed": "first"}, "rm tells what it did")
    refuses(NOT_FOUND, "first", "rm again", "rm", "first", store=store)
    works("rm", "rm", "third", store=store)
    works("rm", "rm", "fifth", store=store)
    said = says("gc", "gc", store=store)
    ok(said["complete"] and said["after_bytes"] <= said["before_bytes"], "gc gives back", said)
    comes_back("second", second)
    said = says("gc --squeeze", "gc", "--squeeze", "--older-than", "0", store=store)
    ok(said["complete"] and said["after_bytes"] <= said["before_bytes"], "gc --squeeze gives back", said)
    comes_back("second", second)
    comes_back("fourth", second, config)
    works("gc with little work", "gc", "--max-work", "4K", store=store)
    is_(says("check", "check", store=store)["findings"], [], "the store is in order")
    works("check in words", "check", store=store)
    is_(works("check --quiet", "check", "--quiet", store=store), b"", "says nothing when all is well")
    works("check --repair has nothing to do", "check", "--repair", store=store)


test_init()
test_put()
comes_back("first", first, state, config, nothing)
comes_back("second", second)
test_tell()
test_options()
test_copy()
test_replace_and_remove()
done()
