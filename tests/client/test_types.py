"""Counters and sets: their requests and replies, the numbers of increments, and what becomes of one that is not answered."""

from __future__ import annotations

import asyncio
import inspect
import random
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.test_core import ADDRESSES, decoded

from ringwise import AsyncClient, Client
from ringwise.client import async_handles, errors, handles, types
from ringwise.client.commands import Command
from ringwise.client.exchange import Exchange
from ringwise.client.routing import Routing
from ringwise.client.types import Counted, Numbering
from ringwise.wire.replies import encode
from ringwise.wire.resp import RequestParser

ANSWER = decoded(encode({"value": 5, "again": 0}, 2))
NO_QUORUM = hiredis.ReplyError("NOQUORUM 1 of 2 needed owners answered")
UNKNOWN = hiredis.ReplyError("UNKNOWN outcome: 1 of 2 needed owners acknowledged the write")


def once() -> Exchange[Counted]:
    command = types.increment_once(b"k", 5, b"s", 1, None)
    return Exchange([command], Routing(ADDRESSES, random.Random(1)), 8.0)


def test_requests_are_as_the_server_reads_them() -> None:
    wires: list[Command[Any]] = [
        types.increment(b"k", -3, None),
        types.increment_once(b"k", 5, b"s", 7, "strong"),
        types.number(b"k", None),
        types.add(b"k", ["a", b"\xff"], None),
        types.remove(b"k", ["a"], "all"),
        types.contains(b"k", "a", None),
        types.members(b"k", None),
        types.size(b"k", None),
        types.pop(b"k", 2, None),
        types.put_fields(b"k", dict[str, str | bytes]({"f": "v", "g": b"\xff"}), None),
        types.get_field(b"k", "f", None),
        types.has_field(b"k", "f", None),
        types.all_fields(b"k", None),
        types.remove_fields(b"k", ["f"], None),
        types.increment_field(b"k", "f", 2, None),
        types.count_fields(b"k", None),
        types.put_scores(b"k", {"m": 1, "n": -0.5}, None),
        types.increment_score(b"k", "m", 2.25, None),
        types.score(b"k", "m", None),
        types.rank(b"k", "m", None),
        types.ranked(b"k", 0, -1, None),
        types.remove_scores(b"k", ["m"], None),
        types.count_scores(b"k", None),
    ]
    assert RequestParser().feed(b"".join(each.wire for each in wires)) == [
        line.split()
        for line in (
            b"INCRBY k -3", b"RW.AT strong RW.INCR k 5 SESSION s SEQ 7", b"GET k", b"SADD k a \xff", b"RW.AT all SREM k a",
            b"SISMEMBER k a", b"SMEMBERS k", b"SCARD k", b"SPOP k 2", b"HSET k f v g \xff", b"HGET k f", b"HEXISTS k f",
            b"HGETALL k", b"HDEL k f", b"HINCRBY k f 2", b"HLEN k", b"ZADD k 1.0 m -0.5 n", b"ZINCRBY k 2.25 m", b"ZSCORE k m",
            b"ZREVRANK k m", b"ZRANGE k 0 -1 REV WITHSCORES", b"ZREM k m", b"ZCARD k",
        )
    ]  # fmt: skip
    reads = {b"GET", b"SISMEMBER", b"SMEMBERS", b"SCARD", b"HGET", b"HEXISTS", b"HGETALL", b"HLEN", b"ZSCORE", b"ZREVRANK",
             b"ZRANGE", b"ZCARD"}  # fmt: skip
    for each in wires:
        (words,) = RequestParser().feed(each.wire)
        name = words[2] if words[0] == b"RW.AT" else words[0]
        assert (each.write, each.again) == (name not in reads, name == b"RW.INCR"), name


def test_replies_are_read() -> None:
    assert types.increment_once(b"k", 5, b"s", 1, None).outcome(ANSWER) == Counted(5, again=False)
    assert types.number(b"k", None).outcome(None) == 0
    assert types.number(b"k", None).outcome(b"-7") == -7
    assert isinstance(types.number(b"k", None).outcome(b"text"), errors.InvalidRequest)
    assert types.members(b"k", None).outcome([b"a", b"b"]) == {b"a", b"b"}
    assert types.contains(b"k", "a", None).outcome(1) is True
    assert types.all_fields(b"k", None).outcome([b"f", b"v", b"g", b"w"]) == {b"f": b"v", b"g": b"w"}
    assert types.get_field(b"k", "f", None).outcome(None) is None
    assert types.ranked(b"k", 0, 1, None).outcome([b"m", b"2.5", b"n", b"-inf"]) == [(b"m", 2.5), (b"n", float("-inf"))]
    assert types.score(b"k", "m", None).outcome(None) is None and types.rank(b"k", "m", None).outcome(0) == 0


