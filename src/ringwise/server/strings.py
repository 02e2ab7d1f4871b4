"""Plain values under keys: GET, SET, MGET, MSET, DEL, EXISTS.

The session serves `GET key` and `SET key value` itself as it reads them; what it leaves over arrives here: options, other
spellings, keys and values beyond a limit.
"""

from __future__ import annotations

from functools import partial

from ringwise.core import versions
from ringwise.core.versions import Write
from ringwise.server.arguments import EXPIRY_OPTIONS, SYNTAX, check_key, check_value, expiry_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.table import wrong_arity
from ringwise.wire.replies import OK, Value

NEEDS_LINEARIZABLE = (
    "ERR SET with NX or XX needs a linearizable key, since concurrent writers must be told apart, "
    "and this version does not serve them yet; nothing was changed"
)

# A request of a few bytes may name one large value a million times. 64 MiB is what 64 of the largest values take, and far more
# than anybody asks for in one go; the reply is built in memory, more than once.
MGET_BYTES_MAX = 64 * 1024 * 1024


def get(call: Call) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.node.get(key, call.level, call.row, call.index)


def mget(call: Call) -> None:
    keys = call.arguments[1:]
    for key in keys:
        check_key(call, key)
    gather = Gather(call, len(keys), _values)
    for index, key in enumerate(keys):
        call.node.get(key, call.level, gather, index)


def _values(gather: Gather) -> None:
    if not refused(gather):
        wall_ms = gather.call.node.now.wall_ms
        values: list[Value] = []
        room = MGET_BYTES_MAX
        for record in gather.records:
            live = versions.live(record, wall_ms)
            value = live.value if live is not None and versions.is_plain(live) else None
            room -= 0 if value is None else len(value)
            if room < 0:
                gather.call.refuse(f"ERR the values have more than {MGET_BYTES_MAX} bytes; ask for fewer keys at once")
                return
            values.append(value)
        gather.call.answer(values)


def exists(call: Call) -> None:
    keys = call.arguments[1:]
    for key in keys:
        check_key(call, key)
    gather = Gather(call, len(keys), _count)
    for index, key in enumerate(keys):
        call.node.get(key, call.level, gather, index)


def _count(gather: Gather, *, writes: bool = False) -> None:
    """How many of the keys are there, or were before they were deleted."""
    if not refused(gather, writes=writes):
        wall_ms = gather.call.node.now.wall_ms
        gather.call.answer(sum(versions.live(record, wall_ms) is not None for record in gather.records))


def set_(call: Call) -> None:
    key, value = call.arguments[1:3]
    options = _set_options(call)
    expiry_ms = next((expiry_of(call, option, options[option]) for option in EXPIRY_OPTIONS if option in options), 0)
    check_key(call, key)
    check_value(call, value)
    if b"NX" in options or b"XX" in options:
        raise CommandError(NEEDS_LINEARIZABLE)
    call.session.wrote(key, call.level)
    if b"GET" in options or b"KEEPTTL" in options:
        answer = value_before if b"GET" in options else _ok
        arguments = (value, expiry_ms, int(b"KEEPTTL" in options), int(b"GET" in options))
        update(call, [key], "set", arguments, Gather(call, 1, answer))
    elif expiry_ms:
        call.node.write(key, Write(value=value, expiry_ms=expiry_ms), call.level, call.row, call.index)
    else:
        call.node.put(key, value, call.level, call.row, call.index)


def _set_options(call: Call) -> dict[bytes, bytes]:
    """Options and their arguments, combined only as Redis lets them be."""
    options: dict[bytes, bytes] = {}
    rest = iter(call.arguments[3:])
    for text in rest:
        option = text.upper()
        lifetime = [*EXPIRY_OPTIONS, b"KEEPTTL"]
        argument: bytes | None = b""
        if option in (b"NX", b"XX"):
            clash = [b"XX" if option == b"NX" else b"NX"]
        elif option in lifetime:
            clash = [other for other in lifetime if other != option]
            if option != b"KEEPTTL":
                argument = next(rest, None)
        elif option == b"GET":
            clash = []
        else:
            raise CommandError(SYNTAX)
        if argument is None or any(other in options for other in clash):
            raise CommandError(SYNTAX)
        options[option] = argument
    return options


def value_before(gather: Gather) -> None:
    if not refused(gather):
        gather.call.answer(versions.value_of(gather.records[0], gather.call.node.now.wall_ms))  # of a plain type


def _ok(gather: Gather) -> None:
    if not refused(gather, writes=True):
        gather.call.reply(OK)


def mset(call: Call) -> None:
    pairs = call.arguments[1:]
    if len(pairs) % 2:
        raise CommandError(wrong_arity("mset"))
    keys, values = pairs[::2], pairs[1::2]
    for key, value in zip(keys, values, strict=True):
        check_key(call, key)
        check_value(call, value)
    gather = Gather(call, len(keys), _ok)
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        call.session.wrote(key, call.level)
        call.node.put(key, value, call.level, gather, index)


def delete(call: Call) -> None:
    keys = list(dict.fromkeys(call.arguments[1:]))  # the second deletion of a key finds nothing
    for key in keys:
        check_key(call, key)
        call.session.wrote(key, call.level)
    update(call, keys, "delete", (), Gather(call, len(keys), partial(_count, writes=True)))


def update(call: Call, keys: list[bytes], operation: str, arguments: tuple[bytes | int, ...], gather: Gather) -> None:
    """Runs a multi-phase operation on each key; later commands of this connection on these keys wait for it (B2)."""
    call.begin_update(keys)
    for index, key in enumerate(keys):
        call.node.update(key, operation, arguments, call.level, gather, index)
