"""Read-modify-write in two phases (V5): read at R, compute, write with the context that was read, at W.

    found(merged record of R owners) ─▶ operation(record, arguments) ─▶ Write with that record's context ─▶ stored

So the write replaces exactly what was read: an update never drops a version that it has not seen. Two updates at once on
different nodes make siblings; nobody is told "no" (that is what linearizable keys are for).

Operations are named, because an update taken by a node that owns no copy of the key is forwarded whole to one that does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import TypeAlias

from msgspec import structs

from ringwise.core import versions
from ringwise.core.changes import (
    AddElements,
    AddMembers,
    Change,
    Expire,
    ForAWhile,
    Increment,
    Once,
    RemoveMembers,
    StoreMembers,
)
from ringwise.core.copying import forget, place
from ringwise.core.counters import decimal_of, passed, session_actor
from ringwise.core.errors import CollectionTooLarge, Failure, ValueTooLong, WrongType
from ringwise.core.get import GetPath
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.core.levels import Level
from ringwise.core.map_operations import MAP_OPERATIONS
from ringwise.core.now import Now
from ringwise.core.put import PutPath
from ringwise.core.record import Sibling
from ringwise.core.sink import Sink, Together
from ringwise.core.space import Space
from ringwise.core.versions import Write

Arguments: TypeAlias = Sequence[bytes | int]
Operation: TypeAlias = Callable[[bytes, Arguments, int], Write | Change | None]


JOINT_BYTES_MAX = 64 * 1024  # of what several updates add in one change

DELETE = Write(value=b"", tombstone=True)


def delete(before: bytes, _arguments: Arguments, wall_ms: int) -> Write | None:
    """DEL: a tombstone, or nothing where the key is absent."""
    return DELETE if versions.live(before, wall_ms) else None


def set_(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """SET with GET or KEEPTTL: (value, absolute expiry in wall ms or 0, 1 to keep the present, 1 if the old value is told)."""
    value, expiry_ms, keep, told = arguments
    assert isinstance(value, bytes) and isinstance(expiry_ms, int)
    present = versions.live(before, wall_ms)
    if told:
        _check_plain(present)
    if keep and present is not None:
        expiry_ms = present.expiry_ms
    return Write(value=value, expiry_ms=expiry_ms)


def take(before: bytes, _arguments: Arguments, wall_ms: int) -> Write | None:
    """GETDEL: as DEL, of a plain value only."""
    present = versions.live(before, wall_ms)
    _check_plain(present)
    return DELETE if present is not None else None


def append(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """APPEND: (bytes to add, longest value)."""
    added, limit = arguments
    assert isinstance(added, bytes) and isinstance(limit, int)
    return _changed(before, lambda value: value + added, limit, wall_ms)


def set_range(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """SETRANGE: (offset, bytes to put there, longest value); zero bytes fill a gap, and nothing to put changes nothing."""
    offset, part, limit = arguments
    assert isinstance(offset, int) and isinstance(part, bytes) and isinstance(limit, int)
    if not part:
        _check_plain(versions.live(before, wall_ms))
        return None
    if offset + len(part) > limit:
        raise ValueTooLong(offset + len(part), limit)
    return _changed(
        before, lambda value: value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :], limit, wall_ms
    )


def _check_plain(present: Sibling | None) -> None:
    if present is not None and not versions.is_plain(present):
        raise WrongType


def _changed(before: bytes, change: Callable[[bytes], bytes], limit: int, wall_ms: int) -> Write:
    """The newest value changed; what belongs to it (expiry, type, flags) stays."""
    present = versions.live(before, wall_ms)
    _check_plain(present)
    if present is not None and present.content_type == ESTIMATE:
        raise WrongType  # its bytes are what its registers are shown as
    value = change(present.value if present is not None else b"")
    if len(value) > limit:
        raise ValueTooLong(len(value), limit)
    if present is None:
        return Write(value=value)
    return Write(value=value, content_type=present.content_type, flags=present.flags, expiry_ms=present.expiry_ms)


NX, XX, GT, LT = 1, 2, 4, 8  # conditions of EXPIRE
PLAIN = 16  # of GETEX: what is told must be a plain value


def expire(before: bytes, arguments: Arguments, wall_ms: int) -> Write | Change | None:
    """EXPIRE and PERSIST: (absolute expiry in wall ms, or 0 for never; conditions). What is past deletes."""
    expiry_ms, conditions = arguments
    assert isinstance(expiry_ms, int) and isinstance(conditions, int)
    present = versions.live(before, wall_ms)
    if conditions & PLAIN:
        _check_plain(present)
    if present is None:
        return None
    never = inf  # a key without expiry counts as one that lives for ever
    old, new = present.expiry_ms or never, expiry_ms or never
    if (
        (conditions & NX and present.expiry_ms)
        or (conditions & XX and not present.expiry_ms)
        or (conditions & GT and new <= old)
        or (conditions & LT and new >= old)
        or (not expiry_ms and not present.expiry_ms)
    ):
        return None
    if passed(expiry_ms, wall_ms):
        return DELETE
    return Expire(expiry_ms)


def increment(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """INCRBY and INCRBYFLOAT: (amount as text, 1 where it is a decimal number)."""
    text, real = arguments
    assert isinstance(text, bytes)
    return Increment(decimal_of(text) if real else int(text))


def increment_once(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """RW.INCR: (amount, session, its number)."""
    amount, session, counter = arguments
    assert isinstance(amount, int) and isinstance(session, bytes) and isinstance(counter, int)
    return Once(amount, session_actor(session), counter)


def set_add(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """SADD: (most bytes of a set, members)."""
    bytes_max, *members = arguments
    assert isinstance(bytes_max, int)
    return AddMembers(tuple(map(_bytes, members)), bytes_max)


def set_remove(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """SREM: (members)."""
    there = versions.members(before, wall_ms)
    if there is None:
        raise WrongType
    removed = tuple(map(_bytes, arguments))
    return RemoveMembers(removed) if any(member in there for member in removed) else None


def set_pop(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """SPOP: (how many, what chance says)."""
    there = versions.members(before, wall_ms)
    if there is None:
        raise WrongType
    chosen = popped(there, *arguments)
    return RemoveMembers(tuple(chosen)) if chosen else None


def popped(there: Collection[bytes], count: bytes | int, seed: bytes | int) -> list[bytes]:
    """Which members are taken: the same ones for whoever knows what there were."""
    assert isinstance(count, int) and isinstance(seed, int)
    chance = random.Random(seed)
    return chance.sample(sorted(there), min(count, len(there)))


def set_store(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """SUNIONSTORE and its kin: (most bytes of a set, members)."""
    bytes_max, *members = arguments
    assert isinstance(bytes_max, int)
    return StoreMembers(tuple(map(_bytes, members)), bytes_max)


def estimate_add(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """PFADD and PFMERGE: (what is added, as a HyperLogLog)."""
    (value,) = arguments
    return AddElements(_bytes(value))


def _bytes(argument: bytes | int) -> bytes:
    assert isinstance(argument, bytes)
    return argument


OPERATIONS: dict[str, Operation] = {
    "delete": delete,
    "set": set_,
    "append": append,
    "set_range": set_range,
    "expire": expire,
    "increment": increment,
    "increment_once": increment_once,
    "take": take,
    "set_add": set_add,
    "set_remove": set_remove,
    "set_pop": set_pop,
    "set_store": set_store,
    "estimate_add": estimate_add,
    "place": place,
    "forget": forget,
    **MAP_OPERATIONS,
}


def names_in(operation: str, arguments: Arguments) -> Collection[bytes] | None:
    """The members or fields that an update is about; None where that is more than its arguments name."""
    match operation:
        case "set_add":
            named = arguments[1:]
        case "set_remove" | "hash_remove" | "score_remove":
            named = arguments
        case "hash_set":
            named = arguments[1::2]
        case "hash_increment":
            named = arguments[1:2]
        case "score_set" | "score_increment":
            named = arguments[2::2]
        case _:
            return None
    return {name for name in named if isinstance(name, bytes)}


class _Phases:
    """The sink of both phases of one update: passes on what the second one comes to, beside what the first has read."""

    __slots__ = ("_before", "_index", "_key", "_level", "_path", "_sink", "_space")

    def __init__(self, path: UpdatePath, key: bytes, level: Level, sink: Sink, index: int, space: Space) -> None:
        self._path = path
        self._space = space
        self._key = key
        self._level = level
        self._sink = sink
        self._index = index
        self._before = b""

    def found(self, index: int, record: bytes) -> None:
        self._before = record
        self._write(record)

    def _write(self, before: bytes) -> None:
        """The second phase, of which this is the sink."""
        raise NotImplementedError

    def stood_in(self, index: int) -> None:
        self._sink.stood_in(self._index)

    def stored(self, index: int, record: bytes) -> None:
        self._sink.updated(self._index, self._before, record)

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        raise AssertionError("neither phase of an update is an update")

    def failed(self, index: int, error: Failure) -> None:
        self._sink.failed(self._index, error)


class _Running(_Phases, Together):
    """One update between its phases."""

    __slots__ = ("_arguments", "_operation")

    def __init__(
        self,
        path: UpdatePath,
        key: bytes,
        operation: Operation,
        arguments: Arguments,
        level: Level,
        sink: Sink,
        index: int,
        space: Space,
    ) -> None:
        super().__init__(path, key, level, sink, index, space)
        self._operation = operation
        self._arguments = arguments

    def _write(self, before: bytes) -> None:
        self.found_together([self], before)

    def found_together(self, asked: Sequence[Together], before: bytes) -> None:
        """B5: what several write one after another is one change where it can be."""
        joint = _Joint()
        for running in asked:
            assert isinstance(running, _Running)
            running._before = before
            try:
                write = running._wanted(before)
            except Failure as refusal:
                running.failed(0, refusal)
                continue
            if isinstance(write, Change) and joint.takes(running, write):
                continue
            joint.write()
            joint = _Joint()
            if isinstance(write, Change):
                joint.takes(running, write)
            else:
                running._write_alone(write)
        joint.write()

    def _write_alone(self, write: Write | None) -> None:
        if write is None:
            self.stored(0, self._before)
        else:
            write = structs.replace(write, context=versions.context_of(self._before))
            self._path.put.write(self._key, write, self._level, self, 0, self._space)

    def change(self, change: Change, sink: Sink) -> None:
        """The second phase of an update that is no put."""
        self._path.put.change(self._key, self._before, change, self._level, sink, 0, self._space)

    @property
    def size(self) -> int:
        """Of its arguments, in bytes."""
        return sum([len(each) for each in self._arguments if type(each) is bytes])

    def _wanted(self, before: bytes) -> Write | Change | None:
        write = self._operation(before, self._arguments, self._path.now.wall_ms)
        if write is not None and self._space.rules.ttl_s:
            return self._for_a_while(before, write)
        return write

    def _for_a_while(self, before: bytes, write: Write | Change) -> Write | Change:
        """The bucket's time to live, of what says none: of what was not there, and of what a SET replaces."""
        wall_ms = self._path.now.wall_ms
        replaces = self._operation is set_ and not self._arguments[2]
        if not replaces and versions.live(before, wall_ms) is not None:
            return write  # it keeps the expiry that it has, or has been rid of
        expiry_ms = wall_ms + 1000 * self._space.rules.ttl_s
        if not isinstance(write, Write):
            return ForAWhile(write, expiry_ms)
        return write if write.tombstone or write.expiry_ms else structs.replace(write, expiry_ms=expiry_ms)


