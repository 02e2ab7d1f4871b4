"""A node of its own: one dict, one dot source, answers at once or when the test says so, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from ringwise.core import versions
from ringwise.core.agreement import Change as DocumentChange
from ringwise.core.bucketchanges import Done as BucketsChanged
from ringwise.core.buckets import find
from ringwise.core.changes import Change
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, Refused
from ringwise.core.exchange import Tally
from ringwise.core.explain import ANSWERED, Copy, Explanation
from ringwise.core.filling import Source
from ringwise.core.gossip.packets import State
from ringwise.core.keys import position_of
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.operations import OPERATIONS
from ringwise.core.replace import Lost
from ringwise.core.ring import slot_of
from ringwise.core.scan import Done, Page
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.topology import BucketRules, Member, NodeId, Topology, form, found, join
from ringwise.core.versions import Write
from ringwise.server.clients import Clients
from ringwise.server.session import Session

MEMBERS = [
    Member(f"n{i}", bytes([i]) * 6, "127.0.0.1", 9379 + i, 7379 + i, 8379 + i, cluster_port=10379 + i) for i in range(3)
]


@cache
def formed_topology() -> Topology:
    document = found(b"c" * 16, MEMBERS[0])
    for member in MEMBERS[1:]:
        document = join(document, member) or document
    topology = Topology()
    topology.install(form(document) or document)
    return topology


class FakeRepair:
    """Rounds that end when the test says so."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.running = False
        self.with_peer: NodeId | None = None
        self.left = 0
        self.ready = 16384
        self.begun: list[int | None] = []

    def begin(self, slot: int | None = None) -> None:
        self.begun.append(slot)
        self.running = True


class NoFilling:
    sources: dict[NodeId, Source] = {}  # noqa: RUF012
    received = unreadable = 0
    active = False
    share = 1.0
    waits_for: list[NodeId] = []  # noqa: RUF012


class NoReaping:
    waiting = reaped = rounds = failed = 0
    waits_for: list[NodeId] = []  # noqa: RUF012


class NoMerging:
    names: Sequence[str] = ("longest",)
    merged = failed = 0
    failure = ""


class NoStandIns:
    writes = reads = 0


class NoHints:
    waiting = kept = handed_over = sent_again = dropped = unreadable = bytes = 0

    def waiting_for(self) -> dict[NodeId, int]:
        return {}


class FakeLiveness:
    """Everybody is alive, but who is said not to be."""

    def __init__(self) -> None:
        self.states: dict[NodeId, State] = {}

    def state(self, node: NodeId) -> State:
        return self.states.get(node, State.ALIVE)

    def incarnation(self, node: NodeId) -> int:
        return 1_700_000_000_000

    def told(self) -> dict[str, int]:
        return {"health": 0, "suspicions": 2}


