"""The record's two forms: canonical, checked at the door, and pinned byte by byte (S4)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from ringwise.core.errors import RecordDamaged
from ringwise.core.record import COUNTER_MAX, FORM_AT, GENERAL, PLAIN, Record, Sibling, decode, encode, intact, seal

A, B, C = (letter * 16 for letter in (b"A", b"B", b"C"))


@st.composite
def states(draw: st.DrawFn) -> Record:
    """Any valid state, plain ones often among them."""
    actors = st.sampled_from([A, B, C])
    vector = draw(st.dictionaries(actors, st.integers(1, 5) | st.just(COUNTER_MAX)))
    beyond = draw(st.sets(st.tuples(actors, st.integers(2, 9)), max_size=3)) if draw(st.booleans()) else set()
    cloud = sorted((actor, counter) for actor, counter in beyond if counter > vector.get(actor, 0) + 1)
    dots = sorted(vector.items()) + cloud
    chosen = sorted(draw(st.sets(st.sampled_from(dots), max_size=2))) if dots else []
    siblings = [
        Sibling(
            actor,
            draw(st.sampled_from([counter, 1])) if (actor, counter) not in cloud else counter,
            draw(st.integers(0, (1 << 64) - 1)),
            draw(st.sampled_from([0, 0, 1 << 41])),
            draw(st.sampled_from([0, 0, 7])),
            draw(st.sampled_from(["", "", "text/plain"])),
            draw(st.sampled_from([False, False, True])),
            draw(st.binary(max_size=20)),
        )
        for actor, counter in chosen
        if (actor, 1) not in cloud
    ]
    unique = {(one.actor, one.counter): one for one in siblings}
    return Record(
        sorted(vector.items()),
        cloud,
        [unique[dot] for dot in sorted(unique)],
        draw(st.sampled_from([0, 0, 1])),
        draw(st.sampled_from([0, 0, 1])),
    )


@given(states())
def test_a_state_comes_back_and_has_one_encoding(state: Record) -> None:
    record = encode(state)
    assert decode(record) == state
    assert encode(decode(record)) == record
    assert intact(record)


@given(states())
def test_the_plain_form_is_for_plain_states_and_for_all_of_them(state: Record) -> None:
    ordinary = len(state.siblings) == 1 and not (state.cloud or state.world or state.kind)
    if ordinary:
        (one,) = state.siblings
        ordinary = not (one.expiry_ms or one.flags or one.content_type or one.tombstone)
        ordinary = ordinary and dict(state.context)[one.actor] == one.counter
    record = encode(state)
    assert (bool(record) and record[FORM_AT] == PLAIN) == ordinary


def test_the_plain_form_is_pinned() -> None:
    state = Record([(A, 1), (B, 0x102), (C, 3)], [], [Sibling(B, 0x102, 0x0A0B, 0, 0, "", False, b"value")])
    body = b"\1\3\0\0\0\0\0\0\x0a\x0b" + B + b"\0\0\1\2" + A + b"\0\0\0\1" + C + b"\0\0\0\3value"
    assert encode(state) == xxh3_64_digest(body) + body


def test_the_general_form_is_pinned() -> None:
    state = Record([(A, 1)], [], [Sibling(A, 1, 5, 9, 2, "t", True, b"")], world=1)
    body = b"\2" + bytes.fromhex("95 91 92c410") + A + bytes.fromhex("01 90 91 98c410") + A
    body += bytes.fromhex("01 05 09 02 a174 c3 c400 01 00")
    assert encode(state) == xxh3_64_digest(body) + body


def test_the_empty_state_is_no_record() -> None:
    assert encode(Record([], [], [])) == b""
    assert decode(b"") == Record([], [], [])
    assert encode(Record([], [], [], world=1)) != b"", "the world flag alone is worth a record (V10)"


def test_more_actors_than_the_plain_form_counts() -> None:
    context = [(number.to_bytes(16, "big"), 1) for number in range(256)]
    one = Sibling(context[0][0], 1, 1, 0, 0, "", False, b"v")
    for count, form in ((255, PLAIN), (256, GENERAL)):
        record = encode(Record(context[:count], [], [one]))
        assert record[FORM_AT] == form
        assert len(decode(record).context) == count


@given(st.binary(min_size=1, max_size=120), st.sampled_from([b"", b"\1", b"\2"]))
def test_garbage_is_damaged_and_nothing_else(garbage: bytes, form: bytes) -> None:
    """Even garbage with a right checksum, unless it happens to be a record."""
    for record in (garbage, seal(form + garbage)):
        try:
            state = decode(record)
        except RecordDamaged:
            continue
        assert encode(state) == record


@given(states().filter(lambda state: encode(state) != b""), st.data())
def test_a_flipped_bit_or_a_cut_is_noticed(state: Record, data: st.DataObject) -> None:
    record = bytearray(encode(state))
    cut = bytes(record[: data.draw(st.integers(1, len(record) - 1))])
    record[data.draw(st.integers(0, len(record) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(record), cut):
        assert not intact(damaged)
        with pytest.raises(RecordDamaged):
            decode(damaged)


PLAIN_SIBLING = Sibling(A, 1, 5, 0, 0, "", False, b"v")


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(Record([(A, 1)], [], [PLAIN_SIBLING]), id="plain"),
        pytest.param(Record([], [], []), id="empty"),
        pytest.param(Record([(B, 1), (A, 1)], [], []), id="context order"),
        pytest.param(Record([(A, 1), (A, 2)], [], []), id="actor twice"),
        pytest.param(Record([(A, 0)], [], []), id="counter zero"),
        pytest.param(Record([(A, COUNTER_MAX + 1)], [], []), id="counter too great"),
        pytest.param(Record([(b"A", 1)], [], []), id="actor length"),
        pytest.param(Record([(A, 1)], [(A, 2)], []), id="cloud is no gap"),
        pytest.param(Record([], [(B, 2), (A, 2)], []), id="cloud order"),
        pytest.param(Record([(A, 1)], [], [Sibling(A, 2, 5, 0, 0, "", False, b"v")]), id="sibling unseen"),
        pytest.param(
            Record([(A, 1), (B, 1)], [], [Sibling(B, 1, 5, 0, 0, "", False, b"v"), PLAIN_SIBLING]), id="sibling order"
        ),
        pytest.param(Record([(A, 1)], [], [PLAIN_SIBLING, PLAIN_SIBLING]), id="sibling twice"),
        pytest.param(Record([(A, 1)], [], [Sibling(A, 1, 5, -1, 0, "", False, b"v")]), id="negative expiry"),
        pytest.param(Record([(A, 1)], [], [], world=2), id="world"),
    ],
)
def test_a_state_that_encode_would_not_write_in_this_form_is_refused(state: Record) -> None:
    with pytest.raises(RecordDamaged):
        decode(seal(b"\2" + msgspec.msgpack.encode(state)))


@pytest.mark.parametrize("tail", [b"\xc0", b"\x90"])
def test_more_than_the_array_is_refused(tail: bytes) -> None:
    array = msgspec.msgpack.encode(Record([(A, 1)], [], []))
    assert decode(seal(b"\2" + array)).context == [(A, 1)]
    with pytest.raises(RecordDamaged):
        decode(seal(b"\2" + array + tail))
    with pytest.raises(RecordDamaged):
        decode(seal(b"\2" + b"\x96" + array[1:] + tail))