def test_both_clients_can_do_the_same() -> None:
    def methods(of: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(each).parameters.values())
            for name, each in inspect.getmembers(of, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(handles.Counter) == methods(async_handles.AsyncCounter)
    assert methods(handles.Set) == methods(async_handles.AsyncSet)
    assert methods(handles.Map) == methods(async_handles.AsyncMap)
    assert methods(handles.Leaderboard) == methods(async_handles.AsyncLeaderboard)


# -- what is not answered


def test_an_increment_that_counts_once_is_asked_again_elsewhere() -> None:
    call = once()
    call.begin(0.0)
    first = call.address
    assert call.attempt_deadline == 4.0, "there has to be time for another node"
    call.lost([], ConnectionResetError("gone"), 0.1, sent=True)
    assert call.pending
    call.begin(0.1)
    assert call.address != first
    call.answered([ANSWER])
    assert call.outcomes == [Counted(5, again=False)]


def test_an_unknown_outcome_is_asked_again_and_stays_unknown_whatever_is_said_later() -> None:
    for later in (NO_QUORUM, UNKNOWN, hiredis.ReplyError("ERR something else")):
        call = once()
        call.begin(0.0)
        call.answered([UNKNOWN])
        while call.pending:
            call.begin(0.1)
            if call.pending:
                call.answered([later])
        (outcome,) = call.outcomes
        assert isinstance(outcome, errors.UnknownOutcome), later


def test_a_time_that_is_over_after_it_was_sent_is_unknown() -> None:
    call = once()
    call.begin(0.0)
    call.lost([], TimeoutError(), 4.0, sent=True)
    call.begin(4.0)
    call.lost([], ConnectionRefusedError("refused"), 8.0, sent=False)
    call.begin(8.0)
    assert isinstance(call.outcomes[0], errors.WriteTimedOut)


def test_one_that_was_never_sent_is_certainly_not_counted() -> None:
    call = once()
    while call.pending:
        call.begin(0.0)
        if call.pending:
            call.lost([], ConnectionRefusedError("refused"), 0.0, sent=False)
    assert isinstance(call.outcomes[0], errors.ConnectionFailed)


class Store:
    """What a node remembers of one session."""

    def __init__(self) -> None:
        self.last = 0
        self.total = 0

    def add(self, seq: int, amount: int) -> None:
        assert seq <= self.last + 1, "a gap"
        if seq > self.last:
            self.last, self.total = seq, self.total + amount


OUTCOMES = st.lists(st.sampled_from(["answered", "lost before", "lost after", "refused"]), max_size=30)


@given(OUTCOMES)
def test_who_calls_again_until_it_is_answered_is_counted_once(outcomes: list[str]) -> None:
    store, numbering = Store(), Numbering(None)
    wanted = 0
    amounts = iter(range(1, 100))
    amount = next(amounts)
    for outcome in [*outcomes, "answered"]:
        seq = numbering.begin(amount)
        if outcome in ("answered", "lost after"):
            store.add(seq, amount)
        if outcome == "answered":
            numbering.answered()
            wanted += amount
            amount = next(amounts)
        else:
            numbering.failed(errors.Refused("no") if outcome == "refused" else errors.UnknownOutcome("?"))
    assert store.total == wanted


def test_another_amount_has_to_wait_for_the_one_that_may_be_counted() -> None:
    numbering = Numbering(None)
    assert numbering.begin(5) == 1
    numbering.failed(errors.WriteTimedOut("?"))
    with pytest.raises(ValueError, match=r"increment_once\(5\)"):
        numbering.begin(6)
    assert numbering.begin(5) == 1
    numbering.failed(errors.QuorumNotReached("of this try, not of the one before"))
    with pytest.raises(ValueError, match="may be counted"):
        numbering.begin(6)
    assert numbering.begin(5) == 1
    numbering.answered()
    assert numbering.begin(6) == 2
    numbering.failed(errors.Overloaded("certainly not"))
    assert numbering.begin(7) == 2


def test_mistakes_in_the_call_are_told_before_anything_is_sent() -> None:
    kv = Client("127.0.0.1:1")
    counter = kv.counter("n")
    with pytest.raises(TypeError, match="amount is an int"):
        counter.increment(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="amount is a whole number"):
        counter.increment_once(2**63)
    with pytest.raises(ValueError, match="session of your own"):
        counter.increment_once(1, seq=1)
    with pytest.raises(ValueError, match="seq is a whole number"):
        kv.counter("n", session="s").increment_once(1, seq=0)
    with pytest.raises(ValueError, match="at least one"):
        kv.set("s").add()
    with pytest.raises(ValueError, match="at least one field"):
        kv.map("m").put({})
    with pytest.raises(ValueError, match="nan"):
        kv.leaderboard("b").increment("m", float("nan"))
    with pytest.raises(TypeError, match="a score is"):
        kv.leaderboard("b").put({"m": "1"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count is a whole number from 1"):
        kv.leaderboard("b").top(0)
    with pytest.raises(TypeError, match="a member is"):
        kv.set("s").contains(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key is"):
        kv.counter(5)  # type: ignore[arg-type]
    with pytest.raises(errors.ConnectionFailed):
        counter.increment_once(1, timeout=1)
    assert counter._numbering.begin(2) == 1, "nothing of the one that failed is open"


def test_a_cancelled_increment_may_be_counted() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"*0\r\n")  # it knows no members
        await reader.read(1000)
        asked.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    asked, ended = asyncio.Event(), asyncio.Event()

    async def scenario() -> None:
        listener = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with AsyncClient(f"127.0.0.1:{port}") as kv:
            counter = kv.counter("n")
            task = asyncio.create_task(counter.increment_once(5))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ValueError, match="may be counted"):
                await counter.increment_once(6)
        await ended.wait()
        listener.close()
        await listener.wait_closed()

    asyncio.run(scenario())
