"""Counters and expiry registers (V4, V9): versions of a key that say something about another version, and never cover it.

    base          the newest plain value or tombstone, or none
    contribution  all that one actor has added to that base; it replaces only that actor's last one
    register      an expiry that was set after the value: EXPIRE; it replaces only other registers

    SET k 5   INCR k at A   INCR k at B, at the same time
    5         5, A: +1      5, A: +1, B: +1             shown: 7

Why not read and write the sum: of two writers at once one would be lost, or both would be siblings. A contribution has one
writer, and dotted version vectors merge it as they merge any version (V1), so the merge is commutative, associative and
idempotent, and an increment that is delivered twice counts once. A `SET` covers base and contributions; an increment that it had
not seen belongs to another base, and counts as before it. Almost the PN-counter of Shapiro, Preguica, Baquero, Zawirski 2011,
with a base that can be replaced; and for `EXPIRE` the same: a `SET` at the same time is not lost behind an older value with a
new expiry.

A contribution names what it was added to: the dot of the base; or, where there was none, the `cut`: when what was there before
expired, in wall milliseconds (0: nothing ever did). Two nodes that both add to an expired counter name the same cut, so both
count. Only the contributions to the present base, or to the greatest cut, are shown.

Both are siblings of a record, told by their content types, which no client can write: they begin with a zero byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Context as DecimalContext
from decimal import Decimal
from hashlib import blake2b
from typing import Protocol, TypeAlias

from msgspec import structs

from ringwise.core.errors import NotANumber, NumberOverflow
from ringwise.core.record import ACTOR_BYTES, Sibling, entries, order

EXPIRY = "\0e"
COUNT = "\0c"

SESSION_PREFIX = b"\xff\xff\xff\xff"
INTEGER_MAX = 2**63 - 1
FRACTION_DIGITS = 17  # as Redis rounds
_FLOAT_MAX = Decimal("1e308")
_LEAST = Decimal(1).scaleb(-FRACTION_DIGITS)
_DECIMAL = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_TEXT_BYTES_MAX = 512
_DOT_TAG_BYTES = 1 + entries.size
_CUT_TAG_BYTES = 1 + 8
# Sums of numbers of 308 digits before the point and 17 behind it are exact.
_exact = DecimalContext(prec=340)

Number: TypeAlias = int | Decimal


def is_value(sibling: Sibling) -> bool:
    """A version that somebody wrote or deleted; not a register, not a contribution."""
    return sibling.content_type[:1] != "\0"


def session_actor(session: bytes) -> bytes:
    """The actor of the increments that a client numbers itself."""
    return SESSION_PREFIX + blake2b(session, digest_size=ACTOR_BYTES - len(SESSION_PREFIX)).digest()


def is_session(actor: bytes) -> bool:
    """No node's: their ids do not begin like this."""
    return actor.startswith(SESSION_PREFIX)


def only_values(siblings: Iterable[Sibling]) -> bool:
    """Nothing but values, and what was said of them since: no collection, and nothing that was left of one."""
    for each in siblings:
        role = each.content_type
        if role[:1] == "\0" and role != COUNT and role != EXPIRY:
            return False
    return True


def newest_of(siblings: Iterable[Sibling]) -> Sibling | None:
    """The base: the newest value or tombstone (V6)."""
    return _last([each for each in siblings if is_value(each)])


def _last(versions: Sequence[Sibling]) -> Sibling | None:
    """The newest of some; mostly there is one, or none."""
    return max(versions, key=age) if len(versions) > 1 else versions[0] if versions else None


def age(sibling: Sibling) -> tuple[object, ...]:
    """Sort key: stamp, then dot; and should one dot ever carry two contents, the rest settles the order."""
    return sibling.stamp, *order(sibling)


def register_of(siblings: Sequence[Sibling]) -> Sibling | None:
    """The expiry register in force."""
    return _last([each for each in siblings if each.content_type == EXPIRY])


def expiry_of(version: Sibling, siblings: Sequence[Sibling]) -> int:
    """When a version expires, in wall milliseconds, or 0: as it was written, unless a register was set after it."""
    register = register_of(siblings)
    return register.expiry_ms if register is not None and register.stamp > version.stamp else version.expiry_ms


def passed(expiry_ms: int, wall_ms: int) -> bool:
    return bool(expiry_ms) and wall_ms >= expiry_ms


class Shown:
    """What the siblings of a key come to at a time: what a plain `GET` shows, and what an increment is added to."""

    __slots__ = ("base", "contributions", "expiry_ms", "tag")

    def __init__(self, siblings: Sequence[Sibling], wall_ms: int) -> None:
        added = [each for each in siblings if each.content_type == COUNT]
        base = newest_of(siblings)
        self.expiry_ms = 0 if base is None else expiry_of(base, siblings)
        self.base = base
        if base is not None and not passed(self.expiry_ms, wall_ms):
            self.tag = b"\1" + entries.pack(base.actor, base.counter)
        else:
            self.base = None
            cuts = [cut for each in added if (cut := _cut_of(each)) is not None]
            register = register_of(siblings)
            if base is not None:
                cuts.append(self.expiry_ms)
            elif register is not None and passed(register.expiry_ms, wall_ms):
                cuts.append(register.expiry_ms)
            cut = max(cuts, default=0)
            self.expiry_ms = register.expiry_ms if register is not None and register.expiry_ms > cut else 0
            self.tag = b"\0" + cut.to_bytes(8, "big")
        self.contributions = _of_each_actor(added, self.tag)

    @property
    def version(self) -> Sibling | None:
        """As one live version, under the dot of its newest part; None where the key is absent."""
        base = self.base
        if not self.contributions:
            if base is None or base.tombstone:
                return None
            return base if base.expiry_ms == self.expiry_ms else _copy(base, base, base.value, self.expiry_ms)
        newest = _last(self.contributions)
        assert newest is not None
        return _copy(newest, base, text_of(self.number), self.expiry_ms)

    @property
    def number(self) -> Number:
        """The base and all contributions; raises NotANumber."""
        base = self.base
        value = base.value if base is not None and not base.tombstone else None
        return total_of(value, [amount_of(each) for each in self.contributions])


