"""Arguments of commands: numbers, keys, values and expiry times, checked, with Redis's own words where Redis has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from ringwise.core.errors import CollectionTooLarge, KeyTooLong, ValueTooLong
from ringwise.server.call import Call, CommandError

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"

_INTEGER = re.compile(rb"-?[1-9][0-9]{0,18}|0")
_INTEGER_MAX = 2**63 - 1

EXPIRY_OPTIONS = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def integer_of(text: bytes, trouble: str = NOT_AN_INTEGER) -> int:
    """A 64-bit number, spelled the one way that Redis takes."""
    if not _INTEGER.fullmatch(text) or not -_INTEGER_MAX - 1 <= (number := int(text)) <= _INTEGER_MAX:
        raise CommandError(trouble)
    return number


def check_key(call: Call, key: bytes) -> None:
    limit = call.node.config.key_bytes_max
    if not key:
        raise CommandError(f"ERR the key is empty; a key has 1 to {limit} bytes")
    if len(key) > limit:
        raise KeyTooLong(len(key), limit)


def check_value(call: Call, value: bytes) -> None:
    limit = call.node.config.value_bytes_max
    if len(value) > limit:
        raise ValueTooLong(len(value), limit)


def check_whole(call: Call, parts: Iterable[bytes], noun: str) -> None:
    """What is too large by its bytes alone is not sent to an owner, which would refuse it."""
    limit, size = call.node.config.collection_bytes_max, sum(map(len, parts))
    if size > limit:
        raise CollectionTooLarge(size, limit, noun)


def check_parts(call: Call, given: Sequence[bytes], kept: Collection[bytes], noun: str) -> None:
    """Each of the given parts by itself, and together those that are kept."""
    config = call.node.config
    if sum(map(len, given)) > min(config.value_bytes_max, config.collection_bytes_max):
        for part in given:
            check_value(call, part)
        check_whole(call, kept, noun)


def expiry_of(call: Call, option: bytes, text: bytes, *, past: bool = False) -> int:
    """The absolute expiry, in wall-clock milliseconds, that an option such as EX asks for; `past`: it may be over already."""
    unit_ms, relative = EXPIRY_OPTIONS[option]
    now_ms = call.node.now.wall_ms if relative else 0
    number = integer_of(text)
    least = -_INTEGER_MAX - 1 if past else 1
    if not least <= number * unit_ms <= _INTEGER_MAX or number * unit_ms + now_ms > _INTEGER_MAX:
        name = call.arguments[0].decode("ascii", "replace").lower()
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    return number * unit_ms + now_ms