class FakeNode:
    """`delay`: operations are applied at once, and answered by `release`."""

    def __init__(self, *, delay: bool = False, topology: Topology | None = None, me: int = 0) -> None:
        self.name = MEMBERS[me].name
        self.id = MEMBERS[me].id
        self.topology = formed_topology() if topology is None else topology
        self.config = NodeConfig()
        self.now = Now()
        self.now.wall_ms = 1_700_000_000_000
        self.rng = random.Random(me)
        self.dirty: list[Session] = []
        self.records: dict[bytes, bytes] = {}
        self.merging = NoMerging()
        self.space = Space(BucketRules())
        self.buckets: dict[str, FakeNode] = {"0": self}  # that were selected
        self.hints = NoHints()
        self.stand_ins = NoStandIns()
        self.sloppy = False  # a stand-in counts for whatever is asked
        self.filling = NoFilling()
        self.reaping = NoReaping()
        self.delay = delay
        self.waiting: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.down: set[NodeId] = set()
        self.repair = FakeRepair()
        self.liveness = FakeLiveness()
        self.linked_since = {member.id: 1_700_000_000_000 + i for i, member in enumerate(MEMBERS) if i != me}
        self.log: list[tuple[str, bytes, str]] = []  # operation, key, level
        self.fail: dict[bytes, Failure] = {}  # by key
        self.fail_level: dict[str, Failure] = {}  # by level name
        self._dots = DotSource(self.id, b"fake")
        self._stamp = self.now.wall_ms << 16

    def put(self, key: bytes, value: bytes, level: Level, sink: Sink, index: int) -> None:
        self.write(key, Write(value=value), level, sink, index)

    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None:
        self.log.append(("write", key, level.name))
        if not self._failed(key, level, sink, index):
            record = self._write(key, write)
            if self.sloppy:
                sink.stood_in(index)
            self._answer(lambda: sink.stored(index, record))

    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None:
        self.log.append(("get", key, level.name))
        if not self._failed(key, level, sink, index):
            record = self.records.get(key, b"")
            if self.sloppy:
                sink.stood_in(index)
            self._answer(lambda: sink.found(index, record))

    def update(
        self, key: bytes, operation: str, arguments: tuple[bytes | int, ...], level: Level, sink: Sink, index: int
    ) -> None:
        """Reads when it is asked and writes when it is answered: what comes between them sees the old state (B2)."""
        self.log.append((operation, key, level.name))
        if self._failed(key, level, sink, index):
            return
        before = self.records.get(key, b"")

        def second() -> None:
            try:
                write = OPERATIONS[operation](before, arguments, self.now.wall_ms)
                after = before if write is None else self._change(key, write)
            except Failure as refusal:
                sink.failed(index, refusal)
                return
            sink.updated(index, before, after)

        self._answer(second)

    def scan(self, cursor: int, count: int, level: Level, done: Done, first_only: bool = False) -> None:
        self.log.append(("scan", b"%d" % cursor, level.name))
        if b"" in self.fail:
            self._answer(partial(done, self.fail[b""]))
            return
        places = sorted((position_of(slot_of(key), key), key) for key in self.records)
        names = [(at, key) for at, key in places if at >= cursor and (not first_only or slot_of(key) % 3 == 0)]
        found = [
            (key, self.records[key])
            for _, key in names[:count]
            if versions.live(self.records[key], self.now.wall_ms) is not None
        ]
        self._answer(partial(done, Page(names[count][0] if len(names) > count else 0, found)))

    def replace(self, name: str, done: Callable[[Lost | Failure], None]) -> None:
        self.log.append(("replace", name.encode(), ""))
        member = next((member for member in MEMBERS if member.name == name), None)
        done(Refused(f"there is no member {name}") if member is None else Lost(member, 7))

    def flush(self, done: Callable[[Failure | None], None]) -> None:
        self.log.append(("flush", b"", ""))
        failure = self.fail.get(b"")
        if failure is None:
            self.records.clear()
        self._answer(partial(done, failure))

    def flush_all(self, done: Callable[[Failure | None], None]) -> None:
        self.flush(done)
        for bucket in self.buckets.values():
            bucket.records.clear()

    def select(self, label: str) -> FakeNode | None:
        document = self.topology.document
        rules = find(document, label) if document is not None else None
        if rules is None:
            return None
        if label not in self.buckets:
            self.buckets[label] = FakeBucket(self.buckets["0"], rules)
        return self.buckets[label]

    def change_buckets(self, change: DocumentChange, done: BucketsChanged) -> None:
        """Decided at once, by this node alone."""
        document = self.topology.document
        assert document is not None
        changed = change(document) or document
        self.topology = Topology()
        self.topology.install(changed)
        for label, bucket in self.buckets.items():
            rules = find(changed, label)
            bucket.topology, bucket.space.gone = self.topology, rules is None
            if rules is not None:
                bucket.space.follow(rules)
        done(changed)

    def explain(self, key: bytes, done: Callable[[Explanation | Failure], None]) -> None:
        """As if this node were alone."""
        done(Explanation(key, slot_of(key), [Copy(self.id, ANSWERED, self.records.get(key, b""))], []))

    def after(self, delay_ms: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now.now_ms + delay_ms, call))

    def pass_time(self, ms: float) -> None:
        """As a tick does, so much later."""
        self.now.now_ms += ms
        due = [call for at, call in self.timers if at <= self.now.now_ms]
        self.timers = [timer for timer in self.timers if timer[0] > self.now.now_ms]
        for call in due:
            call()

    def cut_turn(self) -> None: ...

    def is_up(self, node: NodeId) -> bool:
        return node != self.id and node not in self.down

    def _change(self, key: bytes, change: Write | Change) -> bytes:
        if isinstance(change, Write):
            return self._write(key, change)
        self._stamp += 1
        held = self.records.get(key, b"")
        self.records[key] = change.apply(self._dots, held, self._stamp, self.now.wall_ms)
        return self.records[key]

    def _write(self, key: bytes, write: Write) -> bytes:
        self._stamp += 1
        self.records[key] = self._dots.write(self.records.get(key, b""), write, self._stamp)
        return self.records[key]

    def _failed(self, key: bytes, level: Level, sink: Sink, index: int) -> bool:
        failure = self.fail.get(key) or self.fail_level.get(level.name)
        if failure is None:
            return False
        self._answer(lambda: sink.failed(index, failure))
        return True

    def _answer(self, answer: Callable[[], None]) -> None:
        if self.delay:
            self.waiting.append(answer)
        else:
            answer()

    def release(self, which: random.Random | int | None = None) -> None:
        """Answers what waits: all in order, one by its number, or all in a random order."""
        if isinstance(which, int):
            self.waiting.pop(which)()
            return
        waiting, self.waiting = self.waiting, []
        if which is not None:
            which.shuffle(waiting)
        for answer in waiting:
            answer()

    def end_turn(self) -> None:
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for session in dirty:
                session.flush()


