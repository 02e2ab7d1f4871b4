"""Open-loop load: the highest rate at which the 99th percentile holds, two reads to one write over all nodes.

A closed loop waits for answers and so never asks for more than the server gives: when the server stalls, so does the
clock. Here every request has an intended time, fixed by the offered rate alone, and its latency counts from that time,
late sending by this process included (coordinated omission: Tene, "How NOT to Measure Latency"). What is due is sent
at the latest a millisecond later, request i on connection i mod L, behind whatever is unanswered there.

The search doubles the rate until it fails, narrows the gap to 5%, each time for a few seconds; then the rate found has
to hold for the whole time (60 s), or else the next lower one.

    python -m bench.openloop [--seconds 60] [--ports P,P,P] [--json FILE] [--markdown FILE]
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

import hiredis
import uvloop
from bench import generator, report, servers
from bench.latency import BUCKETS, BUCKETS_PER_SECOND, Histogram
from bench.servers import System

LIMITS_MS = (10.0, 5.0)
BRIEF_RATE = 150_000  # requests a second: what the brief asks of a cluster
IDLE_RATE = 500
FIRST_RATE = 4_000
RATE_MAX = 500_000
PRECISION = 1.05
PROBE_SECONDS = 4.0
BEHIND_SECONDS_MAX = 1.0  # more unanswered than this much load: the rate is lost, and going on measures only the queue
DRAIN_SECONDS_MAX = 15.0
LANES_PER_NODE = 8
PREPARED = 299_993  # requests built beforehand, sent in a circle; prime, so that each lane comes round to all
READ_SHARE = 2 / 3
TICK_SECONDS = 0.001


@dataclass(frozen=True)
class Probe:
    offered: float
    seconds: float
    achieved: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    sent_late_p99_ms: float  # how far this process was behind its own schedule: its share of the latency
    cpu_cores: float  # of the servers
    failures: int
    first_failure: str
    lost: bool  # fell behind for good, or lost a connection

    def holds(self, limit_ms: float) -> bool:
        return not self.lost and not self.failures and self.p99_ms < limit_ms and self.achieved >= 0.99 * self.offered


class Load:
    """The schedule and the tally, shared by all lanes."""

    def __init__(self, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self.requests = requests
        self.rate = rate
        self.total = int(rate * seconds)
        self.started = 0.0
        self.sent = 0
        self.answered = 0
        self.failures = 0
        self.first_failure = ""
        self.latencies = Histogram()
        self.lateness = Histogram()
        self.lanes: list[_Lane] = []
        self.broken = False  # a connection was closed by its server

    def send_due(self) -> None:
        """Everything that is due by now, in one write for each lane."""
        started, rate, lanes, requests = self.started, self.rate, self.lanes, self.requests
        now = perf_counter()
        first, end = self.sent, min(int((now - started) * rate) + 1, self.total)
        if first >= end:
            return
        self.lateness.add(now - (started + first / rate))
        self.sent = end
        for start in range(first, min(first + len(lanes), end)):
            lane = lanes[start % len(lanes)]
            numbers = range(start, end, len(lanes))
            lane.due.extend([started + number / rate for number in numbers])
            lane.transport.write(b"".join([requests[number % PREPARED] for number in numbers]))

    async def run(self) -> bool:
        """True when all was sent and answered."""
        tick = 0 if self.rate <= IDLE_RATE else TICK_SECONDS  # at idle a timer's millisecond would be all that is seen
        behind_max = max(self.rate * BEHIND_SECONDS_MAX, 1000)
        self.started = perf_counter()
        while self.sent < self.total:
            self.send_due()
            if self.broken or self.sent - self.answered > behind_max:
                return False
            await asyncio.sleep(tick)
        deadline = perf_counter() + DRAIN_SECONDS_MAX
        while self.answered < self.total and not self.broken and perf_counter() < deadline:
            await asyncio.sleep(tick)
        return self.answered == self.total


class _Lane(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.due: deque[float] = deque()  # intended times of what is unanswered: answers come in the order of requests
        self.reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.load.broken = True

    def data_received(self, data: bytes) -> None:
        load, take_due, counts, gets = self.load, self.due.popleft, self.load.latencies.counts, self.reader.gets
        now = perf_counter()
        self.reader.feed(data)
        answered = 0
        while (answer := gets()) is not False:
            answered += 1
            counts[min(int((now - take_due()) * BUCKETS_PER_SECOND), BUCKETS)] += 1
            if answer is None or isinstance(answer, Exception):
                load.failures += 1
                load.first_failure = load.first_failure or str(answer or "a key that was written was not found")
        load.answered += answered
        load.send_due()


async def drive(load: Load, ports: Sequence[int]) -> tuple[bool, float]:
    loop = asyncio.get_running_loop()
    try:
        for number in range(LANES_PER_NODE * len(ports)):
            port = ports[number % len(ports)]
            load.lanes.append((await loop.create_connection(lambda: _Lane(load), "127.0.0.1", port))[1])
        gc.collect()
        gc.disable()
        finished = await load.run()
        return finished, perf_counter() - load.started
    finally:
        gc.enable()
        for lane in load.lanes:
            lane.transport.abort()


class Bench:
    """Probes one system at one rate after another, and says what it finds."""

    def __init__(self, system: System, keys: int, value_bytes: int, say: report.Say) -> None:
        rng = random.Random(1)
        value = b"x" * value_bytes
        self.requests = [
            generator.command(b"GET", generator.key_of(rng.randrange(keys)))
            if rng.random() < READ_SHARE
            else generator.command(b"SET", generator.key_of(rng.randrange(keys)), value)
            for _ in range(PREPARED)
        ]
        self.system = system
        self.say = say
        self.probes: list[Probe] = []

    def probe(self, rate: float, seconds: float) -> Probe:
        self.system.settle()
        load = Load(self.requests, rate, seconds)
        cpu_before = self.system.cpu_seconds()
        finished, took = uvloop.run(drive(load, self.system.ports))
        probe = Probe(
            offered=rate,
            seconds=seconds,
            achieved=load.answered / took,
            p50_ms=load.latencies.percentile_ms(50),
            p99_ms=load.latencies.percentile_ms(99),
            p999_ms=load.latencies.percentile_ms(99.9),
            sent_late_p99_ms=load.lateness.percentile_ms(99),
            cpu_cores=(self.system.cpu_seconds() - cpu_before) / took,
            failures=load.failures,
            first_failure=load.first_failure,
            lost=not finished,
        )
        self.say(
            f"{rate:,.0f}/s for {seconds:.0f} s: p50 {probe.p50_ms:.2f}, p99 {probe.p99_ms:.2f} ms"
            + (", fell behind" if probe.lost else "")
            + (f", {probe.failures} failures: {probe.first_failure}" if probe.failures else "")
        )
        self.probes.append(probe)
        return probe

    def _seems_to_hold(self, rate: float, limit_ms: float) -> bool:
        """A short look, with a second one before a rate is given up: four seconds are easily spoilt by a neighbour."""
        looks = [probe for probe in self.probes if probe.offered == rate]
        while len(looks) < 2 and not any(probe.holds(limit_ms) for probe in looks):
            looks.append(self.probe(rate, PROBE_SECONDS))
        return any(probe.holds(limit_ms) for probe in looks)

    def highest(self, limit_ms: float, seconds: float) -> Probe | None:
        """The highest rate that held `limit_ms` for `seconds`; None when not even the first did."""
        good, rate = 0.0, float(FIRST_RATE)
        while rate <= RATE_MAX and self._seems_to_hold(rate, limit_ms):
            good, rate = rate, rate * 2
        bad = rate
        while good and bad / good > PRECISION:
            rate = float(round((good * bad) ** 0.5, -2))
            if self._seems_to_hold(rate, limit_ms):
                good = rate
            else:
                bad = rate
        while good >= FIRST_RATE:
            long = self.probe(good, seconds)
            if long.holds(limit_ms):
                return long
            good = float(round(good / PRECISION, -2))
        return None


HEADINGS = ("", "rate/s", "÷ 150,000/s", "p50 ms", "p99 ms", "p99.9 ms", "sent late p99 ms", "CPU cores", "for s")


def rows(idle: Probe, found: dict[float, Probe | None]) -> list[list[str]]:
    named: list[tuple[str, Probe | None]] = [("idle", idle)]
    named += [(f"highest with p99 < {limit:.0f} ms", probe) for limit, probe in found.items()]
    made = []
    for title, probe in named:
        if probe is None:
            made.append([title, f"below {FIRST_RATE:,}", *[""] * (len(HEADINGS) - 2)])
        else:
            figures = (probe.p50_ms, probe.p99_ms, probe.p999_ms, probe.sent_late_p99_ms, probe.cpu_cores)
            share = f"{probe.offered / BRIEF_RATE:.2f}"
            made.append([title, f"{probe.offered:,.0f}", share, *(f"{x:.2f}" for x in figures), f"{probe.seconds:.0f}"])
    return made


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.openloop", description="Highest rate that holds its p99")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a rate must hold (default 60)")
    parser.add_argument("--ports", type=servers.ports_of, help="client ports of running servers, e.g. 7379,7380,7381")
    parser.add_argument("-r", "--keys", type=int, default=1_000_000)
    parser.add_argument("-d", "--value-bytes", type=int, default=100)
    parser.add_argument("--rate", type=float, help="offer this rate once instead of searching")
    parser.add_argument("--json", type=Path, help="write every probe")
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown")
    return parser.parse_args()


def search(given: argparse.Namespace) -> None:
    with ExitStack() as stack:
        if given.ports:
            system = servers.running("running", "running servers", given.ports)
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringwise-bench-")))
            system = servers.ringwise(stack, directory / "quorum", "quorum")
        report.say(f"{system.title}: ports {system.ports}, processes {system.pids}; writing every key once")
        generator.preload(system.ports[0], given.keys, given.value_bytes)
        bench = Bench(system, given.keys, given.value_bytes, report.say)
        if given.rate:
            bench.probe(given.rate, given.seconds)
            return
        idle = bench.probe(IDLE_RATE, PROBE_SECONDS)
        found: dict[float, Probe | None] = {}
        best: Probe | None = None
        for limit in LIMITS_MS:  # the widest first: what held it may hold the next one too
            if best is None or not best.holds(limit):
                best = bench.highest(limit, given.seconds)
            found[limit] = best
    machine = report.machine()
    body = rows(idle, found)
    title = f"Open loop, 2 reads to 1 write, {system.title}, {len(system.ports)} ports"
    report.show_table(title, HEADINGS, body)
    report.show_notes([report.machine_text(machine)])
    if given.json:
        limits = {f"{limit:.0f}": probe and asdict(probe) for limit, probe in found.items()}
        written = {"machine": machine, "idle": asdict(idle), "highest_below_ms": limits}
        given.json.write_text(json.dumps({**written, "probes": [asdict(p) for p in bench.probes]}, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(report.markdown_table(HEADINGS, body) + "\n" + report.machine_text(machine) + "\n")


def main() -> int:
    given = parse()
    return servers.run_to_the_end(lambda: search(given))


if __name__ == "__main__":
    sys.exit(main())
