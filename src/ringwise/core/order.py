"""The members of a sorted set in order, for each of its states (core/rows.py): ranks and ranges without a look at all of it.

A state never changes, and the next one differs by a member or two. So one list serves a chain of states: it is that of the one
that was asked last, and the others know what to change to come to it (Baker 1978, shallow binding). Who reads an older state
while newer ones are written pays for the difference, not for the set.

    older ──(what went, what came)──▶ newer: the list        ask older ─▶        older: the list ◀──(what came, what went)── newer
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from sortedcontainers import SortedList  # type: ignore[import-untyped]

Place: TypeAlias = tuple[float, bytes]  # score and member


class Order:
    """That of one state."""

    __slots__ = ("_came", "_gone", "_list", "_next")

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._list: SortedList | None = SortedList(places)
        self._next: Order | None = None
        self._gone: Sequence[Place] = ()
        self._came: Sequence[Place] = ()

    def changed(self, gone: Sequence[Place], came: Sequence[Place]) -> Order:
        """That of a state without some places, and with others."""
        newer = Order.__new__(Order)
        newer._list, newer._next, newer._gone, newer._came = self.places(), None, (), ()
        newer._swap(gone, came)
        self._point_to(newer, gone, came)
        return newer

    def places(self) -> SortedList:
        """In order. To be looked at at once, and not to be kept: it is the list of other states, too."""
        path: list[Order] = []
        state: Order = self
        while state._next is not None:
            path.append(state)
            state = state._next
        while path:
            older = path.pop()
            older._list = state._list
            older._swap(older._came, older._gone)
            state._point_to(older, older._came, older._gone)
            older._next, older._gone, older._came = None, (), ()
            state = older
        assert self._list is not None
        return self._list

    def _swap(self, gone: Sequence[Place], came: Sequence[Place]) -> None:
        assert self._list is not None
        for place in gone:
            self._list.remove(place)
        for place in came:
            self._list.add(place)

    def _point_to(self, other: Order, gone: Sequence[Place], came: Sequence[Place]) -> None:
        self._list, self._next, self._gone, self._came = None, other, gone, came
