"""Sets that merge themselves (V9): a member is there if somebody has added it, and nobody who had seen that has removed it.

    SADD k m    a version of its own for each member: dot, stamp, member      two at once: both are kept, one is shown
    SREM k m    covers the versions of m that were seen, and no others        an SADD at the same time survives it

The observed-remove set of Bieniusa et al. 2012, without tombstones for members: the context of the record remembers what was
seen, so what is seen and not there was removed, and merging is that of dotted version vectors (V1). A removal leaves one
*mark*, which replaces earlier marks: the greatest stamp of a record must not fall. Hashes and sorted sets keep a stamp in it
(core/maps.py).

Expiry: a passed register hides what was added before that moment; the next SADD covers what is hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ringwise.core.clock import stamp_at
from ringwise.core.counters import EXPIRY, age, passed, register_of
from ringwise.core.record import Sibling

if TYPE_CHECKING:
    from ringwise.core.rows import Rows

MEMBER = "\0s"
MARK = "\0S"


class Members:
    """A set, as the siblings of a key come to at a time."""

    __slots__ = ("found", "gone", "marks", "registers")

    def __init__(self, siblings: Sequence[Sibling], wall_ms: int) -> None:
        found = members_of(siblings, wall_ms)
        self.found: Mapping[bytes, Sequence[Sibling]] = found
        self.marks = [each for each in siblings if each.content_type == MARK]
        self.registers = [each for each in siblings if each.content_type == EXPIRY]
        self.gone = gone(siblings, found, wall_ms)

    @classmethod
    def of_rows(cls, rows: Rows, wall_ms: int) -> Members | None:
        """Of a record that is held as rows; None where not all of them are there."""
        members = cls.__new__(cls)
        members.found = rows.rows
        if not rows.rest:
            members.marks, members.registers, members.gone = [], [], []
            return members
        if not rows.is_pure or hidden_up_to(rows.rest, wall_ms) > rows.least:
            return None
        members.marks = [each for each in rows.rest if each.content_type == MARK]
        members.registers = [each for each in rows.rest if each.content_type == EXPIRY]
        members.gone = [each for each in members.registers if passed(each.expiry_ms, wall_ms)]
        return members

    def is_there(self) -> bool:
        """Whether it has any member."""
        return bool(self.found)


def members_of(siblings: Iterable[Sibling], wall_ms: int) -> dict[bytes, list[Sibling]]:
    """The members that are there, each with the versions that say so."""
    found: dict[bytes, list[Sibling]] = {}
    added = [each for each in siblings if each.content_type == MEMBER]
    if added:
        hidden = hidden_up_to(siblings, wall_ms)
        for each in added:
            if each.stamp >= hidden:
                found.setdefault(each.value, []).append(each)
    return found


def hidden_up_to(siblings: Iterable[Sibling], wall_ms: int) -> int:
    """What was added at a stamp below this one has expired."""
    ends = [each.expiry_ms for each in siblings if each.content_type == EXPIRY and passed(each.expiry_ms, wall_ms)]
    return stamp_at(max(ends)) if ends else 0


def cut_of_mark(mark: Sibling) -> int:
    """What a hash or a sorted set keeps in it (core/maps.py), or 0."""
    return int.from_bytes(mark.value, "big")


def as_version(siblings: Sequence[Sibling], wall_ms: int) -> Sibling | None:
    """The set as one version, without its members; None where it has none."""
    members = members_of(siblings, wall_ms)
    if not members:
        return None
    newest = max((each for versions in members.values() for each in versions), key=age)
    register = register_of(siblings)
    expiry_ms = register.expiry_ms if register is not None and not passed(register.expiry_ms, wall_ms) else 0
    return Sibling(newest.actor, newest.counter, newest.stamp, expiry_ms, 0, MEMBER, False, b"")


def gone(siblings: Sequence[Sibling], found: Mapping[bytes, Sequence[Sibling]], wall_ms: int) -> list[Sibling]:
    """What nobody sees any more, beside a set: tombstones, what has expired, registers that have passed, or that were about a
    set which has no members left."""
    there = {id(each) for versions in found.values() for each in versions}
    left: list[Sibling] = []
    for each in siblings:
        if each.content_type == EXPIRY:
            seen = bool(there) and not passed(each.expiry_ms, wall_ms)
        else:
            seen = each.content_type == MARK or id(each) in there
        if not seen:
            left.append(each)
    return left
