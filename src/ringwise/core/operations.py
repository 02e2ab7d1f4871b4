"""The named operations (core/update.py): what an update writes, by what it has read. Those on hashes and sorted sets stand in
core/map_operations.py.

Named, because an update taken by a node that owns no copy of the key is forwarded whole to one that does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import TypeAlias

from ringwise.core import versions
from ringwise.core.changes import (
    AddElements,
    AddMembers,
    Change,
    Expire,
    Increment,
    Once,
    RemoveMembers,
    StoreMembers,
)
from ringwise.core.copying import forget, place
from ringwise.core.counters import decimal_of, passed, session_actor
from ringwise.core.errors import ValueTooLong, WrongType
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.core.map_operations import MAP_OPERATIONS
from ringwise.core.record import Sibling
from ringwise.core.versions import Write

Arguments: TypeAlias = Sequence[bytes | int]
Operation: TypeAlias = Callable[[bytes, Arguments, int], Write | Change | None]

DELETE = Write(value=b"", tombstone=True)


def delete(before: bytes, _arguments: Arguments, wall_ms: int) -> Write | None:
    """DEL: a tombstone, or nothing where the key is absent."""
    return DELETE if versions.live(before, wall_ms) else None


def set_(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """SET with GET or KEEPTTL: (value, absolute expiry in wall ms or 0, 1 to keep the present, 1 if the old value is told)."""
    value, expiry_ms, keep, told = arguments
    assert isinstance(value, bytes) and isinstance(expiry_ms, int)
    present = versions.live(before, wall_ms)
    if told:
        _check_plain(present)
    if keep and present is not None:
        expiry_ms = present.expiry_ms
    return Write(value=value, expiry_ms=expiry_ms)


def take(before: bytes, _arguments: Arguments, wall_ms: int) -> Write | None:
    """GETDEL: as DEL, of a plain value only."""
    present = versions.live(before, wall_ms)
    _check_plain(present)
    return DELETE if present is not None else None


def append(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """APPEND: (bytes to add, longest value)."""
    added, limit = arguments
    assert isinstance(added, bytes) and isinstance(limit, int)
    return _changed(before, lambda value: value + added, limit, wall_ms)


def set_range(before: bytes, arguments: Arguments, wall_ms: int) -> Write | None:
    """SETRANGE: (offset, bytes to put there, longest value); zero bytes fill a gap, and nothing to put changes nothing."""
    offset, part, limit = arguments
    assert isinstance(offset, int) and isinstance(part, bytes) and isinstance(limit, int)
    if not part:
        _check_plain(versions.live(before, wall_ms))
        return None
    if offset + len(part) > limit:
        raise ValueTooLong(offset + len(part), limit)
    return _changed(
        before, lambda value: value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :], limit, wall_ms
    )


def _check_plain(present: Sibling | None) -> None:
    if present is not None and not versions.is_plain(present):
        raise WrongType


def _changed(before: bytes, change: Callable[[bytes], bytes], limit: int, wall_ms: int) -> Write:
    """The newest value changed; what belongs to it (expiry, type, flags) stays."""
    present = versions.live(before, wall_ms)
    _check_plain(present)
    if present is not None and present.content_type == ESTIMATE:
        raise WrongType  # its bytes are what its registers are shown as
    value = change(present.value if present is not None else b"")
    if len(value) > limit:
        raise ValueTooLong(len(value), limit)
    if present is None:
        return Write(value=value)
    return Write(value=value, content_type=present.content_type, flags=present.flags, expiry_ms=present.expiry_ms)


NX, XX, GT, LT = 1, 2, 4, 8  # conditions of EXPIRE
PLAIN = 16  # of GETEX: what is told must be a plain value


def expire(before: bytes, arguments: Arguments, wall_ms: int) -> Write | Change | None:
    """EXPIRE and PERSIST: (absolute expiry in wall ms, or 0 for never; conditions). What is past deletes."""
    expiry_ms, conditions = arguments
    assert isinstance(expiry_ms, int) and isinstance(conditions, int)
    present = versions.live(before, wall_ms)
    if conditions & PLAIN:
        _check_plain(present)
    if present is None:
        return None
    never = inf  # a key without expiry counts as one that lives for ever
    old, new = present.expiry_ms or never, expiry_ms or never
    if (
        (conditions & NX and present.expiry_ms)
        or (conditions & XX and not present.expiry_ms)
        or (conditions & GT and new <= old)
        or (conditions & LT and new >= old)
        or (not expiry_ms and not present.expiry_ms)
    ):
        return None
    if passed(expiry_ms, wall_ms):
        return DELETE
    return Expire(expiry_ms)


def increment(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """INCRBY and INCRBYFLOAT: (amount as text, 1 where it is a decimal number)."""
    text, real = arguments
    assert isinstance(text, bytes)
    return Increment(decimal_of(text) if real else int(text))


def increment_once(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """RW.INCR: (amount, session, its number)."""
    amount, session, counter = arguments
    assert isinstance(amount, int) and isinstance(session, bytes) and isinstance(counter, int)
    return Once(amount, session_actor(session), counter)


def set_add(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """SADD: (most bytes of a set, members)."""
    bytes_max, *members = arguments
    assert isinstance(bytes_max, int)
    return AddMembers(tuple(map(_bytes, members)), bytes_max)


def set_remove(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """SREM: (members)."""
    there = versions.members(before, wall_ms)
    if there is None:
        raise WrongType
    removed = tuple(map(_bytes, arguments))
    return RemoveMembers(removed) if any(member in there for member in removed) else None


def set_pop(before: bytes, arguments: Arguments, wall_ms: int) -> Change | None:
    """SPOP: (how many, what chance says)."""
    there = versions.members(before, wall_ms)
    if there is None:
        raise WrongType
    chosen = popped(there, *arguments)
    return RemoveMembers(tuple(chosen)) if chosen else None


def popped(there: Collection[bytes], count: bytes | int, seed: bytes | int) -> list[bytes]:
    """Which members are taken: the same ones for whoever knows what there were."""
    assert isinstance(count, int) and isinstance(seed, int)
    chance = random.Random(seed)
    return chance.sample(sorted(there), min(count, len(there)))


def set_store(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """SUNIONSTORE and its kin: (most bytes of a set, members)."""
    bytes_max, *members = arguments
    assert isinstance(bytes_max, int)
    return StoreMembers(tuple(map(_bytes, members)), bytes_max)


def estimate_add(_before: bytes, arguments: Arguments, _wall_ms: int) -> Change | None:
    """PFADD and PFMERGE: (what is added, as a HyperLogLog)."""
    (value,) = arguments
    return AddElements(_bytes(value))


def _bytes(argument: bytes | int) -> bytes:
    assert isinstance(argument, bytes)
    return argument


OPERATIONS: dict[str, Operation] = {
    "delete": delete,
    "set": set_,
    "append": append,
    "set_range": set_range,
    "expire": expire,
    "increment": increment,
    "increment_once": increment_once,
    "take": take,
    "set_add": set_add,
    "set_remove": set_remove,
    "set_pop": set_pop,
    "set_store": set_store,
    "estimate_add": estimate_add,
    "place": place,
    "forget": forget,
    **MAP_OPERATIONS,
}


def names_in(operation: str, arguments: Arguments) -> Collection[bytes] | None:
    """The members or fields that an update is about; None where that is more than its arguments name."""
    match operation:
        case "set_add":
            named = arguments[1:]
        case "set_remove" | "hash_remove" | "score_remove":
            named = arguments
        case "hash_set":
            named = arguments[1::2]
        case "hash_increment":
            named = arguments[1:2]
        case "score_set" | "score_increment":
            named = arguments[2::2]
        case _:
            return None
    return {name for name in named if isinstance(name, bytes)}
