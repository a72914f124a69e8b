#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_cli_inspect.py - inspect of what is no guest: zero pages and noise, its tables, CSV, pictures, refusals.

What it finds in guests is in tests/e2e/t_e2e_inspect.py.
"""
import csv
import sys
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True
from cli import *

rng = make_seed()
PAGES = 100
zeros = sorted(rng.sample(range(PAGES), 40))
image = write("noise.mem", b"".join(bytes(PAGE) if i in zeros else rng.randbytes(PAGE) for i in range(PAGES)))


def test_text():
    text = works("inspect", "inspect", image).decode()
    ok("tier content" in text and "no VMCOREINFO note" in text, "says that there is no kernel", text)
    ok("unknown" in text and "zero" in text and "critical" in text, "has its tables", text)
    ok(all(len(line) <= 80 for line in text.splitlines() if image not in line), "in 80 columns", text)
    is_(works("inspect --quiet", "--quiet", "inspect", image), b"", "--quiet prints nothing")


def test_json():
    said = says("inspect --json", "inspect", image)
    is_((said["tier"], said["kernel"], said["pages"]), ("content", None, PAGES), "tier and pages")
    is_((said["classes"]["zero"], said["classes"]["unknown"]), (40, 60), "classes")
    is_((said["importances"]["none"], said["importances"]["critical"]), (40, 60), "importances")
    is_((said["processes"], said["files"]), ([], []), "no processes, no files")


def test_pages():
    path = work / "pages.csv"
    works("--pages", "--quiet", "inspect", image, "--pages", str(path))
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    is_([int(row["pfn"]) for row in rows], list(range(PAGES)), "a line a page")
    is_([int(row["pfn"]) for row in rows if row["class"] == "zero"], zeros, "zero pages")
    is_({row["region_type"] for row in rows}, {"nrt"}, "region types")


def test_map():
    path = work / "map.svg"
    works("--map", "--quiet", "inspect", image, "--map", str(path))
    root = xml.parse(path).getroot()
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    is_(titles, [image, "unknown", "zero"], "titles of the picture and its classes")
    text = works("--map -", "--quiet", "inspect", image, "--map", "-").decode()
    is_(text.count("??") - 1, 60, "a letter twice for each page that is not zero")
    odd = write('a<b&"c.mem', bytes(PAGE))
    works("--map of a name with markup", "--quiet", "inspect", odd, "--map", str(path))
    is_(xml.parse(path).getroot()[0].text, odd, "is a picture, too")


def test_refusals():
    refuses(NOT_FOUND, "No such file", "a missing image", "inspect", str(work / "none"))
    refuses(USAGE, "", "an empty image", "inspect", write("empty", b""))
    refuses(USAGE, "", "an unaligned image", "inspect", write("unaligned", b"x" * 5000))
    refuses(USAGE, "", "a device", "inspect", "/dev/zero")
    refuses(USAGE, "nonsense", "a format that is none", "inspect", image, "--format", "nonsense")
    result = run("--json", "inspect", image, "--map", "-")
    is_(result.returncode, USAGE, "--json and --map - both want standard output")
    refuses(NOT_FOUND, "", "a CSV in no folder", "--quiet", "inspect", image, "--pages", str(work / "no" / "p"))
    ok(not list(work.glob(".*")), "nothing is left behind")


test_text()
test_json()
test_pages()
test_map()
test_refusals()
done()
