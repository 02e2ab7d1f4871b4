"""Sorted sets (V9): of two scores written at once the newest is shown; every increment that is acknowledged counts.

Ranges are in server/sorted_ranges.py, what combines several of them in server/sorted_combined.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ringwise.core import versions
from ringwise.core.errors import Failure, WrittenBeside, WrongType
from ringwise.core.map_changes import GT, LT, NX, XX, increased, judged
from ringwise.core.map_operations import popped
from ringwise.core.maps import score_bytes
from ringwise.core.ranges import Ranked, ranked, score_of
from ringwise.server.arguments import SYNTAX, check_key, check_parts, check_value, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.hashes import chosen_by_chance, pairs
from ringwise.server.pages import answer_page, cursor_of
from ringwise.server.sets import NOT_POSITIVE
from ringwise.server.shown import show, view_of
from ringwise.server.strings import update
from ringwise.wire.replies import Double, Value, encode

NOT_A_FLOAT = "ERR value is not a valid float"
_CONDITIONS = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT}

Scores = Mapping[bytes, float]


def zadd(call: Call) -> None:
    """ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member …"""
    key = call.arguments[1]
    conditions, options, rest = _add_options(call.arguments[2:])
    if len(rest) % 2 or not rest:
        raise CommandError(SYNTAX)
    if conditions & NX and conditions & XX:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if (conditions & NX and conditions & (GT | LT)) or (conditions & GT and conditions & LT):
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if b"INCR" in options and len(rest) > 2:
        raise CommandError("ERR INCR option supports a single increment-element pair")
    scores = [score_in(text) for text in rest[::2]]
    wanted = list(zip(rest[1::2], scores, strict=True))
    check_parts(call, rest[1::2], {member for member, _ in wanted}, "sorted set")
    if b"INCR" in options:
        _increment(call, key, *wanted[0], conditions)
        return

    def show(before: Scores) -> Value:
        outcome = judged(before, wanted, conditions)
        return outcome.added + (outcome.updated if b"CH" in options else 0)

    flat = [part for member, score in wanted for part in (member, score_bytes(score))]
    change(call, key, "score_set", (call.node.config.collection_bytes_max, conditions, *flat), show)


def _add_options(arguments: list[bytes]) -> tuple[int, set[bytes], list[bytes]]:
    conditions, options = 0, set[bytes]()
    for at, text in enumerate(arguments):
        option = text.upper()
        if option in _CONDITIONS:
            conditions |= _CONDITIONS[option]
        elif option in (b"CH", b"INCR"):
            options.add(option)
        else:
            return conditions, options, arguments[at:]
    return conditions, options, []


def score_in(text: bytes, trouble: str = NOT_A_FLOAT) -> float:
    score = score_of(text)
    if score is None:
        raise CommandError(trouble)
    return score


def zincrby(call: Call) -> None:
    key, text, member = call.arguments[1:]
    check_value(call, member)
    _increment(call, key, member, score_in(text), 0)


def _increment(call: Call, key: bytes, member: bytes, amount: float, conditions: int) -> None:
    def done(gather: Gather) -> None:
        if refused(gather, writes=True):
            return
        left = versions.scores(gather.after[0], call.node.now.wall_ms)
        if conditions and increased(_before(gather).get(member), amount, conditions) is None:
            call.answer(None)
        elif left is None:
            call.fail(WrittenBeside())
        else:
            call.answer(Double(left.get(member, 0.0)))

    arguments = (call.node.config.collection_bytes_max, conditions, member, score_bytes(amount))
    update_of(call, key, "score_increment", arguments, done)


def zrem(call: Call) -> None:
    key, *members = call.arguments[1:]
    change(call, key, "score_remove", tuple(members), lambda before: sum(name in before for name in set(members)))


def zpop(call: Call) -> None:
    """ZPOPMIN and ZPOPMAX: key [count]."""
    if len(call.arguments) > 3:
        raise CommandError(SYNTAX)
    highest = int(call.arguments[0].lower() == b"zpopmax")
    single = len(call.arguments) == 2
    count = 1 if single else integer_of(call.arguments[2], NOT_POSITIVE)
    if count < 0:
        raise CommandError(NOT_POSITIVE)

    def done(gather: Gather) -> None:
        if refused(gather, writes=True):
            return
        taken = popped(ranked(_before(gather)), count, highest)
        if single:
            call.answer([part for pair in shown_pairs(taken) for part in pair])
        else:
            call.reply(pairs(call, shown_pairs(taken)))

    update_of(call, call.arguments[1], "score_pop", (count, highest), done)


def shown_pairs(of: Ranked) -> list[tuple[bytes, Value]]:
    return [(member, Double(score)) for score, member in of]


def change(
    call: Call, key: bytes, operation: str, arguments: tuple[bytes | int, ...], show: Callable[[Scores], Value]
) -> None:
    """An update; `show` is given the scores that there were before."""

    def done(gather: Gather) -> None:
        if not refused(gather, writes=True):
            call.answer(show(_before(gather)))

    update_of(call, key, operation, arguments, done)


def _before(gather: Gather) -> Scores:
    return view_of(gather.call, versions.scores, gather.records[0]) or {}


def update_of(
    call: Call, key: bytes, operation: str, arguments: tuple[bytes | int, ...], done: Callable[[Gather], None]
) -> None:
    check_key(call, key)
    call.session.wrote(key, call.level)
    update(call, [key], operation, arguments, Gather(call, 1, done))


def read(call: Call, done: Callable[[Scores], None], key: bytes | None = None) -> None:
    """`done` is given the scores of the key that the command names first, or of another."""

    def came(gather: Gather) -> None:
        if refused(gather):
            return
        found = versions.scores(gather.records[0], call.node.now.wall_ms)
        if found is None:
            call.fail(WrongType())
            return
        try:
            done(found)
        except Failure as trouble:
            call.fail(trouble)

    key = call.arguments[1] if key is None else key
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, came), 0)


def _score(found: Scores, member: bytes) -> Value:
    score = found.get(member)
    return Double(score) if score is not None else None


def zscore(call: Call) -> None:
    show(call, versions.scores, lambda found: _score(found, call.arguments[2]))


def zmscore(call: Call) -> None:
    show(call, versions.scores, lambda found: [_score(found, member) for member in call.arguments[2:]])


def zcard(call: Call) -> None:
    show(call, versions.scores, len)


def zscan(call: Call) -> None:
    """A page of members with their scores."""
    cursor, options = cursor_of(call.arguments[2]), call.arguments[3:]

    read(call, lambda found: answer_page(call, found, cursor, options, lambda name: [name, Double(found[name]).text]))


def zrandmember(call: Call) -> None:
    """ZRANDMEMBER key [count [WITHSCORES]]; a negative count may name a member several times."""
    chosen_by_chance(call, b"WITHSCORES", partial(read, call), Double)


def in_order(call: Call, of: Ranked, *, scores: bool) -> bytes:
    """A reply with members, alone or with their scores."""
    if scores:
        return pairs(call, shown_pairs(of))
    return encode([member for _, member in of], call.session.protocol)
