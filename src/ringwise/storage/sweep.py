"""Sweeps: dead records are looked for among those that a node holds, a page of names at a time (V8).

    names of a range ─▶ in memory: looked at       on disk only: read and looked at by a worker, past the cache ─▶ then()

Nearly all records are alive, and plain ones are so for certain: what is asked of those is one byte. A record that cannot be read
is left to whoever reads it next (S4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ringwise.core.keys import POSITION_BITS, storage_key
from ringwise.core.record import CHECKSUM_BYTES, intact
from ringwise.core.store import Swept
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

KEYS_AT_ONCE = 32  # of the engine: records are read whole, and may have a megabyte each


class Sweep:
    """One page."""

    def __init__(
        self,
        find: Callable[[int, bytes], bytes | None],
        engine: Engine,
        worker: Worker,
        wanted: Callable[[int], bool],
        dead: Callable[[bytes], bool],
        then: Swept,
    ) -> None:
        self._find = find
        self._engine = engine
        self._worker = worker
        self._wanted = wanted
        self._dead = dead
        self._then = then

    def named(self, names: list[tuple[int, bytes]] | None, upto: int) -> None:
        """The names of the page: (position, row key)."""
        if names is None:
            self._then(None, upto)
            return
        found: list[tuple[bytes, bytes]] = []
        cold: list[tuple[int, bytes]] = []
        for position, rkey in names:
            slot = position >> POSITION_BITS
            if not self._wanted(slot):
                continue
            record = self._find(slot, rkey)
            if record is None:
                cold.append((slot, rkey))
            elif self._dead(record):
                found.append((rkey, record[:CHECKSUM_BYTES]))
        if cold:
            self._worker.submit(partial(_look, self._engine, cold, self._dead), partial(self._looked, found, upto))
        else:
            self._then(found, upto)

    def _looked(
        self, found: list[tuple[bytes, bytes]], upto: int, more: list[tuple[bytes, bytes]] | BaseException
    ) -> None:
        if isinstance(more, BaseException):
            raise more  # _look lets nothing through but mistakes in the program
        self._then(found + more, upto)


def _look(
    engine: Engine, rows: Sequence[tuple[int, bytes]], dead: Callable[[bytes], bool]
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for at in range(0, len(rows), KEYS_AT_ONCE):
        some = rows[at : at + KEYS_AT_ONCE]
        try:
            records = engine.get_many([storage_key(slot, rkey) for slot, rkey in some])
        except ReadFailed:
            continue
        for (_, rkey), record in zip(some, records, strict=True):
            if intact(record) and dead(record):
                found.append((rkey, record[:CHECKSUM_BYTES]))
    return found
