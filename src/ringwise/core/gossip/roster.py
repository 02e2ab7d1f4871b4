"""The members that are followed: what is known of each, the order in which they are probed, and chance picks among them.

What is known of a member is a join of everything heard, so the order of arrival does not matter: the highest incarnation
counts; within it the greatest state and, should a member with its clock set back have used an incarnation twice, the
greatest address, until the member itself takes a higher one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from ringwise.core.gossip.packets import Address, State, Update
from ringwise.core.gossip.suspicion import Suspicion
from ringwise.core.topology import NodeId


class Peer:
    """One member as this node knows it."""

    __slots__ = ("announced", "behind", "incarnation", "listed", "node", "state", "suspicion", "told_ms")

    def __init__(self, node: NodeId, listed: Address) -> None:
        self.node = node
        self.incarnation = 0
        self.state = State.ALIVE  # until heard of: the document says that it is a member
        self.listed = listed  # by the document
        self.announced: Address | None = None  # by the member itself, with its incarnation
        self.suspicion: Suspicion | None = None
        # Where it is that says so in an old incarnation: restarted, its clock set back.
        self.behind: Address | None = None
        self.told_ms = -1e18  # when it was last told by itself what is thought of it

    @property
    def address(self) -> Address:
        return self.listed if self.announced is None else self.announced

    @property
    def reached_at(self) -> Address:
        """Where to send packets. Who is behind cannot announce a new address before it has heard that it is behind."""
        return self.behind or self.address

    @property
    def gone(self) -> bool:
        return self.state >= State.DEAD

    def update(self, by: NodeId = b"") -> Update:
        return Update(self.node, self.incarnation, self.state, self.announced, by)

    def is_news(self, update: Update) -> bool:
        if update.incarnation != self.incarnation:
            return update.incarnation > self.incarnation
        if update.state == self.state and update.address == self.announced:
            return False  # as nearly all of what a comparison of everything brings
        return update.state > self.state or _greater(self.announced, update.address) != self.announced

    def take(self, update: Update) -> None:
        if update.incarnation > self.incarnation:
            self.state, self.announced = update.state, update.address
        else:
            self.state = max(self.state, update.state)
            self.announced = _greater(self.announced, update.address)
        self.incarnation = update.incarnation


def _greater(one: Address | None, other: Address | None) -> Address | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


class Roster:
    """All members but this node itself."""

    def __init__(self, me: NodeId, rng: random.Random) -> None:
        self.me = me
        self.peers: dict[NodeId, Peer] = {}
        self._rng = rng
        self._order: list[
            Peer
        ] = []  # shuffled; a newcomer enters anywhere, so that nobody is found late by all (SWIM 4.3)
        self._next = 0
        self._present: list[Peer] | None = None
        self._gone: list[Peer] | None = None

    def __len__(self) -> int:
        """The size of the cluster, this node included."""
        return len(self.peers) + 1

    def follow(self, members: Mapping[NodeId, Address]) -> list[NodeId]:
        """Takes over the document's members; returns those that are members no more."""
        removed = [node for node in self.peers if node not in members]
        for node in removed:
            del self.peers[node]
        if removed:
            self._order = [peer for peer in self._order if peer.node in self.peers]
        for node in sorted(members):
            if node == self.me:
                continue
            if node in self.peers:
                self.peers[node].listed = members[node]
            else:
                self.peers[node] = Peer(node, members[node])
                self._order.insert(self._rng.randint(0, len(self._order)), self.peers[node])
        self.changed()
        return removed

    def changed(self) -> None:
        """Somebody came or went."""
        self._present = self._gone = None

    def present(self) -> list[Peer]:
        """Those that are neither dead nor gone."""
        if self._present is None:
            self._present = [peer for peer in self.peers.values() if not peer.gone]
        return self._present

    def gone(self) -> list[Peer]:
        if self._gone is None:
            self._gone = [peer for peer in self.peers.values() if peer.gone]
        return self._gone

    def next_target(self) -> Peer | None:
        """The next to probe: round-robin over the shuffled order, so each is probed within 2n - 1 rounds."""
        for _ in range(len(self._order)):
            if self._next >= len(self._order):
                self._next = 0
                self._rng.shuffle(self._order)
            peer = self._order[self._next]
            self._next += 1
            if not peer.gone:
                return peer
        return None

    def pick(self, count: int, but: NodeId = b"") -> list[Peer]:
        """So many present members, by chance, and fewer where there are not so many."""
        present = self.present()
        picked = self._rng.sample(present, min(count + 1, len(present)))
        return [peer for peer in picked if peer.node != but][:count]

    def pick_gone(self) -> Peer | None:
        return self._rng.choice(self.gone()) if self.gone() else None
