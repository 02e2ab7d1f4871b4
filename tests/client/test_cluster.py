"""Both clients against three real nodes: values, siblings, limits, a killed node, threads and forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ringwise import AsyncClient, Client
from ringwise.client import (
    BadContext,
    ConnectionFailed,
    InvalidRequest,
    PartialFailure,
    QuorumNotReached,
    RingwiseError,
    Sibling,
    StillConflicting,
    UnknownOutcome,
)

from .conftest import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ten_lines.py"


def addresses(cluster: Cluster) -> list[str]:
    return [f"127.0.0.1:{cluster.port + node}" for node in range(cluster.nodes)]


def seeing_both(kv: Client, key: str) -> None:
    """Two versions that have not seen each other: both were made from the same context."""
    seen = kv.put(key, "base").context
    kv.put(key, "left", context=seen)
    kv.put(key, "right", context=seen)


def test_the_whole_of_a_key(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        assert kv.get("c:none") is None and not kv.exists("c:none")
        with pytest.raises(KeyError):
            kv.ttl("c:none")
        written = kv.put("c:k", b"\x00\r\n", ttl=100, content_type="text/plain", flags=7)
        assert written.siblings == 1
        reply = kv.get(b"c:k", level="all")
        assert reply is not None and not reply.conflict
        assert (reply.value, reply.content_type, reply.flags) == (b"\x00\r\n", "text/plain", 7)
        assert reply.version == written.version and reply.ttl is not None and 90 < reply.ttl <= 100
        assert kv.exists("c:k")
        kv.put("c:k", "no end", context=reply.context)
        assert kv.ttl("c:k") is None
        assert kv.delete("c:k").siblings == 0
        assert kv.get("c:k") is None
        assert kv.delete("c:k").siblings == 0
        large = b"x" * 1024 * 1024
        kv.put("c:large", large)
        found = kv.get("c:large")
        assert found is not None and found.value == large


def test_siblings_are_seen_and_resolved(shared: Cluster) -> None:
    with Client(addresses(shared), level="quorum") as kv:
        seeing_both(kv, "c:cart")
        reply = kv.get("c:cart")
        assert reply is not None and reply.conflict
        assert [sibling.value for sibling in reply.siblings] == [b"right", b"left"]
        merged = kv.get("c:cart", resolve=lambda siblings: b"+".join(sorted(sibling.value for sibling in siblings)))
        assert merged is not None and merged.value == b"left+right" and not merged.conflict
        again = kv.get("c:cart")
        assert again is not None and [s.value for s in again.siblings] == [b"left+right"]
        assert again.context == merged.context and again.version == merged.version
        seeing_both(kv, "c:cart")
        reply = kv.get("c:cart")
        assert reply is not None
        kv.put("c:cart", "purple", context=reply.context)
        assert (found := kv.get("c:cart")) is not None and found.value == b"purple" and not found.conflict


def test_a_merge_that_somebody_disturbs_is_merged_again_within_bounds(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv, Client(addresses(shared)) as other:
        seeing_both(kv, "c:race")
        calls = 0
        seen = kv.get("c:race")
        assert seen is not None

        def disturbed(siblings: tuple[Sibling, ...]) -> bytes:
            nonlocal calls
            calls += 1
            if calls <= limit:
                other.put("c:race", f"other {calls}", context=seen.context)
            return b"|".join(sibling.value for sibling in siblings)

        limit = 2
        reply = kv.get("c:race", resolve=disturbed)
        assert reply is not None and calls == 3 and not reply.conflict
        assert all(word in reply.value for word in (b"left", b"right", b"other 1", b"other 2"))
        seeing_both(kv, "c:race")
        limit, calls = 1000, 0
        with pytest.raises(StillConflicting):
            kv.get("c:race", resolve=disturbed)


def test_errors_say_what_was_wrong(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        for attempt, kind, words in (
            (lambda: kv.put("k" * 257, "v"), InvalidRequest, "256"),
            (lambda: kv.get(""), InvalidRequest, "empty"),
            (lambda: kv.put("c:big", b"x" * (1024 * 1024 + 1)), InvalidRequest, "1048576"),
            (lambda: kv.put("c:k", "v", context=b"made up"), BadContext, "context"),
            (lambda: kv.get("c:k", level="most"), InvalidRequest, "level"),
        ):
            with pytest.raises(kind, match=words):
                attempt()
    with pytest.raises(ValueError, match="closed"):
        kv.get("c:k")


def test_many_keys(shared: Cluster) -> None:
    with Client(addresses(shared)) as kv:
        items = {f"c:many:[{number}]*": str(number) for number in range(700)}
        assert set(kv.put_many(items)) == set(items)
        found = kv.get_many([*items, "c:many:none"])
        assert {key: None if reply is None else reply.text for key, reply in found.items()} == items | {
            "c:many:none": None
        }
        assert sorted(kv.scan(prefix="c:many:[")) == sorted(key.encode() for key in items)
        assert list(kv.scan(prefix="c:many:[9]*")) == [b"c:many:[9]*"]
        with pytest.raises(PartialFailure) as failed:
            kv.put_many({"c:many:good": "v", "k" * 257: "v"})
        assert set(failed.value.results) == {"c:many:good"}
        assert isinstance(failed.value.errors["k" * 257], InvalidRequest)


def test_asyncio_on_any_loop(shared: Cluster) -> None:
    kv = AsyncClient(addresses(shared), max_connections=20)

    async def scenario(turn: int) -> None:
        async def one(number: int) -> None:
            key = f"c:async:{number}"
            await kv.put(key, f"{turn}:{number}", ttl=60)
            reply = await kv.get(key)
            assert reply is not None and reply.text == f"{turn}:{number}"

        await asyncio.gather(*(one(number) for number in range(200)))
        found = await kv.get_many([f"c:async:{number}" for number in range(200)])
        assert all(reply is not None for reply in found.values())
        assert len({key async for key in kv.scan(prefix="c:async:")}) == 200
        await kv.put_many({"c:async:x": "1"})
        assert await kv.exists("c:async:x") and await kv.ttl("c:async:x") is None
        await kv.delete("c:async:x")
        assert await kv.get("c:async:x") is None
        seen = (await kv.put("c:async:s", "base")).context
        await kv.put("c:async:s", "left", context=seen)
        await kv.put("c:async:s", "right", context=seen)
        merged = await kv.get("c:async:s", resolve=lambda siblings: siblings[0].value + siblings[1].value)
        assert merged is not None and merged.value == b"rightleft"
        with pytest.raises(InvalidRequest, match="256"):
            await kv.get("k" * 257)

    async def last() -> None:
        async with kv:
            await scenario(2)
        with pytest.raises(ValueError, match="closed"):
            await kv.get("k")

    asyncio.run(last())
    again = AsyncClient(addresses(shared))

    async def then_close() -> None:
        async with again:
            await again.put("c:loop", "v")

    asyncio.run(then_close())


def test_threads_share_a_client_and_none_is_left_behind(shared: Cluster) -> None:
    before = threading.active_count()
    wrong: list[object] = []
    with Client(addresses(shared), max_connections=3) as kv:

        def work(number: int) -> None:
            for turn in range(30):
                key = f"c:thread:{number}:{turn}"
                kv.put(key, key)
                reply = kv.get(key)
                if reply is None or reply.text != key:
                    wrong.append(reply)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert threading.active_count() == before


def test_a_forked_child_has_connections_of_its_own(shared: Cluster) -> None:
    program = f"""
