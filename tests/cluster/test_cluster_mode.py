"""Clients in cluster mode ask every node and add up; plain ones ask one. Both are told the same about all keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from .conftest import Cluster, until

KEYS = 3000


@pytest.mark.parametrize("nodes", [3, 5])
def test_both_kinds_of_client_see_the_same_keys(nodes: int, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, nodes=nodes)
    try:
        cluster.start()
        names = {f"key:{number}" for number in range(KEYS)}
        with redis.RedisCluster(host="127.0.0.1", port=cluster.port, decode_responses=True) as many:
            pipeline = many.pipeline()
            for name in sorted(names):
                pipeline.set(name, "v")
            pipeline.execute()
            _agree(cluster, many, names)
            gone = sorted(names)[:100]
            many.delete(*gone)
            names.difference_update(gone)
            _agree(cluster, many, names)
            assert len(many.get_primaries()) == nodes
        cluster.kill(nodes)
        until(lambda: _primaries(cluster) == nodes - 1, "the death to be known")
        with redis.RedisCluster(host="127.0.0.1", port=cluster.port, decode_responses=True) as many:
            _agree(cluster, many, names, nodes=nodes - 1)
    finally:
        cluster.abandon()


def _primaries(cluster: Cluster) -> int:
    with redis.RedisCluster(host="127.0.0.1", port=cluster.port) as many:
        return len(many.get_primaries())


def _agree(cluster: Cluster, many: redis.RedisCluster, names: set[str], nodes: int = 0) -> None:
    for number in range(1, (nodes or cluster.nodes) + 1):
        with cluster.client(number) as one:
            assert one.dbsize() == len(names)
            assert set(one.scan_iter(count=500)) == names
    # As with Redis Cluster, redis-py asks one node unless it is told to ask all; SCAN asks all by itself.
    assert many.dbsize(target_nodes=many.PRIMARIES) == len(names)
    listed = many.keys(target_nodes=many.PRIMARIES)
    assert len(listed) == len(names) and set(listed) == names
    scanned = list(many.scan_iter(count=500))
    assert set(scanned) == names
