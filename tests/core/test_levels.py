"""Consistency levels (R2): names, numbers, and what they come to for N copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.errors import ImpossibleLevel, UnknownLevel
from ringwise.core.levels import Level


@pytest.mark.parametrize(
    ("text", "n", "reads", "writes", "repair"),
    [
        (b"one", 3, 1, 1, False),
        (b"quorum", 1, 1, 1, False),
        (b"quorum", 2, 2, 2, False),
        (b"quorum", 3, 2, 2, False),
        (b"quorum", 4, 3, 3, False),
        (b"QUORUM", 5, 3, 3, False),
        (b"all", 3, 3, 3, True),
        (b"strong", 3, 2, 2, True),
        (b"r=1", 3, 1, 2, False),
        (b"w=3", 3, 2, 3, False),
        (b"r=1,w=3", 3, 1, 3, False),
        (b"W=3,R=2", 3, 2, 3, False),
    ],
)
def test_levels(text: bytes, n: int, reads: int, writes: int, repair: bool) -> None:
    level = Level.parse(text)
    assert (level.needed_reads(n), level.needed_writes(n), level.repair) == (reads, writes, repair)
    level.check(n)


@pytest.mark.parametrize("text", [b"one", b"quorum", b"all", b"strong", b"r=1", b"w=2", b"r=3,w=1"])
def test_a_name_parses_to_its_level(text: bytes) -> None:
    assert Level.parse(text).name == text.decode()
    assert Level.parse(Level.parse(text).name.encode()) == Level.parse(text)


@pytest.mark.parametrize(
    "text", [b"", b"two", b"r=", b"r=0", b"w=-1", b"r=1,r=1", b"r=1,", b"r=01", b"r=1 w=2", b"r=9999", b"\xff", b"one "]
)
def test_anything_else_is_refused_with_the_choices(text: bytes) -> None:
    with pytest.raises(UnknownLevel, match="use one, quorum, all, strong, or r=<n>,w=<n>"):
        Level.parse(text)


def test_more_owners_than_there_are_is_refused() -> None:
    with pytest.raises(ImpossibleLevel, match="r=1,w=4 needs 4 owners and the key has 3"):
        Level.parse(b"r=1,w=4").check(3)
    Level.parse(b"r=4").check(4)


@given(st.integers(1, 255))
def test_two_majorities_always_meet(n: int) -> None:
    for name in (b"quorum", b"strong"):
        level = Level.parse(name)
        assert level.needed_reads(n) + level.needed_writes(n) > n
        assert 2 * (level.needed_writes(n) - 1) <= n
