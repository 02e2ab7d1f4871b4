"""A node loses its disk: an empty one takes its place, is filled while the others serve, and the old one is fenced (T4)."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from .conftest import PATIENCE_S, RINGWISE, Cluster, free_base, until

KEYS = [f"k:{number}" for number in range(5000)]


def status(cluster: Cluster, asked: int) -> dict[str, Any]:
    done = subprocess.run(
        [RINGWISE, "status", "--json", "--port", str(cluster.port + asked - 1)],
        cwd=cluster.directory,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def member(cluster: Cluster, asked: int, victim: int) -> dict[str, Any]:
    return next(each for each in status(cluster, asked)["members"] if each["name"] == f"n{victim}")


@pytest.mark.parametrize("victim", [1, 3])
def test_a_node_with_an_empty_disk_is_filled_and_its_old_directory_is_fenced(cluster: Cluster, victim: int) -> None:
    asked = 2
    port = ("--port", str(cluster.port + asked - 1))
    with cluster.client(asked) as client:
        for at in range(0, len(KEYS), 500):
            with client.pipeline(transaction=False) as pipeline:
                for key in KEYS[at : at + 500]:
                    pipeline.set(key, f"value of {key}")
                pipeline.execute()
    refused = cluster.command("replace", f"n{victim}", *port, code=1)
    assert f"n{victim} is up" in refused

    cluster.kill(victim)
    directory = cluster.directory / "data" / f"n{victim}"
    old = cluster.directory / "old"
    directory.rename(old)
    hint = cluster.command("dev", "start", str(victim), code=1)
    assert f"replace n{victim}" in hint and f"dev start {victim}" in hint
    told = status(cluster, asked)
    assert told["under_replicated_slots"] == 16384 and any("under-replicated" in line for line in told["attention"])

    assert f"the place of n{victim} is free" in cluster.command("replace", f"n{victim}", *port)
    assert member(cluster, asked, victim)["lost"]
    assert "is being filled" in cluster.command("dev", "start", str(victim))
    until(lambda: not member(cluster, asked, victim)["filling"], f"n{victim} to be filled")
    until(lambda: not status(cluster, asked)["attention"], "all to be well")
    for node in (1, 2, 3):
        with cluster.client(node) as client:
            client.execute_command("RW.CONSISTENCY", "one")
            assert client.mget(KEYS) == [f"value of {key}" for key in KEYS]
    repaired = json.loads(cluster.command("repair", "--watch", "--json", "--port", str(cluster.port + victim - 1)))
    assert repaired["equal"] == 2 and repaired["differing"] == 0

    base = free_base(1)
    ports = [
        f"--{name}port={base + at}" for name, at in (("", 0), ("http-", 1000), ("peer-", 2000), ("cluster-", 3000))
    ]
    returned = subprocess.run(
        [RINGWISE, "serve", "--name", f"n{victim}", "--data-dir", str(old), *ports],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert returned.returncode == 78 and "was replaced by another data directory" in returned.stderr
    assert not status(cluster, asked)["attention"]
    shutil.rmtree(old)
    with cluster.client(victim) as client:
        assert client.set(KEYS[0], "w") and client.get(KEYS[0]) == "w"
