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
    """What a command line asks for. As in Redis, options are looked at when the keys are known to be of the right type."""

    def __init__(self, call: Call, at: int) -> None:
        self._call = call
        self._name = call.arguments[0].decode("ascii", "replace").lower()
        self._stored = self._name.endswith("store")
        self._how = self._name.removesuffix("store")
        count = integer_of(call.arguments[at])
        if count < 1:
            raise CommandError(f"ERR at least 1 input key is needed for '{self._name}' command")
        arguments = call.arguments[at + 1 :]
        if count > len(arguments):
            raise CommandError(SYNTAX)
        self.keys, self._options = arguments[:count], arguments[count:]
        self._weights = [1.0] * count
        self._aggregate: Callable[[float, float], float] = _sum
        self.scores = False
        self.limit = 0
        for key in self.keys:
            check_key(call, key)

    def read(self, done: Callable[[list[Scores]], None]) -> None:
        """`done` is given the scores of each, of a set those of its members, which are 1."""
        call = self._call

        def came(gather: Gather) -> None:
            if refused(gather):
                return
            found = [_scores_of(record, call.node.now.wall_ms) for record in gather.records]
            if None in found:
                call.fail(WrongType())
                return
            try:
                while self._options:
                    self._option(self._options)
            except CommandError as error:
                call.refuse(str(error))
            else:
                done([scores for scores in found if scores is not None])

        gather = Gather(call, len(self.keys), came)
        for index, key in enumerate(self.keys):
            call.node.get(key, call.level, gather, index)

    def _option(self, options: list[bytes]) -> None:
        option, count = options.pop(0).upper(), len(self.keys)
        weighs = self._how in ("zunion", "zinter")
        if option == b"WEIGHTS" and weighs and len(options) >= count:
            self._weights = [score_in(text, "ERR weight value is not a float") for text in options[:count]]
            del options[:count]
        elif option == b"AGGREGATE" and weighs and options:
            aggregate = _AGGREGATES.get(options.pop(0).upper())
            if aggregate is None:
                raise CommandError(SYNTAX)
            self._aggregate = aggregate
        elif option == b"WITHSCORES" and not self._stored and self._how != "zintercard":
            self.scores = True
        elif option == b"LIMIT" and self._how == "zintercard" and options:
            self.limit = integer_of(options.pop(0), "ERR LIMIT can't be negative")
            if self.limit < 0:
                raise CommandError("ERR LIMIT can't be negative")
        else:
            raise CommandError(SYNTAX)

    def of(self, found: Sequence[Scores]) -> Scores:
        if self._how == "zdiff":
            others = set[bytes]().union(*found[1:])
            return {member: score for member, score in found[0].items() if member not in others}
        weighed = list(zip(found, self._weights, strict=True))
        if self._how in ("zinter", "zintercard"):
            return self._common(sorted(weighed, key=lambda each: len(each[0])))
        total: dict[bytes, float] = {}
        for scores, weight in weighed:
            for member, score in scores.items():
                value = _weighed(score, weight)
                total[member] = self._aggregate(total[member], value) if member in total else value
        return total

    def _common(self, weighed: Sequence[tuple[Scores, float]]) -> Scores:
        """From the smallest on. No weight of an endless score is nothing in that one, and makes a sum nothing in the others."""
        (least, weight), *others = weighed
        total: dict[bytes, float] = {}
        for member, score in least.items():
            if all(member in scores for scores, _ in others):
                value = _weighed(score, weight)
                for scores, other in others:
                    value = self._aggregate(value, scores[member] * other)
                total[member] = value
        return total


def _weighed(score: float, weight: float) -> float:
    product = score * weight
    return 0.0 if isnan(product) else product


def _scores_of(record: bytes, wall_ms: int) -> Scores | None:
    members = versions.members(record, wall_ms)
    return versions.scores(record, wall_ms) if members is None else dict.fromkeys(members, 1.0)


def combine(call: Call) -> None:
    """ZUNION, ZINTER, ZDIFF: numkeys key … [WEIGHTS …] [AGGREGATE …] [WITHSCORES]."""
    wanted = _Wanted(call, 1)
    wanted.read(lambda found: call.reply(in_order(call, ranked(wanted.of(found)), scores=wanted.scores)))


def store(call: Call) -> None:
    """ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE: destination numkeys key …"""
    target = call.arguments[1]
    wanted = _Wanted(call, 2)
    check_key(call, target)
    call.begin_update([target, *wanted.keys])
    wanted.read(lambda found: keep(call, target, ranked(wanted.of(found))))


def zintercard(call: Call) -> None:
    """ZINTERCARD numkeys key … [LIMIT n]."""
    wanted = _Wanted(call, 1)

    def show(found: list[Scores]) -> None:
        size = len(wanted.of(found))
        call.answer(min(size, wanted.limit) if wanted.limit else size)

    wanted.read(show)


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
