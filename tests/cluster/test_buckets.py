"""Buckets on real processes: every way in shows the same keys, and a restart knows which were flushed."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
import redis

from ringwise.client import Client

from .conftest import Cluster, until

MERGES = """
def union(values):
    return b",".join(sorted({part for value in values for part in value.split(b",")}))

def loops(values):
    while True:
        pass
"""


def test_every_way_into_a_bucket(shared: Cluster) -> None:
    created = json.loads(
        shared.command("bucket", "create", "sessions", "--ttl", "3600", "--json", "--port", str(shared.port))
    )
    assert (created["bucket"], created["ttl"]) == ("sessions", 3600)
    shared.command("put", "s", "by command", "--bucket", "sessions", "--port", str(shared.port + 1))
    with Client(f"127.0.0.1:{shared.port + 2}", bucket="sessions") as kv:
        reply = kv.get("s")
        assert reply is not None and reply.value == b"by command" and 0 < (reply.ttl or 0) <= 3600
        with kv.bucket(9) as nine:
            assert nine.get("s") is None
    with urllib.request.urlopen(f"http://127.0.0.1:{shared.port + 1000}/api/v1/buckets/sessions/kv/s") as answer:
        assert json.load(answer)["value"] == "by command"
    three = redis.Redis(port=shared.port, db=3, decode_responses=True)
    three.set("s", "three")
    with three.pipeline() as pipeline:
        pipeline.set("t", "3")
        pipeline.get("s")
        assert pipeline.execute() == [True, "three"]
    with shared.client(2) as home:
        assert home.mget("s", "t") == [None, None]
        home.set("s", "zero")
    cli = shutil.which("redis-cli")
    if cli is not None:
        words = [cli, "-p", str(shared.port + 1), "-n", "3", "get", "s"]
        assert subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout == "three\n"
    assert sorted(three.scan_iter()) == ["s", "t"] and three.dbsize() == 2
    assert three.flushdb()
    assert three.dbsize() == 0
    with shared.client(3) as home:
        assert home.get("s") == "zero"
    shared.command("bucket", "drop", "sessions", "--yes", "--port", str(shared.port))
    three.close()


def test_a_node_that_was_killed_before_the_flush_of_one_bucket_keeps_the_other(cluster: Cluster) -> None:
    keys = [f"k:{number}" for number in range(200)]
    for db in (0, 4):
        with redis.Redis(port=cluster.port, db=db) as client, client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(key, db)
            pipeline.execute()
    cluster.kill(3)
    with redis.Redis(port=cluster.port, db=4) as four:
        assert four.flushdb()
        four.set(keys[0], "new")
    cluster.command("dev", "start", "3")
    with (
        redis.Redis(port=cluster.port + 2, db=4, decode_responses=True) as four,
        redis.Redis(port=cluster.port + 2, decode_responses=True) as home,
    ):

        def caught_up() -> bool:
            try:
                return four.execute_command("RW.AT", "all", "GET", keys[0]) == "new"  # type: ignore[no-any-return]
            except (redis.ResponseError, redis.ConnectionError):
                return False

        until(caught_up, "the node to have heard of the flush")
        assert four.mget(keys) == ["new", *[None] * (len(keys) - 1)]
        assert home.mget(keys) == ["0"] * len(keys)
        with pytest.raises(redis.ResponseError, match="out of range"):
            home.execute_command("SELECT", "16")


def test_merge_functions_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_merges.py").write_text(MERGES)
    info = tmp_path / "some_merges-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-merges\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ringwise.merge]\nunion = some_merges:union\nloops = some_merges:loops\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    directory = tmp_path / "cluster"
    directory.mkdir()
    cluster = Cluster(directory)
    try:
        cluster.start()
        with Client(f"127.0.0.1:{cluster.port}") as home:
            for policy, shown in (("union", b"a,b,c"), ("loops", b"b,c")):
                cluster.command("bucket", "create", policy, "--policy", f"merge:{policy}", "--port", str(cluster.port))
                with home.bucket(policy) as kv:
                    nothing = kv.put("other", "x").context
                    first = kv.delete("k").context
                    assert nothing is not None and first is not None
                    kv.put("k", "a,b", context=first)
                    kv.put("k", "b,c", context=first)
                    reply = kv.get("k")
                    assert reply is not None and reply.value == shown
                    assert reply.conflict == (policy == "loops"), "what fails keeps the siblings"
        with cluster.client(1) as client:
            told = client.info("ringwise")
            assert (told["merges"], told["merges_failed"]) == (1, 1)
            assert "took longer than 50 ms to merge" in str(told["merge_last_failure"])
        refused = cluster.command(
            "bucket", "create", "a", "--policy", "merge:none", "--port", str(cluster.port), code=1
        )
        assert "this node has no merge function none" in refused and "there are: loops, union" in refused
    finally:
        cluster.abandon()
