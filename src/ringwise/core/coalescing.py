"""Changes of one turn to one key become one write (B5, write coalescing): fifty writers of a counter cost its owners one merge.

    INCR k │ INCR k │ SADD s a │ INCR k        base ─▶ state 1 ─▶ state 2 ─▶ state 3, each made to the one before it
    ─▶  k: base ─▶ state 3 │ s: …              one row of the chunk, acknowledged for all three

Each writer is answered with the state that it made itself. Plain SETs are no changes: of these each one is told what the owners
know (V5).
"""

from __future__ import annotations

from typing import TypeAlias

from ringwise.core import record as records
from ringwise.core import rows
from ringwise.core.record import CHECKSUM_BYTES
from ringwise.core.rows import Rows
from ringwise.core.sink import Several, Sink

# Slot, row key, checksum of what it was made to, state, for whom.
Row: TypeAlias = tuple[int, bytes, bytes, bytes, Sink, int]


def coalesced(written: list[Row], size_max: int) -> list[Row]:
    """The rows of a group, in their order; none comes to more than so many bytes unless it did before."""
    if len({row[1] for row in written}) == len(written):
        return written
    runs: list[_Run] = []
    last: dict[bytes, _Run] = {}
    for row in written:
        rkey = row[1]
        if rkey not in last or not last[rkey].takes(row, size_max):
            last[rkey] = run = _Run(row)
            runs.append(run)
    return [run.row() for run in runs]


class _Run:
    """Changes to one key, each made to the state before it."""

    __slots__ = ("_deltas", "_rows", "_size")

    def __init__(self, row: Row) -> None:
        self._rows = [row]
        self._deltas = delta = _changes(row)
        self._size = sum(map(len, delta or ()))

    def takes(self, row: Row, size_max: int) -> bool:
        """Whether the row goes on from here, and is in now."""
        _, _, base, record, _, _ = row
        if base != self._rows[-1][3][:CHECKSUM_BYTES]:
            return False
        delta = _changes(row)
        if delta is None or self._deltas is None:
            if delta is not self._deltas or records.size_of(record) > size_max:
                return False  # what is sent as a whole is all of those before it, but not where less could be sent
        else:
            size = self._size + sum(map(len, delta))
            if size > size_max:
                return False
            self._size = size
            self._deltas += delta
        self._rows.append(row)
        return True

    def row(self) -> Row:
        """All of them as one."""
        if len(self._rows) == 1:
            return self._rows[0]
        slot, rkey, base, _, _, _ = self._rows[0]
        record = self._rows[-1][3]
        if isinstance(record, Rows) and self._deltas:
            record = rows.in_one_step(record, self._deltas)
        return slot, rkey, base, record, Several((sink, index, made) for _, _, _, made, sink, index in self._rows), 0


def _changes(row: Row) -> list[bytes] | None:
    """The deltas that it is sent as; None where it is sent as a whole, also for being what was found (`rows.as_sent`)."""
    return rows.changes_since(row[2], row[3]) or None
