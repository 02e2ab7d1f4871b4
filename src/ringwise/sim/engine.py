"""The model engine: a sorted map that keeps the contract of `storage.engine` and can fail.

What is on its disk is a `Medium`, which outlives the processes that run on it. A flush reaches the medium in one step,
in `finish`; a process that dies before that leaves nothing of it, one that dies behind it leaves all: atomic where the
real engine is. It is slow where the worker is, because `get_many` and `finish` run there.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence

from ringwise.core.ring import SLOTS
from ringwise.storage.errors import ReadFailed
from ringwise.storage.walk import end_of, end_of_rows, walk, walk_rows


class Medium:
    """The durable content of one engine."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.keys: list[bytes] | None = []  # sorted; None when it has to be sorted again
        self.position = 0
        self.stamp = 0
        self.flushes = 0

    def sorted_keys(self) -> list[bytes]:
        if self.keys is None:
            self.keys = sorted(self.records)
        return self.keys

    def damage(self, key: bytes) -> None:
        """Flip a bit of a stored record (S4)."""
        record = self.records[key]
        self.records[key] = record[:-1] + bytes([record[-1] ^ 1])


class ModelEngine:
    """`storage.engine.Engine` for one life of one simulated process."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self.fail_reads = False
        self.fail_flushes = False
        self.behind = False  # what `busy` answers

    @property
    def position(self) -> int:
        return self._medium.position

    @property
    def stamp(self) -> int:
        return self._medium.stamp

    def get_many(self, keys: Sequence[bytes]) -> list[bytes]:
        if self.fail_reads:
            raise ReadFailed("the model engine was told to fail")
        records = self._medium.records
        return [records.get(key, b"") for key in keys]

    def flush(self) -> "ModelWriter":
        return ModelWriter(self, self._medium)

    def busy(self) -> bool:
        return self.behind

    def count(self) -> int:
        return len(self._medium.records)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        medium = self._medium
        keys = medium.sorted_keys()
        first = bisect_left(keys, start)
        last = min(bisect_left(keys, end), first + limit)
        return [(key, medium.records[key]) for key in keys[first:last]]

    def names(self, bucket: bytes, start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        if self.fail_reads:
            raise ReadFailed("the model engine was told to fail")
        keys = self._medium.sorted_keys()
        return walk(_Keys(keys, bisect_left(keys, end_of(bucket, end))), bucket, start, end, limit)

    def rows(self, live: Collection[bytes], start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        if self.fail_reads:
            raise ReadFailed("the model engine was told to fail")
        keys = self._medium.sorted_keys()
        return walk_rows(_Keys(keys, bisect_left(keys, end_of_rows(end))), live, start, end, limit)

    def drop(self, void: Sequence[tuple[bytes, bytes]], first: int, end: int) -> int:
        keys = self._medium.sorted_keys()
        within = keys[bisect_left(keys, first.to_bytes(2, "big")) : bisect_left(keys, end.to_bytes(2, "big"))]
        dropped = [key for key in within if any(low <= key[2 : 2 + len(high)] < high for low, high in void)]
        for key in dropped:
            del self._medium.records[key]
        if dropped:
            self._medium.keys = None
        return len({key[:2] for key in dropped})

    def reclaim(self, first: int = 0, end: int = SLOTS) -> None:
        """Nothing to do: what is dropped or removed is gone at once."""

    def empty(self) -> bool:
        return not self._medium.records

    def close(self) -> None:
        """Nothing to release: the records belong to the medium."""


class _Keys:
    """An iterator over a sorted list, as RocksDB has one."""

    def __init__(self, keys: list[bytes], end: int) -> None:
        self._keys = keys
        self._end = end
        self._at = 0

    def seek(self, key: bytes) -> None:
        self._at = bisect_left(self._keys, key)

    def valid(self) -> bool:
        return self._at < self._end

    def key(self) -> bytes:
        return self._keys[self._at]

    def next(self) -> None:
        self._at += 1


class ModelWriter:
    """One flush; its records are nowhere until `finish`."""

    def __init__(self, engine: ModelEngine, medium: Medium) -> None:
        self._engine = engine
        self._medium = medium
        self._records: list[tuple[bytes, bytes]] = []
        self._last = b""

    def add(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        for key, record in records:
            assert key > self._last, "a flush is written in ascending order"
            self._last = key
            self._records.append((key, record))

    def finish(self, position: int, stamp: int) -> None:
        if self._engine.fail_flushes:
            raise OSError(28, "no space left on device")
        medium = self._medium
        for key, record in self._records:
            if record:
                medium.records[key] = record
            else:
                medium.records.pop(key, None)
        medium.keys = None
        medium.position, medium.stamp = position, stamp
        medium.flushes += 1

    def abort(self) -> None:
        self._records.clear()
