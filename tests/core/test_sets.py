"""Sets (V9): the law, against a model that remembers every operation; types that meet; expiry."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.forms import both_forms as both_forms
from tests.core.test_counters import NOW_MS, Replica, meet, merge_keeps_its_laws, replicas

from ringwise.core import dots, record, versions
from ringwise.core.changes import AddMembers, Increment, RemoveMembers, StoreMembers
from ringwise.core.errors import CollectionTooLarge, WrongType
from ringwise.core.operations import OPERATIONS
from ringwise.core.told import SET_TYPE

MEGABYTE = 1 << 20
NAMES = (b"a", b"b", b"c")


def add(node: Replica, *members: bytes, wall_ms: int = NOW_MS, bytes_max: int = MEGABYTE) -> None:
    node.state = AddMembers(members, bytes_max).apply(node.dots, node.state, node.next_stamp(), wall_ms)


def remove(node: Replica, *members: bytes, wall_ms: int = NOW_MS) -> None:
    node.state = RemoveMembers(members).apply(node.dots, node.state, node.next_stamp(), wall_ms)


def members(node: Replica, wall_ms: int = NOW_MS) -> set[bytes] | None:
    found = versions.members(node.state, wall_ms)
    return None if found is None else set(found)


class Model:
    """Every addition has a number; a removal, and a deletion, names those that it has seen."""

    def __init__(self) -> None:
        self.added: dict[int, bytes] = {}
        self.removed: dict[int, frozenset[int]] = {}

    def there(self, known: frozenset[int]) -> dict[int, bytes]:
        gone = frozenset().union(*(self.removed[i] for i in known if i in self.removed))
        return {i: self.added[i] for i in known if i in self.added and i not in gone}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "take", "take", "delete"]), st.integers(0, 2), st.integers(0, 5)
    ),
    min_size=3,
    max_size=40,
)


@settings(max_examples=300)
@given(STEPS)
def test_a_member_is_there_if_it_was_added_and_nobody_who_had_seen_that_removed_it(
    steps: list[tuple[str, int, int]],
) -> None:
    """Every state is sent, and arrives late, twice, never or out of order."""
    nodes, model = replicas(), Model()
    sent: list[tuple[bytes, frozenset[int]]] = []
    for number, (what, at, which) in enumerate(steps):
        node, member = nodes[at], NAMES[which % 3]
        there = model.there(node.known)
        match what:
            case "add":
                if member not in there.values():
                    model.added[number] = member
                    node.known |= {number}
                add(node, member)
            case "remove":
                model.removed[number] = frozenset(i for i, name in there.items() if name == member)
                node.known |= {number}
                remove(node, member)
            case "delete":
                model.removed[number] = frozenset(there)
                node.known |= {number}
                node.set(b"", tombstone=True)
            case _:
                for state, known in sent[-1 - which :][:1]:
                    node.merge(state)
                    node.known |= known
        assert members(node) == set(model.there(node.known).values())
        sent.append((node.state, node.known))
    meet(*nodes)
    everything = frozenset().union(*(node.known for node in nodes))
    assert {node.state for node in nodes} == {nodes[0].state}
    assert members(nodes[0]) == set(model.there(everything).values())


MIXED = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "set", "del", "incr", "expire", "late", "merge", "store"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 4),
    ),
    max_size=25,
)


@given(MIXED)
def test_merge_is_commutative_associative_and_idempotent_whatever_types_meet(
    steps: list[tuple[str, int, int, int]],
) -> None:
    nodes = replicas()
    wall_ms = NOW_MS
    for what, at, other, number in steps:
        node, member = nodes[at], NAMES[number % 3]
        try:
            match what:
                case "add":
                    add(node, member, wall_ms=wall_ms)
                case "remove":
                    remove(node, member, wall_ms=wall_ms)
                case "set":
                    node.set(b"%d" % number, expiry_ms=(wall_ms + 10) * (number % 2))
                case "del":
                    node.set(b"", tombstone=True)
                case "incr":
                    node.incr(number, wall_ms)
                case "expire":
                    node.expire(wall_ms + 10 * number, wall_ms)
                case "store":
                    change = StoreMembers((member,), MEGABYTE)
                    node.state = change.apply(node.dots, node.state, node.next_stamp(), wall_ms)
                case "late":
                    wall_ms += 10
                case _:
                    node.merge(nodes[other].state)
        except WrongType:
            pass
    merge_keeps_its_laws(*(node.state for node in nodes))


def test_an_addition_survives_a_removal_at_the_same_time() -> None:
    a, b, _ = replicas()
    add(a, b"m")
    meet(a, b)
    remove(a, b"m")
    add(a, b"m")
    remove(b, b"m")
    meet(a, b)
    assert members(a) == members(b) == {b"m"}


def test_a_removal_is_not_undone_by_who_has_not_heard_of_it() -> None:
    a, b, _ = replicas()
    add(a, b"m", b"n")
    meet(a, b)
    old = b.state
    remove(a, b"m")
    b.merge(a.state)
    b.merge(old)
    a.merge(old)
    assert members(a) == members(b) == {b"n"}


def test_the_greatest_stamp_does_not_fall_with_the_newest_member() -> None:
    a, _, _ = replicas()
    add(a, b"m")
    before = versions.max_stamp(a.state)
    remove(a, b"m")
    assert versions.max_stamp(a.state) > before
    assert members(a) == set() and versions.live(a.state, NOW_MS) is None
    for _ in range(20):
        add(a, b"m")
        remove(a, b"m")
    assert len(record.unpack(a.state).siblings) == 1, "one mark, however often"


def test_a_set_and_a_value_written_at_once_are_both_kept_and_the_newer_is_shown() -> None:
    a, b, _ = replicas()
    a.set(b"v")
    b.next_stamp()
    b.stamp += 10
    add(b, b"m", b"\xff")
    meet(a, b)
    with pytest.raises(WrongType):
        a.value()
    assert members(a) == {b"m", b"\xff"}
    newest, older = versions.siblings(a.state, NOW_MS)
    assert newest.content_type == SET_TYPE and older.value == b"v"
    assert msgspec.json.decode(newest.value) == ["m", {"base64": "/w=="}]
    a.set(b"w")
    assert a.value() == b"w" and members(a) is None
    assert len(record.unpack(a.state).siblings) == 1


@pytest.mark.parametrize("operation", ["append", "set_range", "increment", "take"])
def test_commands_of_another_type_change_nothing(operation: str) -> None:
    a, _, _ = replicas()
    add(a, b"m")
    arguments: dict[str, tuple[bytes | int, ...]] = {
        "append": (b"x", 100),
        "set_range": (0, b"x", 100),
        "increment": (b"1", 0),
        "take": (),
    }
    with pytest.raises(WrongType):
        change = OPERATIONS[operation](a.state, arguments[operation], NOW_MS)
        assert isinstance(change, Increment)
        change.apply(a.dots, a.state, a.next_stamp(), NOW_MS)
    a.set(b"v")
    for refused in (AddMembers((b"m",), MEGABYTE), RemoveMembers((b"m",))):
        with pytest.raises(WrongType):
            refused.apply(a.dots, a.state, a.next_stamp(), NOW_MS)


def test_a_set_expires_and_begins_again() -> None:
    a, b, _ = replicas()
    a.stamp = (NOW_MS << 16) - 100
    add(a, b"old")
    a.expire(NOW_MS + 10)
    b.merge(a.state)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == NOW_MS + 10
    late_ms = NOW_MS + 10
    assert members(a, late_ms) == set() and versions.live(a.state, late_ms) is None
    a.stamp = b.stamp = late_ms << 16
    add(a, b"new", wall_ms=late_ms)
    add(b, b"other", wall_ms=late_ms)
    meet(a, b)
    assert members(a, late_ms) == {b"new", b"other"}
    live = versions.live(a.state, late_ms)
    assert live is not None and live.expiry_ms == 0


def test_a_set_that_becomes_empty_and_begins_again_has_no_expiry() -> None:
    a, b, _ = replicas()
    add(a, b"m")
    a.expire(NOW_MS + 10)
    b.merge(a.state)
    remove(a, b"m")
    b.expire(NOW_MS + 20)  # has not seen that
    meet(a, b)
    add(a, b"n")
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == 0


def test_members_of_one_write_go_on_in_a_new_key_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dots, "COUNTER_MAX", 5)
    a = Replica(1)
    for first in range(0, 42, 7):
        add(a, *(b"m%d" % number for number in range(first, first + 7)))
    seen = versions.context_of(a.state)
    assert len(members(a) or ()) == 42 == sum(counter for _, counter in seen.vector) and not seen.cloud
    assert max(counter for _, counter in seen.vector) == 5


def test_a_set_has_a_limit_that_names_itself() -> None:
    a, _, _ = replicas()
    add(a, b"m")
    before = a.state
    with pytest.raises(CollectionTooLarge, match=r"the set would take \d+ bytes, the limit is 1000 .*split it"):
        add(a, b"x" * 1000, bytes_max=1000)
    assert a.state == before
