#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A table that is kept answers sooner after a start than Redis does: from its log, and from a snapshot, of which it needs no
more than the pages that are asked for.

Each server is filled, killed, and started again in the same folder; what is told is the time from its start to the first
answer, about a random key. Redis has its append-only file and, as a snapshot, its RDB file; both were just written, so nothing comes from
the disk. A second snapshot, of a table in which a hundredth has changed, tells what sharing is worth.
"""
import signal
import subprocess
import time

import common
import table_peers

KEYS = 900_000
VALUE_BYTES = 200
ROUNDS = 3


class Kept:
    """A server whose folder outlives it."""

    def begin(self):
        self.kept = self.bench.folder(f"kept-{self.name}")

    def start(self):
        """A start, and the time to the first answer."""
        self.folder = self.kept
        self.port = table_peers.free_port()
        words = [str(word) for word in self.command()]
        begin = time.monotonic()
        self.process = subprocess.Popen(
            words, cwd=self.folder, env=self.bench.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while True:
            try:
                with self.wire() as wire:
                    return wire, wire.call(*self.question), time.monotonic() - begin
            except (OSError, common.Failed):
                if time.monotonic() - begin > 120:
                    raise
                time.sleep(0.001)

    def kill(self):
        for pid in table_peers.tasks_of(self.process.pid)[::-1]:
            subprocess.run(["kill", "-9", str(pid)], check=False)
        self.process.wait()


class Ours(Kept, table_peers.Ours):
    question = ("RANDOMKEY",)

    def command(self):
        tenants = self.folder / "tenants.json"
        if not tenants.exists():
            common.output_of([self.program, "tenant", "add", "default", "log=everysec", "--no-password",
                              "--tenants", tenants])
        return [*super().command(), "--tenants", tenants, "--dir", self.folder / "tables"]

    def save(self):
        with self.wire() as wire:
            before = wire.call("LASTSAVE")
            time.sleep(1.1)  # it counts in seconds
            wire.call("BGSAVE")
            while wire.call("LASTSAVE") == before:
                time.sleep(0.05)

    def stored_bytes(self):
        return common.folder_bytes(self.folder / "tables/store")


class Redis(Kept, table_peers.Redis):
    question = ("RANDOMKEY",)

    def __init__(self, bench, aof):
        super().__init__(bench)
        self.aof = aof
        self.name = "redis AOF" if aof else "redis RDB"

    def command(self):
        words = super().command()
        words[words.index("no")] = "yes" if self.aof else "no"
        # Without a rewrite the file is what a log is: one entry a change.
        return [*words, "--aof-use-rdb-preamble", "no", "--auto-aof-rewrite-percentage", "0"]

    def save(self):
        with self.wire() as wire:
            wire.call("SAVE")


def restarts(server, keys):
    """Seconds to the first answer after each of some kills."""
    seconds = []
    for _ in range(ROUNDS):
        server.kill()
        _, key, took = server.start()
        with server.wire() as wire:
            count = wire.call("DBSIZE")
        if key is None or count != keys:
            raise common.Failed(server.name, 1, f"{count} of {keys} keys came back")
        seconds.append(took)
    return seconds


def fill(bench, server, keys):
    server.begin()
    server.start()
    table_peers.fill(bench, server, keys, VALUE_BYTES, shape="long")
    time.sleep(1.5)


def compare(bench, what, mine, theirs, peer):
    one, other = common.median(mine), common.median(theirs) if theirs else None
    spread = f"{min(mine):.2f} to {max(mine):.2f} s"
    if other is None:
        bench.row(what, f"{one:.2f} s", n=len(mine), spread=spread)
    else:
        bench.row(what, f"{one:.2f} s", peer, f"{other:.2f} s", one / other, ("<=", 1), n=len(mine), spread=spread)


def main():
    with common.Bench(__file__, __doc__) as bench:
        ours, aof, rdb = Ours(bench), Redis(bench, True), Redis(bench, False)
        able = bench.use([ours, aof, rdb])
        if ours not in able:
            return
        keys = KEYS // (10 if bench.quick else 1)
        running = []
        try:
            for server in able:
                fill(bench, server, keys)
                running.append(server)
            mine = restarts(ours, keys)
            bench.row("changes replayed a second", f"{keys / common.median(mine) / 1e6:.2f} M", n=ROUNDS)
            compare(bench, "first answer from the log", mine, restarts(aof, keys) if aof in able else None, aof.name)
            ours.save()
            first = ours.stored_bytes()
            if rdb in able:
                rdb.save()
            compare(bench, "first answer from a snapshot", restarts(ours, keys),
                    restarts(rdb, keys) if rdb in able else None, rdb.name)
            time.sleep(3)
            table_peers.load(bench, ours, ours.words("SET"), keys=keys // 100, value=VALUE_BYTES,
                             requests=keys // 100, order="sequential", pipeline=16, connections=1, shape="long")
            ours.save()
            second = ours.stored_bytes()
            bench.row("a second snapshot, a hundredth of the values set again, adds", f"{(second - first) / 1e6:.1f} MB",
                      "the first", f"{first / 1e6:.1f} MB", (second - first) / first, ("<=", 0.1))
        finally:
            for server in running:
                server.kill()


if __name__ == "__main__":
    main()
