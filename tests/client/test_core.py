"""The part without sockets: requests, replies, whom to ask next, what becomes of a call."""

from __future__ import annotations

import asyncio
import inspect
import random
import subprocess
import sys
from typing import TypeVar

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise import AsyncClient, Client
from ringwise.client import commands, errors
from ringwise.client.exchange import Exchange
from ringwise.client.many import batches
from ringwise.client.results import Written
from ringwise.client.routing import Routing, parse_address
from ringwise.core import errors as served
from ringwise.server.glob import matcher
from ringwise.wire.replies import encode
from ringwise.wire.resp import RequestParser

T = TypeVar("T")
ADDRESSES = ["a:1", "b:2", "c:3"]
NODES = [parse_address(text) for text in ADDRESSES]


def decoded(reply: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def exchange(*asked: commands.Command[T], timeout: float = 8.0) -> Exchange[T]:
    return Exchange(asked, Routing(ADDRESSES, random.Random(1)), timeout)


WRITTEN = decoded(encode({"version": "ab:1", "siblings": 1, "context": "c"}, 2))


@given(
    key=st.binary(min_size=1), value=st.binary(), ttl=st.none() | st.floats(0.001, 1e6), context=st.none() | st.binary()
)
def test_a_put_is_the_request_that_the_server_reads(
    key: bytes, value: bytes, ttl: float | None, context: bytes | None
) -> None:
    wire = commands.put(key, value, "all", ttl=ttl, context=context, content_type="text/plain", flags=7).wire
    (request,) = RequestParser().feed(wire)
    assert request[:5] == [b"RW.AT", b"all", b"RW.PUT", key, value]
    options = dict(zip(request[5::2], request[6::2], strict=True))
    assert options.get(b"CONTEXT") == context
    assert options[b"TYPE"] == b"text/plain" and options[b"FLAGS"] == b"7"
    assert (b"PX" in options) == (ttl is not None)
    if ttl is not None:
        assert abs(int(options[b"PX"]) - ttl * 1000) <= 1


@given(prefix=st.binary(max_size=8), rest=st.binary(max_size=8), other=st.binary(max_size=8))
def test_a_prefix_matches_what_begins_with_it(prefix: bytes, rest: bytes, other: bytes) -> None:
    matches = matcher(commands.glob_escaped(prefix) + b"*")
    assert matches(prefix + rest)
    assert bool(matches(other)) == other.startswith(prefix)


@given(
    values=st.lists(st.binary(), max_size=4),
    ttl_ms=st.integers(-1, 10**9),
    context=st.binary(),
    flags=st.integers(0, 2**32 - 1),
)
def test_a_read_shows_every_sibling(values: list[bytes], ttl_ms: int, context: bytes, flags: int) -> None:
    siblings = [
        {"value": value, "version": f"ab:{at}", "stamp": 9 - at, "ttl_ms": ttl_ms, "type": "t", "flags": flags}
        for at, value in enumerate(values)
    ]
    reply = commands.read_reply(decoded(encode({"siblings": list(siblings), "context": context, "clock": "n1:1"}, 2)))  # type: ignore[arg-type]
    if not values:
        assert reply is None
        return
    assert reply is not None
    assert [sibling.value for sibling in reply.siblings] == values
    assert (reply.value, reply.context, reply.flags, reply.version) == (values[0], context, flags, "ab:0")
    assert reply.ttl == (None if ttl_ms == -1 else ttl_ms / 1000)


REFUSALS = [kind for kind in vars(served).values() if isinstance(kind, type) and issubclass(kind, served.Refused)]


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_refusal_of_the_server_is_one_for_the_caller(kind: type[served.Refused]) -> None:
    assert isinstance(errors.of_reply(f"{kind.code} words", write=True), errors.Refused)


def test_what_is_not_known_of_a_write_is_unknown() -> None:
    for line in (f"{served.UnknownOutcome.code} outcome", "DAMAGED record", "NEWCODE what"):
        assert isinstance(errors.of_reply(line, write=True), errors.UnknownOutcome)
    assert not isinstance(errors.of_reply("DAMAGED record", write=False), errors.UnknownOutcome)


def test_a_read_is_asked_elsewhere_and_a_node_that_failed_is_spared() -> None:
    call = exchange(commands.get("k", None))
    assert call.begin(0.0) == 0.0 and call.address == NODES[0]
    call.lost([], ConnectionResetError("gone"), 0.1, sent=True)
    assert call.begin(0.1) == 0.0 and call.address == NODES[1]
    call.answered([decoded(encode({"siblings": [], "context": "c", "clock": "n1:1"}, 2))])
    assert not call.pending and call.outcomes == [None]
    after = Exchange([commands.get("k", None)], call._routing, 9.0)
    after.begin(0.2)
    assert after.address == NODES[1]


def test_a_write_that_was_sent_is_not_sent_again() -> None:
    call = exchange(commands.put("k", "v", None))
    call.begin(0.0)
    call.lost([], ConnectionResetError("gone"), 0.1, sent=True)
    assert not call.pending and isinstance(call.outcomes[0], errors.UnknownOutcome)
    call = exchange(commands.put("k", "v", None))
    call.begin(0.0)
    call.lost([], TimeoutError(), 8.0, sent=True)
    assert isinstance(call.outcomes[0], errors.WriteTimedOut) and isinstance(call.outcomes[0], TimeoutError)


@pytest.mark.parametrize("refusal", ["NOQUORUM 1 of 2", "TRYAGAIN full", "CLUSTERDOWN forming", "READONLYNODE log"])
def test_a_write_that_was_refused_is_offered_to_the_others(refusal: str) -> None:
    call = exchange(commands.put("k", "v", None))
    asked = []
    while call.pending:
        call.begin(0.0)
        if call.pending:
            asked.append(call.address)
            call.answered([hiredis.ReplyError(refusal)])
    assert set(asked) == set(NODES) and len(asked) == 9
    assert isinstance(call.outcomes[0], errors.Refused)


def test_a_refusal_says_more_than_a_dead_node() -> None:
    call = exchange(commands.put("k", "v", "all"))
    while call.pending:
        call.begin(0.0)
        if call.pending and call.address == NODES[1]:
            call.answered([hiredis.ReplyError("NOQUORUM 2 of 3")])
        elif call.pending:
            call.lost([], ConnectionRefusedError("refused"), 0.0, sent=False)
    assert isinstance(call.outcomes[0], errors.QuorumNotReached)


def test_nobody_answers_the_phone() -> None:
    call = exchange(commands.put("k", "v", None))
    pauses = []
    while call.pending:
        pauses.append(call.begin(1.0))
        if call.pending:
            call.lost([], ConnectionRefusedError("refused"), 1.0, sent=False)
    assert isinstance(call.outcomes[0], errors.ConnectionFailed)
    assert sum(pauses) < 1.0 and sum(pause > 0 for pause in pauses) == 2


def test_a_pipeline_that_breaks_off_keeps_what_was_answered() -> None:
    call = exchange(*(commands.put(f"k{at}", "v", None) for at in range(3)))
    call.begin(0.0)
    call.lost([WRITTEN, hiredis.ReplyError("ERR too long")], ConnectionResetError(), 0.0, sent=True)
    assert not call.pending
    assert call.outcomes[0] == Written("ab:1", 1, b"c")
    assert [type(outcome) for outcome in call.outcomes[1:]] == [errors.InvalidRequest, errors.UnknownOutcome]


def test_a_silent_node_leaves_a_read_time_for_another() -> None:
    call = exchange(commands.get("k", None))
    call.begin(0.0)
    assert call.attempt_deadline == 4.0
    write = exchange(commands.put("k", "v", None))
    write.begin(0.0)
    assert write.attempt_deadline == 8.0


def test_members_are_learned_and_forgotten_and_those_given_stay() -> None:
    routing = Routing(["a:1"], random.Random(1))
    routing.learn(["b:2", "c:3"])
    assert routing.addresses == NODES
    routing.learn(["c:3"])
    assert routing.addresses == [NODES[0], NODES[2]]
    assert routing.wants_members(5.0) and not routing.wants_members(6.0) and routing.wants_members(50.0)


def test_after_a_failure_the_members_are_asked_for_again() -> None:
    """Who has just died may have been replaced: what was learned a moment ago is no more to be believed."""
    routing = Routing(ADDRESSES, random.Random(1))
    assert routing.wants_members(5.0) and not routing.wants_members(6.0)
    routing.failed(NODES[0], 6.0)
    assert routing.wants_members(6.0)


def test_a_node_that_failed_is_asked_again_after_a_while() -> None:
    routing = Routing(ADDRESSES, random.Random(1))
    routing.failed(NODES[0], 0.0)
    assert routing.pick(0.0, set()) == NODES[1]
    assert routing.pick(60.0, set()) == NODES[0]
    assert routing.pick(0.0, set(NODES[1:])) == NODES[0]  # there is no other


@pytest.mark.parametrize(
    ("text", "address"),
    [("h", ("h", 7379)), ("h:1", ("h", 1)), ("[::1]:5", ("::1", 5)), ("::1", ("::1", 7379)), ("[::1]", ("::1", 7379))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":1", "h:", "h:x", "h:0", "h:65536"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)


@given(st.lists(st.integers(0, 100_000), max_size=300))
def test_batches_are_bounded_and_lose_nothing(sizes: list[int]) -> None:
    asked = [commands.put("k", b"x" * size, None) for size in sizes]
    cut = list(batches(asked))
    assert [command for batch in cut for command in batch] == asked
    assert all(len(batch) == 1 or sum(len(c.wire) for c in batch) <= 256 * 1024 for batch in cut)
    assert all(0 < len(batch) <= 128 for batch in cut)


def test_bad_arguments_are_told_before_anything_is_sent() -> None:
    with pytest.raises(TypeError, match="bytes or str"):
        commands.get(5, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="level is a str, not bytes"):
        commands.get("k", b"one")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="content_type is a str, not bytes"):
        commands.put("k", "v", None, content_type=b"text/plain")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an address is a str"):
        parse_address(7379)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), 1e11, 10**400])
