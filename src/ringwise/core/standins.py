"""Sloppy quorums (Dynamo, section 4.6; rule R2): who stands in for an owner that cannot be reached.

    owners  a  b  c          the ring onwards from where they were met:  d  e  …
            │  │  ╳ ───────▶ d keeps c's copy, with a hint that it is c's, and hands it over when c is back (R4)

A stand-in keeps the key's record where it keeps its own, so it is read, logged and flushed as any other; the hint says whose it
is, and when that owner has acknowledged it the record goes. An acknowledgement of a stand-in counts towards W, and what it holds
towards R; that it holds nothing says nothing. So a write and a read that both reach their level may miss each other: levels that
promise more (`strong`, `all`, explicit numbers) count owners only.
"""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core.messages import NodeId
from ringwise.core.now import Now
from ringwise.core.peers import Peers
from ringwise.core.ring import successors
from ringwise.core.topology import Topology

FULL_MS = 1_000.0  # a stand-in without room for more hints is not asked again for so long


class StandIns:
    """Chooses stand-ins, the same ones for readers and writers, and counts what they stood in for."""

    def __init__(self, peers: Peers, topology: Topology, now: Now) -> None:
        self._peers = peers
        self._topology = topology
        self._now = now
        self._epoch = 0
        self._orders: dict[tuple[NodeId, ...], list[NodeId]] = {}  # by owners
        self._full: dict[NodeId, float] = {}  # when to ask again
        self.room: Callable[[], bool] = lambda: True  # set by the node: whether it can keep one more hint itself
        self.writes = 0  # that reached their level with the help of one
        self.reads = 0
        self.counted: Callable[[bytes], None] = _ignore  # told the row key of each of these

    def order(self, owners: tuple[NodeId, ...]) -> list[NodeId]:
        """Every member that is none of `owners` (one of the topology's sets), in their order on the ring from where these owners
        are met first: one order for all slots of a set, since writes travel by sets."""
        topology = self._topology
        if topology.epoch != self._epoch:
            self._epoch = topology.epoch
            self._orders = {}
        order = self._orders.get(owners)
        if order is None:
            number = topology.sets.index(owners) if owners in topology.sets else -1
            others = {member.name: node for node, member in topology.members.items() if node not in owners}
            slot = topology.owner_set.index(number) if number >= 0 else 0
            weights = [(name, topology.members[node].weight) for name, node in others.items()]
            order = self._orders[owners] = [others[name] for name in successors(slot, weights)]
        return order

    def able(self, owners: tuple[NodeId, ...], *, reading: bool = False) -> list[NodeId]:
        """Those that can stand in now, this node among them; to tell what they hold they need no room for hints."""
        if len(self._topology.members) <= len(owners):
            return []
        return [node for node in self.order(owners) if self._able(node, reading)]

    def _able(self, node: NodeId, reading: bool) -> bool:
        if node in self._topology.filling:  # it counts for nothing (T4)
            return False
        if node == self._peers.me:
            return reading or self.room()
        return self._peers.is_up(node) and (reading or self._full.get(node, 0.0) <= self._now.now_ms)

    def refused(self, node: NodeId) -> None:
        """It has no room for more hints."""
        self._full[node] = self._now.now_ms + FULL_MS


def _ignore(_rkey: bytes) -> None:
    """Nobody asked."""
