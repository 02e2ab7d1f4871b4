"""A lost member's place is taken by an empty node (T4): it counts for nothing until it has the data."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_hints import isolate, rejoin, settle
from tests.core.test_node import error

from ringwise.core import messages
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, NotReady, QuorumNotReached, Replaced, UnknownOutcome
from ringwise.core.keys import Bucket
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG, Level
from ringwise.core.messages import decode
from ringwise.core.node import Node
from ringwise.core.replace import Lost
from ringwise.core.ring import slot_of
from ringwise.core.scan import Page
from ringwise.core.topology import Topology
from ringwise.server.cluster import ranges
from ringwise.wire.frame import FrameReader

LIVE = Bucket(0, 1)
FAST = NodeConfig(repair_interval_ms=0)


def lose(cluster: Cluster, asked: Node, name: str) -> Lost | Failure:
    told: list[Lost | Failure] = []
    asked.replace(name, told.append)
    for _ in range(20):
        cluster.run()
        if told:
            return told[0]
        cluster.pass_time(10)
    raise AssertionError("no answer")


def write(cluster: Cluster, node: Node, count: int, value: bytes = b"v") -> None:
    heard = Heard()
    for i in range(count):
        node.put(b"key-%d" % i, value, QUORUM, heard, i)
    cluster.run()
    assert {outcome for outcome, _ in heard.outcomes.values()} == {"stored"}


def empty_third(cluster: Cluster) -> tuple[Node, Node]:
    """n3 died, was declared lost, and an empty node has its place: (the dead one, the new one), which is not filled yet."""
    dead = cluster.die(2)
    assert isinstance(lose(cluster, cluster.nodes[0], "n3"), Lost)
    new = cluster.start_empty(2, dead.member)
    filling, new.filling.tick = new.filling.tick, lambda: None  # type: ignore[method-assign]
    cluster.ask_to_join(new, cluster.nodes[0])
    new.filling.tick = filling  # type: ignore[method-assign]
    cluster.run()
    assert all(node.topology.filling == {new.id} for node in cluster.nodes)
    return dead, new


def pause_filling(node: Node) -> None:
    node.filling.tick = lambda: None  # type: ignore[method-assign]


def fill(cluster: Cluster, new: Node, ticks: int = 2000) -> None:
    for _ in range(ticks):
        cluster.pass_time(10)
        for store in cluster.stores:
            store.sync()
        if not any(node.topology.filling for node in cluster.nodes):
            return
    raise AssertionError(new.filling.sources)


def same_everywhere(cluster: Cluster, count: int) -> bool:
    return all(
        len({store.records.get(LIVE.row_key(b"key-%d" % i), b"") for store in cluster.stores}) == 1
        for i in range(count)
    )


def test_an_empty_node_takes_the_place_and_gets_everything() -> None:
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 3000)
    _, new = empty_third(cluster)
    assert not cluster.stores[2].records
    fill(cluster, new)
    assert same_everywhere(cluster, 3000)
    heard = Heard()
    for i in range(3000):
        new.get(b"key-%d" % i, ONE, heard, i)
    assert all(outcome == "found" and record for outcome, record in heard.outcomes.values())
    write(cluster, new, 10, b"w")  # it coordinates, under dots of its own


def test_it_gets_the_rows_of_every_bucket_and_none_of_one_that_was_flushed() -> None:
    cluster = Cluster(config=FAST)
    first = cluster.nodes[0]
    labels = ("0", "1", "9")
    for label in labels:
        at, heard = first.select(label), Heard()
        assert at is not None
        for i in range(300):
            at.put(b"key-%d" % i, label.encode(), QUORUM, heard, i)
        cluster.run()
    _, new = empty_third(cluster)
    for _ in range(20):
        cluster.pass_time(10)
    flushed: list[Failure | None] = []
    nine = first.select("9")
    assert nine is not None
    nine.flush(flushed.append)
    fill(cluster, new)
    assert flushed == [None]
    for label in labels:
        at, heard = new.select(label), Heard()
        assert at is not None
        for i in range(300):
            at.get(b"key-%d" % i, ONE, heard, i)
        there = [bool(record) for _, record in heard.outcomes.values()]
        assert there == [label != "9"] * 300
    assert {rkey[:6] for rkey in cluster.stores[2].records} <= {*new.spaces.live, Bucket(9, 1).prefix}


def test_replace_says_what_makes_no_sense() -> None:
    cluster = Cluster()
    first = cluster.nodes[0]
    for name, reason in (("n9", "no member"), ("n1", "was asked"), ("n3", "is up")):
        answer = lose(cluster, first, name)
        assert isinstance(answer, Failure) and reason in str(answer)
    cluster.die(2)
    once, again = lose(cluster, first, "n3"), lose(cluster, first, "n3")
    assert once == again and isinstance(once, Lost)


def test_an_empty_node_is_refused_until_its_place_is_free_and_told_what_frees_it() -> None:
    cluster = Cluster()
    dead = cluster.die(2)
    new = cluster.start_empty(2, dead.member)
    cluster.ask_to_join(new, cluster.nodes[0])
    refused = new.agreement.refused
    assert refused is not None and refused.again and "ringwise replace n3" in refused.reason
    assert isinstance(lose(cluster, cluster.nodes[0], "n3"), Lost)
    cluster.ask_to_join(new, cluster.nodes[0])
    assert new.id in new.topology.members and dead.id not in new.topology.members


def test_its_acknowledgement_completes_no_quorum() -> None:
    """T4: a majority of those that were there before must have a write, whoever comes and goes."""
    cluster = Cluster(config=FAST)
    _, new = empty_third(cluster)
    pause_filling(new)
    first, second, _ = cluster.nodes
    heard = Heard()
    cluster.links[first.id, second.id].up = False  # what is sent there now is lost on the way
    cluster.back[first.id, second.id].up = False
    first.peers.links[second.id].ready = lambda: True  # type: ignore[method-assign]
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    assert cluster.stores[2].records[LIVE.row_key(b"k")]  # it has it, and has said so
    assert 0 not in heard.outcomes
    cluster.pass_time(1100)
    assert isinstance(error(heard, 0), UnknownOutcome)


def test_with_another_owner_down_a_majority_cannot_be_had() -> None:
    cluster = Cluster(config=FAST)
    _, new = empty_third(cluster)
    pause_filling(new)
    first, second, _ = cluster.nodes
    cluster.cut(first, second)
    cluster.cut(new, second)
    heard = Heard()
    first.put(b"k", b"v", QUORUM, heard, 0)
    first.get(b"k", QUORUM, heard, 1)
    first.get(b"k", STRONG, heard, 2)
    cluster.run()
    assert all(isinstance(error(heard, i), QuorumNotReached) for i in range(3))
    first.put(b"k", b"v", ONE, heard, 3)
    cluster.run()
    assert heard.outcomes[3][0] == "stored"


def test_all_needs_all_copies() -> None:
    cluster = Cluster(config=FAST)
    _, new = empty_third(cluster)
    pause_filling(new)
    heard = Heard()
    cluster.nodes[0].put(b"k", b"v", EVERY, heard, 0)
    cluster.nodes[0].get(b"k", EVERY, heard, 1)
    cluster.run()
    assert isinstance(error(heard, 0), QuorumNotReached) and isinstance(error(heard, 1), QuorumNotReached)


def test_it_coordinates_nothing_and_answers_as_one_that_owns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 5)
    _, new = empty_third(cluster)
    pause_filling(new)
    issued: set[bytes] = set()  # by whom: it holds no clock for its keys (V2)
    write_dot = DotSource.write

    def tell(self: DotSource, *arguments: Any) -> bytes:
        issued.add(self.prefix[:6])
        return write_dot(self, *arguments)

    monkeypatch.setattr(DotSource, "write", tell)
    heard = Heard()
    new.put(b"key-0", b"w", QUORUM, heard, 0)
    new.update(b"key-1", "delete", (), QUORUM, heard, 1)
    cluster.run()
    new.get(b"key-0", ONE, heard, 2)
    new.get(b"key-2", QUORUM, heard, 3)
    cluster.run()
    assert [heard.outcomes[i][0] for i in range(4)] == ["stored", "updated", "found", "found"]
    assert heard.outcomes[2][1] and heard.outcomes[3][1]
    assert issued and new.id not in issued
    pages: list[Page | Failure] = []
    new.scan(0, 100, QUORUM, pages.append)
    new.scan(0, 100, QUORUM, pages.append, first_only=True)
    cluster.run()
    assert isinstance(pages[0], Page) and isinstance(pages[1], Page)
    named, mine = sorted((page for page in pages if isinstance(page, Page)), key=lambda page: -len(page.found))
    assert len(named.found) == 4 and not mine.found
    assert all(new.id not in owners for _, _, owners in ranges(cluster.nodes[0]))


@pytest.mark.parametrize("level", [STRONG, QUORUM])
def test_a_write_under_an_old_epoch_is_sent_again_under_the_new_one(level: Level) -> None:
    """T5: an owner that is ahead refuses it; its coordinator learns the document, and the same dot goes to it again."""
    cluster = Cluster(5, config=FAST)
    first, second, *_ = cluster.nodes
    dead = cluster.die(2)
    for other in cluster.nodes[1:]:
        cluster.cut(first, other)
    lose(cluster, second, dead.name)
    new = cluster.start_empty(2, dead.member)
    pause_filling(new)
    cluster.cut(new, first)
    cluster.ask_to_join(new, second)
    for other in cluster.nodes[1:]:
        cluster.connect(first, other)
        cluster.connect(other, first)
    assert first.topology.epoch < new.topology.epoch
    keys = [b"key-%d" % i for i in range(200)]
    keys = [key for key in keys if {first.id, dead.id} <= set(first.topology.owners[slot_of(key)])]
    heard = Heard()
    for i, key in enumerate(keys):
        first.put(key, b"v", level, heard, i)
    cluster.run()
    assert first.topology.epoch == new.topology.epoch and keys
    assert {outcome for outcome, _ in heard.outcomes.values()} == {"stored"} and len(heard.outcomes) == len(keys)
    for key in keys:
        owners = set(first.topology.owners[slot_of(key)]) - {new.id}
        records = {
            cluster.stores[cluster.nodes.index(cluster.by_id[each])].records[LIVE.row_key(key)] for each in owners
        }
        assert len(records) == 1  # one dot
    assert not first.hints.waiting_for().keys() - {new.id}


@pytest.mark.parametrize("asked", [0, 1])
def test_the_old_one_is_fenced_when_it_comes_back(asked: int) -> None:
    """Nothing it sends is applied, and it learns that it is no member."""
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 50)
    dead, new = empty_third(cluster)
    fill(cluster, new)
    heard = Heard()
    store = dead.store
    cluster.nodes.append(dead)
    cluster.stores.append(store)  # type: ignore[arg-type]
    cluster.by_id[dead.id] = dead
    for other in cluster.nodes[:2]:
        cluster.connect(dead, other)
    dead.begin(cluster.wall_ms, cluster.now_ms)
    dead.put(b"key-1", b"from the dead", QUORUM, heard, 0)
    dead.get(b"key-2", QUORUM, heard, 1)
    assert dead.check_hello(cluster.nodes[asked].hello()) is None
    cluster.run()
    for _ in range(300):
        cluster.pass_time(10)
        if dead.replaced is not None:
            break
    assert dead.replaced is not None and dead.replaced.name == "n3" and dead.replaced.epoch <= dead.topology.epoch
    cluster.pass_time(1100)
    assert isinstance(error(heard, 0), UnknownOutcome)
    assert isinstance(error(heard, 1), Replaced | QuorumNotReached)
    dead.put(b"key-1", b"x", QUORUM, heard, 2)
    dead.get(b"key-1", QUORUM, heard, 3)
    dead.update(b"key-1", "delete", (), QUORUM, heard, 4)
    assert all(isinstance(error(heard, i), Replaced) for i in (2, 3, 4))
    for held in cluster.stores[:3]:
        assert b"from the dead" not in held.records[LIVE.row_key(b"key-1")]


def test_a_write_of_an_earlier_epoch_that_waited_for_the_disk_is_refused() -> None:
    """T5: else an owner would acknowledge to the old one what the new one has not been shown."""
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 1)
    first, second, _ = cluster.nodes
    rkey = LIVE.row_key(b"key-0")
    cluster.stores[1].cold.add(rkey)
    old = messages.Write(77, second.topology.epoch, second.clock.last, b"")
    chunk = messages.encode_chunk([slot_of(b"key-0")], [rkey], [b""], [cluster.stores[0].records[rkey]])
    link = cluster.back[first.id, second.id]
    second.receive(link, messages.Write(77, old.epoch, old.stamp, chunk))
    cluster.step(second)
    empty_third(cluster)
    link.wire = []
    cluster.stores[1].loaded()
    second.end_turn()
    said = [m for m in FrameReader(decode).feed(b"".join(link.wire)) if isinstance(m, messages.Written)]
    assert [m.refused for m in said if m.id == 77] == [[(0, messages.STALE)]]


def test_hints_for_the_lost_one_go_to_whoever_has_its_place() -> None:
    """A stand-in's copy has counted towards W: it is not thrown away with the member that it was for."""
    cluster = Cluster(5, config=FAST)
    heard = Heard()
    dead_at = 2
    dead_id = cluster.nodes[dead_at].id
    keys = [b"key-%d" % i for i in range(300)]
    dead = cluster.die(dead_at)
    for i, key in enumerate(keys):
        cluster.nodes[i % 4].put(key, b"v", QUORUM, heard, i)
    cluster.run()
    assert sum(node.hints.waiting_for().get(dead_id, 0) for node in cluster.nodes)
    lose(cluster, cluster.nodes[0], dead.name)
    new = cluster.start_empty(dead_at, dead.member)
    pause_filling(new)
    cluster.ask_to_join(new, cluster.nodes[0])
    assert sum(node.hints.waiting_for().get(new.id, 0) for node in cluster.nodes)
    for _ in range(400):
        cluster.pass_time(10)
    assert not any(node.hints.waiting for node in cluster.nodes)
    mine = [key for key in keys if new.id in new.topology.owners[slot_of(key)]]
    assert mine and all(cluster.stores[dead_at].records.get(LIVE.row_key(key)) for key in mine)


