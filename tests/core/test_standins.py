"""Sloppy quorums (R2): the next node on the ring stands in for an owner out of reach, and what counted is never lost."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_hints import isolate, rejoin, settle
from tests.core.test_node import error, value

from ringwise.core import messages
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, QuorumNotReached
from ringwise.core.explain import Explanation
from ringwise.core.keys import Bucket
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG, Level
from ringwise.core.node import Node
from ringwise.core.ring import Ring, slot_of, successors

ROW = Bucket(0, 1).row_key(b"k")


def parts(cluster: Cluster) -> tuple[list[Node], list[Node]]:
    """The owners of `k` in order of preference, and the others in the order in which they stand in."""
    node = cluster.nodes[0]
    owners = node.topology.owners[slot_of(b"k")]
    order = node.stand_ins.order(node.topology.sets[node.topology.owner_set[slot_of(b"k")]])
    return [cluster.by_id[owner] for owner in owners], [cluster.by_id[other] for other in order]


def held(cluster: Cluster, node: Node) -> bytes:
    return cluster.stores[cluster.nodes.index(node)].records.get(ROW, b"")


def test_the_next_on_the_ring_stands_in() -> None:
    nodes = [(f"n{number}", 1.0) for number in range(1, 8)]
    ring = Ring(nodes)
    for slot in range(0, 16384, 97):
        assert successors(slot, nodes) == [nodes[number][0] for number in ring.preference(slot, 7)]


def test_a_stand_in_keeps_the_write_and_hands_it_over() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    isolate(cluster, b)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored", "a and a stand-in are two"
    assert held(cluster, d) == held(cluster, a) and d.hints.waiting_for() in ({b.id: 1}, {c.id: 1})
    assert a.stand_ins.writes == 1
    rejoin(cluster, b)
    rejoin(cluster, c)
    settle(cluster)
    assert {held(cluster, node) for node in (a, b, c)} == {held(cluster, a)}
    assert not held(cluster, d), "what it kept is where it belongs"


def test_a_stand_in_is_read_where_owners_are_missing() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, e) = parts(cluster)
    isolate(cluster, b)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    for i, node in enumerate((a, d, e)):
        node.get(b"k", QUORUM, heard, 10 + i)
    cluster.run()
    assert [value(heard, 10 + i) for i in range(3)] == [b"v"] * 3
    assert a.stand_ins.reads == 1
    assert heard.sloppy == {0, 10, 11, 12}


def test_that_a_stand_in_holds_nothing_says_nothing() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), _ = parts(cluster)
    a.put(b"k", b"v", EVERY, heard, 0)
    cluster.run()
    isolate(cluster, b)
    isolate(cluster, c)
    a.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert isinstance(error(heard, 1), QuorumNotReached)


@pytest.mark.parametrize(
    "level", [STRONG, EVERY, Level.parse(b"w=2"), Level.parse(b"r=2,w=2")], ids=lambda level: level.name
)
def test_levels_that_promise_more_count_owners_only(level: Level) -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    isolate(cluster, b)
    isolate(cluster, c)
    a.put(b"k", b"v", level, heard, 0)
    a.get(b"k", level, heard, 1)
    cluster.run()
    assert isinstance(error(heard, 0), QuorumNotReached) and isinstance(error(heard, 1), QuorumNotReached)
    assert not held(cluster, d) and not held(cluster, a)


def test_explicit_one_is_not_the_level_one() -> None:
    assert Level.parse(b"r=1,w=1").code != ONE.code and not Level.parse(b"r=1,w=1").sloppy


def test_where_no_owner_is_reachable_a_stand_in_coordinates() -> None:
    cluster, heard = Cluster(5), Heard()
    owners, (d, e) = parts(cluster)
    for owner in owners:
        isolate(cluster, owner)
    d.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    assert held(cluster, d) == held(cluster, e) != b""
    assert {*d.hints.waiting_for(), *e.hints.waiting_for()} == {owner.id for owner in owners}
    e.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"v"
    for owner in owners:
        rejoin(cluster, owner)
    settle(cluster)
    assert len({held(cluster, owner) for owner in owners}) == 1 and held(cluster, owners[0])
    assert not held(cluster, d) and not held(cluster, e)


def test_without_room_for_hints_nobody_stands_in_and_nothing_is_acknowledged() -> None:
    cluster, heard = Cluster(5, NodeConfig(hints_max=0)), Heard()
    (a, b, c), _ = parts(cluster)
    isolate(cluster, b)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert error(heard, 0), "the coordinator does not know yet"
    a.put(b"k", b"w", QUORUM, heard, 1)
    assert isinstance(error(heard, 1), QuorumNotReached), "and now refuses at once, with nothing applied"


def test_what_a_stand_in_has_counted_is_kept_past_the_limit() -> None:
    """Room is asked for a key and the group has more: a hint above the limit is better than a copy that nobody is told of."""
    cluster, heard = Cluster(5, NodeConfig(hints_max=1)), Heard()
    owners, (d, _) = parts(cluster)
    for owner in owners:
        isolate(cluster, owner)
    for i, key in enumerate((b"k", b"{k}2", b"{k}3")):
        d.put(key, b"v", ONE, heard, i)
    cluster.run()
    assert [heard.outcomes[i][0] for i in range(3)] == ["stored"] * 3
    for owner in owners:
        rejoin(cluster, owner)
    settle(cluster)
    stores = [cluster.stores[cluster.nodes.index(owner)].records for owner in owners]
    for key in (b"k", b"{k}2", b"{k}3"):
        assert any(records.get(Bucket(0, 1).row_key(key)) for records in stores)


def test_an_owner_that_falls_silent_is_stood_in_for() -> None:
    """Its link stands, so it is still sent the write; but nobody waits for it."""
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    a.peers._out |= {b.id, c.id}  # late, or dead by gossip
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(a)
    for silent in (b, c):
        cluster.links[a.id, silent.id].wire.clear()
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and held(cluster, d)


def test_a_stand_in_whose_link_breaks_is_replaced_by_the_next() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, e) = parts(cluster)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(a)
    isolate(cluster, d)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    assert held(cluster, e) and e.hints.waiting_for() == {c.id: 1}
    assert held(cluster, b)


def test_a_second_issue_of_a_stand_in_is_kept_as_the_first_was() -> None:
    """V5: the other stand-in knows a greater stamp, so the SET is issued once more; that dot needs hints too."""
    cluster, heard = Cluster(5), Heard()
    owners, (d, e) = parts(cluster)
    for owner in owners:
        isolate(cluster, owner)
    cluster.cut(d, e)
    e.put(b"k", b"theirs", ONE, heard, 0)
    cluster.run()
    e_stamp = e.clock.last
    d.clock.last = e_stamp - 1_000
    cluster.connect(d, e)
    cluster.connect(e, d)
    d.begin(cluster.wall_ms - 10_000, cluster.now_ms)
    d.clock.last = e_stamp - 1_000
    d.put(b"k", b"mine", QUORUM, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "stored"
    for owner in owners:
        rejoin(cluster, owner)
    settle(cluster)
    owners[0].get(b"k", STRONG, heard, 2)
    cluster.run()
    assert value(heard, 2) == b"mine"
    assert not held(cluster, d) and not held(cluster, e)


def test_explain_shows_who_stands_in() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    told: list[Explanation | Failure] = []
    b.explain(b"k", told.append)
    cluster.run()
    assert isinstance(told[0], Explanation)
    assert [(copy.owner, copy.hinted) for copy in told[0].stand_ins] == [(d.id, (c.id,))]
    assert [copy.owner for copy in told[0].copies] == [a.id, b.id, c.id]


def test_a_hint_for_who_is_no_owner_any_more_goes_to_the_present_owners() -> None:
    """It may have counted: an owner replaced by another must not take an acknowledged write with it."""
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert d.hints.waiting_for() == {c.id: 1}
    document = a.topology.document
    assert document is not None
    fresh = b"\xff" * 6
    members = [msgspec.structs.replace(each, id=fresh) if each.id == c.id else each for each in document.members]
    changed = msgspec.structs.replace(document, epoch=document.epoch + 1, members=members)
    for node in cluster.nodes:
        if node is not c:
            node.topology.install(changed)
    for _ in range(20):
        cluster.pass_time(10)
    assert d.hints.waiting_for() == {fresh: 1} and held(cluster, d), (
        "for a and b it is handed over, for the new one it waits"
    )
    assert {*a.hints.waiting_for(), *b.hints.waiting_for()} <= {fresh}


def test_nobody_stands_in_for_who_is_no_member() -> None:
    cluster = Cluster(4)
    (a, *_), (d,) = parts(cluster)
    chunk = messages.encode_chunk([slot_of(b"k")], [ROW], [b""], [b"r" * 30])
    d.receive(cluster.back[a.id, d.id], messages.Write(9, d.topology.epoch, 0, chunk, b"\xff" * 6))
    assert d.replica.written[0][1].refused == [(0, messages.STALE)] and not held(cluster, d)


def carry(cluster: Cluster, asker: Node, answerer: Node) -> None:
    """What one has sent arrives; its answers stay on the wire."""
    link = cluster.links[asker.id, answerer.id]
    frames, link.wire = link.wire, []
    for message in cluster.readers[id(link)].feed(b"".join(frames)):
        answerer.receive(cluster.back[asker.id, answerer.id], message)


def carry_back(cluster: Cluster, asker: Node, answerer: Node) -> None:
    twin = cluster.back[asker.id, answerer.id]
    frames, twin.wire = twin.wire, []
    for message in cluster.readers[id(twin)].feed(b"".join(frames)):
        asker.receive(cluster.links[asker.id, answerer.id], message)


def test_a_copy_that_an_open_group_has_written_anew_does_not_go_with_the_old_hint() -> None:
    """The handover of the old state is acknowledged, late, in the very turn in which this stand-in takes a new write."""
    cluster, heard = Cluster(7), Heard()
    owners, (d, *rest) = parts(cluster)
    for owner in owners:
        isolate(cluster, owner)
    while not d.hints.ready:
        cluster.pass_time(10)
    d.put(b"k", b"old", ONE, heard, 0)
    cluster.run()
    a = cluster.by_id[min(d.hints.waiting_for())]
    for other in rest:
        cluster.cut(d, other)
    cluster.connect(d, a)
    cluster.connect(a, d)
    d.begin(cluster.wall_ms, cluster.now_ms + 10)
    d.tick()
    d.end_turn()
    carry(cluster, d, a)
    a.end_turn()
    d.begin(cluster.wall_ms, cluster.now_ms + NodeConfig().request_timeout_ms + 100)
    d.tick()
    assert not d.is_up(a.id), "late"
    d.put(b"k", b"new", ONE, heard, 1)
    carry_back(cluster, d, a)
    d.end_turn()
    assert heard.outcomes[1][0] == "stored" and b"new" in held(cluster, d)
    assert d.hints.waiting_for()


def test_a_copy_stays_until_all_hints_of_an_earlier_run_are_known() -> None:
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, _) = parts(cluster)
    isolate(cluster, b)
    isolate(cluster, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    (first,) = d.hints.waiting_for()
    d.hints.keep(b.id if first == c.id else c.id, [ROW], True)  # as when b and c are away at different times
    cluster.step(d)
    store = cluster.stores[cluster.nodes.index(d)]
    store.slow_walks = True
    again = cluster.restart(d, 9999)
    for node in (a, b, c):
        cluster.connect(again, node)
        cluster.connect(node, again)
    while not again.hints.handed_over:
        cluster.pass_time(10)
        if not again.hints.waiting:
            store.walked()
    assert not again.hints.ready and held(cluster, again), "another hint for it may still be found"
    store.slow_walks = False
    store.walked()
    rejoin(cluster, b)
    rejoin(cluster, c)
    settle(cluster)
    assert held(cluster, b) == held(cluster, c) == held(cluster, a) and not held(cluster, again)


def test_an_owner_silent_for_long_makes_a_hint_and_no_crowd_of_stand_ins() -> None:
    cluster, heard = Cluster(9), Heard()
    (a, _, c), others = parts(cluster)
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(a)
    cluster.links[a.id, c.id].wire.clear()
    cluster.run()
    cluster.pass_time(2 * NodeConfig().request_timeout_ms + 1)
    assert not any(held(cluster, other) for other in others)
    assert a.hints.kept == 1


def test_a_late_owner_and_its_stand_in_are_one() -> None:
    """Both have it, and when the hint is handed over there is one copy of the two."""
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, e) = parts(cluster)
    store = cluster.stores[cluster.nodes.index(a)]
    store.sync_mode = "batch"  # so the coordinator's own copy does not count yet
    a.peers._out = {b.id, c.id}  # late, while their links stand
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(a)
    (group,) = a._put._groups.values()
    first, second = (node for node in (d, e) if node.id in group.stand_ins)
    owner = group.stand_ins[first.id]
    other = next(node for node in (b, c) if node.id != owner)
    cluster.links[a.id, other.id].wire.clear()
    cluster.links[a.id, second.id].wire.clear()
    cluster.run()
    assert held(cluster, first) and held(cluster, cluster.by_id[owner])
    assert 0 not in heard.outcomes
    store.sync()
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def test_an_owner_that_refuses_is_stood_in_for() -> None:
    """Its disk is full, or its log has failed: it holds nothing of it."""
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, e) = parts(cluster)
    for node in (b, c):
        cluster.stores[cluster.nodes.index(node)].failed = True
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and 0 in heard.sloppy
    assert held(cluster, d) and held(cluster, e)


def test_what_a_full_stand_in_holds_is_read() -> None:
    cluster, heard = Cluster(5, NodeConfig(hints_max=1)), Heard()
    owners, (d, e) = parts(cluster)
    for owner in owners:
        isolate(cluster, owner)
    d.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and held(cluster, d) and held(cluster, e)
    d.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"v"


def test_a_slow_owner_is_not_one_that_cannot_be_reached() -> None:
    """A read asks a further owner when one is slow; a stand-in, which may hold what is older, only where owners are too few."""
    cluster, heard = Cluster(5), Heard()
    (a, b, c), (d, e) = parts(cluster)
    isolate(cluster, c)
    a.put(b"k", b"old", QUORUM, heard, 0)
    cluster.run()
    assert held(cluster, d)
    for node in (a, b):
        cluster.connect(node, c)
        cluster.connect(c, node)
    for node in (a, d, e):
        cluster.cut(node, b)
        cluster.cut(node, c)
    cluster.run()
    b.put(b"k", b"new", QUORUM, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and 1 not in heard.sloppy
    cluster.connect(a, c)
    cluster.connect(c, a)
    a.get(b"k", QUORUM, heard, 2)
    cluster.step(a)
    link = cluster.links[a.id, c.id]
    late, link.wire = list(link.wire), []
    for _ in range(4):
        cluster.now_ms += 10
        a.begin(cluster.wall_ms, cluster.now_ms)
        a._get.tick()
        cluster.step(a)
    later, link.wire = list(link.wire), []
    cluster.run()
    assert 2 not in heard.outcomes
    link.wire = late + later
    cluster.run()
    assert value(heard, 2) == b"new" and 2 not in heard.sloppy
