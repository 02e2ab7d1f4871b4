"""Changes to hashes and sorted sets (core/maps.py): each is made to all that is known, as every change (core/changes.py).

A version for each field that is written, and one more, the mark, where what a cut was made from is covered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isnan

import msgspec

from ringwise.core import maps, sets, versions
from ringwise.core.changes import Change, check_kind, fits
from ringwise.core.counters import Number, add, amount_text, number_of, sum_of
from ringwise.core.dots import DotSource
from ringwise.core.errors import FieldNotANumber, ScoreNotANumber
from ringwise.core.maps import HASH, SORTED, Fields, Kind, Payload, packed, score_bytes, score_from
from ringwise.core.rows import covering, unchanged
from ringwise.core.versions import Write

NX, XX, GT, LT = 1, 2, 4, 8  # conditions of ZADD
Pairs = Sequence[tuple[bytes, float]]


class SetFields(Change, frozen=True):
    """HSET: an entry for each field; and what has gone, goes."""

    pairs: tuple[tuple[bytes, bytes], ...]
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        fields = _fields(HASH, held, wall_ms)
        return _written(dots, held, fields, dict(self.pairs), stamp, self.bytes_max)

    def then(self, later: Change) -> Change | None:
        if isinstance(later, SetFields) and later.bytes_max == self.bytes_max:
            return SetFields(self.pairs + later.pairs, self.bytes_max)
        return None


class SetScores(Change, frozen=True):
    """ZADD: as HSET, of those members that meet the conditions."""

    pairs: tuple[tuple[bytes, float], ...]
    conditions: int
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        fields = _fields(SORTED, held, wall_ms)
        there = {name: field.score for name in dict(self.pairs) if (field := fields.of(name)).there}
        chosen = judged(there, self.pairs, self.conditions).chosen
        if not chosen:
            return unchanged(held, [name for name, _ in self.pairs])
        payloads = {member: score_bytes(score) for member, score in chosen.items()}
        record = _written(dots, held, fields, payloads, stamp, self.bytes_max)
        return unchanged(record, [name for name, _ in self.pairs if name not in chosen])

    def then(self, later: Change) -> Change | None:
        if isinstance(later, SetScores) and (later.conditions, later.bytes_max) == (self.conditions, self.bytes_max):
            return SetScores(self.pairs + later.pairs, self.conditions, self.bytes_max)
        return None


class Judged(msgspec.Struct):
    """What ZADD does: scores to write, and how many members are new, or have another score."""

    chosen: dict[bytes, float]
    added: int = 0
    updated: int = 0


def judged(there: Mapping[bytes, float], pairs: Pairs, conditions: int) -> Judged:
    """One pair after another, each by what those before it left."""
    outcome = Judged({})
    for member, score in pairs:
        old = outcome.chosen.get(member, there.get(member))
        if not met(old, score, conditions):
            continue
        outcome.added += old is None
        outcome.updated += old is not None and old != score
        outcome.chosen[member] = score
    return outcome


def met(old: float | None, new: float, conditions: int) -> bool:
    """NX: only what is not there; XX: only what is; GT and LT: of what is there, only what becomes greater, or less."""
    if old is None:
        return not conditions & XX
    return not (conditions & NX or (conditions & GT and new <= old) or (conditions & LT and new >= old))


def _fields(kind: Kind, held: bytes, wall_ms: int) -> Fields:
    check_kind(held, kind.entry, wall_ms)
    return versions.fields_in(kind, held, wall_ms)


def _written(
    dots: DotSource, held: bytes, fields: Fields, payloads: Mapping[bytes, Payload], stamp: int, bytes_max: int
) -> bytes:
    """An entry under each field, which covers what is known of it."""
    kind = fields.kind
    made, marks = fields.mark()
    replaced = [*fields.dead, *marks]
    for name, payload in payloads.items():
        entry, covered = fields.replaced_by(name, payload)
        made.append((kind.entry, entry))
        replaced += covered
    return fits(dots.write_each(held, made, covering(replaced), stamp), bytes_max, kind.noun)


class AddToField(Change, frozen=True):
    """HINCRBY and HINCRBYFLOAT: this actor's contribution to the field, which replaces its last one."""

    field: bytes
    amount: Number
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        fields = _fields(HASH, held, wall_ms)
        known = fields.of(self.field)
        sum_of(known, self.amount, FieldNotANumber)

        def more(amounts: list[bytes]) -> bytes:
            total = self.amount
            for each in amounts:
                total = add(total, number_of(each))
            return amount_text(total)

        return _added(dots, held, fields, self.field, more, stamp, self.bytes_max)


