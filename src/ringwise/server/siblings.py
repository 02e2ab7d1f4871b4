"""The versions of a key as they are: RW.GET, RW.PUT, RW.DEL. What a plain GET and SET hide: siblings and contexts (V1, V6).

A client reads with RW.GET, merges the siblings it is shown, and puts the result with the context it was given: the put then
replaces exactly what the client has seen, and nothing that somebody else has written meanwhile.
"""

from __future__ import annotations

from ringwise.core import versions
from ringwise.core.record import Sibling
from ringwise.core.versions import Context, Write
from ringwise.server.arguments import SYNTAX, check_key, check_value, expiry_of, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.clock import clock_of
from ringwise.server.gather import Gather, refused
from ringwise.wire.replies import Value

CONTENT_TYPE_BYTES_MAX = 255  # longer media types are a mistake, and each version carries its own
FLAGS_MAX = 2**32 - 1


def rw_get(call: Call) -> None:
    key = call.arguments[1]
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, _shown), 0)


def _shown(gather: Gather) -> None:
    if refused(gather):
        return
    call, record = gather.call, gather.records[0]
    wall_ms = call.node.now.wall_ms
    found: list[Value] = [_sibling(sibling, wall_ms) for sibling in call.node.space.shown(record, wall_ms)]
    context = versions.context_of(record)
    call.answer(
        {
            "siblings": found,
            "context": context.token(call.node.space.bound(call.arguments[1])),
            "clock": clock_of(call.node.topology, context),
            **_told(gather),
            **_unmerged(call, len(found)),
        }
    )


def _unmerged(call: Call, count: int) -> dict[bytes | str, Value]:
    """Why siblings are shown where a function should have merged them."""
    space = call.node.space
    return {"merge": f"failed: {space.merge_failure}"} if count > 1 and space.merge else {}


def _told(gather: Gather) -> dict[bytes | str, Value]:
    """R2: where a stand-in counted, a read and a write at this level may miss each other."""
    return {"stand_in": 1} if gather.sloppy else {}


def _sibling(sibling: Sibling, wall_ms: int) -> Value:
    return {
        "value": sibling.value,
        "version": version_of(sibling),
        "stamp": sibling.stamp,
        "ttl_ms": sibling.expiry_ms - wall_ms if sibling.expiry_ms else -1,
        "type": sibling.content_type,
        "flags": sibling.flags,
    }


def version_of(sibling: Sibling) -> str:
    """The dot of a version: unique for ever (V2)."""
    return f"{sibling.actor.hex()}:{sibling.counter}"


def rw_put(call: Call) -> None:
    key, value = call.arguments[1:3]
    check_key(call, key)
    check_value(call, value)
    context: Context | None = None
    content_type, flags, expiry_ms = "", 0, 0
    options = call.arguments[3:]
    if len(options) % 2:
        raise CommandError(SYNTAX)
    for option, text in zip(options[::2], options[1::2], strict=True):
        match option.upper():
            case b"CONTEXT":
                context = Context.parse(text, call.node.space.bound(key))
            case b"TYPE":
                content_type = _content_type(text)
            case b"FLAGS":
                flags = integer_of(text)
                if not 0 <= flags <= FLAGS_MAX:
                    raise CommandError(f"ERR flags are a number from 0 to {FLAGS_MAX}")
            case (b"EX" | b"PX") as unit if not expiry_ms:
                expiry_ms = expiry_of(call, unit, text)
            case _:
                raise CommandError(SYNTAX)
    write = Write(value=value, content_type=content_type, flags=flags, expiry_ms=expiry_ms, context=context)
    call.session.wrote(key, call.level)
    call.node.write(key, write, call.level, Gather(call, 1, _put), 0)


def _content_type(text: bytes) -> str:
    if len(text) > CONTENT_TYPE_BYTES_MAX or not (text.isascii() and text.decode("latin-1").isprintable()):
        raise CommandError(f"ERR a content type has at most {CONTENT_TYPE_BYTES_MAX} printable ASCII characters")
    return text.decode("ascii")


def _put(gather: Gather) -> None:
    if not refused(gather):
        outcome = _outcome(gather.call, gather.records[0])
        gather.call.answer({**outcome, **_told(gather)})


def _outcome(call: Call, record: bytes) -> dict[bytes | str, Value]:
    """What a write left.

    A context is given only where there are no siblings: it would cover versions that the client has not seen, and its next
    put would silently replace them.
    """
    count = len(call.node.space.shown(record, call.node.now.wall_ms))
    newest = versions.newest(record)
    return {
        "version": version_of(newest) if newest is not None else None,
        "siblings": count,
        "context": versions.context_of(record).token(call.node.space.bound(call.arguments[1])) if count <= 1 else None,
    }


def rw_del(call: Call) -> None:
    """Without a context, what a read at this level shows is what is deleted: older siblings that a plain GET hides, too."""
    key = call.arguments[1]
    check_key(call, key)
    if len(call.arguments) == 2:
        call.begin_update([key])
        call.node.get(key, call.level, Gather(call, 1, _delete_seen), 0)
        return
    if len(call.arguments) != 4 or call.arguments[2].upper() != b"CONTEXT":
        raise CommandError(SYNTAX)
    _delete(call, Context.parse(call.arguments[3], call.node.space.bound(key)))


def _delete_seen(gather: Gather) -> None:
    if refused(gather):
        return
    call, record = gather.call, gather.records[0]
    if call.node.space.shown(record, call.node.now.wall_ms):
        _delete(call, versions.context_of(record))
    else:
        _put(gather)


def _delete(call: Call, context: Context) -> None:
    key = call.arguments[1]
    call.session.wrote(key, call.level)
    call.node.write(key, Write(value=b"", tombstone=True, context=context), call.level, Gather(call, 1, _put), 0)
