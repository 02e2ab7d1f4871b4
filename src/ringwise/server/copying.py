"""COPY and RENAME: a read of one key, then a write of another (core/copying.py).

What is written to the source between the two is not in the copy. RENAME then forgets what it has read, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core import versions
from ringwise.core.copying import Arguments, seen, taken
from ringwise.core.topology import NUMBERED
from ringwise.server.arguments import SYNTAX, check_key, integer_of
from ringwise.server.call import Call, CommandError, Node
from ringwise.server.gather import Gather, refused, refused_second
from ringwise.wire.replies import OK

NO_DATABASE = "ERR DB index is out of range"
_INT_MAX = 2**31 - 1


def copy(call: Call) -> None:
    """COPY source destination [DB n] [REPLACE]."""
    source, target = call.arguments[1:3]
    replace, there_in = _options(call)
    if source == target and there_in.space is call.node.space:
        raise CommandError("ERR source and destination objects are the same")

    def found(_record: bytes, shown: Arguments | None) -> None:
        if shown is None:
            call.answer(0)
        else:
            _place(call, there_in, target, int(replace), shown, placed)

    def placed(gather: Gather) -> None:
        if not refused(gather, writes=True):
            there = versions.live(gather.records[0], call.node.now.wall_ms) is not None
            call.answer(int(replace or not there))

    _read(call, found)


def _options(call: Call) -> tuple[bool, Node]:
    """Whether to replace what is there, and the node with the destination's bucket."""
    replace, node = False, call.node
    rest = iter(call.arguments[3:])
    for option in rest:
        if option.upper() == b"REPLACE":
            replace = True
            continue
        number = next(rest, None)
        if option.upper() != b"DB" or number is None:
            raise CommandError(SYNTAX)
        node = _database(call, integer_of(number))
    return replace, node


def _database(call: Call, number: int) -> Node:
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise CommandError(f"ERR value is out of range, value must between {-_INT_MAX - 1} and {_INT_MAX}")
    node: Node | None = call.node.select(str(number)) if 0 <= number < NUMBERED else None
    if node is None:
        raise CommandError(NO_DATABASE)
    return node


def rename(call: Call) -> None:
    """RENAME source destination; in between, both are there."""
    source, target = call.arguments[1:]
    read = b""

    def found(record: bytes, shown: Arguments | None) -> None:
        nonlocal read
        read = record
        if shown is None:
            call.refuse("ERR no such key")
        elif source == target:
            call.reply(OK)
        else:
            _place(call, call.node, target, 1, shown, placed)

    def placed(gather: Gather) -> None:
        if not refused(gather, writes=True):
            call.session.wrote(source, call.level)
            call.node.update(source, "forget", (seen(read),), call.level, Gather(call, 1, forgotten), 0)

    def forgotten(gather: Gather) -> None:
        if not refused_second(gather):
            call.reply(OK)

    _read(call, found)


def _read(call: Call, found: Callable[[bytes, Arguments | None], None]) -> None:
    """`found` is given the source's record, and what it shows."""
    source, target = call.arguments[1:3]

    def read(gather: Gather) -> None:
        if not refused(gather):
            record = gather.records[0]
            found(record, taken(record, call.node.now.wall_ms))

    check_key(call, source)
    check_key(call, target)
    call.begin_update([source, target])
    call.node.get(source, call.level, Gather(call, 1, read), 0)


def _place(
    call: Call, node: Node, target: bytes, replace: int, shown: Arguments, done: Callable[[Gather], None]
) -> None:
    arguments = (replace, node.config.collection_bytes_max, *shown)
    if node.space is call.node.space:
        call.session.wrote(target, call.level)
    else:
        call.session.wrote_elsewhere(call.level)
    node.update(target, "place", arguments, call.level, Gather(call, 1, done), 0)
