"""What clients see while a node fails: real processes, real clients, one command, a table.

    python -m bench.chaos [--scenarios kill,freeze] [--seconds N] [--rate 1000] [--json FILE] [--markdown FILE]

Each scenario has a new cluster of three (`ringwise dev`) and three client processes (bench.chaos_load), all at `quorum`:

    plain    GET, SET, DEL                          through a node that stays healthy
    rmw      APPEND, RW.GET and RW.PUT with context   through the other healthy node
    victim   GET, SET, DEL                          through the node that fails

    load ─ before ─▶ fault ─ during ─▶ fault ends ─ after ─▶ load ends, the rest of the wait for convergence, all read back
                     │ the healthy nodes asked            │ RW.EXPLAIN, which repairs nothing, of keys written during the
                     └ CLUSTER NODES every 20 ms          └ fault, until every copy of each has seen all that any has

Ends with 1 where something acknowledged is lost or read wrongly, where a client of a healthy node gets an error (APPEND and
RW.PUT: any but an unknown outcome), or where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from statistics import quantiles
from typing import Any, Literal

import redis
from bench import report, servers
from bench.chaos_load import Key, Kind, Load, Operation, Role, Story
from redis.backoff import NoBackoff
from redis.retry import Retry

from ringwise.cli.supervisor import ask as ask_supervisor

CALM_S = 5.0  # load before the fault, and the least after it
MONITOR_S = 0.02
OPERATIONS_MIN = 100  # by each client of a healthy node in each phase, however slow the machine
STALLED_S = 90.0
SAMPLE = 2_000
EXPLAINED_AT_ONCE = 20  # holds a node for about a millisecond
EXPLAINED_PER_S = 2_000  # more would be a load of its own, and show in the latencies after the fault
READ_AT_ONCE = 200
READABLE_S = 30.0  # how long the node that failed may refuse reads after the end of the fault
SHARES: dict[Role, float] = {"plain": 0.5, "rmw": 0.3, "victim": 0.2}
PHASES = ("before", "during", "after")


Preset = Literal["local", "lan"]
DETECT_S: dict[Preset, float] = {"local": 5.0, "lan": 10.0}  # promised in core/gossip/presets.py, and so is the pause
PAUSE_S = 1.9
PAUSES = 3
View = Literal["up", "down", "dead"]  # down: suspected, or out of reach of the node asked alone


@dataclass(frozen=True)
class Scenario:
    title: str
    seconds: float
    begin: Callable[[Site], None]
    end: Callable[[Site], None]
    noticed: bool = True  # whether the cluster should see the node as down, and call it dead
    membership: Preset = "local"


@dataclass
class Site:
    """The cluster of one scenario."""

    directory: Path
    ports: list[int]
    victim: int
    pid: int = 0

    def dev(self, command: str, direction: str = "both") -> None:
        """`ringwise dev COMMAND N`, without a new interpreter in between."""
        ask_supervisor(self.directory / "data", command, self.victim, direction)

    def healthy(self) -> list[int]:
        return [port for number, port in enumerate(self.ports, 1) if number != self.victim]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def _start_again(site: Site) -> None:
    # The supervisor may not have noticed the death yet; it says so.
    site.dev("start")


def _nothing(_: Site) -> None: ...


def _pause(site: Site) -> None:
    """Again and again as long as must do no harm, and the fault is over."""
    for _ in range(PAUSES):
        site.signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        site.signal(signal.SIGCONT)
        time.sleep(PAUSE_S)


SCENARIOS = {
    "none": Scenario("no fault", 10, _nothing, _nothing, noticed=False),
    "pause": Scenario(f"SIGSTOP for {PAUSE_S} s, {PAUSES} times", 5, _pause, _nothing, noticed=False),
    "kill": Scenario("kill -9, started again", 20, lambda site: site.signal(signal.SIGKILL), _start_again),
    "kill-lan": Scenario(
        "kill -9, preset `lan`", 20, lambda site: site.signal(signal.SIGKILL), _start_again, membership="lan"
    ),
    "freeze": Scenario(
        "SIGSTOP, SIGCONT", 30, lambda site: site.signal(signal.SIGSTOP), lambda site: site.signal(signal.SIGCONT)
    ),
    "partition": Scenario("cut off both ways", 20, lambda site: site.dev("partition"), lambda site: site.dev("heal")),
    "out": Scenario(
        "nothing it sends arrives", 20, lambda site: site.dev("partition", "out"), lambda site: site.dev("heal")
    ),
    "in": Scenario(
        "nothing sent to it arrives", 20, lambda site: site.dev("partition", "in"), lambda site: site.dev("heal")
    ),
}


@dataclass
class Limits:
    detect_s: float | None  # None: as its preset promises
    converge_s: float  # 0: looked at once, and not judged


@dataclass
class Latency:
    operations: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass
class Result:
    scenario: str
    title: str
    fault_s: float = 0.0
    operations: dict[str, int] = field(default_factory=dict)  # by client
    errors: dict[str, dict[str, int]] = field(default_factory=dict)  # by client and kind, then by code
    error_texts: dict[str, list[str]] = field(default_factory=dict)
    latency: dict[str, dict[str, Latency]] = field(default_factory=dict)  # by client, then by phase
    down_s: float | None = None  # until every healthy node saw it as down
    detected_s: float | None = None  # until every healthy node called it dead
    detect_max_s: float = 0.0
    deaths: int = 0  # how often it was called dead where it should not be
    seen_up_again: int = 0  # while the fault lasted
    back_s: float | None = None  # until every healthy node saw it as up, from the end of the fault
    sample: int = 0
    converged_s: float | None = None
    differing_at_end: int = 0
    differing_at_once: int = 0
    acknowledged: int = 0  # keys whose last write was acknowledged
    lost: list[str] = field(default_factory=list)
    wrong_reads: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def client_of(port: int, timeout_s: float = 5.0) -> redis.Redis:
    return redis.Redis(
        port=port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0), protocol=3, decode_responses=True
    )


class Monitor(threading.Thread):
    """Asks the healthy nodes again and again what they think of the victim; keeps every change of their minds."""

    def __init__(self, ports: Sequence[int], victim_id: str) -> None:
        super().__init__(daemon=True)
        self.changes: dict[int, list[tuple[float, View]]] = {port: [] for port in ports}
        self.errors: list[str] = []
        self._victim = victim_id
        self._clients = {port: client_of(port) for port in ports}
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(MONITOR_S):
            for port, client in self._clients.items():
                try:
                    nodes = client.execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]
                except redis.RedisError as error:
                    self.errors.append(f"CLUSTER NODES at {port}: {type(error).__name__}: {error}")
                    continue
                told = [each["flags"] for each in nodes.values() if each["node_id"].startswith(self._victim)]
                if not told:  # a document from before the victim joined: this node has still to hear of the next one
                    continue
                seen = set(told[0].split(","))
                view: View = "dead" if "fail" in seen else "down" if "fail?" in seen else "up"
                changes = self.changes[port]
                if not changes or changes[-1][1] != view:
                    changes.append((time.monotonic(), view))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()
        for client in self._clients.values():
            client.close()

    def first(self, views: tuple[View, ...], since_s: float) -> float | None:
        """When the last of the nodes first saw it so, or had so all the time; None while one has not."""
        latest = since_s
        for changes in self.changes.values():
            before = [view for at_s, view in changes if at_s <= since_s]
            after = [at_s for at_s, view in changes if at_s > since_s and view in views]
            if before and before[-1] in views:
                continue
            if not after:
                return None
            latest = max(latest, after[0])
        return latest

    def counted(self, counted: View, from_s: float = 0.0, to_s: float = inf) -> int:
        return sum(
            view == counted and from_s < at_s < to_s for changes in self.changes.values() for at_s, view in changes[1:]
        )


class Trial:
    """One scenario, from a new cluster to its figures."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.scenario = SCENARIOS[name]
        self.seconds: float = given.seconds or self.scenario.seconds
        self.limits = Limits(given.detect_max_s, given.converge_max_s)
        self.result = Result(name, self.scenario.title)
        self.result.detect_max_s = self.limits.detect_s or DETECT_S[self.scenario.membership]
        self._rate: float = given.rate
        self._sample: int = given.sample
        self._victim: int = given.victim
        self._logs: Path | None = given.logs

    def run(self) -> Result:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringwise-chaos-"))) / "cluster"
            system = servers.ringwise(stack, directory, "quorum", self.scenario.membership)
            site = Site(directory, system.ports, self._victim)
            with client_of(site.ports[site.victim - 1]) as client:
                site.pid = int(client.info("server")["process_id"])
                victim_id = str(client.info("ringwise")["node_id"])
            one, other = site.healthy()
            through: dict[Role, int] = {"plain": one, "rmw": other, "victim": site.ports[site.victim - 1]}
            loads = [Load(role, port, self._rate * SHARES[role]) for role, port in through.items()]
            for load in loads:
                stack.callback(load.abandon)
            monitor = Monitor(site.healthy(), victim_id)
            stack.callback(monitor.stop)
            # A frozen process could not end itself when told to.
            stack.callback(lambda: _suppressed(lambda: site.signal(signal.SIGCONT)))
            monitor.start()
            try:
                self._go(site, loads, monitor)
            finally:
                logs = "".join(path.read_text() for path in sorted((directory / "data").glob("*.log")))
                if self._logs is not None:
                    self._logs.mkdir(parents=True, exist_ok=True)
                    (self._logs / f"{self.result.scenario}.log").write_text(logs)
            troubles = re.findall(r"^.* (?:error|critical) .*$", logs, re.MULTILINE)
            self.result.failures += [f"in a node's log: {line}" for line in troubles[:3]]
        return self.result

    def _go(self, site: Site, loads: list[Load], monitor: Monitor) -> None:
        result, scenario = self.result, self.scenario
        healthy = [load for load in loads if load.role != "victim"]
        self._phase(healthy, min(CALM_S, self.seconds))
        fault_s = time.monotonic()
        scenario.begin(site)

        def noticed() -> bool:
            seen = not scenario.noticed or monitor.first(("dead",), fault_s) is not None
            return seen or time.monotonic() - fault_s > result.detect_max_s

        self._phase(healthy, self.seconds, noticed)
        ended_s = time.monotonic()
        scenario.end(site)
        keys = [key for load in loads for key in load.written_since(fault_s)]
        sample = keys if len(keys) <= self._sample else random.Random(1).sample(keys, self._sample)
        convergence = Convergence(site.healthy()[0], sample, ended_s)
        watching = threading.Thread(target=convergence.run, args=(self.limits.converge_s,), daemon=True)
        watching.start()
        self._phase(healthy, min(CALM_S, self.seconds))
        stopped_s = time.monotonic()
        stories = [load.stop() for load in loads]
        watching.join()
        result.fault_s = ended_s - fault_s
        self._tell_clients(stories, (fault_s, ended_s, stopped_s))
        self._tell_cluster(monitor, convergence, fault_s, ended_s)
        self._read_back(site, stories)
        self._judge(monitor, convergence)

    def _phase(self, loads: list[Load], seconds: float, also: Callable[[], bool] = lambda: True) -> None:
        """So long, and until every client of a healthy node has got something done."""
        began_s, starts = time.monotonic(), [load.answered() for load in loads]
        while True:
            time.sleep(0.05)
            passed_s = time.monotonic() - began_s
            done = all(load.answered() - start >= OPERATIONS_MIN for load, start in zip(loads, starts, strict=True))
            if passed_s >= seconds and done and also():
                return
            if passed_s > seconds + STALLED_S:
                raise servers.BenchmarkError(
                    f"{self.scenario.title}: the clients of the healthy nodes got nothing done"
                )

    def _tell_clients(self, stories: list[Story], at_s: tuple[float, float, float]) -> None:
        result = self.result
        for story in stories:
            result.operations[story.role] = len(story.operations)
            kinds: dict[Kind, Counter[str]] = {"read": Counter(), "write": Counter(), "rmw": Counter()}
            for operation in story.operations:
                if operation.error:
                    kinds[operation.kind][operation.error] += 1
            for kind, errors in kinds.items():
                if errors:
                    result.errors[f"{story.role} {kind}"] = dict(errors)
            result.error_texts[story.role] = story.errors
            result.wrong_reads += story.wrong
            phases = {phase: _latency(story.operations, phase, at_s) for phase in PHASES}
            result.latency[story.role] = {phase: found for phase, found in phases.items() if found is not None}

    def _tell_cluster(self, monitor: Monitor, convergence: Convergence, fault_s: float, ended_s: float) -> None:
        result = self.result
        if self.scenario.noticed:
            result.down_s = _since(fault_s, monitor.first(("down", "dead"), fault_s))
            result.detected_s = _since(fault_s, monitor.first(("dead",), fault_s))
            result.back_s = _since(ended_s, monitor.first(("up",), ended_s))
        else:
            result.deaths = monitor.counted("dead")
        if result.detected_s is not None:
            result.seen_up_again = monitor.counted("up", fault_s, ended_s)
        result.sample = convergence.total
        result.converged_s = convergence.converged_s
        result.differing_at_once = convergence.differing_at_once
        result.differing_at_end = convergence.differing

    def _read_back(self, site: Site, stories: list[Story]) -> None:
        """Every key through a healthy node and through the one that failed, at quorum."""
        keys = {key: note for story in stories for key, note in story.keys.items()}
        self.result.acknowledged = sum(note.written_s > 0 and not note.unknown for note in keys.values())
        self._read_all(site.healthy()[0], keys, 0)
        self._read_all(site.ports[site.victim - 1], keys, READABLE_S)

    def _read_all(self, port: int, keys: dict[str, Key], patience_s: float) -> None:
        names, lost, deadline_s = list(keys), self.result.lost, time.monotonic() + patience_s
        with client_of(port) as client:
            for start in range(0, len(names), READ_AT_ONCE):
                part = names[start : start + READ_AT_ONCE]
                while True:
                    try:
                        answers = _pipelined(client, "GET", part)
                        break
                    except redis.RedisError as error:
                        if time.monotonic() > deadline_s:
                            self.result.failures.append(f"cannot be read back at {port}: {error}")
                            return
                        time.sleep(0.1)
                lost += [
                    f"{key} at {port}: {found!r}, written {keys[key].acknowledged!r}, perhaps {keys[key].unknown!r}"
                    for key, found in zip(part, answers, strict=True)
                    if not keys[key].allows(found)
                ]

    def _judge(self, monitor: Monitor, convergence: Convergence) -> None:
        result, failures = self.result, self.result.failures
        if result.lost:
            failures.append(f"{len(result.lost)} reads at the end do not show what was acknowledged: {result.lost[0]}")
        if result.wrong_reads:
            failures.append(f"{len(result.wrong_reads)} reads during the load were wrong: {result.wrong_reads[0]}")
        for what, errors in result.errors.items():
            role, kind = what.split()
            if role == "victim":
                continue
            bad = {code: count for code, count in errors.items() if kind != "rmw" or code != "UNKNOWN"}
            if bad:
                texts = "; ".join(result.error_texts[role])
                failures.append(f"a client of a healthy node got errors ({what}): {bad}: {texts}")
        if monitor.errors:
            failures.append(f"a healthy node did not answer: {monitor.errors[0]}")
        if self.scenario.noticed:
            if result.detected_s is None or result.detected_s > result.detect_max_s:
                failures.append(f"not called dead by every healthy node within {result.detect_max_s:g} s")
            if result.back_s is None:
                failures.append("not seen as up again by every healthy node")
        elif result.deaths:
            failures.append("a node that ran, or paused for a moment, was called dead")
        if convergence.error:
            failures.append(f"the copies cannot be looked at: {convergence.error}")
        elif result.converged_s is None and self.limits.converge_s:
            share = result.differing_at_end / max(1, result.sample)
            failures.append(
                f"copies of {share:.1%} of the keys written meanwhile differ {self.limits.converge_s:g} s later"
            )