def test_filling_waits_for_an_owner_that_is_needed_and_says_for_whom() -> None:
    """One of the two others may be the only one that has what was acknowledged with the lost copy's help."""
    cluster = Cluster(config=FAST)
    first, second, third = cluster.nodes
    cluster.cut(second, first)  # a write that only n2 and n3 have
    heard = Heard()
    second.put(b"key-0", b"v", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and not cluster.stores[0].records.get(LIVE.row_key(b"key-0"))
    cluster.connect(first, second)
    cluster.connect(second, first)
    second.hints._owners.clear()  # it lives on in nobody's memory but the records
    second.hints.waiting = 0
    _, new = empty_third(cluster)
    cluster.cut(new, second)
    for _ in range(300):
        cluster.pass_time(10)
    assert new.filling.active and new.filling.waits_for == [second.id] and 0 < new.filling.share < 1
    cluster.connect(new, second)
    cluster.connect(second, new)
    fill(cluster, new)
    assert cluster.stores[2].records[LIVE.row_key(b"key-0")] == cluster.stores[1].records[LIVE.row_key(b"key-0")]
    assert third.id not in first.topology.members


def test_of_five_owners_three_others_are_enough() -> None:
    config = NodeConfig(repair_interval_ms=0, replicas=5)
    cluster = Cluster(5, config=config)
    document = cluster.nodes[0].topology.document
    assert document is not None and document.replicas == 3  # lists of three of five: two others of each must be there
    write(cluster, cluster.nodes[0], 100)
    dead = cluster.die(2)
    lose(cluster, cluster.nodes[0], dead.name)
    new = cluster.start_empty(2, dead.member)
    cluster.ask_to_join(new, cluster.nodes[0])
    fill(cluster, new)
    for i in range(100):
        key = b"key-%d" % i
        owners = new.topology.owners[slot_of(key)]
        assert len({cluster.by_id[owner].store.records[LIVE.row_key(key)] for owner in owners}) == 1  # type: ignore[attr-defined]


def test_a_flush_while_filling() -> None:
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 2000)
    _, new = empty_third(cluster)
    for _ in range(5):
        cluster.pass_time(10)
    assert new.filling.active
    done: list[Failure | None] = []
    cluster.nodes[0].flush(done.append)
    for _ in range(20):
        cluster.pass_time(10)
    assert done == [None]
    fill(cluster, new)
    heard = Heard()
    new.get(b"key-1", QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0] == ("found", b"")


