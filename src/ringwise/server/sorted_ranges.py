"""Ranges of sorted sets (core/ranges.py): ZRANGE and its kin, ranks, counts, and removal by range.

What a range is, and what is wrong with one, is judged before the key is looked at, as Redis does.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringwise.core import versions
from ringwise.core.copying import whole
from ringwise.core.errors import CollectionTooLarge
from ringwise.core.maps import SORTED, score_bytes
from ringwise.core.ranges import LEX, RANK, SCORE, Range, Ranked, rank_of, ranked
from ringwise.server.arguments import SYNTAX, check_key, check_whole, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.shown import show, show_encoded
from ringwise.server.sorted_sets import Scores, change, in_order, read
from ringwise.wire.replies import Value

_LEGACY = {
    b"zrevrange": (RANK, True),
    b"zrangebyscore": (SCORE, False),
    b"zrevrangebyscore": (SCORE, True),
    b"zrangebylex": (LEX, False),
    b"zrevrangebylex": (LEX, True),
}
_REMOVED_BY = {b"zremrangebyrank": RANK, b"zremrangebyscore": SCORE, b"zremrangebylex": LEX}


def zrange(call: Call) -> None:
    """ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES], and the older commands."""
    by, reverse = _LEGACY.get(call.arguments[0].lower(), (b"", False))
    wanted, scores = _parsed(call.arguments[2:], by, reverse)
    show_encoded(call, versions.scores, lambda found: in_order(call, wanted.of(ranked(found)), scores=scores))


def _parsed(arguments: Sequence[bytes], by: bytes, reverse: bool, *, stored: bool = False) -> tuple[Range, bool]:
    """The range, and whether scores are wanted. `by`: of which kind it is, or b"" where the options say it."""
    first, last, *options = arguments
    any_kind, offset, count, scores = not by, 0, -1, False
    while options:
        option = options.pop(0).upper()
        if option == b"WITHSCORES" and not stored:
            scores = True
        elif option == b"LIMIT" and len(options) >= 2:
            offset, count = integer_of(options.pop(0)), integer_of(options.pop(0))
        elif option == b"REV" and any_kind:
            reverse = True
        elif option in (b"BYSCORE", b"BYLEX") and any_kind and not by:
            by = SCORE if option == b"BYSCORE" else LEX
        else:
            raise CommandError(SYNTAX)
    by = by or RANK
    if count != -1 and by == RANK:
        raise CommandError(f"{SYNTAX}, LIMIT is only supported in combination with either BYSCORE or BYLEX")
    if scores and by == LEX:
        raise CommandError(f"{SYNTAX}, WITHSCORES not supported in combination with BYLEX")
    if reverse and by != RANK:
        first, last = last, first
    wanted = Range(by, first, last, reverse, offset, count)
    wanted.check()
    return wanted, scores


def zrangestore(call: Call) -> None:
    """ZRANGESTORE destination source min max …: the range, kept under the first key."""
    target, source, *rest = call.arguments[1:]
    wanted, _ = _parsed(rest, b"", False, stored=True)
    check_key(call, target)
    check_key(call, source)
    call.begin_update([target, source])
    read(call, lambda found: keep(call, target, wanted.of(ranked(found))), source)


def keep(call: Call, target: bytes, members: Ranked) -> None:
    """Stores a sorted set in the place of what is under the key, and answers with how many members it has."""

    def done(gather: Gather) -> None:
        if not refused(gather, writes=True):
            call.answer(len(members))

    try:
        check_whole(call, [member for _, member in members], "sorted set")
    except CollectionTooLarge as error:
        call.fail(error)
        return
    flat = [part for score, member in members for part in (member, score_bytes(score))]
    call.session.wrote(target, call.level)
    arguments = whole(SORTED.entry, flat, call.node.config.collection_bytes_max)
    call.node.update(target, "place", arguments, call.level, Gather(call, 1, done), 0)


def zrank(call: Call) -> None:
    """ZRANK and ZREVRANK."""
    reverse = call.arguments[0].lower() == b"zrevrank"
    member = call.arguments[2]

    def rank(found: Scores) -> Value:
        score = found.get(member)
        if score is None:
            return None
        before = rank_of(ranked(found), (score, member))
        return len(found) - 1 - before if reverse else before

    show(call, versions.scores, rank)


def zcount(call: Call) -> None:
    """ZCOUNT and ZLEXCOUNT: key min max."""
    by = SCORE if call.arguments[0].lower() == b"zcount" else LEX
    wanted = Range(by, call.arguments[2], call.arguments[3])
    wanted.check()
    show(call, versions.scores, lambda found: len(wanted.of(ranked(found))))


def zremrange(call: Call) -> None:
    """ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX: key, lower end, upper end."""
    wanted = Range(_REMOVED_BY[call.arguments[0].lower()], call.arguments[2], call.arguments[3])
    wanted.check()
    arguments = (wanted.by, wanted.start, wanted.stop)
    change(call, call.arguments[1], "score_remove_range", arguments, lambda before: len(wanted.of(ranked(before))))