class _Joint:
    """The sink of one change that several updates make, who have read the same. Too large for all is not too large for each."""

    __slots__ = ("_alone", "_change", "_size")

    def __init__(self) -> None:
        self._alone: list[tuple[_Running, Change]] = []
        self._change: Change | None = None  # of all of them
        self._size = 0

    def takes(self, running: _Running, change: Change) -> bool:
        """Whether it is one of them now."""
        size = self._size + running.size
        both: Change | None = change
        if self._change is not None:
            both = self._change.then(change) if size <= JOINT_BYTES_MAX else None
        if both is None:
            return False
        self._alone.append((running, change))
        self._change, self._size = both, size
        return True

    def write(self) -> None:
        """The change of all of them."""
        if self._change is not None:
            running, _ = self._alone[0]
            running.change(self._change, running if len(self._alone) == 1 else self)

    def stood_in(self, index: int) -> None:
        for running, _ in self._alone:
            running.stood_in(index)

    def stored(self, index: int, record: bytes) -> None:
        for running, _ in self._alone:
            running.stored(index, record)

    def found(self, index: int, record: bytes) -> None:
        raise AssertionError("a change finds nothing")

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        raise AssertionError("a change is the second phase of an update")

    def failed(self, index: int, error: Failure) -> None:
        if isinstance(error, CollectionTooLarge):  # nothing of it has been written
            for running, change in self._alone:
                running.change(change, running)
        else:
            for running, _ in self._alone:
                running.failed(index, error)


