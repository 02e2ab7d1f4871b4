"""HyperLogLogs (V9): about how many different elements were added, whoever adds what at the same time.

The elements are hashed where the command comes in; what goes on to the owners is a HyperLogLog of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringwise.core import hyperloglog, versions
from ringwise.core.errors import Failure
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.server.arguments import check_key, check_value
from ringwise.server.call import Call
from ringwise.server.gather import Gather, refused
from ringwise.server.strings import update
from ringwise.wire.replies import OK


def pfadd(call: Call) -> None:
    """1 where the count may have changed by it, or the key is new."""
    key, *elements = call.arguments[1:]
    check_key(call, key)
    for element in elements:
        check_value(call, element)
    added = hyperloglog.of_elements(elements)

    def done(gather: Gather) -> None:
        if refused(gather, writes=True):
            return
        wall_ms = call.node.now.wall_ms
        live = versions.live(gather.records[0], wall_ms)
        if live is None or live.content_type != ESTIMATE:
            call.answer(1)
            return
        before = versions.estimate(gather.records[0], wall_ms) or hyperloglog.NOTHING
        call.answer(int(not hyperloglog.covers(before, added)))

    call.session.wrote(key, call.level)
    update(call, [key], "estimate_add", (added,), Gather(call, 1, done))


def pfcount(call: Call) -> None:
    """Of several keys: of their union."""
    _read(call, call.arguments[1:], lambda found: call.answer(hyperloglog.count(hyperloglog.union(found))))


def pfmerge(call: Call) -> None:
    """PFMERGE destination [source …]: what is there in the destination stays."""
    target = call.arguments[1]

    def write(found: list[bytes]) -> None:
        def done(gather: Gather) -> None:
            if not refused(gather, writes=True):
                call.reply(OK)

        call.session.wrote(target, call.level)
        sources = hyperloglog.union(found[1:])
        call.node.update(target, "estimate_add", (sources,), call.level, Gather(call, 1, done), 0)

    call.begin_update(list(dict.fromkeys(call.arguments[1:])))
    _read(call, call.arguments[1:], write)


def _read(call: Call, keys: Sequence[bytes], done: Callable[[list[bytes]], None]) -> None:
    """`done` is given what each of them has."""

    def read(gather: Gather) -> None:
        if refused(gather):
            return
        try:
            found = [versions.estimate(record, call.node.now.wall_ms) for record in gather.records]
        except Failure as wrong:
            call.fail(wrong)
        else:
            done([hyperloglog.NOTHING if value is None else value for value in found])

    for key in keys:
        check_key(call, key)
    gather = Gather(call, len(keys), read)
    for index, key in enumerate(keys):
        call.node.get(key, call.level, gather, index)
