"""The types that merge by themselves, as requests, and the numbers of increments. No sockets, as in commands.py.

Numbers make an increment count once however often it is sent: the node remembers the last of each session.

    begin(5) ─▶ number 1 ─▶ answered           the next is number 2
    begin(5) ─▶ number 2 ─▶ no answer          may be counted: the next call is number 2 again, and has to be of 5 again
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from ringwise.client import errors
from ringwise.client.commands import Command, Text, as_bytes, checked_count, request

T = TypeVar("T")

AMOUNT_MAX = 2**63 - 1
SEQ_MAX = 2**32 - 1
SESSION_BYTES = 12  # no two handles draw the same


class Run(Protocol):
    """Runs one command of a `Client`."""

    def __call__(self, command: Command[T], timeout: float | None, /) -> T: ...


class AsyncRun(Protocol):
    """Runs one command of an `AsyncClient`."""

    def __call__(self, command: Command[T], timeout: float | None, /) -> Awaitable[T]: ...


# -- counters


class Counted(NamedTuple):
    """What RW.INCR answers."""

    value: int
    again: bool  # it had been counted before


def increment(key: bytes, amount: int, level: str | None) -> Command[int]:
    _check_amount(amount)
    return request((b"INCRBY", key, b"%d" % amount), level, True, int)


def increment_once(key: bytes, amount: int, session: bytes, seq: int, level: str | None) -> Command[Counted]:
    _check_amount(amount)
    checked_count(seq, "seq", 1, SEQ_MAX)
    arguments = (b"RW.INCR", key, b"%d" % amount, b"SESSION", session, b"SEQ", b"%d" % seq)
    return request(arguments, level, True, _counted, again=True)


def _check_amount(amount: int) -> None:
    checked_count(amount, "amount", -AMOUNT_MAX, AMOUNT_MAX)


def number(key: bytes, level: str | None) -> Command[int]:
    return request((b"GET", key), level, False, _number)


def _number(reply: bytes | None) -> int | errors.RingwiseError:
    try:
        return 0 if reply is None else int(reply)
    except ValueError:
        return errors.InvalidRequest("WRONGTYPE the value of this key is no whole number")


def _counted(reply: list[Any]) -> Counted:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return Counted(fields[b"value"], bool(fields[b"again"]))


class Numbering:
    """Which number the next increment of a session has. A session without a name is this handle's alone."""

    def __init__(self, name: Text | None) -> None:
        self.session = secrets.token_bytes(SESSION_BYTES) if name is None else as_bytes(name, "session")
        self._named = name is not None
        self._last = 0  # answered
        self._open: int | None = None  # the amount of the one behind that, where it may have been counted
        self._fresh = True

    def begin(self, amount: int) -> int:
        _check_amount(amount)
        if self._open is not None and self._open != amount:
            raise ValueError(
                f"an increment of {self._open} was not answered and may be counted: call increment_once({self._open}) "
                "again, which counts it once, or take another handle"
            )
        self._fresh = self._open is None
        self._open = amount
        return self._last + 1

    def own(self, seq: int) -> int:
        """A number of the caller's."""
        if not self._named:
            raise ValueError("numbers of your own need a session of your own: kv.counter(key, session=…)")
        return seq

    def answered(self) -> None:
        self._last += 1
        self._open = None

    def failed(self, error: BaseException) -> None:
        if self._fresh and errors.not_applied(error):
            self._open = None


# -- sets


def add(key: bytes, members: Iterable[Text], level: str | None) -> Command[int]:
    return request((b"SADD", key, *_members(members)), level, True, int)


def remove(key: bytes, members: Iterable[Text], level: str | None) -> Command[int]:
    return request((b"SREM", key, *_members(members)), level, True, int)


def contains(key: bytes, member: Text, level: str | None) -> Command[bool]:
    return request((b"SISMEMBER", key, as_bytes(member, "member")), level, False, bool)


def members(key: bytes, level: str | None) -> Command[set[bytes]]:
    return request((b"SMEMBERS", key), level, False, set)


def size(key: bytes, level: str | None) -> Command[int]:
    return request((b"SCARD", key), level, False, int)


