#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""worked.py [DORMOUSE] - proves that the pages in this folder are true.

A second reader of the format, written from the pages and not from the program's source. It puts the
documented bytes together to a store, reads that, and has the program read it too; then it reads stores that
the program makes now. DORMOUSE is the program (default: $DORMOUSE, then build/dormouse). Prints TAP.
"""
import ctypes
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

PAGE = 4096
ZERO, RAW, PATCHED, REFERENCE = 0, 1, 2, 3
HERE = pathlib.Path(__file__).resolve().parent


class Bad(Exception):
    """The bytes are not what the pages say."""


def need(condition, words):
    if not condition:
        raise Bad(words)


# ---------------------------------------------------------------------- libraries for checksums and codecs


def library(name):
    try:
        return ctypes.CDLL(name)
    except OSError:
        print(f"1..0 # SKIP {name} is not installed")
        sys.exit(77)


XXHASH, ZSTD, LZ4 = library("libxxhash.so.0"), library("libzstd.so.1"), library("liblz4.so.1")
XXHASH.XXH3_64bits.restype = ctypes.c_uint64
XXHASH.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
ZSTD.ZSTD_decompress.restype = ctypes.c_size_t
ZSTD.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
LZ4.LZ4_decompress_safe.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]


def xxh3(data):
    return XXHASH.XXH3_64bits(bytes(data), len(data))


def page_digest(page):
    digest = xxh3(page)
    return (digest ^ digest >> 32) & 0xFFFFFFFF


def decode(codec, stored, plain_bytes):
    """store.md, "Codecs"."""
    out = ctypes.create_string_buffer(plain_bytes)
    if codec == 0:
        got, out = len(stored), ctypes.create_string_buffer(bytes(stored), max(len(stored), 1))
    elif codec == 1:
        data = b"\x28\xb5\x2f\xfd" + bytes(stored)
        got = ZSTD.ZSTD_decompress(out, plain_bytes, data, len(data))
    elif codec == 2:
        got = LZ4.LZ4_decompress_safe(bytes(stored), out, len(stored), plain_bytes)
    else:
        raise Bad(f"codec {codec} is not known")
    need(got == plain_bytes, f"codec {codec} does not give {plain_bytes} bytes")
    return out.raw[:plain_bytes]


class Reader:
    """Varints, strings and fixed numbers, one after another."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        need(self.left() >= count, "the bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                need(value < 1 << 64, "a varint is too large")
                return value
            shift += 7

    def zigzag(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def varints(self, count):
        return [self.varint() for _ in range(count)]

    def string(self):
        return self.take(self.varint()).decode()

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]


# ---------------------------------------------------------------------- store.md: the catalog


def parse_put_result(reader):
    """store.md, "Put result": bytes by kind, for the region types that have any."""
    result = {"added_bytes": reader.varint()}
    mask = reader.varint()
    for region_type in range(3):
        if mask & 1 << region_type:
            result[region_type] = reader.varints(8)
    mask = reader.varint()
    result["classes"] = {number: reader.varint() for number in range(13) if mask & 1 << number}
    return result


def catalog_body(data):
    magic, version, codec, stored, plain, digest = struct.unpack_from("<8sIIQQQ", data)
    need(magic == b"DORMOUSE" and version == 1, "not a catalog of version 1")
    need(len(data) == 40 + stored, "the catalog's length is wrong")
    need(digest == xxh3(data[:32]) ^ xxh3(data[40:]), "the catalog's checksum is wrong")
    return decode(codec, data[40:], plain)


def parse_catalog(data):
    reader = Reader(catalog_body(data))
    catalog = {"uuid": reader.take(16)}
    catalog["generation"], catalog["next_snapshot"], catalog["next_segment"] = reader.varints(3)
    catalog["options"] = [(reader.string(), reader.string()) for _ in range(reader.varint())]
    catalog["domains"] = [(reader.string(), reader.varints(6)) for _ in range(reader.varint())]
    catalog["segments"] = []
    for _ in range(reader.varint()):
        names = ("id", "domain", "stream", "squeezed", "first_serial", "serials", "size_bytes", "pages", "frames")
        segment = dict(zip(names, reader.varints(9)))
        segment["frames"] = [tuple(reader.varints(2)) for _ in range(segment["frames"])]
        catalog["segments"].append(segment)
    catalog["snapshots"] = []
    for _ in range(reader.varint()):
        snapshot = {"name": reader.string(), "domain": reader.varint(), "parent": reader.string()}
        for name in ("generation", "id", "created_ns", "logical_bytes", "recipe_bytes", "sidecars"):
            snapshot[name] = reader.varint()
        snapshot["put"] = parse_put_result(reader)
        catalog["snapshots"].append(snapshot)
    catalog["roots"] = []
    if reader.left():
        next_root, count = reader.varints(2)
        for _ in range(count):
            root = {"id": reader.varint(), **parse_root_info(reader), "file_bytes": reader.varint()}
            need(0 < root["id"] < next_root, "a root image's id makes no sense")
            catalog["roots"].append(root)
    need(reader.left() == 0, "bytes are left over in the catalog")
    order = [(s["domain"], s["stream"], s["first_serial"]) for s in catalog["segments"]]
    need(order == sorted(order), "segments are not in order")
    return catalog


