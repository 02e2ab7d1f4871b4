"""Requests to bytes, replies to results. Pure: both shells use it, and no socket is needed to test it.

No handshake is sent: replies are read as RESP2, where a map is a list of keys and values in turn.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import hiredis

from ringwise.client import errors
from ringwise.client.results import Reply, Sibling, Written

T = TypeVar("T")
Text = str | bytes

TTL_S_MAX = 10_000_000_000  # some 300 years, as over HTTP; what is longer is a mistake in the unit
TIMEOUT_S_MAX = 1_000_000  # some eleven days: what clocks of sockets, locks and event loops can all count to
FLAGS_MAX = 2**32 - 1
COUNT_MAX = 2**63 - 1

_SPECIAL = re.compile(rb"[*?\[\]\\]")

_pack: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub takes one


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One request: its bytes, whether it writes, and how its reply is read."""

    wire: bytes
    write: bool
    read: Callable[[Any], T | errors.RingwiseError]
    again: bool = False  # a write that counts once however often it is sent

    def outcome(self, reply: object) -> T | errors.RingwiseError:
        if isinstance(reply, hiredis.ReplyError):
            return errors.of_reply(str(reply), write=self.write)
        return self.read(reply)


def as_bytes(text: Text, what: str) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"a {what} is bytes or str, not {type(text).__name__}")


def checked_timeout(seconds: float) -> float:
    """A time that is over is no mistake: callers hand on what is left of theirs."""
    _check_number(seconds, "timeout")
    if not -TIMEOUT_S_MAX <= seconds <= TIMEOUT_S_MAX:  # neither are nan and infinity
        raise ValueError(f"timeout is a number of seconds, at most {TIMEOUT_S_MAX}, not {seconds}")
    return seconds


def checked_count(count: int, what: str, least: int, most: int = COUNT_MAX) -> int:
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"{what} is an int, not {type(count).__name__}") from None
    if not least <= number <= most:
        raise ValueError(f"{what} is a whole number from {least} to {most}, not {number}")
    return number


def _text(text: str, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {type(text).__name__}")
    return text.encode()


def _check_number(value: float, what: str) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds, not {type(value).__name__}")


def request(
    arguments: tuple[bytes, ...],
    level: str | None,
    write: bool,
    read: Callable[[Any], T | errors.RingwiseError],
    *,
    again: bool = False,
) -> Command[T]:
    if level is not None:
        arguments = (b"RW.AT", _text(level, "level"), *arguments)
    return Command(_pack(arguments), write, read, again)


def get(key: Text, level: str | None) -> Command[Reply | None]:
    return request((b"RW.GET", as_bytes(key, "key")), level, False, read_reply)


def exists(key: Text, level: str | None) -> Command[bool]:
    return request((b"EXISTS", as_bytes(key, "key")), level, False, bool)


def put(
    key: Text,
    value: Text,
    level: str | None,
    *,
    ttl: float | None = None,
    context: bytes | None = None,
    content_type: str = "",
    flags: int = 0,
) -> Command[Written]:
    arguments = [b"RW.PUT", as_bytes(key, "key"), as_bytes(value, "value")]
    if context is not None:
        arguments += (b"CONTEXT", context)
    if content_type:
        arguments += (b"TYPE", _text(content_type, "content_type"))
    if checked_count(flags, "flags", 0, FLAGS_MAX):
        arguments += (b"FLAGS", b"%d" % flags)
    if ttl is not None:
        _check_number(ttl, "ttl")
        if not 0 < ttl <= TTL_S_MAX:
            raise ValueError(f"ttl is a number of seconds above 0 and at most {TTL_S_MAX}, not {ttl}; None: for ever")
        arguments += (b"PX", b"%d" % max(1, round(ttl * 1000)))
    return request(tuple(arguments), level, True, read_written)


def merge(key: Text, value: bytes, level: str | None, seen: Reply) -> Command[Written]:
    """A put in the place of all siblings that were seen, with the newest's time to live, content type and flags."""
    ttl = None if seen.ttl is None else max(0.001, seen.ttl)
    return put(key, value, level, ttl=ttl, context=seen.context, content_type=seen.content_type, flags=seen.flags)


def delete(key: Text, level: str | None, context: bytes | None) -> Command[Written]:
    arguments: tuple[bytes, ...] = (b"RW.DEL", as_bytes(key, "key"))
    if context is not None:
        arguments += (b"CONTEXT", context)
    return request(arguments, level, True, read_written)


def scan(cursor: int, prefix: Text, count: int, level: str | None) -> Command[tuple[int, list[bytes]]]:
    arguments: tuple[bytes, ...] = (b"SCAN", b"%d" % cursor, b"COUNT", b"%d" % checked_count(count, "count", 1))
    if prefix:
        arguments += (b"MATCH", glob_escaped(as_bytes(prefix, "prefix")) + b"*")
    return request(arguments, level, False, read_page)


def select(bucket: str | int) -> Command[None]:
    """A connection's bucket."""
    if isinstance(bucket, bool) or not isinstance(bucket, str | int):
        raise TypeError(f"a bucket is a name or a number, not {type(bucket).__name__}")
    return request((b"SELECT", str(bucket).encode()), None, False, lambda _: None)


def members() -> Command[list[str]]:
    return request((b"RW.MEMBERS",), None, False, read_members)


def glob_escaped(literal: bytes) -> bytes:
    """A pattern that matches just these bytes."""
    return _SPECIAL.sub(rb"\\\g<0>", literal)


def read_reply(reply: list[Any]) -> Reply | None:
    """RW.GET: the siblings come newest first. None where no version lives."""
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    found = [_sibling(sibling) for sibling in fields[b"siblings"]]
    if not found:
        return None
    return Reply(tuple(found), fields[b"context"], fields[b"clock"].decode())


def _sibling(flat: list[Any]) -> Sibling:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    ttl_ms: int = fields[b"ttl_ms"]
    return Sibling(
        fields[b"value"],
        fields[b"version"].decode(),
        fields[b"stamp"],
        None if ttl_ms == -1 else max(0, ttl_ms) / 1000,
        fields[b"type"].decode(),
        fields[b"flags"],
    )


def read_written(reply: list[Any]) -> Written:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    version: bytes | None = fields[b"version"]
    return Written(None if version is None else version.decode(), fields[b"siblings"], fields[b"context"])


def read_page(reply: list[Any]) -> tuple[int, list[bytes]]:
    return int(reply[0]), list(reply[1])


def read_members(reply: list[Any]) -> list[str]:
    return [address.decode() for address in reply]
