# SPDX-License-Identifier: Apache-2.0
"""working_sets.py - writes the file that wakes would have left, by docs/formats/working-set.md alone."""
import ctypes
import pathlib
import struct

from cli import says

try:
    xxhash = ctypes.CDLL("libxxhash.so.0")
    xxhash.XXH3_64bits.restype = ctypes.c_uint64
    xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
except OSError:
    xxhash = None


def xxh3(text):
    return xxhash.XXH3_64bits(text, len(text))


def teach(store, name, page_count, wakes, windows):
    """Write the working set of snapshot NAME of PAGE_COUNT pages: (window, mask, rank, history) each."""
    after, gaps = 0, []
    for window, *_ in windows:
        gaps.append(window - after)
        after = window + 1
    body = bytes([wakes, len(windows), *gaps]) + b"".join(struct.pack("<H", row[1]) for row in windows)
    body += bytes([1] * len(windows)) + bytes(row[2] for row in windows)
    body += b"".join(bytes([row[3]]) * bin(row[1]).count("1") for row in windows)
    snapshot_id = says(f"show {name}", "show", name, store=store)["id"]
    uuid = (pathlib.Path(store) / f"snap.{snapshot_id:016x}").read_bytes()[8:24]
    head = struct.pack("<8s16sIIQQII", b"DORWSET1", uuid, 0, len(body), snapshot_id, page_count, len(body), 0)
    path = pathlib.Path(store) / f"wset.{snapshot_id:016x}"
    path.write_bytes(head + struct.pack("<Q", xxh3(head) ^ xxh3(body)) + body)
    return path
