"""Deltas: what changed of the state of a collection, and the steps that led to it (V3; core/rows.py says what for).

    checksum 8 | 04 | msgpack [names, context, cloud, siblings]

Several deltas come to one; and one, as the record of who holds nothing else of the key, to a part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, overload

import msgspec

from ringwise.core import record as records
from ringwise.core.context import Seen
from ringwise.core.errors import RecordDamaged
from ringwise.core.record import DELTA, FORM_AT, Dot, Record, Sibling

STEPS_MAX = 1024


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """What changed of a state."""

    names: list[bytes]  # rows that something was covered of
    context: list[Dot]
    cloud: list[Dot]
    siblings: list[Sibling]

    @property
    def part(self) -> Record:
        """As a state that has seen nothing else."""
        return Record(self.context, self.cloud, self.siblings, 0, 1)


_decoder = msgspec.msgpack.Decoder(Delta)


def sealed(delta: Delta) -> bytes:
    return records.seal(bytes((DELTA,)) + records.encoded(delta))


def delta_of(record: bytes) -> Delta:
    if not records.intact(record):
        raise RecordDamaged("its checksum does not match")
    return _decoder.decode(memoryview(record)[FORM_AT + 1 :])


def is_delta(record: bytes) -> bool:
    return len(record) > FORM_AT and record[FORM_AT] == DELTA


def part_of(delta: bytes) -> bytes:
    """A delta as the record of who holds nothing else of the key."""
    return records.encode(delta_of(delta).part)


def one_of(deltas: Sequence[bytes]) -> bytes:
    return deltas[0] if len(deltas) == 1 else together(map(delta_of, deltas))


def together(deltas: Iterable[Delta]) -> bytes:
    """One delta in the place of several."""
    names: set[bytes] = set()
    seen = Seen()
    dots: set[Dot] = set()
    alive: dict[Dot, set[Sibling]] = {}
    for delta in deltas:
        theirs: dict[Dot, set[Sibling]] = {}
        for each in delta.siblings:
            theirs.setdefault((each.actor, each.counter), set()).add(each)
        covered = {*delta.cloud, *((actor, n) for actor, last in delta.context for n in range(1, last + 1))}
        for dot in covered & alive.keys() - theirs.keys():
            del alive[dot]
        for dot, siblings in theirs.items():
            if dot in alive or dot not in dots:
                alive.setdefault(dot, set()).update(siblings)
        dots |= covered
        names.update(delta.names)  # what is covered; the names of what came are in it
    seen.add_dots(dots)
    left = sorted((each for found in alive.values() for each in found), key=records.order)
    return sealed(Delta(sorted(names), *seen.lists(), left))


# -- the steps to a state


class Step(NamedTuple):
    """How a state was come to from one before."""

    base: bytes  # the checksum of that
    delta: bytes


class Steps(Sequence[Step]):
    """The last steps that led to a state. The next state has one more: its list is the same, which is longer for it alone."""

    __slots__ = ("_all", "_begin", "_end", "_forgotten", "size")

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._all = list(steps)
        self._begin, self._end = 0, len(self._all)
        self.size = sum(len(step.delta) for step in self._all)  # of all deltas, in bytes
        self._forgotten = 0  # bytes of those that stand before the first one

    def and_then(self, step: Step, size_max: int) -> Steps:
        """These and one more, without the first ones where that were too many, or too many bytes."""
        every, begin, forgotten = self._all, self._begin, self._forgotten
        size = self.size + len(step.delta)
        while begin < self._end and (self._end - begin >= STEPS_MAX or size > size_max):
            size -= len(every[begin].delta)
            forgotten += len(every[begin].delta)
            begin += 1
        followed = self._end < len(every)  # by another state
        if followed or begin > STEPS_MAX or forgotten > size_max:
            every, begin, forgotten = every[begin : self._end], 0, 0
        every.append(step)
        following = Steps()
        following._all, following._begin, following._end = every, begin, len(every)
        following.size, following._forgotten = size, forgotten
        return following

    def __len__(self) -> int:
        return self._end - self._begin

    @overload
    def __getitem__(self, at: int) -> Step: ...
    @overload
    def __getitem__(self, at: slice) -> list[Step]: ...
    def __getitem__(self, at: int | slice) -> Step | list[Step]:
        if isinstance(at, slice):
            return self._all[self._begin : self._end][at]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._all[at + (self._begin if at >= 0 else self._end)]

    def since(self, checksums: Collection[bytes]) -> list[Step] | None:
        """Those after the latest state of these; None where it has been in none of them."""
        every = self._all
        for at in range(self._end - 1, self._begin - 1, -1):
            if every[at].base in checksums:
                return every[at : self._end]
        return None