class FakeBucket(FakeNode):
    """Another bucket of a node: keys of its own, and all else the node's."""

    def __init__(self, home: FakeNode, rules: BucketRules) -> None:
        self.__dict__.update(home.__dict__)
        del self.__dict__["dirty"]
        self.home = home
        self.records = {}
        self.space = Space(rules)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.home, name)

    def _answer(self, answer: Callable[[], None]) -> None:
        self.home._answer(answer)


class Connection:
    """A session, and what its client sees."""

    def __init__(self, node: FakeNode, clients: Clients | None = None) -> None:
        self.node = node
        self.output = b""
        self.writes = 0
        self.is_closed = False
        self.reading = True
        self._later: list[Callable[[], None]] = []
        self.session = Session(
            node,
            self._write,
            self._close,
            later=lambda callback: self._later.append(callback),
            pause_reading=lambda: self._read(False),
            resume_reading=lambda: self._read(True),
            clients=clients or Clients(port=7379, process_id=1, started_ms=node.now.wall_ms),
            address="127.0.0.1:50000",
        )

    def _write(self, data: bytes) -> None:
        assert data and not self.is_closed
        self.writes += 1
        self.output += data

    def _close(self) -> None:
        self.is_closed = True

    def _read(self, reading: bool) -> None:
        assert reading != self.reading
        self.reading = reading

    def send(self, data: bytes) -> bytes:
        """Bytes in, turns until nothing moves any more, bytes out."""
        self.session.receive(data)
        return self.settle()

    def settle(self) -> bytes:
        self.node.end_turn()
        while self._later:
            later, self._later = self._later, []
            for callback in later:
                callback()
            self.node.end_turn()
        return self.take()

    def finish(self) -> bytes:
        """Answers all that waits, and what is begun thereupon; bytes out."""
        output = self.settle()
        while self.node.waiting:
            self.node.release()
            output += self.settle()
        return output

    def take(self) -> bytes:
        output, self.output = self.output, b""
        return output

    def run(self, *arguments: bytes | str) -> bytes:
        return self.send(request(*arguments))


def request(*arguments: bytes | str) -> bytes:
    encoded = [each.encode() if isinstance(each, str) else each for each in arguments]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in encoded)