import os, sys
from ringwise import Client
with Client({addresses(shared)!r}) as kv:
    kv.put("c:fork", "before")
    child = os.fork()
    name = "child" if child == 0 else "parent"
    for number in range(200):
        kv.put(f"c:fork:{{name}}:{{number}}", f"{{name}}:{{number}}")
        reply = kv.get(f"c:fork:{{name}}:{{number}}")
        if reply is None or reply.text != f"{{name}}:{{number}}":
            os._exit(1)
    if child == 0:
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, env=os.environ)


def test_nobody_is_there() -> None:
    with Client(["127.0.0.1:1"], timeout=5) as kv, pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        kv.put("k", "v")


def test_the_node_it_talks_to_is_killed(cluster: Cluster) -> None:
    """Given one address only: the others were learned. The kill hits an idle connection, so nothing is in flight."""
    with Client(addresses(cluster)[:1]) as kv:
        kv.put("c:k", "before")
        cluster.kill(1)
        reply = kv.get("c:k")
        assert reply is not None and reply.value == b"before"
        kv.put("c:k", "after")
        assert kv.get_many(["c:k"])["c:k"] is not None
        with pytest.raises(QuorumNotReached):
            kv.put("c:k", "all", level="all")
        cluster.command("dev", "start", "1")
        kv.put("c:k", "again")


def test_a_kill_under_load_is_told_only_to_writes_in_flight(cluster: Cluster) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        troubles: list[RingwiseError] = []
        acknowledged: dict[str, int] = {}

        async def work(number: int, kv: AsyncClient) -> None:
            turn = 0
            key = f"c:load:{number}"
            while not stop.is_set():
                turn += 1
                try:
                    await kv.put(key, str(turn))
                    acknowledged[key] = turn
                except RingwiseError as error:
                    troubles.append(error)
                reply = await kv.get(key)  # a read never fails: two nodes are up
                assert reply is None or int(reply.text) >= acknowledged.get(key, 0)

        async with AsyncClient(addresses(cluster), timeout=30) as kv:
            tasks = [asyncio.create_task(work(number, kv)) for number in range(20)]
            while len(acknowledged) < 20:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cluster.kill, 1)
            marks = dict(acknowledged)
            while any(acknowledged[key] < marks[key] + 5 for key in marks):
                assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*tasks)
            assert all(isinstance(error, UnknownOutcome) for error in troubles), troubles
            assert len(troubles) <= 40, troubles

    asyncio.run(scenario())


def test_the_example(shared: Cluster) -> None:
    text = EXAMPLE.read_text().replace("7379", str(shared.port)).replace("7380", str(shared.port + 1))
    said = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith("apples ") and "['cart:42']\nNone\n" in said
