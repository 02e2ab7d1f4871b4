"""What the store asks of an engine: an ordered, persistent map from storage key to record, fed by flushes only.

The engine has no log of its own (S2). A flush hands it sorted records together with the commit log's position up to
which they hold everything, and both become visible and durable in one step, or not at all. `LsmEngine` (RocksDB) and
the simulator's `ModelEngine` keep this contract and pass one test suite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from ringwise.core.ring import SLOTS

T = TypeVar("T")


class Worker(Protocol):
    """Runs slow work beside the loop; `done` is called on the loop with its result or exception."""

    def submit(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None: ...


class FlushWriter(Protocol):
    """One flush in the making. `add` runs on the loop, in slices; `finish` in a worker."""

    def add(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """(storage key, record) in ascending order over all calls; b"" as a record removes the key."""

    def finish(self, position: int, stamp: int) -> None:
        """Make everything durable and visible at once, with the log position and the greatest stamp seen."""

    def abort(self) -> None:
        """Leave no trace."""


class Engine(Protocol):
    @property
    def position(self) -> int:
        """Everything the log holds below this position is in the engine. 0 at first."""

    @property
    def stamp(self) -> int:
        """The greatest stamp the store had seen at the last flush (the clock must not fall behind it)."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes]:
        """Records in the order of the keys, b"" where there is none. Called in a worker, keys in chunks of ≤ 1,000."""

    def flush(self) -> FlushWriter:
        """Begin a flush; one at a time."""

    def busy(self) -> bool:
        """Is the engine behind with its own work, so that the next flush had better wait (S5)?"""

    def count(self) -> int:
        """About how many records it holds."""

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (storage key, record) with start ≤ key < end, ascending."""

    def names(self, bucket: bytes, start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        """(position, key) of the bucket's keys with start <= position < end, ascending, about `limit` of them, and the
        position below which these are all. Keys of one position are never parted. Called in a worker; raises ReadFailed."""

    def rows(self, live: Collection[bytes], start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        """As `names`, of all these incarnations of buckets, with row keys in place of keys."""

    def drop(self, void: Sequence[tuple[bytes, bytes]], first: int, end: int) -> int:
        """Remove the rows of slots first <= slot < end whose bucket lies, for any (low, high) in ascending order, within
        low <= prefix < high. How many ranges held some. A crash may bring them back. Called in a worker; other rows may be read
        and flushed."""

    def reclaim(self, first: int = 0, end: int = SLOTS) -> None:
        """Give back the space of what was dropped or removed of slots first <= slot < end, which is then gone for good. Called in
        a worker; it may take minutes, and the engine cannot be closed meanwhile."""

    def empty(self) -> bool: ...

    def close(self) -> None: ...
