#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The pages about the file formats are true: their own program, a second reader of the format, says
# so. It prints TAP itself.
set -eu
worked=docs/formats/worked.py
if ! [ -f "$worked" ]; then
    echo "1..0 # SKIP $worked is not there"
    exit 77
fi
exec python3 "$worked" "${DORMOUSE:-build/dormouse}"
