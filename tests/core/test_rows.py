"""Collections held as rows (V3, V4): they are what the same records as bytes are, whatever comes in whatever order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.forms import ALWAYS, NEVER, opening
from tests.core.test_counters import NOW_MS, Replica, replicas
from tests.core.test_maps import MEGABYTE, change

from ringwise.core import counters, deltas, maps, record, rows, sets, versions
from ringwise.core.changes import AddMembers, Change, Expire, Increment, RemoveMembers, StoreMembers
from ringwise.core.context import Seen
from ringwise.core.copying import Forget
from ringwise.core.counters import is_value
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, RecordDamaged, WrongType
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.core.map_changes import NX, AddToField, AddToScore, RemoveFields, SetFields, SetScores, StoreAll
from ringwise.core.maps import HASH, SORTED
from ringwise.core.order import Order
from ringwise.core.ranges import LEX, RANK, SCORE, Range, ranked
from ringwise.core.rows import Rows

OPERATIONS = [
    "sadd", "srem", "sstore", "hset", "hincr", "hrem", "hstore", "zadd", "zincr", "zrem", "zstore", "set", "del", "incr",
    "expire", "forget", "late", "whole", "send", "deliver", "read",
]  # fmt: skip
OF_SETS = ["sadd", "sadd", "srem", "expire", "late", "del", "whole", "send", "deliver", "deliver", "read", "read"]
OF_HASHES = ["hset", "hset", "hincr", "hrem", "expire", "late", "del", "send", "deliver", "deliver", "read", "read"]
OF_SORTED = ["zadd", "zadd", "zincr", "zrem", "expire", "late", "zstore", "send", "deliver", "deliver", "read", "read"]
NUMBERS = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int, int]]:
    wanted = draw(st.sampled_from([OPERATIONS, OF_SETS, OF_HASHES, OF_SORTED]))
    return [(draw(st.sampled_from(wanted)), *draw(NUMBERS)) for _ in range(draw(st.integers(0, 30)))]


def names(number: int) -> tuple[bytes, ...]:
    return tuple(b"m%d" % each for each in range(number % 3, number % 3 + 1 + number // 3))


def do(node: Replica, what: str, number: int, wall_ms: int) -> None:
    one, several = names(number)[0], names(number)
    changes: dict[str, Callable[[], Change]] = {
        "sadd": lambda: AddMembers(several, MEGABYTE),
        "srem": lambda: RemoveMembers(several),
        "sstore": lambda: StoreMembers(several, MEGABYTE),
        "hset": lambda: SetFields(tuple((name, b"%d" % number) for name in several), MEGABYTE),
        "hincr": lambda: AddToField(one, number, MEGABYTE),
        "hrem": lambda: RemoveFields(HASH.entry, several),
        "hstore": lambda: StoreAll(HASH.entry, tuple((name, b"7") for name in several), MEGABYTE),
        "zadd": lambda: SetScores(tuple((name, float(number)) for name in several), 0, MEGABYTE),
        "zincr": lambda: AddToScore(one, float(number), 0, MEGABYTE),
        "zrem": lambda: RemoveFields(SORTED.entry, several),
        "zstore": lambda: StoreAll(SORTED.entry, tuple((name, maps.score_bytes(2.0)) for name in several), MEGABYTE),
        "incr": lambda: Increment(number),
        "expire": lambda: Expire(wall_ms + 10 * number),
        "forget": lambda: Forget(versions.context_of(node.state)),
    }
    if what in changes:
        change(node, changes[what](), wall_ms)
    elif what == "set":
        node.set(b"%d" % number, expiry_ms=(wall_ms + 10) * (number % 2))
    else:
        node.set(b"", tombstone=True)


def outcome(of: Callable[[], object]) -> object:
    try:
        return of()
    except Failure as error:
        return type(error)


def everything(state: bytes, wall_ms: int) -> list[object]:
    """What anybody can ask of a record."""
    live = outcome(lambda: versions.live(state, wall_ms))
    shown = live if not isinstance(live, record.Sibling) else (live.content_type, live.expiry_ms)
    members, fields, scores = (
        outcome(lambda of=of: of(state, wall_ms))  # type: ignore[misc]
        for of in (versions.members, versions.fields, versions.scores)
    )
    ranges = [
        Range(RANK, b"0", b"1"),
        Range(RANK, b"-2", b"-1", reverse=True),
        Range(SCORE, b"(1", b"3", reverse=True, offset=1, count=1),
        Range(SCORE, b"-inf", b"(4", offset=1),
        Range(LEX, b"[m1", b"+"),
        Range(LEX, b"(m0", b"(m2", reverse=True, count=1),
    ]
    kind = (members is not None, fields is not None, scores is not None)
    return [
        record.whole(state),
        shown,
        kind,
        sorted(members) if isinstance(members, Mapping) else members,
        dict(fields) if isinstance(fields, Mapping) else fields,
        (len(scores), dict(scores), [each.of(ranked(scores)) for each in ranges])
        if isinstance(scores, Mapping)
        else scores,
        versions.max_stamp(state),
        versions.context_of(state) if state else None,
        versions.dead(state, wall_ms),
        outcome(lambda: versions.estimate(state, wall_ms)),
        versions.newest(state),
        versions.is_part(state),
        record.encode(record.decode(record.whole(state))) == record.whole(state),
    ]


@settings(max_examples=600, deadline=None)
@given(histories())
def test_rows_are_what_bytes_are(history: list[tuple[str, int, int, int]]) -> None:
    """The same operations in two worlds, and what one sends reaches both: after each of them all is the same."""
    as_rows, as_bytes = replicas(), replicas()
    wall_ms = NOW_MS
    sent: list[bytes] = []

    def receive(at: int, wire: bytes) -> None:
        with opening(ALWAYS):
            as_rows[at].merge(wire)
        with opening(NEVER):
            as_bytes[at].merge(deltas.part_of(wire) if deltas.is_delta(wire) else wire)

    for what, at, other, number in history:
        base = as_rows[at].state
        match what:
            case "late":
                wall_ms += 10
            case "whole":
                receive(at, record.whole(as_rows[other].state))
            case "read":
                with opening(ALWAYS):
                    told = versions.news(as_rows[other].state, rows.digest_of(base)) if base else None
                if told is not None:
                    receive(at, told)
            case "deliver":
                if sent:
                    receive(at, sent[number % len(sent)])
            case _:
                with opening(ALWAYS):
                    one = outcome(lambda: do(as_rows[at], what, number, wall_ms))  # noqa: B023
                with opening(NEVER):
                    two = outcome(lambda: do(as_bytes[at], what, number, wall_ms))  # noqa: B023
                assert one == two
                if one is None:
                    sent.append(rows.as_sent(base[:8], as_rows[at].state)[1])
        with opening(ALWAYS):
            found = everything(as_rows[at].state, wall_ms)
        with opening(NEVER):
            assert found == everything(as_bytes[at].state, wall_ms)
    with opening(ALWAYS):
        for a in as_rows:
            for b in as_rows:
                a.merge(b.state)
    with opening(NEVER):
        for a in as_bytes:
            for b in as_bytes:
                a.merge(b.state)
    assert len({record.whole(node.state) for node in (*as_rows, *as_bytes)}) == 1


def large(count: int = 1000) -> Replica:
    (node,) = replicas(1)
    change(node, AddMembers(tuple(b"member-%d" % each for each in range(count)), MEGABYTE))
    assert isinstance(node.state, Rows)
    return node


def test_what_is_sent_of_a_change_does_not_grow_with_the_collection() -> None:
    sizes = []
    for count in (1000, 4000):
        node = large(count)
        before = node.state
        change(node, AddMembers((b"one more",), MEGABYTE))
        base, wire = rows.as_sent(before[:8], node.state)
        assert deltas.is_delta(wire)
        assert base == before[:8] + b"\1", "whoever holds that very state must not take it for the next one"
        sizes.append(len(wire))
    assert sizes[0] == sizes[1] < 150


def test_a_delta_on_what_it_was_made_from_gives_that_very_state() -> None:
    node = large()
    before = node.state
    change(node, AddMembers((b"one more",), MEGABYTE))
    change(node, RemoveMembers((b"member-7", b"member-8")))
    wire = rows.as_sent(before[:8], node.state)[1]
    assert deltas.is_delta(wire)
    for held in (before, record.whole(before)):
        assert record.whole(versions.merge(held, wire)) == record.whole(node.state)
    assert len(versions.members(node.state, NOW_MS) or ()) == 999


def test_a_gap_is_seen_as_one() -> None:
    """V3: who got the second of two writes has not seen the first, and takes it when it comes."""
    node = large()
    start = node.state
    change(node, AddMembers((b"first",), MEGABYTE))
    between = node.state
    change(node, AddMembers((b"second",), MEGABYTE))
    second = rows.as_sent(between[:8], node.state)[1]
    behind = versions.merge(start, second)
    there = versions.members(behind, NOW_MS)
    assert there is not None
    assert b"second" in there and b"first" not in there
    assert versions.context_of(behind).cloud
    assert versions.merge(behind, rows.as_sent(start[:8], between)[1]) == node.state


@pytest.mark.parametrize("adds", [AddToField(b"n", 1, MEGABYTE), AddToScore(b"n", 1.0, 0, MEGABYTE)])
def test_a_total_is_not_counted_twice_where_the_one_between_is_missing(adds: AddToField | AddToScore) -> None:
    """Each contribution of an actor replaces its last one; who has missed one holds two, of which the later says it all."""
    node, other = replicas(2)
    field = isinstance(adds, AddToField)
    many = [(b"m%d" % each, b"1") for each in range(1000)]
    fill: Change = (
        SetFields(tuple(many), MEGABYTE) if field else SetScores(tuple((name, 1.0) for name, _ in many), 0, MEGABYTE)
    )
    change(node, fill)
    change(node, adds)
    other.merge(node.state)
    change(node, adds)
    between = node.state
    change(node, adds)
    other.merge(rows.as_sent(between[:8], node.state)[1])

    def shown(state: bytes) -> int:
        found = versions.fields(state, NOW_MS) if field else versions.scores(state, NOW_MS)
        assert found is not None
        return int(found[b"n"])

    assert shown(other.state) == 3
    change(other, adds)
    assert shown(other.state) == 4
    other.merge(node.state)
    assert shown(other.state) == 4
    assert shown(versions.merge(node.state, other.state)) == 4


def test_who_holds_nothing_has_a_part_and_says_so() -> None:
    node = large()
    before = node.state
    change(node, AddMembers((b"one more",), MEGABYTE))
    part = versions.merge(b"", rows.as_sent(before[:8], node.state)[1])
    assert versions.is_part(part) and versions.members(part, NOW_MS) == {b"one more": part and _only(part)}
    assert not versions.is_part(versions.merge(part, before)) and versions.merge(part, before) == node.state


def _only(part: bytes) -> list[record.Sibling]:
    return record.decode(part).siblings


def test_two_that_differ_by_what_is_under_way_send_only_that() -> None:
    a, b = replicas(2)
    change(a, AddMembers(tuple(b"member-%d" % each for each in range(1000)), MEGABYTE))
    b.merge(record.whole(a.state))
    change(b, AddMembers((b"from b",), MEGABYTE))
    change(a, AddMembers((b"from a",), MEGABYTE))
    change(a, AddMembers((b"from a, too",), MEGABYTE))
    told = versions.news(b.state, rows.digest_of(a.state))
    assert told is not None and deltas.is_delta(told) and len(told) < 200
    a.merge(told)
    assert versions.merge(a.state, told) is a.state
    b.merge(a.state)
    assert a.state == b.state
    change(a, AddMembers((b"once more",), MEGABYTE))
    assert versions.news(b.state, rows.digest_of(a.state)) is None, "b is behind, by a step that a knows"


def test_what_is_remembered_is_bounded() -> None:
    node = large()
    for each in range(300):
        change(node, AddMembers((b"x%d" % each,), MEGABYTE))
    assert isinstance(node.state, Rows)
    assert 20 < len(node.state.steps) < 200
    assert sum(len(step.delta) for step in node.state.steps) <= node.state.size // rows.STEPS_SHARE
    change(node, AddMembers((b"y" * 100_000,), MEGABYTE))
    change(node, AddMembers((b"z",), MEGABYTE))
    assert isinstance(node.state, Rows)
    assert len(node.state.steps) == 1, "more than the rest"


def test_a_write_that_changes_nothing_sends_what_it_found() -> None:
    """Its owners are to have it, as after any write; but not all the rest."""
    node = large()
    before = node.state
    change(node, AddMembers((b"member-7", b"member-8"), MEGABYTE))
    assert node.state == before
    base, wire = rows.as_sent(before[:8], node.state)
    assert base == before[:8] + b"\1" and len(wire) < 200
    assert versions.merge(node.state, wire) is node.state
    there = versions.members(versions.merge(b"", wire), NOW_MS)
    assert there is not None and set(there) == {b"member-7", b"member-8"}


def sent_members(wire: bytes) -> set[bytes]:
    return {each.value for each in deltas.delta_of(wire).siblings}


def test_what_is_found_there_is_sent_though_the_read_brought_news() -> None:
    """A member that this node alone has, since nobody heard of its first SADD: after the second one others have it, too."""
    a, b = replicas(2)
    change(a, AddMembers(tuple(b"member-%d" % each for each in range(1000)), MEGABYTE))
    b.merge(record.whole(a.state))
    start = b.state
    change(a, AddMembers((b"x",), MEGABYTE))
    change(b, AddMembers((b"n",), MEGABYTE))
    held = a.state
    a.merge(b.state)
    change(a, AddMembers((b"x",), MEGABYTE))
    assert sent_members(rows.as_sent(held[:8], a.state)[1]) == {b"x", b"n"}
    assert b"x" in (versions.members(versions.merge(start, rows.as_sent(held[:8], a.state)[1]), NOW_MS) or ())


def test_of_members_some_of_which_are_new_all_are_sent() -> None:
    for change_of in (AddMembers((b"x", b"new"), MEGABYTE), SetScores(((b"x", 2.0), (b"new", 2.0)), NX, MEGABYTE)):
        (node,) = replicas(1)
        names = [b"member-%d" % each for each in range(1000)] + [b"x"]
        of_set = isinstance(change_of, AddMembers)
        fill: Change = (
            AddMembers(tuple(names), MEGABYTE)
            if of_set
            else SetScores(tuple((name, 1.0) for name in names), 0, MEGABYTE)
        )
        change(node, fill)
        before = node.state
        change(node, change_of)
        wire = rows.as_sent(before[:8], node.state)[1]
        assert deltas.is_delta(wire) and len(deltas.delta_of(wire).siblings) == 2


def test_a_delta_beside_values_shadows_nothing_by_mistake() -> None:
    """Siblings beside a large collection, and then a delta: it is asked for its newest value, and has none."""
    node = large()
    token = versions.context_of(node.state)
    change(node, AddMembers(tuple(b"later-%d" % each for each in range(300)), MEGABYTE))
    for number in range(2):
        write = versions.Write(b"v%d" % number, context=token)
        node.state = node.dots.write(node.state, write, node.next_stamp())
    before = node.state
    assert rows.opened(before) is not None
    node.expire(NOW_MS + 1000)
    wire = rows.as_sent(rows.opened(before)[:8], node.state)[1]  # type: ignore[index]
    assert deltas.is_delta(wire) and versions.newest(wire) is None
    assert versions.shadow(versions.merge(before, wire), wire)


def test_what_was_deleted_once_is_no_dearer_for_ever() -> None:
    """The usual leaderboard: deleted, and then increments of members that are not there. They name the cut, so all count."""
    (node,) = replicas(1)
    node.set(b"v")
    node.set(b"", tombstone=True)
    change(node, SetScores(tuple((b"m%d" % each, 1.0) for each in range(1000)), 0, MEGABYTE))
    change(node, AddToScore(b"new", 2.0, 0, MEGABYTE))
    state = rows.opened(node.state)
    assert state is not None and state.loose
    fields = maps.Fields.of_rows(state, NOW_MS)
    assert fields is not None and fields.score(b"new") == 2.0 and fields.count == 1001


def test_many_members_at_once_take_a_time_in_proportion() -> None:
    """Counted in dots looked at, not in seconds: they are put in order once."""
    node = large()
    passes = 0
    compact = Seen._compact

    def counting(self: Seen) -> None:
        nonlocal passes
        passes += 1
        compact(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Seen, "_compact", counting)
        change(node, AddMembers(tuple(b"x%d" % each for each in range(2000)), MEGABYTE))
        change(node, RemoveMembers(tuple(b"x%d" % each for each in range(0, 2000, 3))))
    assert passes < 20


def test_a_large_record_that_is_bytes_becomes_rows_when_it_is_merged() -> None:
    node = large()
    raw = bytes(record.whole(node.state))
    assert isinstance(versions.merge(raw, bytes(bytearray(raw)) + b""), bytes)
    assert isinstance(versions.merge(raw, node.state), Rows)
    assert versions.covers(raw, node.state) and versions.covers(node.state, raw)


def test_what_is_a_row_is_told_by_how_its_type_begins() -> None:
    """core/record.py knows no types, and must agree with those that are there."""
    types = frozenset().union(*maps.ROLES.values())
    others = {sets.MARK, counters.EXPIRY, counters.COUNT, ESTIMATE, ""}

    def of(content_type: str) -> record.Sibling:
        return record.Sibling(b"a" * 16, 1, 1, 0, 0, content_type, False, b"")

    assert {each for each in types | others if record.is_row(of(each))} == types - others


def test_a_damaged_delta_is_refused() -> None:
    node = large()
    before = node.state
    change(node, AddMembers((b"one more",), MEGABYTE))
    wire = bytearray(rows.as_sent(before[:8], node.state)[1])
    wire[-1] ^= 1
    with pytest.raises(RecordDamaged):
        versions.merge(before, bytes(wire))


def test_a_value_written_beside_is_kept() -> None:
    a, b = replicas(2)
    change(a, AddMembers(tuple(b"member-%d" % each for each in range(1000)), MEGABYTE))
    b.set(b"plain")
    a.merge(b.state)
    assert any(map(is_value, record.unpack(a.state).siblings))
    assert len(versions.siblings(a.state, NOW_MS)) == 2


PLACES = st.tuples(st.integers(0, 3).map(float), st.sampled_from([b"a", b"b", b"c", b"d"]))


@given(st.lists(st.tuples(st.booleans(), PLACES, st.integers(0, 30)), max_size=40))
def test_an_order_serves_every_state(steps: list[tuple[bool, tuple[float, bytes], int]]) -> None:
    states: list[tuple[Order, set[tuple[float, bytes]]]] = [(Order(), set())]
    for adds, place, at in steps:
        order, model = states[at % len(states)]
        if adds != (place in model):
            changed = model ^ {place}
            states.append((order.changed([] if adds else [place], [place] if adds else []), changed))
        order, model = states[(at * 7) % len(states)]
        assert list(order.places()) == sorted(model)


def test_thousands_of_writes_are_what_they_are_as_bytes() -> None:
    """What the histories above are too short for: many rows, long chains of states, the order kept throughout."""
    rng = Random(7)
    (as_rows,), (as_bytes,) = replicas(1), replicas(1)
    for each in range(600):
        name, score = b"m%d" % rng.randrange(200), float(rng.randrange(50))
        changes: list[Change] = [
            SetScores(((name, score),), 0, MEGABYTE),
            AddToScore(name, score, 0, MEGABYTE),
            RemoveFields(SORTED.entry, (name,)),
        ]
        what = rng.choice(changes)
        change(as_rows, what)
        with opening(NEVER):
            change(as_bytes, what)
        if each % 20 == 0:
            found = versions.scores(as_rows.state, NOW_MS)
            with opening(NEVER):
                expected = versions.scores(as_bytes.state, NOW_MS)
                assert found is not None and expected is not None
                assert list(ranked(found)) == list(ranked(expected))
            assert record.whole(as_rows.state) == as_bytes.state
    assert isinstance(as_rows.state, Rows)


@pytest.mark.parametrize("seed", range(20))
def test_steps_of_states_that_share_a_list_are_their_own(seed: int) -> None:
    """Beside tuples: whichever state is followed, and however much was forgotten."""
    rng = Random(seed)
    states = [(deltas.Steps(), tuple[deltas.Step, ...]())]
    for number in range(3_000):
        steps, model = states[-1] if rng.random() < 0.9 else rng.choice(states)
        step = deltas.Step(b"%08d" % number, bytes(rng.choice((1, 10, 200))))
        size_max = rng.choice((10, 3_000, 200_000))
        size = sum(len(each.delta) for each in model) + len(step.delta)
        kept = list(model)
        while kept and (len(kept) >= deltas.STEPS_MAX or size > size_max):
            size -= len(kept.pop(0).delta)
        states.append((steps.and_then(step, size_max), (*kept, step)))
        del states[:-5]
        assert len(states[-1][0]._all) <= 2 * deltas.STEPS_MAX + 1
    for steps, model in states:
        assert (len(steps), tuple(steps), steps[:], steps[-1]) == (len(model), model, list(model), model[-1])
        assert steps.size == sum(len(step.delta) for step in model)
        at = rng.randrange(len(model))
        assert steps.since({model[at].base, b"another"}) == list(model[at:])
        assert steps.since({b"another"}) is None


def test_an_increment_is_refused_without_a_look_at_all_of_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    with opening(ALWAYS):
        held = StoreMembers(tuple(b"%d" % number for number in range(100)), MEGABYTE).apply(
            replicas()[0].dots, b"", 9, NOW_MS
        )
        assert isinstance(held, Rows)
        monkeypatch.setattr(Rows, "state", lambda _self: pytest.fail("all of it"))
        with pytest.raises(WrongType):
            Increment(1).apply(replicas()[1].dots, held, 99, NOW_MS)


def orders() -> int:
    """How many are alive."""
    gc.collect()
    return sum(type(each) is Order for each in gc.get_objects())


def test_a_state_that_came_as_bytes_does_not_keep_what_came_since() -> None:
    with opening(ALWAYS):
        dots, before = DotSource(b"nodeid", b"inca"), orders()
        first = SetScores(((b"m", 1.0), (b"n", 2.0)), 0, MEGABYTE).apply(dots, b"", 1, NOW_MS)
        held = rows.held(record.whole(first))
        for number in range(50):
            state = rows.opened(held)
            assert state is not None
            assert len(state.in_order()) == number + 2
            held = SetScores(((b"n%d" % number, 1.0),), 0, MEGABYTE).apply(dots, held, number + 2, NOW_MS)
        assert orders() - before < 5


def test_a_state_that_was_written_out_whole_does_not_keep_what_came_since() -> None:
    """A flush writes it out, and then a leaderboard may change a million times before the next one."""
    with opening(ALWAYS):
        dots, before = DotSource(b"nodeid", b"inca"), orders()
        held = b""
        for number in range(50):
            score = SetScores(((b"m", float(number)), (b"n%d" % number, 1.0)), 0, MEGABYTE)
            held = score.apply(dots, held, number + 1, NOW_MS)
            state = rows.opened(held)
            assert state is not None
            assert len(state.in_order()) == number + 2
            if number < 10:
                assert record.whole(held)
        assert orders() - before < 5
