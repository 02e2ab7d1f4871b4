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
whose stamp is a cut. That stays until the key is deleted or stored whole, or is empty and reaped (V8), since before that nobody
knows who has yet to hear of it. What the cut of a key was made from may be covered: a mark (core/sets.py) then remembers it.

Expiry is as with sets: a passed register hides what was written before that moment; the next write covers what is hidden.
Merging is that of dotted version vectors (V1), whatever the roles of versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import fsum, inf
from struct import Struct
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from ringwise.core import counters
from ringwise.core.counters import EXPIRY, Number, age, is_value, passed, register_of, text_of
from ringwise.core.record import Sibling, entries
from ringwise.core.sets import MARK, MEMBER, cut_of_mark, hidden_up_to

if TYPE_CHECKING:
    from ringwise.core.rows import Rows


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
# By the content type of a collection: of what its record consists, where there is nothing of another type.
ROLES = {kind.entry: frozenset([kind.entry, kind.count, kind.gone, MARK, EXPIRY]) for kind in (HASH, SORTED)}
ROLES[MEMBER] = frozenset([MEMBER, MARK, EXPIRY])

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


def entry_of(field: bytes, payload: Payload, known: Field | None = None) -> bytes:
    """The value of a new entry; `known`: what it is to cover."""
    return packed(field, (_ADDED_TO if known is not None and known.was_added_to else _PLAIN) + payload)


def score_bytes(score: float) -> bytes:
    return _double.pack(score)


def score_in(entry: Sibling) -> float:
    """The score that an entry of a sorted set gives its member."""
    found: float = _double.unpack_from(entry.value, len(entry.value) - _double.size)[0]
    return found


def score_from(payload: Payload) -> float:
    found: float = _double.unpack(payload)[0]
    return found


class Field:
    """What is known of one field, or of one member of a sorted set. `cut`: that of the key."""

    __slots__ = ("added", "base", "counted", "entries", "gone", "tag")

    def __init__(self, kind: Kind, known: Sequence[Sibling], cut: int) -> None:
        self.entries: list[tuple[Sibling, bytes]] = []  # each with what stands behind the field
        self.added: list[tuple[Sibling, bytes]] = []
        self.gone: list[Sibling] = []
        for each in known:
            rest = parted(each.value)[1]
            if each.content_type == kind.entry:
                self.entries.append((each, rest))
            elif each.content_type == kind.count:
                self.added.append((each, rest))
            else:
                self.gone.append(each)
        self.base = max(self.entries, key=lambda each: age(each[0]), default=None)
        if self.base is not None:
            newest = self.base[0]
            self.tag = b"\1" + entries.pack(newest.actor, newest.counter)
        else:
            cuts = [cut, *(each.stamp for each in self.gone)]
            cuts += [_cut_of(rest) for _, rest in self.added if rest[:1] == b"\0"]
            self.tag = b"\0" + max(cuts).to_bytes(_CUT_BYTES, "big")
        size = len(self.tag)
        alike = [(each, rest[size:]) for each, rest in self.added if rest.startswith(self.tag)]
        self.counted = alike if len(alike) < 2 else _last_of_each_actor(alike)

    def of_actor(self, actor: bytes) -> list[tuple[Sibling, bytes]]:
        """What one actor has added, of that which counts."""
        return [(each, amount) for each, amount in self.counted if each.actor == actor]

    def before(self, counted: Sequence[tuple[Sibling, bytes]]) -> list[Sibling]:
        """What these contributions have taken in already."""
        return [
            each
            for last, _ in counted
            for each, rest in self.added
            if each.actor == last.actor and each.counter < last.counter and rest.startswith(self.tag)
        ]

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
        return counters.total_of(
            self.payload if self.base is not None else None, [amount for _, amount in self.counted]
        )

    @property
    def value(self) -> bytes:
        return text_of(self.number) if self.counted else self.payload

    @property
    def score(self) -> float:
        return total_of([score_from(each) for each in self._scores()])

    def _scores(self) -> list[Payload]:
        return [*([self.payload] if self.base is not None else []), *(amount for _, amount in self.counted)]


def _last_of_each_actor(alike: list[tuple[Sibling, bytes]]) -> list[tuple[Sibling, bytes]]:
    """An actor's last contribution says all that it has added. Who has missed the one between two of them still holds the first,
    of which only that one says that it is over (V3)."""
    last: dict[bytes, tuple[Sibling, bytes]] = {}
    for each in alike:
        other = last.get(each[0].actor)
        if other is None or other[0].counter < each[0].counter:
            last[each[0].actor] = each
    return list(last.values())


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


