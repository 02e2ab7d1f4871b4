"""What a node that was away gets by hint, and what happens where there is no room for hints (R2, R4). Real processes.

    .venv/bin/python -m bench.handoff [--keys 100000] [--value 100] [--json FILE]

    away   three nodes. n3 falls silent (SIGSTOP) while keys are written, is killed, and started when all are written
    full   five nodes with room for few hints. Two are killed, keys are written, the two are started; anti-entropy brings the rest

Ends with 1 where an owner lacks an acknowledged key, where anti-entropy had to help in `away`, or nothing was refused in `full`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from bench import servers
from redis.backoff import NoBackoff
from redis.retry import Retry

from ringwise.cli.supervisor import ask as ask_supervisor

BATCH = 500
WAIT_S = 120.0
HINTS_MAX_FULL = 1_000
SAMPLE = 2_000


def client_of(port: int) -> redis.Redis:
    return redis.Redis(port=port, socket_timeout=30.0, retry=Retry(NoBackoff(), 0))


def info(port: int) -> dict[str, Any]:
    with client_of(port) as client:
        return dict(client.info("ringwise"))


def total(ports: Sequence[int], *names: str) -> int:
    return sum(int(info(port)[name]) for port in ports for name in names)


def batches(count: int) -> Iterator[list[str]]:
    for start in range(0, count, BATCH):
        yield [f"key:{number}" for number in range(start, min(start + BATCH, count))]


def write(port: int, keys: Sequence[str], value: str) -> dict[str, Any]:
    """What became of each: True, or the error."""
    with client_of(port) as client:
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, f"{key} {value}")
        return dict(zip(keys, pipeline.execute(raise_on_error=False), strict=True))


def lacking(port: int, count: int, value: str, level: str) -> int:
    """How many keys this node does not have as they were written."""
    found = 0
    with client_of(port) as client:
        for keys in batches(count):
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.execute_command("RW.AT", level, "GET", key)
            answers = pipeline.execute(raise_on_error=False)
            found += sum(answer == f"{key} {value}".encode() for key, answer in zip(keys, answers, strict=True))
    return count - found


def until(done: Callable[[], bool], what: str) -> float:
    """Seconds until then."""
    began_s = time.monotonic()
    while not done():
        if time.monotonic() - began_s > WAIT_S:
            raise servers.BenchmarkError(f"{what}: not within {WAIT_S:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began_s


def answers(port: int) -> bool:
    try:
        return bool(servers.ask(port, "PING") == "PONG")
    except OSError:
        return False


def until_ready(directory: Path) -> None:
    """Until the supervisor knows of all nodes: where one dies before that, it gives all of them up."""
    log = directory / "log"
    until(lambda: "is ready" in log.read_text(), "the supervisor knows of all nodes")


def away(directory: Path, count: int, value: str) -> dict[str, Any]:
    with ExitStack() as stack:
        system = servers.ringwise(stack, directory, "quorum")
        until_ready(directory)
        ports, victim = system.ports, servers.pids_listening(system.ports[2:])[0]
        healthy, errors = ports[:2], 0
        for number, keys in enumerate(batches(count)):
            done = number * BATCH / count
            if number == 1:
                os.kill(victim, signal.SIGSTOP)  # nobody knows yet
            if done < 0.5 <= done + BATCH / count:
                os.kill(victim, signal.SIGKILL)
            told = write(healthy[number % 2], keys, value)
            errors += sum(answer is not True for answer in told.values())
        waiting = total(healthy, "hints_waiting")
        ask_supervisor(directory / "data", "start", 3)
        until(lambda: answers(ports[2]), "n3 is up")
        began_s = time.monotonic()
        until(lambda: total(healthy, "hints_waiting") == 0, "all hints handed over")
        took_s = time.monotonic() - began_s
        return {
            "keys": count,
            "client errors": errors,
            "hints when it came back": waiting,
            "handed over": total(healthy, "hints_handed_over"),
            "sent again": total(healthy, "hints_sent_again"),
            "MB sent": round(total(healthy, "hints_bytes") / 1e6, 1),
            "seconds": round(took_s, 1),
            "lacking at n3": lacking(ports[2], count, value, "r=1"),
            "by anti-entropy": total(ports, "repair_sent", "repair_received"),
        }


def full(directory: Path, count: int, value: str) -> dict[str, Any]:
    with ExitStack() as stack:
        system = servers.ringwise(stack, directory, "quorum", nodes=5, more=["--hints-max", str(HINTS_MAX_FULL)])
        ports = system.ports
        healthy = ports[:3]
        until_ready(directory)
        for victim in servers.pids_listening(ports[3:]):
            os.kill(victim, signal.SIGKILL)
        told: dict[str, Any] = {}
        for number, keys in enumerate(batches(count)):
            told |= write(healthy[number % 3], keys, value)
        refused = [key for key, answer in told.items() if answer is not True and str(answer).startswith("NOQUORUM")]
        unknown = [key for key, answer in told.items() if answer is not True and key not in set(refused)]
        stood_in = total(healthy, "stand_in_writes")
        for node in (4, 5):
            ask_supervisor(directory / "data", "start", node)
        until(lambda: all(map(answers, ports)), "all are up")
        began_s = time.monotonic()
        until(lambda: total(healthy, "hints_waiting") == 0, "all hints handed over")
        acknowledged = [key for key, answer in told.items() if answer is True]
        for port in ports:
            servers.ask(port, "RW.REPAIR")
        sample = acknowledged[:: max(1, len(acknowledged) // SAMPLE)]
        until(lambda: not differing(ports[0], sample), "the copies are equal")
        return {
            "keys": count,
            "room for hints a node": HINTS_MAX_FULL,
            "acknowledged": len(acknowledged),
            "with a stand-in": stood_in,
            "refused": len(refused),
            "unknown": len(unknown),
            "handed over": total(healthy, "hints_handed_over"),
            "hints dropped": total(healthy, "hints_dropped"),
            "by anti-entropy": total(ports, "repair_sent", "repair_received"),
            "seconds until equal": round(time.monotonic() - began_s, 1),
            "acknowledged and lost": len(lost(ports, acknowledged, value)),
            "refused and there": len(refused) - len(lost(ports, refused, value)),
        }


def differing(port: int, keys: Sequence[str]) -> int:
    """Of how many keys an owner does not answer, or has not seen all that another has."""
    found = 0
    with client_of(port) as client:
        for start in range(0, len(keys), 50):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + 50]:
                pipeline.execute_command("RW.EXPLAIN", key)
            for answer in pipeline.execute(raise_on_error=False):
                found += _parted(answer)
            if found:
                return found
    return found


def _parted(answer: Any) -> bool:
    told = _mapped(answer)
    return any(_mapped(owner)["compared"] != b"current" for owner in told["owners"])


def _mapped(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        return {name.decode(): value for name, value in answer.items()}
    return {name.decode(): value for name, value in zip(answer[::2], answer[1::2], strict=True)}


def lost(ports: Sequence[int], keys: Sequence[str], value: str) -> list[str]:
    missing: list[str] = []
    with client_of(ports[4]) as client:
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            pipeline = client.pipeline(transaction=False)
            for key in part:
                pipeline.execute_command("RW.AT", "all", "GET", key)
            found = pipeline.execute(raise_on_error=False)
            missing += [k for k, answer in zip(part, found, strict=True) if answer != f"{k} {value}".encode()]
    return missing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.handoff", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value", type=int, default=100, help="bytes")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    value = "v" * given.value
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="handoff-") as directory:
        for name, run in (("away", away), ("full", full)):
            results[name] = run(Path(directory) / name, given.keys, value)
            print(f"\n{name}\n\n| what | |\n| --- | ---: |")
            print("\n".join(f"| {what} | {figure:,} |" for what, figure in results[name].items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    first, second = results["away"], results["full"]
    bad = [
        first["client errors"],
        first["lacking at n3"],
        first["by anti-entropy"],
        second["acknowledged and lost"],
        second["refused and there"],
        not second["refused"],
        not second["with a stand-in"],
    ]
    return 1 if any(bad) else 0


if __name__ == "__main__":
    sys.exit(main())
