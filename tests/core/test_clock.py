"""The hybrid logical clock: stamps never go back, respect causality, and stay near the wall clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.clock import Clock, stamp_at, wall_of
from ringwise.core.errors import StampTooFar

walls_ms = st.integers(0, 1 << 41)


@given(st.lists(walls_ms, max_size=30))
def test_stamps_only_grow_whatever_the_wall_clock_does(walls: list[int]) -> None:
    clock = Clock(max_offset_ms=500)
    stamps = [clock.next(wall_ms) for wall_ms in walls]
    assert stamps == sorted(set(stamps))
    assert all(stamp >= stamp_at(wall_ms) for stamp, wall_ms in zip(stamps, walls, strict=True))


def test_a_clock_that_moves_on_gives_the_wall_time() -> None:
    clock = Clock(max_offset_ms=500)
    assert clock.next(1000) == stamp_at(1000)
    assert clock.next(1000) == stamp_at(1000) + 1
    assert clock.next(999) == stamp_at(1000) + 2
    assert clock.next(1001) == stamp_at(1001)
    assert wall_of(clock.last) == 1001


@given(walls_ms, st.integers(-1000, 500), st.integers(0, 0xFFFF), walls_ms)
def test_what_is_issued_lies_above_what_was_observed(wall_ms: int, ahead_ms: int, logical: int, later_ms: int) -> None:
    clock = Clock(max_offset_ms=500)
    observed = stamp_at(max(0, wall_ms + ahead_ms)) + logical
    clock.observe(observed, wall_ms)
    assert clock.next(later_ms) > observed


def test_a_far_future_stamp_is_refused_and_leaves_no_trace() -> None:
    clock = Clock(max_offset_ms=500, last=stamp_at(900))
    clock.observe(stamp_at(1500) + 0xFFFF, wall_ms=1000)
    before = clock.last
    with pytest.raises(StampTooFar, match=r"501 ms ahead .* the limit is 500 ms"):
        clock.observe(stamp_at(1501), wall_ms=1000)
    assert clock.last == before


@given(st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_after_is_above_both_the_stamp_and_the_clock(last: int, stamp: int) -> None:
    clock = Clock(max_offset_ms=500, last=last)
    issued = clock.after(stamp)
    assert issued > max(last, stamp)
    assert clock.after(stamp) > issued


def test_a_full_logical_count_carries_into_the_milliseconds() -> None:
    clock = Clock(max_offset_ms=500, last=stamp_at(1000) + 0xFFFF)
    assert clock.next(1000) == stamp_at(1001)