class Fields:
    """A hash or a sorted set, as the siblings of a key come to at a time.

    Most fields have one version, an entry, and a collection has many fields: such a one is looked at without more ado.
    """

    __slots__ = ("_marks", "_rows", "cut", "dead", "found", "kind", "registers")

    def __init__(self, kind: Kind, siblings: Sequence[Sibling], wall_ms: int) -> None:
        self.kind = kind
        self.registers: list[Sibling] = []
        self._marks: list[Sibling] = []
        self.dead: list[Sibling] = []  # what nobody sees any more beside it, and nobody will
        self._rows: Rows | None = None
        found: dict[bytes, list[Sibling]] = {}
        self.found: Mapping[bytes, Sequence[Sibling]] = found  # by field: what is known of it
        hidden = hidden_up_to(siblings, wall_ms)
        others = self._sort_in(siblings, hidden, found)
        plain = [each.stamp for each in others if is_value(each)]
        self.cut = max([hidden, *plain, *map(cut_of_mark, self._marks)])
        self.dead += others
        self._drop_below_the_cut(found)
        gone = [each for each in self.registers if passed(each.expiry_ms, wall_ms)]
        self.dead += gone if self.is_there() else self.registers

    @classmethod
    def of_rows(cls, rows: Rows, wall_ms: int) -> Fields | None:
        """Of a record that is held as rows; None where not all of them count."""
        kind = rows.kind
        assert kind is not None
        fields = cls.__new__(cls)
        fields.kind, fields.found, fields._rows = kind, rows.rows, rows
        if not rows.rest:
            fields._marks, fields.registers, fields.cut, fields.dead = [], [], 0, []
            return fields
        hidden = hidden_up_to(rows.rest, wall_ms)
        if not rows.is_pure or hidden > rows.least:
            return None
        fields._marks = [each for each in rows.rest if each.content_type == MARK]
        fields.registers = [each for each in rows.rest if each.content_type == EXPIRY]
        fields.cut = max([hidden, *map(cut_of_mark, fields._marks)])
        if rows.loose and fields.cut > rows.loose_cut:
            return None  # some of what was added may count no more
        gone = [each for each in fields.registers if passed(each.expiry_ms, wall_ms)]
        fields.dead = gone if fields.is_there() else fields.registers
        return fields

    def _sort_in(self, siblings: Sequence[Sibling], hidden: int, found: dict[bytes, list[Sibling]]) -> list[Sibling]:
        """Returns what is of another kind."""
        kind, others = self.kind, []
        for each in siblings:
            role = each.content_type
            if role == kind.entry or role == kind.count or role == kind.gone:
                value = each.value
                if each.stamp < hidden and (role != kind.count or parted(value)[1][:1] == b"\1"):
                    self.dead.append(each)  # it has expired
                    continue
                name = value[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big")]
                known = found.get(name)
                if known is None:
                    found[name] = [each]
                else:
                    known.append(each)
            elif role == MARK:
                self._marks.append(each)
            elif role == EXPIRY:
                self.registers.append(each)
            else:
                others.append(each)
        return others

    def _drop_below_the_cut(self, found: dict[bytes, list[Sibling]]) -> None:
        """Contributions to nothing from before the cut count no more."""
        kind, cut = self.kind, self.cut
        for name, known in list(found.items()) if cut else ():
            void = [each for each in known if each.content_type == kind.count and _is_below(each, cut)]
            if void:
                self.dead += void
                left = [each for each in known if each not in void]
                if left:
                    found[name] = left
                else:
                    del found[name]

    def of(self, name: bytes) -> Field:
        return Field(self.kind, self.found.get(name, ()), self.cut)

    def replaced_by(self, name: bytes, payload: Payload) -> tuple[bytes, Sequence[Sibling]]:
        """(value of an entry for a field, the versions that it is to cover)."""
        known = self.found.get(name, ())
        if not known or (self._is_simple(known) and known[0].value.startswith(_PLAIN, _LENGTH_BYTES + len(name))):
            return packed(name, _PLAIN + payload), known  # nothing was ever added to it
        field = self.of(name)
        return entry_of(name, payload, field), field.known

    def _is_simple(self, known: Sequence[Sibling]) -> bool:
        return len(known) == 1 and known[0].content_type == self.kind.entry

    def is_there(self) -> bool:
        """Whether it has any field."""
        if self._rows is not None:
            return bool(self.count)
        return any(self._is_simple(known) or self.of(name).there for name, known in self.found.items())

    @property
    def count(self) -> int:
        """How many fields it has."""
        if self._rows is not None:
            return len(self._rows.rows) - self._rows.absent
        return sum(self._is_simple(known) or self.of(name).there for name, known in self.found.items())

    def __iter__(self) -> Iterator[bytes]:
        """The names of its fields."""
        for name, known in self.found.items():
            if self._is_simple(known) or self.of(name).there:
                yield name

    def value(self, name: bytes) -> bytes | None:
        """Of a hash: what is under a field."""
        known = self.found.get(name)
        if known is None:
            return None
        if self._is_simple(known):
            return known[0].value[_LENGTH_BYTES + len(name) + 1 :]
        field = self.of(name)
        return field.value if field.there else None

    def score(self, name: bytes) -> float | None:
        """Of a sorted set: that of a member."""
        known = self.found.get(name)
        if known is None:
            return None
        if self._is_simple(known):
            return score_in(known[0])
        field = self.of(name)
        return field.score if field.there else None

    @property
    def in_order(self) -> Sequence[tuple[float, bytes]] | None:
        """Of a sorted set: (score, member), to be looked at at once; None where nobody keeps it."""
        return self._rows.in_order() if self._rows is not None else None

    def values(self) -> Mapping[bytes, bytes]:
        """Of a hash: what is under each field."""
        if self._rows is not None:
            return Looked(self, self.value)
        found: dict[bytes, bytes] = {}
        for name, known in self.found.items():
            if self._is_simple(known):
                found[name] = known[0].value[_LENGTH_BYTES + len(name) + 1 :]
            elif (field := self.of(name)).there:
                found[name] = field.value
        return found

    def scores(self) -> Mapping[bytes, float]:
        """Of a sorted set: the score of each member."""
        if self._rows is not None:
            return Looked(self, self.score)
        found: dict[bytes, float] = {}
        for name, known in self.found.items():
            if self._is_simple(known):
                found[name] = score_in(known[0])
            elif (field := self.of(name)).there:
                found[name] = field.score
        return found

    def newest(self) -> Sibling | None:
        """Of the versions that make up what is shown."""
        shown: list[Sibling] = []
        for name, known in self.found.items():
            shown += known if self._is_simple(known) else self.of(name).shown
        last = max((each.stamp for each in shown), default=0)
        return max((each for each in shown if each.stamp == last), key=age, default=None)

    def mark(self, *, always: bool = False) -> tuple[list[tuple[str, bytes]], list[Sibling]]:
        """A version that remembers the cut, where none does, and the marks that it replaces."""
        if not always and (not self.cut or any(cut_of_mark(each) == self.cut for each in self._marks)):
            return [], []
        return [(MARK, cut_value(self.cut))], self._marks


V = TypeVar("V")


class Looked(Mapping[bytes, V]):
    """What is under each field, looked up when it is asked for."""

    __slots__ = ("_of", "fields")

    def __init__(self, fields: Fields, of: Callable[[bytes], V | None]) -> None:
        self.fields = fields
        self._of = of

    def __getitem__(self, name: bytes) -> V:
        found = self._of(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: bytes, default: V | None = None) -> V | None:  # type: ignore[override]  # of this one type
        found = self._of(name)
        return default if found is None else found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and self._of(name) is not None

    def __len__(self) -> int:
        return self.fields.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.fields)


