"""Counters and sets of both clients, against real nodes, one of which is killed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ringwise import AsyncClient, Client
from ringwise.client import InvalidRequest, QuorumNotReached, RingwiseError, UnknownOutcome

from .conftest import Cluster
from .test_cluster import addresses

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]


def test_a_counter(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        views = kv.counter("t:views")
        assert views.value() == 0
        assert (views.increment(), views.increment(10), views.decrement(4)) == (1, 11, 7)
        assert (views.increment_once(), views.increment_once(5, level="all")) == (8, 13)
        assert kv.counter("t:views").increment_once(2) == 15, "another handle, another session"
        named = kv.counter("t:views", session="worker 7")
        assert [named.increment_once(3, seq=seq) for seq in (1, 1, 2, 1)] == [18, 18, 21, 21]
        with pytest.raises(InvalidRequest, match="SEQ 4 does not follow"):
            named.increment_once(3, seq=4)
        with pytest.raises(InvalidRequest, match="R \\+ W"):
            views.increment_once(level="one")
        assert views.increment_once() == 22, "what was refused took no number"
        assert views.value(level="strong") == 22
        kv.put("t:text", "text")
        with pytest.raises(InvalidRequest, match="no whole number"):
            kv.counter("t:text").value()
        with pytest.raises(InvalidRequest, match="not an integer"):
            kv.counter("t:text").increment()


def test_a_set(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        tags = kv.set("t:tags")
        assert len(tags) == 0 and tags.members() == set() and "a" not in tags
        assert tags.add("a", "b", b"\xff") == 3 and tags.add("a", "c") == 1
        assert "a" in tags and tags.contains("b", level="all") and not tags.contains("z")
        assert tags.remove("a", "z") == 1
        assert tags.members() == set(tags) == {b"b", b"c", b"\xff"} and tags.size() == len(tags) == 3
        assert tags.pop(2, timeout=10) < {b"b", b"c", b"\xff"} and len(tags) == 1
        kv.put("t:plain", "v")
        with pytest.raises(InvalidRequest, match="WRONGTYPE"):
            kv.set("t:plain").add("a")


def test_a_map(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        profile = kv.map("t:profile")
        assert len(profile) == 0 and profile.get("name") is None and profile.items() == {}
        first: dict[str, str | bytes] = {"name": "Ada", "raw": b"\xff"}
        assert profile.put(first) == 2 and profile.put({"name": "Eve"}) == 0
        profile["city"] = "Turin"
        assert profile["city"] == b"Turin" and "city" in profile and not profile.contains("phone", level="all")
        assert (profile.increment("visits"), profile.increment("visits", 4)) == (1, 5)
        assert profile.items() == {b"name": b"Eve", b"raw": b"\xff", b"city": b"Turin", b"visits": b"5"}
        del profile["city"]
        with pytest.raises(KeyError):
            del profile["city"]
        with pytest.raises(KeyError):
            profile["city"]
        assert profile.remove("name", "phone") == 1 and profile.size() == 2
        with pytest.raises(InvalidRequest, match="not an integer"):
            profile.increment("raw")
        with pytest.raises(InvalidRequest, match="WRONGTYPE"):
            kv.set("t:profile").add("a")


def test_a_leaderboard(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        game = kv.leaderboard("t:game")
        assert len(game) == 0 and game.top() == [] and game.rank("ada") is None and game.score("ada") is None
        assert game.put({"ada": 10, "ben": 7.5, "eve": 1}) == 3 and game.put({"eve": -1}) == 0
        assert game.increment("ben", 5) == 12.5 and game.increment("kim") == 1.0
        assert game.top(2) == [(b"ben", 12.5), (b"ada", 10.0)] and game.ranked(-2, -1) == [
            (b"kim", 1.0),
            (b"eve", -1.0),
        ]
        assert (game.rank("ben"), game.rank("eve", level="all"), game.score("eve")) == (0, 3, -1.0)
        assert game.remove("ada", "nobody") == 1 and game.size() == 3


def test_the_same_on_asyncio(shared: Cluster) -> None:
    async def scenario() -> None:
        async with AsyncClient(addresses(shared)) as kv:
            views, tags = kv.counter("t:async:n"), kv.set("t:async:s")
            await asyncio.gather(*(views.increment_once(2) for _ in range(20)), *(views.increment() for _ in range(20)))
            assert await views.value() == 60 and await views.decrement(60) == 0
            assert await kv.counter("t:async:n", session="s").increment_once(4, seq=1) == 4
            assert await tags.add("a", "b", "c") == 3 and await tags.remove("a") == 1
            assert await tags.contains("b") and await tags.members() == {b"b", b"c"} and await tags.size() == 2
            assert len(await tags.pop()) == 1
            profile, game = kv.map("t:async:h"), kv.leaderboard("t:async:z")
            await asyncio.gather(
                *(profile.increment("n", 2) for _ in range(10)), *(game.increment("m") for _ in range(10))
            )
            assert await profile.items() == {b"n": b"20"} and await profile.get("n") == b"20"
            assert await profile.put({"a": "b"}) == 1 and await profile.contains("a") and await profile.remove("a") == 1
            assert await profile.size() == 1
            assert await game.put({"o": 3}) == 1 and await game.top() == [(b"m", 10.0), (b"o", 3.0)]
            assert (await game.rank("o"), await game.score("o"), await game.size()) == (1, 3.0, 2)
            assert await game.ranked(1, 1) == [(b"o", 3.0)] and await game.remove("o") == 1

    asyncio.run(scenario())


def test_threads_share_a_handle(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        counter = kv.counter("t:threads")
        threads = [threading.Thread(target=lambda: [counter.increment_once() for _ in range(20)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.value() == 160


def test_a_kill_under_load_loses_no_increment_and_counts_none_twice(cluster: Cluster) -> None:
    """Each worker calls again until it is answered: what the cluster counts is what was answered."""
    workers, killed = 8, asyncio.Event()
    answered = [0] * workers

    async def work(number: int, kv: AsyncClient) -> None:
        counter = kv.counter("t:killed")
        while not killed.is_set() or answered[number] < marks[number] + 10:
            try:
                await counter.increment_once(3)
            except (UnknownOutcome, QuorumNotReached):
                continue
            answered[number] += 1

    marks = [0] * workers

    async def scenario() -> None:
        async with AsyncClient(addresses(cluster), timeout=30) as kv:
            tasks = [asyncio.create_task(work(number, kv)) for number in range(workers)]
            while min(answered) < 5:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cluster.kill, 1)
            marks[:] = answered
            killed.set()
            await asyncio.gather(*tasks)
            assert await kv.counter("t:killed").value(level="strong") == 3 * sum(answered)

    asyncio.run(scenario())


def test_errors_are_those_of_the_client(cluster: Cluster) -> None:
    with Client(addresses(cluster)) as kv:
        tags, views = kv.set("t:tags"), kv.counter("t:views")
        tags.add("a")
        cluster.kill(2)
        with pytest.raises(QuorumNotReached):
            tags.add("b", level="all")
        with pytest.raises(QuorumNotReached):
            views.increment_once(level="all")
        assert tags.add("b") == 1 and views.increment_once() == 1
        cluster.kill(3)
        with pytest.raises(RingwiseError):
            views.increment_once(timeout=3)
