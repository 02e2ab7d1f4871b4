"""Purges: what flushed and dropped buckets left behind is removed from memory and from the engine (T5, S5).

    MEMORY   slot by slot out of the memtable, shard by shard out of the cache      on the loop, a run at a time
    ENGINE   so many slots at a time, as ranges                                     in the worker, one job for each slice
    SPACE    the engine rewrites what holds removed rows                            in the worker, at its own bounded rate

What goes are ranges of incarnations that are over. Nobody looks for them, and nothing will ever be written there again, so a
purge may take its time, and needs no log record. A crash loses what was removed and not yet written; the next start purges again,
from the topology document.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.ring import SLOTS
from ringwise.storage.cache import RecordCache
from ringwise.storage.engine import Engine, Worker

RUN_ROWS = 4096  # looked at between two questions to the clock: a fraction of a millisecond
SLOTS_AT_ONCE = 64  # of memory, where most are empty
SLOTS_OF_A_JOB = 128  # a job takes the worker a few milliseconds, and there is one for each slice: all slots in seconds

Tables = list[dict[bytes, bytes]]
Ranges = Sequence[tuple[bytes, bytes]]


class Void:
    """Whether a row key lies in one of these ranges (low <= prefix < high, ascending); what was found of a prefix is kept."""

    def __init__(self, ranges: Ranges) -> None:
        self._lows = [low for low, _ in ranges]
        self._highs = [high for _, high in ranges]
        self._known: dict[bytes, bool] = {}

    def __call__(self, rkey: bytes) -> bool:
        prefix = rkey[:BUCKET_BYTES]
        known = self._known.get(prefix)
        if known is None:
            at = bisect_right(self._lows, prefix)
            known = self._known[prefix] = at > 0 and prefix < self._highs[at - 1]
        return known


class Purge:
    """The removal of all rows whose incarnation lies in one of the ranges; `purged` is told when memory is done."""

    def __init__(
        self,
        tables: Callable[[], Tables],
        cache: RecordCache,
        engine: Engine,
        worker: Worker,
        void: Ranges,
        purged: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._void = void
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
        tables, void = self._tables(), Void(self._void)
        for slot, table in enumerate(tables):
            if table:
                rkeys = list(table)
                for at in range(0, len(rkeys), RUN_ROWS):
                    for rkey in rkeys[at : at + RUN_ROWS]:
                        if void(rkey):
                            del table[rkey]
                    yield
                if not table:
                    tables[slot] = {}  # a dictionary keeps the size that it once had
            elif not slot % SLOTS_AT_ONCE:
                yield
        for _ in self._cache.drop(void):
            yield
