#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tidy.py - the rules of style that no compiler knows: how files open, how long things may be, which words
may not stay. tools/guest is left out where C is judged: those are programs for inside guests. Functions over 70 lines are told as warnings, over 100 as errors."""
import re
import sys

import checks

LINE_COLUMNS, FILE_LINES, FUNCTION_LINES, FUNCTION_LINES_WARN = 100, 800, 100, 70
SPDX = re.compile(r"^(/\*|//|#|\.\\\"|<!--) ?SPDX-License-Identifier: Apache-2\.0")
# Spelled in halves so that this file passes its own rule.
BANNED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|WI" r"P|not yet imple" r"mented|for no" r"w)\b")
ABSOLUTE = re.compile(r"(?<![\w.$~})])/(work|home|Users)/\w")
HEADER_LINES = ("Ownership:", "Threads:", "Errors:")
TEXT_SUFFIXES = {".c", ".h", ".def", ".js", ".py", ".sh", ".md", ".build", ".txt", ".map", ".mdoc", ".yml", ".in", ".service", ".socket", ".conf", ""}


def text_files():
    """Every text file that belongs to the project and can be read, but the licence and test data."""
    top = ("include", "src", "tests", "bench", "docs", "dist", "examples", "tools", ".ci")
    for path in sorted(checks.ROOT.glob("*")):
        if path.is_file() and path.name not in ("LICENSE", ".git") and path.suffix in TEXT_SUFFIXES:
            yield path
    for folder in top:
        for path in sorted((checks.ROOT / folder).rglob("*")):
            skip = "corpus" in path.parts or "__pycache__" in path.parts
            if path.is_file() and not skip and path.suffix in TEXT_SUFFIXES:
                yield path


def opens_well(path, lines):
    """The findings about the first lines of a C file."""
    if not lines or not SPDX.match(lines[0]):
        return [f"{checks.relative(path)}:1: no SPDX line"]
    second = lines[1] if len(lines) > 1 else ""
    if path.suffix != ".def" and second != "/*":
        return [f"{checks.relative(path)}:2: no file comment"]
    third = lines[2] if len(lines) > 2 else ""
    if path.suffix != ".def" and not third.startswith(f" * {path.name} - "):
        return [f"{checks.relative(path)}:3: the file comment does not begin with '{path.name} - '"]
    return []


def function_lengths(lines):
    """(line number, length) of each function: with this brace style a body is { ... } in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield start, number - start + 1
            start = None


def check_c(path, lines, rules):
    name = checks.relative(path)
    rules["C files open with SPDX line and file comment"] += opens_well(path, lines)
    rules[f"lines are at most {LINE_COLUMNS} columns"] += [
        f"{name}:{number}: {len(line)} columns"
        for number, line in enumerate(lines, 1) if len(line) > LINE_COLUMNS]
    if len(lines) > FILE_LINES:
        rules[f"files are at most {FILE_LINES} lines"].append(f"{name}: {len(lines)} lines")
    for number, length in function_lengths(lines):
        if length > FUNCTION_LINES:
            rules[f"functions are at most {FUNCTION_LINES} lines"].append(
                f"{name}:{number}: {length} lines")
        elif length > FUNCTION_LINES_WARN:
            print(f"# warning: {name}:{number}: a function of {length} lines")
    if path.suffix == ".h" and path.parent.name != "fuzz":
        head = "\n".join(lines[:60])
        rules["headers say Ownership, Threads, Errors"] += [
            f"{name}: no {word} line" for word in HEADER_LINES if f" * {word}" not in head]


def check_text(path, lines, rules):
    name = checks.relative(path)
    for number, line in enumerate(lines, 1):
        if BANNED.search(line):
            rules["no marks of unfinished work"].append(f"{name}:{number}: {line.strip()}")
        if ABSOLUTE.search(line):
            rules["no paths of one machine"].append(f"{name}:{number}: {line.strip()}")
        if line != line.rstrip() and path.suffix != ".md":
            rules["no spaces at the end of lines"].append(f"{name}:{number}")


def main():
    args = checks.arguments(__doc__)
    rules = {
        "C files open with SPDX line and file comment": [],
        "scripts have an SPDX line": [],
        f"lines are at most {LINE_COLUMNS} columns": [],
        f"files are at most {FILE_LINES} lines": [],
        f"functions are at most {FUNCTION_LINES} lines": [],
        "headers say Ownership, Threads, Errors": [],
        "no marks of unfinished work": [],
        "no paths of one machine": [],
        "no spaces at the end of lines": [],
        "text is UTF-8": [],
    }
    c_paths = {path for path in checks.c_files() if "guest" not in path.parts}
    for path in text_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            rules["text is UTF-8"].append(str(checks.relative(path)))
            continue
        check_text(path, lines, rules)
        if path in c_paths:
            check_c(path, lines, rules)
        elif lines and lines[0].startswith("#!"):
            if not any(SPDX.match(line) for line in lines[1:4]):
                rules["scripts have an SPDX line"].append(f"{checks.relative(path)}:2")
    return checks.report(rules, args.tap)


if __name__ == "__main__":
    sys.exit(main())
