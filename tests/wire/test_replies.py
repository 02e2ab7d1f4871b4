"""Replies, each in both protocols; hiredis reads back what was meant."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwise.wire.replies import BULK_HEADERS, Double, Encoded, Simple, Value, bulk, encode, error


@pytest.mark.parametrize(
    ("value", "resp3", "resp2"),
    [
        (b"a\r\n", b"$3\r\na\r\n\r\n", None),
        ("é", b"$2\r\n\xc3\xa9\r\n", None),
        (Simple("PONG"), b"+PONG\r\n", None),
        (-5, b":-5\r\n", None),
        (None, b"_\r\n", b"$-1\r\n"),
        (True, b"#t\r\n", b":1\r\n"),
        (False, b"#f\r\n", b":0\r\n"),
        (1.5, b",1.5\r\n", b"$3\r\n1.5\r\n"),
        ([], b"*0\r\n", None),
        ([1, [None]], b"*2\r\n:1\r\n*1\r\n_\r\n", b"*2\r\n:1\r\n*1\r\n$-1\r\n"),
        ({"k": 1}, b"%1\r\n$1\r\nk\r\n:1\r\n", b"*2\r\n$1\r\nk\r\n:1\r\n"),
        ({"b", "a"}, b"~2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ([Encoded(b":7\r\n")], b"*1\r\n:7\r\n", None),
    ],
)
def test_each_value_in_both_protocols(value: Value, resp3: bytes, resp2: bytes | None) -> None:
    assert encode(value, 3) == resp3
    assert encode(value, 2) == (resp3 if resp2 is None else resp2)


@pytest.mark.parametrize("length", [0, 1, len(BULK_HEADERS) - 1, len(BULK_HEADERS), 100_000])
def test_bulk_strings_with_ready_and_other_headers(length: int) -> None:
    assert bulk(b"x" * length) == b"$%d\r\n%b\r\n" % (length, b"x" * length)


def test_an_error_is_one_line() -> None:
    assert error("ERR a\r\nb\nc") == b"-ERR a  b c\r\n"
    assert error("ERR \ud800") == b"-ERR \\ud800\r\n"


nested = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(nested)
def test_resp3_reads_back_as_it_was(value: Value) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(value, 3))
    assert reader.gets() == value
    assert not reader.has_data()


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"-0"),
        (3.0, b"3"),
        (-17.0, b"-17"),
        (0.1, b"0.1"),
        (-2.25, b"-2.25"),
        (0.30000000000000004, b"0.30000000000000004"),
        (1e-5, b"0.00001"),
        (1.5e-7, b"1.5e-7"),
        (1e10, b"10000000000"),
        (4503599627370497.0, b"4503599627370497"),
        (1e22, b"1e+22"),
        (1.5e300, b"1.5e+300"),
        (float("inf"), b"inf"),
        (float("-inf"), b"-inf"),
    ],
)
def test_scores_are_written_as_redis_writes_them(score: float, text: bytes) -> None:
    assert encode(Double(score), 3) == b"," + text + b"\r\n"
    assert encode(Double(score), 2) == b"$%d\r\n%b\r\n" % (len(text), text)


@given(st.floats(allow_nan=False))
def test_a_written_score_reads_as_the_same_number(score: float) -> None:
    assert float(Double(score).text) == score
