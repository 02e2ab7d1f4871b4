"""V2 where a disk has lost a record (S4): what the other owners give back does not tell which dots were issued here."""

from __future__ import annotations

from tests.core.cluster import Cluster, Heard

from ringwise.core import record, versions
from ringwise.core.config import NodeConfig
from ringwise.core.levels import ONE


def test_v2_a_node_that_lost_a_record_does_not_issue_the_lost_dots_again() -> None:
    cluster, heard = Cluster(config=NodeConfig(hints_max=0)), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"everywhere", ONE, heard, 0)
    cluster.run()
    cluster.cut(a, b)
    cluster.cut(a, c)
    a.put(b"k", b"only here", ONE, heard, 1)
    cluster.run()
    store = cluster.stores[0]
    ((rkey, lost),) = store.records.items()
    store.damaged.add(rkey)
    cluster.connect(a, b)
    cluster.connect(a, c)
    a.put(b"k", b"later", ONE, heard, 2)
    for _ in range(3):
        cluster.run()
        store.loaded()
    cluster.run()
    assert heard.outcomes[2][0] == "stored"
    ((dot, value),) = [((s.actor, s.counter), s.value) for s in record.decode(store.records[rkey]).siblings]
    assert value == b"later"
    assert dot not in [(s.actor, s.counter) for s in record.decode(lost).siblings]
    merged = versions.merge(lost, store.records[rkey])
    assert {s.value for s in versions.siblings(merged, 0)} == {b"only here", b"later"}, (
        "nothing is mistaken for the other"
    )
