"""FLUSHDB on real processes: through a cluster client, across kill -9 and restart."""

from __future__ import annotations

import pytest
import redis

from .conftest import Cluster, until

KEYS = [f"k:{number}" for number in range(300)]


def write(client: redis.Redis, value: str) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for key in KEYS:
            pipeline.set(key, value)
        pipeline.execute()


def test_a_cluster_client_flushes_every_primary_and_all_agree(cluster: Cluster) -> None:
    with (
        redis.RedisCluster(host="127.0.0.1", decode_responses=True, port=cluster.port) as client,
        cluster.client(3) as third,
    ):
        for number in range(3):
            for key in KEYS:
                client.set(key, number)
            assert client.flushdb()
            assert third.mget(KEYS) == [None] * len(KEYS)
            assert third.dbsize() == 0
        assert client.flushall(asynchronous=True)
        client.set("k:1", "new")
        assert third.get("k:1") == "new" and third.keys() == ["k:1"]


@pytest.mark.parametrize("down", [2, 3])
def test_a_node_that_was_killed_before_the_flush_brings_nothing_back(cluster: Cluster, down: int) -> None:
    with cluster.client(1) as first:
        write(first, "old")
        cluster.kill(down)
        assert first.flushdb()
        assert first.mget(KEYS) == [None] * len(KEYS)
        first.set(KEYS[0], "new")
        cluster.kill(1)
        cluster.command("dev", "start", "1")
        cluster.command("dev", "start", str(down))
    with cluster.client(down) as back, cluster.client(1) as first:
        until(lambda: _answers(back, first), "the nodes to talk again")
        for client in (back, first):
            assert client.mget(KEYS) == ["new", *[None] * (len(KEYS) - 1)]
            assert client.keys() == [KEYS[0]]


def _answers(*clients: redis.Redis) -> bool:
    try:
        return all(
            client.execute_command("RW.AT", "all", "GET", KEYS[0]) == "new"  # type: ignore[no-untyped-call]
            for client in clients
        )
    except (redis.ResponseError, redis.ConnectionError):
        return False
