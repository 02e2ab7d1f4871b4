"""Who is up, on real nodes: killed, stopped, paused, moved; by what INFO of the others says (R6)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PATIENCE_S, RINGWISE, Cluster, free_base, until


def node_id(cluster: Cluster, node: int) -> str:
    with cluster.client(node) as client:
        return str(client.info("ringwise")["node_id"])


def told(cluster: Cluster, asked: int, member: str) -> tuple[str, int]:
    """State and incarnation of a member, by one node."""
    with cluster.client(asked) as client:
        info = client.info("ringwise")
    return str(info[f"state_{member}"]), int(info[f"incarnation_{member}"])


def counted(cluster: Cluster, asked: int, what: str) -> int:
    with cluster.client(asked) as client:
        return int(client.info("ringwise")[f"gossip_{what}"])


def all_say(cluster: Cluster, asked: tuple[int, ...], member: str, state: str) -> None:
    until(lambda: all(told(cluster, each, member)[0] == state for each in asked), f"{asked} to call {member} {state}")


def flags(cluster: Cluster, asked: int, member: str) -> str:
    with cluster.client(asked) as client:
        nodes = client.execute_command("CLUSTER NODES")
    return next(str(each["flags"]) for each in nodes.values() if each["node_id"].startswith(member))


def test_a_killed_node_is_called_dead_by_all_and_alive_in_a_new_incarnation(cluster: Cluster) -> None:
    victim = node_id(cluster, 3)
    all_say(cluster, (1, 2, 3), victim, "alive")
    until(lambda: told(cluster, 1, victim)[1] > 0, "n1 to hear of n3")
    before = told(cluster, 1, victim)[1]
    cluster.kill(3)
    all_say(cluster, (1, 2), victim, "dead")
    assert flags(cluster, 1, victim) == "master,fail"
    status = json.loads(cluster.command("status", "--port", str(cluster.port), "--json", code=3))
    member = next(each for each in status["members"] if each["id"] == victim)
    assert member["gossip"] == "dead" and not member["answers"]
    with cluster.client(1) as client:
        assert client.set("k", "v") and client.get("k") == "v"
    cluster.command("dev", "start", "3")
    all_say(cluster, (1, 2, 3), victim, "alive")
    assert min(told(cluster, each, victim)[1] for each in (1, 2)) > before
    assert flags(cluster, 1, victim) == "master"
    log = (cluster.directory / "data" / "n1.log").read_text()
    assert (
        log.index("member_suspect member=n3") < log.index("member_dead member=n3") < log.index("member_alive member=n3")
    )


def test_a_stopped_node_has_left_at_once(cluster: Cluster) -> None:
    victim = node_id(cluster, 2)
    cluster.command("dev", "stop", "2")
    all_say(cluster, (1, 3), victim, "left")
    assert sum(counted(cluster, each, "deaths") + counted(cluster, each, "suspicions") for each in (1, 3)) == 0
    assert "member_left member=n2" in (cluster.directory / "data" / "n1.log").read_text()
    cluster.command("dev", "start", "2")
    all_say(cluster, (1, 2, 3), victim, "alive")


def test_a_process_that_is_paused_for_less_than_two_seconds_is_never_dead(cluster: Cluster) -> None:
    """And so is one that is paused again and again, and the one that wakes up accuses nobody."""
    victim, pid, suspected = node_id(cluster, 3), cluster.pid(3), False
    for _ in range(3):
        ends_s = time.monotonic() + 1.7
        os.kill(pid, signal.SIGSTOP)
        try:
            while time.monotonic() < ends_s:
                suspected |= told(cluster, 1, victim)[0] == "suspect"
        finally:
            os.kill(pid, signal.SIGCONT)
        all_say(cluster, (1, 2, 3), victim, "alive")
    assert [counted(cluster, each, "deaths") for each in (1, 2, 3)] == [0, 0, 0]
    assert suspected and counted(cluster, 3, "suspicions") == 0


def test_a_node_that_is_frozen_for_long_is_dead_and_comes_back(cluster: Cluster) -> None:
    victim, pid = node_id(cluster, 3), cluster.pid(3)
    os.kill(pid, signal.SIGSTOP)
    try:
        all_say(cluster, (1, 2), victim, "dead")
    finally:
        os.kill(pid, signal.SIGCONT)
    all_say(cluster, (1, 2, 3), victim, "alive")
    assert counted(cluster, 3, "deaths") == 0, "who slept judges nobody"


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_a_node_that_is_cut_off_is_dead_to_the_others_until_it_is_joined_again(
    cluster: Cluster, direction: str
) -> None:
    victim = node_id(cluster, 3)
    cluster.command("dev", "partition", "3", "--direction", direction)
    all_say(cluster, (1, 2), victim, "dead")
    cluster.command("dev", "heal")
    for each in (1, 2, 3):
        all_say(cluster, (1, 2, 3), node_id(cluster, each), "alive")


@contextlib.contextmanager
def served(cluster: Cluster, node: int, peer_port: int) -> Iterator[None]:
    """A member started by hand, on its directory and ports but for the one for peers."""
    port = cluster.port + node - 1
    ports = ["--port", str(port), "--http-port", str(port + 1000), "--cluster-port", str(port + 3000)]
    ports += ["--peer-port", str(peer_port)]
    log = cluster.directory / "moved.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [RINGWISE, "serve", "--name", f"n{node}", "--data-dir", f"data/n{node}", "--membership", "local", *ports],
            cwd=cluster.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        until(lambda: b" ready " in log.read_bytes() or process.poll() is not None, "the moved node to be ready")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, log.read_text()


def names_in_order_of_joining(cluster: Cluster) -> list[int]:
    with cluster.client(1) as client:
        info = client.info("ringwise")
        nodes = client.execute_command("CLUSTER NODES")
    return [int(str(info[f"member_{each['node_id'][:12]}"]).removeprefix("n")) for each in nodes.values()]


def test_a_node_with_another_peer_port_is_found_though_no_document_can_be_decided(tmp_path: Path) -> None:
    """Of four members the first three to join vote. Two of those are dead, so nothing is decided, and the other two meet."""
    cluster = Cluster(tmp_path, nodes=4)
    try:
        cluster.start()
        stays, *dead, moves = names_in_order_of_joining(cluster)
        mover = node_id(cluster, moves)
        epoch = seen(cluster, stays, mover)["epoch"]
        cluster.command("dev", "stop", str(moves))
        cluster.kill(*dead)
        port = free_base(1)
        with served(cluster, moves, port):
            until(
                lambda: seen(cluster, stays, mover) == {"epoch": epoch, "state": "alive", "members_up": "2"},
                "the one that stays to have a link to the one that moved",
            )
            assert seen(cluster, moves, mover)["epoch"] == epoch, "nothing was decided"
        log = (tmp_path / "data" / f"n{stays}.log").read_text()
        assert f"link_up peer=n{moves} address=127.0.0.1:{port}" in log
    finally:
        cluster.abandon()


def seen(cluster: Cluster, asked: int, member: str) -> dict[str, str]:
    with cluster.client(asked) as client:
        info = client.info("ringwise")
    return {"epoch": str(info["epoch"]), "state": str(info[f"state_{member}"]), "members_up": str(info["members_up"])}
