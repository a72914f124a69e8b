#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""t_checks.py - the checks of the source tree find what they are for, in a small tree made to be wrong."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.dont_write_bytecode = True
import checks
import layers
import tidy

GOOD = "/* SPDX-License-Identifier: Apache-2.0 */\n/*\n * {name} - an example.\n */\n"
results = []


def ok(passed, name):
    results.append(passed)
    print(f"{'ok' if passed else 'not ok'} {len(results)} - {name}")


def findings(main, files):
    """Run a check on a tree of FILES; the names of the rules that were broken."""
    broken = {}

    def keep(rules, _tap):
        broken.update({rule: found for rule, found in rules.items() if found})
        return 0

    with tempfile.TemporaryDirectory() as root:
        checks.ROOT = pathlib.Path(root)
        for name, text in files.items():
            path = checks.ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        checks.report = keep
        sys.argv = ["check"]
        main()
    return broken


def layer_findings(files, table="base: public\nchunk: base\nstore: base chunk public\n"):
    tree = {f"src/{name}": text for name, text in files.items()}
    return set(findings(layers.main, {"src/LAYERS": table, **tree}))


def tidy_findings(name, text):
    return set(findings(tidy.main, {name: text}))


def test_layers():
    ok(layer_findings({"store/a.c": '#include "chunk/c.h"\n#include <dormouse/err.h>\n'}) == set(),
       "allowed includes pass")
    ok(layer_findings({"chunk/a.c": '#include "store/s.h"\n'}) == {"rooms use only what is allowed"},
       "a forbidden room is found")
    ok(layer_findings({"chunk/a.c": "#include <dormouse/err.h>\n"})
       == {"rooms use only what is allowed"}, "a forbidden public header is found")
    ok(layer_findings({"store/a.c": '#include "chunk/c_priv.h"\n'})
       == {"private headers stay in their room"}, "another room's private header is found")
    ok(layer_findings({"chunk/a.c": '#include "chunk/c_priv.h"\n'}) == set(), "one's own passes")
    ok(layer_findings({"moat/a.c": "\n"}) == {"every room is in src/LAYERS"}, "an unlisted room is found")
    ok(layer_findings({"chunk/a.c": '#include "c.h"\n'}) == {"includes name the room"},
       "an include without its room is found")
    ok(layer_findings({}, "base: chunk\nchunk: base\n") == {"arrows in src/LAYERS only go up"},
       "a circle in the table is found")


def test_tidy():
    good = GOOD.format(name="a.c")
    header = GOOD.format(name="a.h")
    says = "/*\n * Ownership:  x\n * Threads:  x\n * Errors:  x\n */\n"
    body = "void\nf(void)\n{\n" + "    g();\n" * 99 + "}\n"
    ok(tidy_findings("src/base/a.c", good) == set(), "a good file passes")
    ok(tidy_findings("src/base/a.c", "int x;\n") == {"C files open with SPDX line and file comment"},
       "a missing SPDX line is found")
    ok(tidy_findings("src/base/b.c", good) == {"C files open with SPDX line and file comment"},
       "a file comment of another file is found")
    ok(tidy_findings("src/base/a.c", good + "/* " + "x" * 98 + "\n")
       == {"lines are at most 100 columns"}, "a long line is found")
    ok(tidy_findings("src/base/a.c", good + "int x;\n" * 800) == {"files are at most 800 lines"},
       "a long file is found")
    ok(tidy_findings("src/base/a.c", good + body) == {"functions are at most 100 lines"},
       "a long function is found")
    ok(tidy_findings("src/base/a.h", header) == {"headers say Ownership, Threads, Errors"},
       "a header without its lines is found")
    ok(tidy_findings("src/base/a.h", header + says) == set(), "a header with them passes")
    ok(tidy_findings("src/base/a.c", good + "/* TO" "DO */\n") == {"no marks of unfinished work"},
       "a mark of unfinished work is found")
    ok(tidy_findings("tools/a", '#!/bin/sh\necho "/ho' 'me/me"\n')
       == {"no paths of one machine", "scripts have an SPDX line"}, "paths of one machine are found")
    ok(tidy_findings("src/base/a.c", good + "int x; \n") == {"no spaces at the end of lines"},
       "a space at the end is found")


test_layers()
test_tidy()
print(f"1..{len(results)}")
sys.exit(0 if all(results) else 1)
