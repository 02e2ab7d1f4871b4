"""The path of a scan: whatever is held at R + W > N is on a page, and every page goes on from where the last one ended."""

from __future__ import annotations

from itertools import chain

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import messages, versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, ImpossibleLevel, NotReady, Overloaded, QuorumNotReached
from ringwise.core.keys import POSITION_BITS, Bucket, position_of
from ringwise.core.levels import EVERY, ONE, QUORUM, Level
from ringwise.core.node import Node
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.scan import END, FIRST_READS, Page
from ringwise.core.versions import Write
from ringwise.wire.frame import FrameReader

KEYS = [b"key:%d" % n for n in range(60)] + [b"{one}%d" % n for n in range(20)]


class Asked:
    """One page that was asked for."""

    def __init__(
        self, node: Node, cursor: int = 0, count: int = 10, level: Level = QUORUM, first_only: bool = False
    ) -> None:
        self.outcomes: list[Page | Failure] = []
        node.scan(cursor, count, level, self.outcomes.append, first_only)

    @property
    def page(self) -> Page:
        (page,) = self.outcomes
        assert isinstance(page, Page), page
        return page

    @property
    def failure(self) -> Failure:
        (failure,) = self.outcomes
        assert isinstance(failure, Failure), failure
        return failure


def fill(cluster: Cluster, keys: list[bytes] = KEYS) -> None:
    heard = Heard()
    for index, key in enumerate(keys):
        cluster.nodes[index % len(cluster.nodes)].put(key, b"v", QUORUM, heard, index)
    cluster.run()
    assert {kind for kind, _ in heard.outcomes.values()} <= {"stored"}


def by_position(keys: list[bytes]) -> list[bytes]:
    return sorted(keys, key=lambda key: (position_of(slot_of(key), key), key))


def scan_all(
    cluster: Cluster, node: Node, count: int = 10, level: Level = QUORUM, first_only: bool = False
) -> list[bytes]:
    keys: list[bytes] = []
    cursor = 0
    while True:
        asked = Asked(node, cursor, count, level, first_only)
        cluster.run()
        page = asked.page
        assert page.cursor == 0 or page.cursor > cursor
        for key, record in page.found:
            assert versions.value_of(record, cluster.wall_ms) is not None
            assert cursor <= position_of(slot_of(key), key) < (page.cursor or END)
        keys += [key for key, _ in page.found]
        cursor = page.cursor
        if not cursor:
            return keys


@pytest.mark.parametrize("count", [1, 7, 79, 80, 81, 10**9])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_key_is_on_one_page_in_order(size: int, count: int) -> None:
    cluster = Cluster(size)
    fill(cluster)
    for node in cluster.nodes:
        assert scan_all(cluster, node, count) == by_position(KEYS)


def test_an_empty_store_is_one_page() -> None:
    cluster = Cluster()
    assert scan_all(cluster, cluster.nodes[0]) == []
    asked = Asked(cluster.nodes[0])
    cluster.run()
    assert asked.page == Page(0, [])
    assert Asked(cluster.nodes[0], END).page == Page(0, []), "behind every key"
    assert Asked(cluster.nodes[0], 2**64 - 1).page == Page(0, [])


def test_pages_of_dead_keys_are_empty_and_go_on() -> None:
    cluster, heard = Cluster(), Heard()
    fill(cluster)
    alive = KEYS[::20]
    for index, key in enumerate(KEYS):
        if key not in alive:
            cluster.nodes[0].update(key, "delete", (), QUORUM, heard, index)
    cluster.nodes[0].write(b"gone", Write(b"v", expiry_ms=cluster.wall_ms + 5), QUORUM, heard, 1000)
    cluster.run()
    cluster.pass_time(10)
    assert scan_all(cluster, cluster.nodes[1], 3) == by_position(alive)


def test_what_only_a_majority_holds_is_named_to_every_other_majority() -> None:
    cluster = Cluster()
    a, _, c = cluster.nodes
    cluster.cut(a, c)
    heard = Heard()
    for index, key in enumerate(KEYS):
        a.put(key, b"v", QUORUM, heard, index)
    cluster.run()
    cluster.connect(a, c)
    cluster.connect(c, a)
    assert not cluster.stores[2].records and scan_all(cluster, c, 7, ONE) == []
    assert scan_all(cluster, c, 7) == by_position(KEYS)


def test_a_page_ends_where_the_owner_that_knows_more_ends() -> None:
    """The asker holds few keys and so sees far; what another names up to its own end must not be jumped over."""
    cluster = Cluster()
    a = cluster.nodes[0]
    fill(cluster)
    for rkey in list(cluster.stores[0].records)[::2]:
        del cluster.stores[0].records[rkey]
    assert scan_all(cluster, a, 5) == by_position(KEYS)


