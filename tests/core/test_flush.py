"""Flushes: T3 decides a new incarnation, T5 says what becomes of what is under way."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_node import error, value

from ringwise.core import messages, topology
from ringwise.core.agreement import RETRY_MS, AgreementFailed, Learn
from ringwise.core.config import NodeConfig
from ringwise.core.errors import (
    Failure,
    Flushed,
    FlushNotAgreed,
    NotReady,
    Overloaded,
    QuorumNotReached,
    Refused,
    UnknownOutcome,
)
from ringwise.core.flush import FLUSHES_MAX, _Decided
from ringwise.core.keys import Bucket
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG
from ringwise.core.messages import Scanned, Written
from ringwise.core.node import Node
from ringwise.core.ring import slot_of
from ringwise.core.scan import Page
from ringwise.core.topology import INCARNATION_MAX, ChangeRefused, Document
from ringwise.core.versions import Write

OLD, NEW = Bucket(0, 1), Bucket(0, 2)


class Answers(list[Failure | None]):
    """What flushes were answered."""


def flushed(cluster: Cluster, node: Node) -> Answers:
    answers = Answers()
    node.flush(answers.append)
    cluster.run()
    for _ in range(20):
        if not answers:
            cluster.pass_time(50)
    return answers


def document(node: Node) -> Document:
    assert node.topology.document is not None
    return node.topology.document


def next_document(node: Node) -> bytes:
    return topology.flush(document(node), 0).encode()


def teach(cluster: Cluster, *nodes: Node) -> None:
    """These nodes learn of a flush that nobody else has heard of."""
    learn = Learn(next_document(cluster.nodes[0]))
    for node in nodes:
        node.receive(cluster.links[node.id, cluster.nodes[node is cluster.nodes[0]].id], learn)


def test_t3_a_flush_is_a_new_incarnation_that_changes_no_slot() -> None:
    before = document(Cluster().nodes[0])
    after = topology.flush(before, 0)
    assert (after.epoch, after.bucket(0), before.bucket(0)) == (before.epoch + 1, NEW, OLD)
    assert after.changed() == before.changed() and after.owners() == before.owners()
    assert Document.decode(after.encode()) == after


def test_t3_the_last_incarnation_refuses_another() -> None:
    before = document(Cluster().nodes[0])
    rules = [topology.BucketRules(incarnation=INCARNATION_MAX - 1)]
    last = topology.flush(msgspec.structs.replace(before, buckets=rules), 0)
    assert last.bucket(0).prefix == b"\0\0\xff\xff\xff\xff"
    with pytest.raises(ChangeRefused, match="4,294,967,295 times"):
        topology.flush(last, 0)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_nothing_from_before_a_flush_is_there_after_it(count: int) -> None:
    cluster, heard = Cluster(count), Heard()
    keys = [b"k%d" % number for number in range(40)]
    for i, key in enumerate(keys):
        cluster.nodes[i % count].put(key, b"old", QUORUM, heard, i)
    cluster.run()
    assert flushed(cluster, cluster.nodes[-1]) == [None]
    for i, key in enumerate(keys):
        cluster.nodes[i % count].get(key, ONE if i % 2 else QUORUM, heard, 100 + i)
    cluster.run()
    assert [value(heard, 100 + i) for i in range(40)] == [None] * 40
    for i, key in enumerate(keys):
        cluster.nodes[-1 - i % count].put(key, b"new", QUORUM, heard, 200 + i)
    cluster.run()
    for i, key in enumerate(keys):
        cluster.nodes[i % count].get(key, STRONG, heard, 300 + i)
    cluster.run()
    assert [value(heard, 300 + i) for i in range(40)] == [b"new"] * 40
    assert all(NEW.prefix in store.live and OLD.prefix not in store.live for store in cluster.stores)


def test_flushes_of_all_nodes_at_once_are_a_few_incarnations() -> None:
    cluster, answers = Cluster(), Answers()
    for node in cluster.nodes:
        node.flush(answers.append)
    for _ in range(100):
        cluster.run()
        cluster.pass_time(40)
    assert answers == [None] * 3
    assert document(cluster.nodes[0]).bucket(0).incarnation in (2, 3, 4)


def test_many_flushes_in_a_row_and_too_many_at_once() -> None:
    cluster, heard = Cluster(1), Heard()
    node = cluster.nodes[0]
    for number in range(50):
        node.put(b"k", b"%d" % number, QUORUM, heard, number)
        cluster.run()
        assert flushed(cluster, node) == [None]
    assert document(node).bucket(0).incarnation == 51
    node.get(b"k", QUORUM, heard, 99)
    cluster.run()
    assert value(heard, 99) is None
    answers = Answers()
    for _ in range(FLUSHES_MAX + 1):
        node.flush(answers.append)
    assert [type(answer) for answer in answers] == [Overloaded]
    for _ in range(FLUSHES_MAX * 3):
        cluster.pass_time(20)
    assert answers[1:] == [None] * FLUSHES_MAX


def test_a_flush_is_answered_only_once_a_majority_of_owners_holds_the_epoch() -> None:
    cluster, answers = Cluster(), Answers()
    first, second, third = cluster.nodes
    saved: list[bytes] = []
    first._save_topology = saved.append
    learn = Learn(next_document(first))
    first._flushes._decided.append(_Decided(first.topology.epoch + 1, answers.append, 9e9))
    first.receive(cluster.links[first.id, second.id], learn)
    first.agreement._known[second.id] = 0  # as if nobody had been heard
    first._flushes.check()
    assert not answers, "one of three, and it is not on disk"
    cluster.cut(first, second)
    cluster.cut(first, third)
    cluster.run()
    assert saved and not answers, "one of three"
    first.agreement.heard(second.id, first.topology.epoch - 1, cluster.now_ms)
    cluster.run()
    assert not answers
    first.agreement.heard(second.id, first.topology.epoch, cluster.now_ms)
    cluster.run()
    assert answers == [None]


def test_a_flush_without_a_majority_of_voters_is_refused_or_unknown() -> None:
    cluster, answers, heard = Cluster(), Answers(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    cluster.cut(first, second)
    cluster.cut(first, third)
    first.flush(answers.append)
    for _ in range(12):
        cluster.pass_time(500)
    assert [type(answer) for answer in answers] == [FlushNotAgreed]
    cluster.connect(first, second)
    cluster.connect(second, first)
    cluster.run()
    first.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"v"


def test_a_flush_that_too_few_owners_learn_of_has_an_unknown_outcome() -> None:
    cluster, answers = Cluster(), Answers()
    flushes = cluster.nodes[0]._flushes
    flushes._agreed(answers.append, cluster.now_ms + 100, topology.flush(document(cluster.nodes[0]), 0))
    cluster.pass_time(50)
    assert not answers
    cluster.pass_time(60)
    assert isinstance(answers[0], UnknownOutcome) and "0 of 2" in str(answers[0])


def test_what_agreement_says_is_told_as_what_it_means() -> None:
    cluster, answers = Cluster(), Answers()
    flushes = cluster.nodes[0]._flushes
    for failure in (AgreementFailed("x", unknown=True), AgreementFailed("y", refused=True), AgreementFailed("z")):
        flushes._agreed(answers.append, 0.0, failure)
    assert [type(answer) for answer in answers] == [UnknownOutcome, Refused, FlushNotAgreed]
    lonely = Cluster(1)
    lonely.nodes[0].topology.epoch = 0
    lonely.nodes[0].flush(answers.append)
    assert isinstance(answers[-1], NotReady)


# T5: what is under way.


def test_t5_a_write_in_flight_is_void_and_its_outcome_unknown() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"old", QUORUM, heard, 0)
    cluster.step(first)
    teach(cluster, first)
    assert isinstance(error(heard, 0), UnknownOutcome) and "flushed" in str(error(heard, 0))
    cluster.run()
    for i, node in enumerate((first, second, third)):
        node.get(b"k", EVERY, heard, 1 + i)
    cluster.run()
    cluster.pass_time(50)
    assert [value(heard, i) for i in (1, 2, 3)] == [None] * 3


def test_t5_a_write_that_was_neither_logged_nor_sent_is_refused() -> None:
    cluster, heard = Cluster(), Heard()
    first = cluster.nodes[0]
    first.put(b"k", b"old", QUORUM, heard, 0)
    teach(cluster, first)
    assert isinstance(error(heard, 0), Flushed)
    cluster.run()
    assert not cluster.stores[0].log and not cluster.stores[1].log


def test_t5_owners_that_know_refuse_the_old_incarnation_and_their_majority_decides() -> None:
    """The coordinator is the one that has not heard of it: it can neither write nor show anything old at quorum."""
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"old", EVERY, heard, 0)
    cluster.run()
    teach(cluster, second, third)
    for node in (second, third):  # and cannot tell it yet
        node.agreement.outbox.clear()
    first.put(b"j", b"late", QUORUM, heard, 1)
    first.get(b"k", QUORUM, heard, 2)
    first.get(b"k", ONE, heard, 3)
    assert value(heard, 3) == b"old", "below a majority it answers alone"
    cluster.run()
    assert isinstance(error(heard, 1), UnknownOutcome)
    cluster.pass_time(50)
    assert value(heard, 2) is None, "it has learned, and asked again"
    assert first.topology.epoch == second.topology.epoch
    for i, node in enumerate(cluster.nodes):
        node.get(b"j", QUORUM, heard, 10 + i)
    cluster.run()
    assert [value(heard, 10 + i) for i in range(3)] == [None] * 3


def test_t5_frames_of_a_dead_incarnation_are_refused_whatever_their_epoch() -> None:
    cluster = Cluster()
    first, second, _ = cluster.nodes
    teach(cluster, second)
    rows = [OLD.row_key(b"k")]
    chunk = messages.encode_chunk([slot_of(b"k")], rows, [b""], [b"record"])
    link = cluster.back[first.id, second.id]
    second.receive(link, messages.Write(1, second.topology.epoch, 0, chunk))
    second.receive(link, messages.Read(2, second.topology.epoch, False, [slot_of(b"k")], rows, [b""]))
    assert [answer for _, answer in second.replica.written] == [Written(1, [], [], [(0, messages.STALE)])]
    assert [answer.refused for _, answer, _ in second.replica.found] == [[(0, messages.STALE)]]
    cluster.run()
    assert not cluster.stores[1].log and not cluster.stores[1].records


def test_t5_what_waited_for_the_disk_while_the_database_was_flushed() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    for store in cluster.stores:
        store.cold |= {OLD.row_key(key) for key in (b"set", b"put", b"get", b"theirs")}
    first.put(b"set", b"v", QUORUM, heard, 0)
    first.get(b"get", QUORUM, heard, 1)
    first.write(b"put", Write(value=b"v", tombstone=False, context=None, expiry_ms=0), QUORUM, heard, 2)
    second.put(b"theirs", b"v", QUORUM, heard, 3)
    cluster.stores[1].loaded()
    cluster.run()
    assert cluster.stores[0].waiting, "a write and a read of others wait here, too"
    teach(cluster, first, second, third)
    for store in cluster.stores:
        store.loaded()
    cluster.run()
    cluster.pass_time(50)
    assert heard.outcomes[0][0] == "stored", "a plain SET begins anew"
    assert value(heard, 1) is None
    assert isinstance(error(heard, 2), Flushed)
    assert isinstance(error(heard, 3), UnknownOutcome)
    alive = {rkey for store in cluster.stores for rkey in store.records if rkey.startswith(NEW.prefix)}
    assert alive == {NEW.row_key(b"set")}


def test_t5_an_update_never_carries_an_old_value_over() -> None:
    cluster, heard = Cluster(), Heard()
    first = cluster.nodes[0]
    first.put(b"k", b"old", EVERY, heard, 0)
    cluster.run()
    first.update(b"k", "delete", (), QUORUM, heard, 1)
    cluster.step(first)
    teach(cluster, first)
    cluster.run()
    cluster.pass_time(50)
    kind, states = heard.outcomes[1]
    assert kind == "updated" and states == (b"", b""), "there was nothing to delete"


def test_t5_a_repair_of_the_old_incarnation_is_void() -> None:
    cluster, heard = Cluster(), Heard()
    first = cluster.nodes[0]
    teach(cluster, first)
    first._put.spread(slot_of(b"k"), OLD.row_key(b"k"), b"state", 1, heard, 0)
    assert isinstance(error(heard, 0), Flushed)


def test_t5_a_forward_from_a_node_that_is_ahead_is_taken_after_the_lesson() -> None:
    cluster, heard = Cluster(5), Heard()
    taker = cluster.nodes[0]
    key = next(key for key in (b"k%d" % n for n in range(99)) if taker.id not in taker.topology.owners[slot_of(key)])
    teach(cluster, taker)
    taker.agreement.outbox.clear()
    taker.put(key, b"v", QUORUM, heard, 0)
    cluster.run()
    cluster.pass_time(50)
    assert heard.outcomes[0][0] == "stored"
    taker.get(key, QUORUM, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"v"


def test_an_owner_that_refuses_a_stale_read_is_not_taken_for_late() -> None:
    """Its answer is a refusal: the read begins again with the document, and the owner stays up."""
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"v", EVERY, heard, 0)
    cluster.run()
    cluster.cut(first, third)
    cluster.cut(first, second)
    second.flush(lambda _: None)
    cluster.run()
    cluster.pass_time(2 * RETRY_MS)  # or the owner would not yet teach again what it has just told in vain
    cluster.connect(first, second)
    cluster.connect(second, first)
    first.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert first.topology.changed_max == second.topology.changed_max, "it has learned of the flush by being refused"
    assert heard.outcomes[1] == ("found", b"")
    cluster.pass_time(NodeConfig().request_timeout_ms + 1)
    assert first.is_up(second.id)


def test_a_scan_that_an_owner_refuses_as_stale_begins_again_with_its_document() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    for i in range(5):
        first.put(b"old%d" % i, b"v", EVERY, heard, i)
    cluster.run()
    cluster.cut(first, third)
    cluster.cut(first, second)
    second.flush(lambda _: None)
    cluster.run()
    second.put(b"new", b"v", QUORUM, heard, 9)
    cluster.run()
    cluster.pass_time(2 * RETRY_MS)
    cluster.connect(first, second)
    cluster.connect(second, first)
    pages: list[Page | Failure] = []
    first.scan(0, 100, QUORUM, pages.append)
    cluster.run()
    (page,) = pages
    assert isinstance(page, Page) and [key for key, _ in page.found] == [b"new"] and not page.cursor
    cluster.pass_time(NodeConfig().request_timeout_ms + 1)
    assert first.is_up(second.id) and not first._scan._asking


def test_a_scan_whose_owner_never_sends_its_document_ends_at_its_deadline() -> None:
    cluster = Cluster()
    first, second, third = cluster.nodes
    cluster.cut(first, third)
    pages: list[Page | Failure] = []
    first.scan(0, 100, QUORUM, pages.append)
    cluster.step(first)
    (asked,) = first._scan._asking.values()
    first.receive(cluster.links[first.id, second.id], Scanned(asked.id, 0, [], messages.STALE))
    cluster.pass_time(50)
    assert not pages
    cluster.pass_time(NodeConfig().request_timeout_ms)
    assert isinstance(pages[0], QuorumNotReached) and not first._scan._asking
