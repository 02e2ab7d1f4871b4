"""Ranges of a sorted set: by rank, by score, by the bytes of members; as ZRANGE and ZREMRANGEBY… take them.

A sorted set is in order of (score, member). Ends and errors are in Redis's words, since clients know them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf, isinf, isnan
from typing import TypeAlias

import msgspec

from ringwise.core.errors import BadRange

NOT_A_FLOAT = "min or max is not a float"
NOT_LEX = "min or max not valid string range item"
NOT_AN_INTEGER = "value is not an integer or out of range"

RANK, SCORE, LEX = b"RANK", b"SCORE", b"LEX"

Ranked: TypeAlias = list[tuple[float, bytes]]

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
    """In order."""
    return sorted((score, member) for member, score in scores.items())


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
        self.of([])

    def of(self, all_: Ranked) -> Ranked:
        """The members in it. `all_` is in order."""
        if self.by == RANK:
            return self._by_rank(all_)
        chosen = self._by_score(all_) if self.by == SCORE else self._by_bytes(all_)
        if self.offset < 0:
            return []
        end = None if self.count < 0 else self.offset + self.count
        return chosen[self.offset : end]

    def _by_rank(self, all_: Ranked) -> Ranked:
        first, last = _integer(self.start), _integer(self.stop)
        size = len(all_)
        first, last = max(0, first + size if first < 0 else first), last + size if last < 0 else last
        in_order = all_[::-1] if self.reverse else all_
        return in_order[first : max(0, last + 1)]

    def _by_score(self, all_: Ranked) -> Ranked:
        least, above = _score_end(self.start)
        most, below = _score_end(self.stop)
        chosen = [
            (score, member)
            for score, member in all_
            if (score > least if above else score >= least) and (score < most if below else score <= most)
        ]
        return chosen[::-1] if self.reverse else chosen

    def _by_bytes(self, all_: Ranked) -> Ranked:
        """Redis says nothing sensible where scores differ; here it is those members, in order of their scores."""
        least, most = _bytes_end(self.start), _bytes_end(self.stop)
        chosen = [(score, member) for score, member in all_ if _is_behind(member, least) and _is_before(member, most)]
        return chosen[::-1] if self.reverse else chosen


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
