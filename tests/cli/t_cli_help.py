#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_help.py - help is complete, narrow and on the right stream; what is unknown is refused by name."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from cli import *

VERBS = ("init put get wake ls show explain rm gc check stat copy root working-set inspect serve table "
         "tenant mount run options version").split()
GLOBAL = "--store --option --socket --no-daemon --json --quiet --help --version".split()
MAN = pathlib.Path("docs/man/dormouse.1")


def help_is_good(name, text):
    lines = text.decode().splitlines()
    ok(max(map(len, lines)) <= 80, f"{name}: at most 80 columns", *[line for line in lines if len(line) > 80])
    ok(not any(line != line.rstrip() for line in lines), f"{name}: no spaces at the end of lines")


def long_options(text):
    return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text.decode(), re.M))


def test_help():
    text = works("--help", "--help")
    help_is_good("--help", text)
    is_(re.findall(r"^  ([a-z][a-z-]*) ", text.decode(), re.M), VERBS, "--help lists every verb in order")
    is_(long_options(text), set(GLOBAL), "--help lists the options of all verbs")
    ok(all(f" {code} " in text.decode() for code in range(12)), "--help lists the exit codes", text)
    is_(works("-h", "-h"), text, "-h says the same")
    for verb in VERBS:
        text = works(f"{verb} --help", verb, "--help")
        help_is_good(f"{verb} --help", text)
        ok(text.decode().startswith(f"Usage: dormouse {verb}"), f"{verb} --help begins with its usage")
        ok(long_options(text) >= set(GLOBAL), f"{verb} --help lists the options of all verbs")
        is_(run("--help", verb).stdout, text, f"--help {verb} says the same")


def test_man_page():
    """Whatever --help knows, the man page knows, and nothing else."""
    page = MAN.read_text().replace("\\&", "")
    known = set(re.findall(r"^\.It Cm ([a-z-]+)", page, re.M))
    ok(known >= set(VERBS), "the man page has every verb", set(VERBS) - known)
    told = {"--" + name for name in re.findall(r"Fl -([a-z-]+)", page)}
    real = set(GLOBAL)
    for verb in VERBS:
        real |= long_options(run(verb, "--help").stdout)
    is_(told - {"--output"}, real - {"--output"}, "the man page has every option and no other")
    if shutil.which("mandoc") is None:
        skip("mandoc is not installed", "the man pages are clean")
        return
    made = subprocess.run(["docs/man/options-page", program], capture_output=True)
    (work / "dormouse-options.7").write_bytes(made.stdout)
    serve = subprocess.run(["docs/man/options-page", program, "docs/man/dormouse-serve.8.in"], capture_output=True)
    (work / "dormouse-serve.8").write_bytes(serve.stdout)
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", MAN, "docs/man/dormouse-table.8",
                           work / "dormouse-options.7", work / "dormouse-serve.8"], capture_output=True, text=True)
    table = pathlib.Path("docs/man/dormouse-table.8").read_text()
    tenant = re.findall(r"^  (\w+)=", works("tenant options", "tenant", "options").decode(), re.M)
    ok(tenant and all(f".It Cm {name}\n" in table for name in tenant), "dormouse-table(8) has every option of tenants",
       *tenant)
    settings = says("options --daemon", "options", "--daemon")["options"]
    ok(settings and all(f".It Cm {row['name']}\n".encode() in serve.stdout for row in settings),
       "dormouse-serve(8) has every setting")
    is_(made.stderr + lint.stdout.encode() + lint.stderr.encode(), b"", "the man pages are clean")
    options = says("options", "options")["options"]
    ok(all(f".It Cm {row['name']}\n".encode() in made.stdout for row in options),
       "dormouse-options(7) has every option")


def test_version():
    text = works("--version", "--version").decode()
    ok(re.fullmatch(r"dormouse \d+\.\d+\.\d+\n", text), "--version is one line", text)
    ok(works("version", "version").decode().startswith(text), "version begins with it")
    is_(says("version --json", "version")["version"], text.split()[1], "version --json has it")


