"""Forwarding (R1): a node that owns no copy of a key hands its writes to one that does, once, since only owners issue dots (V2).

    taker ─ Forward(operations) ─▶ owner: coordinates each as if a client of its own had sent it ─ Forwarded(outcomes) ─▶ taker

If the owner dies unanswered, or is silent past its deadline, plain SETs and deletes (also with expiry) are forwarded once more,
to another owner and with the same stamp. The first may have been applied, read, and overwritten by then; so the second owner
reads first, and writes only where nothing is stamped above it (core/update.py); else the outcome is unknown. An owner that was
paused, or gets a Forward late, refuses it. Everything else that was in flight has an unknown outcome.

An owner that refuses, having applied nothing, is no reason to fail: the next one is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeAlias

from msgspec import structs

from ringwise.core import messages, rows
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.errors import (
    Failure,
    NoSuchBucket,
    QuorumNotReached,
    Relayed,
    TooLate,
    UnknownOutcome,
    WritesStopped,
)
from ringwise.core.lesson import teach
from ringwise.core.levels import Level
from ringwise.core.messages import Forward, Forwarded, ForwardedUpdate, ForwardedWrite, NodeId, Outcome, encode
from ringwise.core.now import Now
from ringwise.core.operations import DELETE, names_in
from ringwise.core.peers import Link, Peers
from ringwise.core.put import PutPath
from ringwise.core.record import size_of
from ringwise.core.ring import slot_of
from ringwise.core.sink import Sink
from ringwise.core.space import Spaces
from ringwise.core.topology import Topology
from ringwise.core.update import UpdatePath

Operation: TypeAlias = ForwardedWrite | ForwardedUpdate

SILENT = 1.25  # request timeouts, until an owner is taken for silent
AGES = 64  # of the last Forwards of a link: the least of them is what clocks and distance explain
# Of an owner itself, not of the operation: another owner may take it.
OWN_TROUBLE = frozenset((WritesStopped.code, TooLate.code))
TAKEN_MAX = 4096  # Forwards of a link that are recognised when they come again: more than it carries in a deadline


class ForwardGroup:
    """Operations of one turn on their way to the same owner."""

    __slots__ = (
        "_path",
        "frame",
        "id",
        "indexes",
        "left",
        "operations",
        "second",
        "sinks",
        "size",
        "started_ms",
        "target",
    )

    def __init__(self, path: ForwardPath, target: NodeId, second: bool) -> None:
        self._path = path
        self.target = target
        self.second = second  # these were forwarded before; there is no third time
        self.id = 0
        self.started_ms = 0.0
        self.operations: list[Operation] = []
        self.sinks: list[Sink] = []
        self.indexes: list[int] = []
        self.size = 0
        self.frame = b""
        self.left: set[int] = set()

    def lost(self, peer: NodeId) -> None:
        """The owner died unanswered."""
        self._path.lost(self, peer)


class _Answers:
    """Collects the outcomes of one Forward on the owner's side; the node sends them at the end of each turn."""

    __slots__ = ("_sloppy", "about", "id", "link", "outcomes", "path")

    def __init__(self, path: ForwardPath, link: Link, request_id: int) -> None:
        self.path = path
        self.about: dict[int, Collection[bytes]] = {}  # members or fields, where an update is about nothing else
        self.link = link
        self.id = request_id
        self.outcomes: list[Outcome] = []
        self._sloppy: set[int] = set()

    def stood_in(self, index: int) -> None:
        self._sloppy.add(index)

    def _add(self, outcome: Outcome) -> None:
        if not self.outcomes:
            self.path.answering.append(self)
        self.outcomes.append(outcome)

    def stored(self, index: int, record: bytes) -> None:
        self._add(Outcome(index, b"", record, "", "", index in self._sloppy))

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        about = self.about.get(index)
        if about is not None:  # of a large collection, its taker is told what its answer depends on
            before, after = rows.part_about(before, about), rows.part_about(after, about)
        self._add(Outcome(index, before, after, "", "", index in self._sloppy))

    def found(self, index: int, record: bytes) -> None:
        raise AssertionError("reads are not forwarded")

    def failed(self, index: int, error: Failure) -> None:
        unknown = isinstance(error, UnknownOutcome)
        self._add(Outcome(index, b"", b"\x01" if unknown else b"", error.code, str(error)))


