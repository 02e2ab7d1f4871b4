"""Hashes (V9): a field that somebody sets while another removes it stays; every increment that is acknowledged counts.

Each command reads or writes one key, as those on sets do (server/sets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ringwise.core import versions
from ringwise.core.counters import decimal_of
from ringwise.core.errors import NotANumber, WrittenBeside, WrongType
from ringwise.server.arguments import SYNTAX, check_key, check_parts, check_value, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.pages import answer_page, cursor_of
from ringwise.server.sets import RANDOM_MAX
from ringwise.server.shown import show, view_of
from ringwise.server.strings import MGET_BYTES_MAX, update
from ringwise.server.table import wrong_arity
from ringwise.wire.replies import OK, Value, encode

Fields = Mapping[bytes, bytes]


def hset(call: Call) -> None:
    """HSET and HMSET: key field value …"""
    key, *pairs = call.arguments[1:]
    name = call.arguments[0].decode("ascii", "replace").lower()
    if len(pairs) % 2:
        raise CommandError(wrong_arity(name))
    last = dict(zip(pairs[::2], pairs[1::2], strict=True))
    flat = [part for pair in last.items() for part in pair]
    check_parts(call, pairs, flat, "hash")

    def show(gather: Gather) -> None:
        if name == "hmset":
            call.reply(OK)
        else:
            before = _before(gather)
            call.answer(sum(field not in before for field in last))

    _change(call, key, "hash_set", (call.node.config.collection_bytes_max, *flat), show)


def hdel(call: Call) -> None:
    key, *fields = call.arguments[1:]

    def show(gather: Gather) -> None:
        before = _before(gather)
        call.answer(sum(field in before for field in set(fields)))

    _change(call, key, "hash_remove", tuple(fields), show)


def hincrby(call: Call) -> None:
    amount = integer_of(call.arguments[3])
    _increment(call, b"%d" % amount, 0, int)


def hincrbyfloat(call: Call) -> None:
    try:
        decimal_of(call.arguments[3])
    except NotANumber as error:
        raise CommandError(error.reply()) from error
    _increment(call, call.arguments[3], 1, bytes)


def _increment(call: Call, amount: bytes, real: int, told: Callable[[bytes], Value]) -> None:
    key, field = call.arguments[1:3]
    check_value(call, field)

    def show(gather: Gather) -> None:
        left = versions.fields(gather.after[0], call.node.now.wall_ms)
        if left is None:
            call.fail(WrittenBeside())
        else:
            call.answer(told(left.get(field, b"0")))

    _change(call, key, "hash_increment", (call.node.config.collection_bytes_max, field, amount, real), show)


def _before(gather: Gather) -> Fields:
    return view_of(gather.call, versions.fields, gather.records[0]) or {}


def _change(
    call: Call, key: bytes, operation: str, arguments: tuple[bytes | int, ...], show: Callable[[Gather], None]
) -> None:
    """An update; `show` answers when it is done."""

    def done(gather: Gather) -> None:
        if not refused(gather, writes=True):
            show(gather)

    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], operation, arguments, Gather(call, 1, done))


def _read(call: Call, done: Callable[[Fields], None]) -> None:
    """`done` is given what the hash has."""

    def read(gather: Gather) -> None:
        if refused(gather):
            return
        found = versions.fields(gather.records[0], call.node.now.wall_ms)
        if found is None:
            call.fail(WrongType())
        else:
            done(found)

    key = call.arguments[1]
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, read), 0)


def hget(call: Call) -> None:
    show(call, versions.fields, lambda found: found.get(call.arguments[2]))


def hmget(call: Call) -> None:
    _read(call, lambda found: _bounded(call, [found.get(field) for field in call.arguments[2:]]))


def hgetall(call: Call) -> None:
    show(call, versions.fields, lambda found: dict[bytes | str, Value](sorted(found.items())))


def hkeys(call: Call) -> None:
    show(call, versions.fields, lambda found: list[Value](sorted(found)))


def hvals(call: Call) -> None:
    show(call, versions.fields, lambda found: [found[field] for field in sorted(found)])


def hlen(call: Call) -> None:
    show(call, versions.fields, len)


def hexists(call: Call) -> None:
    show(call, versions.fields, lambda found: int(call.arguments[2] in found))


def hstrlen(call: Call) -> None:
    show(call, versions.fields, lambda found: len(found.get(call.arguments[2], b"")))


def hscan(call: Call) -> None:
    """A page of fields with their values."""
    cursor, options = cursor_of(call.arguments[2]), call.arguments[3:]

    _read(call, lambda found: answer_page(call, found, cursor, options, lambda field: [field, found[field]]))


def hrandfield(call: Call) -> None:
    """HRANDFIELD key [count [WITHVALUES]]; a negative count may name a field several times."""
    chosen_by_chance(call, b"WITHVALUES", partial(_read, call), lambda value: value)


V = TypeVar("V")


def chosen_by_chance(
    call: Call, option: bytes, read: Callable[[Callable[[Mapping[bytes, V]], None]], None], shown: Callable[[V], Value]
) -> None:
    """Names by chance, alone or each with what is under it."""
    options, rng = call.arguments[2:], call.node.rng
    if not options:
        read(lambda found: call.answer(rng.choice(sorted(found)) if found else None))
        return
    count = integer_of(options[0])
    if len(options) > 2 or (len(options) == 2 and options[1].upper() != option):
        raise CommandError(SYNTAX)
    if count < -RANDOM_MAX:
        raise CommandError(f"ERR value is out of range: at most {RANDOM_MAX} at once")

    def done(found: Mapping[bytes, V]) -> None:
        names = sorted(found)
        if count >= 0:
            names = rng.sample(names, min(count, len(names)))
        elif names:
            names = rng.choices(names, k=-count)
        if len(options) == 1:
            _bounded(call, list[Value](names))
            return
        chosen = [(name, shown(found[name])) for name in names]
        if _is_small(call, [part for pair in chosen for part in pair]):
            call.reply(pairs(call, chosen))

    read(done)


def pairs(call: Call, of: Sequence[tuple[bytes, Value]]) -> bytes:
    """A list of pairs, as RESP3 sends it; in RESP2 they stand one after another."""
    if call.session.protocol == 3:
        return encode([list[Value](pair) for pair in of], 3)
    return encode([part for pair in of for part in pair], 2)


def _bounded(call: Call, parts: list[Value]) -> None:
    if _is_small(call, parts):
        call.answer(parts)


def _is_small(call: Call, parts: Sequence[Value]) -> bool:
    """Whether a reply can be built of these, some of them several times: refused where not."""
    if sum(len(part) for part in parts if isinstance(part, bytes)) <= MGET_BYTES_MAX:
        return True
    call.refuse(f"ERR the reply has more than {MGET_BYTES_MAX} bytes; ask for fewer at once")
    return False
