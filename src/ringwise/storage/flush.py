"""A flush: a frozen memtable becomes part of the engine, then of the cache, in slices of the loop (S5).

    WRITING    slot by slot, sorted by storage key, into the engine's writer             on the loop, a run at a time
    FINISHING  synced and taken in by the engine, with the log position, in one step     in the worker
    MOVING     slot by slot from the frozen memtable into the cache                      on the loop, a run at a time

Throughout, a key is found in the frozen memtable or, once its slot has moved, in the cache or the engine: there is no
moment at which it is in none. A slot is moved whole, which also replaces what the cache holds of older records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from ringwise.core.keys import storage_key
from ringwise.core.record import Opened
from ringwise.core.versions import max_stamp
from ringwise.storage.cache import RecordCache
from ringwise.storage.engine import Engine, Worker

RUN_RECORDS = 128  # of 2 to 3 µs each: the clock is asked often enough for slices of a millisecond
SLOTS_AT_ONCE = 64  # looked at between two questions to the clock where they are empty

_EMPTY: dict[bytes, bytes] = {}
_Pairs = list[tuple[bytes, bytes]]


class Flush:
    """One flush of `tables`, which nobody writes any more."""

    def __init__(
        self,
        tables: list[dict[bytes, bytes]],
        position: int,
        engine: Engine,
        worker: Worker,
        cache: RecordCache,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self.tables = tables
        self.position = position
        self._stamp = engine.stamp
        self._worker = worker
        self._cache = cache
        self._ended = ended
        self._writer = engine.flush()
        self._writing = True
        self._steps: Iterator[None] | None = self._write()

    def step(self) -> bool:
        """Do a little; False while there is nothing to do here, for now or any more."""
        steps = self._steps
        if steps is None:
            return False
        for _ in steps:
            return True
        if self._steps is steps:  # the worker may have answered within the last step
            self._steps = None
        return self._steps is not None

    @property
    def moved(self) -> bool:
        return not self.tables

    def abort(self) -> None:
        """Give up, unless FINISHING has begun: then the engine has it, or an error was told."""
        if self._writing:
            self._steps = None
            self._writer.abort()

    def _write(self) -> Iterator[None]:
        for slot, table in enumerate(self.tables):
            if table:
                for pairs in _sorted_pairs(slot, table):
                    if pairs:
                        self._stamp = max(self._stamp, max(max_stamp(record) for _, record in pairs))
                    yield from self._add(pairs)
            elif not slot % SLOTS_AT_ONCE:
                yield
        self._writing = False
        self._worker.submit(self._finish, self._finished)

    def _add(self, pairs: _Pairs) -> Iterator[None]:
        """A large collection is a slice of its own."""
        small: _Pairs = []
        for key, record in pairs:
            if isinstance(record, Opened):
                self._writer.add([*small, (key, record.whole())])
                small = []
                yield
            else:
                small.append((key, record))
        if small:
            self._writer.add(small)
        yield

    def _finish(self) -> None:
        self._writer.finish(self.position, self._stamp)

    def _finished(self, result: BaseException | None) -> None:
        if result is None:
            self._steps = self._move()
        self._ended(result)

    def _move(self) -> Iterator[None]:
        take_over, tables = self._cache.take_over, self.tables
        for slot, table in enumerate(tables):
            if table:
                records = iter(table.items())
                while run := list(islice(records, RUN_RECORDS)):
                    take_over(slot, run)
                    yield
                tables[slot] = _EMPTY
            elif not slot % SLOTS_AT_ONCE:
                yield
        tables.clear()


def _sorted_pairs(slot: int, table: dict[bytes, bytes]) -> Iterator[_Pairs]:
    """(storage key, record) of a slot in ascending order, in short runs; an empty run only says that time has passed."""
    if len(table) <= RUN_RECORDS:
        yield sorted([(storage_key(slot, rkey), record) for rkey, record in table.items()])
        return
    runs: list[_Pairs] = []
    records = iter(table.items())
    while run := [(storage_key(slot, rkey), record) for rkey, record in islice(records, RUN_RECORDS)]:
        runs.append(sorted(run))
        yield []
    merged = merge(*runs)
    while pairs := list(islice(merged, RUN_RECORDS)):
        yield pairs