def test_usage_errors():
    refuses(USAGE, "--help", "no verb at all")
    refuses(USAGE, '"frobnicate"', "an unknown verb", "frobnicate")
    refuses(USAGE, "--frob", "an unknown option before the verb", "--frob", "ls")
    refuses(USAGE, "--frob", "an unknown option of a verb", "ls", "--frob")
    refuses(USAGE, "-x", "an unknown letter", "ls", "-x")
    refuses(USAGE, "--replace", "an option of another verb", "ls", "--replace")
    refuses(USAGE, "--store DIR", "an option without its value", "ls", "--store")
    refuses(USAGE, "takes no value", "a flag with a value", "ls", "--json=yes")
    refuses(USAGE, "NAME --to DIR", "too few arguments", "copy")
    refuses(USAGE, "one source", "nothing to put", "put", "name")
    refuses(USAGE, '"b"', "too many arguments", "copy", "a", "b", "c")
    refuses(USAGE, "only diffs", "two images", "put", "a", "b", "c")
    refuses(USAGE, "takes no arguments", "an argument where there is none", "ls", "a")
    refuses(USAGE, "DORMOUSE_STORE", "no store", "ls")
    refuses(USAGE, "DORMOUSE_STORE", "an empty store", "ls", store="")
    refuses(USAGE, "-o FILE", "get without -o", "get", "a", store=str(work))
    refuses(USAGE, "--to DIR", "copy without --to", "copy", "a", store=str(work))
    refuses(USAGE, "NAME=VALUE", "--option without a value", "ls", "--option", "codec", store=str(work))
    refuses(USAGE, "no_such", "--option with an unknown name", "ls", "--option", "no_such=1", store=str(work))
    refuses(USAGE, "--squeeze", "--older-than without --squeeze", "gc", "--older-than", "1d", store=str(work))
    for text in ("", "x", "-1d", "1", "1y", "1.5h", " 1d", "99999999999999999999d", "300000000000w"):
        refuses(USAGE, "90s", f"a bad duration {text!r}", "gc", "--squeeze", "--older-than", text)
    refuses(USAGE, "64M", "a bad number of bytes", "gc", "--max-work", "x")
    refuses(USAGE, "64 times", "too many sidecars", "put", "a", "b", *["--sidecar=x"] * 65)
    refuses(USAGE, "\\x1b[1m", "control characters are shown, not sent", "\033[1m")
    refuses(USAGE, "\\xff", "bytes that are no characters are shown, not sent", b"\xff\xfe")
    refuses(USAGE, "\u00e9", "other characters stay", "\u00e9")


def test_json_errors():
    for args, code, name in ((["--json", "frob"], USAGE, "usage error"), (["frob", "--json"], USAGE, "usage error"),
                             (["--json", b"\xff"], USAGE, "usage error"),
                             (["--store", str(work / "none"), "ls", "--json"], NOT_FOUND, "not found")):
        result = run(*args)
        error = json.loads(result.stderr)["error"]
        ok(result.returncode == code == error["code"] and error["name"] == name and error["message"]
           and result.stdout == b"" and result.stderr.count(b"\n") == 1,
           f"an error in JSON: {args}", result.stderr)


def test_streams():
    with open("/dev/full", "w") as full:
        result = run("--help", stdout=full, stderr=subprocess.PIPE)
    is_((result.returncode, b"standard output" in result.stderr), (NO_SPACE, True), "a full disk behind the output")
    result = subprocess.run(f"'{program}' --help >&-", shell=True, capture_output=True)
    ok(result.returncode in (0, IO), "a closed standard output", result)
    store = new_store("closed")
    image = write("closed.mem", b"x" * PAGE)
    # Whatever is opened first must not become the descriptor that error words go to.
    put = subprocess.run(f"exec '{program}' --store '{store}' put a '{image}' <&- >&- 2>&-", shell=True)
    is_(put.returncode, 0, "put with all standard descriptors closed")
    again = subprocess.run(f"exec '{program}' --store '{store}' put a '{image}' <&- >&- 2>&-", shell=True)
    is_(again.returncode, EXISTS, "and one that fails")
    works("left the store in order", "check", store=store)


def test_placement():
    store = new_store("placement")
    empty = '{"snapshots": []}'
    for args in (["--store", store, "ls", "--json"], ["ls", "--json", "--store", store], [f"--store={store}", "--json", "ls"],
                 ["ls", "--json", f"--store={store}", "--"]):
        is_(json.loads(run(*args).stdout or "{}"), json.loads(empty), f"options at {args}".replace(str(work), "..."))
    is_(json.loads(run("ls", "--json", env={"DORMOUSE_STORE": store}).stdout), json.loads(empty), "the store in DORMOUSE_STORE")
    result = run("--store", store, "ls", env={"DORMOUSE_STORE": "/nowhere"})
    is_(result.returncode, 0, "--store is stronger")
    refuses(NOT_FOUND, "--json", "-- ends the options", "show", "--", "--json", store=store)


test_help()
test_man_page()
test_version()
test_usage_errors()
test_json_errors()
test_streams()
test_placement()
done()
