# SPDX-License-Identifier: Apache-2.0
"""truth.py - what a guest's own kernel said about its memory (the file gt beside an image, whose format is in
tools/guest/record.c), and how far an inspection agrees with it.
"""
import collections
import csv
import struct

# Bits of /proc/kpageflags.
DIRTY, LRU, SLAB, BUDDY, ANON, SWAPBACKED, TAIL, NOPAGE, PGTABLE, RESERVED = 4, 5, 7, 10, 12, 14, 16, 20, 26, 32

# Classes of ours that each of the kernel's may be. It calls kernel text and data of the image and the array
# of pages reserved; flags neither pages on the lists of a processor, which are free, nor upper page tables.
FITS = {
    "reserved": {"reserved", "kernel_text", "kernel_data"},
    "none": {"kernel_data", "free", "page_table"},
    "nopage": {"reserved"},
}


class Truth:
    def __init__(self, path):
        data = path.read_bytes()
        magic, pages, flags, count, text, text_bytes, self.agent, self.function = struct.unpack_from("<8s7Q", data, 4096)
        assert magic == b"DMGT0001", path
        self.mapped = None
        self.flags = struct.unpack_from(f"<{pages}Q", data, flags)
        self.processes = {}
        process = None
        for line in data[text:text + text_bytes].decode("latin1").split("\n"):
            kind, _, rest = line.partition(" ")
            if kind == "PID":
                pid, _, name = rest.partition(" ")
                process = self.processes[int(pid)] = Process(name)
            elif kind == "M":
                process.add_mapping(rest)
            elif kind == "P":
                address, pfn = (int(word, 16) for word in rest.split())
                process.pages[address] = pfn
        self.processes = {pid: each for pid, each in self.processes.items() if each.mappings}

    def is_used(self, pfn):
        """Whether some process or the kernel had the page; of pages without any flag nothing is known."""
        if self.mapped is None:
            self.mapped = {page for process in self.processes.values() for page in process.pages.values()}
        flags = self.flags[pfn]
        return pfn in self.mapped or any(flags >> bit & 1 for bit in (LRU, SLAB, ANON, TAIL, PGTABLE, RESERVED))

    def classes(self):
        head = 0
        for pfn, flags in enumerate(self.flags):
            def has(bit, word=flags):
                return word >> bit & 1
            if not has(TAIL):
                head = pfn
            of_head = self.flags[head]
            if has(NOPAGE):
                yield "nopage"
            elif has(BUDDY):
                yield "free"
            elif has(RESERVED):
                yield "reserved"
            elif has(PGTABLE):
                yield "page_table"
            elif has(SLAB):
                yield "slab"
            elif has(ANON):
                yield "anon"
            elif has(LRU, of_head):
                yield ("shmem" if has(SWAPBACKED, of_head) else
                       "file_dirty" if has(DIRTY, of_head) else "file_clean")
            else:
                yield "none"

    def region_types(self, pid):
        """{pfn: region type} of the pages that the process has."""
        types = {}
        process = self.processes[pid]
        for address, pfn in process.pages.items():
            mapping = next((m for m in process.mappings if m[0] <= address < m[1]), None)
            if mapping:
                writes = mapping[2] & 2
                types[pfn] = "w_map" if writes or types.get(pfn) == "w_map" else "rx_map"
        return types


class Process:
    def __init__(self, name):
        self.name, self.mappings, self.pages = name, [], {}

    def add_mapping(self, line):
        words = line.split(None, 5)
        start, end = (int(word, 16) for word in words[0].split("-"))
        if end > 1 << 63:
            return
        rights = sum(bit for bit, letter in ((1, "r"), (2, "w"), (4, "x"), (8, "s")) if letter in words[1])
        path = words[5].removesuffix(" (deleted)") if len(words) > 5 else ""
        self.mappings.append((start, end, rights, path.rsplit("/", 1)[-1] if path.startswith("/") else None))


def last_part(name):
    """Shared memory without a name of its own is called dev/zero inside the kernel, slash and all."""
    return name and name.rsplit("/", 1)[-1]


class Agreement:
    """Of an inspection: REPORT is what inspect --json printed, PAGES the path of its CSV."""

    def __init__(self, truth, report, pages):
        with open(pages, newline="") as file:
            rows = list(csv.DictReader(file))
        self.rows = {int(row["pfn"]): row for row in rows}
        self.count_classes(truth)
        self.count_regions(truth)
        self.count_processes(truth, report)

    def count_classes(self, truth):
        self.differences = collections.Counter()
        same = known = 0
        for pfn, theirs in enumerate(truth.classes()):
            if pfn not in self.rows:
                continue
            ours = self.rows[pfn]["class"]
            known += 1
            if ours in FITS.get(theirs, {theirs}):
                same += 1
            else:
                self.differences[theirs, ours] += 1
        self.classes = same / known if known else 0

    def count_regions(self, truth):
        self.regions = None
        if truth.function not in truth.processes:
            return
        types = truth.region_types(truth.function)
        same = sum(types.get(pfn, "nrt") == row["region_type"] for pfn, row in self.rows.items())
        self.regions = same / len(self.rows)

    def count_processes(self, truth, report):
        self.wrong_mappings, self.wrong_pages, self.page_total, self.mapping_total = [], [], 0, 0
        mapped = {pfn for process in truth.processes.values() for pfn in process.pages.values()}
        self.page_total = len(mapped)
        self.wrong_pages = [pfn for pfn in mapped if pfn in self.rows and not self.rows[pfn]["process"]]
        self.wrong_pages += [pfn for pfn, row in self.rows.items() if row["process"] and pfn not in mapped]
        ours = {process["pid"]: process for process in report["processes"]}
        for pid, process in truth.processes.items():
            self.mapping_total += len(process.mappings)
            if pid not in ours:
                self.wrong_mappings.append((pid, "is missing"))
                continue
            files = report["files"]
            found = {(m["start"], m["end"], m["flags"] & 15,
                      last_part(files[m["file"]]["name"]) if m["file"] is not None else None)
                     for m in ours[pid]["mappings"]}
            self.wrong_mappings += [(pid, m) for m in found ^ set(process.mappings)]
