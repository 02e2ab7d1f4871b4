"""Anti-entropy between nodes, step by step (R5): what differs is found, looked at twice, and exchanged; and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.hashtree import leaf_of
from ringwise.core.keys import key_of
from ringwise.core.levels import ONE, Level
from ringwise.core.messages import (
    BEHIND,
    LEAVES,
    ROOT,
    STALE,
    Digested,
    Digests,
    Hashed,
    Hashes,
    Message,
    decode,
)
from ringwise.core.ring import slot_of
from ringwise.core.topology import Member, flush, join
from ringwise.core.versions import Write

CONFIG = NodeConfig(repair_interval_ms=0, repair_confirm_ms=2_000, repair_keys_per_s=1_000_000)
W3 = Level.parse(b"w=3")
BUCKET = b"\0\0\0\0\0\1"


def row(key: bytes) -> bytes:
    return BUCKET + len(key).to_bytes(2, "big") + key


class Scene:
    """Nodes that hold the same keys: three, or the owners of each key among more."""

    def __init__(self, count: int = 20, config: NodeConfig = CONFIG, nodes: int = 3) -> None:
        self.cluster = Cluster(nodes, config)
        self.a, self.b, self.c = self.cluster.nodes[:3]
        self.heard = Heard()
        self.operations = 0
        for number in range(count):
            self.put(b"k%d" % number)

    def put(self, key: bytes, value: bytes = b"v", level: Level = W3) -> None:
        self.a.put(key, value, level, self.heard, self.operations)
        self.operations += 1
        self.cluster.run()

    def lose(self, node: int, key: bytes) -> bytes:
        """The node holds the key no more, and its tree knows it."""
        store = self.cluster.stores[node]
        record = store.records.pop(row(key))
        store.tree.apply(slot_of(key), row(key), record[:8], b"")
        return record

    def hold(self, node: int, key: bytes, record: bytes) -> None:
        store = self.cluster.stores[node]
        store.put(slot_of(key), row(key), store.records.get(row(key), b"")[:8], record)

    def tick(self, times: int = 1, ms: float = 10.0) -> None:
        for _ in range(times):
            self.cluster.pass_time(ms)

    def round(self, node: int = 0, slot: int | None = None, ticks: int = 2_000) -> None:
        repair = self.cluster.nodes[node].repair
        repair.begin(slot)
        for _ in range(ticks):
            if not repair.running:
                return
            self.tick()
        raise AssertionError("the round does not end")

    @property
    def equal(self) -> bool:
        one, two, three = (store.records for store in self.cluster.stores)
        roots = {bytes(store.tree.roots) for store in self.cluster.stores}
        return one == two == three and len(roots) == 1


def test_equal_replicas_compare_one_root() -> None:
    scene = Scene()
    scene.round()
    tally = scene.a.repair.tally
    assert (tally.rounds, tally.comparisons, tally.equal, tally.differing) == (1, 2, 2, 0)
    assert tally.hash_bytes < 2 * 100


@pytest.mark.parametrize(("at", "asker"), [(1, 0), (0, 0), (0, 1)])
def test_one_differing_key_is_found_and_repaired(at: int, asker: int) -> None:
    scene = Scene()
    scene.lose(at, b"k7")
    scene.round(asker)
    assert scene.equal
    tally = scene.cluster.nodes[asker].repair.tally
    assert tally.sent + tally.received == 1 and tally.hash_bytes < 10_000
    chunks = scene.cluster.stores[at].log
    assert row(b"k7") in chunks[-1], "logged where it was lacking"


def test_a_difference_is_exchanged_only_when_it_is_seen_twice() -> None:
    scene = Scene()
    record = scene.lose(1, b"k7")
    scene.a.repair.begin()
    scene.tick(100)
    assert scene.a.repair.left == 1 and scene.a.repair.tally.differing == 1
    scene.hold(1, b"k7", record)  # it was in flight
    scene.tick(400)
    assert not scene.a.repair.running and scene.equal
    assert scene.a.repair.tally.sent + scene.a.repair.tally.received == 0


def test_a_key_that_is_written_meanwhile_is_left_alone() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.a.repair.begin()
    scene.tick(100)
    scene.put(b"k7", b"new")  # another difference than the one that was seen, or none
    scene.lose(1, b"k7")
    scene.tick(400)
    assert not scene.a.repair.running and not scene.equal
    assert scene.a.repair.tally.sent + scene.a.repair.tally.received == 0
    scene.round()
    assert scene.equal


def test_an_empty_replica_gets_everything() -> None:
    scene = Scene(300)
    for number in range(300):
        scene.lose(1, b"k%d" % number)
    scene.round(1)
    assert scene.equal and scene.b.repair.tally.received == 300


def test_concurrent_versions_become_siblings_on_both_sides() -> None:
    scene = Scene()
    for node, value in ((0, b"red"), (1, b"blue")):
        dots = DotSource(bytes([node + 1]) * 6, b"else")
        scene.hold(node, b"new", dots.write(b"", Write(value=value), scene.a.clock.last + node + 1))
    scene.round(0)
    one, two, _ = (store.records[row(b"new")] for store in scene.cluster.stores)
    assert one == two
    assert {sibling.value for sibling in versions.siblings(one, scene.cluster.wall_ms)} == {b"red", b"blue"}
    scene.round(0)
    assert scene.equal


def test_cold_keys_are_loaded_on_both_sides() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    old = scene.cluster.stores[1].records[row(b"k3")]
    scene.hold(0, b"k3", DotSource(b"\1" * 6, b"else").put(old, b"newer", scene.a.clock.last + 1))
    scene.cluster.stores[0].cold |= {row(b"k7"), row(b"k3")}
    scene.cluster.stores[1].cold.add(row(b"k3"))
    scene.a.repair.begin()
    for _ in range(800):
        scene.tick()
        for store in scene.cluster.stores:
            store.loaded()
    assert not scene.a.repair.running and scene.equal


def test_only_the_slot_that_was_asked_for() -> None:
    scene = Scene()
    assert slot_of(b"k7") != slot_of(b"k8")
    scene.lose(1, b"k7")
    scene.lose(1, b"k8")
    scene.round(0, slot_of(b"k8"))
    assert set(scene.cluster.stores[0].records) - set(scene.cluster.stores[1].records) == {row(b"k7")}


def answers(scene: Scene, question: Message) -> list[Message]:
    """What b answers to a."""
    link = scene.cluster.back[scene.a.id, scene.b.id]
    scene.b.receive(link, question)
    scene.cluster.step(scene.b)
    frames, link.wire = link.wire, []
    return [decode(memoryview(frame)[8:]) for frame in frames]


@pytest.mark.parametrize(("epoch", "refused"), [(1, BEHIND), (-1, STALE)])
def test_t5_another_epoch_is_refused(epoch: int, refused: int) -> None:
    scene = Scene()
    epoch += scene.b.topology.epoch
    (hashed,) = answers(scene, Hashes(77, epoch, ROOT, []))
    assert hashed == Hashed(77, [], refused)
    (digested,) = answers(scene, Digests(78, epoch, 0, 1 << 60, 10))
    assert digested == Digested(78, 0, [], b"", refused)


def test_t5_a_refusal_ends_the_comparison_and_does_no_harm() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    before = [dict(store.records) for store in scene.cluster.stores]
    document = scene.b.topology.document
    assert document is not None
    scene.b.agreement._install(flush(document, 3))
    scene.b.agreement._asking.clear()  # the other has not heard of it, and is not told before it asks
    scene.round()
    assert [store.records for store in scene.cluster.stores] == before
    assert scene.a.repair.tally.unanswered == 1


def test_a_flush_in_the_midst_ends_the_comparison() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.a.repair.begin()
    scene.tick(100)
    scene.a.flush(lambda _: None)
    scene.tick(400)
    assert not scene.a.repair.running
    assert row(b"k7") not in scene.cluster.stores[1].records and scene.a.repair.tally.sent == 0


def test_a_lost_answer_ends_the_comparison_and_the_next_round_goes_on() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.a.repair.begin()
    twin = scene.cluster.back[scene.a.id, scene.b.id]
    for _ in range(700):
        scene.tick()
        twin.wire.clear()
        for node in scene.cluster.nodes:
            node.begin(scene.cluster.wall_ms, scene.cluster.now_ms)
            node.tick()
            scene.cluster.step(node)
        twin.wire.clear()
    assert not scene.a.repair.running or scene.a.repair.tally.unanswered
    assert scene.a.is_up(scene.b.id), "repair makes nobody look down"
    scene.round()
    assert scene.equal


def test_a_broken_link_ends_the_comparison() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.a.repair.begin()
    scene.tick(100)
    peer = next(node for node in scene.cluster.nodes if node.id == scene.a.repair.with_peer)
    scene.cluster.cut(scene.a, peer)
    scene.tick(600)
    assert not scene.a.repair.running and scene.a.repair.tally.unanswered == 1


def test_nothing_is_asked_while_the_link_is_full() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    for peer in (scene.b, scene.c):
        link = scene.cluster.links[scene.a.id, peer.id]
        link.ready = lambda: False  # type: ignore[method-assign]
    scene.a.repair.begin()
    scene.tick(10)
    assert scene.a.repair.tally.hash_bytes == 0


def test_a_comparison_waits_while_the_link_is_full() -> None:
    """Requests come first, in the midst of a comparison too; it goes on when they have left."""
    scene = Scene()
    scene.lose(1, b"k7")
    scene.a.repair.begin()
    while scene.a.repair.with_peer != scene.b.id or not scene.a.repair.left:
        scene.tick()
    link = scene.cluster.links[scene.a.id, scene.b.id]
    link.ready = lambda: False  # type: ignore[method-assign]
    scene.tick(500)
    assert scene.a.repair.left == 1 and not scene.equal
    link.ready = lambda: True  # type: ignore[method-assign]
    scene.tick(500)
    assert scene.equal


def test_a_wrong_tree_alone_exchanges_nothing() -> None:
    scene = Scene()
    leaf = leaf_of(slot_of(b"k7"), b"k7")
    scene.cluster.stores[1].tree.add(leaf, 12345)
    scene.round()
    tally = scene.a.repair.tally
    assert tally.equal == 1 and tally.differing == 0 and not tally.unanswered


def test_replicas_that_share_only_some_slots_are_equal_by_those() -> None:
    """Each of five nodes holds keys that the other does not own. That is no difference."""
    scene = Scene(40, nodes=5)
    scene.round()
    tally = scene.a.repair.tally
    assert tally.comparisons == tally.equal == 4 and tally.differing == 0


def test_what_is_shared_follows_the_table() -> None:
    """A tree belongs to a slot: a slot that has moved away is not compared any more."""
    cluster = Cluster(4, formed=False)
    node = cluster.nodes[0]
    hashing, topology, document = node.repair.hashing, node.topology, node.topology.document
    assert document is not None
    peers = [member.id for member in document.members if member.id != node.id]
    before = [hashing.shared_with(peer) for peer in peers]
    joined = join(document, Member("n9", b"\x09" * 6, "127.0.0.9", 9, 9, 9))
    assert joined is not None
    topology.install(joined)
    after = [hashing.shared_with(peer) for peer in peers]
    assert before != after
    assert after == [bytes(node.id in each and peer in each for each in topology.owners) for peer in peers]


def test_rounds_of_different_nodes_begin_at_different_times() -> None:
    """Nodes that were started together would otherwise ask together, for ever."""
    scene = Scene(config=NodeConfig(repair_interval_ms=10_000))
    began: list[list[float]] = [[], [], []]
    for _ in range(600):
        before = [node.repair.tally.rounds for node in scene.cluster.nodes]
        scene.tick(ms=100.0)
        for number, node in enumerate(scene.cluster.nodes):
            if node.repair.tally.rounds > before[number]:
                began[number].append(scene.cluster.now_ms)
    assert len({times[0] for times in began}) == 3
    for times in began:
        assert len({later - earlier for earlier, later in pairwise(times)}) > 1


def test_a_slot_that_is_not_ready_is_left_out() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.lose(1, b"k8")
    scene.cluster.stores[1].tree.forget(slot_of(b"k7"))
    scene.round(0)
    assert set(scene.cluster.stores[0].records) - set(scene.cluster.stores[1].records) == {row(b"k7")}
    (hashed,) = answers(scene, Hashes(79, scene.b.topology.epoch, LEAVES, [slot_of(b"k7")]))
    assert isinstance(hashed, Hashed) and set(hashed.hashes) == {None}


def test_rounds_come_by_themselves() -> None:
    scene = Scene(config=NodeConfig(repair_interval_ms=10_000))
    scene.lose(1, b"k7")
    scene.tick(300, ms=100.0)
    assert scene.equal
    assert all(2 <= node.repair.tally.rounds <= 6 for node in scene.cluster.nodes)


def test_the_rate_is_bounded() -> None:
    """Each batch is as long after the one before as its keys may take; finding them is not what takes the time."""
    rate = 20
    scene = Scene(0, NodeConfig(repair_interval_ms=0, repair_keys_per_s=rate))
    for number in range(60):
        scene.put(b"{one slot}%d" % number)
        scene.lose(1, b"{one slot}%d" % number)
    scene.a.repair.begin()
    batches: list[tuple[float, int]] = []  # when each arrived, and how many keys it had
    while scene.a.repair.running:
        before = scene.a.repair.tally.sent
        scene.tick()
        if scene.a.repair.tally.sent > before:
            batches.append((scene.cluster.now_ms, scene.a.repair.tally.sent - before))
    assert scene.equal and len(batches) > 1
    for (before_ms, _), (at_ms, keys) in pairwise(batches):
        assert at_ms - before_ms >= 1000 * keys / rate


def test_values_of_any_size_go_in_frames_of_their_own() -> None:
    scene = Scene(0)
    for number in range(6):
        scene.put(b"k%d" % number, bytes(200_000))
    for number in range(6):
        scene.lose(1, b"k%d" % number)
    scene.round(0)
    assert scene.equal
    assert max(map(len, scene.cluster.stores[1].log[-3:])) < 300_000


def test_a_read_at_one_shows_it_afterwards() -> None:
    scene = Scene()
    scene.lose(1, b"k7")
    scene.round()
    scene.b.get(b"k7", ONE, scene.heard, 1_000)
    scene.cluster.run()
    kind, record = scene.heard.outcomes[1_000]
    assert kind == "found" and versions.value_of(record, scene.cluster.wall_ms) == b"v"  # type: ignore[arg-type]
    assert key_of(row(b"k7")) == b"k7"
