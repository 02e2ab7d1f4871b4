"""The checks of types that merge by themselves, on histories made up for them: what must be found is found, and nothing else."""

from __future__ import annotations

import pytest

from ringwise.sim.history import Operation
from ringwise.sim.merging import check_merging


class Story:
    """Operations on one key, one after another, each at `quorum` and acknowledged unless it is said otherwise."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self,
        kind: str,
        value: bytes = b"",
        *,
        amount: int = 0,
        found: bytes | None = None,
        shown: tuple[bytes, ...] = (),
        outcome: str = "ok",
        level: int = 2,
    ) -> Operation:
        number = len(self.operations)
        operation = Operation(number, 0, "n1", kind, b"k", "quorum", level, level, number * 10.0)
        operation.ended_ms, operation.value, operation.amount = number * 10.0 + 5, value, amount
        operation.found, operation.siblings = found, list(shown)
        operation.outcome = outcome  # type: ignore[assignment]
        self.operations.append(operation)
        return operation

    def complaints(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(check, numbers) for check, _, numbers in check_merging(self.operations, 3)]


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.mark.parametrize(("kind", "read"), [("hincr", "fields"), ("zincr", "scores"), ("incr", "count")])
def test_an_increment_that_a_read_misses(story: Story, kind: str, read: str) -> None:
    story.add(kind, amount=1, found=b"1")
    story.add(kind, amount=2, found=b"3")
    story.add(read, found=b"3")
    assert story.complaints() == []
    story.add(read, found=b"2")
    assert story.complaints() == [("counted", (0, 3))]


def test_an_increment_whose_own_reply_is_without_it(story: Story) -> None:
    story.add("hincr", amount=1, found=b"0")
    assert story.complaints() == [("counted", (0, 0))]


def test_what_was_refused_or_counts_twice(story: Story) -> None:
    story.add("hincr", amount=1, found=b"1")
    story.add("hincr", amount=2, outcome="refused")
    story.add("fields", found=b"3")
    story.add("fields", found=b"2")
    assert story.complaints() == [("counted", (2,)), ("counted", (3,))]


def test_below_overlap_and_with_an_unknown_outcome_nothing_is_promised(story: Story) -> None:
    story.add("zincr", amount=1, found=b"1", level=1)
    story.add("zincr", amount=2, outcome="unknown")
    story.add("scores", found=None)
    story.add("scores", found=b"2")
    assert story.complaints() == []


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("hincr", b'{"n":"2","x":"v"}'), ("zincr", b'[["n",2.0],["x",1.0]]')],
)
def test_what_is_read_at_the_end(story: Story, kind: str, ending: bytes) -> None:
    story.add(kind, amount=1, found=b"1")
    story.add(kind, amount=2, outcome="unknown")
    story.add("hset" if kind == "hincr" else "zadd", b"x")
    story.add("inspect", shown=(ending,))
    assert story.complaints() == [("counted", (0, 3))]
    story.operations[3].siblings = []
    assert story.complaints() == [("counted", (0, 3)), ("member", (2, 3))]


@pytest.mark.parametrize(
    ("added", "removed", "read"), [("hset", "hdel", "fields"), ("zadd", "zrem", "scores"), ("add", "remove", "members")]
)
def test_members_that_are_missed_or_come_back(story: Story, added: str, removed: str, read: str) -> None:
    story.add(added, b"x")
    story.add(added, b"y")
    story.add(read, shown=(b"x", b"y"))
    story.add(removed, b"x")
    story.add(read, shown=(b"y",))
    assert story.complaints() == []
    story.add(read, shown=(b"x",))
    assert story.complaints() == [("member", (3, 5)), ("member", (1, 5))]


def test_members_that_nobody_added_or_that_were_refused(story: Story) -> None:
    story.add("hset", b"x", outcome="refused")
    story.add("fields", shown=(b"x", b"z"))
    assert story.complaints() == [("member", (1,)), ("member", (0, 1))]
