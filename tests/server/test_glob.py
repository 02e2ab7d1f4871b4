"""Patterns: against Redis's own algorithm, word for word, on random patterns; and in bounded time on evil ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwise.server.glob import PATTERN_BYTES_MAX, matcher


def redis_matches(pattern: bytes, text: bytes) -> bool:
    """`stringmatchlen` of Redis 7 (src/util.c), one byte at a time; it reads a zero byte behind a string."""
    while pattern and text:
        if pattern[:1] == b"*":
            while pattern[1:2] == b"*":
                pattern = pattern[1:]
            if len(pattern) == 1:
                return True
            return any(redis_matches(pattern[1:], text[at:]) for at in range(len(text)))
        if pattern[:1] == b"[":
            pattern = pattern[1:]
            negated = pattern[:1] == b"^"
            pattern = pattern[negated:]
            match = False
            while True:
                if len(pattern) >= 2 and pattern[:1] == b"\\":
                    pattern = pattern[1:]
                    match |= pattern[0] == text[0]
                elif pattern[:1] == b"]" or not pattern:
                    break
                elif len(pattern) >= 3 and pattern[1:2] == b"-":
                    low, high = sorted((pattern[0], pattern[2]))
                    pattern = pattern[2:]
                    match |= low <= text[0] <= high
                else:
                    match |= pattern[0] == text[0]
                pattern = pattern[1:]
            if match == negated:
                return False
        elif pattern[:1] != b"?":
            if pattern[:1] == b"\\" and len(pattern) >= 2:
                pattern = pattern[1:]
            if pattern[0] != text[0]:
                return False
        text = text[1:]
        pattern = pattern[1:]
        if not text:
            pattern = pattern.lstrip(b"*")
    return not pattern and not text


@settings(max_examples=3000, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\n", b"\xff", b"ab", b"[^", b"a-"])
    ),
    st.lists(
        st.sampled_from([b"a", b"b", b"-", b"]", b"[", b"^", b"\\", b"*", b"\n", b"\xff", b"ab"]),
        min_size=1,
        max_size=8,
    ),
)
def test_keys_match_as_in_redis(pattern: list[bytes], key: list[bytes]) -> None:
    wanted, text = b"".join(pattern), b"".join(key)
    assert bool(matcher(wanted)(text)) == redis_matches(wanted, text)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        (b"user:*", b"user:1", True),
        (b"user:*", b"user", False),
        (b"h?llo", b"hello", True),
        (b"h[ae]llo", b"hillo", False),
        (b"h[^e]llo", b"hallo", True),
        (b"h[a-b]llo", b"hbllo", True),
        (b"h[b-a]llo", b"hallo", True),
        (b"a\\*b", b"a*b", True),
        (b"a\\*b", b"axb", False),
        (b"[\\]]", b"]", True),
        (b"[abc", b"c", True),
        (b"[", b"[", False),
        (b"[^", b"x", True),
        (b"[]", b"x", False),
        (b"\\", b"\\", True),
        (b"*.txt", b"a.txt.txt", True),
        (b"*\xff*", b"a\n\xff\x00", True),
        (b"", b"x", False),
        (b"***", b"x", True),
    ],
)
def test_patterns_one_by_one(pattern: bytes, key: bytes, matches: bool) -> None:
    assert bool(matcher(pattern)(key)) is matches is redis_matches(pattern, key)


def test_no_pattern_takes_long() -> None:
    """Backtracking would take longer than the age of the universe for the first two."""
    key = b"a" * 256
    began = time.process_time()
    for pattern in (
        b"a*" * 200 + b"b",
        b"*a" * 200 + b"*b",
        b"*" + b"?" * 200 + b"*b",
        b"[a-z]*" * 500,
        b"*[^b]" * 500,
    ):
        assert len(pattern) <= PATTERN_BYTES_MAX
        matcher(pattern)(key)
    assert time.process_time() - began < 5
