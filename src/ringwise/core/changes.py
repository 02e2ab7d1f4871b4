"""Changes to what a key has: an increment, an expiry, members of a set. Each is made to all that is known (V5, V9).

    read at R ─▶ merged into this node's own state ─▶ change ─▶ one new dot, which covers little of it

A put replaces what its writer has seen; a change adds to it. It is worked out when it is written, not when the key was read, so
two of them at once on one coordinator are one after the other.
"""

from __future__ import annotations

import msgspec

from ringwise.core import hyperloglog, sets, versions
from ringwise.core import record as records
from ringwise.core.counters import (
    COUNT,
    EXPIRY,
    Number,
    Shown,
    add,
    amount_of,
    amount_text,
    is_session,
    number_of,
    only_values,
    passed,
    sum_of,
)
from ringwise.core.dots import DotSource
from ringwise.core.errors import CollectionTooLarge, SequenceGap, TooManySessions, WrongType
from ringwise.core.record import Sibling
from ringwise.core.rows import covering, opened, unchanged
from ringwise.core.versions import Write

SESSIONS_MAX = 1000  # of one key: each leaves twenty bytes in its context for good


class Change(msgspec.Struct, frozen=True):
    """What an update does to a key where it is no put."""

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        """The record afterwards; raises Failure where nothing is to be written."""
        raise NotImplementedError

    def then(self, later: Change) -> Change | None:
        """What leaves the same as this and then `later`, where there is such a one (B5): of what merely adds members. What is
        overwritten in it at once is never made, so it is not too large either."""
        return None


class Expire(Change, frozen=True):
    """EXPIRE and PERSIST: an expiry register, which replaces the others. 0: it never expires."""

    expiry_ms: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        registers = versions.registers(held)
        write = Write(b"", content_type=EXPIRY, expiry_ms=self.expiry_ms, context=covering(registers))
        return dots.write(held, write, stamp)


class ForAWhile(Change, frozen=True):
    """A change that brings a key about where keys have a time to live unasked: its expiry is a register, stamped above it."""

    change: Change
    expiry_ms: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        made = self.change.apply(dots, held, stamp, wall_ms)
        if made == held:
            return made
        shown = versions.live(made, wall_ms)
        if shown is None or shown.expiry_ms:
            return made  # COPY brings an expiry along
        return Expire(self.expiry_ms).apply(dots, made, stamp + 1, wall_ms)


class Once(Change, frozen=True):
    """RW.INCR: the contribution of a session, under a dot that the client numbers: sent again, it is the same one.

    Two nodes that write it at once differ in its stamp only, or in the base that they know; both stay, and one of them is shown.
    """

    amount: int
    actor: bytes
    counter: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        last = versions.last_of(held, self.actor)
        if self.counter <= last:
            return held  # it counts already
        if self.counter > last + 1:
            raise SequenceGap(self.counter, last)
        _check_plain(held, wall_ms)
        siblings = records.unpack(held).siblings
        if not last and sum(is_session(actor) for actor, _ in records.unpack(held).context) >= SESSIONS_MAX:
            raise TooManySessions(SESSIONS_MAX)
        shown = Shown(siblings, wall_ms)
        sum_of(shown, self.amount)
        total = self.amount + sum(int(amount_of(each)) for each in shown.contributions if each.actor == self.actor)
        replaced = [each for each in siblings if each.actor == self.actor]
        if shown.base is None:
            replaced += [each for each in siblings if _expired(each, shown, wall_ms)]
        value = shown.tag + b"%d" % total
        version = Sibling(self.actor, self.counter, stamp, 0, 0, COUNT, False, value)
        return versions.with_version_of(held, version, covering(replaced))


