"""R6: gossip joined to a node: who counts as up, whom a link or a datagram brings back, and what is said at a clean stop."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core.config import NodeConfig
from ringwise.core.gossip.packets import State
from ringwise.core.levels import QUORUM
from ringwise.core.node import Node

LOCAL = NodeConfig(membership="local")
STEP_MS = 10.0


def wait(cluster: Cluster, ms: float) -> None:
    for _ in range(int(ms / STEP_MS)):
        cluster.pass_time(STEP_MS)


def silence(cluster: Cluster, victim: Node) -> None:
    """Its links stand, as a frozen process's do, and nothing comes from it any more."""
    cluster.nodes.remove(victim)
    for (a, b), link in cluster.links.items():
        if victim.id in (a, b):
            link.flush = lambda link=link: not link.outbox.clear()  # type: ignore[method-assign, misc]


def test_all_see_one_another_and_nobody_is_suspected() -> None:
    cluster = Cluster(config=LOCAL)
    wait(cluster, 3_000)
    for node in cluster.nodes:
        assert all(node.liveness.state(other.id) == State.ALIVE for other in cluster.nodes)
        assert all(node.liveness.incarnation(other.id) == cluster.wall_ms - 3_000 for other in cluster.nodes)
        assert node.liveness.told() == dict.fromkeys(node.liveness.told(), 0)


def test_a_suspect_is_up_and_a_dead_member_is_not_though_its_link_stands() -> None:
    cluster = Cluster(config=LOCAL)
    a, b, c = cluster.nodes
    seen: list[tuple[State, bool]] = []
    a.liveness.watchers.append(lambda node, _, after: seen.append((after, a.is_up(node))))
    wait(cluster, 500)
    silence(cluster, c)
    wait(cluster, 5_000)
    assert seen == [(State.SUSPECT, True), (State.DEAD, False)]
    assert a.peers.links[c.id].ready() and not a.is_up(c.id) and not b.is_up(c.id)
    told = a.liveness.told()
    assert told["suspicions"] == told["deaths"] == 1
    heard = Heard()
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored", "the dead one is not waited for"


def test_without_datagrams_the_links_alone_keep_everybody_alive() -> None:
    cluster = Cluster(config=LOCAL)
    cluster.udp = False
    wait(cluster, 20_000)
    assert all(node.liveness.told()["suspicions"] == 0 and not node.peers.gone for node in cluster.nodes)


def test_a_partition_makes_dead_and_a_new_link_alive_at_once() -> None:
    cluster = Cluster(config=LOCAL)
    a, b, c = cluster.nodes
    wait(cluster, 500)
    cluster.cut(a, c)
    cluster.cut(b, c)
    wait(cluster, 10_000)
    assert a.liveness.state(c.id) == b.liveness.state(c.id) == c.liveness.state(a.id) == State.DEAD
    for one, other in ((a, c), (b, c)):
        cluster.connect(one, other)
        cluster.connect(other, one)
    assert not a.is_up(c.id), "a link alone is no proof"
    cluster.run()
    assert all(node.liveness.state(other.id) == State.ALIVE for node in cluster.nodes for other in cluster.nodes)
    assert a.is_up(c.id) and c.is_up(a.id)
    assert c.liveness.incarnation(a.id) > cluster.wall_ms - 10_500, "it has said so itself, above what was said of it"


@pytest.mark.parametrize("udp", [True, False])
def test_who_leaves_is_told_at_once_and_still_answers(udp: bool) -> None:
    cluster, heard = Cluster(config=LOCAL), Heard()
    a, b, c = cluster.nodes
    wait(cluster, 500)
    cluster.udp = udp
    c.leave()
    c.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert a.liveness.state(c.id) == b.liveness.state(c.id) == State.LEFT
    assert not a.is_up(c.id) and c.is_up(a.id)
    assert heard.outcomes[0][0] == "stored", "what it had taken is finished"
    assert a.liveness.told()["deaths"] == 0


def test_a_broken_link_alone_is_no_death() -> None:
    cluster = Cluster(config=LOCAL)
    a, b, _ = cluster.nodes
    wait(cluster, 500)
    a.link_down(cluster.links[a.id, b.id])
    assert not a.is_up(b.id)
    wait(cluster, 10_000)
    assert a.liveness.state(b.id) == State.ALIVE and a.liveness.told()["deaths"] == 0


def test_a_node_that_slept_accuses_nobody_and_is_soon_no_suspect() -> None:
    cluster = Cluster(config=LOCAL)
    a, b, c = cluster.nodes
    wait(cluster, 500)
    cluster.nodes.remove(c)
    wait(cluster, 2_000)
    assert a.liveness.state(c.id) == State.SUSPECT
    cluster.nodes.append(c)
    wait(cluster, 2_000)
    assert c.liveness.told()["suspicions"] == 0
    assert a.liveness.state(c.id) == b.liveness.state(c.id) == State.ALIVE
    assert all(node.liveness.told()["deaths"] == 0 for node in cluster.nodes)


def test_garbage_and_packets_of_strangers_are_counted() -> None:
    cluster = Cluster(config=LOCAL)
    a, b, _ = cluster.nodes
    wait(cluster, 500)
    stranger = Cluster(5, config=LOCAL).nodes[4]
    stranger.begin(cluster.wall_ms, cluster.now_ms)
    stranger.tick()
    for payload in (b"", b"\x01", b"\x02\x93", b"GET / HTTP/1.1", stranger.liveness.datagrams[0].payload):
        a.liveness.receive(payload, cluster.now_ms)
    assert a.liveness.told()["garbage"] == 4 and a.liveness.told()["strangers"] == 1
    assert a.is_up(b.id)


def test_a_shell_that_takes_no_datagrams_costs_no_memory_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.core.liveness.DATAGRAMS_MAX", 5)
    cluster = Cluster(config=LOCAL)
    a = cluster.nodes[0]
    for _ in range(100):
        cluster.now_ms += STEP_MS
        a.begin(cluster.wall_ms, cluster.now_ms)
        a.tick()
    assert len(a.liveness.datagrams) == 5


def test_a_member_is_where_it_says_itself_that_it_is() -> None:
    cluster = Cluster(config=LOCAL)
    a, _, c = cluster.nodes
    assert a.addresses()[c.id] == ("127.0.0.1", c.member.peer_port), "by the document"
    before = a.liveness.moves
    mover = cluster.restart(c, peer_port=5_555)
    cluster.connect(mover, a)  # only it knows where the others are
    wait(cluster, 2_000)
    assert a.addresses()[c.id] == ("127.0.0.1", 5_555) and a.liveness.moves > before
    assert mover.topology.members[c.id].peer_port == c.member.peer_port, "nothing was decided"
