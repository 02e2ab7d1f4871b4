"""Counters: INCR and its kin (V9). Every increment that is acknowledged counts, whoever else adds at the same time."""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core import versions
from ringwise.core.counters import INTEGER_MAX, decimal_of, session_actor
from ringwise.core.errors import NotANumber
from ringwise.core.levels import QUORUM, STRONG
from ringwise.core.record import COUNTER_MAX
from ringwise.core.ring import slot_of
from ringwise.server.arguments import SYNTAX, check_key, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused, value_after
from ringwise.server.strings import update

SESSION_BYTES_MAX = 255


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
    value = value_after(gather)
    return b"0" if value == b"" else value


def rw_incr(call: Call) -> None:
    """RW.INCR key amount SESSION s SEQ n: however often it is sent, it counts once."""
    key, text, *options = call.arguments[1:]
    if len(options) != 4 or [options[0].upper(), options[2].upper()] != [b"SESSION", b"SEQ"]:
        raise CommandError(SYNTAX)
    amount, session, counter = integer_of(text), options[1], integer_of(options[3])
    if not 1 <= len(session) <= SESSION_BYTES_MAX:
        raise CommandError(f"ERR a session's name has 1 to {SESSION_BYTES_MAX} bytes")
    if not 1 <= counter <= COUNTER_MAX:
        raise CommandError(f"ERR SEQ is a number from 1 to {COUNTER_MAX}")
    check_key(call, key)
    level = STRONG if call.level is QUORUM else call.level
    copies = len(call.node.topology.owners[slot_of(key)])
    if level.sloppy or level.needed_reads(copies) + level.needed_writes(copies) <= copies:
        raise CommandError(
            f"ERR RW.INCR must see what it has done before, so it needs R + W > {copies} owners, and {level.name} has less; "
            "use quorum or strong"
        )
    call.session.wrote(key, level)
    call.begin_update([key])
    call.node.update(key, "increment_once", (amount, session, counter), level, Gather(call, 1, _once), 0)


def _once(gather: Gather) -> None:
    text = _sum(gather)
    if text is not None:
        counted = versions.last_of(gather.records[0], session_actor(gather.call.arguments[4]))
        again = int(counted >= int(gather.call.arguments[6]))
        gather.call.answer({"value": int(text), "again": again})
