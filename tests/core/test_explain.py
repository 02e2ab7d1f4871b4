"""Every owner's own state, kept apart; nobody's answer is made up, and looking changes nothing."""

from __future__ import annotations

from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.explain import Explanation
from ringwise.core.levels import EVERY, Level
from ringwise.core.node import Node

W1 = Level.parse(b"w=1")


def explained(cluster: Cluster, node: Node, key: bytes = b"k") -> dict[str, tuple[str, bytes | None]]:
    """By owner: its state, and the value that it alone would show."""
    told: list[Explanation | Failure] = []
    node.explain(key, told.append)
    cluster.run()
    cluster.pass_time(NodeConfig().request_timeout_ms + 1)
    assert len(told) == 1 and isinstance(told[0], Explanation)
    names = {each.id: each.name for each in cluster.nodes}
    return {names[copy.owner]: (copy.state, versions.value_of(copy.record, cluster.wall_ms)) for copy in told[0].copies}


def test_all_owners_answer_for_themselves() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    assert explained(cluster, a) == {node.name: ("answered", None) for node in cluster.nodes}
    a.put(b"k", b"1", EVERY, heard, 0)
    cluster.run()
    for node in cluster.nodes:
        assert explained(cluster, node) == {node.name: ("answered", b"1") for node in (a, b, c)}


def test_what_differs_is_shown_and_not_repaired() -> None:
    cluster, heard = Cluster(config=NodeConfig(hints_max=0)), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"1", EVERY, heard, 0)
    cluster.run()
    cluster.links[a.id, c.id].up = False
    a.put(b"k", b"2", W1, heard, 1)
    cluster.run()
    cluster.links[a.id, c.id].up = True
    for _ in range(2):
        told = explained(cluster, b)
        assert told == {a.name: ("answered", b"2"), b.name: ("answered", b"2"), c.name: ("answered", b"1")}


def test_an_owner_behind_a_broken_link_is_down_and_one_that_says_nothing_is_silent() -> None:
    cluster = Cluster()
    a, b, c = cluster.nodes
    cluster.cut(a, c)
    assert explained(cluster, a)[c.name] == ("down", None)
    cluster.links[a.id, b.id].up = True
    cluster.back[a.id, b.id].up = False  # its answers are lost
    assert explained(cluster, a) == {
        a.name: ("answered", None),
        b.name: ("silent", None),
        c.name: ("down", None),
    }


def test_a_node_that_holds_no_copy_asks_those_that_do() -> None:
    cluster, heard = Cluster(5), Heard()
    key = b"k"
    cluster.nodes[0].put(key, b"1", EVERY, heard, 0)
    cluster.run()
    for node in cluster.nodes:
        told = explained(cluster, node, key)
        assert len(told) == 3 and set(told.values()) == {("answered", b"1")}
