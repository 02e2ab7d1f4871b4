"""Cold reads: look-ups that must ask the disk, in a worker and in chunks, answered later and in order (B4).

    load() ─▶ collected ─▶ submit(), once a turn ─▶ worker: get_many, checksums ─▶ cache ─▶ waiters of the key, in order

Invariants
* A key is asked for once, however many wait for it, and its waiters run in the order in which they came.
* A key's waiters run right behind its insertion into the cache, one key at a time: what they wait for is surely there.
* Nothing that was read enters the cache over something newer. While the look-up ran, the key may have been written
  (then it is in memory, and what was read is dropped), or written and flushed and even evicted again; then a flush
  has ended since the look-up was submitted, and the key is looked up once more.
* A record that cannot be read, or whose checksum is wrong (S4), is never taken as absent: `damaged` is told, and the
  waiters run with the key still not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import storage_key
from ringwise.core.record import intact
from ringwise.core.rows import held
from ringwise.storage.cache import RecordCache
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

CHUNK_KEYS = 256  # a chunk holds the loop when it comes back: 256 keys and their waiters take about a millisecond
CHUNKS_IN_FLIGHT = 2  # the worker's other threads are for the log's sync and for flushes


class ColdReads:
    """The queue of look-ups of one store."""

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        cache: RecordCache,
        find: Callable[[int, bytes], bytes | None],
        queue_max: int,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._cache = cache
        self._find = find
        self._queue_max = queue_max
        self._queued = 0
        self._waiting: dict[bytes, list[Callable[[], None]]] = {}
        self._collected: list[tuple[int, bytes]] = []
        self._in_flight = 0
        self.flushes = 0  # flushes that ended; counted up by the store
        self.damaged: Callable[[int, bytes, Exception], None] = _ignore_damage

    def load(self, slot: int, rkey: bytes, then: Callable[[], None]) -> bool:
        if self._queued >= self._queue_max:
            return False
        waiting = self._waiting.get(rkey)
        if waiting is None:
            self._waiting[rkey] = [then]
            self._collected.append((slot, rkey))
        else:
            waiting.append(then)
        self._queued += 1
        return True

    def waiting(self, rkey: bytes) -> bool:
        return rkey in self._waiting

    def submit(self) -> None:
        """Hand what was collected to the worker."""
        while self._collected and self._in_flight < CHUNKS_IN_FLIGHT:
            chunk, self._collected = self._collected[:CHUNK_KEYS], self._collected[CHUNK_KEYS:]
            keys = [storage_key(slot, rkey) for slot, rkey in chunk]
            self._in_flight += 1
            self._worker.submit(partial(_look_up, self._engine, keys), partial(self._done, chunk, self.flushes))

    def _done(
        self, chunk: list[tuple[int, bytes]], flushes: int, results: list[bytes | Exception] | BaseException
    ) -> None:
        self._in_flight -= 1
        if isinstance(results, BaseException):
            raise results  # _look_up lets nothing through but mistakes in the program
        for (slot, rkey), result in zip(chunk, results, strict=True):
            if self._find(slot, rkey) is None:
                if flushes != self.flushes:
                    self._collected.append((slot, rkey))
                    continue
                if isinstance(result, Exception):
                    self.damaged(slot, rkey, result)
                else:
                    self._cache.insert(slot, rkey, result)
            waiting = self._waiting.pop(rkey)
            self._queued -= len(waiting)
            for then in waiting:
                then()


def _look_up(engine: Engine, keys: Sequence[bytes]) -> list[bytes | Exception]:
    try:
        records = engine.get_many(keys)
    except ReadFailed as error:
        if len(keys) == 1:
            return [error]
        return [_look_up(engine, [key])[0] for key in keys]  # a damaged block fails its own keys only
    return [held(record) if intact(record) else RecordDamaged("checksum of a stored record") for record in records]


def _ignore_damage(_slot: int, _rkey: bytes, _error: Exception) -> None:
    """Nobody asked to be told; the waiters still find nothing."""
