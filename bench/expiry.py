"""A million keys expire at one moment while the cluster serves: what requests notice, and when space comes back (V7, V8).

    python -m bench.expiry [--keys 1000000] [--share 0.3] [--capacity REQUESTS/S] [--json FILE]

Beside keys that stay, so many are written with one expiry in common. At `share` of the capacity (as in bench/refill.py), open
loop, two reads to one write of keys that stay: some seconds before that moment, then until all have gone from every owner,
and once more when all is calm: where that differs much from before, it was the machine. Afterwards a round of repair compares all
replicas: it must find no difference.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import generator, report, servers
from bench.openloop import Bench
from bench.refill import BEFORE_S, CAPACITY_LIMIT_MS, Clock, Phase, info, load, table

STAYING = 100_000
VALUE = b"x" * 100
PIPELINE = 500
GONE_S_MAX = 900.0
NEARLY = 0.99
AFTER_S = 20.0
CALM_S = 30.0  # for the last flush and compactions
MEBIBYTE = 1024 * 1024


@dataclass
class Space:
    """Of all nodes together."""

    disk_mb: float
    memory_mb: float


@dataclass
class Expiry:
    keys: int
    capacity: float
    rate: float
    nearly_s: float  # from the moment of expiry until NEARLY all of them have gone from all owners
    seconds: float  # until none is left
    before: Phase
    expiring: Phase
    after: Phase
    space_before: Space
    space_after: Space
    differing: int  # keys, found by the round of repair


class Gone:
    """Over when all of them have gone."""

    def __init__(self, ports: list[int], keys: int, at_ms: int) -> None:
        self._ports = ports
        self._keys = keys
        self._at_ms = at_ms
        self.nearly_s: float | None = None
        self.gone_s: float | None = None

    def over(self) -> bool:
        passed_s = time.time() - self._at_ms / 1000
        reaped = sum(int(info(port).get("reaped", "0")) for port in self._ports)
        if passed_s > GONE_S_MAX:
            raise servers.BenchmarkError(f"{reaped:,} of {self._keys:,} gone after {GONE_S_MAX:.0f} s")
        if reaped >= NEARLY * self._keys:
            self.nearly_s = self.nearly_s or passed_s
        if reaped >= self._keys:
            self.gone_s = self.gone_s or passed_s
        return self.gone_s is not None


def write_expiring(port: int, keys: int, at_ms: int) -> None:
    """All of them expire at that moment, in wall milliseconds."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for batch in _batches(keys):
            commands = [generator.command(b"SET", b"e:%d" % i, VALUE, b"PXAT", b"%d" % at_ms) for i in batch]
            connection.sendall(b"".join(commands))
            answered = b""
            while answered.count(b"\n") < len(commands):
                received = connection.recv(65536)
                if not received or b"-" in received:
                    raise servers.BenchmarkError(f"SET: {received[:200]!r}")
                answered += received


def _batches(keys: int) -> Iterator[range]:
    for start in range(0, keys, PIPELINE):
        yield range(start, min(keys, start + PIPELINE))


def space(directory: Path, system: servers.System) -> Space:
    """Files of the data directories, and resident sets."""
    files = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return Space(files / MEBIBYTE, system.rss_bytes() / MEBIBYTE)


def run(directory: Path, keys: int, share: float, capacity: float | None, say: report.Say) -> Expiry:
    """The whole of it, on a cluster of its own."""
    with ExitStack() as stack:
        system = servers.ringwise(stack, directory / "expiry", "quorum")
        generator.preload(system.ports[0], STAYING, len(VALUE))
        bench = Bench(system, STAYING, len(VALUE), say)
        if capacity is None:
            best = bench.highest(CAPACITY_LIMIT_MS, 10.0)
            if best is None:
                raise servers.BenchmarkError("the cluster holds no rate")
            capacity = best.offered
        rate = capacity * share
        began = time.monotonic()
        far_ms = int(time.time() * 1000) + 3_600_000
        write_expiring(system.ports[0], PIPELINE * 20, far_ms)
        each_s = (time.monotonic() - began) / (PIPELINE * 20)
        at_ms = int(time.time() * 1000) + int(1000 * (2 * each_s * keys + 3 * BEFORE_S))
        write_expiring(system.ports[0], keys, at_ms)
        left_s = at_ms / 1000 - time.time()
        say(f"{keys:,} keys written, {left_s:.0f} s before they expire")
        if left_s < BEFORE_S + 2:
            raise servers.BenchmarkError("writing them took too long")
        time.sleep(left_s - BEFORE_S - 2)
        held = space(directory, system)
        before = load(bench, system.ports, rate, Clock(BEFORE_S))
        say(f"before: {before}")
        until = Gone(system.ports, keys, at_ms)
        expiring = load(bench, system.ports, rate, until)
        assert until.gone_s is not None and until.nearly_s is not None
        say(f"expiring: {expiring}")
        time.sleep(CALM_S)
        left = space(directory, system)
        after = load(bench, system.ports, rate, Clock(AFTER_S))
        say(f"after: {after}")
        seconds = until.nearly_s, until.gone_s
        return Expiry(keys, capacity, rate, *seconds, before, expiring, after, held, left, differing(system.ports[0]))


def differing(port: int) -> int:
    """Keys that a round of repair finds to differ."""
    was = info(port)
    servers.ask(port, "RW.REPAIR")
    while int(info(port)["repair_rounds"]) == int(was["repair_rounds"]):
        time.sleep(0.2)
    return int(info(port)["repair_differing"]) - int(was["repair_differing"])


def show(found: Expiry) -> str:
    was, now = found.space_before, found.space_after
    times = [found.expiring.p99_ms / phase.p99_ms for phase in (found.before, found.after)]
    return (
        f"{found.keys:,} keys that expired at one moment had gone from all owners {found.seconds:.0f} s later ({NEARLY:.0%} of "
        f"them {found.nearly_s:.0f} s later), at {found.rate:,.0f} requests/s ({found.rate / found.capacity:.0%} of "
        f"{found.capacity:,.0f}); p99 {times[0]:.1f} times that before, {times[1]:.1f} times that afterwards; disk "
        f"{was.disk_mb:,.0f} MB before, {now.disk_mb:,.0f} MB after, memory {was.memory_mb:,.0f} MB and {now.memory_mb:,.0f} MB; "
        f"{found.differing} keys differ afterwards\n\n"
        f"{table({'before': found.before, 'while they expire and go': found.expiring, 'afterwards': found.after})}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.expiry", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--capacity", type=float, help="requests a second, where it was measured before")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="ringwise-bench-") as directory:
            found = run(Path(directory), given.keys, given.share, given.capacity, report.say)
        print(show(found))
        print(report.machine_text(report.machine()))
        if given.json:
            given.json.write_text(json.dumps(asdict(found), indent=1) + "\n")

    return servers.run_to_the_end(work)


if __name__ == "__main__":
    sys.exit(main())
