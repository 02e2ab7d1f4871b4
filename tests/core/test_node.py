"""The paths of a put, a get and an update, one step at a time: each test is a small scene on three nodes."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.clock import stamp_at
from ringwise.core.config import NodeConfig
from ringwise.core.errors import (
    Failure,
    NotReady,
    Overloaded,
    QuorumNotReached,
    Refused,
    StampTooFar,
    UnknownOutcome,
    WritesStopped,
)
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG, Level
from ringwise.core.ring import slot_of
from ringwise.core.versions import Context, Write

W1 = Level.parse(b"w=1")
W3 = Level.parse(b"w=3")
R3 = Level.parse(b"r=3")


def value(heard: Heard, index: int, wall_ms: int = 1_700_000_000_000) -> bytes | None:
    kind, record = heard.outcomes[index]
    assert kind == "found" and isinstance(record, bytes)
    return versions.value_of(record, wall_ms)


def error(heard: Heard, index: int) -> Failure:
    kind, failure = heard.outcomes[index]
    assert kind == "failed" and isinstance(failure, Failure)
    return failure


def row(key: bytes) -> bytes:
    return b"\0\0\0\0\0\1" + len(key).to_bytes(2, "big") + key


def test_any_node_takes_a_write_and_any_other_reads_it() -> None:
    cluster, heard = Cluster(), Heard()
    cluster.nodes[0].put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    for i, node in enumerate(cluster.nodes):
        node.get(b"k", QUORUM, heard, i + 1)
    cluster.run()
    assert [value(heard, i) for i in (1, 2, 3)] == [b"v"] * 3
    assert len({store.records[row(b"k")] for store in cluster.stores}) == 1, "the same bytes everywhere"


def test_a_write_is_answered_only_after_w_acknowledgements() -> None:
    cluster, heard = Cluster(), Heard()
    cluster.nodes[0].put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(cluster.nodes[0])
    assert cluster.stores[0].log and not heard.outcomes, "logged here, acknowledged by nobody else"
    cluster.deliver()
    assert not heard.outcomes
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def test_one_acknowledgement_is_the_coordinators_own() -> None:
    cluster, heard = Cluster(), Heard()
    cluster.nodes[0].put(b"k", b"v", W1, heard, 0)
    assert not heard.outcomes, "not before it is in the log"
    cluster.step(cluster.nodes[0])
    assert heard.outcomes[0][0] == "stored"


def test_b1_a_get_before_a_set_in_one_turn_answers_the_old_value() -> None:
    cluster, heard = Cluster(), Heard()
    node = cluster.nodes[0]
    node.put(b"k", b"old", QUORUM, heard, 0)
    cluster.run()
    node.get(b"k", R3, heard, 1)
    node.put(b"k", b"new", QUORUM, heard, 2)
    node.get(b"k", R3, heard, 3)
    cluster.run()
    assert value(heard, 1) == b"old" and value(heard, 3) == b"new"


def test_b1_order_holds_behind_a_cold_key() -> None:
    cluster, heard = Cluster(), Heard()
    node, store = cluster.nodes[0], cluster.stores[0]
    node.put(b"k", b"old", QUORUM, heard, 0)
    cluster.run()
    store.cold.add(row(b"k"))
    logged = len(store.log)
    node.get(b"k", R3, heard, 1)
    node.put(b"k", b"new", QUORUM, heard, 2)
    node.get(b"k", R3, heard, 3)
    node.put(b"warm", b"w", QUORUM, heard, 4)
    cluster.run()
    assert set(heard.outcomes) == {0, 4}, "the warm key does not wait for the cold one"
    assert len(store.log) == logged + 1, "a write that waits for its old record is not logged"
    store.loaded()
    cluster.run()
    assert value(heard, 1) == b"old" and value(heard, 3) == b"new" and heard.outcomes[2][0] == "stored"


def test_a_replica_answers_warm_positions_first_and_cold_ones_later() -> None:
    cluster, heard = Cluster(), Heard()
    node = cluster.nodes[0]
    for i, key in enumerate((b"cold", b"warm")):
        node.put(key, b"1", W3, heard, i)
    cluster.run()
    cluster.stores[1].cold.add(row(b"cold"))
    node.put(b"cold", b"2", W3, heard, 2)
    node.put(b"warm", b"2", W3, heard, 3)
    node.get(b"cold", R3, heard, 4)
    cluster.run()
    assert 3 in heard.outcomes and 2 not in heard.outcomes and 4 not in heard.outcomes
    cluster.stores[1].loaded()
    cluster.run()
    assert heard.outcomes[2][0] == "stored" and value(heard, 4) == b"2"


def test_with_one_node_down_quorum_goes_on() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.cut(a, c)
    cluster.cut(b, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    b.get(b"k", QUORUM, heard, 1)
    cluster.run()
    b.get(b"k", QUORUM, heard, 2)
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and value(heard, 2) == b"v"


def test_what_cannot_reach_its_level_is_refused_before_anything_is_stored() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.cut(a, b)
    cluster.cut(a, c)
    a.put(b"k", b"v", QUORUM, heard, 0)
    a.get(b"k", QUORUM, heard, 1)
    a.update(b"k", "delete", (), QUORUM, heard, 2)
    a.put(b"k", b"v", Level.parse(b"w=4"), heard, 3)
    cluster.run()
    for i in range(4):
        assert isinstance(error(heard, i), Refused)
    assert not cluster.stores[0].log and not cluster.stores[0].records


def test_a_link_that_breaks_after_the_write_was_sent_leaves_its_outcome_unknown() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.step(a)
    cluster.cut(a, b)
    assert 0 not in heard.outcomes, "the third owner may still answer"
    cluster.cut(a, c)
    failure = error(heard, 0)
    assert isinstance(failure, UnknownOutcome) and (failure.needed, failure.acknowledged) == (2, 1)


def test_a_read_asks_another_owner_when_a_link_breaks() -> None:
    cluster, heard = Cluster(), Heard()
    a = cluster.nodes[0]
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    a.get(b"k", QUORUM, heard, 1)
    cluster.step(a)
    asked = next(node for node in cluster.nodes[1:] if cluster.links[a.id, node.id].wire)
    cluster.cut(a, asked)
    cluster.run()
    assert value(heard, 1) == b"v"


def test_a_read_asks_another_owner_when_one_is_slow() -> None:
    cluster, heard = Cluster(), Heard()
    a = cluster.nodes[0]
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    a.get(b"k", QUORUM, heard, 1)
    cluster.step(a)
    for node in cluster.nodes[1:]:
        cluster.links[a.id, node.id].wire.clear()  # lost
    cluster.pass_time(NodeConfig().hedge_ms + 1)
    assert value(heard, 1) == b"v"


def test_no_answer_by_the_deadline() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"v", QUORUM, heard, 0)
    a.get(b"other", QUORUM, heard, 1)
    cluster.step(a)
    for node in (b, c):
        cluster.links[a.id, node.id].up = False  # stands still, but is not closed
    cluster.pass_time(NodeConfig().request_timeout_ms + 1)
    assert isinstance(error(heard, 0), UnknownOutcome)
    assert isinstance(error(heard, 1), QuorumNotReached)
    assert not a.is_up(b.id), "its oldest request is past the deadline"


def test_v5_a_later_set_elsewhere_is_not_shadowed_by_an_earlier_one_with_a_greater_stamp() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.cut(a, c)
    a.clock.last += 5000 << 16  # its clock runs five seconds ahead
    a.put(b"k", b"first", QUORUM, heard, 0)  # on a and b
    cluster.run()
    cluster.cut(a, b)
    c.clock.last = cluster.wall_ms << 16
    assert cluster.stores[2].records == {}
    c.put(b"k", b"second", QUORUM, heard, 1)  # c knows nothing of the first; b does
    cluster.run()
    assert heard.outcomes[1][0] == "stored"
    b.get(b"k", ONE, heard, 2)
    cluster.run()
    assert value(heard, 2) == b"second"
    _, record = heard.outcomes[2]
    assert isinstance(record, bytes)
    assert {s.value for s in versions.siblings(record, cluster.wall_ms)} == {b"first", b"second"}


def test_contexts_make_siblings_and_resolve_them() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    a.write(b"k", Write(value=b"Red", context=Context.parse(versions.context_of(b"").token())), QUORUM, heard, 0)
    cluster.run()
    b.write(b"k", Write(value=b"Blue", context=versions.context_of(b"")), QUORUM, heard, 1)
    cluster.run()
    a.get(b"k", R3, heard, 2)
    cluster.run()
    record = heard.outcomes[2][1]
    assert isinstance(record, bytes)
    assert {s.value for s in versions.siblings(record, cluster.wall_ms)} == {b"Red", b"Blue"}
    b.write(b"k", Write(value=b"Purple", context=versions.context_of(record)), QUORUM, heard, 3)
    cluster.run()
    a.get(b"k", R3, heard, 4)
    cluster.run()
    record = heard.outcomes[4][1]
    assert isinstance(record, bytes)
    assert [s.value for s in versions.siblings(record, cluster.wall_ms)] == [b"Purple"]


@pytest.mark.parametrize("level", [EVERY, STRONG])
def test_r3_a_repairing_read_answers_only_once_enough_owners_hold_what_it_shows(level: Level) -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.links[a.id, b.id].up = cluster.links[a.id, c.id].up = False
    a.put(b"k", b"v", W1, heard, 0)
    cluster.run()
    assert [row(b"k") in store.records for store in cluster.stores] == [True, False, False]
    cluster.links[a.id, b.id].up = cluster.links[a.id, c.id].up = True
    a.get(b"k", level, heard, 1)
    while 1 not in heard.outcomes:
        for node in cluster.nodes:
            cluster.step(node)
        holders = sum(row(b"k") in store.records for store in cluster.stores)
        assert 1 not in heard.outcomes or holders >= level.needed_reads(3)
        assert cluster.deliver() or 1 in heard.outcomes
    assert value(heard, 1) == b"v"


def test_a_quorum_read_repairs_in_the_background() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.links[a.id, b.id].up = cluster.links[a.id, c.id].up = False
    a.put(b"k", b"v", W1, heard, 0)
    cluster.run()
    cluster.links[a.id, b.id].up = cluster.links[a.id, c.id].up = True
    b.get(b"k", R3, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"v"
    assert len({store.records[row(b"k")] for store in cluster.stores}) == 1


def test_delete_reads_first_and_leaves_a_tombstone_everywhere() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    b.update(b"k", "delete", (), QUORUM, heard, 1)
    b.update(b"none", "delete", (), QUORUM, heard, 2)
    cluster.run()
    kind, states = heard.outcomes[1]
    assert kind == "updated" and isinstance(states, tuple) and states[0] != states[1]
    assert heard.outcomes[2] == ("updated", (b"", b""))
    for store in cluster.stores:
        newest = versions.newest(store.records[row(b"k")])
        assert newest is not None and newest.tombstone


def test_s3_after_a_failed_append_nothing_of_the_turn_is_acknowledged() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    cluster.stores[0].fail_next_append = True
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    assert isinstance(error(heard, 0), UnknownOutcome)
    a.put(b"k", b"v", W1, heard, 1)
    assert isinstance(error(heard, 1), WritesStopped)
    b.put(b"other", b"v", QUORUM, heard, 2)
    cluster.run()
    a.get(b"other", QUORUM, heard, 3)
    cluster.run()
    assert heard.outcomes[2][0] == "stored" and value(heard, 3) == b"v", "the others go on, and it still reads"


def test_s3_in_mode_batch_nothing_is_acknowledged_before_the_sync() -> None:
    cluster, heard = Cluster(), Heard()
    for store in cluster.stores:
        store.sync_mode = "batch"
    a = cluster.nodes[0]
    a.put(b"k", b"v", W1, heard, 0)
    a.put(b"l", b"v", QUORUM, heard, 1)
    cluster.run()
    assert not heard.outcomes
    cluster.stores[0].sync()
    assert set(heard.outcomes) == {0}
    cluster.stores[1].sync()
    cluster.run()
    assert heard.outcomes[1][0] == "stored"


def test_r3_in_mode_batch_a_strong_read_shows_only_what_is_synced() -> None:
    cluster, heard = Cluster(), Heard()
    for store in cluster.stores:
        store.sync_mode = "batch"
    a, b, _ = cluster.nodes
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    b.get(b"k", STRONG, heard, 1)
    b.get(b"k", R3, heard, 2)
    cluster.run()
    assert 1 not in heard.outcomes and value(heard, 2) == b"v"
    for store in cluster.stores:
        store.sync()
    cluster.run()
    assert value(heard, 1) == b"v"


def test_a_node_that_owns_no_copy_forwards_and_reads() -> None:
    cluster, heard = Cluster(5), Heard()
    key = b"k"
    owners = cluster.nodes[0].topology.owners[slot_of(key)]
    outsider = next(node for node in cluster.nodes if node.id not in owners)
    outsider.put(key, b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    outsider.get(key, QUORUM, heard, 1)
    outsider.get(key, STRONG, heard, 2)
    outsider.get(b"absent", EVERY, heard, 3)
    cluster.run()
    assert value(heard, 1) == value(heard, 2) == b"v" and value(heard, 3) is None
    outsider.update(key, "delete", (), QUORUM, heard, 4)
    cluster.run()
    outsider.get(key, QUORUM, heard, 5)
    cluster.run()
    assert value(heard, 5) is None
    _, record = heard.outcomes[5]
    assert isinstance(record, bytes)
    actors = {actor[:6] for actor, _ in versions.context_of(record).vector}
    assert actors <= set(owners), "only owners issue dots (V2)"


def test_b1_order_holds_at_a_node_that_owns_no_copy() -> None:
    cluster, heard = Cluster(5), Heard()
    key = b"k"
    owners = cluster.nodes[0].topology.owners[slot_of(key)]
    outsider = next(node for node in cluster.nodes if node.id not in owners)
    for round_ in range(3):  # reads take turns among the owners
        index = 10 * round_
        outsider.put(key, b"%d" % index, QUORUM, heard, index)
        outsider.get(key, QUORUM, heard, index + 1)
        outsider.update(key, "delete", (), QUORUM, heard, index + 2)
        outsider.get(key, ONE, heard, index + 3)
        outsider.put(key, b"last", QUORUM, heard, index + 4)
        outsider.get(key, STRONG, heard, index + 5)
        cluster.run()
        assert [value(heard, index + i) for i in (1, 5)] == [b"%d" % index, b"last"]
        assert heard.outcomes[index + 2][0] == "updated" and heard.outcomes[index + 4][0] == "stored"
    outsider.put(key, b"unheard", QUORUM, heard, 90)
    outsider.get(key, QUORUM, heard, 91)
    cluster.step(outsider)
    for node in cluster.nodes:
        if node is not outsider:
            cluster.cut(node, outsider)
    cluster.run()
    assert isinstance(error(heard, 90), UnknownOutcome) and isinstance(error(heard, 91), QuorumNotReached)


def test_r1_what_was_forwarded_to_a_node_that_dies_is_forwarded_once_more() -> None:
    cluster, heard = Cluster(5), Heard()
    key = b"k"
    owners = cluster.nodes[0].topology.owners[slot_of(key)]
    outsider = next(node for node in cluster.nodes if node.id not in owners)
    outsider.put(key, b"v", QUORUM, heard, 0)
    outsider.write(key, Write(value=b"w", context=versions.context_of(b"")), QUORUM, heard, 1)
    cluster.step(outsider)
    first = cluster.by_id[owners[0]]
    for node in cluster.nodes:
        if node is not first:
            cluster.cut(node, first)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    assert isinstance(error(heard, 1), UnknownOutcome), "a put with a context is not sent twice"


def test_t3_the_first_write_forms_the_cluster() -> None:
    cluster, heard = Cluster(formed=False), Heard()
    a, b, c = cluster.nodes
    b.get(b"k", QUORUM, heard, 0)
    b.put(b"k", b"v", QUORUM, heard, 1)
    cluster.run()
    cluster.pass_time(10)
    assert value(heard, 0) is None and heard.outcomes[1][0] == "stored"
    assert a.topology.formed and b.topology.formed and c.topology.formed


def test_t3_a_minority_of_the_voters_forms_nothing() -> None:
    cluster, heard = Cluster(formed=False), Heard()
    a, b, c = cluster.nodes
    cluster.cut(a, b)
    cluster.cut(a, c)
    a.put(b"k", b"v", ONE, heard, 0)
    cluster.run()
    cluster.pass_time(NodeConfig().request_timeout_ms + 1)
    assert isinstance(error(heard, 0), NotReady)
    assert not cluster.stores[0].records


def test_b1_what_follows_a_write_that_waits_for_the_document_stays_behind_it() -> None:
    cluster, heard = Cluster(formed=False), Heard()
    a = cluster.nodes[0]
    a.get(b"k", QUORUM, heard, 0)
    a.put(b"k", b"1", QUORUM, heard, 1)
    a.get(b"k", QUORUM, heard, 2)
    a.update(b"k", "delete", (), QUORUM, heard, 3)
    cluster.run()
    cluster.pass_time(10)
    assert value(heard, 0) is None
    assert value(heard, 2) == b"1"
    kind, states = heard.outcomes[3]
    assert kind == "updated" and isinstance(states, tuple)
    assert versions.value_of(states[0], 0) == b"1" and versions.value_of(states[1], 0) is None


def test_more_operations_than_may_wait_are_refused_at_once() -> None:
    cluster, heard = Cluster(formed=False, config=NodeConfig(forming_queue_max=2)), Heard()
    for i in range(3):
        cluster.nodes[0].put(b"k", b"v", QUORUM, heard, i)
    assert isinstance(error(heard, 2), Overloaded)
    cluster.run()
    cluster.pass_time(10)
    assert heard.outcomes[0][0] == heard.outcomes[1][0] == "stored"


def test_b3_a_frame_is_capped() -> None:
    cluster, heard = Cluster(config=NodeConfig(frame_bytes_max=10_000)), Heard()
    for i in range(100):
        cluster.nodes[0].put(b"k%d" % i, b"x" * 1000, QUORUM, heard, i)
    cluster.nodes[0].put(b"large", b"x" * 50_000, QUORUM, heard, 100)
    cluster.nodes[0].put(b"k0", b"last", QUORUM, heard, 101)
    cluster.step(cluster.nodes[0])
    sizes = sorted(map(len, cluster.links[cluster.nodes[0].id, cluster.nodes[1].id].wire))
    assert sizes[-2] < 15_000 and 50_000 < sizes[-1] < 51_000, "and a larger value travels alone"
    cluster.run()
    assert all(kind == "stored" for kind, _ in heard.outcomes.values()) and len(heard.outcomes) == 102
    cluster.nodes[1].get(b"k0", R3, heard, 200)
    cluster.run()
    assert value(heard, 200) == b"last"


def test_doubled_frames_change_nothing() -> None:
    cluster, heard = Cluster(), Heard()
    a = cluster.nodes[0]
    for i in range(3):
        a.put(b"k", b"%d" % i, W3, heard, i)
        cluster.step(a)
        for node in cluster.nodes[1:]:
            wire = cluster.links[a.id, node.id].wire
            wire.extend(list(wire))
        cluster.run()
    a.get(b"k", R3, heard, 9)
    cluster.run()
    assert value(heard, 9) == b"2" and len(versions.context_of(heard.outcomes[9][1]).vector) == 1  # type: ignore[arg-type]


def test_v7_a_write_with_a_stamp_far_ahead_is_refused() -> None:
    cluster, heard = Cluster(), Heard()
    a = cluster.nodes[0]
    a.clock.last += (NodeConfig().max_clock_offset_ms * 2) << 16
    a.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert isinstance(error(heard, 0), UnknownOutcome)
    assert not cluster.stores[1].records


def test_v1_a_context_with_a_stamp_far_ahead_is_refused() -> None:
    """What it covers must be stamped above it: one client with a mad context would shadow everyone for good."""
    cluster, heard = Cluster(), Heard()
    far = stamp_at(cluster.wall_ms + 2 * NodeConfig().max_clock_offset_ms)
    cluster.nodes[0].write(b"k", Write(value=b"v", context=Context([], [], far)), QUORUM, heard, 0)
    cluster.run()
    assert isinstance(error(heard, 0), StampTooFar)
    assert not any(store.records for store in cluster.stores)


def test_s4_a_damaged_record_is_fetched_from_the_other_owners() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    store = cluster.stores[0]
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    store.records[row(b"k")] = b"nonsense"
    for index, operation in enumerate((a.get, b.get)):
        store.cold.add(row(b"k"))
        store.damaged.add(row(b"k"))
        operation(b"k", R3, heard, 1 + index)
        cluster.run()
        store.loaded()
        cluster.run()
        assert value(heard, 1 + index) == b"v"
    assert store.records[row(b"k")] == cluster.stores[1].records[row(b"k")], "healed, and logged"
    assert a.cold.damaged == 2


def test_s4_a_damaged_record_is_not_an_absent_one() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    store = cluster.stores[0]
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    cluster.cut(a, c)  # b alone cannot tell what was acknowledged by a and c
    store.cold.add(row(b"k"))
    store.damaged.add(row(b"k"))
    a.get(b"k", ONE, heard, 1)
    a.put(b"k", b"w", ONE, heard, 2)
    b.put(b"k", b"x", W3, heard, 3)
    cluster.run()
    store.loaded()
    cluster.run()
    assert isinstance(error(heard, 1), QuorumNotReached) and isinstance(error(heard, 2), QuorumNotReached)
    assert isinstance(error(heard, 3), UnknownOutcome)
