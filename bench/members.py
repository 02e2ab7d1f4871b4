"""What one member costs in a collection of ten and of a hundred thousand, beside Redis with two replicas (V3, V4).

    python -m bench.members [--pairs 3] [--sizes 10,1000,100000] [--requests 20000] [--json FILE]

Each command goes to one key, unpipelined, from 50 connections of the unmodified `redis-benchmark`; Ringwise reads and writes at
`quorum`. Writes are measured once more, beside Redis with `WAIT 1` behind each, which then knows as much of a second copy; there
both are driven by bench/generator.py. Systems take turns, and a ratio is taken inside a pair. *Growth* is what a command costs
beside the smallest collection (1: nothing more). Bytes are what one SADD adds to the commit log of each node.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import generator, redis_benchmark, report, servers
from rich.console import Console
from rich.table import Table

CONNECTIONS = 50
BATCH = 500  # members of a command that fills a collection
NAME = b"m:%012d"  # as redis-benchmark writes its numbers
NEW = 1_000_000_000  # numbers that are drawn for new members

# Title, words; __rand_int__ is a member that is there, but for SADD.
COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("HGET", ("HGET", "hash:{size}", "m:__rand_int__")),
    ("HSET", ("HSET", "hash:{size}", "m:__rand_int__", "a value of some length")),
    ("SADD", ("SADD", "set:{size}", "n:__rand_int__")),
    ("ZADD", ("ZADD", "sorted:{size}", "__rand_int__", "m:000000000007")),
    ("ZRANGE 0 9", ("ZRANGE", "sorted:{size}", "0", "9")),
    ("ZRANK", ("ZRANK", "sorted:{size}", "m:__rand_int__")),
)


WRITES = ("HSET", "SADD", "ZADD")
BESIDE_WAIT = "+wait"


@dataclass
class Run:
    """One command on one size and system."""

    command: str
    size: int
    system: str  # "redis…+wait" and "ringwise+wait": the second comparison of writes
    pair: int
    rps: float
    p99_ms: float


def fill(port: int, size: int) -> None:
    """A hash, a set and a sorted set of that size."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        for kind, words in (
            (b"HSET", lambda i: (NAME % i, b"a value of some length")),
            (b"SADD", lambda i: (NAME % i,)),
            (b"ZADD", lambda i: (b"%d" % i, NAME % i)),
        ):
            key = {b"HSET": b"hash:%d", b"SADD": b"set:%d", b"ZADD": b"sorted:%d"}[kind] % size
            for start in range(0, size, BATCH):
                parts = [word for i in range(start, min(size, start + BATCH)) for word in words(i)]
                connection.sendall(generator.command(kind, key, *parts))
                answer = connection.recv(4096)
                if not answer.startswith(b":"):
                    raise servers.BenchmarkError(f"{kind.decode()}: {answer[:200]!r}")


def logged(directory: Path, port: int, size: int, count: int = 100) -> float:
    """Bytes that one SADD to a set of that size adds to the commit logs of all nodes."""

    def total() -> int:
        return sum(file.stat().st_size for file in directory.rglob("commit-*.log"))

    before = total()
    for number in range(count):
        servers.ask(port, "SADD", f"set:{size}", f"logged:{number}")
    return (total() - before) / count / servers.NODES