class Convergence:
    """The copies of some keys, looked at until they are equal: every owner answers and has seen all that any has."""

    def __init__(self, port: int, keys: list[str], ended_s: float) -> None:
        self.total = len(keys)
        self.differing = self.differing_at_once = len(keys)
        self.converged_s: float | None = None
        self.error = ""
        self._port = port
        self._keys = keys
        self._ended_s = ended_s

    def run(self, limit_s: float) -> None:
        try:
            with client_of(self._port) as client:
                left = self._differing(client, self._keys)
                self.differing_at_once = len(left)
                while left and time.monotonic() - self._ended_s < limit_s:
                    time.sleep(0.05)
                    left = self._differing(client, left)
                    equal_s = time.monotonic() - self._ended_s
                    if not left:  # nothing may have come apart again meanwhile
                        left = self._differing(client, self._keys)
                        self.converged_s = None if left else equal_s
                if not self.differing_at_once:
                    self.converged_s = time.monotonic() - self._ended_s
                self.differing = len(left)
        except redis.RedisError as error:
            self.error = f"{type(error).__name__}: {error}"

    def _differing(self, client: redis.Redis, keys: list[str]) -> list[str]:
        found = []
        for start in range(0, len(keys), EXPLAINED_AT_ONCE):
            part = keys[start : start + EXPLAINED_AT_ONCE]
            began_s = time.monotonic()
            for key, told in zip(part, _pipelined(client, "RW.EXPLAIN", part), strict=True):
                if any(owner["compared"] != "current" for owner in told["owners"]):
                    found.append(key)
            time.sleep(max(0.0, began_s + len(part) / EXPLAINED_PER_S - time.monotonic()))
        return found


