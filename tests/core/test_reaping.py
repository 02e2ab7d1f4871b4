"""Reaping (V8): what is deleted or expired goes from all owners, and nothing that it covered can come back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_hints import isolate, rejoin, settle

from ringwise.core import messages, reaping, versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.keys import Bucket, key_of
from ringwise.core.levels import EVERY, ONE, QUORUM
from ringwise.core.messages import encode
from ringwise.core.node import Node
from ringwise.core.replace import Lost
from ringwise.core.ring import slot_of
from ringwise.core.store import Swept
from ringwise.core.versions import Context, Write

LIVE = Bucket(0, 1)
ROW = LIVE.row_key(b"k")
TICK_MS = 20.0
AFTER_MS = 100
CONFIG = NodeConfig(reap_after_ms=AFTER_MS, reap_interval_ms=50, repair_interval_ms=0)


def cluster_of(count: int = 3) -> Cluster:
    """Nodes that know what hints they have, or nothing would be reaped."""
    cluster = Cluster(count, CONFIG)
    until(cluster, lambda: all(node.hints.settled for node in cluster.nodes))
    return cluster


def until(cluster: Cluster, condition: Callable[[], bool], ticks: int = 500) -> None:
    for _ in range(ticks):
        if condition():
            return
        for store in cluster.stores:
            store.sync()
        cluster.pass_time(TICK_MS)
    raise AssertionError([(node.reaping.waiting, node.reaping.waits_for) for node in cluster.nodes])


def held(cluster: Cluster, key: bytes = b"k") -> list[bytes]:
    return [store.records.get(LIVE.row_key(key), b"") for store in cluster.stores]


def gone(cluster: Cluster, key: bytes = b"k") -> bool:
    return not any(held(cluster, key))


def idle(cluster: Cluster, ticks: int = 200) -> None:
    """Time passes, in which everything could be reaped that may be."""
    for _ in range(ticks):
        for store in cluster.stores:
            store.sync()
        cluster.pass_time(TICK_MS)


def set_and_delete(cluster: Cluster, key: bytes = b"k") -> bytes:
    """The state in between, which the tombstone covers."""
    heard = Heard()
    cluster.nodes[0].put(key, b"v", EVERY, heard, 0)
    cluster.run()
    before = held(cluster, key)[0]
    cluster.nodes[0].update(key, "delete", (), EVERY, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "updated"
    return before


def first_of(cluster: Cluster, key: bytes = b"k") -> Node:
    return cluster.by_id[cluster.nodes[0].topology.owners[slot_of(key)][0]]


def test_a_tombstone_goes_from_all_owners() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    assert all(held(cluster))
    until(cluster, partial(gone, cluster))
    assert first_of(cluster).reaping.reaped == 1
    assert not any(any(store.tree.roots) for store in cluster.stores)  # and from the hash trees


def test_what_has_expired_goes_too() -> None:
    cluster, heard = cluster_of(), Heard()
    expiry_ms = cluster.wall_ms + 1_000
    cluster.nodes[0].write(b"k", Write(b"v", expiry_ms=expiry_ms), QUORUM, heard, 0)
    cluster.run()
    idle(cluster, 50)
    assert all(held(cluster)) and cluster.wall_ms < expiry_ms + AFTER_MS
    until(cluster, partial(gone, cluster))
    assert cluster.wall_ms >= expiry_ms + AFTER_MS


def test_what_has_expired_here_may_live_where_its_expiry_was_lifted() -> None:
    """Why a value is kept, long after it has expired, until all its owners hold it dead (V7)."""
    cluster, heard = cluster_of(), Heard()
    cluster.nodes[0].write(b"k", Write(b"v", expiry_ms=cluster.wall_ms + 1_000), EVERY, heard, 0)
    cluster.run()
    away = cluster.nodes[2]
    isolate(cluster, away)
    away.update(b"k", "expire", (0, 0), ONE, heard, 1)  # PERSIST
    cluster.run()
    assert heard.outcomes[1][0] == "updated"
    idle(cluster)
    assert [versions.value_of(record, cluster.wall_ms) for record in held(cluster)] == [None, None, b"v"]
    rejoin(cluster, away)
    settle(cluster)
    assert [versions.value_of(record, cluster.wall_ms) for record in held(cluster)] == [b"v"] * 3


def test_an_emptied_set_goes_too() -> None:
    cluster, heard = cluster_of(), Heard()
    cluster.nodes[0].update(b"k", "set_add", (1000, b"a", b"b"), EVERY, heard, 0)
    cluster.run()
    idle(cluster)
    assert all(held(cluster))
    cluster.nodes[1].update(b"k", "set_remove", (b"a", b"b"), EVERY, heard, 1)
    cluster.run()
    until(cluster, partial(gone, cluster))


def test_what_is_alive_stays() -> None:
    cluster, heard = cluster_of(), Heard()
    cluster.nodes[0].put(b"plain", b"v", QUORUM, heard, 0)
    cluster.nodes[0].write(b"typed", Write(b"v", content_type="text/plain"), QUORUM, heard, 1)
    cluster.nodes[0].write(b"later", Write(b"v", expiry_ms=cluster.wall_ms + 3_600_000), QUORUM, heard, 2)
    cluster.nodes[0].update(b"number", "increment", (b"1", 0), QUORUM, heard, 3)
    cluster.run()
    idle(cluster)
    assert all(all(held(cluster, key)) for key in (b"plain", b"typed", b"later", b"number"))


def test_a_session_is_remembered() -> None:
    """V9: or RW.INCR, sent again, would count again."""
    cluster, heard = cluster_of(), Heard()
    cluster.nodes[0].update(b"k", "increment_once", (1, b"me", 1), EVERY, heard, 0)
    cluster.run()
    cluster.nodes[0].update(b"k", "delete", (), EVERY, heard, 1)
    cluster.run()
    idle(cluster)
    assert all(held(cluster))


def test_a_member_that_is_away_is_waited_for_and_named() -> None:
    cluster = cluster_of(4)
    set_and_delete(cluster)
    owners = cluster.nodes[0].topology.owners[slot_of(b"k")]
    other = next(node for node in cluster.nodes if node.id not in owners)
    isolate(cluster, other)
    idle(cluster)
    first = first_of(cluster)
    assert sum(map(bool, held(cluster))) == 3
    assert first.reaping.waits_for == [other.id] and first.reaping.waiting == 1
    rejoin(cluster, other)
    until(cluster, partial(gone, cluster))
    assert first.reaping.waits_for == []
    until(cluster, lambda: not first.reaping.waiting)


def test_who_was_declared_lost_and_is_up_with_its_data_holds_nothing_up() -> None:
    cluster = cluster_of(4)
    other = cluster.nodes[3]
    isolate(cluster, other)
    idle(cluster)
    answers: list[Lost | Failure] = []
    cluster.nodes[0].replace("n4", answers.append)
    until(cluster, lambda: bool(answers))
    assert isinstance(answers[0], Lost)
    rejoin(cluster, other)
    idle(cluster)
    set_and_delete(cluster)
    until(cluster, partial(gone, cluster))


def test_an_owner_that_missed_the_delete_keeps_the_tombstone_everywhere() -> None:
    cluster, heard = cluster_of(), Heard()
    cluster.nodes[0].put(b"k", b"v", EVERY, heard, 0)
    cluster.run()
    third = cluster.nodes[2]
    isolate(cluster, third)
    cluster.nodes[0].update(b"k", "delete", (), QUORUM, heard, 1)
    cluster.run()
    cluster.nodes[0].hints._owners.clear()  # the hint is lost: nobody knows of it any more
    cluster.nodes[0].hints.waiting = 0
    cluster.nodes[1].hints._owners.clear()
    cluster.nodes[1].hints.waiting = 0
    rejoin(cluster, third)
    idle(cluster)
    assert all(held(cluster)), "one owner holds the value: the tombstone must outlive it"
    for node in cluster.nodes:
        node.repair.begin()
    until(cluster, partial(gone, cluster))


def test_a_hint_is_waited_for() -> None:
    """A stand-in's copy may be of before the delete."""
    cluster, heard = cluster_of(4), Heard()
    owners = cluster.nodes[0].topology.owners[slot_of(b"k")]
    first, away = cluster.by_id[owners[0]], cluster.by_id[owners[2]]
    isolate(cluster, away)
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    stand_in = next(node for node in cluster.nodes if node.id not in owners)
    assert stand_in.hints.waiting_for() == {away.id: 1}
    stand_in.hints._pause = lambda *_: None  # type: ignore[method-assign]
    stand_in.hints._owners[away.id].not_before_ms = cluster.now_ms + 3_000
    rejoin(cluster, away)
    first.update(b"k", "delete", (), EVERY, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "updated" and stand_in.hints.waiting
    idle(cluster, 100)
    assert stand_in.hints.waiting and sum(map(bool, held(cluster))) == 4
    settle(cluster)
    until(cluster, partial(gone, cluster))


def test_a_tombstone_that_one_disk_has_not_got_yet_stays() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    for _ in range(200):
        for store in cluster.stores[:2]:
            store.sync()
        cluster.pass_time(TICK_MS)
    assert all(held(cluster)), "the third could wake up without it"
    until(cluster, partial(gone, cluster))


def test_a_read_that_saw_the_value_is_waited_for() -> None:
    """Its repair would bring the value back."""
    cluster, heard = cluster_of(4), Heard()
    owners = cluster.nodes[0].topology.owners[slot_of(b"k")]
    reader = next(node for node in cluster.nodes if node.id not in owners)
    before = set_and_delete(cluster)
    reader._put.spread(slot_of(b"k"), ROW, before, 1, heard, 5)  # as a read that has just come to its end
    reader.end_turn()
    wires = {owner: list(cluster.links[reader.id, owner].wire) for owner in owners}
    for owner in owners:
        cluster.links[reader.id, owner].wire.clear()  # long on its way
    assert all(wires.values())
    for _ in range(90):  # 1.8 s: a request is not given up before two
        for store in cluster.stores:
            store.sync()
        cluster.pass_time(TICK_MS)
    assert sum(map(bool, held(cluster))) == 3
    until(cluster, partial(gone, cluster))
    for owner in owners:  # and when it comes after all, it is refused: nobody waits for it
        cluster.links[reader.id, owner].wire.extend(wires[owner])
    idle(cluster, 5)
    assert gone(cluster)


@pytest.mark.parametrize("again", [False, True])
def test_a_forward_that_was_given_up_is_refused(again: bool) -> None:
    cluster, heard = cluster_of(4), Heard()
    owners = cluster.nodes[0].topology.owners[slot_of(b"k")]
    taker = next(node for node in cluster.nodes if node.id not in owners)
    taker.put(b"k", b"old", QUORUM, heard, 0)
    taker.end_turn()
    target = next(owner for owner in owners if cluster.links[taker.id, owner].wire)
    frames = list(cluster.links[taker.id, target].wire)
    if again:
        cluster.links[taker.id, target].wire.clear()  # so another owner coordinates it
    taker.begin(cluster.wall_ms, cluster.now_ms)
    until(cluster, lambda: bool(heard.outcomes))
    assert heard.outcomes[0][0] == "stored"
    cluster.nodes[0].update(b"k", "delete", (), EVERY, heard, 1)
    cluster.run()
    until(cluster, partial(gone, cluster))
    owner = cluster.by_id[target]
    link = cluster.back[taker.id, target]
    for message in cluster.readers[id(cluster.links[taker.id, target])].feed(b"".join(frames)):
        if isinstance(message, messages.Forward):
            owner._forward._taken.clear()
            owner.receive(link, message)
    idle(cluster, 5)
    assert gone(cluster)


def test_who_comes_back_with_a_slower_clock_is_told_the_time() -> None:
    """Else its frames would count as sent before the floor."""
    cluster, heard = cluster_of(), Heard()
    set_and_delete(cluster)
    until(cluster, partial(gone, cluster))
    first = first_of(cluster)
    back = next(node for node in cluster.nodes if node is not first)
    cluster.wall_ms -= 5_000  # of all, but only the others remember the time before
    back.clock.last = 0
    for node in cluster.nodes:
        node.begin(cluster.wall_ms, cluster.now_ms)
    assert back.clock.last < first._owner.floor
    back.put(b"k", b"refused", EVERY, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "failed"
    assert back.check_hello(first.hello()) is None
    back.put(b"k", b"again", EVERY, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "stored"


def test_a_key_that_is_written_again_meanwhile_stays() -> None:
    cluster, heard = cluster_of(), Heard()
    set_and_delete(cluster)
    first = first_of(cluster)
    until(cluster, lambda: first.reaping._step != 0)
    first.put(b"k", b"again", QUORUM, heard, 0)
    cluster.run()
    idle(cluster)
    assert {versions.value_of(record, cluster.wall_ms) for record in held(cluster)} == {b"again"}


def test_a_key_goes_and_comes_and_goes() -> None:
    cluster, heard = cluster_of(), Heard()
    for turn in range(5):
        set_and_delete(cluster)
        until(cluster, partial(gone, cluster))
        cluster.nodes[turn % 3].get(b"k", QUORUM, heard, turn)
        cluster.run()
        assert heard.outcomes[turn] == ("found", b"")


def test_a_context_from_before_is_no_danger() -> None:
    """V2: a client hands back what it has seen; the node's own counters in it are not used again."""
    cluster, heard = cluster_of(), Heard()
    before = set_and_delete(cluster)
    context = versions.context_of(before)
    until(cluster, partial(gone, cluster))
    first_of(cluster).write(b"k", Write(b"new", context=context), QUORUM, heard, 0)
    cluster.run()
    assert versions.value_of(versions.merge(held(cluster)[0], before), cluster.wall_ms) == b"new"


def test_a_dot_is_not_issued_again_though_a_client_names_a_smaller_one() -> None:
    """V2. Found by seed 7: the record that knew how far an actor had come is gone, and a context from before names less."""
    cluster, heard = cluster_of(), Heard()
    first, second = cluster.nodes[:2]
    first.put(b"k", b"1", EVERY, heard, 0)
    cluster.run()
    early = versions.context_of(held(cluster)[0])
    first.put(b"k", b"2", EVERY, heard, 1)
    cluster.run()
    first.update(b"k", "delete", (), EVERY, heard, 2)
    cluster.run()
    issued = versions.context_of(held(cluster)[0]).vector
    until(cluster, partial(gone, cluster))
    second.write(b"k", Write(b"3", context=early), EVERY, heard, 3)
    cluster.run()
    for index, value in ((4, b"4"), (5, b"5")):
        first.put(b"k", value, EVERY, heard, index)
        cluster.run()
        version = versions.newest(held(cluster)[0])
        assert version is not None and version.value == value
        assert (version.actor, version.counter) not in [
            (actor, n) for actor, last in issued for n in range(1, last + 1)
        ]


def test_a_stand_in_issues_no_dot_twice() -> None:
    """The same, where its copy went with its hint."""
    cluster, heard = cluster_of(4), Heard()
    owners = cluster.nodes[0].topology.owners[slot_of(b"k")]
    stand_in = next(node for node in cluster.nodes if node.id not in owners)
    for owner in owners:
        cluster.cut(stand_in, cluster.by_id[owner])
    stand_in.write(b"k", Write(b"1"), ONE, heard, 0)
    stand_in.write(b"k", Write(b"2"), ONE, heard, 1)
    cluster.run()
    copy = cluster.stores[cluster.nodes.index(stand_in)].records[ROW]
    (actor, counter) = versions.context_of(copy).vector[0]
    assert counter == 2
    rejoin(cluster, stand_in)
    settle(cluster)
    assert not cluster.stores[cluster.nodes.index(stand_in)].records[ROW]
    assert versions.context_of(stand_in.dots.write(b"", Write(b"3"), 1)).vector[0][0] != actor
    less = Context([(actor, 1)], [])
    other = cluster.by_id[owners[0]].dots.write(b"", Write(b"3", context=less), 1)
    fresh = versions.newest(stand_in.dots.put(other, b"4", 2))
    assert fresh is not None and fresh.actor != actor


def test_what_one_owner_has_dropped_and_another_has_not_goes_in_the_end() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    first = first_of(cluster)
    other = next(node for node in cluster.nodes if node is not first)
    until(cluster, lambda: first.reaping._step == 3)
    cluster.links[first.id, other.id].wire.clear()
    until(cluster, partial(gone, cluster), 1500)


def test_a_question_of_another_epoch_is_refused() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    first, second, _ = cluster.nodes
    link = cluster.links[first.id, second.id]
    digest = held(cluster)[0][:8]
    for message in (
        messages.Reap(1, first.topology.epoch - 1, [ROW], digest),
        messages.Settle(2, first.topology.epoch - 1, 1),
        messages.Drop(3, first.topology.epoch - 1, 1, [ROW], digest),
    ):
        first.peers.post(link, encode(message))
    cluster.run()
    assert all(held(cluster))
    assert not second._owner.floor


def test_a_damaged_question_is_refused() -> None:
    cluster = cluster_of()
    first, second, _ = cluster.nodes
    link = cluster.links[first.id, second.id]
    for rkeys, digests in (([], b""), ([ROW], b"short"), ([ROW, ROW], b"12345678")):
        first.peers.post(link, encode(messages.Drop(3, first.topology.epoch, 1, rkeys, digests)))
        first.peers.post(link, encode(messages.Reap(4, first.topology.epoch, rkeys, digests)))
    cluster.run()
    assert not second._owner.floor and key_of(ROW) == b"k"


def test_a_cold_tombstone_goes() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    first = first_of(cluster)
    for node, store in zip(cluster.nodes, cluster.stores, strict=True):
        if node is not first:
            store.cold.add(ROW)
    for _ in range(500):
        for store in cluster.stores:
            store.sync()
            store.loaded()
        cluster.pass_time(TICK_MS)
        if gone(cluster):
            break
    assert gone(cluster)


def test_after_a_flush_nothing_of_before_is_reaped() -> None:
    cluster = cluster_of()
    set_and_delete(cluster)
    first = first_of(cluster)
    until(cluster, lambda: first.reaping._step == 2)
    told: list[object] = []
    cluster.nodes[0].flush(told.append)
    until(cluster, lambda: bool(told))
    idle(cluster)
    assert first.reaping._step == 0
    set_and_delete(cluster)
    fresh = Bucket(0, 2).row_key(b"k")
    until(cluster, lambda: not any(store.records.get(fresh) for store in cluster.stores))


@pytest.mark.parametrize(("took_ms", "pause_ms"), [(0.0, 0.0), (2.0, 18.0), (5.0, 30.0)])
def test_what_the_disk_has_to_list_is_listed_with_pauses(
    took_ms: float, pause_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that lists names holds the interpreter lock; where there is much to reap, memory's own pages follow at once."""
    cluster = cluster_of()
    node, store = cluster.nodes[0], cluster.stores[0]
    asked: list[float] = []
    answers: list[tuple[float, Callable[[], None]]] = []

    def sweep(start: int, _end: int, _limit: int, _wanted: object, _dead: object, then: Swept) -> bool:
        asked.append(cluster.now_ms)
        page = [(LIVE.row_key(b"%d" % number), bytes(8)) for number in range(reaping.MANY)]
        answers.append((cluster.now_ms + took_ms, partial(then, page, start + 1)))
        if not took_ms:
            answers.pop()[1]()
        return True

    monkeypatch.setattr(store, "sweep", sweep)
    monkeypatch.setattr(node.reaping, "_begin", lambda: None)
    for _ in range(400):
        cluster.pass_time(1.0)
        for at_ms, then in answers[:]:
            if cluster.now_ms >= at_ms:
                answers.remove((at_ms, then))
                then()
    pauses = [later - earlier for earlier, later in pairwise(asked[5:])]
    assert pauses and all(pause_ms <= pause <= pause_ms + 2.0 for pause in pauses)


def test_many_go_in_rounds() -> None:
    cluster, heard = cluster_of(), Heard()
    keys = [b"key:%d" % i for i in range(2000)]
    for i, key in enumerate(keys):
        cluster.nodes[i % 3].write(key, Write(b"v", expiry_ms=cluster.wall_ms + 1), ONE, heard, i)
    cluster.run()
    until(cluster, lambda: not any(any(store.records.values()) for store in cluster.stores))
    assert sum(node.reaping.reaped for node in cluster.nodes) == len(keys)
    assert all(node.reaping.rounds <= 20 for node in cluster.nodes)
