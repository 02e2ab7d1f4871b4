"""Frames, however the stream is cut, and whatever arrives in their place."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.messages import Forwarded, Hello, Message, Outcome, Read, Write, decode, encode
from ringwise.wire.frame import FrameDamaged, FrameReader, frame

MESSAGES: list[Message] = [
    Hello(1, b"c" * 16, b"n" * 6, "n1", 7, 3, "127.0.0.1", 9379),
    Write(1, 2, 3 << 60, b"chunk" * 100),
    Read(2, 2, True, [1, 2], [b"a", b"b"], [b"", b"12345678"]),
    Forwarded(3, [Outcome(0, b"", b"after", "", "")], 0),
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(1, 400), max_size=20))
def test_messages_arrive_whole_however_the_stream_is_cut(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    reader = FrameReader(decode)
    received: list[Message] = []
    for size in [*cuts, len(stream)]:
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


@given(st.sampled_from(MESSAGES), st.data())
def test_a_flipped_bit_is_noticed(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    at = data.draw(st.integers(4, len(damaged) - 1))  # before, it is the length: more is waited for, or less is cut
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameDamaged):
        FrameReader(decode).feed(bytes(damaged))


@given(st.binary(max_size=200))
def test_garbage_is_damage_or_not_yet_a_frame(garbage: bytes) -> None:
    with suppress(FrameDamaged):
        assert FrameReader(decode, frame_bytes_max=1000).feed(garbage) == []


def test_a_frame_that_claims_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameDamaged, match="the limit is 100"):
        FrameReader(decode, frame_bytes_max=100).feed(struct.pack(">II", 101, 0))


def test_a_sound_frame_that_is_no_message_is_damage() -> None:
    with pytest.raises(FrameDamaged, match="no message"):
        FrameReader(decode).feed(frame(b"\x93\x01\x02\x03"))
