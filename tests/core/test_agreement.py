"""Agreement (T3) on a small seeded network that loses, doubles and delays messages, and crashes nodes that come back
from what they had saved. Safety is checked at every step: never two documents for one epoch."""

import random
from collections.abc import Callable
from functools import cache

import msgspec
import pytest

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


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_never_two_documents_for_one_epoch(start: int) -> None:
    for seed in range(start, start + 50):
        history(seed)


class AcceptsAnything(Agreement):
    def _permits(self, ballot: Ballot) -> bool:
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


@pytest.mark.parametrize("faulty", [AcceptsAnything, ForgetsPromises, ForgetsAccepted])
def test_the_check_catches_deliberate_faults(faulty: type[Agreement]) -> None:
    with pytest.raises(Forked):
        for seed in range(2000):
            history(seed, faulty)
