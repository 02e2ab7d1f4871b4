"""Read-modify-write in two phases (V5): read at R, compute, write with the context that was read, at W.

    found(merged record of R owners) ─▶ operation(record, arguments) ─▶ Write with that record's context ─▶ stored

So the write replaces exactly what was read: an update never drops a version that it has not seen. Two updates at once on
different nodes make siblings; nobody is told "no" (that is what linearizable keys are for). Those of one turn that have read the
same, and only add members, are one change (B5); what each has read answers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from ringwise.core import versions
from ringwise.core.changes import Change, ForAWhile
from ringwise.core.errors import CollectionTooLarge, Failure
from ringwise.core.get import GetPath
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.operations import OPERATIONS, Arguments, Operation, set_
from ringwise.core.put import PutPath
from ringwise.core.sink import Sink, Together
from ringwise.core.space import Space
from ringwise.core.versions import Write

# Of what several updates add in one change, which cannot be cut into frames (B3): half a frame, since names of what is covered go
# twice.
JOINT_BYTES_MAX = 128 * 1024
MEMBER_BYTES = 64  # that a member takes there, beside itself


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

    def found(self, index: int, record: bytes) -> None:
        self.found_together([self], record)

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
        """Of what it adds, in bytes; about."""
        return sum([len(each) + MEMBER_BYTES for each in self._arguments if type(each) is bytes])

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

    def found(self, index: int, record: bytes) -> None:
        self._before = before = record
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