# ---------------------------------------------------------------------- working-set.md


def parse_working_set(data, uuid, snapshot_id, page_count):
    """The wakes it was learnt from, and the pages in the order of need."""
    magic, store, codec, stored, of, pages, plain, zero, digest = struct.unpack_from("<8s16sIIQQIIQ", data)
    need(magic == b"DORWSET1" and store == uuid, "not a working set of version 1 of this store")
    need((of, pages, zero) == (snapshot_id, page_count, 0) and len(data) == 64 + stored, "not of this snapshot")
    need(digest == xxh3(data[:56]) ^ xxh3(data[64:]), "a working set's checksum is wrong")
    reader = Reader(decode(codec, data[64:], plain))
    wakes, count = reader.varints(2)
    windows, after = [], 0
    for gap in reader.varints(count):
        windows.append(after + gap)
        after = windows[-1] + 1
    masks = [struct.unpack("<H", reader.take(2))[0] for _ in windows]
    ranks = [sorted(reader.take(n)) for n in list(reader.take(count))]
    needed = []
    for window, mask, rank in zip(windows, masks, ranks):
        for page in (16 * window + i for i in range(16) if mask >> i & 1):
            history = reader.take(1)[0]
            seen, had = history.bit_length() - 1, bin(history).count("1") - 1
            need(had > 0 and page < page_count, "a page that no wake needed")
            if 3 * had >= seen:
                needed.append((rank[(len(rank) - 1) // 2], page))
    need(reader.left() == 0, "bytes are left over in a working set")
    return wakes, [page for _, page in sorted(needed)]


# ---------------------------------------------------------------------- root.md


def parse_root_info(reader):
    info = {"name": reader.string(), "path": reader.string(), "domain": reader.string()}
    info["size_bytes"], info["modified_ns"], info["added_ns"] = reader.varints(3)
    info["digest"] = reader.u64()
    return info


def parse_root(data, uuid):
    """What the catalog has of a root image, and the digests of its blocks."""
    magic, store, codec, root_id, stored, plain, blocks, digest = struct.unpack_from("<8s16sIIQQQQ", data)
    need(magic == b"DORROOT1" and store == uuid, "not a root file of version 1 of this store")
    need(len(data) == 64 + stored, "a root file's length is wrong")
    need(digest == xxh3(data[:56]) ^ xxh3(data[64:]), "a root file's checksum is wrong")
    reader = Reader(decode(codec, data[64:], plain))
    info = {"id": root_id, **parse_root_info(reader), "file_bytes": len(data)}
    need(blocks == info["size_bytes"] // PAGE, "blocks and bytes do not agree")
    digests = reader.take(8 * blocks)
    need(reader.left() == 0, "bytes are left over in a root file")
    need(xxh3(digests) == info["digest"], "the digests of a root image do not add up")
    return info, struct.unpack(f"<{blocks}Q", digests)


def read_root(folder, catalog, entry):
    """The blocks of a root image, verified."""
    info, digests = parse_root((folder / f"root.{entry['id']:08x}").read_bytes(), catalog["uuid"])
    need(info == entry, "catalog and root file do not agree")
    status = os.stat(entry["path"])
    need((status.st_size, status.st_mtime_ns) == (entry["size_bytes"], entry["modified_ns"]), "a root image changed")
    image = pathlib.Path(entry["path"]).read_bytes()
    blocks = [image[i * PAGE : i * PAGE + PAGE] for i in range(len(digests))]
    need([xxh3(block) for block in blocks] == list(digests), "a block does not match its digest")
    return blocks


# ---------------------------------------------------------------------- segment.md


def parse_frame(data, at, size, patches):
    """Groups and pages that one frame describes, as lists of dicts; offsets are those in the file."""
    frame = data[at : at + size]
    magic, version, kind, codec, group_count, page_count, before, stored, plain, numbers, zero, digest = (
        struct.unpack_from("<4sBBHIIQIIIIQ", frame)
    )
    need(magic == b"DFRM" and version == 1, "not a frame of version 1")
    need(kind == patches and zero == 0 and size == 48 + stored + numbers, "a frame's header is wrong")
    need(digest == xxh3(frame[:40]) ^ xxh3(frame[48:]), "a frame's checksum is wrong")
    columns = Reader(decode(codec, frame[48 : 48 + stored], plain))
    numbers = Reader(frame[48 + stored :])
    gaps, sizes, counts, codecs = (columns.varints(group_count) for _ in range(4))
    slides = columns.varints(group_count) if patches else [0] * group_count
    need(sum(counts) == page_count, "a frame's groups do not hold its pages")
    serial_gaps = columns.varints(page_count)
    if patches:
        patch_bytes = columns.varints(page_count)
        base_steps = [columns.zigzag() for _ in range(page_count)]
    else:
        chunk_pages = columns.varints(page_count)
        fingerprint_counts = [columns.varint() if pages else 0 for pages in chunk_pages]
    need(columns.left() == 0, "bytes are left over in a frame's columns")
    groups, pages, end, base, serial = [], [], 0, 0, before
    for i in range(group_count):
        offset = end + gaps[i]
        end = offset + sizes[i]
        group = {"offset": offset, "stored_bytes": sizes[i], "codec": codecs[i], "slides": slides[i]}
        group["digest"], plain_at = numbers.u64(), 0
        for _ in range(counts[i]):
            n = len(pages)
            serial += serial_gaps[n] + 1
            page = {"serial": serial, "group": group, "offset": plain_at, "bytes": PAGE}
            if patches:
                base += base_steps[n] + 1
                page.update(base=base, bytes=patch_bytes[n])
            plain_at += page["bytes"]
            pages.append(page)
        group["plain_bytes"] = plain_at
        groups.append(group)
    need(end <= at, "a frame stands before its groups")
    for page in pages:
        page["digest"] = numbers.u32()
    if not patches:
        for count in fingerprint_counts:
            numbers.take(4 * count)
    tables = []
    while patches and numbers.left():
        tables.append([numbers.u64() for _ in range(numbers.u32())])
    need(numbers.left() == 0, "bytes are left over in a frame's numbers")
    for group in groups:
        group["slide_table"] = tables[group["slides"] - 1] if group["slides"] else []
    return pages


def read_segment(folder, catalog, entry):
    """Pages of a segment by serial number, each with its decoded bytes."""
    data = (folder / f"seg.{entry['id']:08x}").read_bytes()[: entry["size_bytes"]]
    magic, number, stream, uuid, domain, digest = struct.unpack_from("<8sII16sQQ", data)
    need(magic == b"DORSEGM1", "not a segment of version 1")
    need((number, stream, uuid) == (entry["id"], entry["stream"], catalog["uuid"]), "a segment's header is wrong")
    need(domain == xxh3(catalog["domains"][entry["domain"]][0].encode()), "a segment is of another domain")
    need(digest == xxh3(data[:40]), "a segment's checksum is wrong")
    pages = {}
    for at, size in entry["frames"]:
        for page in parse_frame(data, at, size, stream % 2):
            group = page["group"]
            if "plain" not in group:
                stored = data[group["offset"] : group["offset"] + group["stored_bytes"]]
                need(xxh3(stored) == group["digest"], "a group's checksum is wrong")
                group["plain"] = decode(group["codec"], stored, group["plain_bytes"])
            page["data"] = group["plain"][page["offset"] : page["offset"] + page["bytes"]]
            need(page["serial"] not in pages, "a serial number comes twice")
            pages[page["serial"]] = page
    need(len(pages) == entry["pages"], "a segment does not hold the pages that the catalog says")
    last = entry["first_serial"] + entry["serials"]
    need(all(entry["first_serial"] <= serial < last for serial in pages), "a serial number is out of range")
    return pages


# ---------------------------------------------------------------------- patch.md

WORD = (1 << 64) - 1


def apply_words(patch, base, slides):
    target = list(struct.unpack("<512Q", base))
    lines = [line for line in range(64) if struct.unpack_from("<Q", patch, 1)[0] >> line & 1]
    masks = patch[9 : 9 + len(lines)]
    words = [line * 8 + w for line, mask in zip(lines, masks) for w in range(8) if mask >> w & 1]
    ops = patch[9 + len(lines) : 9 + len(lines) + len(words)]
    literals = Reader(patch[9 + len(lines) + len(words) :])
    recent = [0, 0, 0]
    for at, op in zip(words, ops):
        b = target[at]
        if op <= 2:
            recent.insert(0, recent.pop(op))
            target[at] = b + recent[0] & WORD
            continue
        if op == 3:
            target[at] = b & ~0xFFFF | int.from_bytes(literals.take(2), "little")
            continue
        if op == 4:
            t = b & ~0xFFFFFFFF | literals.u32()
        elif op == 5:
            t = literals.u64()
        elif op == 6:
            t = b & 0xFFFFFFFF | literals.u32() << 32
        else:
            need(16 <= op < 16 + len(slides), f"op {op} is not known")
            t = b + slides[op - 16] & WORD
        target[at] = t
        recent = [t - b & WORD] + recent[:2]
    need(literals.left() == 0, "bytes are left over in a patch")
    return struct.pack("<512Q", *target)


def apply_copy(patch, base):
    reader, target = Reader(patch[1:]), b""
    while True:
        target += reader.take(reader.varint())
        if len(target) == PAGE:
            break
        count, here = reader.varint(), len(target)
        start = here + reader.zigzag()
        need(0 <= start and start + count <= PAGE, "a copy from outside the base")
        target += base[start : start + count]
        if len(target) >= PAGE:
            break
    need(len(target) == PAGE and reader.left() == 0, "a patch does not make one page")
    return target


def apply_patch(patch, base, slides):
    need(patch[:1] in (b"\1", b"\2"), "the patch codec is not known")
    return apply_words(patch, base, slides) if patch[0] == 1 else apply_copy(patch, base)


# ---------------------------------------------------------------------- snapshot.md


def parse_places(reader, page_count):
    """One (kind, region type, serial) a page; lanes 6 to 8 are references."""
    sizes = reader.varints(3)
    ops, lengths, jumps = (Reader(reader.take(size)) for size in sizes)
    places, cursors, latest = [], [], [0] * 9
    while len(places) < page_count:
        op, length = ops.varint(), lengths.varint()
        need(0 < length <= page_count - len(places), "a run makes no sense")
        if op == 0 or op > 9:
            places += [(ZERO, 0 if op == 0 else op - 10, 0)] * length
            continue
        if op == 9:
            coded, distance = jumps.varint(), jumps.varint()
            lane = coded >> 1
            serial = latest[lane] + (-distance if coded & 1 else distance)
        else:
            lane, serial = cursors.pop(op - 1)
            serial += 1
        kind, region_type = (RAW + lane % 2, lane // 2) if lane < 6 else (REFERENCE, lane - 6)
        places += [(kind, region_type, serial + i) for i in range(length)]
        latest[lane] = serial + length - 1
        cursors = [(lane, latest[lane])] + cursors[:7]
    need(not (ops.left() or lengths.left() or jumps.left()), "bytes are left over in the places")
    return places


def parse_snapshot(data, uuid):
    magic, store, codec, zero, stored, plain, pages, digest = struct.unpack_from("<8s16sIIQQQQ", data)
    need(magic == b"DORSNAP1" and zero == 0, "not a snapshot file of version 1")
    need(store == uuid, "a snapshot file is of another store")
    need(digest == xxh3(data[:56]) ^ xxh3(data[64 : 64 + stored]), "a snapshot's checksum is wrong")
    reader = Reader(decode(codec, data[64 : 64 + stored], plain))
    snapshot = {"name": reader.string(), "domain": reader.string(), "parent": reader.string()}
    snapshot["generation"], snapshot["id"], snapshot["created_ns"], snapshot["logical_bytes"] = reader.varints(4)
    need(snapshot["logical_bytes"] == pages * PAGE, "pages and bytes do not agree")
    snapshot["put"] = parse_put_result(reader)
    snapshot["sidecars"], snapshot["parts"], at = {}, {}, 64 + stored
    for _ in range(reader.varint()):
        name, plain_bytes, stored_bytes, blob_codec = reader.string(), *reader.varints(3)
        blob = data[at : at + stored_bytes]
        need(reader.u64() == xxh3(blob), "a sidecar's checksum is wrong")
        into = snapshot["parts" if name.startswith("/") else "sidecars"]
        need(name not in into, "two sidecars have one name")
        into[name] = decode(blob_codec, blob, plain_bytes)
        at += stored_bytes
    need(at == len(data), "the sidecars do not end with the file")
    need(len(snapshot["parts"].get("/classes", bytes(pages))) == pages, "there is not one class a page")
    snapshot["places"] = parse_places(reader, pages)
    need(reader.left() == 0, "bytes are left over in a snapshot's head")
    return snapshot


def read_store(folder):
    """All images and sidecars of a store, by name, every checksum and digest verified."""
    folder = pathlib.Path(folder)
    catalog = parse_catalog((folder / "catalog").read_bytes())
    stored = {}
    for entry in catalog["segments"]:
        for serial, page in read_segment(folder, catalog, entry).items():
            stored[entry["domain"], entry["stream"], serial] = page
    roots = {entry["id"]: read_root(folder, catalog, entry) for entry in catalog["roots"]}
    images = {}
    for entry in catalog["snapshots"]:
        snapshot = parse_snapshot((folder / f"snap.{entry['id']:016x}").read_bytes(), catalog["uuid"])
        same = ("name", "parent", "generation", "id", "created_ns", "logical_bytes", "put")
        snapshot["put"]["added_bytes"] += entry["recipe_bytes"]  # the file cannot count itself
        need(all(snapshot[key] == entry[key] for key in same), "catalog and snapshot file do not agree")
        image = []
        for kind, region_type, serial in snapshot["places"]:
            if kind == ZERO:
                image.append(bytes(PAGE))
                continue
            if kind == REFERENCE:
                image.append(roots[serial >> 32][serial & 0xFFFFFFFF])
                continue
            page = stored[entry["domain"], region_type * 2 + kind - 1, serial]
            data = page["data"]
            if kind == PATCHED:
                base = stored[entry["domain"], region_type * 2, page["base"]]
                need(page_digest(base["data"]) == base["digest"], "a base does not match its digest")
                data = apply_patch(data, base["data"], page["group"]["slide_table"])
            need(page_digest(data) == page["digest"], "a page does not match its digest")
            image.append(data)
        images[snapshot["name"]] = (b"".join(image), snapshot["sidecars"])
    return images


# ---------------------------------------------------------------------- frame.md


def parse_image_frame(data, row):
    """The files that frame and row make, {name: (mode, bytes)}, and the ranges."""
    magic, version, form, flags, pages, body_bytes, digest = struct.unpack_from("<8sIHHQQQ", data)
    body = data[40:]
    need(magic == b"DORFRAME" and version == 1, "not a frame of version 1")
    need(len(body) == body_bytes and digest == xxh3(data[:32]) ^ xxh3(body), "size or checksum is wrong")
    need(1 <= form <= 7 and flags <= 7 and len(row) == pages * PAGE, "format, flags or row are wrong")
    reader, files, ranges, sizes, page = Reader(body), {}, [], {}, 0
    name = None
    while value := reader.varint():
        op, number = value & 7, value >> 3
        need(number > 0 or op == 1, "an op of nothing")
        if op == 1:
            last, name = name, reader.take(number)
            need(last is None or last < name, "names are out of order")
            need(not {b"/", b"\0"} & set(name[i : i + 1] for i in range(number)), "a name with / or 0")
            need(bool(number) == flags & 1 and name not in (b".", b".."), "a name that is not allowed")
            files[name], sizes[name] = (reader.varint(), b""), reader.varint()
        elif op == 6:
            space, first = reader.varints(2)
            ranges.append((number, space, (first - 1) * PAGE if first else None))
        else:
            need(name is not None and 2 <= op <= 5 and not ranges, "content where none may be")
            page = reader.varint() if op == 5 else page
            content = {2: lambda: bytes(number), 3: lambda: reader.take(number)}.get(
                op, lambda: row[page * PAGE : (page + number) * PAGE])()
            need(len(content) == number * (PAGE if op > 3 else 1), "pages beyond the row")
            page += number if op > 3 else 0
            files[name] = (files[name][0], files[name][1] + content)
    need(reader.left() == 0 and sum(area[0] for area in ranges) == pages, "the end is wrong")
    need(all(len(content) == sizes[name] for name, (_, content) in files.items()), "a file's size is wrong")
    return files, ranges


# ---------------------------------------------------------------------- the example of the pages


def page_t():
    return b"".join(b"%08x\n" % (i * 2654435761 % 2**32) for i in range(456))[:PAGE]


def page_p():
    words = list(range(512))
    words[:8] = [0x7F1200001000 + 0x100 * i for i in range(8)]
    return struct.pack("<512Q", *words)


def page_t2():
    return page_t()[:1000] + b"inserted" + page_t()[1000:4088]


def page_p2():
    words = list(struct.unpack("<512Q", page_p()))
    for i in (0, 1, 4, 7):
        words[i] += 0x5000000
    words[2] = words[2] & ~0xFFFF | 0xBEEF
    words[3] = words[3] & ~0xFFFFFFFF | 0x12345678
    words[5] = words[5] & 0xFFFFFFFF | 1 << 32
    words[6] = 0x0123456789ABCDEF
    return struct.pack("<512Q", *words)


FIRST = bytes(PAGE) + page_t() + page_p() + bytes(PAGE)
SECOND = page_t() + page_t2() + bytes(22 * PAGE) + page_p2() + bytes(PAGE)
EXAMPLE = {"first": (FIRST, {"vmstate": b"device state"}), "second": (SECOND, {})}


def crc64(data):
    """Polynomial 0xad93d23594c935a9, bits reflected, begins at 0, not inverted."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def example_firecracker(path):
    path.mkdir()
    vmstate = struct.pack("<Q", 0x0710198486640000) + bytes(120)
    (path / "vmstate").write_bytes(vmstate + struct.pack("<Q", crc64(vmstate)))
    (path / "mem").write_bytes(page_t() + bytes(PAGE) + page_p())
    for file in path.iterdir():
        file.chmod(0o600)


def example_mapped_ram(path):
    """One block of RAM: three pages, of which the second became zero after it was written."""
    def name(text):
        return bytes([len(text)]) + text

    stream = b"QEVM\0\0\0\3\7\0\0\0\7microvm\5" + name(b"configuration/capabilities")
    stream += struct.pack(">II", 1, 1) + name(b"mapped-ram")
    stream += b"\1" + struct.pack(">I", 2) + name(b"ram") + struct.pack(">IIQ", 0, 4, 3 * PAGE | 4)
    stream += name(b"ram") + struct.pack(">Q", 3 * PAGE)
    stream += struct.pack(">IQQQ", 1, PAGE, len(stream) + 28, PAGE) + struct.pack("<Q", 0b101)
    pages = page_t() + b"old data".ljust(PAGE, b"\0") + page_p()
    path.write_bytes(stream.ljust(PAGE, b"\0") + pages + b"devices")
    path.chmod(0o600)


EXAMPLE_ROW = page_t() + bytes(PAGE) + page_p()
EXAMPLE_IMAGES = {"firecracker": example_firecracker, "mapped-ram": example_mapped_ram}


def documented_frames():
    """The blocks of frame.md: {"firecracker": bytes}."""
    frames = {}
    text = (HERE / "frame.md").read_text()
    for name, block in re.findall(r"<!-- frame: ([^>]*?) -->\n+```text\n(.*?)```", text, re.S):
        data = b""
        for line in block.splitlines():
            offset, there = line.split(";")[0].split(None, 1)
            need(int(offset, 16) == len(data), f"{name}: a gap at {offset}")
            data += bytes.fromhex(there)
        frames[name] = data
    return frames


def documented_bytes():
    """The blocks of the pages by file: {"catalog": {offset: byte}}. Blocks may repeat bytes, not contradict."""
    files = {}
    for page in sorted(HERE.glob("*.md")):
        for name, block in re.findall(r"<!-- bytes: ([^>]*?) -->\n+```text\n(.*?)```", page.read_text(), re.S):
            into = files.setdefault(name, {})
            for line in block.splitlines():
                offset, text = line.split(";")[0].split(None, 1)
                data = {"[T]": page_t(), "[P]": page_p()}.get(text.strip())
                data = bytes.fromhex(text) if data is None else data
                for i, byte in enumerate(data, int(offset, 16)):
                    need(into.setdefault(i, byte) == byte, f"{page.name}: {name}: two values at {i:#x}")
    for name, content in files.items():
        need(sorted(content) == list(range(len(content))), f"{name}: the blocks leave gaps")
    return {name: bytes(content[i] for i in range(len(content))) for name, content in files.items()}


# ---------------------------------------------------------------------- checks

count = failures = 0


def ok(condition, name, words=""):
    global count, failures
    count += 1
    failures += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {name}")
    if not condition and words:
        print("# " + str(words).replace("\n", "\n# "))


def holds(name, check, *args):
    """Run a check that raises when something is wrong."""
    try:
        check(*args)
        ok(True, name)
    except (Bad, KeyError, IndexError, OSError, ValueError, struct.error) as error:
        ok(False, name, f"{type(error).__name__}: {error}")


class Program:
    def __init__(self, path):
        self.path = os.path.abspath(path)

    def run(self, store, *args):
        command = [self.path, "--store", str(store), "--quiet", *map(str, args)]
        environment = {**os.environ, "DOR_LOG": "error"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    def must(self, store, *args):
        done = self.run(store, *args)
        need(done.returncode == 0, f"{' '.join(map(str, args))}: exit code {done.returncode}: {done.stderr}")

    def make_example(self, folder):
        (folder / "first.mem").write_bytes(FIRST)
        (folder / "second.mem").write_bytes(SECOND)
        (folder / "vmstate").write_bytes(b"device state")
        store = folder / "example"
        self.must(store, "init", "--option", "codec=none")
        self.must(store, "put", "first", folder / "first.mem", "--sidecar", folder / "vmstate")
        self.must(store, "put", "second", folder / "second.mem", "--parent", "first")
        return store


def same_images(store, images):
    found = read_store(store)
    need(found.keys() == images.keys(), f"snapshots {sorted(found)}")
    for name, image in images.items():
        need(found[name] == image, f"{name} differs")


def check_documented(program, folder):
    files = documented_bytes()
    store = folder / "documented"
    store.mkdir()
    body = files.pop("catalog body")
    check_documented_root(files.pop("root.00000001"))
    places = Reader(files.pop("places"))
    holds("the documented places are runs of references", lambda: need(
        parse_places(places, 5) == [(RAW, 0, 1)] + [(REFERENCE, 0, 1 << 32 | block) for block in (0, 1, 2, 2)],
        "they are not"))
    for name, data in files.items():
        (store / name).write_bytes(data)
    need(set(files) == {"catalog", "seg.00000001", "seg.00000002", "snap.0000000000000001", "snap.0000000000000002",
                        "wset.0000000000000001"},
         f"the pages document {sorted(files)}")
    holds("the documented body of the catalog is what its stored bytes decode to", lambda: need(
        catalog_body(files["catalog"]) == body, "they differ"))
    holds("the documented bytes are a store with the two images", same_images, store, EXAMPLE)
    holds("the program finds nothing wrong with them", program.must, store, "check")
    check_documented_set(program, store, files["wset.0000000000000001"])
    for name, (image, _) in EXAMPLE.items():
        out = folder / f"{name}.out"
        holds(f"the program gets {name} back from them", program.must, store, "get", name, "-o", out)
        ok(out.exists() and out.read_bytes() == image, f"{name} is the image that was put")


def check_documented_set(program, store, data):
    holds("the documented working set has the pages T and P", lambda: need(
        parse_working_set(data, data[8:24], 1, 4) == (2, [1, 2]), "it has not"))
    said = json.loads(program.run(store, "--json", "working-set", "show", "first").stdout)
    ok((said["wakes"], said["runs"]) == (2, [[1, 2]]), "the program says the same", said)


def check_documented_root(data):
    info, digests = parse_root(data, data[8:24])
    need((info["name"], info["path"], info["size_bytes"]) == ("disk", "/srv/disk.img", 3 * PAGE), info)
    ok(digests == (xxh3(page_t()), xxh3(bytes(PAGE)), xxh3(page_p())),
       "the documented root file has the digests of the image's blocks")


def check_roots(program, folder):
    """References to two root images, in two domains, and what is left of them after --absorb."""
    rng, store = random.Random(9), folder / "rooted"
    files = [folder / "disk.img", folder / "tools.img"]
    contents = [random_image(rng, 60), random_image(rng, 40)]
    for file, content in zip(files, contents):
        file.write_bytes(content + b"no whole block")
    program.must(store, "init")
    program.must(store, "root", "add", files[0])
    program.must(store, "root", "add", files[1], "--name", "tools", "--domain", "other")
    image = contents[0][PAGE * 5 : PAGE * 30] + random_image(rng, 10) + contents[1] + bytes(3 * PAGE)
    (folder / "image").write_bytes(image)
    images = {name: (image, {}) for name in ("default", "other")}
    for name in images:
        program.must(store, "put", name, folder / "image", "--domain", name)
    holds("a store with root images reads as the pages say", same_images, store, images)
    catalog = parse_catalog((store / "catalog").read_bytes())
    kinds = [[place[0] for place in parse_snapshot((store / f"snap.{entry['id']:016x}").read_bytes(), catalog["uuid"])
              ["places"]] for entry in catalog["snapshots"]]
    ok([of.count(REFERENCE) > 10 for of in kinds] == [True, True] and kinds[0].count(REFERENCE) <
       kinds[1].count(REFERENCE), "it holds references, to the second image from one domain only", kinds)
    for name in ("disk.img", "tools"):
        program.must(store, "root", "rm", name, "--absorb")
    for file in files:
        file.unlink()
    holds("the same after root rm --absorb, without the images", same_images, store, images)


def files_of(path):
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return {(file.name if path.is_dir() else "").encode(): (file.stat().st_mode & 0o777, file.read_bytes())
            for file in paths}


def check_frames(folder, reframe):
    """The documented frames make the example images, and the program makes these frames of them."""
    frames = documented_frames()
    need(frames.keys() == EXAMPLE_IMAGES.keys(), f"the page documents {sorted(frames)}")
    for name, make in EXAMPLE_IMAGES.items():
        image, out = folder / name, folder / f"{name}.again"
        make(image)
        files, ranges = parse_image_frame(frames[name], EXAMPLE_ROW)
        ok(files == files_of(image), f"the documented {name} frame and the row are the image")
        ok(ranges == [(3, 0, 0)], f"the documented {name} frame tells the addresses")
        if not os.access(reframe, os.X_OK):
            ok(True, f"the program makes the {name} frame # SKIP {reframe} is not built")
            continue
        row, frame = folder / f"{name}.row", folder / f"{name}.frame"
        command = [reframe, str(image), str(out), str(row), str(frame)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        need(done.returncode == 0, done.stderr)
        ok(row.read_bytes() == EXAMPLE_ROW, f"the program reads the row of {name}")
        ok(frame.read_bytes() == frames[name], f"the program makes the documented {name} frame")
        ok(files_of(out) == files_of(image), f"the program makes {name} of it again")


def mutate(rng, image, pages):
    image = bytearray(image)
    for page in rng.sample(range(len(image) // PAGE), pages):
        for _ in range(rng.choice((1, 3, 20))):
            at = page * PAGE + 8 * rng.randrange(512)
            image[at : at + 8] = rng.choice((rng.randbytes(8), bytes(8), rng.randbytes(2) + image[at + 2 : at + 8]))
        if rng.random() < 0.3:
            start = page * PAGE + rng.randrange(3000)
            image[start : (page + 1) * PAGE] = (rng.randbytes(8) + image[start : (page + 1) * PAGE])[
                : (page + 1) * PAGE - start]
    return bytes(image)


def slid(image, by):
    """The image with its pointers moved by BY, as address-space randomisation does."""
    words = list(struct.unpack(f"<{len(image) // 8}Q", image))
    return struct.pack(f"<{len(words)}Q", *(w + by if w >> 40 == 0x7F else w for w in words))


def random_image(rng, pages):
    image = b""
    for _ in range(pages):
        kind = rng.randrange(4)
        if kind == 0:
            image += bytes(PAGE)
        elif kind == 1:
            image += rng.randbytes(PAGE)
        elif kind == 2:
            image += b"".join(rng.randrange(1000).to_bytes(8, "little") for _ in range(512))
        else:
            image += struct.pack("<512Q", *(0x7F0000000000 + rng.randrange(1 << 36) * 16 if rng.random() < 0.2
                                            else rng.randrange(1 << 16) for _ in range(512)))
    return image


def check_larger(program, folder, codec):
    """Generations, slides, two domains, more frames than a segment keeps, gc, squeeze."""
    rng, store, images = random.Random(7), folder / f"larger-{codec}", {}
    program.must(store, "init", "--option", f"codec={codec}", "--option", "rx_map_group_pages=8")
    image, file = random_image(rng, 200), folder / "image"
    for i in range(20):
        image = slid(image, 0x2000000) if i % 5 == 4 else mutate(rng, image, 20)
        for domain in ("default", "other") if i == 3 else ("default",):
            name = f"{domain}-{i}"
            file.write_bytes(image)
            side = folder / "state"
            side.write_bytes(b"state " * i)
            program.must(store, "put", name, file, "--domain", domain, "--sidecar", side)
            images[name] = (image, {"state": b"state " * i})
    holds(f"a store of generations, packed with {codec}, reads as the pages say", same_images, store, images)
    patches = [p for e in parse_catalog((store / "catalog").read_bytes())["segments"] if e["stream"] == 1
               for p in read_segment(store, parse_catalog((store / "catalog").read_bytes()), e).values()]
    ok({p["data"][0] for p in patches} == {1, 2} and any(p["group"]["slides"] for p in patches),
       "it holds patches of both codecs and slides")
    for name in list(images)[:12:2]:
        program.must(store, "rm", name)
        del images[name]
    program.must(store, "gc")
    holds("the same after rm and gc", same_images, store, images)
    program.must(store, "gc", "--squeeze", "--older-than", "0")
    holds("the same after gc --squeeze", same_images, store, images)


def check_versions(program, folder, store):
    """The byte that holds each version, and what the program says to another one."""
    seg = parse_catalog((store / "catalog").read_bytes())["segments"][0]
    name = f"seg.{seg['id']:08x}"
    for what, file, at, value in (("catalog", "catalog", 8, 2), ("segment", name, 7, ord("2")),
                                  ("frame", name, seg["frames"][0][0] + 4, 2),
                                  ("snapshot", "snap.0000000000000001", 7, ord("2"))):
        copy = folder / f"version-{what}"
        shutil.copytree(store, copy)
        data = bytearray((copy / file).read_bytes())
        data[at] = value
        (copy / file).write_bytes(data)
        done = program.run(copy, "get", "first", "-o", folder / "no.out")
        named = re.search(r"version '?2\b", done.stderr)
        ok(done.returncode == 11 and named, f"{what} of version 2: refused by name, exit code 11",
           f"{done.returncode}: {done.stderr}")
        data[at] = (store / file).read_bytes()[at]
        data[at + 12] ^= 0x40
        (copy / file).write_bytes(data)
        done = program.run(copy, "get", "first", "-o", folder / "no.out")
        ok(done.returncode == 4 and not (folder / "no.out").exists(), f"{what} with a flipped bit: exit code 4",
           f"{done.returncode}: {done.stderr}")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DORMOUSE", "build/dormouse")
    program = Program(path)
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        holds("the pages' blocks make files", documented_bytes)
        reframe = os.environ.get("DOR_REFRAME", os.path.join(os.path.dirname(path), "tests/guest/reframe"))
        holds("frames", check_frames, folder, reframe)
        holds("the documented store", check_documented, program, folder)
        holds("the program makes the example", program.make_example, folder)
        holds("it reads as the pages say", same_images, folder / "example", EXAMPLE)
        for codec in ("zstd", "lz4", "none"):
            holds(f"a larger store, {codec}", check_larger, program, folder, codec)
        holds("root images", check_roots, program, folder)
        holds("versions and damage", check_versions, program, folder, folder / "example")
    print(f"1..{count}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
