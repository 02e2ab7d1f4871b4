"""Patterns as Redis has them (KEYS, SCAN MATCH): ?  *  [a-z]  [^a]  and a backslash before what is meant as it is.

Between two stars every element takes exactly one byte. So a key is matched by finding those runs one after another, each as
far left as it goes, and none of them is ever tried again: the work is bounded by the pattern's length times the key's, whatever
the pattern. (As a regular expression: each run is an atomic group, which is never entered twice.)

Redis's own oddities are kept: a class that is not closed ends with the pattern, a range may be given backwards, and in a class a
backslash takes the next byte as it is, but not as the end of a range.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

PATTERN_BYTES_MAX = 4096  # of a key of 256 bytes, every byte may be a class; longer ones only cost time

Matches = Callable[[bytes], object]


@lru_cache(maxsize=256)  # a scan sends the same pattern with each page
def matcher(pattern: bytes) -> Matches:
    """A function that is true for the keys that match. The pattern has at most PATTERN_BYTES_MAX bytes."""
    runs = _runs(pattern)
    if len(runs) == 1:
        return re.compile(runs[0], re.DOTALL).fullmatch
    first, *middle, last = runs
    inner = b"".join(b"(?>.*?%b)" % run for run in middle if run)
    return re.compile(b"%b%b.*%b" % (first, inner, last), re.DOTALL).fullmatch


def _runs(pattern: bytes) -> list[bytes]:
    """The pattern, cut at its stars; each run as a regular expression."""
    runs = [b""]
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            runs.append(b"")
        elif byte == b"?":
            runs[-1] += b"."
        elif byte == b"[":
            element, at = _class(pattern, at)
            runs[-1] += element
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            runs[-1] += re.escape(byte)
    return runs


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The bytes that a class takes, and where the pattern goes on; `at` is behind its bracket."""
    negated = pattern.startswith(b"^", at)
    at += negated
    taken: set[int] = set()
    while at < len(pattern):
        left = len(pattern) - at
        if pattern[at] == ord("\\") and left >= 2:
            at += 1
            taken.add(pattern[at])
        elif pattern[at] == ord("]"):
            at += 1
            break
        elif left >= 3 and pattern[at + 1] == ord("-"):
            low, high = sorted((pattern[at], pattern[at + 2]))
            taken.update(range(low, high + 1))
            at += 2
        else:
            taken.add(pattern[at])
        at += 1
    if negated:
        taken = set(range(256)) - taken
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(taken)) if taken else b"(?!)", at
