"""The types that merge by themselves, as requests, and the numbers of increments. No sockets, as in commands.py.

Numbers make an increment count once however often it is sent: the node remembers the last of each session.

    begin(5) ─▶ number 1 ─▶ answered           the next is number 2
    begin(5) ─▶ number 2 ─▶ no answer          may be counted: the next call is number 2 again, and has to be of 5 again
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Iterable
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
    named = [as_bytes(member, "member") for member in members]
    if not named:
        raise ValueError("name at least one member")
    return named