def _nobody(second: bool) -> Failure:
    """No owner coordinated it this time; but one that died may have, if this was the second time."""
    if second:
        return UnknownOutcome(needed=1, acknowledged=0, detail="its coordinator died, and no other could take it up")
    return QuorumNotReached(needed=1, acknowledged=0)


def _repeatable(operation: Operation) -> bool:
    return operation.blind if isinstance(operation, ForwardedWrite) else operation.operation == "delete"


def _size(operation: Operation) -> int:
    if isinstance(operation, ForwardedWrite):
        return len(operation.key) + len(operation.write.value)
    return len(operation.key) + sum(len(argument) for argument in operation.arguments if isinstance(argument, bytes))


class _InOrder:
    """Passes an outcome on, and then lets run what waits for it."""

    __slots__ = ("_key", "_path", "_sink")

    def __init__(self, path: ForwardPath, key: bytes, sink: Sink) -> None:
        self._path = path
        self._key = key
        self._sink = sink

    def stood_in(self, index: int) -> None:
        self._sink.stood_in(index)

    def stored(self, index: int, record: bytes) -> None:
        self._sink.stored(index, record)
        self._path.done(self._key)

    def found(self, index: int, record: bytes) -> None:
        raise AssertionError("reads are not forwarded")

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        self._sink.updated(index, before, after)
        self._path.done(self._key)

    def failed(self, index: int, error: Failure) -> None:
        self._sink.failed(index, error)
        self._path.done(self._key)


