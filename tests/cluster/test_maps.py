"""Hashes and sorted sets on real nodes, by redis-py: all nodes add at once, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import redis

from .conftest import Cluster

ROUNDS = 100


def test_all_nodes_add_at_once(shared: Cluster) -> None:
    def work(node: int) -> None:
        with redis.Redis(port=shared.port + node, decode_responses=True) as client:
            for number in range(ROUNDS):
                client.hincrby("maps:h", "n", node + 1)
                client.hincrbyfloat("maps:h", "real", 0.1)
                client.hset("maps:h", f"{node}.{number}", number)
                client.zincrby("maps:z", 0.5, "all")
                client.zadd("maps:z", {f"{node}.{number}": number}, nx=True)
                if number % 2:
                    client.hdel("maps:h", f"{node}.{number}")
                    client.zrem("maps:z", f"{node}.{number}")

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    kept = {f"{node}.{number}": number for node in range(3) for number in range(0, ROUNDS, 2)}
    for node in range(3):
        with redis.Redis(port=shared.port + node, protocol=2 + node % 2, decode_responses=True) as client:
            fields = client.hgetall("maps:h")
            assert (fields.pop("n"), fields.pop("real")) == (str(6 * ROUNDS), str(3 * ROUNDS // 10))
            assert {name: int(value) for name, value in fields.items()} == kept
            ranked = client.zrange("maps:z", 0, -1, withscores=True)
            assert dict(ranked) == {**kept, "all": 1.5 * ROUNDS}
            assert [score for _, score in ranked] == sorted(score for _, score in ranked)


def test_a_leaderboard_through_every_node(shared: Cluster) -> None:
    clients = [redis.Redis(port=shared.port + node, decode_responses=True) for node in range(3)]
    first, second, third = clients
    assert first.zadd("maps:board", {"ann": 10, "bob": 20, "cid": 15}) == 3
    assert second.zincrby("maps:board", 7.5, "ann") == 17.5
    assert third.zrevrange("maps:board", 0, 1, withscores=True) == [("bob", 20.0), ("ann", 17.5)]
    assert first.zrevrank("maps:board", "ann") == 1
    assert second.zunionstore("maps:total", {"maps:board": 2, "maps:absent": 1}) == 3
    assert third.zpopmax("maps:total") == [("bob", 40.0)]
    assert dict(first.zscan_iter("maps:total")) == {"ann": 35.0, "cid": 30.0}
    for client in clients:
        client.close()
