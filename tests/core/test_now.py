"""V7: a wall clock that steps forward is not believed until another member's agrees with it."""

from __future__ import annotations

from tests.core.cluster import Cluster, Heard

from ringwise.core.levels import EVERY, QUORUM
from ringwise.core.now import Now

DAY_MS = 86_400_000
WALL_MS = 1_700_000_000_000


def test_time_goes_on_as_the_machine_says_while_both_clocks_agree() -> None:
    now = Now(jump_max_ms=1000)
    for wall_ms, now_ms in ((WALL_MS, 0.0), (WALL_MS + 5, 5.2), (WALL_MS + 900, 6.0), (WALL_MS - DAY_MS, 7.0)):
        now.begin(wall_ms, now_ms)
        assert (now.wall_ms, now.jumped) == (wall_ms, False)


def test_after_a_step_forward_it_counts_on_without_losing_fractions() -> None:
    now = Now(jump_max_ms=1000)
    now.begin(WALL_MS, 0.0)
    for turn in range(1, 1001):
        now.begin(WALL_MS + DAY_MS + turn // 4, turn * 0.25)
    assert now.jumped and now.wall_ms == WALL_MS + 250


def test_a_step_that_is_taken_back_or_confirmed_is_over() -> None:
    now = Now(jump_max_ms=1000)
    now.begin(WALL_MS, 0.0)
    now.begin(WALL_MS + DAY_MS, 1.0)
    assert not now.confirm(WALL_MS, 1000)  # another member is where we were
    now.begin(WALL_MS + 2, 2.0)
    assert not now.jumped and now.wall_ms == WALL_MS + 2
    now.begin(WALL_MS + DAY_MS, 3.0)
    assert now.confirm(WALL_MS + DAY_MS - 500, 1000)
    assert not now.jumped and now.wall_ms == WALL_MS + DAY_MS


def test_a_step_back_to_the_time_before_a_step_backwards_is_believed() -> None:
    """Nobody else is needed for it: a node that is filled hears of no writes where there are none."""
    now = Now(jump_max_ms=1000)
    now.begin(WALL_MS, 0.0)
    now.begin(WALL_MS - DAY_MS, 10_000.0)
    assert now.wall_ms == WALL_MS - DAY_MS and not now.jumped
    now.begin(WALL_MS + 20_000, 20_000.0)
    assert now.wall_ms == WALL_MS + 20_000 and not now.jumped
    now.begin(WALL_MS + 30_000 + 2000, 30_000.0)
    assert now.jumped, "further than that it is a step like any other"


def test_a_node_whose_clock_was_a_day_ahead_for_a_moment_goes_on_writing() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    a.begin(cluster.wall_ms + DAY_MS, cluster.now_ms)
    a.put(b"k", b"1", QUORUM, heard, 1)
    a.end_turn()
    a.begin(cluster.wall_ms, cluster.now_ms)
    a.put(b"k", b"2", EVERY, heard, 2)
    b.put(b"other", b"3", EVERY, heard, 3)
    cluster.run()
    assert [heard.outcomes[index][0] for index in (1, 2, 3)] == ["stored"] * 3


def test_a_node_that_stood_still_while_time_went_on_takes_the_others_word_for_it() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    for node in (b, c):
        node.begin(cluster.wall_ms + DAY_MS, cluster.now_ms + DAY_MS)
    a.begin(cluster.wall_ms + DAY_MS, cluster.now_ms)
    assert a.now.jumped
    cluster.wall_ms += DAY_MS
    b.put(b"k", b"1", EVERY, heard, 1)
    b.end_turn()
    cluster.deliver()
    for node in (a, c):
        node.end_turn()
    cluster.deliver()
    assert heard.outcomes[1][0] == "stored" and not a.now.jumped