def _since(start_s: float, at_s: float | None) -> float | None:
    return None if at_s is None else at_s - start_s


def _suppressed(act: Callable[[], None]) -> None:
    with suppress(OSError):
        act()


def _pipelined(client: redis.Redis, command: str, keys: list[str]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.execute_command(command, key)  # type: ignore[no-untyped-call]
        answers: list[Any] = pipe.execute()
        return answers


def _latency(operations: list[Operation], phase: str, at_s: tuple[float, float, float]) -> Latency | None:
    """Of what was answered, by when it was sent."""
    fault_s, ended_s, stopped_s = at_s
    bounds = {"before": (0.0, fault_s), "during": (fault_s, ended_s), "after": (ended_s, stopped_s)}
    low, high = bounds[phase]
    times = [each.seconds * 1000 for each in operations if low <= each.began_s < high and not each.error]
    if len(times) < 2:
        return None
    cuts = quantiles(times, n=100, method="inclusive")
    return Latency(len(times), cuts[49], cuts[98], max(times))


CLIENT_HEADINGS = (
    "fault",
    "operations",
    "healthy: GET, SET, DEL errors",
    "APPEND, RW.PUT unknown",
    "other errors",
    "through the node itself",
    "acknowledged",
    "lost",
    "wrong reads",
)
LATENCY_HEADINGS = ("fault", "clients", *(f"{what} ms: before, during, after" for what in ("p50", "p99", "max")))
CLUSTER_HEADINGS = (
    "fault",
    "for s",
    "seen as down after s",
    "called dead after s",
    "at most",
    "seen up meanwhile",
    "seen as up after s",
    "keys looked at",
    "differ at once",
    "copies equal after s",
    "",
)


def client_rows(results: list[Result]) -> list[list[str]]:
    made = []
    for result in results:
        healthy: Counter[str] = Counter()
        rmw: Counter[str] = Counter()
        victim: Counter[str] = Counter()
        for what, errors in result.errors.items():
            role, kind = what.split()
            (victim if role == "victim" else rmw if kind == "rmw" else healthy).update(errors)
        unknown = rmw.pop("UNKNOWN", 0)
        own = ", ".join(f"{count:,} {code}" for code, count in sorted(victim.items())) or "no error"
        made.append(
            [
                result.title,
                f"{sum(result.operations.values()):,}",
                f"{healthy.total():,}",
                f"{unknown:,}",
                f"{rmw.total():,}",
                own,
                f"{result.acknowledged:,} keys",
                f"{len(result.lost):,}",
                f"{len(result.wrong_reads):,}",
            ]
        )
    return made


def latency_rows(results: list[Result]) -> list[list[str]]:
    made = []
    names = {"plain": "GET, SET, DEL", "rmw": "APPEND, RW.GET, RW.PUT"}
    for result in results:
        for number, (role, title) in enumerate(names.items()):
            phases = [result.latency.get(role, {}).get(phase) for phase in PHASES]
            figures = [
                ", ".join("–" if phase is None else f"{getattr(phase, what):.1f}" for phase in phases)
                for what in ("p50_ms", "p99_ms", "max_ms")
            ]
            made.append([result.title if number == 0 else "", title, *figures])
    return made


def cluster_rows(results: list[Result], limits: Limits) -> list[list[str]]:
    made = []
    for result in results:
        noticed = SCENARIOS[result.scenario].noticed
        share = result.differing_at_end / max(1, result.sample)
        if result.converged_s is not None:
            equal = f"{result.converged_s:.1f}"
        elif limits.converge_s:
            equal = f"not within {limits.converge_s:g} s: {share:.1%} differ"
        else:
            equal = f"not waited for: {share:.1%} differ"
        made.append(
            [
                result.title,
                f"{result.fault_s:.0f}",
                _seconds(result.down_s) if noticed else "",
                _seconds(result.detected_s) if noticed else f"{result.deaths} times" if result.deaths else "never",
                f"{result.detect_max_s:g}" if noticed else "never",
                str(result.seen_up_again) if noticed else "",
                _seconds(result.back_s) if noticed else "",
                f"{result.sample:,}",
                f"{result.differing_at_once / max(1, result.sample):.1%}",
                equal,
                "failed" if result.failures else "held",
            ]
        )
    return made


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="What clients see while a node fails")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="with commas between (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1000.0, help="operations a second, of all clients (default 1000)")
    parser.add_argument("--seconds", type=float, help="how long each fault lasts (default: 10 to 30)")
    parser.add_argument("--victim", type=int, choices=(1, 2, 3), default=3, help="which node fails (default 3)")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"keys whose copies are compared (default {SAMPLE})")
    parser.add_argument(
        "--detect-max-s", type=float, help="called dead by then, or failed (default 5, with preset lan 10)"
    )
    parser.add_argument(
        "--converge-max-s", type=float, default=60.0, help="copies equal by then, or failed (default 60); 0: not judged"
    )
    parser.add_argument("--json", type=Path, help="write every figure")
    parser.add_argument("--logs", type=Path, help="keep the nodes' logs of each scenario in this directory")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    given = parser.parse_args()
    given.names = given.scenarios.split(",")
    unknown = [name for name in given.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return given


def tables(results: list[Result], limits: Limits) -> list[tuple[str, Sequence[str], list[list[str]], int]]:
    return [
        ("What clients see", CLIENT_HEADINGS, client_rows(results), 1),
        ("Latency through healthy nodes", LATENCY_HEADINGS, latency_rows(results), 2),
        ("What the cluster does", CLUSTER_HEADINGS, cluster_rows(results, limits), 1),
    ]


def work(given: argparse.Namespace, results: list[Result]) -> None:
    for name in given.names:
        report.say(f"{SCENARIOS[name].title}: a new cluster, {given.rate:g} operations a second")
        results.append(Trial(name, given).run())
        for failure in results[-1].failures:
            report.say(f"  FAILED: {failure}")
    machine = report.machine()
    limits = Limits(given.detect_max_s, given.converge_max_s)
    shown = tables(results, limits)
    for title, headings, body, left in shown:
        report.show_table(title, headings, body, left)
    failures = [f"FAILED {result.title}: {failure}" for result in results for failure in result.failures]
    report.show_notes([report.machine_text(machine), *failures])
    if given.json:
        told = {
            "machine": machine,
            "rate": given.rate,
            "limits": asdict(limits),
            "results": [asdict(r) for r in results],
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    if given.markdown:
        parts = [report.markdown_table(headings, body) for _, headings, body, _ in shown]
        given.markdown.write_text("\n".join([*parts, report.machine_text(machine)]) + "\n")


def main() -> int:
    given = parse()
    results: list[Result] = []
    code = servers.run_to_the_end(lambda: work(given, results))
    return code or int(any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main())