def test_a_restart_while_filling_goes_on() -> None:
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 2000)
    _, new = empty_third(cluster)
    for _ in range(8):
        cluster.pass_time(10)
    assert new.filling.active and 0 < new.filling.received < 2000
    store, document = cluster.stores[2], new.topology.document
    assert document is not None
    cluster.die(2)
    topology = Topology()
    topology.install(document)
    again = cluster._node(new.member, topology, store)
    cluster.nodes.append(again)
    cluster.stores.append(store)
    cluster.by_id[again.id] = again
    for other in cluster.nodes[:2]:
        cluster.connect(again, other)
        cluster.connect(other, again)
    fill(cluster, again)
    assert same_everywhere(cluster, 2000) and again.filling.received < 2000


def test_one_is_replaced_at_a_time() -> None:
    cluster = Cluster(config=FAST)
    _, new = empty_third(cluster)
    pause_filling(new)
    cluster.die(1)
    answer = lose(cluster, cluster.nodes[0], "n2")
    assert isinstance(answer, Failure) and "n3 is being filled" in str(answer)


def test_a_node_in_no_cluster_replaces_nobody() -> None:
    cluster = Cluster()
    dead = cluster.die(2)
    new = cluster.start_empty(2, dead.member)
    told: list[Lost | Failure] = []
    new.replace("n1", told.append)
    assert isinstance(told[0], NotReady)