class _Again(_Phases):
    """A SET or DEL that another owner may have coordinated before, with this stamp or a greater one (R1).

    Where it was applied it may have been read since, and overwritten: to write it once more above that would lose a write, or
    bring a deleted value back. So: what shows its stamp is only brought to W owners; above what is stamped below it, it is
    written, with exactly its stamp; where anything is stamped above it nobody can tell which came first.
    """

    __slots__ = ("_stamp", "_wanted")

    def __init__(
        self, path: UpdatePath, key: bytes, write: Write, stamp: int, level: Level, sink: Sink, index: int, space: Space
    ) -> None:
        super().__init__(path, key, level, sink, index, space)
        self._wanted = write
        self._stamp = stamp

    def _write(self, before: bytes) -> None:
        wanted, put = self._wanted, self._path.put
        newest = versions.newest(before)
        if wanted.tombstone:
            done = versions.live(before, self._path.now.wall_ms) is None
        else:
            done = newest is not None and (newest.stamp, newest.value) == (self._stamp, wanted.value)
        if done and not before:
            self.stored(0, before)
        elif done:
            put.repeat(self._key, before, self._level, self, 0, self._space)
        else:
            write = structs.replace(wanted, context=versions.context_of(before))
            put.write(self._key, write, self._level, self, 0, self._space, stamp=self._stamp, exact=True)


class UpdatePath:
    """Runs updates on an owner of the key."""

    def __init__(self, get: GetPath, put: PutPath, now: Now) -> None:
        self.now = now
        self.get = get
        self.put = put

    def run(
        self, key: bytes, operation: str, arguments: Arguments, level: Level, sink: Sink, index: int, space: Space
    ) -> None:
        """Starts the first phase."""
        running = _Running(self, key, OPERATIONS[operation], arguments, level, sink, index, space)
        self.get.get(key, level, running, 0, space)

    def again(self, key: bytes, write: Write, stamp: int, level: Level, sink: Sink, index: int, space: Space) -> None:
        """A SET or DEL that may have been applied before."""
        self.get.get(key, level, _Again(self, key, write, stamp, level, sink, index, space), 0, space)
