"""The named operations on hashes and sorted sets (core/operations.py): what an update of them writes, by what it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from ringwise.core import versions
from ringwise.core.changes import Change
from ringwise.core.counters import decimal_of
from ringwise.core.errors import WrongType
from ringwise.core.map_changes import AddToField, AddToScore, RemoveFields, SetFields, SetScores
from ringwise.core.maps import HASH, SORTED, score_from
from ringwise.core.ranges import Range, Ranked, ranked

Arguments: TypeAlias = Sequence[bytes | int]


def hash_set(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """HSET: (most bytes of a hash, field, value, …)."""
    bytes_max, *pairs = arguments
    assert isinstance(bytes_max, int)
    return SetFields(tuple(_pairs(pairs)), bytes_max)


def hash_increment(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """HINCRBY and HINCRBYFLOAT: (most bytes, field, amount as text, 1 where it is a decimal number)."""
    bytes_max, field, text, real = arguments
    assert isinstance(bytes_max, int) and isinstance(field, bytes) and isinstance(text, bytes)
    return AddToField(field, decimal_of(text) if real else int(text), bytes_max)


def hash_remove(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """HDEL: (fields)."""
    there = versions.fields(before, wall_ms)
    if there is None:
        raise WrongType
    names = tuple(map(_bytes, arguments))
    return RemoveFields(HASH.entry, names) if not there.keys().isdisjoint(names) else None


def score_set(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """ZADD: (most bytes of a sorted set, conditions, member, score, …), a score as eight bytes."""
    bytes_max, conditions, *pairs = arguments
    assert isinstance(bytes_max, int) and isinstance(conditions, int)
    return SetScores(tuple((member, score_from(score)) for member, score in _pairs(pairs)), conditions, bytes_max)


def score_increment(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """ZINCRBY and ZADD INCR: (most bytes, conditions, member, amount as eight bytes)."""
    bytes_max, conditions, member, amount = arguments
    assert isinstance(bytes_max, int) and isinstance(conditions, int)
    return AddToScore(_bytes(member), score_from(_bytes(amount)), conditions, bytes_max)


def score_remove(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """ZREM: (members)."""
    there = versions.scores(before, wall_ms)
    if there is None:
        raise WrongType
    names = dict.fromkeys(map(_bytes, arguments))
    return _without(sorted((there[name], name) for name in names if name in there))


def score_pop(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """ZPOPMIN and ZPOPMAX: (how many, 1 for the highest)."""
    count, highest = arguments
    assert isinstance(count, int) and isinstance(highest, int)
    return _without(popped(_ranked(before, wall_ms), count, highest))


def popped(all_: Ranked, count: int, highest: int) -> Ranked:
    """Which members are taken, in the order in which they are."""
    return list(all_[: -count - 1 : -1] if highest else all_[:count])


def score_remove_range(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """ZREMRANGEBYRANK and its kin: (by what, lower end, upper end)."""
    by, start, stop = map(_bytes, arguments)
    return _without(Range(by, start, stop).of(_ranked(before, wall_ms)))


def _ranked(before: bytes, wall_ms: int) -> Ranked:
    there = versions.scores(before, wall_ms)
    if there is None:
        raise WrongType
    return ranked(there)


def _without(chosen: Ranked) -> Change | None:
    return RemoveFields(SORTED.entry, tuple(member for _, member in chosen)) if chosen else None


def _pairs(flat: Arguments) -> Iterator[tuple[bytes, bytes]]:
    for name, payload in zip(flat[::2], flat[1::2], strict=True):
        yield _bytes(name), _bytes(payload)


def _bytes(argument: bytes | int) -> bytes:
    assert isinstance(argument, bytes)
    return argument


MAP_OPERATIONS: dict[str, Callable[[bytes, Arguments, int], Change | None]] = {
    "hash_set": hash_set,
    "hash_increment": hash_increment,
    "hash_remove": hash_remove,
    "score_set": score_set,
    "score_increment": score_increment,
    "score_remove": score_remove,
    "score_pop": score_pop,
    "score_remove_range": score_remove_range,
}
