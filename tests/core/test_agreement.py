"""Agreement (T3) on a small seeded network that loses, doubles and delays messages, and crashes nodes that come back
from what they had saved. Safety is checked at every step: never two documents for one epoch."""

import random
from collections.abc import Callable
from functools import cache

import msgspec
import pytest
from xxhash import xxh3_64_digest

from ringwise.core import agreement as agreement_module
from ringwise.core.agreement import (
    Agreement,
    AgreementFailed,
    AgreementMessage,
    AgreementStateDamaged,
    Ballot,
    Join,
    JoinRefused,
    Known,
    Learn,
    Promise,
)
from ringwise.core.topology import BucketRules, Document, Member, NodeId, Topology, TopologyTooNew, form, found, join

CLUSTER = b"c" * 16
TICK_MS = 20


def member(number: int, port: int = 0) -> Member:
    return Member(f"n{number}", b"node-%d" % number, f"10.0.0.{number}", 9379, 7379 + port, 8379)


@cache
def cluster_of(count: int) -> Document:
    document = found(CLUSTER, member(1))
    for number in range(2, count + 1):
        joined = join(document, member(number))
        assert joined is not None
        document = joined
    return document


def add_bucket(name: str) -> Callable[[Document], Document | None]:
    """A change that conflicts with every other: whoever comes first gets the next number."""

    def change(document: Document) -> Document | None:
        if any(bucket.name == name for bucket in document.buckets):
            return None
        buckets = [*document.buckets, BucketRules(len(document.buckets), name)]
        return msgspec.structs.replace(document, epoch=document.epoch + 1, buckets=buckets)

    return change


def replace_voters(voters: list[NodeId]) -> Callable[[Document], Document | None]:
    def change(document: Document) -> Document | None:
        if document.voters == voters:
            return None
        return msgspec.structs.replace(document, epoch=document.epoch + 1, voters=voters)

    return change


class Forked(AssertionError):
    """Two documents for one epoch."""