class ForwardPath:
    """Both sides of forwarding."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        spaces: Spaces,
        put: PutPath,
        update: UpdatePath,
        config: NodeConfig,
        now: Now,
        clock: Clock,
    ) -> None:
        self._spaces = spaces
        self._now = now
        self._clock = clock
        self.floor: Callable[[], int] = lambda: 0  # set by the node: what was sent before it was given up (V8)
        self._peers = peers
        self._topology = topology
        self._put = put
        self._update = update
        self._config = config
        self.answering: list[_Answers] = []
        self._open: dict[tuple[NodeId, bool], ForwardGroup] = {}
        self._full: list[ForwardGroup] = []  # of this turn, closed because they fill a frame
        self._groups: dict[int, ForwardGroup] = {}
        self._levels: dict[bytes, Level] = {}
        self._unfinished: dict[bytes, int] = {}  # by key: operations forwarded and without an outcome
        self._behind: dict[bytes, deque[Callable[[], None]]] = {}  # what runs after them
        self._ages: dict[NodeId, tuple[Link, deque[int]]] = {}  # of each peer's link
        self._suspect_until_ms = 0.0  # after a pause, what comes may be old
        self._taken: dict[NodeId, tuple[Link, dict[int, None]]] = {}  # Forwards of each peer's link, oldest first

    # -- the taker's side

    def send(self, operation: Operation, slot: int, sink: Sink, index: int) -> None:
        """Hands an operation to an owner of its slot that is up."""
        key = operation.key
        if key in self._behind:
            self._behind[key].append(partial(self.send, operation, slot, sink, index))
            return
        self._unfinished[key] = self._unfinished.get(key, 0) + 1
        self._hand_over(operation, slot, _InOrder(self, key, sink), index, None)

    def wait(self, key: bytes, again: Callable[[], None]) -> bool:
        """B1: a read of a key with unfinished forwards runs after them, since it takes another way; False where none is."""
        if key not in self._unfinished:
            return False
        self._behind.setdefault(key, deque()).append(again)
        return True

    def done(self, key: bytes) -> None:
        """One forwarded operation on the key has its outcome; after the last, what waited behind them runs, in order."""
        left = self._unfinished[key] - 1
        if left:
            self._unfinished[key] = left
            return
        del self._unfinished[key]
        behind = self._behind.pop(key, None)
        while behind:
            behind.popleft()()
            if behind and key in self._unfinished:
                behind.extend(self._behind.get(key, ()))
                self._behind[key] = behind
                return

    def _hand_over(self, operation: Operation, slot: int, sink: Sink, index: int, excluded: NodeId | None) -> None:
        owners = [owner for owner in self._peers.up(self._topology.serving[slot]) if owner != excluded]
        second = excluded is not None
        if not owners:
            sink.failed(index, _nobody(second))
            return
        target = owners[0]
        group = self._open.get((target, second))
        size = _size(operation)
        if group is not None and group.size + size > self._config.frame_bytes_max:  # B3
            self._full.append(group)
            group = None
        if group is None:
            group = self._open[target, second] = ForwardGroup(self, target, second)
        group.size += size
        group.operations.append(operation)
        group.sinks.append(sink)
        group.indexes.append(index)

    def seal(self) -> None:
        """End of the turn: one frame for each owner."""
        if not self._open:
            return
        groups = [*self._full, *self._open.values()]
        self._open, self._full = {}, []
        for group in groups:
            group.id = self._peers.next_id()
            group.started_ms = self._now.now_ms
            group.left = set(range(len(group.operations)))
            self._groups[group.id] = group
            group.frame = encode(
                Forward(group.id, self._topology.epoch, group.operations, self._now.wall_ms, self._clock.last)
            )
            if not self._peers.ask(group.target, group, group.frame):
                self._groups.pop(group.id)
                for sink, index in zip(group.sinks, group.indexes, strict=True):
                    sink.failed(index, _nobody(group.second))

    def forwarded(self, link: Link, message: Forwarded) -> None:
        """Outcomes from the owner."""
        group = self._peers.request(link.peer, message.id)
        if not isinstance(group, ForwardGroup):
            return
        if message.refused == messages.BEHIND:
            teach(self._peers, self._topology, link, {messages.BEHIND})
            self._peers.ask(link.peer, group, group.frame)
            return
        if message.refused:
            self._finish(group)
            for position in sorted(group.left):
                group.sinks[position].failed(group.indexes[position], _nobody(group.second))
            return
        for outcome in message.outcomes:
            position = outcome.position
            if position not in group.left:
                continue
            group.left.discard(position)
            sink, index = group.sinks[position], group.indexes[position]
            if outcome.sloppy:
                sink.stood_in(index)
            if outcome.code:
                unknown = bool(outcome.after)
                operation = group.operations[position]
                if outcome.code in OWN_TROUBLE and not (unknown or group.second):
                    self._hand_over(operation, slot_of(operation.key), sink, index, link.peer)
                elif group.second and not unknown:
                    sink.failed(index, _nobody(second=True))
                else:
                    sink.failed(index, Relayed(outcome.code, outcome.text, unknown=unknown))
            elif isinstance(group.operations[position], ForwardedWrite):
                sink.stored(index, outcome.after)
            else:
                sink.updated(index, outcome.before, outcome.after)
        if not group.left:
            self._finish(group)

    def _finish(self, group: ForwardGroup) -> None:
        self._groups.pop(group.id, None)
        self._peers.answered(group.target, group.id)

    def lost(self, group: ForwardGroup, peer: NodeId) -> None:
        """R1: once more for what is blind, unknown for the rest."""
        if self._groups.pop(group.id, None) is None:
            return
        for position in sorted(group.left):
            operation, sink, index = group.operations[position], group.sinks[position], group.indexes[position]
            if not group.second and _repeatable(operation):
                operation = structs.replace(operation, again=True)
                self._hand_over(operation, slot_of(operation.key), sink, index, peer)
            else:
                detail = "its coordinator died, or did not answer in time"
                sink.failed(index, UnknownOutcome(needed=1, acknowledged=0, detail=detail))
        group.left.clear()

    def tick(self) -> None:
        """Gives up what is past its deadline; the owner's own deadline comes first, so this one is for a silent owner."""
        late_ms = self._now.now_ms - SILENT * self._config.request_timeout_ms
        for group in [group for group in self._groups.values() if group.started_ms < late_ms]:
            self._peers.answered(group.target, group.id)
            self.lost(group, group.target)

    def paused(self) -> None:
        """This node did nothing for a while, and what has come meanwhile may be old."""
        self._suspect_until_ms = self._now.now_ms + self._config.request_timeout_ms

    # -- the owner's side

    def forward(self, link: Link, message: Forward) -> None:
        """Coordinates operations that another node took."""
        if message.epoch > self._topology.epoch:
            self._peers.post(link, encode(Forwarded(message.id, [], messages.BEHIND)))
            return
        if not self._first(link, message.id):
            return
        late = self._late(link, message.wall_ms)
        given_up = message.stamp < self.floor()
        answers = _Answers(self, link, message.id)
        me = self._peers.me
        for position, operation in enumerate(message.operations):
            level = self._level(operation.level)
            space = self._spaces.get(operation.bucket)
            if space is None:  # dropped meanwhile, as far as this owner knows: and it knows what the taker knew
                answers.failed(position, NoSuchBucket(str(operation.bucket)))
            elif me not in self._topology.serving[slot_of(operation.key)]:  # never forwarded twice
                answers.failed(position, QuorumNotReached(needed=1, acknowledged=0))
            elif given_up or (late and _repeatable(operation) and not operation.again):
                answers.failed(position, TooLate())
            elif operation.again:
                write = operation.write if isinstance(operation, ForwardedWrite) else DELETE
                self._update.again(operation.key, write, operation.stamp, level, answers, position, space)
            elif isinstance(operation, ForwardedWrite):
                self._put.write(
                    operation.key,
                    operation.write,
                    level,
                    answers,
                    position,
                    space,
                    stamp=operation.stamp,
                    blind=operation.blind,
                )
            else:
                named, arguments = operation.operation, operation.arguments
                about = names_in(named, arguments)
                if about is not None:
                    answers.about[position] = about
                self._update.run(operation.key, named, arguments, level, answers, position, space)

    def _late(self, link: Link, sent_ms: int) -> bool:
        """Whether its taker may have given it up, and to another owner; a flush since then would leave no trace of that. It is
        late beside the others of its link, since two clocks may differ by more than that."""
        age_ms = self._now.wall_ms - sent_ms
        former, ages = self._ages.get(link.peer, (None, deque[int](maxlen=AGES)))
        if former is not link:
            ages.clear()
            self._ages[link.peer] = link, ages
        late = bool(ages) and age_ms - min(ages) > self._config.request_timeout_ms
        ages.append(age_ms)
        return late or self._now.now_ms < self._suspect_until_ms

    def _first(self, link: Link, request_id: int) -> bool:
        """Whether this Forward is new: the same frame again must not be coordinated again (R1)."""
        taken_link, taken = self._taken.get(link.peer, (None, {}))
        if taken_link is not link:  # numbers are unique for a run of the sender, and frames do not outlive their link
            taken = {}
            self._taken[link.peer] = link, taken
        if request_id in taken:
            return False
        taken[request_id] = None
        if len(taken) > TAKEN_MAX:
            del taken[next(iter(taken))]
        return True

    def _level(self, name: bytes) -> Level:
        level = self._levels.get(name)
        if level is None:
            level = self._levels[name] = Level.parse(name)
        return level

    def send_answers(self) -> None:
        """End of the turn: what became known in it."""
        answering, self.answering = self.answering, []
        for answers in answering:
            outcomes, answers.outcomes = answers.outcomes, []
            part: list[Outcome] = []
            size = 0
            for outcome in outcomes:
                part.append(outcome)
                size += size_of(outcome.before) + size_of(outcome.after)
                if size > self._config.frame_bytes_max:  # B3
                    self._peers.post(answers.link, encode(Forwarded(answers.id, part, 0)))
                    part, size = [], 0
            if part:
                self._peers.post(answers.link, encode(Forwarded(answers.id, part, 0)))
