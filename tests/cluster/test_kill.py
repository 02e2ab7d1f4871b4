"""Deaths: of one node under load, of all, of the supervisor. What was acknowledged is there afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pytest

from .conftest import HERE, Cluster, until


class Noted(TypedDict):
    """What one client process wrote."""

    acknowledged: dict[str, str]
    unknown: dict[str, list[str]]
    errors: list[str]


class Load:
    """Client processes, some for each node."""

    def __init__(self, cluster: Cluster, clients: dict[str, int]) -> None:
        self.notes: dict[str, Noted] = {}
        self._files = {prefix: cluster.directory / f"load-{prefix}.json" for prefix in clients}
        self._processes = {
            prefix: subprocess.Popen(
                [sys.executable, str(HERE / "load.py"), str(cluster.port + node - 1), prefix, str(self._files[prefix])],
                stdin=subprocess.PIPE,
            )
            for prefix, node in clients.items()
        }

    def stop(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for prefix, process in self._processes.items():
            assert process.wait(60) == 0
            self.notes[prefix] = json.loads(self._files[prefix].read_text())

    def errors(self, *prefixes: str) -> list[str]:
        return [error for prefix in prefixes for error in self.notes[prefix]["errors"]]


@contextlib.contextmanager
def load(cluster: Cluster, **clients: int) -> Iterator[Load]:
    running = Load(cluster, clients)
    try:
        yield running
    finally:
        running.stop()


def writes_through(cluster: Cluster, node: int) -> int:
    with cluster.client(node) as client:
        return int(client.info("stats")["total_commands_processed"])


def wait_for_writes(cluster: Cluster, node: int, count: int = 1500) -> None:
    start = writes_through(cluster, node)
    until(lambda: writes_through(cluster, node) >= start + count, f"{count} more commands on n{node}")


def assert_nothing_missing(cluster: Cluster, notes: dict[str, Noted]) -> None:
    """Through every node: each key has its last acknowledged value, or a later one whose outcome is unknown."""
    for node in range(1, cluster.nodes + 1):
        with cluster.client(node) as client:
            for note in notes.values():
                keys = list(note["acknowledged"])
                for start in range(0, len(keys), 500):
                    part = keys[start : start + 500]
                    for key, found in zip(part, client.mget(part), strict=True):
                        allowed = [note["acknowledged"][key], *note["unknown"].get(key, [])]
                        assert found in allowed, (f"n{node}", key, found, allowed)


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_a_node_killed_under_load_costs_the_clients_of_the_others_nothing(cluster: Cluster, victim: int) -> None:
    """Any node: also the first, which founded the cluster and which the others joined."""
    one, other = (node for node in (1, 2, 3) if node != victim)
    with load(cluster, a=one, b=one, c=other, d=other, victim=victim) as running:
        for node in (one, other, victim):
            wait_for_writes(cluster, node)
        cluster.kill(victim)
        wait_for_writes(cluster, one)
        wait_for_writes(cluster, other)
        assert f"n{victim} is up" in cluster.command("dev", "start", str(victim))
        wait_for_writes(cluster, one)
    assert running.errors("a", "b", "c", "d") == []
    assert all(note["acknowledged"] for note in running.notes.values())
    assert_nothing_missing(cluster, running.notes)
    with cluster.client(victim) as client:
        assert client.info("ringwise")["members_up"] == 3


def test_all_nodes_killed_at_once_lose_nothing_acknowledged(cluster: Cluster) -> None:
    """Sync mode `periodic` promises this for the death of processes: the log was written before the answer."""
    with load(cluster, a=1, b=2, c=3) as running:
        for node in (1, 2, 3):
            wait_for_writes(cluster, node, 800)
        cluster.kill(1, 2, 3)
    for name in ("1", "n2", "3"):
        cluster.command("dev", "start", name)
    assert all(len(note["acknowledged"]) > 100 for note in running.notes.values())
    assert_nothing_missing(cluster, running.notes)


def test_a_clean_stop_keeps_everything_and_the_identity(cluster: Cluster) -> None:
    identities = [json.loads(path.read_text()) for path in sorted(cluster.directory.glob("data/n*/identity"))]
    with load(cluster, a=1, b=2, c=3) as running:
        wait_for_writes(cluster, 1, 500)
    cluster.stop()
    assert "Stopped" in cluster.said()
    for path, before in zip(sorted(cluster.directory.glob("data/n*/identity")), identities, strict=True):
        after = json.loads(path.read_text())
        assert after["clean"] is not None
        assert (after["node"], after["incarnation"]) == (before["node"], before["incarnation"])
    cluster.start()
    assert_nothing_missing(cluster, running.notes)
    # Proven complete, so dots go on under the same incarnation (V2); after a kill they do not.
    assert _incarnations(cluster) == [identity["incarnation"] for identity in identities]
    cluster.kill(2)
    cluster.command("dev", "start", "2")
    old, new = [identity["incarnation"] for identity in identities], _incarnations(cluster)
    assert (new[0], new[2]) == (old[0], old[2]) and new[1] != old[1]


def test_a_stopped_node_stays_down_and_comes_back_by_command(cluster: Cluster) -> None:
    assert "n3 is stopped" in cluster.command("dev", "stop", "3")
    with cluster.client(1) as client:
        until(lambda: client.info("ringwise")["members_up"] == 2, "n1 to see that n3 is gone")
        assert client.set("while-n3-is-away", "1")
    assert "n3 is not running" in cluster.command("dev", "stop", "3", code=1)
    assert "n3 is up" in cluster.command("dev", "start", "3")
    assert "n3 is running already" in cluster.command("dev", "start", "3", code=1)
    assert "there is no n4" in cluster.command("dev", "start", "4", code=1)
    with cluster.client(3) as client:
        assert client.get("while-n3-is-away") == "1"


def test_a_frozen_node_costs_the_clients_of_the_others_nothing(cluster: Cluster) -> None:
    """Its links stand and nothing is answered: it counts as down once its oldest request is past the deadline."""
    frozen = cluster.pid(2)
    with load(cluster, a=1, b=3) as running, cluster.client(1) as client:
        wait_for_writes(cluster, 1, 500)
        os.kill(frozen, signal.SIGSTOP)
        try:
            until(lambda: client.info("ringwise")["members_up"] == 2, "n1 to see that n2 does not answer")
            wait_for_writes(cluster, 1, 500)
            wait_for_writes(cluster, 3, 500)
        finally:
            os.kill(frozen, signal.SIGCONT)
        until(lambda: client.info("ringwise")["members_up"] == 3, "n1 to see that n2 is back")
    assert running.errors("a", "b") == []
    assert_nothing_missing(cluster, running.notes)


def test_status_tells_who_is_down(cluster: Cluster) -> None:
    port = str(cluster.port)
    with cluster.client(1) as client:
        client.set("key", "value")
    healthy = cluster.command("status", "--port", port)
    assert "formed, 3 copies" in healthy and "attention" not in healthy
    assert [line.split()[:2] for line in healthy.splitlines()[2:]] == [["n1", "up"], ["n2", "up"], ["n3", "up"]]
    cluster.kill(3)
    with cluster.client(1) as client:
        until(lambda: client.info("ringwise")["members_up"] == 2, "n1 to see that n3 is gone")
    found = json.loads(cluster.command("status", "--port", port, "--json", code=3))
    assert [(member["name"], member["answers"]) for member in found["members"]] == [
        ("n1", True),
        ("n2", True),
        ("n3", False),
    ]
    assert len(found["attention"]) == 2 and "n3 does not answer" in found["attention"][0]
    assert "16,384 slots are under-replicated" in found["attention"][1]
    assert "is a node running there" in cluster.command("status", "--port", str(cluster.port + 2), code=1)


def test_nodes_do_not_outlive_a_killed_supervisor(cluster: Cluster) -> None:
    pids = [cluster.pid(node) for node in (1, 2, 3)]
    with cluster.client(1) as client:
        client.set("key", "value")
    supervisor = cluster.supervisor()
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the nodes to end")
    for path in sorted(cluster.directory.glob("data/n*/identity")):
        assert json.loads(path.read_text())["clean"] is not None
    cluster.start()
    with cluster.client(3) as client:
        assert client.get("key") == "value"


def _incarnations(cluster: Cluster) -> list[str]:
    return [json.loads(path.read_text())["incarnation"] for path in sorted(cluster.directory.glob("data/n*/identity"))]