def _of_each_actor(added: Sequence[Sibling], tag: bytes) -> list[Sibling]:
    """One contribution for each actor: of a session that sent one again, two nodes may have written it, at different times."""
    found: dict[bytes, Sibling] = {}
    for each in added:
        if each.value.startswith(tag):
            other = found.get(each.actor)
            if other is None or (other.counter, age(other)) < (each.counter, age(each)):
                found[each.actor] = each
    return list(found.values())


def _copy(newest: Sibling, base: Sibling | None, value: bytes, expiry_ms: int) -> Sibling:
    flags, content_type = (base.flags, base.content_type) if base is not None else (0, "")
    return Sibling(newest.actor, newest.counter, newest.stamp, expiry_ms, flags, content_type, False, value)


def _cut_of(contribution: Sibling) -> int | None:
    value = contribution.value
    return int.from_bytes(value[1:_CUT_TAG_BYTES], "big") if value[:1] == b"\0" else None


def amount_of(contribution: Sibling) -> bytes:
    """What a contribution adds, as text."""
    value = contribution.value
    return value[_CUT_TAG_BYTES if value[:1] == b"\0" else _DOT_TAG_BYTES :]


def number_of(text: bytes) -> Number:
    """An integer or a decimal number, as Redis reads them; raises NotANumber."""
    try:
        if text[:1].isdigit() or text[:1] == b"-":
            number = int(text)
            if text == b"%d" % number and -INTEGER_MAX - 1 <= number <= INTEGER_MAX:
                return number
    except ValueError:
        pass
    return decimal_of(text)


def decimal_of(text: bytes) -> Decimal:
    """A decimal number; raises NotANumber for what is none, or is endless."""
    if not _DECIMAL.fullmatch(text) or len(text) > _TEXT_BYTES_MAX:
        raise NotANumber(real=True)
    number = _exact.create_decimal(text.decode())
    if not number.is_finite() or abs(number) > _FLOAT_MAX:
        raise NotANumber(real=True)
    return number.quantize(_LEAST, context=_exact)


def add(a: Number, b: Number) -> Number:
    """Exact, so that the order of the contributions does not matter."""
    return a + b if isinstance(a, int) and isinstance(b, int) else _exact.add(Decimal(a), Decimal(b))


def total_of(value: bytes | None, amounts: Sequence[bytes]) -> Number:
    """A value, or none, and what was added to it, as texts; raises NotANumber."""
    total: Number = number_of(value) if value is not None else 0
    for amount in amounts:
        total = add(total, number_of(amount))
    if amounts and isinstance(total, Decimal) and abs(total) <= INTEGER_MAX and total == int(total):
        return int(total)  # as it is shown; but a value that was written as 00 or 1.0 is none
    return total


def amount_text(total: Number) -> bytes:
    """As a contribution keeps it."""
    return b"%d" % total if isinstance(total, int) else f"{total:f}".encode()


def text_of(number: Number) -> bytes:
    """As Redis shows it: no exponent, no zeros at the end."""
    if isinstance(number, int):
        return b"%d" % number
    text = f"{number:.{FRACTION_DIGITS}f}".rstrip("0").rstrip(".")
    return b"0" if text in ("-0", "") else text.encode()


class Numbered(Protocol):
    """A counter, or a field of a hash."""

    @property
    def number(self) -> Number:
        """Raises NotANumber."""
        ...


def sum_of(shown: Numbered, amount: Number, trouble: type[NotANumber] = NotANumber) -> Number:
    """What it would be; raises NotANumber (or `trouble`, in words of its own) and NumberOverflow, in which case nothing is to be
    written."""
    real = isinstance(amount, Decimal)
    try:
        before = shown.number
    except NotANumber as error:
        raise trouble(real=real) from error
    if not real and not isinstance(before, int):
        raise trouble(real=False)
    after = add(before, amount)
    if not real and not -INTEGER_MAX - 1 <= after <= INTEGER_MAX:
        raise NumberOverflow(real=False)
    if real and abs(Decimal(after)) > _FLOAT_MAX:
        raise NumberOverflow(real=True)
    return after


def carried(version: Sibling, siblings: Sequence[Sibling]) -> tuple[Sibling, list[Sibling]]:
    """A version with all that was said about it since, as it has to be written under another dot (V5); and what that takes in."""
    tag = b"\1" + entries.pack(version.actor, version.counter)
    counted = [each for each in siblings if each.content_type == COUNT]
    added = _of_each_actor(counted, tag)
    registers = [each for each in siblings if each.content_type == EXPIRY and each.stamp > version.stamp]
    value, tombstone = version.value, version.tombstone
    if added:
        total = number_of(value) if not tombstone else 0
        for each in added:
            total = add(total, number_of(amount_of(each)))
        value, tombstone = text_of(total), False
    expiry_ms = expiry_of(version, siblings)
    changed = structs.replace(version, value=value, tombstone=tombstone, expiry_ms=expiry_ms)
    return changed, [*(each for each in counted if each.value.startswith(tag)), *registers]
