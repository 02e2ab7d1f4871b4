"""Hinted handoff (R4): what an owner missed is kept for it, handed over when it is back, and forgotten when acknowledged."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_node import error

from ringwise.core import messages
from ringwise.core.agreement import Agreement
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, QuorumNotReached
from ringwise.core.explain import Explanation
from ringwise.core.hints import BUCKET, FRAME_BYTES
from ringwise.core.keys import POSITION_BITS, Bucket
from ringwise.core.levels import ONE, QUORUM
from ringwise.core.node import Node
from ringwise.core.ring import slot_of
from ringwise.core.store import Named
from ringwise.core.topology import Topology

LIVE = Bucket(0, 1)
ROW = LIVE.row_key(b"k")
TICK_MS = 10.0


def isolate(cluster: Cluster, node: Node) -> None:
    for other in cluster.nodes:
        if other is not node:
            cluster.cut(node, other)


def rejoin(cluster: Cluster, node: Node) -> None:
    for other in cluster.nodes:
        if other is not node:
            cluster.connect(node, other)
            cluster.connect(other, node)


def settle(cluster: Cluster) -> None:
    """Ticks until nobody has a hint that can be handed over."""
    for _ in range(400):
        cluster.pass_time(TICK_MS)
        if not any(node.hints.waiting or not node.hints.ready for node in cluster.nodes):
            cluster.run()
            return
    raise AssertionError([node.hints.waiting for node in cluster.nodes])


def rows_of_hints(cluster: Cluster, number: int) -> list[bytes]:
    records = cluster.stores[number].records
    return [rkey for rkey, record in records.items() if rkey.startswith(BUCKET.prefix) and record]


def test_a_write_that_an_owner_missed_is_handed_over_when_it_is_back() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    isolate(cluster, third)
    for i in range(3):  # one key: one hint, however often it is written
        first.put(b"k", b"v%d" % i, QUORUM, heard, i)
    first.put(b"other", b"v", QUORUM, heard, 3)
    cluster.run()
    assert first.hints.waiting_for() == {third.id: 2} and not second.hints.waiting
    assert len(rows_of_hints(cluster, 0)) == 2
    rejoin(cluster, third)
    settle(cluster)
    for key in (b"k", b"other"):
        assert len({store.records[LIVE.row_key(key)] for store in cluster.stores}) == 1
    assert first.hints.handed_over == 2 and not rows_of_hints(cluster, 0)


def test_what_was_under_way_when_the_link_broke_is_handed_over() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(first)
    isolate(cluster, third)  # the frame is on the wire
    cluster.run()
    rejoin(cluster, third)
    settle(cluster)
    assert cluster.stores[2].records[LIVE.row_key(b"k")] == cluster.stores[0].records[LIVE.row_key(b"k")]


def test_who_is_silent_past_the_deadline_has_not_got_it() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(first)
    cluster.links[first.id, third.id].wire.clear()  # lost without a trace
    cluster.run()
    assert not first.hints.waiting
    timeout_ms = NodeConfig().request_timeout_ms
    cluster.pass_time(2 * timeout_ms + 1)
    settle(cluster)
    assert cluster.stores[2].records[LIVE.row_key(b"k")] == cluster.stores[0].records[LIVE.row_key(b"k")]
    assert first.hints.handed_over == 1


def test_what_an_owner_refused_is_handed_over() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    cluster.stores[2].overloaded = True
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and first.hints.waiting_for() == {third.id: 1}
    cluster.pass_time(TICK_MS)
    assert first.hints.waiting_for() == {third.id: 1} and first.hints.sent_again == 1
    cluster.stores[2].overloaded = False
    settle(cluster)
    assert cluster.stores[2].records[LIVE.row_key(b"k")] == cluster.stores[0].records[LIVE.row_key(b"k")]


def test_what_is_written_while_its_hint_is_under_way_is_not_forgotten_with_it() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"old", ONE, heard, 0)
    cluster.run()
    rejoin(cluster, third)
    first.begin(cluster.wall_ms, cluster.now_ms + TICK_MS)
    first.tick()
    first.end_turn()  # the old state is on the wire
    first.put(b"k", b"new", ONE, heard, 1)
    cluster.links[first.id, third.id].up = False  # refused at once: its buffer is full
    first.end_turn()
    cluster.links[first.id, third.id].up = True
    cluster.run()
    assert first.hints.waiting_for() == {third.id: 1}, "the owner has acknowledged the old state only"
    settle(cluster)
    assert cluster.stores[2].records[LIVE.row_key(b"k")] == cluster.stores[0].records[LIVE.row_key(b"k")]


def test_a_handover_that_breaks_off_is_sent_again() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"v", ONE, heard, 0)
    cluster.run()
    rejoin(cluster, third)
    first.begin(cluster.wall_ms, cluster.now_ms + TICK_MS)
    first.tick()
    first.end_turn()
    isolate(cluster, third)
    assert first.hints.waiting == 1 and first.hints.sent_again == 1
    rejoin(cluster, third)
    settle(cluster)
    assert LIVE.row_key(b"k") in cluster.stores[2].records


def test_hints_are_found_again_after_a_start() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    for i in range(50):
        first.put(b"k%d" % i, b"v", QUORUM, heard, i)
    cluster.run()
    topology = Topology()
    assert first.topology.document is not None
    topology.install(first.topology.document)
    rng = random.Random(1)
    config = NodeConfig()
    again = Node(
        first.member,
        topology,
        Agreement(first.id, topology, rng, None),
        cluster.stores[0],
        DotSource(first.id, b"next"),
        Clock(config.max_clock_offset_ms, first.clock.last),
        lambda _: None,
        config,
        rng,
        cluster.wall_ms + 1,
    )
    again.begin(cluster.wall_ms, cluster.now_ms)
    cluster.nodes[0] = cluster.by_id[first.id] = again
    rejoin(cluster, again)
    rejoin(cluster, third)
    while not again.hints.ready:
        cluster.pass_time(TICK_MS)
    settle(cluster)
    assert again.hints.handed_over == 50
    assert sum(rkey.startswith(LIVE.prefix) for rkey in cluster.stores[2].records) == 50
    assert not rows_of_hints(cluster, 0)


def test_past_the_limit_hints_are_dropped_and_counted() -> None:
    """None of them has counted towards W: what is dropped is a promise to be quick, not a copy."""
    cluster, heard = Cluster(config=NodeConfig(hints_max=10)), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    for i in range(15):
        first.put(b"k%d" % i, b"v", QUORUM, heard, i)
    cluster.run()
    assert all(outcome == "stored" for outcome, _ in heard.outcomes.values())
    assert first.hints.waiting == 10 and first.hints.dropped == 5


def test_what_is_not_acknowledged_is_sent_again_after_a_pause_of_its_own() -> None:
    """Many senders that were refused together must not all come back together, again and again."""
    pause_ms = NodeConfig().hint_pause_ms
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    cluster.stores[2].overloaded = True
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    sent_ms = []
    for _ in range(600):
        before = first.hints.sent_again
        cluster.pass_time(TICK_MS)
        if first.hints.sent_again > before:
            sent_ms.append(cluster.now_ms)
    assert first.hints.waiting_for() == {third.id: 1}
    pauses = {later - earlier for earlier, later in pairwise(sent_ms)}
    assert len(pauses) > 1 and pause_ms / 2 <= min(pauses) and max(pauses) <= pause_ms * 1.5 + TICK_MS


def test_nothing_is_handed_over_while_the_link_is_full() -> None:
    """Requests come first: a handover never waits in front of them."""
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    rejoin(cluster, third)
    link = cluster.links[first.id, third.id]
    link.ready = lambda: False  # type: ignore[method-assign]
    for _ in range(10):
        cluster.pass_time(TICK_MS)
    assert first.hints.waiting == 1 and not first.hints.bytes


def test_a_hint_of_the_coordinator_does_not_count() -> None:
    """R4: its own copy and a hint it keeps for another are one."""
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(first)
    isolate(cluster, second)
    isolate(cluster, third)
    cluster.run()
    assert error(heard, 0)
    first.put(b"k", b"w", QUORUM, heard, 1)
    assert isinstance(error(heard, 1), QuorumNotReached)


def test_a_flush_makes_hints_void() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    second.flush(lambda _: None)
    cluster.run()
    cluster.pass_time(50)
    assert not first.hints.waiting and not rows_of_hints(cluster, 0)


@pytest.mark.parametrize("size", [100, 40_000])
def test_a_handover_is_bounded_in_bytes_under_way(size: int) -> None:
    config = NodeConfig(hint_bytes_in_flight_max=2 * FRAME_BYTES, hint_bytes_per_s=1 << 40)
    cluster, heard = Cluster(config=config), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    for i in range(40):
        first.put(b"k%d" % i, bytes(size), QUORUM, heard, i)
    cluster.run()
    rejoin(cluster, third)
    first.begin(cluster.wall_ms, cluster.now_ms + TICK_MS)
    first.tick()
    first.end_turn()
    assert sum(map(len, cluster.links[first.id, third.id].wire)) <= 2 * FRAME_BYTES + size + 10_000
    settle(cluster)
    assert sum(rkey.startswith(LIVE.prefix) for rkey in cluster.stores[2].records) == 40


def test_an_owner_that_acknowledges_nothing_is_sent_no_more_than_may_be_under_way() -> None:
    """Whatever the rate allows: an owner that is just back, and busy with its start, must not be buried."""
    config = NodeConfig(hint_bytes_in_flight_max=2 * FRAME_BYTES, hint_bytes_per_s=1 << 40)
    cluster, heard = Cluster(config=config), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    for i in range(40):
        first.put(b"k%d" % i, bytes(10_000), QUORUM, heard, i)
    cluster.run()
    rejoin(cluster, third)
    for tick in range(1, 20):
        first.begin(cluster.wall_ms, cluster.now_ms + tick * TICK_MS)
        first.tick()
        first.end_turn()
    sent = sum(map(len, cluster.links[first.id, third.id].wire))
    assert 2 * FRAME_BYTES <= sent <= 3 * FRAME_BYTES + 20_000


def test_a_handover_is_bounded_in_bytes_a_second() -> None:
    rate = 1_000_000
    cluster, heard = Cluster(config=NodeConfig(hint_bytes_per_s=2 * rate)), Heard()  # of two senders
    first, _, third = cluster.nodes
    isolate(cluster, third)
    for i in range(100):
        first.put(b"k%d" % i, bytes(10_000), QUORUM, heard, i)
    cluster.run()
    rejoin(cluster, third)
    arrived: list[int] = []
    for _ in range(40):
        cluster.pass_time(TICK_MS)
        arrived.append(sum(len(v) for k, v in cluster.stores[2].records.items() if k.startswith(LIVE.prefix)))
    assert arrived[-1] <= rate * 40 * TICK_MS / 1000 + 2 * FRAME_BYTES
    assert arrived[-1] >= rate * 40 * TICK_MS / 1000 / 2


def test_a_handover_of_what_is_on_disk_loads_it_first() -> None:
    cluster, heard = Cluster(), Heard()
    first, _, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    cluster.stores[0].cold.add(LIVE.row_key(b"k"))
    rejoin(cluster, third)
    cluster.pass_time(TICK_MS)
    assert not any(key.startswith(LIVE.prefix) for key in cluster.stores[2].records)
    cluster.stores[0].loaded()
    settle(cluster)
    assert LIVE.row_key(b"k") in cluster.stores[2].records


def test_explain_tells_for_whom_a_key_waits() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    isolate(cluster, third)
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    told: list[Explanation | Failure] = []
    second.explain(b"k", told.append)
    cluster.run()
    assert isinstance(told[0], Explanation)
    assert {copy.owner: copy.hinted for copy in told[0].copies if copy.hinted} == {first.id: (third.id,)}
    assert messages.Found(1, [], [], []).hinted == []


def stand_in_for(cluster: Cluster, heard: Heard) -> tuple[list[Node], Node, Node]:
    """The owners of `k`, of whom the third is away, and who stands in for it; and one more."""
    owners = [cluster.by_id[owner] for owner in cluster.nodes[0].topology.owners[slot_of(b"k")]]
    isolate(cluster, owners[2])
    owners[0].put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    d, e = (node for node in cluster.nodes if node not in owners)
    return (owners, d, e) if cluster.stores[cluster.nodes.index(d)].records.get(ROW) else (owners, e, d)


def restart(cluster: Cluster, node: Node, run: int) -> Node:
    again = cluster.restart(node, run)
    for other in cluster.nodes:
        if other is not again:
            cluster.connect(again, other)
            cluster.connect(other, again)
    return again


def test_a_copy_goes_though_the_node_stops_before_it_knows_all_hints() -> None:
    """The hint's row stays until the copy goes: else nobody knew afterwards that it is not needed, and it counted for ever."""
    cluster, heard = Cluster(5), Heard()
    owners, d, _ = stand_in_for(cluster, heard)
    store = cluster.stores[cluster.nodes.index(d)]
    rejoin(cluster, owners[2])
    store.slow_walks = True
    d = restart(cluster, d, 9999)
    for _ in range(400):
        cluster.pass_time(10)
        if d.hints.handed_over:
            break
        store.walked()
    assert d.hints.handed_over and not d.hints.ready
    store.slow_walks = False
    store.walking.clear()
    d = restart(cluster, d, 9998)
    settle(cluster)
    for _ in range(500):
        cluster.pass_time(10)
    assert d.hints.ready and not any(node.hints.waiting for node in cluster.nodes)
    assert not store.records.get(ROW), "no hint is left, and no copy"


