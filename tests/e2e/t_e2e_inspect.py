#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_e2e_inspect.py - what is found in real guests from the outside agrees with what their kernels said.

Each guest recorded its own /proc/kpageflags, pagemap and maps just before it was paused. The same is then
asked with information taken away: without types and symbols, and without the note. Guests are those in the
build folder's guests/ that have such a record.
"""
import mmap
import shutil
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/cli", "tests/e2e"]
from cli import *
from truth import Agreement, Truth

guests = pathlib.Path(program).parent / "guests"
BTF_HEAD = b"\x9f\xeb\x01\x00\x18\x00\x00\x00\x00\x00\x00\x00"
# The guest idles between its record and its pause; the issue asks for 99.9 %.
LEAST = 0.999


def inspect(name, image, *args, code=0):
    """What `inspect --json` says of IMAGE, and the path of its CSV."""
    pages = work / "pages.csv"
    ran = run("--json", "inspect", str(image), "--pages", str(pages), *args, timeout=120)
    if not ok(ran.returncode == code, f"{name}: inspect", ran.stderr.decode(errors="replace")):
        return None, pages
    return json.loads(ran.stdout) if code == 0 else None, pages


def about(agreement):
    return (f"classes {agreement.classes:.4%}, regions {agreement.regions or 0:.4%}, "
            f"differences {dict(agreement.differences)}")


def check_classes(name, agreement):
    ok(agreement.classes >= LEAST, f"{name}: classes are the kernel's", about(agreement))


def check_full(folder):
    name = folder.name
    truth = Truth(folder / "gt")
    report, pages = inspect(name, folder / "mem")
    if report is None:
        return
    agreement = Agreement(truth, report, pages)
    print(f"# {name}: {report['kernel']}: {about(agreement)}")
    is_((report["tier"], report["partial"], report["remark"]), ("full", False, None), f"{name}: tier")
    ok(report["free_is_sure"], f"{name}: free lists agree")
    check_classes(name, agreement)
    is_(agreement.wrong_mappings, [], f"{name}: all {agreement.mapping_total} mappings are exact")
    is_(agreement.wrong_pages, [], f"{name}: all {agreement.page_total} pages of processes are found")
    for process in report["processes"]:
        if process["pid"] in truth.processes:
            is_(process["resident_pages"], len(truth.processes[process["pid"]].pages),
                f"{name}: resident pages of {process['name']}")
    if agreement.regions is not None:
        ok(agreement.regions >= LEAST, f"{name}: region types are right", about(agreement))
        is_([p["pid"] for p in report["processes"] if p["runtime"]], [truth.function],
            f"{name}: the runtime process is the function")


# ------------------------------------------------------------------ less information


def copy_of(folder, name):
    path = work / name
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "--sparse=always", str(folder / "mem"), str(path)], check=True)
    return path


def replace_all(path, old, new):
    """Overwrite each OLD in the file by NEW, which is as long; how many there were."""
    count, at = 0, -1
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        while (at := memory.find(old, at + 1)) >= 0:
            memory[at:at + len(new)] = new
            count += 1
    return count


def without_types(folder):
    """A copy as a kernel without BTF and symbol table leaves it."""
    path = copy_of(folder, "bare.mem")
    replace_all(path, BTF_HEAD, bytes(len(BTF_HEAD)))
    ok(replace_all(path, b"SYMBOL(kallsyms_", b"SYMBOL(withheld_") > 0, "the symbol table is withheld")
    return path


def check_note_tier(folder):
    name = f"{folder.name} without types"
    path = without_types(folder)
    truth = Truth(folder / "gt")
    report, pages = inspect(name, path)
    if report is None:
        return path
    agreement = Agreement(truth, report, pages)
    print(f"# {name}: {about(agreement)}")
    is_((report["tier"], report["partial"]), ("note", False), f"{name}: tier")
    ok("BTF" in report["remark"], f"{name}: says why", report["remark"])
    check_classes(name, agreement)
    found = sorted(p["resident_pages"] for p in report["processes"])
    want = sorted(len(p.pages) for p in truth.processes.values())
    # The kernel's own page of time is mapped into processes, and without types it looks like theirs.
    ok(len(found) == len(want) and all(abs(a - b) <= 4 for a, b in zip(found, want)),
       f"{name}: processes are found by their page tables", found, want)
    # Pages that may be written but were not yet are read-only in the tables.
    ok(agreement.regions is None or agreement.regions >= 0.99, f"{name}: region types", about(agreement))
    return path


def check_profile(folder, bare):
    """A profile learnt from a guest that tells its types explains one of the same build that does not."""
    name = f"{folder.name} with a profile"
    profiles = work / "profiles"
    profiles.mkdir()
    report, _ = inspect(f"{folder.name}, profile kept", folder / "mem", "--profiles", str(profiles))
    is_([p.name for p in profiles.iterdir()], [f"{report['build_id']}.profile"], "the profile is in the directory")
    for image, label in ((bare, "withheld"), (folder / "mem", "itself")):
        report, pages = inspect(f"{name}, {label}", image, "--profiles", str(profiles))
        agreement = Agreement(Truth(folder / "gt"), report, pages)
        is_(report["tier"], "full", f"{name}, {label}: tier")
        check_classes(f"{name}, {label}", agreement)
        is_(agreement.wrong_mappings, [], f"{name}, {label}: mappings are exact")
    profile = next(profiles.iterdir())
    profile.write_text(profile.read_text()[:300] + "\0\0damaged")
    report, _ = inspect(f"{name}, damaged", folder / "mem", "--profiles", str(profiles))
    is_(report["tier"], "full", "a damaged profile is not used")
    ok("damaged" not in profile.read_text(), "and replaced")


def check_content_tier(folder, bare):
    name = f"{folder.name} without a note"
    ok(replace_all(bare, b"VMCOREINFO\0", b"WITHHELD!!\0") > 0, "the note is withheld")
    report, pages = inspect(name, bare)
    is_((report["tier"], report["kernel"]), ("content", None), f"{name}: tier")
    ok("VMCOREINFO" in report["remark"], f"{name}: says why", report["remark"])
    classes = report["classes"]
    ok(classes["zero"] > 0 and classes["zero"] + classes["unknown"] == report["pages"],
       f"{name}: pages are zero or unknown", classes)


def check_process_option(folder):
    truth = Truth(folder / "gt")
    report, _ = inspect("--process PID", folder / "mem", "--process", "1")
    is_([p["pid"] for p in report["processes"] if p["runtime"]], [1], "--process PID: is the runtime process")
    function = truth.processes[truth.function].name
    report, _ = inspect("--process NAME", folder / "mem", "--process", function)
    is_([p["pid"] for p in report["processes"] if p["runtime"]], [truth.function],
        "--process NAME: is the runtime process")
    refuses(NOT_FOUND, "nobody", "--process of nobody", "inspect", str(folder / "mem"), "--process", "nobody")


def check_pictures(folder):
    svg = work / "map.svg"
    works("an SVG map", "--quiet", "inspect", str(folder / "mem"), "--map", str(svg))
    import xml.etree.ElementTree as xml
    root = xml.parse(svg).getroot()
    ok(root.tag.endswith("svg") and svg.stat().st_size < 2 << 20, "is a picture of moderate size", svg.stat().st_size)
    text = works("a map of letters", "--quiet", "inspect", str(folder / "mem"), "--map", "-").decode()
    lines = text.splitlines()
    ok("\x1b" not in text and len(lines) > 32 and {len(line) for line in lines[1:33]} == {66}, "is a square", text)


folders = sorted(path.parent for path in guests.glob("*/gt") if (path.parent / "mem").is_file())
if not folders:
    print(f"1..0 # SKIP no guests with a record in {guests}; tools/guest/corpus makes them")
    sys.exit(77)
for each in folders:
    check_full(each)
sample = next((path for path in folders if path.name == "pyjson-a"), folders[0])
stripped = check_note_tier(sample)
check_profile(sample, stripped)
check_content_tier(sample, stripped)
check_process_option(sample)
check_pictures(sample)
done()
