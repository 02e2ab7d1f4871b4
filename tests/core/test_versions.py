"""The version algebra on any states (V1 to V3, V6), the hot path against the general one, contexts and their tokens.

What histories of puts, merges, crashes and restarts come to is in test_versions_history.py.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core import versions
from ringwise.core.context import TOKEN_BYTES_MAX, Context, Seen
from ringwise.core.dots import DotSource
from ringwise.core.errors import BadContext, RecordDamaged
from ringwise.core.record import COUNTER_MAX, FORM_AT, PLAIN, Record, Sibling, decode, encode
from ringwise.core.versions import Write

NODE, INCARNATION = b"\1" * 6, b"\1" * 4
NEVER = 0
NOW_MS = 1_000_000

# Actors of zeros and ones: prefixes then also turn up across the borders of entries, where they mean nothing.
tails = st.binary(min_size=6, max_size=6).map(lambda raw: bytes(byte & 1 for byte in raw))
own_actors = tails.map(lambda tail: NODE + INCARNATION + tail)
any_actors = own_actors | st.binary(min_size=16, max_size=16).map(lambda raw: bytes(byte & 1 for byte in raw))
counters = st.integers(1, 3) | st.sampled_from([255, 256, COUNTER_MAX - 1, COUNTER_MAX])


def plain(context: dict[bytes, int], actor: bytes, stamp: int = 5, value: bytes = b"old") -> bytes:
    one = Sibling(actor, context[actor], stamp, NEVER, 0, "", False, value)
    return encode(Record(sorted(context.items()), [], [one]))


@st.composite
def plain_records(draw: st.DrawFn) -> bytes:
    context = draw(st.dictionaries(any_actors, counters, min_size=1, max_size=6))
    actor = draw(st.sampled_from(sorted(context)))
    return plain(context, actor, draw(st.sampled_from([5, 6, 7, 1 << 60])))


# --- the hot path gives the bytes of the general one


@given(plain_records() | st.just(b""), st.binary(max_size=9), st.integers(0, 9), st.integers(1, 3))
def test_put_gives_what_a_general_write_gives(old: bytes, value: bytes, stamp: int, next_epoch: int) -> None:
    hot = DotSource(NODE, INCARNATION, next_epoch)
    general = DotSource(NODE, INCARNATION, next_epoch)
    new = hot.put(old, value, stamp)
    assert new == general.write(old, Write(value), stamp)
    assert hot.next_epoch == general.next_epoch
    assert versions.value_of(new, NOW_MS) == value
    assert versions.max_stamp(new) >= max(stamp, versions.max_stamp(old) + 1 if old else 0)
    assert new == encode(decode(new))
    assert versions.merge(old, new) == versions.merge(new, old) == new


def test_put_counts_on_in_the_greatest_epoch_of_its_incarnation() -> None:
    source = DotSource(NODE, INCARNATION, next_epoch=9)
    first, second = (source.prefix + epoch.to_bytes(6, "big") for epoch in (3, 4))
    for live in (first, second):
        after = decode(source.put(plain({first: 7, second: 2}, live), b"new", 8))
        assert dict(after.context) == {first: 7, second: 3}
    assert source.next_epoch == 9


@pytest.mark.parametrize("own_is_live", [True, False])
def test_a_counter_at_its_end_takes_a_new_epoch(own_is_live: bool) -> None:
    source = DotSource(NODE, INCARNATION, next_epoch=9)
    own, other = source.prefix + bytes(6), b"other node, else"
    old = plain({own: COUNTER_MAX, other: 1}, own if own_is_live else other)
    after = source.put(old, b"new", 8)
    new_epoch = source.prefix + (9).to_bytes(6, "big")
    assert dict(decode(after).context) == {own: COUNTER_MAX, other: 1, new_epoch: 1}
    assert dict(decode(source.put(after, b"newer", 9)).context)[new_epoch] == 2


def test_the_versions_of_one_write_are_in_order_also_where_an_actor_is_used_up() -> None:
    dots = DotSource(b"nodeid", b"inca", next_epoch=9)
    first, last = (dots.prefix + epoch.to_bytes(6, "big") for epoch in (1, 2))
    held = encode(Record([(first, 200), (last, COUNTER_MAX - 1)], [], [Sibling(first, 200, 1, 0, 0, "", False, b"")]))
    after = dots.write_each(held, [("", b"a"), ("", b"b"), ("", b"c")], Context(), 5)
    assert decode(after).context == [(first, 202), (last, COUNTER_MAX)]
    seen = versions.seen_by(held)
    assert dots._next_dots(seen, Seen(), 3) == [(first, 201), (first, 202), (last, COUNTER_MAX)]


def test_the_256th_actor_makes_a_record_general_and_nothing_is_lost() -> None:
    context = {number.to_bytes(16, "big"): 1 for number in range(255)}
    old = plain(context, min(context))
    source = DotSource(NODE, INCARNATION)
    after = source.put(old, b"new", 8)
    assert old[FORM_AT] == PLAIN != after[FORM_AT]
    assert len(decode(after).context) == 256
    assert versions.value_of(after, NOW_MS) == b"new"
    assert versions.value_of(source.put(after, b"newer", 9), NOW_MS) == b"newer"
    assert versions.covers(after, old)


# --- merge on any states, against sets of dots


def expand(state: Record) -> set[tuple[bytes, int]]:
    """The obvious form of a context: every dot by itself."""
    return {(actor, n) for actor, counter in state.context for n in range(1, counter + 1)} | set(state.cloud)


def compact(seen: set[tuple[bytes, int]]) -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    vector: dict[bytes, int] = {}
    for actor, _ in seen:
        reached = 0
        while (actor, reached + 1) in seen:
            reached += 1
        vector[actor] = reached
    context = sorted((actor, counter) for actor, counter in vector.items() if counter)
    return context, sorted((actor, counter) for actor, counter in seen if counter > vector[actor])


@st.composite
def states(draw: st.DrawFn, contents: int = 1) -> bytes:
    """Any record over two actors; a dot has the same content everywhere unless `contents` allows more."""
    dots = st.tuples(st.sampled_from([b"A" * 16, b"B" * 16]), st.integers(1, 4))
    seen = draw(st.sets(dots))
    alive = sorted(draw(st.sets(st.sampled_from(sorted(seen)), max_size=3))) if seen else []
    context, cloud = compact(seen)
    found = []
    for actor, counter in alive:
        content = draw(st.integers(1, contents))
        special = NOW_MS if counter == 3 else NEVER
        found.append(Sibling(actor, counter, counter, special, 0, "", counter == 4, b"%d" % content))
    return encode(Record(context, cloud, found, draw(st.sampled_from([0, 0, 1])), draw(st.sampled_from([0, 0, 1]))))


def slow_merge(a: bytes, b: bytes) -> bytes:
    one, other = decode(a), decode(b)
    if not a or not b:
        return a or b
    dots = {(sibling.actor, sibling.counter) for sibling in one.siblings}
    other_dots = {(sibling.actor, sibling.counter) for sibling in other.siblings}
    seen, other_seen = expand(one), expand(other)
    alive = (dots & other_dots) | (dots - other_seen) | (other_dots - seen)
    found = {s for s in one.siblings + other.siblings if (s.actor, s.counter) in alive}
    context, cloud = compact(seen | other_seen)
    listed = sorted(found, key=lambda s: (s.actor, s.counter, s.value))
    return encode(Record(context, cloud, listed, one.world | other.world, one.kind & other.kind))


@given(states(), states())
def test_merge_is_what_sets_of_dots_say(a: bytes, b: bytes) -> None:
    before = versions.alarms["dot_collision"]
    assert versions.merge(a, b) == slow_merge(a, b)
    assert versions.covers(a, b) == (slow_merge(a, b) == a)
    assert versions.alarms["dot_collision"] == before


@given(states(contents=2), states(contents=2), states(contents=2))
def test_merge_is_commutative_associative_and_idempotent(a: bytes, b: bytes, c: bytes) -> None:
    """Byte for byte, and even if a dot should carry two contents (basho/riak_kv#814)."""
    merge = versions.merge
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(a, b"") == a == merge(b"", a)
    assert merge(merge(a, b), b) == merge(a, b)
    assert versions.covers(merge(a, b), a)


@given(plain_records(), plain_records())
def test_merging_plain_records_is_merging_states(a: bytes, b: bytes) -> None:
    merged = versions.merge(a, b)
    assert merged == versions.merge(b, a)
    assert merged == encode(versions.merge_states(decode(a), decode(b)))


def test_two_contents_of_one_dot_are_both_kept_and_raise_an_alarm() -> None:
    before = versions.alarms["dot_collision"]
    a, b = plain({b"A" * 16: 1}, b"A" * 16, value=b"one"), plain({b"A" * 16: 1}, b"A" * 16, value=b"two")
    merged = versions.merge(a, b)
    assert merged == versions.merge(b, a)
    assert [one.value for one in decode(merged).siblings] == [b"one", b"two"]
    assert versions.alarms["dot_collision"] == before + 2
    assert versions.value_of(merged, NOW_MS) == b"two", "a tie is settled the same way everywhere"


def test_a_delta_does_not_close_a_gap_and_a_complete_state_does() -> None:
    """V3: a missed add must not look like a remove."""
    actor = b"A" * 16
    added = [Sibling(actor, n, n, NEVER, 0, "", False, b"%d" % n) for n in (1, 2, 3)]
    held = encode(Record([(actor, 1)], [], added[:1]))
    delta = encode(Record([], [(actor, 3)], added[2:], kind=1))
    ahead = versions.merge(held, delta)
    assert decode(ahead).cloud == [(actor, 3)]
    missed = encode(Record([], [(actor, 2)], added[1:2], kind=1))
    whole = versions.merge(ahead, missed)
    assert decode(whole) == Record([(actor, 3)], [], added)


def test_damage_is_noticed_where_states_meet() -> None:
    good = plain({b"A" * 16: 1}, b"A" * 16)
    bad = plain({b"B" * 16: 1}, b"B" * 16)[:-1] + b"?"
    with pytest.raises(RecordDamaged):
        versions.merge(good, bad)


# --- puts with a context


def test_a_put_replaces_exactly_what_its_context_has_seen() -> None:
    """V1: `{A:1}` against `{A:2}` overwrites, `{A:1}` against `{B:1}` is two siblings."""
    a, b = DotSource(b"node-a", INCARNATION), DotSource(b"node-b", INCARNATION)
    first = a.put(b"", b"one", 1)
    seen_first = versions.context_of(first)
    overwritten = a.write(first, Write(b"two", context=seen_first), 2)
    assert [one.value for one in versions.siblings(overwritten, NOW_MS)] == [b"two"]
    concurrent = b.write(overwritten, Write(b"other", context=seen_first), 3)
    assert [one.value for one in versions.siblings(concurrent, NOW_MS)] == [b"other", b"two"]
    settled = a.write(concurrent, Write(b"settled", context=versions.context_of(concurrent)), 4)
    assert [one.value for one in versions.siblings(settled, NOW_MS)] == [b"settled"]
    assert settled[FORM_AT] == PLAIN


def test_a_put_that_has_seen_nothing_replaces_nothing() -> None:
    source = DotSource(NODE, INCARNATION)
    record = source.write(source.put(b"", b"one", 1), Write(b"two", context=Context()), 2)
    assert [one.value for one in versions.siblings(record, NOW_MS)] == [b"two", b"one"]


def test_a_version_is_stamped_above_all_its_context_covers() -> None:
    source = DotSource(NODE, INCARNATION)
    seen = Context([(b"B" * 16, 2)], [], stamp=500)
    record = source.write(source.put(b"", b"one", 7), Write(b"two", context=seen), 3)
    newest = versions.newest(record)
    assert newest is not None
    assert (newest.value, newest.stamp) == (b"two", 501)
    assert versions.max_stamp(source.put(record, b"three", 3)) == 502


def test_a_context_that_knows_more_of_us_than_we_do_costs_a_new_epoch() -> None:
    """V2: such a clock is not intact, so counting on could issue a dot again."""
    source = DotSource(NODE, INCARNATION)
    old = source.put(b"", b"one", 1)
    own = source.prefix + (1).to_bytes(6, "big")
    for told in ({own: 2}, {source.prefix + b"forged": 1}):
        before = source.next_epoch
        record = source.write(old, Write(b"two", context=Context(sorted(told.items()))), 2)
        assert decode(record).siblings[-1].actor == source.prefix + before.to_bytes(6, "big")
        assert {**told, own: max(1, told.get(own, 0))}.items() <= dict(decode(record).context).items()


def test_a_client_context_with_gaps_is_kept_with_its_gaps() -> None:
    source, actor = DotSource(NODE, INCARNATION), b"A" * 16
    held = encode(Record([(actor, 1)], [(actor, 3)], [Sibling(actor, 3, 3, NEVER, 0, "", False, b"3")]))
    record = source.write(held, Write(b"new", context=Context([], [(actor, 5)], 5)), 9)
    assert decode(record).cloud == [(actor, 3), (actor, 5)]
    record = source.write(record, Write(b"newer", context=Context([(actor, 2)], [(actor, 4)], 5)), 10)
    assert decode(record).cloud == []
    assert dict(decode(record).context)[actor] == 5


def test_the_world_flag_outlives_every_put() -> None:
    source = DotSource(NODE, INCARNATION)
    flagged = encode(Record([], [], [], world=1))
    record = versions.merge(source.put(b"", b"one", 1), flagged)
    assert decode(source.put(record, b"two", 2)).world == 1
    assert decode(source.put(flagged, b"two", 2)).world == 1


# --- reading


def sibling(stamp: int, *, actor: bytes = b"A", expiry_ms: int = NEVER, dead: bool = False) -> Sibling:
    return Sibling(actor * 16, 1, stamp, expiry_ms, 0, "", dead, b"" if dead else actor)


def held(*found: Sibling) -> bytes:
    return encode(Record([(one.actor, one.counter) for one in found], [], list(found)))


@pytest.mark.parametrize(
    ("record", "value"),
    [
        pytest.param(b"", None, id="none"),
        pytest.param(encode(Record([(b"A" * 16, 1)], [], [])), None, id="all-replaced"),
        pytest.param(held(sibling(1)), b"A", id="plain"),
        pytest.param(held(sibling(1), sibling(2, actor=b"B")), b"B", id="newest"),
        pytest.param(held(sibling(2), sibling(1, actor=b"B")), b"A", id="newest-first"),
        pytest.param(held(sibling(1), sibling(1, actor=b"B")), b"B", id="tie-by-actor"),
        pytest.param(held(sibling(1), sibling(2, actor=b"B", dead=True)), None, id="newest-deleted"),
        pytest.param(held(sibling(2), sibling(1, actor=b"B", dead=True)), b"A", id="older-deleted"),
        pytest.param(held(sibling(1), sibling(2, actor=b"B", expiry_ms=NOW_MS)), None, id="newest-expired"),
        pytest.param(held(sibling(1), sibling(2, actor=b"B", expiry_ms=NOW_MS + 1)), b"B", id="not-yet-expired"),
    ],
)
def test_get_answers_with_the_newest_or_nothing(record: bytes, value: bytes | None) -> None:
    """V6: an older sibling never shows up because the newer one was deleted or expired."""
    assert versions.value_of(record, NOW_MS) == value
    live = versions.live(record, NOW_MS)
    assert (live.value if live else None) == value


def test_siblings_equal_in_what_the_client_sees_are_shown_once() -> None:
    """R1: a write forwarded twice may leave two versions of one content."""
    twins = [Sibling(actor * 16, 1, stamp, NEVER, 0, "", False, b"same") for actor, stamp in ((b"A", 3), (b"B", 4))]
    other = Sibling(b"C" * 16, 1, 1, NEVER, 7, "", False, b"same")
    gone = [sibling(8, actor=b"D", dead=True), sibling(9, actor=b"E", expiry_ms=NOW_MS)]
    assert versions.siblings(held(*twins, other, *gone), NOW_MS) == [twins[1], other]


# --- contexts in a client's hand

contexts = states().map(versions.context_of)


@given(contexts, st.binary(max_size=5))
def test_a_token_comes_back(context: Context, key: bytes) -> None:
    token = context.token(key)
    assert Context.parse(token, key) == context
    assert token.replace(b"-", b"").replace(b"_", b"").isalnum()


def test_the_context_of_no_record_is_empty_and_valid() -> None:
    empty = versions.context_of(b"")
    assert empty == Context() == Context.parse(empty.token(b"k"), b"k")


@given(contexts, st.data())
def test_an_altered_token_is_refused(context: Context, data: st.DataObject) -> None:
    token = bytearray(context.token(b"k"))
    at = data.draw(st.integers(0, len(token) - 1))
    cut = bytes(token[:at])
    token[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[at]))
    for altered in (bytes(token), cut):
        with pytest.raises(BadContext):
            Context.parse(altered, b"k")


@given(st.binary(max_size=80))
def test_garbage_is_no_token(garbage: bytes) -> None:
    with pytest.raises(BadContext):
        Context.parse(garbage)


def test_a_token_of_another_key_is_refused() -> None:
    """Its dots could later be issued for this key, and would then count as seen."""
    token = versions.context_of(DotSource(NODE, INCARNATION).put(b"", b"v", 1)).token(b"one")
    with pytest.raises(BadContext, match="belongs to another key"):
        Context.parse(token, b"two")


def test_a_token_past_the_limit_is_refused() -> None:
    with pytest.raises(BadContext, match=f"the limit is {TOKEN_BYTES_MAX}"):
        Context.parse(b"A" * (TOKEN_BYTES_MAX + 1))