def test_keys_of_one_position_are_never_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    def position(slot: int, key: bytes) -> int:
        return slot << 48 | key[-1]

    monkeypatch.setattr("tests.core.cluster.position_of", position)
    monkeypatch.setattr("ringwise.core.scan.position_of", position)
    monkeypatch.setattr("ringwise.core.scan.FIRST_READS", 2)
    monkeypatch.setattr("ringwise.core.scan.PAGE_BYTES", 1)
    cluster = Cluster()
    keys = [b"{s}%d-%d" % (n, m) for m in range(4) for n in range(5)]
    fill(cluster, keys)
    for count in (1, 2, 3, 7):
        found: list[bytes] = []
        cursor = 0
        while True:
            asked = Asked(cluster.nodes[0], cursor, count)
            cluster.run()
            found += [key for key, _ in asked.page.found]
            cursor = asked.page.cursor
            if not cursor:
                break
        assert sorted(found) == sorted(keys)


def test_a_page_of_large_records_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.core.scan.PAGE_BYTES", 200)
    cluster = Cluster()
    keys = [b"key:%d" % n for n in range(3 * FIRST_READS)]
    fill(cluster, keys)
    asked = Asked(cluster.nodes[0], 0, 1000)
    cluster.run()
    assert len(asked.page.found) == FIRST_READS and asked.page.cursor
    assert scan_all(cluster, cluster.nodes[0], 1000) == by_position(keys)


def test_one_owner_is_enough_at_one_and_two_are_asked_at_quorum() -> None:
    cluster = Cluster()
    fill(cluster)
    for store in cluster.stores:
        store.walks = 0
    asked = Asked(cluster.nodes[0], 0, 10, ONE)
    assert len(asked.page.found) == 10, "answered at once, from memory"
    assert [store.walks for store in cluster.stores] == [1, 0, 0]
    Asked(cluster.nodes[0])
    cluster.run()
    assert sorted(store.walks for store in cluster.stores) == [0, 1, 2]
    asked = Asked(cluster.nodes[0], 0, 10, EVERY)
    cluster.run()
    assert len(asked.page.found) == 10


def test_another_owner_is_asked_when_a_link_breaks() -> None:
    cluster = Cluster()
    fill(cluster)
    a, b, c = cluster.nodes
    for store in cluster.stores:
        store.slow_walks = True
    asked = Asked(a)
    cluster.run()
    slow = next(node for node in (b, c) if cluster.stores[cluster.nodes.index(node)].walking)
    cluster.cut(a, slow)
    for store in cluster.stores:
        store.slow_walks = False
        store.walked()
    cluster.run()
    assert len(asked.page.found) == 10


def test_another_owner_is_asked_when_one_is_slow_and_late_answers_are_let_go() -> None:
    cluster = Cluster()
    fill(cluster)
    for store in cluster.stores[1:]:
        store.slow_walks = True
    asked = Asked(cluster.nodes[0])
    cluster.run()
    assert [bool(store.walking) for store in cluster.stores[1:]].count(True) == 1
    cluster.pass_time(NodeConfig().hedge_ms)
    assert all(store.walking for store in cluster.stores[1:])
    cluster.stores[1].walked()
    cluster.run()
    assert len(asked.page.found) == 10
    cluster.stores[2].walked()
    cluster.run()
    assert len(asked.outcomes) == 1 and not cluster.nodes[0]._scan._asking


def test_a_scan_that_reaches_no_quorum_says_so() -> None:
    cluster = Cluster()
    fill(cluster)
    a, b, c = cluster.nodes
    cluster.cut(a, b)
    assert Asked(a, level=EVERY).failure.args
    cluster.cut(a, c)
    failure = Asked(a).failure
    assert isinstance(failure, QuorumNotReached) and (failure.needed, failure.acknowledged) == (2, 1)
    assert len(Asked(a, level=ONE).page.found) == 10
    assert isinstance(Asked(a, level=Level.parse(b"r=4")).failure, ImpossibleLevel)


def test_a_scan_ends_at_its_deadline() -> None:
    cluster = Cluster()
    fill(cluster)
    for store in cluster.stores[1:]:
        store.slow_walks = True
    asked = Asked(cluster.nodes[0])
    cluster.run()
    cluster.pass_time(NodeConfig().request_timeout_ms)
    failure = asked.failure
    assert isinstance(failure, QuorumNotReached) and (failure.needed, failure.acknowledged) == (2, 1)
    cluster.stores[1].walked()
    cluster.run()
    assert len(asked.outcomes) == 1


