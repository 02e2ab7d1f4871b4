"""The LRU cache of records that were flushed or loaded, bounded in bytes.

It is cut into shards, because a growing dictionary is rebuilt in one go: one of a million records would hold the loop
for 0.3 s, one of 4,000 holds it 0.5 ms. Each shard evicts its least recently used; shards are asked in turn, which
comes close to one LRU over all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from ringwise.core.record import held_size_of

SHARDS = 256
ENTRY_BYTES = 260  # what CPython spends on an entry: two objects' headers, the dictionary's cell and the list's node


class RecordCache:
    """row key -> record; b"" (known to be absent) counts too."""

    def __init__(self, bytes_max: int, evicted: Callable[[bytes], None]) -> None:
        self._shards: list[OrderedDict[bytes, bytes]] = [OrderedDict() for _ in range(SHARDS)]
        self._bytes_max = bytes_max
        self._hand = 0
        self.bytes = 0
        self.on_evicted: Callable[[bytes], None] | None = evicted  # told of records only, not of absences

    def get(self, slot: int, rkey: bytes) -> bytes | None:
        shard = self._shards[slot & 255]
        record = shard.get(rkey)
        if record is not None:
            shard.move_to_end(rkey)
        return record

    def insert(self, slot: int, rkey: bytes, record: bytes) -> None:
        """The newest entry always stays, whatever its size, so that who waits for it finds it."""
        self.insert_many(slot, ((rkey, record),))

    def take_over(self, slot: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Records of one slot that the engine has taken in. What was removed is not kept: the engine knows that it is gone."""
        shard = self._shards[slot & 255]
        kept: list[tuple[bytes, bytes]] = []
        for rkey, record in records:
            if record:
                kept.append((rkey, record))
            elif (old := shard.pop(rkey, None)) is not None:
                self.bytes -= len(rkey) + held_size_of(old) + ENTRY_BYTES
        self.insert_many(slot, kept)

    def insert_many(self, slot: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Records of one slot."""
        shard = self._shards[slot & 255]
        for rkey, record in records:
            old = shard.get(rkey)
            if old is None:
                self.bytes += len(rkey) + held_size_of(record) + ENTRY_BYTES
            else:
                self.bytes += held_size_of(record) - held_size_of(old)
                shard.move_to_end(rkey)
            shard[rkey] = record
            if self.bytes > self._bytes_max:
                self._evict(shard)

    def drop(self, void: Callable[[bytes], bool]) -> Iterator[None]:
        """Remove the entries of row keys that are void, a shard at a time; nobody is told."""
        for shard in self._shards:
            for rkey in [rkey for rkey in shard if void(rkey)]:
                self.bytes -= len(rkey) + held_size_of(shard.pop(rkey)) + ENTRY_BYTES
            yield

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def _evict(self, newest: OrderedDict[bytes, bytes]) -> None:
        passed = 0
        while self.bytes > self._bytes_max and passed < SHARDS:
            self._hand = (self._hand + 1) & 255
            shard = self._shards[self._hand]
            if len(shard) <= (shard is newest):
                passed += 1
                continue
            passed = 0
            rkey, record = shard.popitem(last=False)
            self.bytes -= len(rkey) + held_size_of(record) + ENTRY_BYTES
            if record and self.on_evicted is not None:
                self.on_evicted(rkey)
