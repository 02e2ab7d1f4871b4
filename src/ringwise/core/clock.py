"""Hybrid logical clock (Kulkarni, Demirbas, Madeppa, Avva, Leone 2014): stamps that respect causality.

A stamp is a u64: 48 bits of wall milliseconds, then 16 bits of logical count. Stamps only ever break ties between
versions that are concurrent, or that a plain `SET` treats so (V5, V6); causality itself is the business of `versions`.

Invariants
* `next` and `after` never return a stamp twice and never go back, whatever the wall clock does.
* After `observe(s)` or `after(s)`, everything issued is greater than s.
* A stamp from elsewhere that lies more than `max_offset_ms` ahead is refused and leaves the clock as it was: one node
  or client with a far-future clock must not drag everybody along (V1, V7).

A logical count that overflows its 16 bits simply carries into the milliseconds.
"""

from ringwise.core.errors import StampTooFar

LOGICAL_BITS = 16


def stamp_at(wall_ms: int) -> int:
    """The smallest stamp of that millisecond."""
    return wall_ms << LOGICAL_BITS


def wall_of(stamp: int) -> int:
    """The wall milliseconds of a stamp."""
    return stamp >> LOGICAL_BITS


class Clock:
    """Issues the stamps of one node. `last` is the greatest stamp issued or observed; a restart passes it on."""

    __slots__ = ("last", "max_offset_ms")

    def __init__(self, max_offset_ms: int, last: int = 0) -> None:
        self.max_offset_ms = max_offset_ms
        self.last = last

    def next(self, wall_ms: int) -> int:
        """A stamp for a new event: the wall clock's if it moved on, else one more than the last."""
        stamp = wall_ms << LOGICAL_BITS
        if stamp <= self.last:
            stamp = self.last + 1
        self.last = stamp
        return stamp

    def observe(self, stamp: int, wall_ms: int) -> None:
        """Take note of a stamp that came from outside; raises StampTooFar, and then takes no note of it."""
        ahead_ms = (stamp >> LOGICAL_BITS) - wall_ms
        if ahead_ms > self.max_offset_ms:
            raise StampTooFar(ahead_ms, self.max_offset_ms)
        if stamp > self.last:
            self.last = stamp

    def after(self, stamp: int) -> int:
        """A stamp above `stamp` (which was observed, so is within the offset) and above everything issued."""
        if stamp > self.last:
            self.last = stamp
        self.last += 1
        return self.last
