"""Counting answers (Dynamo, section 4.5): a tally knows how many owners have answered for each position of a group.

A group is the operations of one turn that share their owners. Nearly always an owner answers for the whole group at once, and
that costs one addition however many operations there are; only when an owner answers in parts (some of its keys were cold) are
positions counted one by one.

Invariant: a position is reported as reached exactly once, when `need` distinct owners have answered for it. Who answers twice is
the caller's to notice.
"""

from __future__ import annotations

from collections.abc import Sequence


class Tally:
    """Answers for `count` positions, each of which needs `need` of them."""

    __slots__ = ("_parts", "_reached", "_whole", "count", "need", "open")

    def __init__(self, count: int, need: int) -> None:
        self.count = count
        self.need = need
        self.open = count  # positions not yet reached
        self._whole = 0  # owners that answered for every position at once
        self._parts: list[int] | None = None  # by position: owners that answered for it in part
        self._reached = bytearray()

    def add(self, positions: Sequence[int]) -> Sequence[int]:
        """Counts one owner's answer for `positions` (empty: for all); returns those which thereby reach their level."""
        if not positions:
            self._whole += 1
            if self._parts is None:
                if self._whole != self.need:
                    return ()
                self.open = 0
                return range(self.count)
            return self._newly(range(self.count))
        if self._parts is None:
            self._parts = [0] * self.count
            self._reached = bytearray(b"\x01" if self.open == 0 else b"\x00") * self.count
        parts = self._parts
        for position in positions:
            parts[position] += 1
        return self._newly(positions)

    def _newly(self, positions: Sequence[int]) -> list[int]:
        assert self._parts is not None
        parts, reached, missing = self._parts, self._reached, self.need - self._whole
        found = [position for position in positions if not reached[position] and parts[position] >= missing]
        for position in found:
            reached[position] = 1
        self.open -= len(found)
        return found

    @property
    def least(self) -> int:
        """How many owners have answered for every position at once: for none have fewer answered."""
        return self._whole

    def acknowledged(self, position: int) -> int:
        """How many owners have answered for this position."""
        return self._whole + (self._parts[position] if self._parts is not None else 0)

    def close(self, position: int) -> bool:
        """Takes a position out, so that it is never reported as reached; False where it already was."""
        if self._parts is None:
            if self.open == 0:
                return False
            self._parts = [0] * self.count
            self._reached = bytearray(self.count)
        if self._reached[position]:
            return False
        self._reached[position] = 1
        self.open -= 1
        return True

    def is_open(self, position: int) -> bool:
        """Whether it lacks answers."""
        return self.open > 0 and (self._parts is None or not self._reached[position])

    def unreached(self) -> list[int]:
        """The positions that still lack answers."""
        if self.open == 0:
            return []
        if self._parts is None:
            return list(range(self.count))
        return [position for position in range(self.count) if not self._reached[position]]


def take_part(pending: dict[bytes, set[int] | None], owner: bytes, positions: Sequence[int], count: int) -> list[int]:
    """Of an owner's answer in part (empty: for all that is left), the positions it has not answered for before.

    `pending` holds what each owner still owes, None for everything; who owes nothing more is taken out. A frame that came
    twice may be answered with a position twice, which is still one owner's one answer.
    """
    missing = pending[owner]
    if missing is None:
        missing = pending[owner] = set(range(count))
    fresh = [position for position in dict.fromkeys(positions or sorted(missing)) if position in missing]
    missing.difference_update(fresh)
    if not missing:
        del pending[owner]
    return fresh
