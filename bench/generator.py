"""Closed-loop load generator: what `redis-benchmark` cannot do, the same for both systems.

`SET` followed by `WAIT 1` has to be one request with two answers, and both have to be awaited, before it can be
compared with a `SET` that is acknowledged by a quorum. The generator shares the machine with the servers, so it
must be cheap: requests are built before the clock starts, an answer is compared as bytes and never parsed, a
latency is one increment, and nothing is allocated for a request. Fifty connections, one request each in flight:
the next is sent from the callback that saw the last answer.

    python -m bench.generator --port 6379 [--port …] [--wait] [-n 300000]
"""

import argparse
import asyncio
import gc
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import cast

import uvloop
from bench.latency import BUCKETS, BUCKETS_PER_SECOND, Histogram

OK = b"+OK\r\n"
PRELOAD_CHUNK = 200  # requests in one write while preloading: some tens of KB, well inside every server's buffers
PRELOAD_CONNECTIONS = 4
ANSWER_TIMEOUT_SECONDS = 60.0  # a connection that stays silent for this long fails the run


def command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def key_of(number: int) -> bytes:
    """The key that `redis-benchmark -t set,get -r …` uses, so that either tool reads what the other wrote."""
    return b"key:%012d" % number


@dataclass(frozen=True)
class Measured:
    requests: int
    failures: int
    first_failure: str
    seconds: float
    rps: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Kind:
    """One sort of request: what follows the command, how many lines answer it, and which answers are good."""

    suffix: bytes
    lines: int
    good: frozenset[bytes]


SET = Kind(b"", 1, frozenset({OK}))
# With two replicas the answer is 1 or 2; 0 would be a write that no second server has.
WAIT = command(b"WAIT", b"1", b"1000")
SET_WAIT = Kind(WAIT, 2, frozenset({OK + b":1\r\n", OK + b":2\r\n"}))
COUNTS = (b":0\r\n", b":1\r\n")  # what is answered to a write of one member
ADD = Kind(b"", 1, frozenset(COUNTS))
ADD_WAIT = Kind(WAIT, 2, frozenset(count + held for count in COUNTS for held in (b":1\r\n", b":2\r\n")))


class _Run:
    """What the connections of one run share: the requests, how far they have got, and the tally."""

    def __init__(self, requests: list[bytes], kind: Kind) -> None:
        self.requests = requests
        self.kind = kind
        self.sent = 0
        self.answered = 0
        self.failures = 0
        self.first_failure = ""
        self.histogram = Histogram()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, answer: bytes) -> None:
        self.failures += 1
        self.first_failure = self.first_failure or answer.decode(errors="replace").strip()


class _Lane(asyncio.Protocol):
    __slots__ = ("answer", "counts", "good", "requests", "run", "sent_at", "transport", "write")

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.counts = run.histogram.counts
        self.good = run.kind.good
        self.requests = run.requests
        self.answer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.write = self.transport.write

    def connection_lost(self, error: Exception | None) -> None:
        if not self.run.done.done():
            self.run.done.set_exception(ConnectionError(f"the server closed a connection: {error}"))

    def send_next(self) -> None:
        run = self.run
        number = run.sent
        if number < len(self.requests):
            run.sent = number + 1
            self.sent_at = perf_counter()
            self.write(self.requests[number])

    def data_received(self, data: bytes) -> None:
        if self.answer:
            data = self.answer + data
        run = self.run
        if data not in self.good:
            if data.count(b"\r\n") < run.kind.lines or not data.endswith(b"\r\n"):
                self.answer = data
                return
            run.fail(data)
        self.answer = b""
        now = perf_counter()
        self.counts[min(int((now - self.sent_at) * BUCKETS_PER_SECOND), BUCKETS)] += 1
        number = run.sent
        if number < len(self.requests):
            run.sent = number + 1
            self.sent_at = now
            self.write(self.requests[number])
        run.answered += 1
        if run.answered == len(self.requests) and not run.done.done():
            run.done.set_result(None)