def test_who_cannot_read_its_disk_is_replaced() -> None:
    cluster = Cluster()
    fill(cluster)
    for fails in ((0,), (1,), (2,)):
        for index, store in enumerate(cluster.stores):
            store.fail_walks = index in fails
        assert scan_all(cluster, cluster.nodes[0], 50) == by_position(KEYS)
    for store in cluster.stores[1:]:
        store.fail_walks = True
    asked = Asked(cluster.nodes[0])
    cluster.run()
    assert isinstance(asked.failure, QuorumNotReached)


def test_a_full_queue_of_walks_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    fill(cluster)
    monkeypatch.setattr(cluster.stores[1], "names", lambda *_: False)
    assert scan_all(cluster, cluster.nodes[0]) == by_position(KEYS), "the third owner answers"
    failure = Asked(cluster.nodes[1]).failure
    assert isinstance(failure, Overloaded)


def test_cold_keys_are_loaded_and_damaged_ones_fetched() -> None:
    cluster = Cluster()
    fill(cluster)
    store = cluster.stores[0]
    rkeys = sorted(store.records)
    store.cold |= set(rkeys[::2])
    store.damaged |= set(rkeys[1:9:2])
    asked = Asked(cluster.nodes[0], 0, 1000)
    cluster.run()
    while store.waiting:
        store.loaded()
        cluster.run()
    assert [key for key, _ in asked.page.found] == by_position(KEYS)


def test_without_a_topology_a_scan_is_refused() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    node.topology.epoch = 0
    assert isinstance(Asked(node).failure, NotReady)


def test_t5_who_is_behind_is_taught_and_asked_again() -> None:
    cluster = Cluster()
    fill(cluster)
    behind = cluster.nodes[1].topology
    behind.epoch -= 1
    cluster.cut(cluster.nodes[0], cluster.nodes[2])
    asked = Asked(cluster.nodes[0])
    cluster.step(cluster.nodes[0])
    cluster.deliver()
    cluster.step(cluster.nodes[1])
    behind.epoch += 1  # as the Learn that follows the refusal brings it
    cluster.run()
    assert len(asked.page.found) == 10


def test_t5_who_is_ahead_refuses_slots_that_changed_since() -> None:
    cluster = Cluster()
    fill(cluster)
    first, second, _ = cluster.nodes
    topology = second.topology
    topology.epoch += 1
    topology.changed[SLOTS // 2] = topology.changed_max = topology.epoch
    link = cluster.back[first.id, second.id]
    for end, refused in ((END, messages.STALE), (SLOTS // 2 << POSITION_BITS, 0)):
        second.receive(link, messages.Scan(1, topology.epoch - 1, Bucket(0, 1).prefix, 0, end, 5))
        (answer,) = FrameReader(messages.decode).feed(link.outbox.pop())
        assert isinstance(answer, messages.Scanned) and answer.refused == refused


def test_t5_names_asked_for_under_an_older_table_are_asked_for_again() -> None:
    cluster = Cluster()
    fill(cluster)
    for store in cluster.stores:
        store.slow_walks = True
    asked = Asked(cluster.nodes[0])
    cluster.run()
    for node in cluster.nodes:
        node.topology.epoch += 1
        node.topology.changed[7] = node.topology.changed_max = node.topology.epoch
    for store in cluster.stores:
        store.slow_walks = False
        store.walks = 0
        store.walked()
    cluster.run()
    assert len(asked.page.found) == 10
    assert sum(store.walks for store in cluster.stores) == 2, "the answers to the first question were not enough"


def test_first_only_pages_of_all_nodes_make_up_the_whole() -> None:
    cluster = Cluster(5)
    fill(cluster)
    parts = [scan_all(cluster, node, 7, first_only=True) for node in cluster.nodes]
    assert sorted(chain(*parts)) == sorted(KEYS) and sum(map(bool, parts)) > 1
    dead, *others = cluster.nodes
    for other in others:
        cluster.cut(dead, other)
    parts = [scan_all(cluster, node, 7, first_only=True) for node in others]
    assert sorted(chain(*parts)) == sorted(KEYS), "the next owner speaks for a dead one's slots"


def test_a_large_cluster_is_asked_slot_range_by_slot_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.core.scan.MEMBERS_ASKED_MAX", 4)
    cluster = Cluster(6)
    fill(cluster)
    node = cluster.nodes[0]
    asked = Asked(node)
    cluster.run()
    assert asked.page.cursor <= 512 << 48
    assert scan_all(cluster, node, 7) == by_position(KEYS)
    parts = [scan_all(cluster, each, 7, first_only=True) for each in cluster.nodes]
    assert sorted(chain(*parts)) == sorted(KEYS)


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    link = cluster.links[node.id, cluster.nodes[1].id]
    node.receive(link, messages.Scanned(99, END, [b"k"], 0))
    assert not node._scan._asking
