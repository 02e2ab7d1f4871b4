"""A SET or DEL whose coordinator died, or is silent, is forwarded once more, and takes effect once (R1)."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_node import error, value
from tests.core.test_standins import parts

from ringwise.core import messages
from ringwise.core.errors import Flushed
from ringwise.core.levels import QUORUM, STRONG
from ringwise.core.node import Node


def run_but_lose(cluster: Cluster, sender: Node, receiver: Node) -> None:
    """Everything goes on, but what `sender` answers to `receiver` never arrives."""
    for _ in range(10):
        for node in cluster.nodes:
            cluster.step(node)
        cluster.back[receiver.id, sender.id].wire.clear()
        cluster.deliver()


def read(cluster: Cluster, heard: Heard, node: Node, number: int) -> bytes | None:
    node.get(b"k", STRONG, heard, number)
    cluster.run()
    return value(heard, number)


def test_a_set_that_was_applied_and_overwritten_is_not_written_again() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    x.put(b"k", b"first", QUORUM, heard, 0)
    run_but_lose(cluster, a, x)
    assert 0 not in heard.outcomes
    assert read(cluster, heard, c, 1) == b"first"
    c.put(b"k", b"second", QUORUM, heard, 2)
    cluster.run()
    cluster.cut(x, a)
    cluster.run()
    assert error(heard, 0).reply().startswith("UNKNOWN outcome: ")
    assert read(cluster, heard, c, 3) == b"second"


def test_a_set_that_was_applied_and_deleted_does_not_come_back() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    x.put(b"k", b"v", QUORUM, heard, 0)
    run_but_lose(cluster, a, x)
    c.update(b"k", "delete", (), QUORUM, heard, 1)
    cluster.run()
    cluster.cut(x, a)
    cluster.run()
    assert error(heard, 0).reply().startswith("UNKNOWN outcome: ")
    assert read(cluster, heard, c, 2) is None


def test_a_set_that_was_applied_is_acknowledged_as_it_is() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    x.put(b"k", b"v", QUORUM, heard, 0)
    run_but_lose(cluster, a, x)
    c.get(b"k", STRONG, heard, 1)
    cluster.run()
    before = heard.outcomes[1][1]
    cluster.cut(x, a)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    c.get(b"k", STRONG, heard, 2)
    cluster.run()
    assert heard.outcomes[2][1] == before, "no second dot"


def test_a_set_that_was_not_applied_is_written_by_the_next_owner() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    c.put(b"k", b"before", QUORUM, heard, 0)
    cluster.run()
    cluster.pass_time(10)
    x.put(b"k", b"v", QUORUM, heard, 1)
    cluster.step(x)
    cluster.links[x.id, a.id].wire.clear()
    cluster.cut(x, a)
    cluster.run()
    assert heard.outcomes[1][0] == "stored"
    assert read(cluster, heard, c, 2) == b"v"


def test_a_deletion_forwarded_once_more_takes_nothing_that_came_after_it() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    c.put(b"k", b"first", QUORUM, heard, 0)
    cluster.run()
    x.update(b"k", "delete", (), QUORUM, heard, 1)
    run_but_lose(cluster, a, x)
    assert 1 not in heard.outcomes
    assert read(cluster, heard, c, 2) is None
    c.put(b"k", b"second", QUORUM, heard, 3)
    cluster.run()
    cluster.cut(x, a)
    cluster.run()
    assert read(cluster, heard, c, 4) == b"second"


def test_a_deletion_that_was_applied_is_acknowledged() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    c.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    x.update(b"k", "delete", (), QUORUM, heard, 1)
    run_but_lose(cluster, a, x)
    cluster.cut(x, a)
    cluster.run()
    assert heard.outcomes[1][0] == "updated"


def pass_without(cluster: Cluster, frozen: Node, ms: int) -> None:
    """The process of one stands still while its links stand."""
    for _ in range(0, ms, 10):
        cluster.now_ms += 10
        cluster.wall_ms += 10
        for node in cluster.nodes:
            if node is not frozen:
                node.begin(cluster.wall_ms, cluster.now_ms)
                node.tick()
                cluster.step(node)
        for other in cluster.nodes:
            if other is not frozen:
                cluster.links[other.id, frozen.id].wire.clear()
                cluster.back[frozen.id, other.id].wire.clear()
        cluster.deliver()


@pytest.mark.parametrize("what", ["set", "delete"])
def test_a_frozen_owner_is_passed_over(what: str) -> None:
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    c.put(b"k", b"before", QUORUM, heard, 9)
    cluster.run()
    cluster.pass_time(10)
    if what == "set":
        x.put(b"k", b"v", QUORUM, heard, 0)
    else:
        x.update(b"k", "delete", (), QUORUM, heard, 0)
    cluster.step(x)
    cluster.links[x.id, a.id].wire.clear()
    pass_without(cluster, a, 3000)
    assert heard.outcomes[0][0] in ("stored", "updated")


def test_a_forward_that_an_owner_finds_after_a_pause_overwrites_nothing() -> None:
    """It was given up meanwhile, done by another owner, and overwritten."""
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    cluster.pass_time(10)
    x.put(b"k", b"first", QUORUM, heard, 0)
    cluster.step(x)
    waits = list(cluster.links[x.id, a.id].wire)
    cluster.links[x.id, a.id].wire.clear()
    pass_without(cluster, a, 3000)
    assert heard.outcomes[0][0] == "stored"
    c.put(b"k", b"second", QUORUM, heard, 1)
    pass_without(cluster, a, 100)
    assert heard.outcomes[1][0] == "stored"
    cluster.links[x.id, a.id].wire.extend(waits)
    a.begin(cluster.wall_ms, cluster.now_ms)
    cluster.run()
    assert read(cluster, heard, c, 2) == b"second"


def test_an_owner_that_takes_no_writes_is_no_reason_to_refuse() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, *_), (x, _) = parts(cluster)
    cluster.stores[cluster.nodes.index(a)].failed = True
    x.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


@pytest.mark.parametrize("skew_ms", [-20_000, 0, 20_000])
def test_a_forward_that_was_late_on_its_way_is_refused_however_clocks_differ(skew_ms: int) -> None:
    """Its link stood still; it was given up meanwhile, done by another owner, deleted, and nobody remembers."""
    cluster, heard = Cluster(5), Heard()
    (a, _, c), (x, _) = parts(cluster)
    x.now.wall_ms += skew_ms
    x.put(b"k", b"before", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    back, link = cluster.back[x.id, a.id], cluster.links[x.id, a.id]
    x.now.wall_ms = cluster.wall_ms + skew_ms
    x.put(b"k", b"late", QUORUM, heard, 1)
    cluster.step(x)
    waits, link.wire = list(link.wire), []
    assert waits
    for _ in range(150):
        cluster.now_ms += 10
        cluster.wall_ms += 10
        for node in cluster.nodes:
            node.begin(cluster.wall_ms + (skew_ms if node is x else 0), cluster.now_ms)
            node.tick()
            cluster.step(node)
        link.wire, back.wire = [], []
        cluster.deliver()
    assert heard.outcomes[1][0] == "stored", "by another owner"
    c.update(b"k", "delete", (), QUORUM, heard, 2)
    cluster.run()
    for store in cluster.stores:
        store.records.clear()  # as a flush, or the end of a tombstone, leaves it
    link.wire = waits
    cluster.run()
    assert read(cluster, heard, c, 3) is None


def test_an_update_that_was_given_up_for_a_flush_is_not_given_to_another_owner() -> None:
    """Its dot was issued, if in vain."""
    cluster, heard = Cluster(5), Heard()
    (a, *_), (x, _) = parts(cluster)
    x.update(b"k", "append", (b"x", 100), QUORUM, heard, 0)
    cluster.step(x)
    ((group),) = x._forward._groups.values()
    refused = messages.Outcome(0, b"", b"", Flushed.code, "flushed")
    x.receive(cluster.links[x.id, a.id], messages.Forwarded(group.id, [refused], 0))
    assert error(heard, 0).reply().startswith("TRYAGAIN")