def test_hints_behind_a_damaged_place_are_handed_over() -> None:
    cluster, heard = Cluster(5), Heard()
    owners, d, _ = stand_in_for(cluster, heard)
    store = cluster.stores[cluster.nodes.index(d)]
    names = store.names

    def damaged(bucket: bytes, start: int, end: int, limit: int, then: Named) -> bool:
        """Three slots of the hints' bucket cannot be walked."""
        if start < 3 << POSITION_BITS:
            then(None, start)
            return True
        return names(bucket, start, end, limit, then)

    store.names = damaged  # type: ignore[method-assign]
    rejoin(cluster, owners[2])
    d = restart(cluster, d, 9999)
    for _ in range(2000):
        cluster.pass_time(10)
    assert d.hints.handed_over
    assert d.hints.unreadable == 3
    assert not d.hints.ready, "so no copy is dropped: a hint for it may be in there"


def test_to_renew_a_hint_takes_no_room() -> None:
    cluster, heard = Cluster(5, NodeConfig(hints_max=1)), Heard()
    owners = [cluster.by_id[owner] for owner in cluster.nodes[0].topology.owners[slot_of(b"k")]]
    _, e = (node for node in cluster.nodes if node not in owners)
    for node in (*owners[1:], e):
        isolate(cluster, node)
    for number in range(2):
        owners[0].put(b"k", b"v%d" % number, QUORUM, heard, number)
        cluster.run()
        assert heard.outcomes[number][0] == "stored"
