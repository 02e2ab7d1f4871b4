"""Sets (V9): a member that somebody adds while another removes it stays; of two removals at once both may say that it was theirs.

What combines several sets reads each by itself, at the level asked for; the commands that store the result write it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from ringwise.core import versions
from ringwise.core.errors import WrongType
from ringwise.core.operations import popped
from ringwise.server.arguments import SYNTAX, check_key, check_value, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused, refused_second
from ringwise.server.pages import answer_page, cursor_of
from ringwise.server.shown import show, view_of
from ringwise.server.strings import update
from ringwise.wire.replies import Value

NOT_POSITIVE = "ERR value is out of range, must be positive"
RANDOM_MAX = 1_000_000  # members of a reply, some of them several times

Sets = list[Collection[bytes]]


def sadd(call: Call) -> None:
    key, *members = call.arguments[1:]
    for member in members:
        check_value(call, member)
    _change(
        call, key, "set_add", (call.node.config.collection_bytes_max, *members), partial(_counted, members, added=True)
    )


def srem(call: Call) -> None:
    key, *members = call.arguments[1:]
    _change(call, key, "set_remove", tuple(members), partial(_counted, members, added=False))


def _counted(members: Sequence[bytes], there: Collection[bytes], *, added: bool) -> Value:
    return sum((member in there) != added for member in set(members))


def spop(call: Call) -> None:
    """SPOP key [count]."""
    if len(call.arguments) > 3:
        raise CommandError(SYNTAX)
    single = len(call.arguments) == 2
    count = 1 if single else integer_of(call.arguments[2], NOT_POSITIVE)
    if count < 0:
        raise CommandError(NOT_POSITIVE)
    seed = call.node.rng.getrandbits(62)

    def show(there: Collection[bytes]) -> Value:
        taken = popped(there, count, seed)
        return (taken[0] if taken else None) if single else set(taken)

    _change(call, call.arguments[1], "set_pop", (count, seed), show)


def _change(
    call: Call,
    key: bytes,
    operation: str,
    arguments: tuple[bytes | int, ...],
    of: Callable[[Collection[bytes]], Value],
) -> None:
    """An update; the reply is made of the members that there were before."""

    def done(gather: Gather) -> None:
        if not refused(gather, writes=True):
            call.answer(of(view_of(call, versions.members, gather.records[0]) or []))

    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], operation, arguments, Gather(call, 1, done))


def _read(call: Call, keys: Sequence[bytes], done: Callable[[Sets], None]) -> None:
    """`done` is given the members of each."""

    def read(gather: Gather) -> None:
        if refused(gather):
            return
        found = [versions.members(record, call.node.now.wall_ms) for record in gather.records]
        if None in found:
            call.fail(WrongType())
        else:
            done([members for members in found if members is not None])

    for key in keys:
        check_key(call, key)
    gather = Gather(call, len(keys), read)
    for index, key in enumerate(keys):
        call.node.get(key, call.level, gather, index)


def _show(call: Call, keys: Sequence[bytes], show: Callable[[Sets], Value]) -> None:
    _read(call, keys, lambda found: call.answer(show(found)))


def smembers(call: Call) -> None:
    show(call, versions.members, lambda found: set(found))


def scard(call: Call) -> None:
    show(call, versions.members, len)


def sismember(call: Call) -> None:
    show(call, versions.members, lambda found: int(call.arguments[2] in found))


def smismember(call: Call) -> None:
    show(call, versions.members, lambda found: [int(member in found) for member in call.arguments[2:]])


def srandmember(call: Call) -> None:
    """SRANDMEMBER key [count]; a negative count may name a member several times."""
    if len(call.arguments) > 3:
        raise CommandError(SYNTAX)
    rng = call.node.rng
    if len(call.arguments) == 2:
        _show(call, call.arguments[1:2], lambda found: rng.choice(list(found[0])) if found[0] else None)
        return
    count = integer_of(call.arguments[2])
    if count < -RANDOM_MAX:
        raise CommandError(f"ERR value is out of range: at most {RANDOM_MAX} members at once")

    def show(found: Sets) -> Value:
        members = list(found[0])
        if count >= 0:
            return list(rng.sample(members, min(count, len(members))))
        return list(rng.choices(members, k=-count)) if members else []

    _show(call, call.arguments[1:2], show)


def sscan(call: Call) -> None:
    """A page of members in the order of their hashes, so that a cursor means the same on every node and whatever changes."""
    key, text, *options = call.arguments[1:]
    cursor = cursor_of(text)

    _read(call, [key], lambda found: answer_page(call, found[0], cursor, options, lambda member: [member]))


# -- several sets


def _union(found: Sets) -> set[bytes]:
    return set().union(*found)


def _intersection(found: Sets) -> set[bytes]:
    return set(found[0]).intersection(*found[1:])


def _difference(found: Sets) -> set[bytes]:
    return set(found[0]).difference(*found[1:])


_COMBINED: dict[bytes, Callable[[Sets], set[bytes]]] = {
    b"sunion": _union,
    b"sinter": _intersection,
    b"sdiff": _difference,
}


def combine(call: Call) -> None:
    """SUNION, SINTER, SDIFF."""
    _show(call, call.arguments[1:], _COMBINED[call.arguments[0].lower()])


def store(call: Call) -> None:
    """SUNIONSTORE, SINTERSTORE, SDIFFSTORE: destination, sets."""
    target, *keys = call.arguments[1:]
    combined = _COMBINED[call.arguments[0].lower().removesuffix(b"store")]
    check_key(call, target)
    call.begin_update([target, *keys])

    def write(found: Sets) -> None:
        members = sorted(combined(found))

        def done(gather: Gather) -> None:
            if not refused(gather, writes=True):
                call.answer(len(members))

        arguments: tuple[bytes | int, ...] = (call.node.config.collection_bytes_max, *members)
        call.session.wrote(target, call.level)
        call.node.update(target, "set_store", arguments, call.level, Gather(call, 1, done), 0)

    _read(call, keys, write)


def sintercard(call: Call) -> None:
    """SINTERCARD numkeys key … [LIMIT n]."""
    keys, options = card_keys(call.arguments), call.arguments[2:]
    count = integer_of(call.arguments[1], "ERR numkeys should be greater than 0")
    if count < 1:
        raise CommandError("ERR numkeys should be greater than 0")
    if count > len(options):
        raise CommandError("ERR Number of keys can't be greater than number of args")
    limit = 0
    options = options[count:]
    for at in range(0, len(options), 2):
        if options[at].upper() != b"LIMIT" or len(options) == at + 1:
            raise CommandError(SYNTAX)
        limit = integer_of(options[at + 1], "ERR LIMIT can't be negative")
        if limit < 0:
            raise CommandError("ERR LIMIT can't be negative")

    def show(found: Sets) -> Value:
        size = len(_intersection(found))
        return min(size, limit) if limit else size

    _show(call, keys, show)


def card_keys(arguments: list[bytes]) -> list[bytes]:
    """The keys of SINTERCARD."""
    return arguments[2 : 2 + int(arguments[1])] if len(arguments) > 1 and arguments[1].isdigit() else []


def smove(call: Call) -> None:
    """SMOVE source destination member: taken from one, then added to the other; in between it is in neither."""
    source, target, member = call.arguments[1:]
    check_key(call, source)
    check_key(call, target)
    level = call.level
    call.begin_update([source, target])

    def add(gather: Gather) -> None:
        if refused(gather, writes=True):
            return
        there = versions.members(gather.records[0], call.node.now.wall_ms) or []
        if member not in there:
            call.answer(0)
            return
        arguments = (call.node.config.collection_bytes_max, member)
        call.session.wrote(target, level)
        call.node.update(target, "set_add", arguments, level, Gather(call, 1, moved), 0)

    def moved(gather: Gather) -> None:
        if not refused_second(gather):
            call.answer(1)

    def take(gather: Gather) -> None:
        if refused(gather):
            return
        wall_ms = call.node.now.wall_ms
        there, others = (versions.members(record, wall_ms) for record in gather.records)
        if there is not None and not there:
            call.answer(0)
        elif there is None or others is None:
            call.fail(WrongType())
        elif source == target or member not in there:
            call.answer(int(member in there))
        else:
            call.session.wrote(source, level)
            call.node.update(source, "set_remove", (member,), level, Gather(call, 1, add), 0)

    gather = Gather(call, 2, take)
    for index, key in enumerate((source, target)):
        call.node.get(key, level, gather, index)
