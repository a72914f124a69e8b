#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layers.py - a room only includes what src/LAYERS allows, and no room opens another's private header."""
import re
import sys

import checks

INCLUDE = re.compile(r'\s*#\s*include\s+(?:"([^"]+)"|<(dormouse/[^>]+)>)')


def read_layers():
    """The table as {room: set of rooms}, and the mistakes in it."""
    allowed, mistakes = {}, []
    for line in (checks.ROOT / "src/LAYERS").read_text().splitlines():
        room, colon, uses = line.split("#")[0].partition(":")
        room = room.strip()
        if not colon:
            continue
        for use in uses.split():
            if use not in allowed and use != "public":
                mistakes.append(f"src/LAYERS: {room} uses {use}, which is not above it")
        allowed[room] = set(uses.split())
    return allowed, mistakes


def check_include(where, room, target, allowed, found):
    """TARGET is what stands between the quotes or after <."""
    if target.startswith("dormouse/"):
        if "public" not in allowed:
            found["forbidden"].append(f"{where}: {room} may not use {target}")
        return
    owner, slash, name = target.partition("/")
    if not slash:
        found["unclear"].append(f'{where}: "{target}" does not say its room')
    elif owner != room and owner not in allowed:
        found["forbidden"].append(f"{where}: {room} may not use {target}")
    elif owner != room and name.endswith("_priv.h"):
        found["private"].append(f"{where}: {target} is for {owner} alone")


def main():
    args = checks.arguments(__doc__)
    layers, mistakes = read_layers()
    found = {"forbidden": [], "private": [], "unclear": [], "unlisted": []}
    for path in checks.c_files("src"):
        room = checks.relative(path).parts[1]
        if room not in layers:
            found["unlisted"].append(f"{checks.relative(path)}: {room} is not in src/LAYERS")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := INCLUDE.match(line):
                where = f"{checks.relative(path)}:{number}"
                check_include(where, room, match[1] or match[2], layers[room], found)
    for path in checks.c_files("include"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match[1]:
                found["forbidden"].append(
                    f"{checks.relative(path)}:{number}: a public header may not use {match[1]}")
    return checks.report({
        "arrows in src/LAYERS only go up": mistakes,
        "every room is in src/LAYERS": found["unlisted"],
        "rooms use only what is allowed": found["forbidden"],
        "private headers stay in their room": found["private"],
        "includes name the room": found["unclear"],
    }, args.tap)


if __name__ == "__main__":
    sys.exit(main())
