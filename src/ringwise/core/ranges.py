"""Ranges of a sorted set: by rank, by score, by the bytes of members; as ZRANGE and ZREMRANGEBY… take them.

A sorted set is in order of (score, member). Ends and errors are in Redis's words, since clients know them.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from math import inf, isinf, isnan
from typing import TypeAlias

import msgspec
from sortedcontainers import SortedList  # type: ignore[import-untyped]

from ringwise.core.errors import BadRange
from ringwise.core.maps import Looked

NOT_A_FLOAT = "min or max is not a float"
NOT_LEX = "min or max not valid string range item"
NOT_AN_INTEGER = "value is not an integer or out of range"

RANK, SCORE, LEX = b"RANK", b"SCORE", b"LEX"

Ranked: TypeAlias = Sequence[tuple[float, bytes]]  # in order

_INTEGER = re.compile(rb"-?[1-9][0-9]{0,18}|0")
_FINITE = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?")
_ENDLESS = re.compile(rb"[+-]?inf(inity)?", re.IGNORECASE)
_TEXT_BYTES_MAX = 512
_SPACE = b" \t\n\v\f\r"


def score_of(text: bytes) -> float | None:
    """A score as a client writes it; None where it is none. Too great or too small for a double is none either."""
    number = _double(text)
    if number is None or (isinf(number) and not _ENDLESS.fullmatch(text)):
        return None
    return (
        None if number == 0 and re.search(rb"[1-9]", text.lower().partition(b"e")[0]) and b"x" not in text else number
    )


def _double(text: bytes) -> float | None:
    """As C's strtod reads a whole text, but for what is no number."""
    if len(text) > _TEXT_BYTES_MAX:
        return None
    if _FINITE.fullmatch(text) or _ENDLESS.fullmatch(text):
        return float(text)
    if _HEX.fullmatch(text):
        try:
            return float.fromhex(text.decode())
        except OverflowError:
            return -inf if text[:1] == b"-" else inf
    return None


def ranked(scores: Mapping[bytes, float]) -> Ranked:
    """In order; to be looked at at once, since it may be the list of a key (core/order.py)."""
    kept = scores.fields.in_order if isinstance(scores, Looked) else None
    return kept if kept is not None else sorted((score, member) for member, score in scores.items())


def rank_of(all_: Ranked, place: tuple[float, bytes]) -> int:
    """How many stand before it."""
    rank: int = all_.bisect_left(place) if isinstance(all_, SortedList) else bisect_left(all_, place)
    return rank


class Range(msgspec.Struct, frozen=True):
    """Which members, and in which order. The ends are as the client wrote them, the lower one first."""

    by: bytes
    start: bytes
    stop: bytes
    reverse: bool = False
    offset: int = 0  # of a range by score or by bytes
    count: int = -1  # at most; -1: all

    def check(self) -> None:
        """Raises BadRange."""
        if self.by == RANK:
            _integer(self.start), _integer(self.stop)
        else:
            self.of([])

    def of(self, all_: Ranked) -> list[tuple[float, bytes]]:
        """The members in it. `all_` is in order."""
        if self.by == RANK:
            first, end = self._ranks(len(all_))
            return _slice(all_, first, end, reverse=self.reverse)
        if self.by == SCORE:
            first, end = self._scores(all_)
        else:
            least, most = _bytes_end(self.start), _bytes_end(self.stop)
            if all_ and all_[0][0] != all_[-1][0]:
                return self._limited(_between(all_, least, most))
            first, end = _bytes_places(all_, least, most)
        if self.offset < 0 or first >= end:
            return []
        count = end - first if self.count < 0 else self.count
        if self.reverse:
            end = max(first, end - self.offset)
            return _slice(all_, max(first, end - count), end, reverse=True)
        first += self.offset
        return _slice(all_, first, min(end, first + count))

    def _ranks(self, size: int) -> tuple[int, int]:
        first, last = _integer(self.start), _integer(self.stop)
        first, end = max(0, first + size if first < 0 else first), min(size, 1 + (last + size if last < 0 else last))
        return (max(0, size - end), size - first) if self.reverse else (first, end)

    def _scores(self, all_: Ranked) -> tuple[int, int]:
        least, above = _score_end(self.start)
        most, below = _score_end(self.stop)
        first = (bisect_right if above else bisect_left)(all_, least, key=_score)
        return first, (bisect_left if below else bisect_right)(all_, most, key=_score)

    def _limited(self, chosen: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        if self.offset < 0:
            return []
        end = None if self.count < 0 else self.offset + self.count
        return (chosen[::-1] if self.reverse else chosen)[self.offset : end]


def _slice(all_: Ranked, first: int, end: int, *, reverse: bool = False) -> list[tuple[float, bytes]]:
    chosen = list(all_[first : max(first, end)])
    return chosen[::-1] if reverse else chosen


def _score(place: tuple[float, bytes]) -> float:
    return place[0]


def _member(place: tuple[float, bytes]) -> bytes:
    return place[1]


def _between(all_: Ranked, least: tuple[bytes, bytes], most: tuple[bytes, bytes]) -> list[tuple[float, bytes]]:
    """Redis says nothing sensible where scores differ; here it is those members, in order of their scores."""
    return [place for place in all_ if _is_behind(place[1], least) and _is_before(place[1], most)]


def _bytes_places(all_: Ranked, least: tuple[bytes, bytes], most: tuple[bytes, bytes]) -> tuple[int, int]:
    """Of members that have one score."""
    places = {b"-": 0, b"+": len(all_)}
    kind, body = least
    first = places[kind] if kind in places else (bisect_left if kind == b"[" else bisect_right)(all_, body, key=_member)
    kind, body = most
    end = places[kind] if kind in places else (bisect_right if kind == b"[" else bisect_left)(all_, body, key=_member)
    return first, end


def _integer(text: bytes) -> int:
    if not _INTEGER.fullmatch(text) or not -(2**63) <= (number := int(text)) < 2**63:
        raise BadRange(NOT_AN_INTEGER)
    return number


def _score_end(text: bytes) -> tuple[float, bool]:
    """The score, and whether it is itself outside."""
    outside = text[:1] == b"("
    body = text[outside:]
    number = 0.0 if not body else _double(body.lstrip(_SPACE))
    if number is None or isnan(number):
        raise BadRange(NOT_A_FLOAT)
    return number, outside


def _bytes_end(text: bytes) -> tuple[bytes, bytes]:
    """How it is written, `-`, `+`, `[` or `(`, and the bytes behind that."""
    kind, body = text[:1], text[1:]
    if kind not in (b"-", b"+", b"[", b"(") or (kind in (b"-", b"+") and body):
        raise BadRange(NOT_LEX)
    return kind, body


def _is_behind(member: bytes, end: tuple[bytes, bytes]) -> bool:
    kind, body = end
    return kind == b"-" or (kind == b"[" and member >= body) or (kind == b"(" and member > body)


def _is_before(member: bytes, end: tuple[bytes, bytes]) -> bool:
    kind, body = end
    return kind == b"+" or (kind == b"[" and member <= body) or (kind == b"(" and member < body)
