"""A node back with an empty disk while the cluster serves: how long until every key is on all N again, what requests notice (T4).

    python -m bench.refill [--keys 1000000] [--share 0.3] [--capacity REQUESTS/S] [--json FILE]

The capacity is the highest rate at which the 99th percentile stays below 10 ms (bench/openloop.py), with two reads to one write.
At `share` of it, open loop, over the nodes that stay: some seconds with all nodes up, then one is killed, its directory removed,
`ringwise replace` said and `ringwise dev start`, and the load goes on until it is filled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import uvloop
from bench import generator, report, servers
from bench.latency import Histogram
from bench.openloop import Bench, Load, drive

CHUNK_S = 2.0
BEFORE_S = 10.0
FILLED_S_MAX = 600.0
CAPACITY_LIMIT_MS = 10.0


@dataclass
class Phase:
    """The load of one phase."""

    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    failures: int
    first_failure: str
    idle: float  # share of the machine's processors that nobody used


@dataclass
class Refill:
    keys: int
    capacity: float
    rate: float
    seconds: float  # from the start of the empty node until it counts as an owner again
    keys_per_s: float
    received: int
    before: Phase
    filling: Phase


class Until(Protocol):
    """The end of a phase."""

    def over(self) -> bool: ...


def load(bench: Bench, ports: list[int], rate: float, until: Until) -> Phase:
    """Chunks of the same schedule until it is over."""
    latencies, failures, first = Histogram(), 0, ""
    began, cpu = time.monotonic(), servers.machine_cpu_seconds()
    while not until.over():
        chunk = Load(bench.requests, rate, CHUNK_S)
        chunk.latencies = latencies
        uvloop.run(drive(chunk, ports))
        failures += chunk.failures
        first = first or chunk.first_failure
    took = time.monotonic() - began
    used = (servers.machine_cpu_seconds() - cpu) / took / (os.cpu_count() or 1)
    p50, p99, p999 = (latencies.percentile_ms(percent) for percent in (50, 99, 99.9))
    return Phase(took, p50, p99, p999, failures, first, max(0.0, 1 - used))


class Clock:
    """Over after so long, or when a node is filled."""

    def __init__(self, seconds: float, filled_port: int | None = None) -> None:
        self.began = time.monotonic()
        self.seconds = seconds
        self.port = filled_port
        self.filled_s: float | None = None

    def over(self) -> bool:
        passed = time.monotonic() - self.began
        if self.port is not None and info(self.port).get("filling") == "0":
            self.filled_s = self.filled_s or passed
            return True
        if self.port is not None and passed > self.seconds:
            raise servers.BenchmarkError(f"not filled after {self.seconds:.0f} s: {info(self.port)}")
        return passed > self.seconds


def info(port: int) -> dict[str, str]:
    try:
        text = str(servers.ask(port, "INFO", "ringwise"))
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def run(directory: Path, keys: int, share: float, capacity: float | None, before_s: float, say: report.Say) -> Refill:
    """The whole of it, on a cluster of its own."""
    with ExitStack() as stack:
        system = servers.ringwise(stack, directory / "refill", "quorum")
        generator.preload(system.ports[0], keys, 100)
        bench = Bench(system, keys, 100, say)
        if capacity is None:
            best = bench.highest(CAPACITY_LIMIT_MS, 10.0)
            if best is None:
                raise servers.BenchmarkError("the cluster holds no rate")
            capacity = best.offered
        rate = capacity * share
        staying, victim = system.ports[:-1], system.ports[-1]
        system.settle()
        before = load(bench, staying, rate, Clock(before_s))
        say(f"before: {before}")
        data = directory / "refill" / "data"
        os.kill(int(str(servers.ask(victim, "INFO", "server")).partition("process_id:")[2].split()[0]), signal.SIGKILL)
        time.sleep(1.0)
        shutil.rmtree(data / f"n{len(system.ports)}")
        name, binary = f"n{len(system.ports)}", str(Path(sys.executable).with_name("ringwise"))
        subprocess.run([binary, "replace", name, "--port", str(staying[0])], check=True, capture_output=True)
        starting = subprocess.Popen([binary, "dev", "start", name, "--data-dir", str(data)], stdout=subprocess.DEVNULL)
        stack.callback(starting.wait)
        while info(victim).get("epoch", "0") == "0":
            time.sleep(0.02)
        clock = Clock(FILLED_S_MAX, victim)
        filling = load(bench, staying, rate, clock)
        assert clock.filled_s is not None
        received = int(info(victim)["fill_received"])
        say(f"filling: {filling}, {received:,} keys received")
        system.refresh()
        return Refill(keys, capacity, rate, clock.filled_s, keys / clock.filled_s, received, before, filling)


def table(phases: Mapping[str, Phase]) -> str:
    """A row for each."""
    headings = ("", "seconds", "p50 ms", "p99 ms", "p99.9 ms", "failures", "idle")
    body = [
        [
            name,
            f"{phase.seconds:.0f}",
            f"{phase.p50_ms:.2f}",
            f"{phase.p99_ms:.2f}",
            f"{phase.p999_ms:.2f}",
            f"{phase.failures}",
            f"{phase.idle:.0%}",
        ]
        for name, phase in phases.items()
    ]
    return report.markdown_table(headings, body)


def show(found: Refill) -> str:
    return (
        f"{found.keys:,} keys on all copies again after {found.seconds:.1f} s, {found.keys_per_s:,.0f} keys/s, at "
        f"{found.rate:,.0f} requests/s ({found.rate / found.capacity:.0%} of {found.capacity:,.0f}); p99 "
        f"{found.filling.p99_ms / found.before.p99_ms:.1f} times\n\n"
        f"{table({'before': found.before, 'while filling': found.filling})}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.refill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--capacity", type=float, help="requests a second, where it was measured before")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="ringwise-bench-") as directory:
            found = run(Path(directory), given.keys, given.share, given.capacity, BEFORE_S, report.say)
        print(show(found))
        print(report.machine_text(report.machine()))
        if given.json:
            given.json.write_text(json.dumps(asdict(found), indent=1) + "\n")

    return servers.run_to_the_end(work)


if __name__ == "__main__":
    sys.exit(main())
