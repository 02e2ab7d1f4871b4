"""Merge functions (T2): in a bucket of policy `merge:NAME` a read that finds siblings makes one value of them (Dynamo, 4.4).

    get ─▶ one version? answered        ─▶ several: the function, in a process of its own (runtime/merging.py)
    merged value ─▶ put with the context of what was read: it replaces just those ─▶ answered with what is left
    failed, late, or not there ─▶ answered with the siblings, and told

The core asks and is told, and never waits: `run` is the shell's, and its answer is an input of a later turn. Readers of one key
that find the same siblings share one run. What has failed is not tried again for a while, so a function that fails costs a
bucket's readers its deadline now and then, and not each time.

Two nodes may merge the same siblings at once: the function is deterministic, so the two versions are equal, and shown once (R1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from ringwise.core import versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.record import CHECKSUM_BYTES, Sibling
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.told import COLLECTION_TYPES, ESTIMATE_TYPE
from ringwise.core.versions import Write

TOLD_TYPES = {*COLLECTION_TYPES, ESTIMATE_TYPE}  # which merge by themselves
WAITING_MAX = 64  # merges that are asked for at once; each may take the worker its deadline
AGAIN_MS = 5_000.0  # before a merge that failed is tried again
FAILED_MAX = 1_000  # that are remembered

Outcome: TypeAlias = bytes | str  # the value, or why there is none
Run: TypeAlias = Callable[[str, Sequence[bytes], Callable[[Outcome], None]], None]
Get: TypeAlias = Callable[[bytes, Level, Sink, int, Space], None]
Put: TypeAlias = Callable[[bytes, Write, Level, Sink, int, Space], None]


def _nowhere(_name: str, _values: Sequence[bytes], done: Callable[[Outcome], None]) -> None:
    done("this node runs no merge functions")


class Merging:
    """The reads of buckets with a merge function, on one node."""

    def __init__(self, get: Get, put: Put, config: NodeConfig, now: Now) -> None:
        self.run: Run = _nowhere  # set by the shell
        self.names: Sequence[str] = ()  # of the functions that this node has; set by the shell
        self.merged = 0
        self.failed = 0
        self.failure = ""  # the last one
        self._get = get
        self._put = put
        self._config = config
        self._now = now
        self._waiting: dict[tuple[bytes, bytes], list[_Read]] = {}  # by row key and the record's checksum
        self._failed: dict[tuple[bytes, bytes], float] = {}  # when it may be tried again

    @property
    def settled(self) -> bool:
        """No function has values that will be written (V8)."""
        return not self._waiting

    def get(self, key: bytes, level: Level, sink: Sink, index: int, space: Space) -> None:
        """A read of one key."""
        self._get(key, level, _Read(self, key, level, sink, index, space), 0, space)

    def found(self, read: _Read, record: bytes) -> None:
        """What R owners have: shown as it is, unless there are siblings to be merged."""
        several = versions.siblings(record, self._now.wall_ms)
        name = read.space.merge
        if len(several) < 2 or not name or any(each.content_type in TOLD_TYPES for each in several):
            read.show(record)
            return
        state = read.space.row_key(read.key), record[:CHECKSUM_BYTES]
        if self._now.now_ms < self._failed.get(state, 0.0):
            read.show(record)
        elif state in self._waiting:
            self._waiting[state].append(read)
        elif len(self._waiting) >= WAITING_MAX:
            self._fail(state, [read], record, f"{WAITING_MAX} merges wait already")
        else:
            self._waiting[state] = [read]
            values = [each.value for each in reversed(several)]
            self.run(name, values, partial(self._ran, state, record, several[0]))

    def _ran(self, state: tuple[bytes, bytes], record: bytes, newest: Sibling, outcome: Outcome) -> None:
        reads = self._waiting.pop(state)
        limit = self._config.value_bytes_max
        if isinstance(outcome, bytes) and len(outcome) > limit:
            outcome = f"it made {len(outcome)} bytes, the limit is {limit}"
        if isinstance(outcome, str):
            self._fail(state, reads, record, outcome)
            return
        self.merged += 1
        write = Write(
            value=outcome,
            content_type=newest.content_type,
            flags=newest.flags,
            expiry_ms=newest.expiry_ms,
            context=versions.context_of(record),
            derived=True,
        )
        first = reads[0]
        self._put(first.key, write, first.level, _Written(reads, record), 0, first.space)

    def _fail(self, state: tuple[bytes, bytes], reads: list[_Read], record: bytes, why: str) -> None:
        self.failed += 1
        space = reads[0].space
        self.failure = f"{space.merge} in bucket {space.label}: {why}"
        space.merge_failure = why
        self._failed[state] = self._now.now_ms + AGAIN_MS
        if len(self._failed) > FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        for read in reads:
            read.show(record)


class _Read:
    """The sink of one read."""

    __slots__ = ("_index", "_path", "_sink", "key", "level", "space")

    def __init__(self, path: Merging, key: bytes, level: Level, sink: Sink, index: int, space: Space) -> None:
        self._path = path
        self._sink = sink
        self._index = index
        self.key = key
        self.level = level
        self.space = space

    def show(self, record: bytes) -> None:
        """The answer."""
        self._sink.found(self._index, record)

    def stood_in(self, index: int) -> None:
        self._sink.stood_in(self._index)

    def found(self, index: int, record: bytes) -> None:
        self._path.found(self, record)

    def stored(self, index: int, record: bytes) -> None:
        raise AssertionError("a read stores nothing")

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        raise AssertionError("a read updates nothing")

    def failed(self, index: int, error: Failure) -> None:
        self._sink.failed(self._index, error)


class _Written:
    """The sink of what was merged: all who have read the siblings are shown what is there now."""

    __slots__ = ("_reads", "_record")

    def __init__(self, reads: list[_Read], record: bytes) -> None:
        self._reads = reads
        self._record = record

    def stood_in(self, index: int) -> None:
        for read in self._reads:
            read.stood_in(0)

    def stored(self, index: int, record: bytes) -> None:
        for read in self._reads:
            read.show(record)

    def found(self, index: int, record: bytes) -> None:
        raise AssertionError("a write finds nothing")

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        raise AssertionError("a write is no update")

    def failed(self, index: int, error: Failure) -> None:
        """It may be stored somewhere or nowhere; the siblings were read, and the next read merges them again."""
        for read in self._reads:
            read.show(self._record)
