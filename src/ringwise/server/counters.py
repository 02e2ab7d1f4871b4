"""Counters: INCR and its kin (V9). Every increment that is acknowledged counts, whoever else adds at the same time."""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core import versions
from ringwise.core.counters import INTEGER_MAX, decimal_of
from ringwise.core.errors import NotANumber
from ringwise.server.arguments import check_key, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.strings import update


def incr(call: Call) -> None:
    _add(call, 1)


def decr(call: Call) -> None:
    _add(call, -1)


def incrby(call: Call) -> None:
    _add(call, integer_of(call.arguments[2]))


def decrby(call: Call) -> None:
    amount = integer_of(call.arguments[2])
    if amount == -INTEGER_MAX - 1:
        raise CommandError("ERR decrement would overflow")
    _add(call, -amount)


def incrbyfloat(call: Call) -> None:
    try:
        decimal_of(call.arguments[2])
    except NotANumber as error:
        raise CommandError(error.reply()) from error
    _update(call, call.arguments[2], 1, _as_text)


def _add(call: Call, amount: int) -> None:
    _update(call, b"%d" % amount, 0, _as_number)


def _update(call: Call, amount: bytes, real: int, answer: Callable[[Gather], None]) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], "increment", (amount, real), Gather(call, 1, answer))


def _as_number(gather: Gather) -> None:
    text = _sum(gather)
    if text is not None:
        gather.call.answer(int(text))


def _as_text(gather: Gather) -> None:
    text = _sum(gather)
    if text is not None:
        gather.call.answer(text)


def _sum(gather: Gather) -> bytes | None:
    if refused(gather, writes=True):
        return None
    value = versions.value_of(gather.after[0], gather.call.node.now.wall_ms)
    return b"0" if value is None else value
