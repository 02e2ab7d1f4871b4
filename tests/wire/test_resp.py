"""Requests: the fast parser against the plain one, however bytes are split; limits; inline words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ringwise.wire.resp import Limits, PureParser, Request, RequestParser, split_words

SMALL = Limits(bulk_bytes_max=64, elements_max=8, inline_bytes_max=40, request_bytes_max=300)


def encode(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments)


def outcome(parser: RequestParser | PureParser, pieces: list[bytes]) -> tuple[list[Request], str]:
    requests: list[Request] = []
    for piece in pieces:
        requests += parser.feed(piece)
    return requests, parser.error


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


# What clients send, what they should not, and what only hiredis would understand.
arguments = st.one_of(
    st.sampled_from([b"", b"GET", b"a b", b"\r\n", b"*1\r\n$1\r\nx\r\n", b"$5", b">9999999", b"~", b"*1234567"]),
    st.binary(max_size=70),
)
good = st.lists(arguments, min_size=1, max_size=9).map(lambda each: encode(*each))
odd = st.one_of(
    st.sampled_from(
        [
            b"PING\r\n", b"\r\n", b"SET k 'a b'\n", b'GET "a\n', b"*0\r\n", b"*-1\r\n", b"*-5\r\n", b"*1\r\n:5\r\n",
            b"*1\r\n+abc\r\n", b"*1\r\n*1\r\n$1\r\na\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$1\r\naXX", b"+OK\r\n", b":1\r\n",
            b"*x\r\n", b"*1\r\n$5000000000\r\n", b"*+1\r\n$1\r\na\r\n", b"*01\r\n$01\r\na\r\n", b"*1\r\n#t\r\n",
            b"*1\r\n_\r\n", b"*1\r\n=5\r\ntxt:a\r\n", b"*1\n$1\na\n", b"*9999999999\r\n", b"*1\r\n>9999999\r\n",
            b"*1\r\n~99999999\r\n", b"*1\r\n%9999999\r\n", b"-ERR x\r\n", b"*1\r\n-ERR x\r\n", b"*1\r\n,1.5\r\n",
            b"*1\r\n(123\r\n", b"*1\r\n!3\r\nabc\r\n", b"|1\r\n+a\r\n+b\r\n*1\r\n$1\r\na\r\n",
            b"*00000000000000000000000000001\r\n",
            b"*2\r\n=5\r\ntxt:a\r\n+a\r\n", b"*1\rX$1\rXa\rX",
        ]
    ),
    st.binary(max_size=90),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(good | odd, min_size=1, max_size=6).map(b"".join),
    st.lists(st.integers(0, 2000), max_size=8),
    st.sampled_from([SMALL, Limits()]),
)
@example(b"*1\r\n$1\r\naXX*99999999\r\n", [], Limits())
@example(b"*1\r\n>99999999\r\n", [], Limits())
@example(encode(b"SET", b"k", b"v") * 3 + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab", [], Limits())
def test_fast_parser_reads_what_the_plain_one_reads(data: bytes, cuts: list[int], limits: Limits) -> None:
    """Requests and error are the same for the same bytes, however they are split."""
    whole = outcome(PureParser(limits), [data])
    assert outcome(PureParser(limits), cut(data, cuts)) == whole
    assert outcome(RequestParser(limits), [data]) == whole
    assert outcome(RequestParser(limits), cut(data, cuts)) == whole
    assert all(type(argument) is bytes for request in whole[0] for argument in request)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=5), max_size=5),
    st.lists(st.integers(0, 999), max_size=9),
)
def test_well_formed_requests_come_out_as_they_went_in(requests: list[Request], cuts: list[int]) -> None:
    pieces = cut(b"".join(encode(*request) for request in requests), cuts)
    assert outcome(RequestParser(), pieces) == (requests, "")


def test_every_single_split_of_a_pipeline() -> None:
    data = encode(b"SET", b"k", b"v" * 20) + encode(b"GET", b"k") + b"PING\r\n" + encode(b"ECHO", b"\r\n*1\r\n")
    whole = outcome(PureParser(), [data])
    for at in range(len(data)):
        assert outcome(RequestParser(), [data[:at], data[at:]]) == whole


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 32, "invalid multibulk length"),
        (b"*1\r\n$600000000\r\n", "invalid bulk length"),
        (b"*1\r\n$3000000\r\n", "invalid bulk length, an argument has at most 2097152 bytes"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\x00", "expected '$', got '\\x00'"),
        (b"x" * 70_000, "too big inline request"),
        (b"GET 'a\r\n", "unbalanced quotes in request"),
        (b"*40\r\n" + (b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n") * 34, "a request of more than 33554432 bytes"),
    ],
)
def test_each_limit_has_its_error(data: bytes, error: str) -> None:
    parser = RequestParser()
    assert parser.feed(encode(b"PING") + data) == [[b"PING"]]
    assert parser.error == f"Protocol error: {error}"
    assert parser.feed(encode(b"PING")) == []


def test_the_most_that_is_allowed_is_read() -> None:
    value = b"x" * Limits().bulk_bytes_max
    assert RequestParser().feed(encode(b"SET", b"k", value)) == [[b"SET", b"k", value]]
    assert RequestParser().feed(b"*1048576\r\n") == []
    many = [b""] * 8
    assert RequestParser(SMALL).feed(b"*8\r\n" + b"$0\r\n\r\n" * 8) == []  # eight empty arguments exceed 300 bytes here
    assert RequestParser().feed(encode(*many)) == [many]


def test_a_header_claims_no_memory() -> None:
    parser = RequestParser()
    for data in (b"*1000000\r\n", b"*1\r\n~999999\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n"):
        parser = RequestParser()
        parser.feed(data)
        assert parser._pure._held < 40


def test_a_large_value_in_pieces_is_joined_once() -> None:
    """Until the bytes that are missing have come, pieces are only put aside."""
    parser = RequestParser()
    value = b"x" * 1_000_000
    data = encode(b"SET", b"k", value)
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    for number, piece in enumerate(pieces[:-1]):
        assert parser.feed(piece) == []
        assert len(parser._pure._chunks) == max(1, number + 1)
    assert parser.feed(pieces[-1] + encode(b"PING")) == [[b"SET", b"k", value], [b"PING"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b" SET  k\tv \r", [b"SET", b"k", b"v"]),
        (b"SET \"a b\" 'c d'", [b"SET", b"a b", b"c d"]),
        (b"\"\\x41\\n\\\"\\z\" '\\'\\n'", [b'A\n"z', b"'\\n"]),
        (b'""', [b""]),
        (b'a"b"', [b"ab"]),
        (b'"a"b', None),
        (b'"a', None),
        (b"'a\\'", None),
    ],
)
def test_inline_words_are_quoted_as_in_redis(line: bytes, words: Request | None) -> None:
    assert split_words(line) == words
