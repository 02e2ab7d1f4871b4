"""Who is up, as this node sees it (R6): the membership protocol of `core/gossip`, joined to the node's links and document.

    members of the document ─▶ ┌────────────┐ ─ datagrams ─▶ the shell sends them, and may lose them
    datagrams and Gossip ────▶ │ Membership │ ─ reliable ──▶ Gossip, over whichever link to the member is ready
    ticks, links up or down ─▶ └────────────┘ ─ changes ───▶ Peers.gone, then the watchers

What a call has brought is taken out of the protocol before the call returns, so nothing of it waits for the next tick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from ringwise.core.gossip.membership import Change, Membership
from ringwise.core.gossip.packets import Address, Outgoing, State
from ringwise.core.gossip.presets import Preset
from ringwise.core.messages import Gossip, NodeId, encode
from ringwise.core.peers import Link, Peers
from ringwise.core.topology import Member, Topology

Watcher = Callable[[NodeId, State, State], None]  # member, before, after

DATAGRAMS_MAX = 4_096  # a shell that does not take them loses the rest, as a network would


class Liveness:
    """What gossip says of every member, and what there is to say to them."""

    def __init__(
        self,
        member: Member,
        started_ms: int,
        preset: Preset,
        peers: Peers,
        back: Mapping[NodeId, Link],
        topology: Topology,
        rng: random.Random,
    ) -> None:
        self.datagrams: list[Outgoing] = []  # for the shell, which empties it
        self.watchers: list[Watcher] = []  # told of every change, when `Peers.is_up` shows it already
        self.suspicions = 0
        self.deaths = 0
        self._me = member.id
        self._peers = peers
        self._back = back
        self._topology = topology
        self._epoch = 0  # as far as the members are followed
        self._membership = Membership(member.id, _address(member), started_ms, preset, rng)

    # What comes in

    def tick(self, now_ms: float) -> None:
        self._follow(now_ms)
        self._membership.tick(now_ms)
        self._drain()

    def receive(self, payload: bytes, now_ms: float) -> None:
        """A datagram, or what came over a link; any bytes."""
        self._follow(now_ms)
        self._membership.receive(payload, now_ms)
        self._drain()

    def link_up(self, node: NodeId, now_ms: float) -> None:
        self._membership.link_made(node, now_ms)
        self._drain()

    def link_down(self, node: NodeId, now_ms: float) -> None:
        self._membership.link_broken(node, now_ms)
        self._drain()

    def leave(self, now_ms: float) -> None:
        """A clean stop begins."""
        self._membership.leave(now_ms)
        self._drain()

    # What is known

    def state(self, node: NodeId) -> State:
        return self._membership.state(node)

    def incarnation(self, node: NodeId) -> int:
        """0: nothing was heard of it yet."""
        return self._membership.incarnation(node)

    @property
    def moves(self) -> int:
        """Counts changes of addresses, so that a shell sees cheaply when to look at `addresses` again."""
        return self._membership.moves

    def addresses(self) -> dict[NodeId, tuple[str, int]]:
        """Where to dial each other member: where it says itself that it is, and by the document until it has spoken."""
        found: dict[NodeId, tuple[str, int]] = {}
        for member in self._topology.members.values():
            said = self._membership.address(member.id)
            if member.id != self._me:
                found[member.id] = (member.host, member.peer_port) if said is None else (said.host, said.peer_port)
        return found

    def told(self) -> dict[str, int]:
        """Counters since the start of this node."""
        membership = self._membership
        return {
            "health": membership.health,  # 0 is well
            "suspicions": self.suspicions,
            "deaths": self.deaths,
            "garbage": membership.garbage,
            "strangers": membership.strangers,
            "overflowed": membership.overflowed,
        }

    # Within

    def _follow(self, now_ms: float) -> None:
        topology = self._topology
        if topology.epoch == self._epoch or self._me not in topology.members:  # a joiner is a stranger to the others
            return
        self._epoch = topology.epoch
        members = {member.id: _address(member) for member in topology.members.values()}
        self._membership.follow(members, now_ms)
        self._peers.follow_gone(self._peers.gone.intersection(members))

    def _drain(self) -> None:
        membership = self._membership
        if membership.changes:
            changes, membership.changes = membership.changes, []
            for change in changes:
                self._note(change)
        if membership.outbox:
            packets, membership.outbox = membership.outbox, []
            for packet in packets:
                if packet.reliable:
                    self._post(packet)
                elif len(self.datagrams) < DATAGRAMS_MAX:
                    self.datagrams.append(packet)

    def _note(self, change: Change) -> None:
        self.suspicions += change.after == State.SUSPECT
        self.deaths += change.after == State.DEAD
        gone = {change.node} if change.after >= State.DEAD else set()
        self._peers.follow_gone((self._peers.gone - {change.node}) | gone)
        for watcher in self.watchers:
            watcher(*change)

    def _post(self, packet: Outgoing) -> None:
        for link in (self._peers.links.get(packet.to), self._back.get(packet.to)):
            if link is not None and link.ready():
                self._peers.post(link, encode(Gossip(packet.payload)))
                return


def _address(member: Member) -> Address:
    return Address(member.host, member.peer_port, member.port, member.http_port, member.cluster_port)
