"""Ringwise beside Redis: one command, one table, the same machine and the same run (`make bench`).

Systems are loaded one at a time, in turn, pair after pair; every other pair runs them in the opposite order, so
that a machine that slows down or speeds up does so for all. A ratio is taken inside a pair, and the median of
the pairs is shown: two medians of different minutes are never divided. All keys are written before anything is
measured, so every GET finds its value.

    python -m bench.compare [--pairs 5] [--quick] [--json FILE] [--markdown FILE] [--only NAME,…]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import generator, redis_benchmark, report, servers
from bench.servers import BenchmarkError, System

CONNECTIONS = 50
EVERYONE = ("redis", "redis_replicas", "ringwise_one", "ringwise_quorum")


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    systems: tuple[str, ...]
    test: str = "set"
    tool: str = "redis-benchmark"  # generator: SET, with WAIT 1 behind it for the systems in `waits`
    requests: int = 300_000
    keys: int = 1_000_000
    value_bytes: int = 100
    pipeline: int = 1
    waits: tuple[str, ...] = ()
    spread: bool = False  # connections over all nodes instead of the first
    restarts: tuple[str, ...] = ()  # systems restarted before the run: nothing in their caches


# Groups run one after the other, all pairs of one before the next: the larger values overwrite keys of the
# small ones. Inside a group a GET follows the SET of its size. The larger the value, the fewer the keys (they
# have to fit into the memory of three servers) and requests.
GROUPS: tuple[tuple[Workload, ...], ...] = (
    (
        Workload("set", "SET", EVERYONE),
        Workload("get", "GET", EVERYONE, "get"),
        Workload("set_p16", "SET, pipeline 16", EVERYONE, requests=1_000_000, pipeline=16),
        Workload("get_p16", "GET, pipeline 16", EVERYONE, "get", requests=1_000_000, pipeline=16),
    ),
    (
        Workload("gen_set", "SET, our generator", ("redis", "redis_replicas"), tool="generator"),
        Workload(
            "gen_wait",
            "SET on a 2nd server, our generator",
            ("redis_replicas", "ringwise_quorum"),
            tool="generator",
            waits=("redis_replicas",),
        ),
        Workload(
            "gen_spread", "SET, our generator, over all nodes", ("ringwise_quorum",), tool="generator", spread=True
        ),
    ),
    (
        Workload(
            "cold", "GET, cold cache (restarted)", ("redis", "ringwise_quorum"), "get", restarts=("ringwise_quorum",)
        ),
    ),
    (
        Workload("set_1k", "SET, 1 KB", EVERYONE, value_bytes=1_000, keys=50_000),
        Workload("get_1k", "GET, 1 KB", EVERYONE, "get", value_bytes=1_000, keys=50_000),
    ),
    (
        Workload("set_10k", "SET, 10 KB", EVERYONE, value_bytes=10_000, keys=10_000, requests=100_000),
        Workload("get_10k", "GET, 10 KB", EVERYONE, "get", value_bytes=10_000, keys=10_000, requests=100_000),
    ),
)
QUICK_SHARE = 10  # --quick: a tenth of the requests and keys, and no large values


@dataclass(frozen=True)
class Run:
    workload: str
    system: str
    pair: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_seconds_per_million: float
    rss_bytes: int
    others_share: float  # of the machine, taken by processes that have no part in the run
    failures: int = 0
    first_failure: str = ""


def quick(group: Sequence[Workload]) -> tuple[Workload, ...]:
    return tuple(
        replace(workload, requests=workload.requests // QUICK_SHARE, keys=workload.keys // QUICK_SHARE)
        for workload in group
        if workload.value_bytes == 100
    )


def measure(workload: Workload, system: System, pair: int) -> Run:
    """One workload on one system; what its servers spent includes the work left over after the last answer."""
    if system.key in workload.restarts:
        if system.restart is None:
            raise BenchmarkError(f"{system.title} was started by somebody else and cannot be restarted here")
        system.restart()
    system.prepare()
    system.settle()
    before = system.cpu_seconds()
    began, others_before = time.monotonic(), others_cpu_seconds(system)
    failures, first_failure = 0, ""
    if workload.tool == "generator":
        measured = generator.measure(
            system.ports if workload.spread else system.ports[:1],
            generator.SET_WAIT if system.key in workload.waits else generator.SET,
            requests=workload.requests,
            keys=workload.keys,
            value_bytes=workload.value_bytes,
            connections=CONNECTIONS,
            seed=pair,
        )
        failures, first_failure = measured.failures, measured.first_failure
        figures = redis_benchmark.Figures(measured.rps, measured.p50_ms, measured.p99_ms)
    else:
        figures = redis_benchmark.run(
            system.ports[0],
            workload.test,
            requests=workload.requests,
            keys=workload.keys,
            value_bytes=workload.value_bytes,
            pipeline=workload.pipeline,
            connections=CONNECTIONS,
        )
    system.settle()
    spent = system.cpu_seconds() - before
    others = (others_cpu_seconds(system) - others_before) / (time.monotonic() - began) / (os.cpu_count() or 1)
    return Run(
        workload=workload.key,
        system=system.key,
        pair=pair,
        rps=figures.rps,
        p50_ms=figures.p50_ms,
        p99_ms=figures.p99_ms,
        cpu_seconds_per_million=spent / workload.requests * 1e6,
        rss_bytes=system.rss_bytes(),
        others_share=max(others, 0.0),
        failures=failures,
        first_failure=first_failure,
    )


def others_cpu_seconds(system: System) -> float:
    """What is neither the servers', nor ours, nor a load generator's that we have waited for."""
    return servers.machine_cpu_seconds() - system.cpu_seconds() - sum(os.times()[:4])


def run_group(group: Sequence[Workload], systems: Sequence[System], pairs: int, say: report.Say) -> list[Run]:
    runs = []
    for pair in range(pairs):
        in_turn = systems if pair % 2 == 0 else systems[::-1]
        for workload in group:
            for system in in_turn:
                if system.key in workload.systems:
                    run = measure(workload, system, pair)
                    say(f"pair {pair + 1}/{pairs}  {workload.title}  {system.title}: {run.rps:,.0f}/s")
                    runs.append(run)
    return runs


def start_systems(stack: ExitStack, directory: Path, given: argparse.Namespace) -> list[System]:
    systems = [
        servers.redis_alone(stack, directory / "redis"),
        servers.redis_replicated(stack, directory / "redis_replicas"),
    ]
    if given.ringwise_ports:
        systems.append(servers.running("ringwise_quorum", "Ringwise, quorum (running)", given.ringwise_ports))
    elif not given.redis_only:
        systems += [servers.ringwise(stack, directory / level, level) for level in ("one", "quorum")]
    return systems


def idle_cpu_share(system: System, seconds: float = 1.0) -> float:
    before = system.cpu_seconds()
    time.sleep(seconds)
    return (system.cpu_seconds() - before) / seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Ringwise beside Redis, in one table")
    parser.add_argument("--pairs", type=int, help="interleaved pairs (default 5; 2 with --quick)")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the requests and keys, no large values: a smoke test"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help="only these workloads, e.g. set,get_p16,gen_wait"
    )
    parser.add_argument("--json", type=Path, help="write every run and the medians")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    parser.add_argument(
        "--directory", type=Path, help="where the servers' data go while it runs (default: a temporary directory)"
    )
    nodes = parser.add_mutually_exclusive_group()
    nodes.add_argument(
        "--ringwise-ports",
        type=servers.ports_of,
        help="client ports of a running cluster at quorum",
    )
    nodes.add_argument("--redis-only", action="store_true", help="leave Ringwise out: what this machine gives Redis")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[tuple[Workload, ...]]:
    groups = [quick(group) if given.quick else group for group in GROUPS]
    if given.ringwise_ports or given.redis_only:
        groups = [tuple(workload for workload in group if not workload.restarts) for group in groups]
    if given.only:
        unknown = set(given.only) - {workload.key for group in GROUPS for workload in group}
        if unknown:
            raise BenchmarkError(f"no such workload: {', '.join(sorted(unknown))}")
        groups = [tuple(workload for workload in group if workload.key in given.only) for group in groups]
    return [group for group in groups if group]


def compare(given: argparse.Namespace, say: report.Say) -> report.Report:
    pairs = given.pairs or (2 if given.quick else 5)
    groups = chosen(given)
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ringwise-bench-", dir=given.directory))
        )
        systems = start_systems(stack, directory, given)
        machine = report.machine()
        for system in systems:
            say(f"{system.title}: ports {system.ports}, processes {system.pids}; writing every key once")
            generator.preload(system.ports[0], groups[0][0].keys, 100)
            system.settle()
        idle = {system.key: idle_cpu_share(system) for system in systems}
        runs = [run for group in groups for run in run_group(group, systems, pairs, say)]
        return report.Report(
            machine=machine,
            pairs=pairs,
            systems={system.key: system.title for system in systems},
            workloads={workload.key: asdict(workload) for group in groups for workload in group},
            idle_cpu_share=idle,
            runs=[asdict(run) for run in runs],
        )


def main() -> int:
    given = parse()

    def work() -> None:
        made = compare(given, report.say)
        report.show(made)
        if given.json:
            given.json.write_text(json.dumps(report.as_json(made), indent=1) + "\n")
        if given.markdown:
            given.markdown.write_text(report.as_markdown(made))

    return servers.run_to_the_end(work)


if __name__ == "__main__":
    sys.exit(main())