def ends(cluster: Cluster, ticks: int) -> bool:
    """Whether it ends within so many."""
    for _ in range(ticks):
        cluster.pass_time(10)
        for store in cluster.stores:
            store.sync()
        if not any(node.topology.filling for node in cluster.nodes):
            return True
    return False


def test_an_owner_that_cannot_list_its_keys_is_left_to_the_others_and_told() -> None:
    cluster = Cluster(config=FAST)
    write(cluster, cluster.nodes[0], 50)
    _, new = empty_third(cluster)
    cluster.stores[0].fail_walks = True
    assert ends(cluster, 12_000)
    assert new.filling.unreadable
    assert len(cluster.stores[2].records) >= 50, "all of them, from the other owner"


def test_a_key_that_loads_for_long_is_there_before_the_filling_ends() -> None:
    cluster, heard = Cluster(config=FAST), Heard()
    cluster.nodes[0].put(b"k", b"v1", QUORUM, heard, 0)
    cluster.run()
    _, new = empty_third(cluster)
    a, b = cluster.nodes[:2]
    a.put(b"k", b"v2", QUORUM, heard, 1)
    cluster.run()
    store, row = cluster.stores[2], LIVE.row_key(b"k")
    old = store.records[row]
    cluster.cut(a, new)
    cluster.cut(b, new)
    a.hints.tick = b.hints.tick = lambda: None  # type: ignore[method-assign]
    a.put(b"k", b"v3", QUORUM, heard, 2)
    cluster.run()
    for node in (a, b):
        cluster.connect(node, new)
        cluster.connect(new, node)
    store.cold.add(row)  # and nothing is loaded
    for other in cluster.stores[:2]:
        other.tree.ready[slot_of(b"k")] = 0
    assert not ends(cluster, 3_000)
    assert store.records[row] == old


def test_a_lost_member_that_came_back_keeps_its_place_while_it_is_up() -> None:
    cluster, heard = Cluster(config=FAST), Heard()
    a, _, c = cluster.nodes
    isolate(cluster, c)
    assert isinstance(lose(cluster, a, "n3"), Lost)
    rejoin(cluster, c)
    settle(cluster)
    c.put(b"k", b"v", EVERY, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    new = cluster.start_empty(3, c.member)
    cluster.ask_to_join(new, a)
    cluster.run()
    assert c.replaced is None
    isolate(cluster, c)
    cluster.ask_to_join(new, a)
    cluster.run()
    assert c.id in a.topology.former
