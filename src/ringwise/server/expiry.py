"""When keys expire: EXPIRE and its kin, TTL and its kin, PERSIST, GETEX (V7).

An expiry is a moment of the wall clock, the same on every node. To set one does not touch the value: a `SET` on another node at
the same time is not lost behind an older value with a new expiry (core/counters.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ringwise.core import versions
from ringwise.core.errors import WrongType
from ringwise.core.operations import GT, LT, NX, PLAIN, XX
from ringwise.core.record import Sibling
from ringwise.server.arguments import EXPIRY_OPTIONS, SYNTAX, check_key, expiry_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.strings import get, update, value_before

_UNITS = {b"expire": b"EX", b"pexpire": b"PX", b"expireat": b"EXAT", b"pexpireat": b"PXAT"}
_CONDITIONS = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT}
NO_KEY, NO_EXPIRY = -2, -1


def expire(call: Call) -> None:
    """EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: key, time, and under which condition."""
    key, text = call.arguments[1:3]
    conditions = 0
    for option in call.arguments[3:]:
        condition = _CONDITIONS.get(option.upper())
        if condition is None:
            raise CommandError(f"ERR Unsupported option {option.decode('utf-8', 'replace')}")
        conditions |= condition
    if conditions & NX and conditions != NX:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if conditions & GT and conditions & LT:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    expiry_ms = expiry_of(call, _UNITS[call.arguments[0].lower()], text, past=True)
    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], "expire", (max(1, expiry_ms), conditions), Gather(call, 1, _changed))


def persist(call: Call) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], "expire", (0, 0), Gather(call, 1, _changed))


def _changed(gather: Gather) -> None:
    if not refused(gather, writes=True):
        gather.call.answer(int(gather.after[0] != gather.records[0]))


def getex(call: Call) -> None:
    """GETEX: the value, and another expiry."""
    key, options = call.arguments[1], call.arguments[2:]
    if not options:
        get(call)
        return
    option, expiry_ms = options[0].upper(), 0
    if len(options) != (1 if option == b"PERSIST" else 2) or option not in (b"PERSIST", *EXPIRY_OPTIONS):
        raise CommandError(SYNTAX)
    check_key(call, key)
    if option != b"PERSIST":
        try:
            expiry_ms = expiry_of(call, option, options[1])
        except CommandError as error:  # as in Redis, of a key that is not there nobody asks for how long
            call.node.get(key, call.level, Gather(call, 1, partial(_absent, str(error))), 0)
            return
    call.session.wrote(key, call.level)
    update(call, [key], "expire", (expiry_ms, PLAIN), Gather(call, 1, value_before))


def _absent(trouble: str, gather: Gather) -> None:
    if refused(gather):
        return
    live = versions.live(gather.records[0], gather.call.node.now.wall_ms)
    if live is None:
        gather.call.answer(None)
    elif not versions.is_plain(live):
        gather.call.fail(WrongType())
    else:
        gather.call.refuse(trouble)


def ttl(call: Call) -> None:
    """TTL: seconds that are left, rounded."""
    _about(call, lambda shown, wall_ms: (max(0, shown.expiry_ms - wall_ms) + 500) // 1000)


def pttl(call: Call) -> None:
    _about(call, lambda shown, wall_ms: max(0, shown.expiry_ms - wall_ms))


def expiretime(call: Call) -> None:
    """EXPIRETIME: the moment, in seconds since 1970, rounded."""
    _about(call, lambda shown, _: (shown.expiry_ms + 500) // 1000)


def pexpiretime(call: Call) -> None:
    _about(call, lambda shown, _: shown.expiry_ms)


def _about(call: Call, show: Callable[[Sibling, int], int]) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, partial(_show, show)), 0)


def _show(show: Callable[[Sibling, int], int], gather: Gather) -> None:
    if refused(gather):
        return
    wall_ms = gather.call.node.now.wall_ms
    live = versions.live(gather.records[0], wall_ms)
    if live is None:
        gather.call.answer(NO_KEY)
    else:
        gather.call.answer(show(live, wall_ms) if live.expiry_ms else NO_EXPIRY)