class Increment(Change, frozen=True):
    """INCRBY and INCRBYFLOAT: this actor's contribution, which replaces its last one; and what has expired."""

    amount: Number

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        _check_plain(held, wall_ms)
        siblings = records.unpack(held).siblings
        shown = Shown(siblings, wall_ms)
        sum_of(shown, self.amount)
        actor = dots.last_actor(held)
        replaced = [each for each in shown.contributions if each.actor == actor]
        total: Number = self.amount
        for each in replaced:
            total = add(total, number_of(amount_of(each)))
        if shown.base is None:  # never written, or expired: what is left of that goes
            replaced += [each for each in siblings if _expired(each, shown, wall_ms)]
        value = shown.tag + amount_text(total)
        return dots.write(held, Write(value, content_type=COUNT, context=covering(replaced)), stamp)


def _expired(sibling: Sibling, shown: Shown, wall_ms: int) -> bool:
    if sibling.content_type == EXPIRY:
        return passed(sibling.expiry_ms, wall_ms)
    return sibling not in shown.contributions


class AddMembers(Change, frozen=True):
    """SADD: a version for each member that is not there; and what has gone, goes."""

    members: tuple[bytes, ...]
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        _check_set(held, wall_ms)
        known = versions.members_in(held, wall_ms)
        made = [(sets.MEMBER, member) for member in dict.fromkeys(self.members) if member not in known.found]
        if not made:
            return unchanged(held, self.members)
        record = fits(dots.write_each(held, made, covering(known.gone), stamp), self.bytes_max)
        return unchanged(record, [member for member in self.members if member in known.found])

    def then(self, later: Change) -> Change | None:
        if isinstance(later, AddMembers) and later.bytes_max == self.bytes_max:
            return AddMembers(self.members + later.members, self.bytes_max)
        return None


class RemoveMembers(Change, frozen=True):
    """SREM: the versions of these members that are known, and a mark."""

    members: tuple[bytes, ...]

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        _check_set(held, wall_ms)
        known = versions.members_in(held, wall_ms)
        removed = [member for member in dict.fromkeys(self.members) if member in known.found]
        if not removed:
            return held
        replaced = [each for member in removed for each in known.found[member]]
        if len(removed) == len(known.found):  # what comes under this key later begins without an expiry
            replaced += known.registers
        kept = max((each.value for each in known.marks), default=b"")
        return dots.write_each(held, [(sets.MARK, kept)], covering([*replaced, *known.marks]), stamp)


class StoreMembers(Change, frozen=True):
    """SUNIONSTORE and its kin: a set in the place of all that is known, or nothing."""

    members: tuple[bytes, ...]
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        if not self.members:
            return dots.write(held, Write(b"", tombstone=True), stamp) if versions.live(held, wall_ms) else held
        made = [(sets.MEMBER, member) for member in dict.fromkeys(self.members)]
        return fits(dots.write_each(held, made, versions.context_of(held), stamp), self.bytes_max)


class AddElements(Change, frozen=True):
    """PFADD and PFMERGE: the maximum of all that is known and of this value, in the place of what is known."""

    value: bytes

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        there = versions.estimate(held, wall_ms)
        if there is not None and hyperloglog.covers(there, self.value):
            return held
        together = self.value if there is None else hyperloglog.union([there, self.value])
        replaced = hyperloglog.replaced(records.unpack(held).siblings, wall_ms)
        write = Write(together, content_type=hyperloglog.ESTIMATE, context=covering(replaced))
        return dots.write(held, write, stamp)


def _check_plain(held: bytes, wall_ms: int) -> None:
    if opened(held) is None and only_values(records.unpack(held).siblings):
        return  # mostly; of a large collection not all versions are looked at to tell
    live = versions.live(held, wall_ms)
    if live is not None and (not versions.is_plain(live) or live.content_type == hyperloglog.ESTIMATE):
        raise WrongType


def _check_set(held: bytes, wall_ms: int) -> None:
    check_kind(held, sets.MEMBER, wall_ms)


def check_kind(held: bytes, entry: str, wall_ms: int) -> None:
    """Raises WrongType where the key has something of another kind than this."""
    if not versions.is_of(entry, held, wall_ms):
        raise WrongType


def fits(record: bytes, bytes_max: int, noun: str = "set") -> bytes:
    size = records.size_of(record)
    if size > bytes_max:
        raise CollectionTooLarge(size, bytes_max, noun)
    return record
