"""Commands on parts of a value, and about it: APPEND, GETRANGE, SETRANGE, STRLEN, TYPE, OBJECT, MEMORY."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ringwise.core import versions
from ringwise.core.errors import Failure
from ringwise.core.maps import KINDS
from ringwise.core.record import Sibling, size_of
from ringwise.server.arguments import check_key, check_value, expiry_of, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused, value_after
from ringwise.server.strings import update, value_before
from ringwise.wire.replies import Simple, Value


def append(call: Call) -> None:
    key, added = call.arguments[1:]
    check_key(call, key)
    check_value(call, added)
    call.session.wrote(key, call.level)
    update(call, [key], "append", (added, call.node.config.value_bytes_max), Gather(call, 1, _length_after))


def setrange(call: Call) -> None:
    key, offset_, part = call.arguments[1:]
    offset = integer_of(offset_)
    if offset < 0:
        raise CommandError("ERR offset is out of range")
    check_key(call, key)
    check_value(call, part)
    call.session.wrote(key, call.level)
    limit = call.node.config.value_bytes_max
    update(call, [key], "set_range", (offset, part, limit), Gather(call, 1, _length_after))


def _length_after(gather: Gather) -> None:
    if not refused(gather, writes=True):
        value = value_after(gather)
        if value is not None:
            gather.call.answer(len(value))


def getset(call: Call) -> None:
    key, value = call.arguments[1:]
    check_key(call, key)
    check_value(call, value)
    call.session.wrote(key, call.level)
    update(call, [key], "set", (value, 0, 0, 1), Gather(call, 1, value_before))


def getdel(call: Call) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], "take", (), Gather(call, 1, value_before))


def setex(call: Call) -> None:
    """SETEX and PSETEX: key, time to live, value."""
    key, lifetime, value = call.arguments[1:]
    unit = b"PX" if call.arguments[0].lower() == b"psetex" else b"EX"
    expiry_ms = expiry_of(call, unit, lifetime)
    check_key(call, key)
    check_value(call, value)
    call.session.wrote(key, call.level)
    write = versions.Write(value=value, expiry_ms=expiry_ms)
    call.node.write(key, write, call.level, call.row, call.index)


def strlen(call: Call) -> None:
    _of_value(call, call.arguments[1], lambda value: len(value or b""))


def getrange(call: Call) -> None:
    """Both ends count, and negative ones from the end."""
    first, last = integer_of(call.arguments[2]), integer_of(call.arguments[3])
    _of_value(call, call.arguments[1], lambda value: _part(value or b"", first, last))


def _part(value: bytes, first: int, last: int) -> bytes:
    size = len(value)
    if first < 0 and last < 0 and first > last:
        return b""
    start = max(0, first + size if first < 0 else first)
    end = max(0, last + size if last < 0 else last)
    return value[start : end + 1]


def type_(call: Call) -> None:
    _of_key(call, call.arguments[1], lambda live: Simple(type_of(live)))


def type_of(live: Sibling | None) -> str:
    if live is None:
        return "none"
    kind = KINDS.get(live.content_type)
    return kind.name if kind is not None else "string" if versions.is_plain(live) else "set"


def object_encoding(call: Call) -> None:
    _of_key(call, call.arguments[2], lambda live: None if live is None else "raw")


def object_refcount(call: Call) -> None:
    _of_key(call, call.arguments[2], lambda live: None if live is None else 1)


def object_freq(_call: Call) -> None:
    raise CommandError("ERR no node counts how often a key is used: the cache is ordered by last use")


def object_idletime(_call: Call) -> None:
    raise CommandError("ERR no node notes when a key was last used: a read asks several, and changes none")


def memory_usage(call: Call) -> None:
    """What the key's record takes in the memory of one owner."""
    if len(call.arguments) not in (3, 5) or (len(call.arguments) == 5 and call.arguments[3].upper() != b"SAMPLES"):
        raise CommandError("ERR syntax error")
    if len(call.arguments) == 5 and integer_of(call.arguments[4]) < 0:
        raise CommandError("ERR syntax error")
    key = call.arguments[2]
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, partial(_usage, key)), 0)


# What Python's dictionary and its two bytes objects take beside their bytes.
_OVERHEAD_BYTES = 33 + 33 + 100


def _usage(key: bytes, gather: Gather) -> None:
    if not refused(gather):
        record = gather.records[0]
        live = versions.live(record, gather.call.node.now.wall_ms)
        gather.call.answer(None if live is None else len(key) + size_of(record) + _OVERHEAD_BYTES)


def _of_value(call: Call, key: bytes, show: Callable[[bytes | None], Value]) -> None:
    """Answers with something about the newest value."""
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, partial(_show, show)), 0)


def _show(show: Callable[[bytes | None], Value], gather: Gather) -> None:
    if refused(gather):
        return
    try:
        value = versions.value_of(gather.records[0], gather.call.node.now.wall_ms)
    except Failure as wrong:
        gather.call.fail(wrong)
    else:
        gather.call.answer(show(value))


def _of_key(call: Call, key: bytes, show: Callable[[Sibling | None], Value]) -> None:
    """Answers with something about what the key holds, of whatever type."""

    def done(gather: Gather) -> None:
        if not refused(gather):
            call.answer(show(versions.live(gather.records[0], call.node.now.wall_ms)))

    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, done), 0)