def pop(key: bytes, count: int, level: str | None) -> Command[set[bytes]]:
    checked_count(count, "count", 0)
    return request((b"SPOP", key, b"%d" % count), level, True, set)


def _members(members: Iterable[Text]) -> list[bytes]:
    return _named(members, "member")


def _named(names: Iterable[Text], what: str) -> list[bytes]:
    named = [as_bytes(name, what) for name in names]
    if not named:
        raise ValueError(f"name at least one {what}")
    return named


# -- maps


def put_fields(key: bytes, fields: Mapping[str, Text] | Mapping[bytes, Text], level: str | None) -> Command[int]:
    pairs = [part for item in fields.items() for part in (as_bytes(item[0], "field"), as_bytes(item[1], "value"))]
    if not pairs:
        raise ValueError("name at least one field")
    return request((b"HSET", key, *pairs), level, True, int)


def get_field(key: bytes, field: Text, level: str | None) -> Command[bytes | None]:
    return request((b"HGET", key, as_bytes(field, "field")), level, False, _as_it_is)


def has_field(key: bytes, field: Text, level: str | None) -> Command[bool]:
    return request((b"HEXISTS", key, as_bytes(field, "field")), level, False, bool)


def all_fields(key: bytes, level: str | None) -> Command[dict[bytes, bytes]]:
    return request((b"HGETALL", key), level, False, _pairs)


def remove_fields(key: bytes, fields: Iterable[Text], level: str | None) -> Command[int]:
    return request((b"HDEL", key, *_named(fields, "field")), level, True, int)


def increment_field(key: bytes, field: Text, amount: int, level: str | None) -> Command[int]:
    _check_amount(amount)
    return request((b"HINCRBY", key, as_bytes(field, "field"), b"%d" % amount), level, True, int)


def count_fields(key: bytes, level: str | None) -> Command[int]:
    return request((b"HLEN", key), level, False, int)


def _as_it_is(reply: bytes | None) -> bytes | None:
    return reply


def _pairs(reply: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


# -- leaderboards


def put_scores(key: bytes, scores: Mapping[str, float] | Mapping[bytes, float], level: str | None) -> Command[int]:
    pairs = [part for item in scores.items() for part in (_score(item[1]), as_bytes(item[0], "member"))]
    if not pairs:
        raise ValueError("name at least one member")
    return request((b"ZADD", key, *pairs), level, True, int)


def increment_score(key: bytes, member: Text, amount: float, level: str | None) -> Command[float]:
    return request((b"ZINCRBY", key, _score(amount), as_bytes(member, "member")), level, True, float)


def score(key: bytes, member: Text, level: str | None) -> Command[float | None]:
    return request((b"ZSCORE", key, as_bytes(member, "member")), level, False, _score_or_none)


def rank(key: bytes, member: Text, level: str | None) -> Command[int | None]:
    return request((b"ZREVRANK", key, as_bytes(member, "member")), level, False, _rank_or_none)


def ranked(key: bytes, first: int, last: int, level: str | None) -> Command[list[tuple[bytes, float]]]:
    for number in (first, last):
        checked_count(number, "a rank", -AMOUNT_MAX, AMOUNT_MAX)
    arguments = (b"ZRANGE", key, b"%d" % first, b"%d" % last, b"REV", b"WITHSCORES")
    return request(arguments, level, False, _scored)


def remove_scores(key: bytes, members: Iterable[Text], level: str | None) -> Command[int]:
    return request((b"ZREM", key, *_members(members)), level, True, int)


def count_scores(key: bytes, level: str | None) -> Command[int]:
    return request((b"ZCARD", key), level, False, int)


def _score(number: float) -> bytes:
    if not isinstance(number, (int, float)):
        raise TypeError(f"a score is a number, not {type(number).__name__}")
    if number != number:
        raise ValueError("a score is a number, and nan is none")
    return repr(float(number)).encode()


def _score_or_none(reply: bytes | None) -> float | None:
    return None if reply is None else float(reply)


def _rank_or_none(reply: int | None) -> int | None:
    return reply


def _scored(reply: list[bytes]) -> list[tuple[bytes, float]]:
    return [(member, float(text)) for member, text in zip(reply[::2], reply[1::2], strict=True)]