class Network:
    """Nodes, a virtual clock and a bag of messages; everything comes from one seed."""

    def __init__(self, seed: int, document: Document | None, agreement: type[Agreement] = Agreement) -> None:
        self.rng = random.Random(seed)
        self.agreement = agreement
        self.now_ms = 0.0
        self.loss = 0.0
        self.disks: dict[NodeId, bytes | None] = {}
        self.nodes: dict[NodeId, Agreement] = {}
        self.bag: list[tuple[float, int, NodeId, NodeId, AgreementMessage]] = []
        self.sent = 0
        self.decided: dict[int, bytes] = {}
        if document is not None:
            state = agreement(b"", Topology(), self.rng, None)
            state._install(document)  # every member starts from a document decided earlier
            for each in document.members:
                self.disks[each.id] = state.state()
                self.start(each.id)

    def start(self, node: NodeId) -> Agreement:
        saved = self.disks.setdefault(node, None)
        self.nodes[node] = self.agreement(node, Topology(), random.Random(self.rng.random()), saved)
        return self.nodes[node]

    def crash(self, node: NodeId) -> None:
        del self.nodes[node]

    def flush(self, node: NodeId, *, crash_before_send: bool = False) -> None:
        """The shell's part: store, then send."""
        agreement = self.nodes[node]
        if agreement.dirty:
            self.disks[node] = agreement.state()
            agreement.dirty = False
        document = agreement.topology.document
        if document is not None:
            encoded = document.encode()
            if self.decided.setdefault(document.epoch, encoded) != encoded:
                raise Forked(f"two documents for epoch {document.epoch}")
        messages, agreement.outbox = agreement.outbox, []
        for peer, message in messages:
            copies = 0 if crash_before_send or self.rng.random() < self.loss else 1
            copies += self.loss > 0 and self.rng.random() < 0.1
            for _ in range(copies):
                self.sent += 1
                self.bag.append((self.now_ms + self.rng.uniform(1, 60), self.sent, node, peer, message))

    def step(self) -> None:
        """The next message or the next tick of everybody, whichever is due first."""
        due = min(self.bag, default=None)
        tick_at = (self.now_ms // TICK_MS + 1) * TICK_MS
        if due is None or due[0] > tick_at:
            self.now_ms = tick_at
            for node in list(self.nodes):
                self.nodes[node].tick(self.now_ms)
                self.flush(node)
            return
        self.bag.remove(due)
        self.now_ms = max(self.now_ms, due[0])
        _, _, sender, peer, message = due
        if peer in self.nodes:
            self.nodes[peer].receive(sender, message, self.now_ms)
            self.flush(peer)

    def until(self, condition: Callable[[], bool], limit_ms: float = 30_000) -> None:
        end_ms = self.now_ms + limit_ms
        while not condition():
            assert self.now_ms < end_ms, f"no progress within {limit_ms} ms"
            self.step()

    def propose(
        self, node: NodeId, change: Callable[[Document], Document | None], deadline_ms: float | None = None
    ) -> list[Document | AgreementFailed]:
        results: list[Document | AgreementFailed] = []
        self.nodes[node].propose(change, results.append, self.now_ms, deadline_ms)
        self.flush(node)
        return results

    def epochs(self) -> set[int]:
        return {node.topology.epoch for node in self.nodes.values()}


def history(seed: int, agreement: type[Agreement] = Agreement) -> None:
    """Conflicting changes from all sides, new sets of voters, loss, crashes; then healing, and everybody agrees."""
    rng = random.Random(seed)
    count = rng.choice([3, 4, 5])
    network = Network(seed, cluster_of(count), agreement)
    network.loss = rng.choice([0.0, 0.1, 0.3])
    everybody = list(network.nodes)
    results = []
    for number in range(12):
        node = rng.choice(list(network.nodes) or [network.start(everybody[0]).me])
        voters = rng.sample(everybody, 3)
        change = replace_voters(voters) if rng.random() < 0.2 else add_bucket(f"b{number}")
        results.append(network.propose(node, change, network.now_ms + 3000))
        for _ in range(rng.randrange(40)):
            network.step()
        if rng.random() < 0.6:
            victim = rng.choice(everybody)
            if victim in network.nodes:
                if rng.random() < 0.5:
                    network.flush(victim, crash_before_send=True)
                network.crash(victim)
        for node in everybody:
            if node not in network.nodes and rng.random() < 0.4:
                network.start(node)
    network.loss = 0.0
    for node in everybody:
        if node not in network.nodes:
            network.start(node)
    network.until(lambda: len(network.epochs()) == 1 and all(node.held for node in network.nodes.values()))
    for node in everybody:
        last = network.propose(node, add_bucket("last"))
        network.until(lambda last=last: bool(last))  # type: ignore[misc]
        assert isinstance(last[0], Document)
    names = [bucket.name for bucket in Document.decode(network.decided[max(network.decided)]).buckets]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_never_two_documents_for_one_epoch(start: int) -> None:
    for seed in range(start, start + 20):
        history(seed)


class AcceptsAnything(Agreement):
    def _permits(self, ballot: Ballot) -> bool:
        del ballot
        return True


class ForgetsPromises(Agreement):
    def state(self) -> bytes:
        promised, self._promised = self._promised, None
        state = super().state()
        self._promised = promised
        return state


class ForgetsAccepted(Agreement):
    def state(self) -> bytes:
        accepted, self._accepted = self._accepted, None
        state = super().state()
        self._accepted = accepted
        return state


@pytest.mark.parametrize(
    ("faulty", "first_seed"),  # a seed not far from one that shows the fault; from 0 the last one takes a minute
    [(AcceptsAnything, 0), (ForgetsPromises, 25), (ForgetsAccepted, 390)],
)
def test_the_check_catches_deliberate_faults(faulty: type[Agreement], first_seed: int) -> None:
    with pytest.raises(Forked):
        for seed in range(first_seed, first_seed + 400):
            history(seed, faulty)


def test_a_cluster_forms_step_by_step() -> None:
    """n1 founds, n2 and n3 join through messages, the formed document reaches everybody (T3)."""
    network = Network(1, None)
    network.start(member(1).id).found(member(1), CLUSTER)
    network.flush(member(1).id)
    for number in (2, 3):
        newcomer = network.start(member(number).id)
        newcomer.outbox.append((member(1).id, Join(member(number))))
        network.flush(newcomer.me)
        network.until(lambda newcomer=newcomer: newcomer.topology.epoch > 0)  # type: ignore[misc]
    results = network.propose(member(3).id, form)
    network.until(lambda: bool(results) and network.epochs() == {4})
    network.until(lambda: all(node.held for node in network.nodes.values()))
    assert all(node.topology.formed and len(node.topology.members) == 3 for node in network.nodes.values())
    network.until(lambda: not network.bag)
    quiet_from = network.sent
    for _ in range(1000):
        network.step()
    assert network.sent == quiet_from, "who knows that everybody knows is silent"


def test_a_formed_cluster_refuses_a_newcomer_with_the_reason() -> None:
    network = Network(2, cluster_of(3))
    results = network.propose(member(1).id, form)
    network.until(lambda: bool(results))
    newcomer = network.start(member(4).id)
    newcomer.outbox.append((member(2).id, Join(member(4))))
    network.flush(newcomer.me)
    network.until(lambda: newcomer.refused is not None)
    assert newcomer.refused == JoinRefused(
        "the cluster is formed, and its slots hold data: it cannot take in new members yet", False
    )
    assert newcomer.topology.epoch == 0


def test_asking_a_node_that_belongs_to_nobody_may_be_repeated() -> None:
    network = Network(3, None)
    network.start(member(1).id)
    newcomer = network.start(member(2).id)
    newcomer.outbox.append((member(1).id, Join(member(2))))
    network.flush(newcomer.me)
    network.until(lambda: newcomer.refused is not None)
    assert newcomer.refused == JoinRefused("this node is not a member of a cluster yet", True)


def test_nobody_joins_in_the_name_of_another() -> None:
    agreement = Agreement(member(1).id, Topology(), random.Random(1), None)
    agreement.receive(b"mallet", Join(member(2)), 0)
    assert agreement.outbox == [(b"mallet", JoinRefused("a node can ask to join for itself only", False))]


def test_a_stranger_learns_only_a_document_that_names_it() -> None:
    agreement = Agreement(member(9).id, Topology(), random.Random(1), None)
    agreement.receive(member(1).id, Learn(cluster_of(3).encode()), 0)
    assert agreement.topology.epoch == 0
    other = Agreement(member(3).id, Topology(), random.Random(1), None)
    other.receive(member(1).id, Learn(cluster_of(3).encode()), 0)
    assert other.topology.epoch == 3
    foreign = msgspec.structs.replace(cluster_of(3), cluster=b"d" * 16, epoch=9)
    other.receive(member(1).id, Learn(foreign.encode()), 0)
    assert other.topology.epoch == 3


def test_own_votes_wait_for_the_disk_like_those_of_others() -> None:
    agreement = Agreement(member(1).id, Topology(), random.Random(1), None)
    agreement.found(member(1), CLUSTER)
    agreement.dirty = False
    results: list[Document | AgreementFailed] = []
    agreement.propose(form, results.append, 0)
    for now_ms in range(100):
        assert agreement.dirty
        agreement.tick(now_ms)
    assert not results, "nothing was stored, so nothing was promised, so nothing is decided"
    agreement.dirty = False
    agreement.tick(100)
    assert agreement.dirty and not results, "now the acceptance has to be stored"
    agreement.dirty = False
    agreement.tick(101)
    assert isinstance(results[0], Document) and results[0].formed


def test_without_a_majority_it_fails_by_the_deadline_and_says_so() -> None:
    network = Network(4, cluster_of(3))
    network.crash(member(2).id)
    network.crash(member(3).id)
    results = network.propose(member(1).id, add_bucket("b"), deadline_ms=1000)
    network.until(lambda: bool(results), limit_ms=1100)
    failure = results[0]
    assert isinstance(failure, AgreementFailed)
    assert failure.reason == "no majority of the voters agreed in time: 2 needed, 1 answered"
    assert not failure.unknown, "it never got as far as proposing a document"
    assert network.epochs() == {3}


def test_a_failure_after_the_proposal_was_sent_is_of_unknown_outcome() -> None:
    network = Network(5, cluster_of(3))
    network.crash(member(3).id)
    results = network.propose(member(1).id, add_bucket("b"), deadline_ms=1000)
    network.until(lambda: any(isinstance(message, Promise) for *_, message in network.bag))
    promise = next(message for *_, message in network.bag if isinstance(message, Promise))
    network.crash(member(2).id)
    network.bag.clear()
    network.nodes[member(1).id].receive(member(2).id, promise, network.now_ms)
    network.flush(member(1).id)
    network.until(lambda: bool(results), limit_ms=1100)
    failure = results[0]
    assert isinstance(failure, AgreementFailed) and failure.unknown
    # It may still surface: with a majority back, the accepted document is the one that has to be completed.
    network.start(member(2).id)
    later = network.propose(member(2).id, add_bucket("c"))
    network.until(lambda: bool(later))
    assert isinstance(later[0], Document)
    assert [bucket.name for bucket in later[0].buckets][-1] == "c"


def test_a_refused_change_is_told_from_a_failed_one() -> None:
    network = Network(6, cluster_of(3))
    result = network.propose(member(1).id, lambda document: join(document, member(4, port=-1)))
    clash = msgspec.structs.replace(member(4), host="10.0.0.1")
    refused = network.propose(member(1).id, lambda document: join(document, clash))
    network.until(lambda: bool(result and refused))
    assert isinstance(result[0], Document)
    assert isinstance(refused[0], AgreementFailed) and refused[0].refused


def test_a_change_that_is_already_in_is_done_at_once() -> None:
    network = Network(7, cluster_of(3))
    results = network.propose(member(1).id, lambda document: join(document, member(2)))
    assert results == [cluster_of(3)]


def test_a_callback_may_propose_the_next_change() -> None:
    network = Network(8, cluster_of(3))
    node = network.nodes[member(1).id]
    results: list[Document | AgreementFailed] = []

    def then(result: Document | AgreementFailed) -> None:
        results.append(result)
        node.propose(add_bucket("second"), results.append, network.now_ms)

    node.propose(add_bucket("first"), then, network.now_ms)
    network.flush(node.me)
    network.until(lambda: len(results) == 2)
    assert network.epochs() >= {5}


def test_changes_wait_in_a_bounded_queue() -> None:
    network = Network(9, cluster_of(3))
    for _ in range(agreement_module.PROPOSALS_MAX):
        network.propose(member(1).id, add_bucket("b"))
    failure = network.propose(member(1).id, add_bucket("b"))[0]
    assert isinstance(failure, AgreementFailed) and not failure.unknown


def test_voters_that_are_all_replaced_stay_until_the_new_ones_hold_the_result() -> None:
    """T3: a decided document is kept until a majority of the next voters holds it."""
    network = Network(10, cluster_of(6))
    old = set(cluster_of(6).voters[:3])
    first = network.propose(member(1).id, replace_voters(sorted(old)))
    network.until(lambda: bool(first) and len(network.epochs()) == 1)
    new = sorted({each.id for each in cluster_of(6).members} - old)
    for node in new:
        network.crash(node)
    second = network.propose(sorted(old)[0], replace_voters(new))
    network.until(lambda: bool(second))
    network.until(lambda: network.epochs() == {8})
    assert not any(network.nodes[node].held for node in old), "the new voters have not heard of it"
    for node in new[:2]:
        network.start(node)
    network.until(lambda: all(network.nodes[node].held for node in old))
    for node in old:
        network.crash(node)
    third = network.propose(new[0], add_bucket("b"))
    network.until(lambda: bool(third))
    assert isinstance(third[0], Document)


def test_any_frame_of_a_peer_that_is_behind_or_ahead_brings_both_together() -> None:
    behind = Agreement(member(1).id, Topology(), random.Random(1), None)
    behind.receive(member(2).id, Learn(cluster_of(3).encode()), 0)
    behind.outbox.clear()
    behind.heard(member(2).id, 4, 0)
    assert behind.outbox == [(member(2).id, Known(3, False))]
    behind.outbox.clear()
    behind.heard(member(2).id, 2, 0)
    behind.heard(member(2).id, 2, 1)
    assert behind.outbox == [(member(2).id, Learn(cluster_of(3).encode()))], "paced: not for every frame"
    behind.outbox.clear()
    behind.heard(b"nobody", 0, 0)
    assert behind.outbox == [], "a stranger without a document has to ask"


def test_state_survives_a_restart_and_damage_is_named() -> None:
    network = Network(11, cluster_of(3))
    network.propose(member(1).id, add_bucket("b"))
    saved = network.nodes[member(1).id].state()
    again = Agreement(member(1).id, Topology(), random.Random(1), saved)
    assert again.state() == saved
    assert not again.dirty and again.topology.epoch == 3
    with pytest.raises(AgreementStateDamaged, match="checksum"):
        Agreement(member(1).id, Topology(), random.Random(1), saved[:-1] + b"x")
    newer = msgspec.msgpack.encode([agreement_module.FORMAT + 1, "unheard of"])
    with pytest.raises(TopologyTooNew):
        Agreement(member(1).id, Topology(), random.Random(1), xxh3_64_digest(newer) + newer)
    broken = msgspec.msgpack.encode([agreement_module.FORMAT, 1])
    with pytest.raises(AgreementStateDamaged, match="cannot be read"):
        Agreement(member(1).id, Topology(), random.Random(1), xxh3_64_digest(broken) + broken)


def test_messages_survive_the_wire() -> None:
    decoder = msgspec.msgpack.Decoder(AgreementMessage)
    for message in (Join(member(1)), Known(7, True), Learn(b"d"), Promise(3, (1, b"node-1"), None, b"")):
        assert decoder.decode(msgspec.msgpack.encode(message)) == message
