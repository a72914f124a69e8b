#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""names.py - the library shows nothing but dor_ names, and all of them are in a public header."""
import subprocess
import sys

import checks


def exported(library):
    lines = subprocess.run(
        ["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    # "address kind name@@version"; kind A is the version itself.
    rows = [line.split() for line in lines]
    return sorted(row[-1].split("@")[0] for row in rows if row[-2] != "A")


def main():
    args = checks.arguments(__doc__)
    library = args.library or checks.ROOT / "build/src/libdormouse.so"
    names = exported(library)
    headers = "".join(path.read_text() for path in checks.c_files("include"))
    return checks.report({
        "the library exports something": [] if names else [f"{library}: no names"],
        "exported names begin with dor_": [n for n in names if not n.startswith("dor_")],
        "exported names are in a public header": [n for n in names if n + "(" not in headers],
    }, args.tap)


if __name__ == "__main__":
    sys.exit(main())
