"""Clients in cluster mode ask every node and add up; plain ones ask one. Both are told the same about all keys."""

from __future__ import annotations

import threading
import time
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


THREADS = 4
GRACE_S = 1.0  # for what was in flight, or on its way to be tried again, when the death became known


def test_errors_end_when_the_death_of_a_node_is_known(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    failed_at: list[float] = []
    done = [0] * THREADS
    stop = threading.Event()

    def work(number: int) -> None:
        with redis.RedisCluster(host="127.0.0.1", port=cluster.port, decode_responses=True) as many:
            turn = 0
            while not stop.is_set():
                turn += 1
                key = f"{number}:{turn % 500}"
                try:
                    many.set(key, turn)
                    assert many.get(key) == str(turn)
                    done[number] += 1
                except redis.RedisError:
                    failed_at.append(time.monotonic())

    try:
        cluster.start()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        until(lambda: min(done) > 100, "every client to work")
        cluster.kill(2)
        until(lambda: _first_owners(cluster) == {cluster.port + 3000, cluster.port + 3002}, "the death to be known")
        known_s = time.monotonic()
        before = list(done)
        until(lambda: time.monotonic() > known_s + 2 * GRACE_S, "a while to pass")
        until(lambda: all(now > then + 200 for now, then in zip(done, before, strict=True)), "every client to go on")
        stop.set()
        for thread in threads:
            thread.join()
        late = [at - known_s for at in failed_at if at > known_s + GRACE_S]
        assert not late, f"errors so many seconds after the death was known: {late}"
        assert len(failed_at) <= THREADS, "only what was in flight may fail"
    finally:
        stop.set()
        cluster.abandon()


def _first_owners(cluster: Cluster) -> set[int]:
    with cluster.client(1) as one:
        return {owners[0][1] for owners in (entry[2:] for entry in one.execute_command("CLUSTER SLOTS"))}


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
