# SPDX-License-Identifier: Apache-2.0
"""checks.py - what the checks of the source tree share: where the tree is, and how findings are told.

A check collects findings under rule names. As a command it prints the findings; with --tap it prints one
line of TAP a rule, so that the rules are tests like all others.
"""
import argparse
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
C_FOLDERS = ("include", "src", "tests", "bench", "tools")


def c_files(*folders):
    """All .c, .h and .def files of these folders, in order."""
    for folder in folders or C_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".def") and path.is_file():
                yield path


def relative(path):
    return path.relative_to(ROOT)


def arguments(about):
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--tap", action="store_true", help="print TAP, one line a rule")
    parser.add_argument("--library", help="the built libdormouse.so")
    return parser.parse_args()


def report(rules, tap):
    """Print RULES, a dict of rule name and list of findings; the exit code."""
    failed = False
    for number, (rule, findings) in enumerate(rules.items(), 1):
        failed = failed or bool(findings)
        if tap:
            print(f"{'not ok' if findings else 'ok'} {number} - {rule}")
        for finding in findings:
            print(f"# {finding}" if tap else f"{finding}: {rule}")
    if tap:
        print(f"1..{len(rules)}")
    return 1 if failed else 0
