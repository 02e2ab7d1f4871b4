"""One history from one seed: a cluster, its clients and its adversary, then the verdict.

    form the cluster ─▶ 60 virtual seconds of operations and faults ─▶ mend everything ─▶ read each key at `all` ─▶
    check

All chance comes from the seed, all time from the scheduler, so a seed is a history: the same under any PYTHONHASHSEED
and on any machine.  A `Scenario` is what is drawn first: how many nodes, which sync mode, how fast the disks, how
small the memtable.
"""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from ringwise.core import buckets, rows
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.gossip.packets import State
from ringwise.core.keys import key_of, storage_key
from ringwise.core.messages import NodeId
from ringwise.core.record import whole
from ringwise.core.ring import slot_of
from ringwise.core.topology import Document, Topology
from ringwise.sim.checker import Ending, N, Violation, check, stale_reads
from ringwise.sim.handoff import REMEMBERED, check_handoff
from ringwise.sim.history import History, Operation, bucket_of
from ringwise.sim.machine import Machine
from ringwise.sim.model import Witness
from ringwise.sim.nemesis import FAULTS_MIN, Nemesis
from ringwise.sim.network import Network, Weather
from ringwise.sim.policies import RULES
from ringwise.sim.reaps import check_reaped, suspend
from ringwise.sim.refill import check_filled, refill
from ringwise.sim.repairs import LOSSLESS, check_repairs
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.sightings import Sightings
from ringwise.sim.trace import Trace
from ringwise.sim.workload import COUNTERS, FLUSHES, POLICIES, REAPED, Client, Mix, Workload
from ringwise.storage.commitlog import SyncMode
from ringwise.storage.store import StoreConfig

CLIENTS = 5
DURATION_MS = 60_000.0
FORM_MS_MAX = 20_000.0  # for a cluster to form while nothing is broken
ROUGH_MS = 5_000.0
ROUGH_FAULTS = (
    "crash",
    "crash all",
    "crash while writing",
    "crash in the act",
    "break",
    "loss",
    "disorder",
    "partition",
)
ROUGH_FAULTS_MAX = 6
MAJORITY = N // 2 + 1
FORMED_MS = 2_000.0
HEAL_MS = 6_000.0  # after mending: links are dialled again, deadlines pass
READ_ATTEMPTS = 20
READ_PAUSE_MS = 500.0
OPERATIONS_MIN = 1_000
ACKNOWLEDGED_SHARE_MIN = 0.5  # a history in which less was acknowledged shows too little to count
LINES_AROUND = 10  # of the operations in question, told where a promise is broken
LINES_MAX = 60
LINES_LAST = 3
HINTS_MAX = 10_000
REAP_AFTER_MS = 200  # a history is short
REAP_INTERVAL_MS = 100
REPAIR_INTERVAL_MS = 5_000  # half of the default: a history is short
# Seeds of which one has two buckets and flushes, and then no contexts; one counters, one reaping, one buckets with rules of
# their own.
FLUSHED_EVERY = 5


REMOVED_FEW = 5  # in half of them removed rows are flushed, and reclaimed, soon
LONG_TURN_MS = 3.0  # in a third of them: many commands of many clients come within one (B5)
ROWS_FROM_BYTES = 20  # in most histories all collections are held as rows: theirs are small


@dataclass(frozen=True)
class Scenario:
    """The conditions of a history."""

    nodes: int = 3
    power: bool = False  # crashes lose power, so the log is synced before each answer
    work_ms: float = 1.0
    turn_ms: float = 0.05  # inputs that come within it share a turn
    weather: Weather = field(default_factory=Weather)
    memtable_bytes: int = 1 << 20
    cache_bytes: int = 1 << 20
    segment_bytes: int = 1 << 20
    removed_rows: int = 100_000  # that are flushed
    send_buffer_bytes_max: int = 1 << 20
    rough_start: bool = False  # the cluster forms under faults
    mix: Mix = field(default_factory=Mix)
    repairs: bool = False  # anti-entropy runs
    hints: bool = False  # coordinators keep them
    reaps: bool = False  # what is deleted or expired goes for good
    faults: tuple[str, ...] = ()  # kinds of fault; none named: all

    @staticmethod
    def draw(rng: random.Random) -> "Scenario":
        small = rng.random() < 0.5
        return Scenario(
            nodes=rng.choice((3, 3, 3, 4, 5)),
            power=rng.random() < 0.5,
            work_ms=rng.choice((0.3, 2.0, 10.0)),
            weather=Weather(rng.choice((0.1, 0.5, 5.0)), rng.choice((0.1, 1.0))),
            memtable_bytes=rng.choice((20_000, 60_000)) if small else 1 << 20,
            cache_bytes=rng.choice((1, 1_000, 5_000, 1 << 20)),
            segment_bytes=rng.choice((4_000, 40_000, 1 << 20)),
            send_buffer_bytes_max=rng.choice((4_000, 1 << 20)),
            rough_start=rng.random() < 0.5,
            mix=Mix(scans=rng.choice((0.0, 0.1))),  # scans repair as they read: half of the histories go without
            repairs=rng.random() < 0.5,  # it mends what a path that forgot an owner left behind: likewise
            hints=rng.random() < 0.7,
        )

    @property
    def sync_mode(self) -> SyncMode:
        return "batch" if self.power else "periodic"

    def __str__(self) -> str:
        return f"{self.nodes} nodes, {self.sync_mode:8}"


