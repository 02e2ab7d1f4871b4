"""`ringwise dev` where not all of its nodes can start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from .conftest import Cluster, until


@pytest.mark.parametrize("victim", [1, 2])
def test_a_member_whose_directory_is_lost_does_not_keep_the_others_down(cluster: Cluster, victim: int) -> None:
    survivor = 3
    with cluster.client(survivor) as client:
        assert client.set("k", "before")
    cluster.stop()
    lost, aside = cluster.directory / "data" / f"n{victim}", cluster.directory / "aside"
    lost.rename(aside)

    cluster.start()
    reason = f"n{victim} cannot start: data/n{victim}, which made it a member of this cluster, is gone; put it back"
    assert reason in cluster.said() and "Ringwise is ready: 2 nodes" in cluster.said()
    assert not lost.exists()
    with cluster.client(survivor) as client:
        assert client.get("k") == "before" and client.set("k", "after")
    assert reason in cluster.command("dev", "start", str(victim), code=1)

    aside.rename(lost)
    assert f"n{victim} is up" in cluster.command("dev", "start", str(victim))
    with cluster.client(victim) as client:
        assert client.get("k") == "after"


def test_a_member_that_ends_at_the_start_does_not_keep_the_others_down(cluster: Cluster) -> None:
    cluster.stop()
    identity = cluster.directory / "data" / "n2" / "identity"
    identity.write_bytes(b"{}")
    cluster.start()
    until(lambda: "n2 (pid" in cluster.said(), "the supervisor to name n2")
    assert "the file identity of the data directory is not ours" in cluster.said()
    with cluster.client(1) as client:
        assert client.set("k", "v")
    with pytest.raises(RedisError), cluster.client(2) as client:
        client.ping()


def test_with_every_directory_lost_nothing_starts(cluster: Cluster, tmp_path: Path) -> None:
    cluster.stop()
    for number in (1, 2, 3):
        (tmp_path / "data" / f"n{number}").rename(tmp_path / f"aside{number}")
    assert "n1 cannot start: data/n1" in cluster.command("dev", code=1)
    assert not list((tmp_path / "data").glob("n?"))


def test_json_tells_what_became_of_every_node(cluster: Cluster) -> None:
    done = json.loads(cluster.command("dev", "stop", "2", "--json"))
    assert done["text"].startswith("n2 is stopped")
    pids = {node["name"]: node["pid"] for node in done["nodes"]}
    assert pids["n2"] is None and pids["n1"] == cluster.pid(1) and pids["n3"] == cluster.pid(3)
    done = json.loads(cluster.command("dev", "start", "2", "--json"))
    assert {node["name"]: node["pid"] for node in done["nodes"]}["n2"] == cluster.pid(2)
    assert "cut off" in json.loads(cluster.command("dev", "--json", "partition", "3"))["text"]
    assert json.loads(cluster.command("dev", "heal", "--json"))["text"] == "no node is cut off"
    assert "there is no n9" in cluster.command("dev", "stop", "9", "--json", code=1)


def test_options_reach_every_node_and_the_whole_speaks_json(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--no-multi", "--debug-commands", "--json")
    try:
        cluster.start()
        welcome = json.loads(cluster.said().splitlines()[0])
        assert [node["name"] for node in welcome["nodes"]] == ["n1", "n2", "n3"]
        for node in (1, 2, 3):
            with cluster.client(node) as client:
                assert client.execute_command("DEBUG", "SLEEP", "0") == "OK"
                with pytest.raises(RedisError, match="MULTI, which is switched off on this node"):
                    client.pipeline().set("k", "v").execute()
        cluster.stop()
        assert json.loads(cluster.said().splitlines()[-1])["text"].startswith("Stopped.")
    finally:
        cluster.abandon()
