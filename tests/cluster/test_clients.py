"""The clients people have, unmodified."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest
import redis
import redis.asyncio

from .conftest import Cluster

needs_redis_tools = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")


def cli(cluster: Cluster, node: int, *arguments: str) -> str:
    command = ["redis-cli", "-p", str(cluster.port + node - 1), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


@needs_redis_tools
def test_redis_cli_writes_on_one_port_and_reads_on_another(shared: Cluster) -> None:
    assert cli(shared, 1, "SET", "cli:k", "v") == "OK"
    assert cli(shared, 2, "GET", "cli:k") == "v"
    assert cli(shared, 3, "DEL", "cli:k") == "1"
    assert cli(shared, 1, "GET", "cli:k") == ""
    assert cli(shared, 2, "-3", "SET", "cli:k", "w") == "OK"
    assert cli(shared, 3, "-c", "GET", "cli:k") == "w"


def test_redis_py(shared: Cluster) -> None:
    with redis.Redis(port=shared.port) as first, redis.Redis(port=shared.port + 2, protocol=3) as third:
        assert first.set("py:k", b"\x00\r\n\xff" * 1000)
        assert third.get("py:k") == b"\x00\r\n\xff" * 1000
        assert first.mset({f"py:{number}": str(number) for number in range(300)})
        assert third.mget([f"py:{number}" for number in range(301)]) == [
            *(str(number).encode() for number in range(300)),
            None,
        ]
        with third.pipeline(transaction=False) as pipeline:
            for number in range(300):
                pipeline.get(f"py:{number}").set(f"py:{number}", "new").get(f"py:{number}")
            assert pipeline.execute() == [
                part for number in range(300) for part in (str(number).encode(), True, b"new")
            ]
        assert first.delete("py:0", "py:1", "py:none") == 2
        assert third.exists("py:0", "py:2") == 1
        large = b"x" * 1024 * 1024
        assert first.set("py:large", large)
        assert third.get("py:large") == large
        with pytest.raises(redis.ResponseError, match="1048576"):
            first.set("py:large", large + b"x")


def test_redis_py_asyncio(shared: Cluster) -> None:
    async def scenario() -> None:
        async with redis.asyncio.Redis(port=shared.port) as first, redis.asyncio.Redis(port=shared.port + 1) as second:
            await asyncio.gather(*(first.set(f"async:{number}", number) for number in range(50)))
            found = await asyncio.gather(*(second.get(f"async:{number}") for number in range(50)))
            assert found == [str(number).encode() for number in range(50)]

    asyncio.run(scenario())


def test_redis_py_cluster(shared: Cluster) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=shared.port + 1) as client:
        assert {node.port for node in client.get_nodes()} == {shared.port + 3000 + node for node in range(3)}
        for number in range(200):
            assert client.set(f"rc:{number}", number)
        assert [client.get(f"rc:{number}") for number in range(200)] == [str(number).encode() for number in range(200)]
        with client.pipeline() as pipeline:
            for number in range(200):
                pipeline.get(f"rc:{number}")
            assert pipeline.execute() == [str(number).encode() for number in range(200)]


@needs_redis_tools
@pytest.mark.parametrize("options", [[], ["-P", "16"], ["-d", "10000"], ["--cluster"]], ids=" ".join)
def test_redis_benchmark(shared: Cluster, options: list[str]) -> None:
    command = ["redis-benchmark", "-p", str(shared.port), "-t", "set,get", "-r", "1000000", "-n", "20000", "-q"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=True)
    assert "rror" not in done.stdout + done.stderr
    assert done.stdout.count("requests per second") == 2


def test_redis_pys_default_pipeline_is_a_batch_in_order(shared: Cluster) -> None:
    """`pipeline()` sends MULTI and EXEC unless it is told not to."""
    for node in (1, 2, 3):
        with shared.client(node) as client:
            assert client.pipeline().set("batch", node).append("batch", "2").get("batch").execute() == [
                True,
                2,
                f"{node}2",
            ]
            with pytest.raises(redis.ResponseError, match="SETNX is not served yet"):
                client.pipeline().set("batch", "lost").setnx("other", "value").execute()
            with pytest.raises(redis.ResponseError, match="WATCH is not served"):
                client.pipeline().watch("batch")
            assert client.get("batch") == f"{node}2"


def test_cluster_mode_clients_learn_what_a_slot_holds(shared: Cluster) -> None:
    keys = {f"{{slot of its own}}{n}" for n in range(300)}
    with shared.client(1) as client:
        client.mset(dict.fromkeys(keys, "v"))
    for node in (1, 2, 3):
        with shared.client(node) as client:
            slot = client.cluster("KEYSLOT", "{slot of its own}")
            named = client.cluster("GETKEYSINSLOT", slot, 1000)  # other tests' keys may be in it as well
            assert set(named) >= keys and client.cluster("COUNTKEYSINSLOT", slot) == len(named)
            assert len(client.cluster("LINKS")) == 2