async def _finish(run: _Run) -> None:
    """Wait for the run; a server that stops answering ends it with an error instead of hanging the table."""
    while not run.done.done():
        before = run.answered
        await asyncio.wait({run.done}, timeout=ANSWER_TIMEOUT_SECONDS)
        if not run.done.done() and run.answered == before:
            raise TimeoutError(
                f"no answer for {ANSWER_TIMEOUT_SECONDS:.0f} s after {run.answered} of {len(run.requests)}"
            )
    run.done.result()


async def _drive(requests: list[bytes], kind: Kind, ports: Sequence[int], connections: int) -> tuple[_Run, float]:
    loop = asyncio.get_running_loop()
    run = _Run(requests, kind)
    lanes = []
    for number in range(connections):
        _, lane = await loop.create_connection(lambda: _Lane(run), "127.0.0.1", ports[number % len(ports)])
        lanes.append(lane)
    gc.collect()
    gc.disable()  # a collection over hundreds of thousands of request objects would be charged to the server as latency
    try:
        started = perf_counter()
        for lane in lanes:
            lane.send_next()
        await _finish(run)
        return run, perf_counter() - started
    finally:
        gc.enable()
        for lane in lanes:
            lane.transport.abort()


def measure(
    ports: Sequence[int],
    kind: Kind,
    *,
    requests: int,
    keys: int,
    value_bytes: int,
    connections: int = 50,
    seed: int = 1,
) -> Measured:
    """`requests` SETs of random keys, as fast as `connections` connections (spread over `ports`) get their answers."""
    rng = random.Random(seed)
    value = b"x" * value_bytes
    return measure_all(
        ports, kind, [command(b"SET", key_of(rng.randrange(keys)), value) for _ in range(requests)], connections
    )


def measure_all(ports: Sequence[int], kind: Kind, commands: Sequence[bytes], connections: int = 50) -> Measured:
    """These commands, each with what the kind has behind it, as fast as the connections get their answers."""
    prepared = [each + kind.suffix for each in commands]
    run, seconds = uvloop.run(_drive(prepared, kind, ports, connections))
    return Measured(
        requests=len(prepared),
        failures=run.failures,
        first_failure=run.first_failure,
        seconds=seconds,
        rps=len(prepared) / seconds,
        p50_ms=run.histogram.percentile_ms(50),
        p99_ms=run.histogram.percentile_ms(99),
    )


async def _preload_part(port: int, numbers: range, value: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(0, len(numbers), PRELOAD_CHUNK):
        part = numbers[start : start + PRELOAD_CHUNK]
        writer.write(b"".join(command(b"SET", key_of(number), value) for number in part))
        answer = await asyncio.wait_for(reader.readexactly(len(OK) * len(part)), ANSWER_TIMEOUT_SECONDS)
        if answer != OK * len(part):
            raise RuntimeError(f"preloading port {port}: {answer[:200].decode(errors='replace')}")
    writer.close()


async def _preload(port: int, keys: int, value: bytes) -> None:
    parts = (range(start, keys, PRELOAD_CONNECTIONS) for start in range(PRELOAD_CONNECTIONS))
    await asyncio.gather(*(_preload_part(port, part, value) for part in parts))


def preload(port: int, keys: int, value_bytes: int) -> None:
    """Write every key once, so that every later GET finds a value."""
    uvloop.run(_preload(port, keys, b"x" * value_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description="SET, or SET followed by WAIT 1, from one request to the next")
    parser.add_argument("--port", type=int, action="append", required=True, help="may be given several times")
    parser.add_argument("--wait", action="store_true", help="follow each SET by WAIT 1")
    parser.add_argument("-n", "--requests", type=int, default=300_000)
    parser.add_argument("-r", "--keys", type=int, default=1_000_000)
    parser.add_argument("-d", "--value-bytes", type=int, default=100)
    parser.add_argument("-c", "--connections", type=int, default=50)
    given = parser.parse_args()
    print(
        measure(
            given.port,
            SET_WAIT if given.wait else SET,
            requests=given.requests,
            keys=given.keys,
            value_bytes=given.value_bytes,
            connections=given.connections,
        )
    )


if __name__ == "__main__":
    main()
