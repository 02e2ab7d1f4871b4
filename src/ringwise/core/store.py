"""What the core asks of storage (section 6): answers from memory at once, everything slow comes back as an event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeAlias

from ringwise.core.hashtree import HashTree

Named: TypeAlias = Callable[[list[tuple[int, bytes]] | None, int], None]
Digested: TypeAlias = Callable[[list[tuple[bytes, bytes]] | None, int], None]
Swept: TypeAlias = Callable[[list[tuple[bytes, bytes]] | None, int], None]


class LogFailed(Exception):
    """An append did not reach the commit log, and no later one will (S3)."""


class Store(Protocol):
    """This node's records, by slot and row key."""

    sync_mode: str  # "periodic", "batch" or "off" (S3)
    on_synced: Callable[[int], None]  # called with the log position that is now durable, and once when a sync failed

    @property
    def position(self) -> int:
        """End of what was appended to the commit log."""
        ...

    @property
    def synced(self) -> int:
        """End of what is durable."""
        ...

    @property
    def failed(self) -> bool:
        """A write or sync of the log failed: nothing more is logged in this run (S3)."""
        ...

    @property
    def overloaded(self) -> bool:
        """Writes come faster than they are flushed, and memory is at its limit (S5)."""
        ...

    def find(self, slot: int, rkey: bytes) -> bytes | None:
        """The record; b"" where there is none for certain; None where only the disk can tell: `load` it."""
        ...

    def put(self, slot: int, rkey: bytes, base: bytes | None, record: bytes) -> None:
        """Into the memtable. The caller appends it to the log in the same turn.

        `base`: the checksum of the record held, as `find` has just told it; None where that could not be read.
        """
        ...

    def replace_many(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> list[int]:
        """Puts each record whose base (a checksum) is that of the record held, or where none is held.

        Returns the positions of the others: something else is held there, or only the disk can tell.
        """
        ...

    def append(self, chunks: Sequence[bytes]) -> int:
        """One append to the commit log; returns the position after it. Raises LogFailed, and then `failed` is set."""
        ...

    def load(self, slot: int, rkey: bytes, then: Callable[[], None]) -> bool:
        """Reads a cold key; `then` is called in the order of the calls for that key. False: too many wait (B4)."""
        ...

    def names(self, bucket: bytes, start: int, end: int, limit: int, then: Named) -> bool:
        """Names the bucket's keys with start <= position < end (core/keys.py), about `limit` of them, deleted ones included.

        `then` is called once, at once or in a coming turn, with (position, key) in ascending order and the position below
        which these are all: beyond `start`, and never between keys of one position. Whatever is held throughout, in memory or
        on disk, is named. None in place of the names: the disk could not be read. False: too many wait (B4).
        """
        ...

    @property
    def tree(self) -> HashTree:
        """The hash tree of the rows of all buckets in force, but for what is still to be folded in (R5)."""
        ...

    def fold(self, limit: int) -> bool:
        """Folds up to so many written keys into the tree, about a microsecond each; whether it now has them all."""
        ...

    def digests(self, start: int, end: int, limit: int, then: Digested) -> bool:
        """As `names`, of all buckets in force, with (row key, checksum of the record), in no order. Leaves that lie in it whole
        are set from the data."""
        ...

    def sweep(
        self,
        start: int,
        end: int,
        limit: int,
        wanted: Callable[[int], bool],
        dead: Callable[[bytes], bool],
        then: Swept,
    ) -> bool:
        """As `digests`, of the records in `wanted` slots that are `dead`, which a worker asks, too. They may have been replaced
        meanwhile."""
        ...

    def follow(self, live: Collection[bytes], fresh: Collection[bytes], void: Sequence[tuple[bytes, bytes]]) -> None:
        """From now on only rows of these incarnations of buckets (six bytes each) count, and hints. `fresh`: those that have just
        begun, so that nothing of them is held yet. `void`: ranges of others (low <= prefix < high, ascending) of which there may
        be rows, which are removed in the background.
        """
        ...

    def turn(self) -> None:
        """The turn is over: whatever it collected for the disk may start."""
        ...
