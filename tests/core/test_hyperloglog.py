"""HyperLogLogs (V9): the estimator; the law, against a model that remembers every element; types that meet; expiry."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_counters import NOW_MS, Replica, meet, merge_keeps_its_laws, replicas

from ringwise.core import hyperloglog, record, versions
from ringwise.core.changes import AddElements, AddMembers, Increment
from ringwise.core.errors import NotHyperLogLog, WrongType
from ringwise.core.hyperloglog import NOTHING, covers, from_redis, of_elements, union
from ringwise.core.operations import OPERATIONS
from ringwise.core.told import ESTIMATE_TYPE


def add(node: Replica, *elements: bytes, wall_ms: int = NOW_MS) -> None:
    node.state = AddElements(of_elements(elements)).apply(node.dots, node.state, node.next_stamp(), wall_ms)


def found(node: Replica, wall_ms: int = NOW_MS) -> bytes:
    value = versions.estimate(node.state, wall_ms)
    return NOTHING if value is None else value


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# -- the value


def test_an_element_sets_the_register_that_it_sets_in_redis() -> None:
    """The sparse encoding of redis-server 7.0.15 after `PFADD k a`; tests/server/test_hyperloglog.py compares all of them."""
    assert of_elements([b"a"]) == b"\1" + (12711).to_bytes(2, "big") + b"\2"


def test_a_count_is_near_the_truth_and_its_error_is_that_of_the_paper() -> None:
    """1.04 / sqrt(16384) is 0.81% of standard error; four of them are seldom seen."""
    value = NOTHING
    for before, count in pairwise((0, 1, 10, 100, 1000, 5000, 20_000, 60_000)):
        value = union([value, of_elements(numbers(count - before, before))])
        assert abs(hyperloglog.count(value) - count) <= max(0.0325 * count, 0)
    assert hyperloglog.count(NOTHING) == 0


def test_the_extremes_of_the_estimator_have_an_end() -> None:
    highest = b"\2" + hyperloglog._packed(bytes([hyperloglog.RUN_BITS + 1]) * hyperloglog.REGISTERS)
    assert hyperloglog.count(highest) == 2**63 - 1
    lowest = b"\2" + hyperloglog._packed(bytes([1]) * hyperloglog.REGISTERS)
    assert hyperloglog.count(lowest) > 10_000


@given(st.lists(st.binary(max_size=20), max_size=30), st.lists(st.binary(max_size=20), max_size=30))
def test_a_union_is_the_value_of_all_elements(some: list[bytes], others: list[bytes]) -> None:
    assert union([of_elements(some), of_elements(others)]) == of_elements([*some, *others])


@pytest.mark.parametrize("sizes", [(0, 5000), (5000, 3), (800, 800), (4000, 4000), (1030, 1)])
def test_dense_and_sparse_values_unite_to_the_same(sizes: tuple[int, int]) -> None:
    chance = random.Random(sum(sizes))
    some, others = ([chance.randbytes(chance.randint(0, 40)) for _ in range(size)] for size in sizes)
    a, b = of_elements(some), of_elements(others)
    both = of_elements([*some, *others])
    assert union([a, b]) == union([b, a]) == both
    assert union([both, a]) == union([both, b]) == union([both]) == both
    assert covers(both, a) and covers(both, b) and covers(both, both)
    assert covers(a, b) == (union([a, b]) == a) and covers(b, a) == (union([a, b]) == b)
    assert covers(from_redis(hyperloglog.as_redis(both)), a)
    registers, runs = hyperloglog._registers_of(both), hyperloglog._registers_of(of_elements(some))
    assert all(x >= y for x, y in zip(registers, runs, strict=True))
    assert hyperloglog._packed(registers) == hyperloglog.as_redis(both)[16:]


def test_few_registers_take_few_bytes_and_many_take_twelve_kibibytes() -> None:
    assert len(of_elements([b"a"])) == 4
    assert len(of_elements(numbers(300))) < 1000
    assert len(of_elements(numbers(5000))) == 1 + 12_288
    assert len(hyperloglog.as_redis(NOTHING)) == len(hyperloglog.as_redis(of_elements(numbers(5000)))) == 16 + 12_288


# -- the law


class Model:
    """Every write has a number and the elements that it held: its own, and those of what it had seen, which it covers."""

    def __init__(self) -> None:
        self.holds: dict[int, frozenset[bytes]] = {}
        self.covers: dict[int, frozenset[int]] = {}

    def alive(self, known: frozenset[int]) -> frozenset[int]:
        return known - frozenset().union(*(self.covers[i] for i in known))

    def there(self, known: frozenset[int]) -> frozenset[bytes]:
        return frozenset().union(*(self.holds[i] for i in self.alive(known)))


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "take", "take", "delete"]), st.integers(0, 2), st.integers(0, 5)),
    min_size=3,
    max_size=40,
)


@settings(max_examples=300)
@given(STEPS)
def test_nothing_that_was_added_is_lost_but_what_was_seen_by_a_deletion(steps: list[tuple[str, int, int]]) -> None:
    """Every state is sent, and arrives late, twice, never or out of order."""
    nodes, model = replicas(), Model()
    sent: list[tuple[bytes, frozenset[int]]] = []
    for number, (what, at, which) in enumerate(steps):
        node = nodes[at]
        match what:
            case "add":
                elements = numbers(3, 10 * number)[: which % 3 + 1]
                model.holds[number] = model.there(node.known) | frozenset(elements)
                model.covers[number] = node.known
                node.known |= {number}
                add(node, *elements)
            case "delete":
                model.holds[number], model.covers[number] = frozenset(), node.known
                node.known |= {number}
                node.set(b"", tombstone=True)
            case _:
                for state, known in sent[-1 - which :][:1]:
                    node.merge(state)
                    node.known |= known
        assert found(node) == of_elements(model.there(node.known))
        sent.append((node.state, node.known))
    meet(*nodes)
    everything = frozenset().union(*(node.known for node in nodes))
    assert {node.state for node in nodes} == {nodes[0].state}
    assert found(nodes[0]) == of_elements(model.there(everything))


MIXED = st.lists(
    st.tuples(
        st.sampled_from(["add", "set", "del", "incr", "member", "expire", "late", "merge", "merge"]),
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
        node = nodes[at]
        try:
            match what:
                case "add":
                    add(node, b"%d" % number, wall_ms=wall_ms)
                case "set":
                    node.set(b"%d" % number, expiry_ms=(wall_ms + 10) * (number % 2))
                case "del":
                    node.set(b"", tombstone=True)
                case "incr":
                    node.incr(number, wall_ms)
                case "member":
                    change = AddMembers((b"m%d" % number,), 1 << 20)
                    node.state = change.apply(node.dots, node.state, node.next_stamp(), wall_ms)
                case "expire":
                    node.expire(wall_ms + 10 * number, wall_ms)
                case "late":
                    wall_ms += 10
                case _:
                    node.merge(nodes[other].state)
        except WrongType:
            pass
    merge_keeps_its_laws(*(node.state for node in nodes))


def test_two_writes_at_once_both_count_and_the_next_write_holds_both() -> None:
    a, b, _ = replicas()
    add(a, b"x")
    add(b, b"y")
    meet(a, b)
    assert found(a) == of_elements([b"x", b"y"])
    assert len(record.unpack(a.state).siblings) == 2
    add(a, b"z")
    assert len(record.unpack(a.state).siblings) == 1
    assert found(a) == of_elements([b"x", b"y", b"z"])


def test_what_changes_no_register_writes_nothing() -> None:
    a, _, _ = replicas()
    add(a)
    assert found(a) == NOTHING and versions.live(a.state, NOW_MS) is not None
    add(a, b"x", b"y")
    before = a.state
    add(a, b"y")
    add(a)
    assert a.state == before


def test_a_deletion_covers_what_it_has_seen_and_an_addition_at_the_same_time_survives() -> None:
    a, b, _ = replicas()
    add(a, b"x")
    a.set(b"", tombstone=True)
    add(b, b"y")
    meet(a, b)
    assert found(a) == of_elements([b"y"])
    a.set(b"", tombstone=True)
    assert versions.live(a.state, NOW_MS) is None
    before = versions.max_stamp(a.state)
    add(a, b"z")
    assert found(a) == of_elements([b"z"]) and versions.max_stamp(a.state) > before


def test_it_is_shown_as_the_string_of_redis_and_refuses_to_be_changed_as_one() -> None:
    a, _, _ = replicas()
    add(a, b"x")
    shown = a.value()
    assert shown is not None and shown.startswith(b"HYLL\0") and len(shown) == 16 + 12_288
    (only,) = versions.siblings(a.state, NOW_MS)
    assert (only.content_type, only.value) == (ESTIMATE_TYPE, shown)
    changes: dict[str, tuple[bytes | int, ...]] = {"append": (b"x", 100_000), "set_range": (0, b"x", 100_000)}
    for operation, arguments in changes.items():
        with pytest.raises(WrongType):
            OPERATIONS[operation](a.state, arguments, NOW_MS)
    for change in (Increment(1), AddMembers((b"m",), 1 << 20)):
        with pytest.raises(WrongType):
            change.apply(a.dots, a.state, a.next_stamp(), NOW_MS)
    a.set(b"text")
    with pytest.raises(NotHyperLogLog, match=r"^Key is not a valid HyperLogLog string value\.$"):
        add(a, b"y")
    assert a.value() == b"text"


def test_it_expires_and_begins_again() -> None:
    a, b, _ = replicas()
    a.stamp = (NOW_MS << 16) - 100
    add(a, b"old")
    a.expire(NOW_MS + 10)
    b.merge(a.state)
    add(a, b"older")
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == NOW_MS + 10, "an addition leaves the expiry"
    late_ms = NOW_MS + 10
    assert versions.live(a.state, late_ms) is None and found(a, late_ms) == NOTHING
    a.stamp = b.stamp = late_ms << 16
    add(a, b"new", wall_ms=late_ms)
    add(b, b"other", wall_ms=late_ms)
    assert len(record.unpack(a.state).siblings) == 1, "what is hidden is covered"
    meet(a, b)
    assert found(a, late_ms) == of_elements([b"new", b"other"])
    live = versions.live(a.state, late_ms)
    assert live is not None and live.expiry_ms == 0
