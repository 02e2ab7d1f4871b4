"""Who is up: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey, arXiv 1707.00788).

                 missed probe                timeout, and no last word
      ALIVE ---------------------> SUSPECT ---------------------------> DEAD
        ^                             |                                  |
        +------ a newer incarnation, which only the member itself makes -+---- LEFT, after a clean stop

In each interval a node pings one member. Unanswered, it has others ping it, and pings over the TCP link too (a blocked
UDP port is no death). Unanswered again, the member is suspect: told to everybody, and to the suspect itself in every
packet it gets (the buddy system), which refutes by a higher incarnation. Now and then a dead member is pinged, so that the
sides of a healed partition meet again; and members compare all they know over the link (push-pull).

Invariants
- Only this node makes its incarnations. They start at the time of its start and rise above whatever is said of it.
- A member's state is a join (roster.py): updates may come in any order, late, or twice.
- Nobody is called dead by a process that slept: what was due meanwhile is put off by as long as it slept (`_wake`).
- Identity is the node id. An address is what a member said last, in its newest incarnation.
- What a full comparison calls dead is only suspected: at a healed partition it is old news.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import NamedTuple

from ringwise.core.gossip.awareness import Awareness
from ringwise.core.gossip.broadcasts import Broadcasts
from ringwise.core.gossip.packets import (
    DATAGRAM_BYTES_MAX,
    HOST_BYTES_MAX,
    INCARNATION_MAX,
    Ack,
    Address,
    Ask,
    BadPacket,
    Nack,
    Outgoing,
    Packet,
    Ping,
    State,
    Sync,
    Tell,
    Update,
    decode,
    encode,
    size,
    sound,
)
from ringwise.core.gossip.presets import Preset
from ringwise.core.gossip.probes import Probe, Probes
from ringwise.core.gossip.roster import Peer, Roster
from ringwise.core.gossip.suspicion import Suspicion
from ringwise.core.topology import NodeId

__all__ = ["Address", "Change", "Membership", "Outgoing", "State"]

OUTBOX_MAX = 4_096  # packets of one call; the caller drains it after each, and what does not fit is as if lost
CHANGES_MAX = 16_384  # a caller that does not drain them loses the oldest
EARLY_SYNCS = 3  # at start, an interval apart: one may meet a member that is itself just starting
FAREWELLS_MAX = 64  # told of leaving directly; more hear it from these
HEADER_BYTES = 48  # a packet without its updates: tag, number, target and lengths
TOLD_TWICE_MS = 100.0  # a member that is thought dead is told so at most this often


class Change(NamedTuple):
    node: NodeId
    before: State
    after: State


class Membership:
    """One node's part. Pure: time and chance are arguments, packets go to `outbox`, what came of it to `changes`."""

    def __init__(self, me: NodeId, address: Address, generation: int, preset: Preset, rng: random.Random) -> None:
        if len(address.host) > HOST_BYTES_MAX or not address.host.isascii():
            raise ValueError(f"the address to announce is no host name or address: {address.host[:80]}")
        assert 0 <= generation < INCARNATION_MAX
        self.me = me
        self.preset = preset
        self.outbox: list[Outgoing] = []
        self.changes: list[Change] = []
        self.garbage = 0  # packets that were none
        self.strangers = 0  # packets from nobody that is followed
        self.overflowed = 0  # packets that the outbox had no room for
        self.moves = 0  # changes of members' addresses
        self.broadcasts = Broadcasts()
        self.early_syncs = EARLY_SYNCS  # still to come
        self._address = address
        self._self = Update(me, generation, State.ALIVE, address if generation else None)
        self._self_bytes = size(self._self)
        self._rng = rng
        self._awareness = Awareness(preset.health_max)
        self._roster = Roster(me, rng)
        self._probes = Probes(preset, rng)
        self._suspects: dict[NodeId, Peer] = {}
        self._probe_ms = self._gossip_ms = self._sync_ms = self._dead_ms = math.inf  # until there is somebody to follow

    # What the shell calls

    def follow(self, members: Mapping[NodeId, Address], now_ms: float) -> None:
        """Takes over the members of the topology document: only these are probed, told, heard and counted."""
        for node in self._roster.follow(members):
            self._suspects.pop(node, None)
            self._probes.forget(node)
            self.broadcasts.forget(node)
        if self._probe_ms == math.inf and self._roster.peers and self._self.state == State.ALIVE:
            interval = self.preset.probe_interval_ms
            self._probe_ms = now_ms + self._rng.uniform(0, interval)
            sync_ms = interval if self.early_syncs else self.preset.sync_ms(len(self._roster))
            self._sync_ms = now_ms + self._rng.uniform(0, sync_ms)
            self._dead_ms = now_ms + self._rng.uniform(0, self.preset.dead_interval_ms)
            self._gossip_ms = now_ms
            self._pass_on(self._self, now_ms)

    def tick(self, now_ms: float) -> None:
        """Does what is due."""
        self._wake(now_ms)
        self._chase(now_ms)
        self._judge(now_ms)
        if now_ms >= self._gossip_ms:
            self._gossip(now_ms)
        if self._self.state == State.LEFT:
            return
        if now_ms >= self._probe_ms:
            self._probe_ms = now_ms + self._awareness.scaled(self.preset.probe_interval_ms)
            target = self._roster.next_target()
            if target is not None:
                self._probe(target, now_ms)
        if now_ms >= self._dead_ms:
            self._dead_ms = now_ms + self.preset.dead_interval_ms
            self._knock()
        if now_ms >= self._sync_ms:
            self._sync(now_ms)

    def receive(self, payload: bytes, now_ms: float) -> None:
        """Takes any bytes: what is no packet is counted, what comes from nobody followed is ignored."""
        self._wake(now_ms)
        try:
            packet = decode(payload)
        except BadPacket:
            self.garbage += 1
            return
        sender = self._roster.peers.get(packet.me.node)
        if sender is None:
            self.strangers += 1
            return
        before = self._self
        was_gone = sender.gone
        self._merge(packet.me, now_ms)
        sender.behind = packet.me.address if packet.me.incarnation < sender.incarnation else None
        softly = isinstance(packet, Sync)
        for update in packet.updates:
            if softly and update.state == State.DEAD:
                update = Update(update.node, update.incarnation, State.SUSPECT, update.address, sender.node)
            self._merge(update, now_ms)
        self._answer(sender, packet, now_ms)
        if was_gone and not sender.gone:
            self._post_sync(sender, answer=False)
        if not isinstance(packet, Ping):  # its Ack has told already
            self._tell_about_itself(sender, packet.me, self._self is not before, now_ms)

    def leave(self, now_ms: float) -> None:
        """A clean stop: told at once to as many as can be told at once."""
        self._say(Update(self.me, self._self.incarnation, State.LEFT, self._self.address), now_ms)
        self._probes.clear()
        self._suspects.clear()
        self._probe_ms = self._sync_ms = self._dead_ms = math.inf
        for peer in self._roster.pick(FAREWELLS_MAX):
            self._post(peer, Tell(self._self, self._news_for(peer)))
        for peer in self._roster.pick(self.preset.gossip_fanout):
            self._post(peer, Tell(self._self, self._news_for(peer)), reliable=True)

    def link_broken(self, node: NodeId, now_ms: float) -> None:
        """The TCP link to a member broke: probe it now."""
        peer = self._roster.peers.get(node)
        if peer is not None and not peer.gone and self._self.state == State.ALIVE:
            self._wake(now_ms)
            self._probe(peer, now_ms)

    def link_made(self, node: NodeId, now_ms: float) -> None:
        """The TCP link to a member is there: one that is thought gone hears so over it, and need not be found by chance."""
        peer = self._roster.peers.get(node)
        if peer is not None and peer.gone and self._self.state == State.ALIVE:
            self._wake(now_ms)
            self._ping(peer, self._probes.next_number(), reliable=True)

    def state(self, node: NodeId) -> State:
        """Who is not followed counts as dead."""
        if node == self.me:
            return self._self.state
        peer = self._roster.peers.get(node)
        return State.DEAD if peer is None else peer.state

    def address(self, node: NodeId) -> Address | None:
        if node == self.me:
            return self._address
        peer = self._roster.peers.get(node)
        return None if peer is None else peer.address

    def incarnation(self, node: NodeId) -> int:
        if node == self.me:
            return self._self.incarnation
        peer = self._roster.peers.get(node)
        return 0 if peer is None else peer.incarnation

    @property
    def health(self) -> int:
        """The local health multiplier: 0 is well."""
        return self._awareness.score

    @property
    def next_due_ms(self) -> float:
        """When tick() next has something to do, unless something comes in before."""
        due = min(self._probe_ms, self._sync_ms, self._dead_ms, self._probes.due_ms)
        if self.broadcasts:
            due = min(due, self._gossip_ms)
        for peer in self._suspects.values():
            assert peer.suspicion is not None
            due = min(due, peer.suspicion.due_ms)
        return due

    # Time

    def _wake(self, now_ms: float) -> None:
        """If this process was held up, puts off what was due: answers may lie unread in its buffers."""
        late_ms = now_ms - self.next_due_ms
        if late_ms <= self.preset.probe_timeout_ms / 4:
            return
        for peer in self._suspects.values():
            assert peer.suspicion is not None
            peer.suspicion.postpone(late_ms)
        if late_ms > self.preset.probe_interval_ms:
            self._probes.clear()
            self._awareness.worse()
        else:
            self._probes.postpone(late_ms)
        self._probe_ms = max(self._probe_ms, now_ms)
        self._sync_ms = max(self._sync_ms, now_ms)
        self._dead_ms = max(self._dead_ms, now_ms)
        self._gossip_ms = max(self._gossip_ms, now_ms)

    # Probes

    def _probe(self, peer: Peer, now_ms: float) -> None:
        timeout_ms = self._awareness.scaled(self.preset.probe_timeout_ms)
        probe = self._probes.begin(peer.node, timeout_ms, self._awareness.scaled(self.preset.probe_interval_ms), now_ms)
        if probe is not None:
            self._ping(peer, probe.number)

    def _ping(self, peer: Peer, number: int, reliable: bool = False) -> None:
        self._post(peer, Ping(self._self, self._news_for(peer), number, peer.node, reliable), reliable)

    def _chase(self, now_ms: float) -> None:
        """Goes on with the probes and relays whose answers did not come in time."""
        if now_ms < self._probes.due_ms:
            return
        for probe in self._probes.overdue(now_ms):
            peer = self._roster.peers[probe.target]
            if probe.asked is None:
                helpers = self._roster.pick(self.preset.helpers, but=probe.target)
                probe.asked = len(helpers)
                for helper in helpers:
                    self._post(helper, Ask(self._self, self._news_for(helper), probe.number, probe.target))
                self._ping(peer, probe.number, reliable=True)
            else:
                self._probes.end(probe)
                self._missed(peer, probe, now_ms)
        for relay in self._probes.overdue_relays(now_ms):
            asker = self._roster.peers.get(relay.asker)
            if asker is not None:
                self._post(asker, Nack(self._self, self._news_for(asker), relay.number, relay.target))

    def _missed(self, peer: Peer, probe: Probe, now_ms: float) -> None:
        if peer.gone:
            return
        # Without a helper there is nobody to tell whose fault it is; with helpers, each nack that is missing says: mine.
        self._awareness.worse(probe.asked - len(probe.nacks) if probe.asked else 1)
        self._merge(Update(peer.node, peer.incarnation, State.SUSPECT, peer.announced, self.me), now_ms)

    def _answer(self, sender: Peer, packet: Packet, now_ms: float) -> None:
        match packet:
            case Ping():
                if packet.target == self.me:
                    ack = Ack(self._self, self._news_for(sender), packet.number, self.me)
                    self._post(sender, ack, packet.reliable)
            case Ask():
                target = self._roster.peers.get(packet.target)
                relay = None if target is None else self._probes.relay(sender.node, packet.number, target.node, now_ms)
                if target is not None and relay is not None:
                    self._ping(target, relay.own_number)
            case Ack():
                self._answered(packet)
            case Nack():
                probe = self._probes.of(packet.target, packet.number)
                if probe is not None:
                    probe.nacks.add(sender.node)
            case Sync():
                if not packet.answer and self._self.state == State.ALIVE:
                    self._post_sync(sender, answer=True)
            case Tell():
                pass

    def _answered(self, ack: Ack) -> None:
        probe = self._probes.of(ack.target, ack.number)
        if probe is not None:
            self._probes.end(probe)
            self._awareness.better()
            return
        relay = self._probes.answered_relay(ack.target, ack.number)
        asker = None if relay is None else self._roster.peers.get(relay.asker)
        if relay is not None and asker is not None:
            self._post(asker, Ack(self._self, self._news_for(asker), relay.number, relay.target))

    # States

    def _merge(self, update: Update, now_ms: float) -> None:
        """Takes one update in, whoever it is from, and passes it on if it was news."""
        peer = self._roster.peers.get(update.node)
        if peer is None:
            if update.node == self.me:
                self._refute(update, now_ms)
            return
        if not peer.is_news(update):
            same = update.state == State.SUSPECT and update.incarnation == peer.incarnation
            if same and peer.suspicion is not None and peer.suspicion.confirm(update.by):
                self._pass_on(peer.update(update.by), now_ms)
            return
        if not sound(update):
            return
        before, address = peer.state, peer.address
        fresh = update.incarnation > peer.incarnation
        peer.take(update)
        self.moves += peer.address != address
        if peer.state != State.SUSPECT:
            peer.suspicion = None
            self._suspects.pop(peer.node, None)
        elif fresh or before != State.SUSPECT:
            self._suspect(peer, update.by, now_ms)
        if peer.state != before:
            self._changed(peer, before)
        self._pass_on(peer.update(update.by), now_ms)

    def _suspect(self, peer: Peer, by: NodeId, now_ms: float) -> None:
        others = len(self._roster.present()) - 1
        shortest_ms, longest_ms = self.preset.suspicion_ms(len(self._roster))
        needed = min(self.preset.confirmations, others)
        peer.suspicion = Suspicion(by, needed, shortest_ms, longest_ms, now_ms)
        self._suspects[peer.node] = peer

    def _changed(self, peer: Peer, before: State) -> None:
        if len(self.changes) >= CHANGES_MAX:
            del self.changes[0]
        self.changes.append(Change(peer.node, before, peer.state))
        if peer.gone != (before >= State.DEAD):
            self._roster.changed()

    def _judge(self, now_ms: float) -> None:
        """Suspects whose time is up get a last ping; those that did not answer it in time are dead."""
        timeout_ms = self._awareness.scaled(self.preset.probe_timeout_ms)
        for peer in [peer for peer in self._suspects.values() if peer.suspicion and peer.suspicion.due_ms <= now_ms]:
            assert peer.suspicion is not None
            if peer.suspicion.last_word_ms is None:
                peer.suspicion.last_word_ms = now_ms + timeout_ms
                self._ping(peer, self._probes.next_number())
                self._ping(peer, self._probes.next_number(), reliable=True)
            else:
                self._merge(Update(peer.node, peer.incarnation, State.DEAD, peer.announced, self.me), now_ms)

    def _refute(self, update: Update, now_ms: float) -> None:
        """Somebody says something of this node: if it is not what the node says itself, it says it anew, above that."""
        mine = self._self
        if mine.state == State.LEFT or not mine.incarnation <= update.incarnation < INCARNATION_MAX or update == mine:
            return
        if update.incarnation == mine.incarnation and update.state == State.ALIVE and update.address == mine.address:
            return
        if update.state in (State.SUSPECT, State.DEAD):
            self._awareness.worse()
        self._say(Update(self.me, update.incarnation + 1, State.ALIVE, self._address), now_ms)

    def _say(self, mine: Update, now_ms: float) -> None:
        self._self = mine
        self._self_bytes = size(mine)
        self._pass_on(mine, now_ms)

    # Packets

    def _pass_on(self, update: Update, now_ms: float) -> None:
        if not self.broadcasts:
            self._gossip_ms = max(self._gossip_ms, now_ms)  # there was nothing to tell before: that is not being late
        self.broadcasts.add(update)

    def _gossip(self, now_ms: float) -> None:
        self._gossip_ms = now_ms + self.preset.gossip_interval_ms
        for peer in self._roster.pick(self.preset.gossip_fanout) if self.broadcasts else ():
            updates = self._news_for(peer)
            if updates:
                self._post(peer, Tell(self._self, updates))

    def _knock(self) -> None:
        """Pings one dead member, both ways: it may be back, or on the other side of a partition that has healed."""
        peer = self._roster.pick_gone()
        if peer is not None:
            self._ping(peer, self._probes.next_number())
            self._ping(peer, self._probes.next_number(), reliable=True)

    def _sync(self, now_ms: float) -> None:
        interval_ms = self.preset.sync_ms(len(self._roster))
        if self.early_syncs > 0:
            self.early_syncs -= 1
            if self.early_syncs:
                self._sync_ms = now_ms + self.preset.probe_interval_ms
            else:  # those that started together are not to compare together
                self._sync_ms = now_ms + interval_ms * self._rng.random()
        else:
            self._sync_ms = now_ms + interval_ms * self._rng.uniform(0.75, 1.25)
        for peer in self._roster.pick(1):
            self._post_sync(peer, answer=False)

    def _post_sync(self, peer: Peer, *, answer: bool) -> None:
        updates = [other.update() for other in self._roster.peers.values()]
        self._post(peer, Sync(self._self, updates, answer), reliable=True)

    def _tell_about_itself(self, sender: Peer, said: Update, refuted: bool, now_ms: float) -> None:
        """Tells a member what is thought of it, if it knows no better, and at once what this node says against its word."""
        accused = said.state == State.ALIVE and (sender.behind is not None or sender.state != State.ALIVE)
        if refuted or (accused and now_ms - sender.told_ms >= TOLD_TWICE_MS):
            sender.told_ms = now_ms
            self._post(sender, Tell(self._self, self._news_for(sender)))

    def _news_for(self, peer: Peer) -> list[Update]:
        """What rides along: first, for a member in doubt, what is thought of it; then the news told least."""
        room = DATAGRAM_BYTES_MAX - HEADER_BYTES - self._self_bytes
        first = [peer.update(self.me)] if peer.state != State.ALIVE or peer.behind is not None else []
        room -= sum(map(size, first))
        return first + self.broadcasts.take(room, self.preset.transmissions(len(self._roster)))

    def _post(self, peer: Peer, packet: Packet, reliable: bool = False) -> None:
        if len(self.outbox) >= OUTBOX_MAX:
            self.overflowed += 1
            return
        payload = encode(packet)
        assert reliable or len(payload) <= DATAGRAM_BYTES_MAX
        self.outbox.append(Outgoing(peer.node, peer.reached_at, payload, reliable))