@dataclass
class Report:
    seed: int
    scenario: str
    operations: int
    acknowledged: int
    faults: int
    reads: int  # that tell their context
    stale: int  # of them, those that missed an earlier acknowledged write, at whatever level
    violations: list[str]
    story: list[str]  # of the first violation
    digest: str
    again: str = ""

    @property
    def counts(self) -> bool:
        """Whether enough happened for its passing to mean something."""
        enough = self.operations >= OPERATIONS_MIN and self.faults >= FAULTS_MIN
        return enough and self.acknowledged >= ACKNOWLEDGED_SHARE_MIN * self.operations

    def __str__(self) -> str:
        line = (
            f"seed {self.seed:5}  {self.scenario}  {self.operations:5,} operations  {self.faults:2} faults  "
            f"{self.acknowledged / max(1, self.operations):4.0%} acknowledged"
        )
        if not self.violations:
            return line + ("" if self.counts else "  does not count")
        lines = [line + "  FAILS", *(f"    {violation}" for violation in self.violations)]
        lines += [f"      {step}" for step in self.story]
        return "\n".join([*lines, f"    again: {self.again} --trace"])


class Simulation:
    def __init__(
        self, seed: int, scenario: Scenario, rng: random.Random, tell: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.scenario = scenario
        self.violations: list[Violation] = []
        self.scheduler = Scheduler()
        self.trace = Trace(lambda: self.scheduler.now_ms, tell)
        self.witness = Witness(lambda: self.scheduler.now_ms, reaps=scenario.reaps)
        self.config = NodeConfig(
            memtable_bytes=scenario.memtable_bytes,
            repair_interval_ms=REPAIR_INTERVAL_MS if scenario.repairs else 0,
            hints_max=HINTS_MAX if scenario.hints else 0,
            reap_after_ms=REAP_AFTER_MS if scenario.reaps else 0,
            reap_interval_ms=REAP_INTERVAL_MS,
            membership="local",  # a history is short, and this one has more to say in it
        )
        self.network = Network(self.scheduler, rng, scenario.send_buffer_bytes_max, self.trace)
        self.network.weather = self.network.calm = scenario.weather
        self._rng = rng
        self._documents: dict[int, bytes] = {}
        store = StoreConfig(
            sync_mode=scenario.sync_mode,
            memtable_bytes=scenario.memtable_bytes,
            cache_bytes=scenario.cache_bytes,
            segment_bytes=scenario.segment_bytes,
            removed_rows=scenario.removed_rows,
        )
        names = [f"n{number}" for number in range(1, scenario.nodes + 1)]
        self.machines = [
            Machine(self, rng, name, rng.choice(names[: max(1, number)]), store, scenario.work_ms, scenario.turn_ms)
            for number, name in enumerate(names)
        ]
        self.sightings = Sightings(self.scheduler, self.network, self.machines)
        self.history = History()
        self._acknowledged = 0

    # The world of the machines.

    def machine(self, name: str) -> Machine:
        return self.machines[int(name[1:]) - 1]

    def bug(self, machine: Machine, text: str) -> None:
        self.violations.append(Violation("exception", b"", f"{machine.name} at {self.scheduler.now_ms:.1f} ms: {text}"))

    def stood_in(self, rkey: bytes) -> None:
        self.history.stood_in.append((key_of(rkey), self.scheduler.now_ms))

    def merge_failed(self) -> None:
        self.history.merge_failures.append(self.scheduler.now_ms)

    def topology_installed(self, machine: Machine, topology: Topology) -> None:
        document = topology.document
        assert document is not None
        encoded = document.encode()
        first = self._documents.setdefault(document.epoch, encoded)
        self.trace.event(machine.name, f"follows epoch {document.epoch}")
        if first != encoded:
            self.violations.append(Violation("epoch", b"", f"{machine.name} holds another document {document.epoch}"))

    def member_changed(self, machine: Machine, node: NodeId, before: State, after: State) -> None:
        self.trace.event(machine.name, f"says {after.name.lower()} of {node.hex()}, {before.name.lower()} before")
        self.sightings.changed(machine, node, after)

    # A history.

    def run(self) -> None:
        self._form()
        began_ms = self.scheduler.now_ms
        until_ms = began_ms + DURATION_MS
        workload = Workload(
            self.scheduler,
            self._rng,
            self.scenario.mix,
            self.machines,
            self.config.default_level,
            CLIENTS,
            until_ms,
            self.history,
        )
        nemesis = self._nemesis(self.scenario.faults)
        nemesis.plan(began_ms + 1_000, until_ms - 2_000)
        self.history.pipelines_from_ms = began_ms + FORMED_MS  # the first writes wait for the table to be formed
        workload.start()
        self.scheduler.run(until_ms)
        nemesis.mend()
        self.scheduler.run(until_ms + HEAL_MS)
        self._close(workload)
        faults = set(self.scenario.faults)
        if self.history.emptied:
            emptied = self.machine(nemesis.emptied.name)
            self.violations += refill(self.scheduler, self.machines, emptied)
            self.violations += check_filled(self.history, self.witness, self._replicas, emptied.name)
        if self.scenario.hints:
            self.violations += check_handoff(
                self.scheduler, self.machines, workload.keys, self._replicas, bool(faults) and faults <= REMEMBERED
            )
        self.violations += self.sightings.check()
        suspend(self.scheduler, self.machines)
        self.violations += check_repairs(
            self.scheduler,
            self.machines,
            workload.keys,
            self._replicas,
            self.scenario.repairs,
            bool(faults) and faults <= LOSSLESS,
        )
        endings = self._read_all(workload)
        if self.scenario.reaps:
            self.violations += check_reaped(
                self.scheduler, self.machines, workload.keys + workload.leases, self._replicas
            )
        self._acknowledged = sum(operation.outcome == "ok" for operation in self.history.operations)
        for operation in self.history.operations:
            # What only one owner had, and lost with its record, is lost: less than a majority promises no more (T4, S4).
            if operation.key in self.history.damaged and operation.outcome == "ok" and operation.w < MAJORITY:
                operation.outcome = "unknown"
        self.history.promise_less_of_lost_disks(MAJORITY)
        self.history.promise_less()
        self.violations += check(self.history, self.witness, endings)

    def _nemesis(self, kinds: tuple[str, ...]) -> Nemesis:
        return Nemesis(
            self.scheduler,
            self._rng,
            self.machines,
            self.network,
            self.history,
            self.scenario.power,
            self.trace,
            kinds,
        )

    def _form(self) -> None:
        for machine in self.machines:
            machine.start()
        if self.scenario.rough_start:
            nemesis = self._nemesis(ROUGH_FAULTS)
            nemesis.plan(0.0, ROUGH_MS, ROUGH_FAULTS_MAX)
            self.scheduler.run(ROUGH_MS)
            nemesis.mend()
            self.history.faults = 0  # what counts are those that operations met
        members = len(self.machines)
        while not all(machine.node and len(machine.node.topology.members) == members for machine in self.machines):
            if self.scheduler.now_ms > ROUGH_MS + FORM_MS_MAX:
                raise AssertionError("the cluster does not form")
            self.scheduler.run(self.scheduler.now_ms + 50)
        if self.scenario.mix.policies:
            self._set_rules()

    def _set_rules(self) -> None:
        """Of buckets that have their own."""
        for number, settings in RULES.items():
            asked: list[Document | Failure] = []
            node = self.machines[0].node
            assert node is not None
            self.machines[0].enter()
            node.change_buckets(partial(buckets.change, label=str(number), settings=settings), asked.append)
            # Who started last dials the others only now.
            self._run_until(lambda asked=asked: bool(asked), HEAL_MS)  # type: ignore[misc]
            if not asked or isinstance(asked[0], Failure):
                raise AssertionError(f"the rules of bucket {number} are not agreed upon: {asked}")

    def _close(self, workload: Workload) -> None:
        """What is still open has an unknown outcome."""
        for client in workload.clients:
            client.leave()

    def _read_all(self, workload: Workload) -> list[Ending]:
        """One read of each key at `all`, tried again where it was refused; then the records of the owners."""
        reader = Client(len(workload.clients), workload, self._rng)
        readings: dict[bytes, Operation] = {}
        for key in workload.keys:
            for _ in range(READ_ATTEMPTS):
                readings[key] = reader.ask(self._rng.choice(self.machines), "inspect", key, "all")
                self._run_until(lambda operation=readings[key]: operation.outcome != "open")  # type: ignore[misc]
                if readings[key].outcome == "ok":
                    break
                self.scheduler.run(self.scheduler.now_ms + READ_PAUSE_MS)
        self.scheduler.run(self.scheduler.now_ms + READ_PAUSE_MS)
        return [Ending(key, readings[key], self._replicas(key)) for key in workload.keys]

    def _run_until(self, done: Callable[[], bool], longer_ms: float = 0.0) -> None:
        deadline_ms = self.scheduler.now_ms + 4 * self.config.request_timeout_ms + longer_ms
        while not done() and self.scheduler.now_ms < deadline_ms:
            self.scheduler.run(self.scheduler.now_ms + 5)

    def _replicas(self, key: bytes) -> dict[str, bytes]:
        """What each owner holds, in memory or on disk."""
        slot = slot_of(key)
        held: dict[str, bytes] = {}
        for machine in self.machines:
            node = machine.node
            if node is None:
                held[machine.name] = b""
            elif node.id in node.topology.owners[slot]:
                document = node.topology.document
                assert document is not None
                rkey = document.bucket(bucket_of(key)).row_key(key)
                record = node.store.find(slot, rkey)
                if record is None:
                    record = machine.medium.records.get(storage_key(slot, rkey), b"")
                held[machine.name] = whole(record)
        return held

    # The verdict.

    def report(self) -> Report:
        story: list[str] = []
        if self.violations and self.violations[0].key:
            story = self._story(self.violations[0])
        operations = self.history.operations
        return Report(
            self.seed,
            str(self.scenario),
            len(operations),
            self._acknowledged,
            self.history.faults,
            sum(operation.kind == "inspect" and operation.outcome == "ok" for operation in operations),
            len(stale_reads(self.history, self.witness)),
            [str(violation) for violation in self.violations],
            story,
            self.trace.digest(),
        )

    def _story(self, violation: Violation) -> list[str]:
        """What happened to the key around the operations in question, and last: operations, dots and faults."""
        operations = self.history.of_key(violation.key)
        lines = [(operation.began_ms, str(operation)) for operation in operations]
        lines += [(issue.at_ms, str(issue)) for issue in self.witness.key(violation.key).issues.values()]
        lines += [(at_ms, f"{at_ms:9.1f} {what}") for at_ms, what in self.history.steps]
        lines.sort(key=lambda line: line[0])
        times = [operation.began_ms for operation in operations if operation.number in violation.operations]
        centre = [index for index, (at_ms, _) in enumerate(lines) if at_ms in times] or [len(lines)]
        near = range(min(centre) - LINES_AROUND, max(centre) + LINES_AROUND)
        near = range(max(0, near.start), min(len(lines), near.stop, near.start + LINES_MAX))
        told = [lines[index][1] for index in near]
        return told if near.stop == len(lines) else [*told, "…", *(line for _, line in lines[-LINES_LAST:])]


def run(
    seed: int, scenario: Scenario | None = None, tell: Callable[[str], None] | None = None, nodes: int = 0
) -> Report:
    """The history of a seed; its conditions are drawn from it too, unless given, but for at least so many nodes."""
    rng = random.Random(seed)
    drawn = Scenario.draw(rng)
    few = REMOVED_FEW if seed % 2 else drawn.removed_rows
    turn_ms = LONG_TURN_MS if seed // FLUSHED_EVERY % 3 == 1 else drawn.turn_ms
    drawn = replace(drawn, nodes=max(nodes, drawn.nodes), removed_rows=few, turn_ms=turn_ms)
    if not seed % FLUSHED_EVERY:
        drawn = replace(drawn, mix=FLUSHES)
    elif seed % FLUSHED_EVERY == 1:
        drawn = replace(drawn, mix=COUNTERS)
    elif seed % FLUSHED_EVERY == 3:
        drawn = replace(drawn, mix=replace(POLICIES, scans=drawn.mix.scans))
    elif seed % FLUSHED_EVERY == 2:
        drawn = replace(drawn, mix=replace(REAPED, scans=drawn.mix.scans), reaps=True)
    rows.OPEN_BYTES = ROWS_FROM_BYTES if seed // FLUSHED_EVERY % 4 else rows.BYTES_MIN
    simulation = Simulation(seed, scenario or drawn, rng, tell)
    try:
        simulation.run()
    except Exception:
        simulation.violations.append(Violation("exception", b"", traceback.format_exc()))
    report = simulation.report()
    report.again = f"python -m ringwise.sim --seed {seed}" + (f" --nodes {nodes}" if nodes else "")
    return report
