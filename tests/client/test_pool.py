"""All connections are in use, and none becomes free: what had been done before is still told."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.client.fake import FakeNode

from ringwise import AsyncClient, Client
from ringwise.client import PartialFailure, TimedOut, UnknownOutcome
from ringwise.client.many import BATCH_COMMANDS

ITEMS = {f"k{number}": "v" for number in range(BATCH_COMMANDS + 3)}


def check(failure: PartialFailure) -> None:
    assert len(failure.results) == BATCH_COMMANDS and set(failure.errors) == {
        f"k{BATCH_COMMANDS + at}" for at in range(3)
    }
    assert all(isinstance(error, TimedOut) and "nothing was sent" in str(error) for error in failure.errors.values())


def test_a_batch_that_gets_no_connection_does_not_hide_those_before() -> None:
    with FakeNode() as node, Client(node.address, max_connections=1, timeout=0.5) as kv:
        release = kv._pool.release

        def release_to_another(*arguments: object) -> None:
            release(*arguments)  # type: ignore[arg-type]
            kv._pool._room.acquire()  # another thread was waiting for it

        kv._pool.release = release_to_another  # type: ignore[assignment]
        with pytest.raises(PartialFailure) as raised:
            kv.put_many(ITEMS)
        check(raised.value)
        with pytest.raises(TimedOut, match="nothing was sent"):
            kv.put("k", "v", timeout=0.05)


def test_a_batch_that_gets_no_connection_does_not_hide_those_before_on_asyncio() -> None:
    async def fill() -> None:
        async with AsyncClient(node.address, max_connections=1, timeout=0.5) as kv:
            release = kv._pool.release

            def release_to_another(*arguments: object) -> None:
                release(*arguments)  # type: ignore[arg-type]
                kv._pool._room._value -= 1  # another task was waiting for it

            kv._pool.release = release_to_another  # type: ignore[assignment]
            with pytest.raises(PartialFailure) as raised:
                await kv.put_many(ITEMS)
            check(raised.value)
            with pytest.raises(TimedOut, match="nothing was sent"):
                await kv.put("k", "v", timeout=0.05)

    with FakeNode() as node:
        asyncio.run(fill())


def test_a_write_whose_time_was_over_before_a_byte_was_sent_has_no_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connecting, or asking for the members, took all of it."""

    def slow(*_: object) -> None:
        time.sleep(0.1)

    async def slow_async(*_: object) -> None:
        time.sleep(0.1)

    async def put() -> None:
        async with AsyncClient(node.address) as kv:
            await kv.put("k", "v", timeout=0.05)

    monkeypatch.setattr(Client, "_learn", slow)
    monkeypatch.setattr(AsyncClient, "_learn", slow_async)
    with FakeNode() as node:
        with Client(node.address) as kv, pytest.raises(TimedOut) as raised:
            kv.put("k", "v", timeout=0.05)
        assert not isinstance(raised.value, UnknownOutcome)
        with pytest.raises(TimedOut) as raised:
            asyncio.run(put())
        assert not isinstance(raised.value, UnknownOutcome)
    assert not node.requests


def test_a_full_pool_says_nothing_against_the_node() -> None:
    """It was never asked, so the next calls do not avoid it."""
    with FakeNode() as node, Client([node.address, "127.0.0.1:1"], max_connections=1) as kv:
        assert kv._pool._room.acquire()
        with pytest.raises(TimedOut):
            kv.put("k", "v", timeout=0.6)
        kv._pool._room.release()
        assert kv._routing.pick(time.monotonic(), set()) == kv._routing.addresses[0]
        kv.put("k", "v")
