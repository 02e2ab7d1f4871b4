"""Hashes and sorted sets (V9): the law, against a model that remembers every operation; types that meet; expiry."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import permutations
from math import inf
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.forms import both_forms as both_forms
from tests.core.test_counters import NOW_MS, Replica, meet, merge_keeps_its_laws, replicas

from ringwise.core import counters, maps, record, sets, versions
from ringwise.core.changes import AddMembers, Change, RemoveMembers
from ringwise.core.copying import Place, taken
from ringwise.core.errors import (
    CollectionTooLarge,
    FieldNotANumber,
    NumberOverflow,
    ScoreNotANumber,
    WrongType,
)
from ringwise.core.map_changes import (
    GT,
    LT,
    NX,
    XX,
    AddToField,
    AddToScore,
    RemoveFields,
    SetFields,
    SetScores,
    StoreAll,
)
from ringwise.core.maps import HASH, SORTED
from ringwise.core.operations import OPERATIONS
from ringwise.core.told import HASH_TYPE, SORTED_TYPE

MEGABYTE = 1 << 20
NAMES = (b"f", b"g", b"h")


def change(node: Replica, what: Change, wall_ms: int = NOW_MS) -> None:
    node.state = what.apply(node.dots, node.state, node.next_stamp(), wall_ms)


class Hash:
    """A hash of numbers, as the model knows it."""

    @staticmethod
    def put(node: Replica, name: bytes, value: int, wall_ms: int = NOW_MS) -> None:
        change(node, SetFields(((name, b"%d" % value),), MEGABYTE), wall_ms)

    @staticmethod
    def add(node: Replica, name: bytes, amount: int, wall_ms: int = NOW_MS) -> None:
        change(node, AddToField(name, amount, MEGABYTE), wall_ms)

    @staticmethod
    def remove(node: Replica, *names: bytes, wall_ms: int = NOW_MS) -> None:
        change(node, RemoveFields(HASH.entry, names), wall_ms)

    @staticmethod
    def store(node: Replica, name: bytes, value: int, wall_ms: int = NOW_MS) -> None:
        change(node, StoreAll(HASH.entry, ((name, b"%d" % value),), MEGABYTE), wall_ms)

    @staticmethod
    def shown(node: Replica, wall_ms: int = NOW_MS) -> dict[bytes, int]:
        fields = versions.fields(node.state, wall_ms)
        assert fields is not None
        return {name: int(value) for name, value in fields.items()}


class Sorted(Hash):
    """The same with scores."""

    @staticmethod
    def put(node: Replica, name: bytes, value: int, wall_ms: int = NOW_MS) -> None:
        change(node, SetScores(((name, float(value)),), 0, MEGABYTE), wall_ms)

    @staticmethod
    def add(node: Replica, name: bytes, amount: int, wall_ms: int = NOW_MS) -> None:
        change(node, AddToScore(name, float(amount), 0, MEGABYTE), wall_ms)

    @staticmethod
    def remove(node: Replica, *names: bytes, wall_ms: int = NOW_MS) -> None:
        change(node, RemoveFields(SORTED.entry, names), wall_ms)

    @staticmethod
    def store(node: Replica, name: bytes, value: int, wall_ms: int = NOW_MS) -> None:
        item = (name, maps.score_bytes(float(value)))
        change(node, StoreAll(SORTED.entry, (item,), MEGABYTE), wall_ms)

    @staticmethod
    def shown(node: Replica, wall_ms: int = NOW_MS) -> dict[bytes, int]:
        scores = versions.scores(node.state, wall_ms)
        assert scores is not None
        return {name: int(score) for name, score in scores.items()}


BOTH = pytest.mark.parametrize("kind", [Hash, Sorted])

# -- the law


@dataclass(frozen=True)
class Done:
    """An operation, and what it had seen. `names` are those that it is about."""

    what: str
    names: frozenset[bytes]
    stamp: tuple[int, int]  # and its node
    known: frozenset[int]
    cut: int  # what is added to nothing from before counts no more, if this is a cut
    item: bytes = b""  # under which it puts a value
    value: int = 0
    base: tuple[str, int] = ("none", 0)  # of an addition: what it was added to
    traced: frozenset[bytes] = frozenset()  # names of which it has seen an addition, or a trace of one


class Model:
    """Every operation that was ever done. Nothing is merged: all is asked for anew.

    Under a name there is the newest value that nothing known covers; what was added counts where it was added to just that, or,
    where there is no value, to nothing since the last *cut*: a deletion of all, or a removal by somebody who knew of additions.
    """

    def __init__(self) -> None:
        self.done: list[Done] = []

    def cut(self, name: bytes, known: frozenset[int]) -> int:
        cuts = [0]
        for i in known:
            each = self.done[i]
            if each.what in ("del", "store") or (each.what == "remove" and name in each.names & each.traced):
                cuts.append(each.cut)
        return max(cuts)

    def base(self, name: bytes, known: frozenset[int]) -> tuple[str, int]:
        values = [i for i in known if self.is_value(i, name) and not self.covered_under(i, name, known)]
        if values:
            return "value", max(values, key=lambda i: self.done[i].stamp)
        return "none", self.cut(name, known)

    def is_value(self, i: int, name: bytes) -> bool:
        each = self.done[i]
        return each.what in ("put", "store") and name == each.item

    def covered_under(self, i: int, name: bytes, known: frozenset[int]) -> bool:
        """By something about this very name."""
        return any(i in self.done[j].known and name in self.done[j].names and self.done[j].what != "add" for j in known)

    def trace(self, name: bytes, known: frozenset[int]) -> bool:
        """Whether what is known under a name has to do with additions."""
        gone_for_all = max((self.done[i].cut for i in known if self.done[i].what in ("del", "store")), default=0)
        for i in known:
            each = self.done[i]
            if name not in each.names or self.covered_under(i, name, known):
                continue
            void = each.base[0] == "none" and each.base[1] < gone_for_all
            if (each.what == "add" and not void) or (each.what in ("put", "remove") and name in each.traced):
                return True
        return False

    def shown(self, known: frozenset[int]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for name in NAMES:
            base = self.base(name, known)
            added = [
                each.value
                for each in (self.done[i] for i in known)
                if each.what == "add" and name in each.names and each.base == base
            ]
            if base[0] == "value" or added:
                found[name] = (self.done[base[1]].value if base[0] == "value" else 0) + sum(added)
        return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "add", "add", "add", "remove", "remove", "take", "take", "take", "del", "store"]),
        st.integers(0, 2),
        st.integers(0, 5),
    ),
    min_size=3,
    max_size=40,
)


@BOTH
@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_a_field_is_its_newest_value_and_all_that_was_added_to_it(
    kind: type[Hash], steps: list[tuple[str, int, int]]
) -> None:
    """Every state is sent, and arrives late, twice, never or out of order."""
    nodes, model = replicas(), Model()
    sent: list[tuple[bytes, frozenset[int]]] = []
    for what, at, number in steps:
        node, name = nodes[at], NAMES[number % 2]
        if what == "take":
            for state, known in sent[-1 - number :][:1]:
                node.merge(state)
                node.known |= known
        else:
            _step(kind, model, node, what, name, number)
        assert kind.shown(node) == model.shown(node.known)
        sent.append((node.state, node.known))
    meet(*nodes)
    everything = frozenset().union(*(node.known for node in nodes))
    assert {node.state for node in nodes} == {nodes[0].state}
    assert kind.shown(nodes[0]) == model.shown(everything)


def _step(kind: type[Hash], model: Model, node: Replica, what: str, name: bytes, number: int) -> None:
    names = frozenset(NAMES) if what in ("del", "store") else frozenset([name])
    highest = versions.max_stamp(node.state)
    traced = frozenset(each for each in names if model.trace(each, node.known))
    base = model.base(name, node.known)
    there = model.shown(node.known)
    match what:
        case "put":
            kind.put(node, name, number)
        case "add":
            kind.add(node, name, number)
        case "remove":
            kind.remove(node, name)
            if name not in there:
                return
        case "del":
            node.set(b"", tombstone=True)
        case "store":
            kind.store(node, name, number)
    stamp, cut = (node.stamp, node.name), highest if what == "store" else node.stamp
    model.done.append(Done(what, names, stamp, node.known, cut, name, number, base, traced))
    node.known |= {len(model.done) - 1}


MIXED = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "add", "remove", "store", "zput", "zadd", "zremove", "sadd", "srem", "set", "del", "incr", "expire",
             "late", "merge"]
        ),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 4),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(MIXED)
def test_merge_is_commutative_associative_and_idempotent_whatever_types_meet(
    steps: list[tuple[str, int, int, int]],
) -> None:
    nodes = replicas()
    wall_ms = NOW_MS
    for what, at, other, number in steps:
        node, name = nodes[at], NAMES[number % 3]
        try:
            match what:
                case "put":
                    Hash.put(node, name, number, wall_ms)
                case "add":
                    Hash.add(node, name, number, wall_ms)
                case "remove":
                    Hash.remove(node, name, wall_ms=wall_ms)
                case "store":
                    (Hash, Sorted)[number % 2].store(node, name, number, wall_ms)
                case "zput":
                    Sorted.put(node, name, number, wall_ms)
                case "zadd":
                    Sorted.add(node, name, number, wall_ms)
                case "zremove":
                    Sorted.remove(node, name, wall_ms=wall_ms)
                case "sadd":
                    change(node, AddMembers((name,), MEGABYTE), wall_ms)
                case "srem":
                    change(node, RemoveMembers((name,)), wall_ms)
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
        except WrongType:
            pass
    merge_keeps_its_laws(*(node.state for node in nodes))
    meet(*nodes)
    shown = versions.live(nodes[0].state, wall_ms)
    told = [versions.fields(nodes[0].state, wall_ms), versions.scores(nodes[0].state, wall_ms)]
    told.append(versions.members(nodes[0].state, wall_ms))  # type: ignore[arg-type]
    if shown is None:
        assert told == [{}, {}, {}], "no type has anything"
    elif versions.is_plain(shown):
        assert told == [None, None, None]
    else:
        assert sum(each is not None for each in told) == 1 and any(told), "the type that is shown has something"


# -- the cases that the law is there for


@BOTH
def test_additions_at_once_all_count(kind: type[Hash]) -> None:
    a, b, c = replicas()
    kind.put(a, b"f", 5)
    meet(a, b, c)
    for node, amount in ((a, 1), (b, 10), (c, -3)):
        kind.add(node, b"f", amount)
    for node in (a, b, c):
        kind.add(node, b"new", 1)
    meet(a, b, c)
    assert kind.shown(a) == kind.shown(b) == kind.shown(c) == {b"f": 13, b"new": 3}


@BOTH
def test_a_node_has_one_contribution_however_often_it_adds(kind: type[Hash]) -> None:
    a, b, _ = replicas()
    for _ in range(100):
        kind.add(a, b"f", 1)
        kind.add(b, b"f", 1)
    meet(a, b)
    assert kind.shown(a) == {b"f": 200}
    assert len(record.unpack(a.state).siblings) == 2


@BOTH
def test_a_value_survives_a_removal_at_the_same_time(kind: type[Hash]) -> None:
    a, b, _ = replicas()
    kind.put(a, b"f", 1)
    meet(a, b)
    kind.remove(a, b"f")
    kind.put(b, b"f", 2)
    meet(a, b)
    assert kind.shown(a) == kind.shown(b) == {b"f": 2}


@BOTH
def test_an_addition_that_a_removal_has_not_seen_does_not_bring_back_what_was_there(kind: type[Hash]) -> None:
    a, b, _ = replicas()
    kind.add(a, b"f", 100)
    meet(a, b)
    kind.remove(b, b"f")
    kind.add(a, b"f", 1)  # its contribution is 101 now
    meet(a, b)
    assert kind.shown(a) == kind.shown(b) == {}
    kind.add(a, b"f", 1)
    kind.add(b, b"f", 1)
    meet(a, b)
    assert kind.shown(a) == kind.shown(b) == {b"f": 2}


@BOTH
def test_nor_where_a_value_had_covered_the_addition_before_the_removal(kind: type[Hash]) -> None:
    a, b, c = replicas()
    kind.add(a, b"f", 100)
    meet(a, b, c)
    kind.put(b, b"f", 7)
    meet(b, c)
    kind.remove(c, b"f")  # of a field that looks plain
    kind.add(a, b"f", 1)
    meet(a, b, c)
    assert kind.shown(a) == kind.shown(c) == {}


@BOTH
def test_nor_where_all_was_deleted_or_replaced_and_what_that_left_was_covered(kind: type[Hash]) -> None:
    for how in ("del", "store"):
        a, b, _ = replicas()
        kind.add(a, b"f", 100)
        meet(a, b)
        if how == "del":
            b.set(b"", tombstone=True)
            kind.put(b, b"g", 1)  # covers the tombstone
        else:
            kind.store(b, b"g", 1)
        kind.add(a, b"f", 1)
        meet(a, b)
        assert kind.shown(a) == {b"g": 1}
        kind.add(a, b"f", 1)
        kind.remove(b, b"g")  # replaces the mark
        kind.add(b, b"f", 1)
        meet(a, b)
        assert kind.shown(a) == kind.shown(b) == {b"f": 2}


@BOTH
def test_a_plain_field_leaves_nothing_but_one_mark(kind: type[Hash]) -> None:
    a, _, _ = replicas()
    for number in range(50):
        kind.put(a, b"%d" % number, 1)
        before = versions.max_stamp(a.state)
        kind.remove(a, b"%d" % number)
        assert versions.max_stamp(a.state) > before, "the greatest stamp does not fall"
    assert [each.content_type for each in record.unpack(a.state).siblings] == [sets.MARK]
    assert versions.live(a.state, NOW_MS) is None


@BOTH
def test_what_is_empty_is_dead_and_may_be_reaped(kind: type[Hash]) -> None:
    a, _, _ = replicas()
    later_ms = 1000
    kind.put(a, b"f", 1)
    kind.add(a, b"g", 1)
    assert not versions.dead(a.state, later_ms)
    kind.remove(a, b"f")
    kind.remove(a, b"g")
    assert a.state and versions.dead(a.state, later_ms)
    kind.add(a, b"g", 1)
    assert not versions.dead(a.state, later_ms)
    a.set(b"", tombstone=True)
    assert versions.dead(a.state, later_ms)


def test_a_set_keeps_what_a_mark_remembers() -> None:
    a, b, _ = replicas()
    Hash.add(a, b"f", 100)
    meet(a, b)
    b.set(b"", tombstone=True)
    Hash.put(b, b"g", 1)
    Hash.remove(b, b"g")
    change(b, AddMembers((b"m",), MEGABYTE))
    change(b, RemoveMembers((b"m",)))
    Hash.add(a, b"f", 1)
    meet(a, b)
    assert Hash.shown(b) == {}


@BOTH
def test_it_expires_and_begins_again(kind: type[Hash]) -> None:
    a, b, c = replicas()
    a.stamp = (NOW_MS << 16) - 100
    kind.put(a, b"f", 1)
    kind.add(a, b"f", 1)
    kind.add(a, b"g", 5)
    a.expire(NOW_MS + 10)
    meet(a, b, c)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == NOW_MS + 10
    late_ms = NOW_MS + 10
    assert kind.shown(a, late_ms) == {} and versions.live(a.state, late_ms) is None
    a.stamp = b.stamp = c.stamp = late_ms << 16
    kind.add(a, b"g", 1, late_ms)
    kind.add(b, b"g", 1, late_ms)
    kind.put(c, b"h", 2, late_ms)
    meet(a, b, c)
    assert kind.shown(a, late_ms) == {b"g": 2, b"h": 2}
    live = versions.live(a.state, late_ms)
    assert live is not None and live.expiry_ms == 0


@BOTH
def test_what_becomes_empty_and_begins_again_has_no_expiry(kind: type[Hash]) -> None:
    a, b, _ = replicas()
    kind.put(a, b"f", 1)
    kind.put(a, b"g", 1)
    a.expire(NOW_MS + 10)
    kind.remove(a, b"f")
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == NOW_MS + 10, "there is something left"
    b.merge(a.state)
    kind.remove(b, b"g")
    a.expire(NOW_MS + 20)  # has not seen that
    meet(a, b)
    assert versions.live(a.state, NOW_MS) is None
    kind.put(a, b"h", 1)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.expiry_ms == 0


@BOTH
def test_it_has_a_limit_that_names_itself(kind: type[Hash]) -> None:
    a, _, _ = replicas()
    kind.put(a, b"f", 1)
    before, long = a.state, b"x" * 1000
    for what in (
        SetFields(((long, b"1"),), 1000) if kind is Hash else SetScores(((long, 1.0),), 0, 1000),
        AddToField(long, 1, 1000) if kind is Hash else AddToScore(long, 1.0, 0, 1000),
    ):
        with pytest.raises(CollectionTooLarge, match=r"the (hash|sorted set) would take \d+ bytes, the limit is 1000 "):
            change(a, what)
    assert a.state == before


def test_types_written_at_once_are_all_kept_and_the_newest_is_shown() -> None:
    a, b, c = replicas()
    a.set(b"v")
    b.stamp, c.stamp = a.stamp + 10, a.stamp + 20
    Hash.put(b, b"f", 1)
    change(b, SetFields(((b"\xff", b"\xfe"),), MEGABYTE))
    Sorted.put(c, b"m", 2)
    Sorted.put(c, b"\xff", 1)
    change(c, SetScores(((b"top", inf),), 0, MEGABYTE))
    meet(a, b, c)
    live = versions.live(a.state, NOW_MS)
    assert live is not None and live.content_type == SORTED.entry
    assert versions.fields(a.state, NOW_MS) is None and versions.members(a.state, NOW_MS) is None
    ranked, fields, plain = versions.siblings(a.state, NOW_MS)
    assert (ranked.content_type, fields.content_type, plain.value) == (SORTED_TYPE, HASH_TYPE, b"v")
    assert msgspec.json.decode(ranked.value) == [[{"base64": "/w=="}, 1], ["m", 2], ["top", "inf"]]
    assert msgspec.json.decode(fields.value) == [["f", "1"], [{"base64": "/w=="}, {"base64": "/g=="}]]
    Sorted.put(b, b"m", 3)
    (only,) = versions.siblings(b.state, NOW_MS)
    assert only.content_type == SORTED_TYPE, "the next write covers what it has seen"


def test_a_hash_is_told_as_an_object() -> None:
    a, _, _ = replicas()
    change(a, SetFields(((b"name", b"Ann"), (b"raw", b"\xff")), MEGABYTE))
    (only,) = versions.siblings(a.state, NOW_MS)
    assert msgspec.json.decode(only.value) == {"name": "Ann", "raw": {"base64": "/w=="}}


@pytest.mark.parametrize("operation", ["append", "set_add", "score_remove", "score_set", "increment"])
def test_commands_of_another_type_change_nothing(operation: str) -> None:
    a, _, _ = replicas()
    Hash.put(a, b"f", 1)
    arguments: dict[str, tuple[bytes | int, ...]] = {
        "append": (b"x", 100),
        "increment": (b"1", 0),
        "set_add": (MEGABYTE, b"m"),
        "score_set": (MEGABYTE, 0, b"m", maps.score_bytes(1.0)),
        "score_remove": (b"m",),
    }
    with pytest.raises(WrongType):
        wanted = OPERATIONS[operation](a.state, arguments[operation], NOW_MS)
        assert wanted is not None and not isinstance(wanted, versions.Write)
        change(a, wanted)
    a.set(b"v")
    for refused in (
        SetFields(((b"f", b"1"),), MEGABYTE),
        AddToField(b"f", 1, MEGABYTE),
        RemoveFields(HASH.entry, (b"f",)),
    ):
        with pytest.raises(WrongType):
            change(a, refused)


# -- numbers


def test_a_field_that_is_no_number_is_left_alone() -> None:
    a, _, _ = replicas()
    change(a, SetFields(((b"t", b"text"), (b"r", b"1.5"), (b"z", b"01"), (b"top", b"9223372036854775807")), MEGABYTE))
    before = a.state
    for field, amount, refusal, text in (
        (b"t", 1, FieldNotANumber, "hash value is not an integer"),
        (b"r", 1, FieldNotANumber, "hash value is not an integer"),
        (b"z", 1, FieldNotANumber, "hash value is not an integer"),
        (b"t", Decimal(1), FieldNotANumber, "hash value is not a float"),
        (b"top", 1, NumberOverflow, "increment or decrement would overflow"),
    ):
        with pytest.raises(refusal, match=text):
            change(a, AddToField(field, amount, MEGABYTE))
    assert a.state == before


@given(st.lists(st.decimals(-1000, 1000, places=4), min_size=2, max_size=6))
def test_decimal_sums_are_exact_in_any_order(amounts: list[Decimal]) -> None:
    shown = set()
    for order in list(permutations(amounts))[:6]:
        nodes = replicas(len(order))
        for node, amount in zip(nodes, order, strict=True):
            change(node, AddToField(b"f", counters.decimal_of(str(amount).encode()), MEGABYTE))
        Random(1).shuffle(nodes)
        for node in nodes[1:]:
            nodes[0].merge(node.state)
        fields = versions.fields(nodes[0].state, NOW_MS)
        assert fields is not None
        shown.add(fields[b"f"])
    assert shown == {counters.text_of(sum(amounts, start=Decimal(0)))}


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6))
def test_a_score_is_one_number_whatever_the_order(scores: list[float]) -> None:
    found = {repr(maps.total_of(order) + 0.0) for order in list(permutations(scores))[:120]}
    assert len(found) == 1 and "nan" not in found


@pytest.mark.parametrize(
    ("scores", "total"),
    [
        ([1e308, 1e308, -1e308], 1e308),
        ([1e308, 1e308], inf),
        ([-1e308, -1e308], -inf),
        ([inf, 1.0], inf),
        ([inf, -inf], 0.0),
        ([0.1] * 10, 1.0),
    ],
)
def test_sums_at_the_edge(scores: list[float], total: float) -> None:
    assert maps.total_of(scores) == total


def test_what_is_no_score_is_refused() -> None:
    a, _, _ = replicas()
    change(a, SetScores(((b"m", inf),), 0, MEGABYTE))
    before = a.state
    with pytest.raises(ScoreNotANumber):
        change(a, AddToScore(b"m", -inf, 0, MEGABYTE))
    assert a.state == before


@pytest.mark.parametrize(
    ("conditions", "score", "there", "absent"),
    [
        (0, 3.0, 3.0, 3.0),
        (NX, 3.0, 5.0, 3.0),
        (XX, 3.0, 3.0, None),
        (GT, 3.0, 5.0, 3.0),
        (GT, 7.0, 7.0, 7.0),
        (LT, 3.0, 3.0, 3.0),
        (LT, 7.0, 5.0, 7.0),
        (XX | GT, 7.0, 7.0, None),
    ],
)
def test_conditions_are_judged_by_all_that_is_known(
    conditions: int, score: float, there: float, absent: float | None
) -> None:
    a, b, _ = replicas()
    change(a, SetScores(((b"m", 5.0),), 0, MEGABYTE))
    change(a, SetScores(((b"m", score), (b"n", score)), conditions, MEGABYTE))
    expected = {b"m": there} if absent is None else {b"m": there, b"n": absent}
    assert versions.scores(a.state, NOW_MS) == expected
    change(b, SetScores(((b"m", 5.0),), 0, MEGABYTE))
    for member in (b"m", b"n"):
        change(b, AddToScore(member, score - 5.0 * (member == b"m"), conditions, MEGABYTE))
    assert versions.scores(b.state, NOW_MS) == expected


# -- whole collections


ENTRIES = {b"set": sets.MEMBER, b"hash": HASH.entry, b"zset": SORTED.entry}


@pytest.mark.parametrize("kind", [b"set", b"hash", b"zset"])
def test_a_copy_is_the_same_again_with_an_expiry_of_its_own(kind: bytes) -> None:
    a, b, _ = replicas()
    match kind:
        case b"set":
            change(a, AddMembers((b"x", b"y"), MEGABYTE))
        case b"hash":
            change(a, SetFields(((b"x", b"1"), (b"y", b"")), MEGABYTE))
            change(a, AddToField(b"x", 2, MEGABYTE))
        case _:
            change(a, SetScores(((b"x", 1.5), (b"y", -inf)), 0, MEGABYTE))
            change(a, AddToScore(b"x", 2.0, 0, MEGABYTE))
    b.set(b"something else")
    b.stamp = (NOW_MS << 16) - 100
    shown = taken(a.state, NOW_MS)
    assert shown is not None
    wanted = OPERATIONS["place"](b.state, (1, MEGABYTE, NOW_MS + 10, *shown[1:]), NOW_MS)
    assert isinstance(wanted, Place)
    change(b, wanted)
    (one,), (other,) = versions.siblings(a.state, NOW_MS), versions.siblings(b.state, NOW_MS)
    assert (one.content_type, one.value) == (other.content_type, other.value)
    live = versions.live(b.state, NOW_MS)
    assert live is not None and (live.content_type, live.expiry_ms) == (ENTRIES[kind], NOW_MS + 10)
    assert versions.live(b.state, NOW_MS + 10) is None


def test_nothing_stored_deletes() -> None:
    a, _, _ = replicas()
    change(a, StoreAll(SORTED.entry, (), MEGABYTE))
    assert a.state == b""
    Sorted.put(a, b"m", 1)
    change(a, StoreAll(SORTED.entry, (), MEGABYTE))
    assert versions.live(a.state, NOW_MS) is None and a.state
