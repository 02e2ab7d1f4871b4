"""Several sorted sets, or sets, combined: ZUNION, ZINTER, ZDIFF and what stores them. Each is read by itself.

In a sum an infinity that meets its opposite comes to 0, and so does no weight of an endless score, as in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

from ringwise.core import versions
from ringwise.core.errors import WrongType
from ringwise.core.ranges import ranked
from ringwise.server.arguments import SYNTAX, check_key, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather, refused
from ringwise.server.sorted_ranges import keep
from ringwise.server.sorted_sets import Scores, in_order, score_in


def _sum(a: float, b: float) -> float:
    total = a + b
    return 0.0 if isnan(total) else total


_AGGREGATES: dict[bytes, Callable[[float, float], float]] = {b"SUM": _sum, b"MIN": min, b"MAX": max}


class _Wanted:
    """What a command line asks for."""

    def __init__(self, call: Call, arguments: Sequence[bytes], *, stored: bool) -> None:
        self.name = call.arguments[0].decode("ascii", "replace").lower()
        self.how = self.name.removesuffix("store")
        count = integer_of(arguments[0])
        if count < 1:
            raise CommandError(f"ERR at least 1 input key is needed for '{self.name}' command")
        if count > len(arguments) - 1:
            raise CommandError(SYNTAX)
        self.keys = list(arguments[1 : 1 + count])
        self.weights = [1.0] * count
        self.aggregate: Callable[[float, float], float] = _sum
        self.scores = False
        options = list(arguments[1 + count :])
        while options:
            self._option(options, stored)
        for key in self.keys:
            check_key(call, key)

    def _option(self, options: list[bytes], stored: bool) -> None:
        option, count = options.pop(0).upper(), len(self.keys)
        if option == b"WEIGHTS" and self.how != "zdiff" and len(options) >= count:
            self.weights = [score_in(text, "ERR weight value is not a float") for text in options[:count]]
            del options[:count]
        elif option == b"AGGREGATE" and self.how != "zdiff" and options:
            aggregate = _AGGREGATES.get(options.pop(0).upper())
            if aggregate is None:
                raise CommandError(SYNTAX)
            self.aggregate = aggregate
        elif option == b"WITHSCORES" and not stored:
            self.scores = True
        else:
            raise CommandError(SYNTAX)

    def of(self, found: Sequence[Scores]) -> Scores:
        if self.how == "zdiff":
            others = set[bytes]().union(*found[1:])
            return {member: score for member, score in found[0].items() if member not in others}
        total: Scores = {}
        for scores, weight in zip(found, self.weights, strict=True):
            for member, score in scores.items():
                weighed = _weighed(score, weight)
                total[member] = self.aggregate(total[member], weighed) if member in total else weighed
        if self.how == "zinter":
            common = set(found[0]).intersection(*found[1:])
            return {member: score for member, score in total.items() if member in common}
        return total


def _weighed(score: float, weight: float) -> float:
    product = score * weight
    return 0.0 if isnan(product) else product


def _read(call: Call, keys: Sequence[bytes], done: Callable[[list[Scores]], None]) -> None:
    """Sorted sets, or sets, whose members have the score 1."""

    def came(gather: Gather) -> None:
        if refused(gather):
            return
        found = [_scores_of(record, call.node.now.wall_ms) for record in gather.records]
        if None in found:
            call.fail(WrongType())
        else:
            done([scores for scores in found if scores is not None])

    gather = Gather(call, len(keys), came)
    for index, key in enumerate(keys):
        call.node.get(key, call.level, gather, index)


def _scores_of(record: bytes, wall_ms: int) -> Scores | None:
    members = versions.members(record, wall_ms)
    return versions.scores(record, wall_ms) if members is None else dict.fromkeys(members, 1.0)


def combine(call: Call) -> None:
    """ZUNION, ZINTER, ZDIFF: numkeys key … [WEIGHTS …] [AGGREGATE …] [WITHSCORES]."""
    wanted = _Wanted(call, call.arguments[1:], stored=False)
    _read(call, wanted.keys, lambda found: in_order(call, ranked(wanted.of(found)), scores=wanted.scores))


def store(call: Call) -> None:
    """ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE: destination numkeys key …"""
    target = call.arguments[1]
    wanted = _Wanted(call, call.arguments[2:], stored=True)
    check_key(call, target)
    call.begin_update([target, *wanted.keys])
    _read(call, wanted.keys, lambda found: keep(call, target, ranked(wanted.of(found))))


def zintercard(call: Call) -> None:
    """ZINTERCARD numkeys key … [LIMIT n]."""
    arguments = call.arguments[1:]
    count = integer_of(arguments[0], "ERR numkeys should be greater than 0")
    if count < 1:
        raise CommandError("ERR numkeys should be greater than 0")
    if count > len(arguments) - 1:
        raise CommandError(SYNTAX)
    keys, options, limit = arguments[1 : 1 + count], arguments[1 + count :], 0
    for at in range(0, len(options), 2):
        if options[at].upper() != b"LIMIT" or len(options) == at + 1:
            raise CommandError(SYNTAX)
        limit = integer_of(options[at + 1], "ERR LIMIT can't be negative")
        if limit < 0:
            raise CommandError("ERR LIMIT can't be negative")
    for key in keys:
        check_key(call, key)

    def show(found: list[Scores]) -> None:
        size = len(set(found[0]).intersection(*found[1:]))
        call.answer(min(size, limit) if limit else size)

    _read(call, keys, show)


def keys_of(arguments: list[bytes]) -> list[bytes]:
    """The keys of ZUNION and its kin."""
    return _counted(arguments, 1)


def stored_keys_of(arguments: list[bytes]) -> list[bytes]:
    """The keys of ZUNIONSTORE and its kin, the destination first."""
    return arguments[1:2] + _counted(arguments, 2)


def _counted(arguments: list[bytes], at: int) -> list[bytes]:
    if len(arguments) <= at or not arguments[at].isdigit():
        return []
    return arguments[at + 1 : at + 1 + int(arguments[at])]
