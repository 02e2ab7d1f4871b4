"""Hashes and sorted sets that merge themselves (V9): under each field a register, and what was added to it.

    entry          HSET, ZADD: covers what was seen of its field; of two at once the newest is shown
    contribution   HINCRBY, ZINCRBY: all that one actor has added to one base; it replaces only that actor's last one
    gone           left where a field is removed that was ever added to

    HSET f 5   HINCRBY f 1 at A   HINCRBY f 1 at B, at the same time
    f = 5      f = 5, A: +1       f = 5, A: +1, B: +1            shown: 7

A sorted set is the same with a score under each member. Like a counter (core/counters.py), a contribution names what it was
added to: the dot of the entry; or, where the field has none, the *cut*, a stamp below which nothing counts any more: of the
newest plain value or tombstone under the key, of an expiry that has passed, of what a removal of the field left behind. So an
increment that a removal had not seen does not bring back the total from before it: it counts as before it.

A removal covers what it has seen of its fields, and an entry that it has not seen survives it. It leaves nothing of a plain
field; but where a contribution was ever seen, which an entry that covers one remembers (*was added to*), it leaves a `gone`,
whose stamp is a cut. What the cut of a key was made from may be covered: a mark (core/sets.py) then remembers it.

Expiry is as with sets: a passed register hides what was written before that moment; the next write covers what is hidden.
Merging is that of dotted version vectors (V1), whatever the roles of versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import fsum, inf, isnan
from struct import Struct
from typing import TypeAlias

import msgspec

from ringwise.core.counters import (
    EXPIRY,
    INTEGER_MAX,
    Number,
    add,
    age,
    is_value,
    number_of,
    passed,
    register_of,
    text_of,
)
from ringwise.core.record import Sibling, entries
from ringwise.core.sets import MARK, cut_of_mark, hidden_up_to


class Kind(msgspec.Struct, frozen=True):
    """A type, and the content types of its versions."""

    name: str  # as TYPE says it
    entry: str
    count: str
    gone: str
    noun: str  # for messages


HASH = Kind("hash", "\0h", "\0hc", "\0hg", "hash")
SORTED = Kind("zset", "\0z", "\0zc", "\0zg", "sorted set")
KINDS = {kind.entry: kind for kind in (HASH, SORTED)}

_LENGTH_BYTES = 4
_CUT_BYTES = 8
_ADDED_TO, _PLAIN = b"\1", b"\0"
_double = Struct(">d")

Payload: TypeAlias = bytes  # of a hash: the value; of a sorted set: the score, as eight bytes


def packed(field: bytes, rest: bytes = b"") -> bytes:
    return len(field).to_bytes(_LENGTH_BYTES, "big") + field + rest


def parted(value: bytes) -> tuple[bytes, bytes]:
    """The field, and what stands behind it."""
    end = _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big")
    return value[_LENGTH_BYTES:end], value[end:]


def entry_of(field: bytes, payload: Payload, known: Field | None) -> bytes:
    """The value of a new entry; `known`: what it is to cover."""
    return packed(field, (_ADDED_TO if known is not None and known.was_added_to else _PLAIN) + payload)


def score_bytes(score: float) -> bytes:
    return _double.pack(score)


def score_from(payload: Payload) -> float:
    found: float = _double.unpack(payload)[0]
    return found


class Field:
    """What is known of one field, or of one member of a sorted set."""

    __slots__ = ("added", "base", "counted", "entries", "gone", "tag")

    def __init__(self) -> None:
        self.entries: list[tuple[Sibling, bytes]] = []  # each with what stands behind the field
        self.added: list[tuple[Sibling, bytes]] = []
        self.gone: list[Sibling] = []
        self.base: tuple[Sibling, bytes] | None = None
        self.tag = b""  # of the contributions that count
        self.counted: list[tuple[Sibling, bytes]] = []  # those, each with its amount

    def settle(self, cut: int) -> Field:
        """Finds the base, and what counts."""
        self.base = max(self.entries, key=lambda each: age(each[0]), default=None)
        if self.base is not None:
            newest = self.base[0]
            self.tag = b"\1" + entries.pack(newest.actor, newest.counter)
        else:
            cuts = [cut, *(each.stamp for each in self.gone)]
            cuts += [_cut_of(rest) for _, rest in self.added if rest[:1] == b"\0"]
            self.tag = b"\0" + max(cuts).to_bytes(_CUT_BYTES, "big")
        size = len(self.tag)
        self.counted = [(each, rest[size:]) for each, rest in self.added if rest.startswith(self.tag)]
        return self

    def of_actor(self, actor: bytes) -> list[tuple[Sibling, bytes]]:
        """What one actor has added, of that which counts."""
        return [(each, amount) for each, amount in self.counted if each.actor == actor]

    @property
    def there(self) -> bool:
        return self.base is not None or bool(self.counted)

    @property
    def was_added_to(self) -> bool:
        """Whether a contribution may be about that a removal has to keep down."""
        return bool(self.added or self.gone) or any(rest[:1] == _ADDED_TO for _, rest in self.entries)

    @property
    def known(self) -> list[Sibling]:
        """All its versions."""
        return [*(each for each, _ in self.entries), *(each for each, _ in self.added), *self.gone]

    @property
    def shown(self) -> list[Sibling]:
        """The versions that make up what is shown."""
        base = [self.base[0]] if self.base is not None else []
        return [*base, *(each for each, _ in self.counted)]

    @property
    def payload(self) -> Payload:
        return self.base[1][1:] if self.base is not None else b""

    @property
    def number(self) -> Number:
        """Of a hash: the value and all that was added; raises NotANumber."""
        total: Number = number_of(self.payload) if self.base is not None else 0
        for _, amount in self.counted:
            total = add(total, number_of(amount))
        if self.counted and not isinstance(total, int) and abs(total) <= INTEGER_MAX and total == int(total):
            return int(total)  # as it is shown
        return total

    @property
    def value(self) -> bytes:
        return text_of(self.number) if self.counted else self.payload

    @property
    def score(self) -> float:
        return total_of([score_from(each) for each in self._scores()])

    def _scores(self) -> list[Payload]:
        return [*([self.payload] if self.base is not None else []), *(amount for _, amount in self.counted)]


def total_of(scores: Sequence[float]) -> float:
    """The sum, exact before it is rounded once, so that the order does not matter. Infinities that cancel come to 0, as in
    the sums of Redis."""
    if len(scores) == 1:
        return scores[0]
    endless = {score for score in scores if score in (inf, -inf)}
    if endless:
        return endless.pop() if len(endless) == 1 else 0.0
    try:
        return fsum(scores)
    except OverflowError:  # on the way, or of the sum
        exact = sum(map(Fraction, scores))
        try:
            return float(exact)
        except OverflowError:
            return inf if exact > 0 else -inf


def is_score(score: float) -> bool:
    return not isnan(score)


class Fields:
    """A hash or a sorted set, as the siblings of a key come to at a time."""

    __slots__ = ("_marks", "cut", "dead", "found", "kind", "registers")

    def __init__(self, kind: Kind, siblings: Sequence[Sibling], wall_ms: int) -> None:
        hidden = hidden_up_to(siblings, wall_ms)
        self.kind = kind
        self._marks = [each for each in siblings if each.content_type == MARK]
        self.registers = [each for each in siblings if each.content_type == EXPIRY]
        plain = [each.stamp for each in siblings if is_value(each)]
        self.cut = max([hidden, *plain, *map(cut_of_mark, self._marks)])
        self.dead: list[Sibling] = []  # what nobody sees any more beside it, and nobody will
        self.found: dict[bytes, Field] = {}
        for each in siblings:
            if not self._sorted_in(each, hidden) and not self._stays(each, wall_ms):
                self.dead.append(each)
        for field in self.found.values():
            field.settle(self.cut)
        if not self.there:
            self.dead += [each for each in self.registers if each not in self.dead]

    def _sorted_in(self, each: Sibling, hidden: int) -> bool:
        kind, role = self.kind, each.content_type
        if role not in (kind.entry, kind.count, kind.gone) or (role != kind.count and each.stamp < hidden):
            return False
        name, rest = parted(each.value)
        if role == kind.count and (_cut_of(rest) < self.cut if rest[:1] == b"\0" else each.stamp < hidden):
            return False
        field = self.found.get(name)
        if field is None:
            field = self.found[name] = Field()
        if role == kind.entry:
            field.entries.append((each, rest))
        elif role == kind.count:
            field.added.append((each, rest))
        else:
            field.gone.append(each)
        return True

    @staticmethod
    def _stays(each: Sibling, wall_ms: int) -> bool:
        return each.content_type == MARK or (each.content_type == EXPIRY and not passed(each.expiry_ms, wall_ms))

    def of(self, name: bytes) -> Field:
        return self.found.get(name) or Field().settle(self.cut)

    @property
    def there(self) -> dict[bytes, Field]:
        return {name: field for name, field in self.found.items() if field.there}

    def mark(self, *, always: bool = False) -> tuple[list[tuple[str, bytes]], list[Sibling]]:
        """A version that remembers the cut, where none does, and the marks that it replaces."""
        if not always and (not self.cut or any(cut_of_mark(each) == self.cut for each in self._marks)):
            return [], []
        return [(MARK, cut_value(self.cut))], self._marks


def cut_value(cut: int) -> bytes:
    """What a mark remembers."""
    return cut.to_bytes(_CUT_BYTES, "big") if cut else b""


def _cut_of(rest: bytes) -> int:
    return int.from_bytes(rest[1 : 1 + _CUT_BYTES], "big")


def told_of(kind: Kind, sibling: Sibling) -> bytes:
    """A version for people: the field, and what stands under it or was added."""
    name, rest = parted(sibling.value)
    if sibling.content_type == kind.gone:
        return name
    is_entry = sibling.content_type == kind.entry
    begin = 1 if is_entry else 1 + (_CUT_BYTES if rest[:1] == b"\0" else entries.size)
    amount = b"%a" % score_from(rest[begin:]) if kind is SORTED else rest[begin:]
    return b"%b%b%b" % (name, b" = " if is_entry else b": ", amount)


def values_of(siblings: Sequence[Sibling], wall_ms: int) -> dict[bytes, bytes]:
    """A hash: what is under each field."""
    return {name: field.value for name, field in Fields(HASH, siblings, wall_ms).there.items()}


def scores_of(siblings: Sequence[Sibling], wall_ms: int) -> dict[bytes, float]:
    """A sorted set: the score of each member."""
    return {name: field.score for name, field in Fields(SORTED, siblings, wall_ms).there.items()}


def as_version(kind: Kind, siblings: Sequence[Sibling], wall_ms: int) -> Sibling | None:
    """It as one version, without its fields; None where it has none."""
    if not any(each.content_type in (kind.entry, kind.count) for each in siblings):
        return None
    shown = [each for field in Fields(kind, siblings, wall_ms).found.values() for each in field.shown]
    if not shown:
        return None
    newest = max(shown, key=age)
    register = register_of(siblings)
    expiry_ms = register.expiry_ms if register is not None and not passed(register.expiry_ms, wall_ms) else 0
    return Sibling(newest.actor, newest.counter, newest.stamp, expiry_ms, 0, kind.entry, False, b"")