def cut_value(cut: int) -> bytes:
    """What a mark remembers."""
    return cut.to_bytes(_CUT_BYTES, "big") if cut else b""


def _is_below(contribution: Sibling, cut: int) -> bool:
    rest = parted(contribution.value)[1]
    return rest[:1] == b"\0" and _cut_of(rest) < cut


def _cut_of(rest: bytes) -> int:
    return int.from_bytes(rest[1 : 1 + _CUT_BYTES], "big")


def cut_of_added(contribution: Sibling) -> int:
    """Which cut a contribution to nothing names."""
    return _cut_of(parted(contribution.value)[1])


def told_of(kind: Kind, sibling: Sibling) -> bytes:
    """A version for people: the field, and what stands under it or was added."""
    name, rest = parted(sibling.value)
    if sibling.content_type == kind.gone:
        return name
    is_entry = sibling.content_type == kind.entry
    begin = 1 if is_entry else 1 + (_CUT_BYTES if rest[:1] == b"\0" else entries.size)
    amount = b"%a" % score_from(rest[begin:]) if kind is SORTED else rest[begin:]
    return b"%b%b%b" % (name, b" = " if is_entry else b": ", amount)


def values_of(siblings: Sequence[Sibling], wall_ms: int) -> Mapping[bytes, bytes]:
    """A hash: what is under each field."""
    return Fields(HASH, siblings, wall_ms).values()


def scores_of(siblings: Sequence[Sibling], wall_ms: int) -> Mapping[bytes, float]:
    """A sorted set: the score of each member."""
    return Fields(SORTED, siblings, wall_ms).scores()


def as_version(kind: Kind, siblings: Sequence[Sibling], wall_ms: int) -> Sibling | None:
    """It as one version, without its fields; None where it has none."""
    if not any(each.content_type in (kind.entry, kind.count) for each in siblings):
        return None
    newest = Fields(kind, siblings, wall_ms).newest()
    if newest is None:
        return None
    register = register_of(siblings)
    expiry_ms = register.expiry_ms if register is not None and not passed(register.expiry_ms, wall_ms) else 0
    return Sibling(newest.actor, newest.counter, newest.stamp, expiry_ms, 0, kind.entry, False, b"")