class AddToScore(Change, frozen=True):
    """ZINCRBY and ZADD INCR: this actor's contribution to the score, where the sum meets the conditions."""

    member: bytes
    amount: float
    conditions: int
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        fields = _fields(SORTED, held, wall_ms)
        known = fields.of(self.member)
        if increased(known.score if known.there else None, self.amount, self.conditions) is None:
            return unchanged(held, [self.member])

        def more(amounts: list[bytes]) -> bytes:
            return score_bytes(maps.total_of([self.amount, *map(score_from, amounts)]))

        return _added(dots, held, fields, self.member, more, stamp, self.bytes_max)


def increased(old: float | None, amount: float, conditions: int) -> float | None:
    """The score afterwards, None where the conditions are not met; raises ScoreNotANumber."""
    if not met(old, inf if conditions & GT else -inf, conditions & (NX | XX)):
        return None
    new = amount if old is None else old + amount
    if isnan(new):
        raise ScoreNotANumber
    return new if met(old, new, conditions) else None


def _added(
    dots: DotSource,
    held: bytes,
    fields: Fields,
    name: bytes,
    more: Callable[[list[bytes]], bytes],
    stamp: int,
    bytes_max: int,
) -> bytes:
    """This actor's contribution; `more` gives its amount from those that it replaces."""
    known, kind = fields.of(name), fields.kind
    own = known.of_actor(dots.last_actor(held))
    made, marks = fields.mark()
    made.append((kind.count, packed(name, known.tag + more([amount for _, amount in own]))))
    replaced = [*fields.dead, *marks, *(each for each, _ in own), *known.before(own)]
    return fits(dots.write_each(held, made, covering(replaced), stamp), bytes_max, kind.noun)


class RemoveFields(Change, frozen=True):
    """HDEL and ZREM: all that is known of these fields; and what has to be left so that no total comes back."""

    entry: str  # of the kind
    names: tuple[bytes, ...]

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        kind = maps.KINDS[self.entry]
        fields = _fields(kind, held, wall_ms)
        removed = {name: field for name in self.names if (field := fields.of(name)).there}
        if not removed:
            return held
        replaced = [each for field in removed.values() for each in field.known]
        if len(removed) == fields.count:  # what comes under this key later begins without an expiry
            replaced += fields.registers
        made = [(kind.gone, packed(name)) for name, field in removed.items() if field.was_added_to]
        if not made:  # the greatest stamp must not fall
            made, marks = fields.mark(always=True)
            replaced += marks
        return dots.write_each(held, made, covering(replaced), stamp)


class StoreAll(Change, frozen=True):
    """A whole hash or sorted set in the place of all that is known, or nothing: ZRANGESTORE and its kin, COPY.

    What is covered must not be added to what is stored, so a mark with the greatest stamp of it is the cut.
    """

    entry: str  # of the kind
    items: tuple[tuple[bytes, Payload], ...]
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        if not self.items:
            return dots.write(held, Write(b"", tombstone=True), stamp) if versions.live(held, wall_ms) else held
        made = [(sets.MARK, maps.cut_value(versions.max_stamp(held)))] if held else []
        made += [(self.entry, maps.entry_of(name, payload)) for name, payload in dict(self.items).items()]
        record = dots.write_each(held, made, versions.context_of(held), stamp)
        return fits(record, self.bytes_max, maps.KINDS[self.entry].noun)
