"""Purges: what flushed and dropped buckets left behind is removed from memory and from the engine (T5, S5).

    MEMORY   slot by slot out of the memtable, shard by shard out of the cache      on the loop, a run at a time
    ENGINE   so many slots at a time, as ranges                                     in the worker, one job for each slice
    SPACE    the engine rewrites what holds removed rows                            in the worker, at its own bounded rate

Whatever is of no incarnation in force goes. It is in other key ranges than what is: nobody looks for it, so a purge may take its
time, and needs no log record. A crash loses what was removed and not yet written; the next start purges again, from the topology
document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.ring import SLOTS
from ringwise.storage.cache import RecordCache
from ringwise.storage.engine import Engine, Worker

RUN_ROWS = 4096  # looked at between two questions to the clock: a fraction of a millisecond
SLOTS_AT_ONCE = 64  # of memory, where most are empty
SLOTS_OF_A_JOB = 128  # a job takes the worker a few milliseconds, and there is one for each slice: all slots in seconds

Tables = list[dict[bytes, bytes]]


def gaps(kept: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    """The ranges (low <= prefix < high) between the incarnations that are kept, up to the greatest of them."""
    found: list[tuple[bytes, bytes]] = []
    low = bytes(BUCKET_BYTES)
    for prefix in sorted(kept):
        if low < prefix:
            found.append((low, prefix))
        low = after(prefix)
    return found


def after(prefix: bytes) -> bytes:
    """The incarnation behind another."""
    return (int.from_bytes(prefix, "big") + 1).to_bytes(BUCKET_BYTES, "big")


class Purge:
    """The removal of all rows but those of the incarnations that are kept; `purged` is told when memory is done."""

    def __init__(
        self,
        tables: Callable[[], Tables],
        cache: RecordCache,
        engine: Engine,
        worker: Worker,
        kept: Collection[bytes],
        purged: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._kept = kept
        self._void = gaps(kept)
        self.ended = False
        self._tables = tables
        self._cache = cache
        self._engine = engine
        self._worker = worker
        self._purged = purged
        self._failed = failed
        self._steps: Iterator[None] | None = self._memory()
        self._slot = 0
        self._found = 0
        self._working = False

    @property
    def in_memory(self) -> bool:
        """Memory may still hold such rows: they must not be flushed."""
        return self._steps is not None

    def step(self) -> bool:
        """One run in memory; False when there is nothing more."""
        if self._steps is not None:
            for _ in self._steps:
                return True
            self._steps = None
            self._purged()
        return False

    def submit(self) -> None:
        """Hand the next job to the worker, unless one is there."""
        if self._working or self.ended or self._steps is not None:
            return
        if self._slot < SLOTS:
            first, self._slot = self._slot, self._slot + SLOTS_OF_A_JOB
            self._working = True
            self._worker.submit(partial(self._engine.drop, self._void, first, self._slot), self._dropped)
        elif self._found:
            self._found = 0
            self._working = True
            self._worker.submit(self._engine.reclaim, self._reclaimed)
        else:
            self.ended = True

    def _dropped(self, result: int | BaseException) -> None:
        self._working = False
        if isinstance(result, BaseException):
            self._end(result)
        else:
            self._found += result

    def _reclaimed(self, result: BaseException | None) -> None:
        self._working = False
        if result is not None:
            self._end(result)

    def _end(self, error: BaseException) -> None:
        self.ended = True
        self._failed(error)

    def _memory(self) -> Iterator[None]:
        tables, kept = self._tables(), self._kept
        for slot, table in enumerate(tables):
            if table:
                rkeys = list(table)
                for at in range(0, len(rkeys), RUN_ROWS):
                    for rkey in rkeys[at : at + RUN_ROWS]:
                        if rkey[:BUCKET_BYTES] not in kept:
                            del table[rkey]
                    yield
                if not table:
                    tables[slot] = {}  # a dictionary keeps the size that it once had
            elif not slot % SLOTS_AT_ONCE:
                yield
        for _ in self._cache.drop(kept):
            yield
