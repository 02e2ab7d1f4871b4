"""COPY and RENAME: what is taken of a key, and that it replaces all that is known where it is placed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_counters import NOW_MS, Replica, meet, merge_keeps_its_laws, replicas

from ringwise.core import copying, hyperloglog, record, versions
from ringwise.core.changes import AddElements, AddMembers
from ringwise.core.copying import Place, place
from ringwise.core.errors import CollectionTooLarge
from ringwise.core.hyperloglog import of_elements
from ringwise.core.map_changes import AddToField, SetFields, SetScores
from ringwise.core.versions import Write

MEGABYTE = 1 << 20


def add_members(node: Replica, *members: bytes) -> None:
    node.state = AddMembers(members, MEGABYTE).apply(node.dots, node.state, node.next_stamp(), NOW_MS)


def add_elements(node: Replica, *elements: bytes) -> None:
    change = AddElements(of_elements(elements))
    node.state = change.apply(node.dots, node.state, node.next_stamp(), NOW_MS)


def copied(source: bytes, target: Replica, *, replace: int = 1, bytes_max: int = MEGABYTE) -> None:
    """As a coordinator of the destination does it."""
    shown = copying.taken(source, NOW_MS)
    assert shown is not None
    change = place(target.state, (replace, bytes_max, *shown), NOW_MS)
    if change is not None:
        assert isinstance(change, Place)
        target.state = change.apply(target.dots, target.state, target.next_stamp(), NOW_MS)


def filled(target: Replica, kind: str) -> None:
    match kind:
        case "value":
            write = Write(b"v", content_type="text/plain", flags=7, expiry_ms=NOW_MS + 5)
            target.state = target.dots.write(target.state, write, target.next_stamp())
        case "counter":
            target.set(b"5", expiry_ms=NOW_MS + 5)
            target.incr(3)
        case "set":
            add_members(target, b"m", b"n")
            target.expire(NOW_MS + 5)
        case "hash":
            change = SetFields(((b"f", b"v"), (b"g", b"w")), MEGABYTE)
            target.state = change.apply(target.dots, target.state, target.next_stamp(), NOW_MS)
            more = AddToField(b"n", 3, MEGABYTE)
            target.state = more.apply(target.dots, target.state, target.next_stamp(), NOW_MS)
            target.expire(NOW_MS + 5)
        case "sorted set":
            scores = SetScores(((b"m", 1.5), (b"n", float("inf"))), 0, MEGABYTE)
            target.state = scores.apply(target.dots, target.state, target.next_stamp(), NOW_MS)
            target.expire(NOW_MS + 5)
        case "hyperloglog":
            add_elements(target, b"x", b"y")
            target.expire(NOW_MS + 5)
        case _:
            pass


KINDS = ["value", "counter", "set", "hash", "sorted set", "hyperloglog"]


@pytest.mark.parametrize("before", [*KINDS, "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_shows_what_its_source_shows_whatever_was_there(kind: str, before: str) -> None:
    source, target, _ = replicas()
    filled(source, kind)
    filled(target, before)
    old = record.unpack(target.state).siblings
    copied(source.state, target)
    (there,), (made,) = versions.siblings(source.state, NOW_MS), versions.siblings(target.state, NOW_MS)
    assert (made.value, made.content_type, made.flags, made.expiry_ms) == (
        there.value,
        there.content_type,
        there.flags,
        NOW_MS + 5,
    )
    assert not set(old) & set(record.unpack(target.state).siblings)
    assert versions.live(target.state, NOW_MS + 5) is None
    assert versions.max_stamp(target.state) > max((each.stamp for each in old), default=0)
    merge_keeps_its_laws(source.state, target.state, b"")


def test_a_copy_goes_on_as_what_it_is() -> None:
    source, target, _ = replicas()
    source.set(b"5")
    source.incr(3)
    copied(source.state, target)
    assert target.incr(2) == b"10" and source.value() == b"8"
    source.set(b"", tombstone=True)
    add_elements(source, b"x")
    copied(source.state, target)
    add_elements(target, b"y")
    assert versions.estimate(target.state, NOW_MS) == of_elements([b"x", b"y"])
    assert versions.estimate(source.state, NOW_MS) == of_elements([b"x"])


def test_of_siblings_what_is_shown_is_copied_as_one_version() -> None:
    a, b, target = replicas()
    a.set(b"older")
    b.stamp = 10
    b.set(b"newer")
    meet(a, b)
    assert len(versions.siblings(a.state, NOW_MS)) == 2
    copied(a.state, target)
    assert [each.value for each in versions.siblings(target.state, NOW_MS)] == [b"newer"]
    add_elements(a := replicas()[0], b"x")
    add_elements(b := replicas()[1], b"y")
    meet(a, b)
    copied(a.state, target)
    (only,) = record.unpack(target.state).siblings
    assert only.value == of_elements([b"x", b"y"]) and only.content_type == hyperloglog.ESTIMATE


def test_without_replace_a_key_that_is_there_stays_and_an_absent_one_is_made() -> None:
    source, target, _ = replicas()
    source.set(b"v")
    target.set(b"kept")
    before = target.state
    copied(source.state, target, replace=0)
    assert target.state == before
    target.set(b"", tombstone=True)
    copied(source.state, target, replace=0)
    assert target.value() == b"v"


def test_nothing_is_taken_of_a_key_that_is_not_there() -> None:
    source, _, _ = replicas()
    assert copying.taken(b"", NOW_MS) is None
    source.set(b"v", expiry_ms=NOW_MS)
    assert copying.taken(source.state, NOW_MS) is None


def test_a_set_that_would_be_too_large_is_refused() -> None:
    source, target, _ = replicas()
    add_members(source, b"x" * 1000)
    with pytest.raises(CollectionTooLarge):
        copied(source.state, target, bytes_max=1000)
    assert target.state == b""


@given(st.lists(st.tuples(st.sampled_from(["copy", "add", "del", "merge"]), st.integers(0, 2), st.integers(0, 2))))
def test_copies_among_other_writes_keep_the_laws_of_merging(steps: list[tuple[str, int, int]]) -> None:
    nodes = replicas()
    source, _, _ = replicas()
    add_members(source, b"m", b"n")
    for number, (what, at, other) in enumerate(steps):
        match what:
            case "copy":
                copied(source.state, nodes[at])
            case "add":
                if versions.members(nodes[at].state, NOW_MS) is not None:
                    add_members(nodes[at], b"%d" % number)
            case "del":
                nodes[at].set(b"", tombstone=True)
            case _:
                nodes[at].merge(nodes[other].state)
    merge_keeps_its_laws(*(node.state for node in nodes))