def run(
    directory: Path, sizes: Sequence[int], pairs: int, requests: int, say: report.Say
) -> tuple[list[Run], dict[int, float]]:
    """All of it, on servers of its own."""
    runs: list[Run] = []
    with ExitStack() as stack:
        redis = servers.redis_replicated(stack, directory / "redis")
        ringwise = servers.ringwise(stack, directory / "ringwise", "quorum")
        for system in (redis, ringwise):
            for size in sizes:
                say(f"{system.title}: filling collections of {size:,}")
                fill(system.ports[0], size)
        bytes_logged = {size: logged(directory / "ringwise", ringwise.ports[0], size) for size in sizes}
        for size in sizes:
            for title, words in COMMANDS:
                for pair in range(pairs):
                    order = (redis, ringwise) if pair % 2 else (ringwise, redis)
                    for system in order:
                        figures = redis_benchmark.run_command(
                            system.ports[0],
                            [word.format(size=size) for word in words],
                            requests=requests,
                            numbers=NEW if title == "SADD" else size,
                            connections=CONNECTIONS,
                        )
                        runs.append(Run(title, size, system.key, pair, figures.rps, figures.p99_ms))
                        say(f"{title:10} {size:>7,} {system.title}: {figures.rps:,.0f}/s")
                    for system in order if title in WRITES else ():
                        kind = generator.ADD_WAIT if system is redis else generator.ADD
                        commands = spelled(words, size, NEW if title == "SADD" else size, requests, pair)
                        measured = generator.measure_all(system.ports[:1], kind, commands, CONNECTIONS)
                        if measured.failures:
                            raise servers.BenchmarkError(f"{title}: {measured.first_failure}")
                        runs.append(Run(title, size, system.key + BESIDE_WAIT, pair, measured.rps, measured.p99_ms))
                        say(f"{title:10} {size:>7,} {system.title}, beside WAIT 1: {measured.rps:,.0f}/s")
    return runs, bytes_logged


def spelled(words: Sequence[str], size: int, numbers: int, count: int, seed: int) -> list[bytes]:
    """A command so many times, as redis-benchmark sends it."""
    chance = random.Random(seed)
    text = [word.format(size=size) for word in words]
    return [
        generator.command(*(word.replace("__rand_int__", f"{chance.randrange(numbers):012}").encode() for word in text))
        for _ in range(count)
    ]


def ratio(runs: Sequence[Run], command: str, size: int, *, waiting: bool = False) -> float:
    """Of Redis, pair by pair, the median; beside it without or with WAIT."""
    chosen = [each for each in runs if (each.command, each.size) == (command, size)]
    chosen = [each for each in chosen if each.system.endswith(BESIDE_WAIT) == waiting]
    by_pair: dict[int, dict[bool, float]] = {}
    for each in chosen:
        by_pair.setdefault(each.pair, {})[each.system.startswith("redis")] = each.rps
    return median(pair[False] / pair[True] for pair in by_pair.values())


def show(runs: Sequence[Run], bytes_logged: dict[int, float], sizes: Sequence[int]) -> None:
    def figure(of: Callable[[Run], float], command: str, size: int, redis: bool) -> float:
        return median(
            of(each) for each in runs
            if (each.command, each.size, each.system.startswith("redis")) == (command, size, redis)
            and not each.system.endswith(BESIDE_WAIT)
        )  # fmt: skip

    table = Table(
        "command", "members", "Redis/s", "Ringwise/s", "p99 ms", "÷ Redis", "÷ WAIT 1", "growth Redis", "growth"
    )
    for command, _ in COMMANDS:
        for size in sizes:
            rates = [figure(lambda each: each.rps, command, size, redis) for redis in (True, False)]
            least = [figure(lambda each: each.rps, command, sizes[0], redis) for redis in (True, False)]
            table.add_row(
                command,
                f"{size:,}",
                f"{rates[0]:,.0f}",
                f"{rates[1]:,.0f}",
                f"{figure(lambda each: each.p99_ms, command, size, False):.2f}",
                f"{ratio(runs, command, size):.2f}",
                f"{ratio(runs, command, size, waiting=True):.2f}" if command in WRITES else "",
                f"{least[0] / rates[0]:.2f}",
                f"{least[1] / rates[1]:.2f}",
            )
    console = Console(width=120)
    console.print(table)
    for size, count in bytes_logged.items():
        console.print(f"SADD to a set of {size:,}: {count:,.0f} bytes in the log of a node")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.members", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[10, 1000, 100_000]
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ringwise-bench-") as directory:
        runs, bytes_logged = run(Path(directory), given.sizes, given.pairs, given.requests, report.say)
    show(runs, bytes_logged, given.sizes)
    if given.json:
        given.json.write_text(json.dumps({"runs": [asdict(each) for each in runs], "logged": bytes_logged}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
