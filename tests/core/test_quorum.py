"""The tally against a slow, obvious model: sets of owners by position."""

from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.quorum import Tally


@given(
    count=st.integers(1, 6),
    need=st.integers(1, 4),
    answers=st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 5))), max_size=5),
    closed=st.sets(st.integers(0, 5), max_size=2),
)
def test_a_position_is_reached_once_when_enough_owners_answered(
    count: int, need: int, answers: list[tuple[bool, set[int]]], closed: set[int]
) -> None:
    tally = Tally(count, need)
    owners: list[set[int]] = [set() for _ in range(count)]
    reported: set[int] = set()
    shut: set[int] = set()
    for owner, (whole, some) in enumerate(answers):
        positions = list(range(count)) if whole else sorted(i for i in some if i < count)
        if not whole and not positions:
            continue
        reached = tally.add(() if whole else positions)
        for i in positions:
            owners[i].add(owner)
        expected = {i for i in range(count) if len(owners[i]) >= need} - reported - shut
        assert set(reached) == expected
        reported |= expected
        if owner == 1:
            for i in sorted(i for i in closed if i < count):
                assert tally.close(i) == (i not in reported and i not in shut)
                if i not in reported:
                    shut.add(i)
        assert tally.open == count - len(reported) - len(shut)
        assert tally.unreached() == [i for i in range(count) if i not in reported and i not in shut]
        assert [tally.acknowledged(i) for i in range(count)] == [len(who) for who in owners]
