"""Counters and expiry registers (V4, V9): their law, against a model that remembers every operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwise.core import counters, record, versions
from ringwise.core.changes import Expire, Increment, Once
from ringwise.core.counters import Shown
from ringwise.core.dots import DotSource
from ringwise.core.errors import NotANumber, NumberOverflow, SequenceGap, TooManySessions
from ringwise.core.versions import Write

NOW_MS = 1_000_000


@dataclass
class Replica:
    """A node with its copy of one key; `known`: the operations in it, in the model."""

    name: int
    dots: DotSource = field(init=False)
    state: bytes = b""
    stamp: int = 0
    known: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.dots = DotSource(bytes([self.name]) * 6, b"here")

    def next_stamp(self) -> int:
        self.stamp = max(self.stamp, versions.max_stamp(self.state)) + 1
        return self.stamp

    def set(self, value: bytes, expiry_ms: int = 0, tombstone: bool = False) -> None:
        write = Write(value, expiry_ms=expiry_ms, tombstone=tombstone)
        self.state = self.dots.write(self.state, write, self.next_stamp())

    def incr(self, amount: int | str = 1, wall_ms: int = NOW_MS) -> bytes:
        number = amount if isinstance(amount, int) else counters.decimal_of(amount.encode())
        self.state = Increment(number).apply(self.dots, self.state, self.next_stamp(), wall_ms)
        shown = self.value(wall_ms)
        assert shown is not None
        return shown

    def once(self, amount: int, counter: int, session: bytes = b"s", wall_ms: int = NOW_MS) -> bytes | None:
        change = Once(amount, counters.session_actor(session), counter)
        self.state = change.apply(self.dots, self.state, self.next_stamp(), wall_ms)
        return self.value(wall_ms)

    def expire(self, expiry_ms: int, wall_ms: int = NOW_MS) -> None:
        self.state = Expire(expiry_ms).apply(self.dots, self.state, self.next_stamp(), wall_ms)

    def value(self, wall_ms: int = NOW_MS) -> bytes | None:
        return versions.value_of(self.state, wall_ms)

    def merge(self, state: bytes) -> None:
        self.state = versions.merge(self.state, state)


def replicas(count: int = 3) -> list[Replica]:
    return [Replica(name + 1) for name in range(count)]


def meet(*nodes: Replica) -> None:
    for a in nodes:
        for b in nodes:
            a.merge(b.state)


def merge_keeps_its_laws(*states: bytes) -> None:
    """Commutative, associative, idempotent, and one encoding for one state."""

    def merge(x: bytes, y: bytes) -> bytes:
        return record.whole(versions.merge(x, y))

    for x, y, z in permutations(states):
        assert merge(x, y) == merge(y, x)
        assert merge(merge(x, y), z) == merge(x, merge(y, z))
        assert merge(x, merge(x, y)) == merge(x, y)
        assert record.encode(record.decode(merge(x, y))) == merge(x, y)


# -- the law


@dataclass(frozen=True)
class Set:
    stamp: tuple[int, int]  # of the operation, and of its node
    value: int | None  # None: deleted
    known: frozenset[int]


@dataclass(frozen=True)
class Incr:
    amount: int
    base: int | None  # the operation whose value it was added to


class Model:
    """Every operation that was ever done, and what each had seen."""

    def __init__(self) -> None:
        self.operations: list[Set | Incr] = []

    def base(self, known: frozenset[int]) -> int | None:
        sets = {i: each for i in known if isinstance(each := self.operations[i], Set)}
        alive = [i for i in sets if not any(i in other.known for other in sets.values())]
        return max(alive, key=lambda i: sets[i].stamp, default=None)

    def value(self, known: frozenset[int]) -> bytes | None:
        base = self.base(known)
        added = [each for i in known if isinstance(each := self.operations[i], Incr) and each.base == base]
        start = self.operations[base].value if base is not None else None  # type: ignore[union-attr]
        if start is None and not added:
            return None
        return b"%d" % ((start or 0) + sum(each.amount for each in added))


NODES = st.integers(0, 2)
KINDS = st.sampled_from(["incr"] * 3 + ["take"] * 3 + ["set", "del"])
STEPS = st.lists(st.tuples(KINDS, NODES, st.integers(0, 5)), min_size=5, max_size=40)


@settings(max_examples=400)
@given(STEPS)
def test_a_counter_is_its_base_and_every_increment_that_had_seen_it(
    steps: list[tuple[str, int, int]],
) -> None:
    """Every state is sent, and arrives late, twice, never or out of order."""
    nodes, model = replicas(), Model()
    sent: list[tuple[bytes, frozenset[int]]] = []
    for what, at, number in steps:
        node = nodes[at]
        match what:
            case "take":
                for state, known in sent[-1 - number :][:1]:
                    node.merge(state)
                    node.known |= known
            case "incr":
                model.operations.append(Incr(number, model.base(node.known)))
                node.known |= {len(model.operations) - 1}
                node.incr(number)
            case "set" | "del":
                value = number if what == "set" else None
                node.set(b"%d" % number if what == "set" else b"", tombstone=what == "del")
                model.operations.append(Set((node.stamp, at), value, node.known))
                node.known |= {len(model.operations) - 1}
        assert node.value() == model.value(node.known)
        sent.append((node.state, node.known))
    meet(*nodes)
    everything = frozenset().union(*(node.known for node in nodes))
    assert {node.state for node in nodes} == {nodes[0].state}
    assert nodes[0].value() == model.value(everything)


RANDOM = st.lists(
    st.tuples(
        st.sampled_from(["set", "del", "incr", "expire", "late", "merge"]),
        NODES,
        NODES,
        st.integers(0, 4),
    ),
    max_size=25,
)


@given(RANDOM)
def test_merge_is_commutative_associative_and_idempotent(steps: list[tuple[str, int, int, int]]) -> None:
    """With registers, contributions and what has expired in it as with plain values."""
    nodes = replicas()
    wall_ms = NOW_MS
    for what, at, other, number in steps:
        node = nodes[at]
        match what:
            case "set":
                node.set(b"%d" % number, expiry_ms=(wall_ms + 10) * (number % 2))
            case "del":
                node.set(b"", tombstone=True)
            case "incr":
                node.incr(number, wall_ms)
            case "expire":
                node.expire(wall_ms + 10 * number, wall_ms)
            case "late":
                wall_ms += 10
            case _:
                node.merge(nodes[other].state)
    merge_keeps_its_laws(*(node.state for node in nodes))


# -- the cases that the law is there for


def test_concurrent_increments_all_count() -> None:
    a, b, c = replicas()
    a.set(b"5")
    meet(a, b, c)
    assert (a.incr(), b.incr(10), c.incr(-3)) == (b"6", b"15", b"2")
    meet(a, b, c)
    assert {node.value() for node in (a, b, c)} == {b"13"}


def test_a_node_has_one_contribution_however_often_it_adds() -> None:
    a, b, _ = replicas()
    for _ in range(1000):
        a.incr()
        b.incr()
    meet(a, b)
    assert a.value() == b"2000"
    assert len(record.unpack(a.state).siblings) == 2


def test_an_increment_concurrent_with_a_set_counts_as_before_it() -> None:
    a, b, _ = replicas()
    a.set(b"5")
    meet(a, b)
    b.incr()
    a.set(b"100")
    meet(a, b)
    assert a.value() == b.value() == b"100"
    b.incr()
    meet(a, b)
    assert a.value() == b"101"


def test_a_set_covers_what_it_has_seen() -> None:
    a, b, _ = replicas()
    a.incr()
    b.incr()
    meet(a, b)
    b.set(b"7")
    a.merge(b.state)
    assert len(record.unpack(a.state).siblings) == 1
    assert a.value() == b"7"


def test_increments_at_once_after_the_expiry_all_count() -> None:
    a, b, c = replicas()
    a.set(b"5", expiry_ms=NOW_MS + 10)
    meet(a, b, c)
    a.incr()
    meet(a, b, c)
    late_ms = NOW_MS + 10
    assert a.value(late_ms) is None
    assert (a.incr(1, late_ms), b.incr(1, late_ms)) == (b"1", b"1")
    meet(a, b, c)
    assert {node.value(late_ms) for node in (a, b, c)} == {b"2"}
    assert len(record.unpack(a.state).siblings) == 2  # what had expired is gone
    live = versions.live(a.state, late_ms)
    assert live is not None and live.expiry_ms == 0


def test_an_increment_from_before_a_value_that_has_expired_does_not_count_after_it() -> None:
    a, b, _ = replicas()
    b.incr()
    a.set(b"5", expiry_ms=NOW_MS + 10)  # has not seen it
    a.incr(1, NOW_MS + 10)
    meet(a, b)
    assert a.value(NOW_MS + 10) == b"1"


def test_others_contributions_are_not_taken_over() -> None:
    """One that comes later would count twice."""
    a, b, _ = replicas()
    b.incr()
    a.merge(b.state)
    a.incr()
    b.incr()
    meet(a, b)
    assert a.value() == b"3"


def test_a_counter_that_was_never_set_expires_and_begins_again() -> None:
    """The usual rate limiter: INCR, and EXPIRE the first time."""
    a, b, _ = replicas()
    a.incr()
    a.expire(NOW_MS + 10)
    b.merge(a.state)
    b.incr()
    a.merge(b.state)
    assert a.value() == b"2"
    late_ms = NOW_MS + 10
    assert a.value(late_ms) is b.value(late_ms) is None
    a.incr(1, late_ms)
    a.expire(late_ms + 10, late_ms)
    b.incr(1, late_ms)
    meet(a, b)
    assert a.value(late_ms) == b"2"
    live = versions.live(a.state, late_ms)
    assert live is not None and live.expiry_ms == late_ms + 10


def test_an_expiry_does_not_bring_an_older_value_back() -> None:
    """EXPIRE as a put of the value it has read would hide a SET on another node at the same time."""
    a, b, _ = replicas()
    a.set(b"old")
    meet(a, b)
    a.set(b"new")
    for _ in range(3):  # with the greater stamp
        b.expire(NOW_MS + 10)
    meet(a, b)
    assert a.value() == b.value() == b"new"
    assert [each.value for each in versions.siblings(a.state, NOW_MS)] == [b"new"]


def test_a_set_after_an_expiry_has_none() -> None:
    a, _, _ = replicas()
    a.set(b"1", expiry_ms=NOW_MS + 10)
    a.expire(NOW_MS + 20)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == NOW_MS + 20
    a.expire(0)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == 0
    a.expire(NOW_MS + 30)
    a.set(b"2")
    live = versions.live(a.state, NOW_MS)
    assert live is not None and (live.value, live.expiry_ms) == (b"2", 0)


def test_a_value_issued_again_takes_along_what_was_added_to_it() -> None:
    """V5: the fresh dot is another base, so what belonged to the first goes into it, once."""
    a, _, _ = replicas()
    a.set(b"5")
    first = versions.newest(a.state)
    assert first is not None
    context = versions.context_of(a.state)
    a.incr(2)
    a.expire(NOW_MS + 10)
    version, taken_in = versions.carried(first, a.state)
    assert (version.value, version.expiry_ms) == (b"7", NOW_MS + 10)
    write = Write(version.value, expiry_ms=version.expiry_ms, context=versions.with_dots(context, taken_in))
    a.state = a.dots.write(a.state, write, a.next_stamp())
    assert [each.value for each in record.unpack(a.state).siblings] == [b"7"]
    a.incr()
    assert a.value() == b"8"


def test_a_node_that_lost_its_clock_of_the_key_adds_under_another_actor() -> None:
    """V2: to add to its former contribution would count that twice, where a later one is on another node."""
    a, b, _ = replicas()
    a.incr(1)
    early = a.state
    a.incr(1)
    b.merge(a.state)
    a.dots.renew(b"next")
    a.state = early
    a.incr(1)
    meet(a, b)
    assert a.value() == b.value() == b"3"


# -- sessions: RW.INCR


def test_a_numbered_increment_counts_once_however_often_and_wherever_it_is_sent() -> None:
    a, b, c = replicas()
    assert a.once(5, 1) == b"5"
    assert a.once(5, 1) == b"5"
    assert b.once(5, 1) == b"5"  # has not seen it
    assert c.once(5, 1) == b"5"
    meet(a, b, c)
    assert {node.value() for node in (a, b, c)} == {b"5"}
    assert a.once(2, 2) == b"7"
    assert b.once(2, 2) == b"7"
    b.incr(10)
    meet(a, b, c)
    assert {node.once(2, 2) for node in (a, b, c)} == {b"17"}
    assert versions.alarms["dot_collision"] == 0


def test_a_number_is_remembered_when_the_base_is_gone() -> None:
    a, b, _ = replicas()
    a.once(5, 1)
    b.merge(a.state)
    b.set(b"100")
    meet(a, b)
    assert a.once(5, 1) == b"100"
    assert a.once(1, 2) == b"101"
    a.set(b"", tombstone=True)
    assert a.once(1, 2) is None
    assert a.once(1, 3) == b"1"


def test_written_for_two_bases_it_counts_for_the_present_one() -> None:
    """The first attempt reached one node only, before a SET that it had not seen."""
    a, b, _ = replicas()
    a.set(b"1")
    b.merge(a.state)
    a.stamp += 1000  # a clock that is ahead
    a.once(5, 1)
    b.set(b"100")
    assert b.once(5, 1) == b"105"
    meet(a, b)
    assert a.value() == b.value() == b"105"
    assert a.once(5, 1) == b"105"


def test_a_gap_is_refused_and_an_older_number_counts_already() -> None:
    a, _, _ = replicas()
    with pytest.raises(SequenceGap, match="send 1 first"):
        a.once(1, 2)
    a.once(1, 1)
    a.once(1, 2)
    with pytest.raises(SequenceGap, match="does not follow the last of this session, 2; send 3 first"):
        a.once(1, 4)
    assert a.once(1, 1) == b"2"


def test_sessions_of_a_key_are_limited() -> None:
    a, _, _ = replicas()
    for number in range(1000):
        a.once(1, 1, b"%d" % number)
    with pytest.raises(TooManySessions, match="1000 sessions"):
        a.once(1, 1, b"one more")
    assert a.once(1, 2, b"7") == b"1001"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["once", "again", "incr", "take"]), NODES, st.integers(0, 4)), max_size=40))
def test_numbered_increments_count_once_in_any_order_of_arrival(steps: list[tuple[str, int, int]]) -> None:
    """A client goes on when it has an answer of a majority; attempts before that go to whomever, and arrive whenever."""
    nodes, sent, number, total = replicas(), [b""], 0, 0
    for what, at, amount in steps:
        node = nodes[at]
        match what:
            case "incr":
                node.incr(amount)
                total += amount
            case "take":
                node.merge(sent[-1 - amount % len(sent)])
            case "again":
                if number:
                    for other in nodes[:2]:  # what a majority has is read first
                        node.merge(other.state)
                    node.once(3, number)
            case _:
                number += 1
                total += 3
                for other in nodes:
                    node.merge(other.state)
                node.once(3, number)
                nodes[(at + 1) % 3].merge(node.state)
        sent.append(node.state)
    meet(*nodes)
    assert {node.value() for node in nodes} == (
        {b"%d" % total} if any(what in ("once", "incr") for what, *_ in steps) else {None}
    )


# -- numbers


@pytest.mark.parametrize(
    "text", [b"", b"abc", b"1 ", b" 1", b"1_000", b"inf", b"nan", b"1e309", b"0x10", b"1" * 600, b"--1"]
)
def test_what_is_no_number(text: bytes) -> None:
    with pytest.raises(NotANumber):
        counters.decimal_of(text)


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        (["10.50", "0.1"], b"10.6"),
        (["0.1", "0.2"], b"0.3"),
        (["5.0e3", "200"], b"5200"),
        (["-0.5", "0.5"], b"0"),
        (["3", "-5"], b"-2"),
        (["1e20", "1"], b"100000000000000000001"),
        (["1e-17", "1e-18"], b"0.00000000000000001"),
    ],
)
def test_decimal_numbers_are_shown_as_redis_shows_them(numbers: list[str], shown: bytes) -> None:
    a, _, _ = replicas()
    for number in numbers:
        a.incr(number)
    assert a.value() == shown


def test_a_whole_sum_is_an_integer_again() -> None:
    a, _, _ = replicas()
    a.incr("5.5")
    with pytest.raises(NotANumber, match="integer"):
        a.incr(1)
    a.incr("0.5")
    assert a.incr(1) == b"7"


def test_limits_refuse_and_change_nothing() -> None:
    a, _, _ = replicas()
    a.set(b"%d" % counters.INTEGER_MAX)
    before = a.state
    with pytest.raises(NumberOverflow, match="overflow"):
        a.incr(1)
    a.set(b"1e308")
    with pytest.raises(NumberOverflow, match="Infinity"):
        a.incr("1e308")
    a.set(b"text")
    with pytest.raises(NotANumber, match="integer"):
        a.incr(1)
    with pytest.raises(NotANumber, match="float"):
        a.incr("1")
    assert before != a.state
    assert a.value() == b"text"


@given(st.lists(st.tuples(NODES, st.decimals(-1000, 1000, places=6)), max_size=20))
def test_sums_do_not_depend_on_the_order(added: list[tuple[int, Decimal]]) -> None:
    nodes = replicas()
    for at, amount in added:
        nodes[at].incr(str(amount))
    meet(*nodes)
    values = {node.value() for node in nodes}
    expected = counters.text_of(sum((amount for _, amount in added), Decimal(0)))
    assert values == {expected if added else None}


def test_stamps_grow() -> None:
    """V1: every version is stamped above all that its writer knew."""
    a, b, _ = replicas()
    stamps = []
    for node in (a, b, a, b):
        meet(a, b)
        node.incr()
        node.expire(NOW_MS + 50)
        stamps.append(versions.max_stamp(node.state))
    assert all(earlier < later for earlier, later in pairwise(stamps))


def test_what_is_shown_of_a_counter_is_one_version() -> None:
    a, b, _ = replicas()
    a.set(b"1")
    meet(a, b)
    a.incr()
    b.incr()
    meet(a, b)
    assert [each.value for each in versions.siblings(a.state, NOW_MS)] == [b"3"]
    assert Shown(record.unpack(a.state).siblings, NOW_MS).number == 3