def test_a_time_to_live_that_cannot_be_names_its_limit(ttl: float) -> None:
    with pytest.raises(ValueError, match="at most 10000000000"):
        commands.put("k", "v", None, ttl=ttl)
    with pytest.raises(TypeError, match="not str"):
        commands.put("k", "v", None, ttl="5")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_numbers_that_cannot_be_are_told_before_anything_is_sent(make: type[Client] | type[AsyncClient]) -> None:
    for timeout in (float("inf"), float("nan"), 1e10, 10**400):
        with pytest.raises(ValueError, match="timeout is a number of seconds, at most 1000000"):
            make("127.0.0.1:1", timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            made(make("127.0.0.1:1").get("k", timeout=timeout))
    with pytest.raises(TypeError, match=r"timeout .*not str"):
        make("127.0.0.1:1", timeout="5")  # type: ignore[arg-type]
    for wrong in (0, -3):
        with pytest.raises(ValueError, match="max_connections is a whole number from 1"):
            make("127.0.0.1:1", max_connections=wrong)
    for flags in (-1, 2**32):
        with pytest.raises(ValueError, match="flags is a whole number from 0 to 4294967295"):
            made(make("127.0.0.1:1").put("k", "v", flags=flags))
    with pytest.raises(TypeError, match="flags is an int, not float"):
        made(make("127.0.0.1:1").put("k", "v", flags=1.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count is a whole number from 1"):
        commands.scan(0, "", 0, None)


def made(result: object) -> None:
    """Runs the call if it is a coroutine."""
    if inspect.iscoroutine(result):
        asyncio.run(result)


def test_importing_is_light() -> None:
    program = (
        "import sys, ringwise; assert not any(name.startswith('ringwise.') for name in sys.modules);"
        "from ringwise import Client, AsyncClient;"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('ringwise.')};"
        "assert rooms == {'client'}, rooms; assert 'uvloop' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
