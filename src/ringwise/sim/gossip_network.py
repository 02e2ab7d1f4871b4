"""Many members on one virtual clock, joined by a network that delays, loses and cuts: for tests and for figures.

A member is called as its node would call it: with what arrives, and with a tick within ten milliseconds after something
is due. A paused process loses nothing that its socket buffers hold; when it wakes it may tick or receive first.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

from ringwise.core.gossip.membership import Change, Membership
from ringwise.core.gossip.packets import Address, Outgoing, State, Sync, Update, encode
from ringwise.core.gossip.presets import LAN, Preset
from ringwise.core.topology import NodeId

BUFFERED_MAX = 2_000  # packets that wait for a paused process
TICK_MS = 10.0
GENERATION = 1_700_000_000_000


class Seen(NamedTuple):
    """One change of one member's view."""

    at_ms: float
    observer: NodeId
    change: Change


def node_id(index: int) -> NodeId:
    return index.to_bytes(6, "big")


def address_of(index: int, host: str = "") -> Address:
    return Address(host or f"10.0.{index >> 8}.{index & 255}", 7400, 6379, 8080, 6380)


class GossipNetwork:
    """Members 0 to n-1 that start at time 0. `warm`: each knows all from the start, as after a long quiet time."""

    def __init__(
        self,
        nodes: int,
        seed: int,
        preset: Preset = LAN,
        *,
        loss: float = 0.0,
        latency_ms: tuple[float, float] = (0.2, 2.0),
        warm: bool = True,
        kind: Callable[..., Membership] = Membership,
    ) -> None:
        self.rng = random.Random(f"gossip {seed}")
        self.preset = preset
        self.loss = loss
        self.latency_ms = latency_ms
        self.now_ms = 0.0
        self.seen: list[Seen] = []
        self.datagrams = self.sent_bytes = self.reliable_bytes = self.longest = 0
        self.cut: set[tuple[NodeId, NodeId]] = set()  # from, to: nothing passes
        self.no_udp: set[NodeId] = set()  # whose datagrams, to and from, are lost
        self.slow_ms: dict[NodeId, float] = {}  # how much longer everything takes to reach this one
        self.ids = [node_id(index) for index in range(nodes)]
        self.listed = {node: address_of(index) for index, node in enumerate(self.ids)}
        self.members: dict[NodeId, Membership] = {}  # those that run
        self.homes: dict[NodeId, Address] = {}  # where they are in truth
        self._kind = kind
        self._early = not warm  # comparisons at start
        self._paused: dict[NodeId, list[bytes]] = {}
        self._due: dict[NodeId, float] = {}
        self._events: list[tuple[float, int, NodeId, bytes | Callable[[], None] | None]] = []
        self._count = 0
        for node in self.ids:
            self.start(node, GENERATION)
        if warm:
            self._warm()
            self._early = True

    # What happens to members

    def start(self, node: NodeId, generation: int, address: Address | None = None) -> Membership:
        self.homes[node] = address or self.listed[node]
        member = self._kind(node, self.homes[node], generation, self.preset, random.Random(self.rng.getrandbits(64)))
        if not self._early:
            member.early_syncs = 0
        self.members[node] = member
        self._paused.pop(node, None)
        self._due.pop(node, None)
        member.follow(self.listed, self.now_ms)
        self._after(node, member)
        return member

    def kill(self, node: NodeId) -> None:
        del self.members[node]
        self._due.pop(node, None)

    def pause(self, node: NodeId, milliseconds: float) -> None:
        if node in self.members and node not in self._paused:
            self._paused[node] = []
            member = self.members[node]
            self.at(self.now_ms + milliseconds, lambda: self._resume(node, member))

    def leave(self, node: NodeId) -> None:
        member = self.members[node]
        member.leave(self.now_ms)
        self._after(node, member)
        self.kill(node)

    def link_broken(self, observer: NodeId, node: NodeId) -> None:
        member = self.members[observer]
        member.link_broken(node, self.now_ms)
        self._after(observer, member)

    def part(self, one: list[NodeId], other: list[NodeId], *, both: bool = True) -> None:
        """Nothing from `one` reaches `other`; nor the other way, if `both`."""
        self.cut.update((a, b) for a in one for b in other)
        if both:
            self.cut.update((b, a) for a in one for b in other)

    def at(self, at_ms: float, action: Callable[[], None]) -> None:
        self._push(at_ms, b"", action)

    # Time

    def run(self, milliseconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass; True as soon as `until` holds (looked at every ten milliseconds)."""
        end_ms = self.now_ms + milliseconds
        look_ms = self.now_ms
        events = self._events
        while events and events[0][0] <= end_ms:
            if until is not None and events[0][0] >= look_ms:
                if until():
                    return True
                look_ms = events[0][0] + TICK_MS
            at_ms, _, node, event = heapq.heappop(events)
            self.now_ms = at_ms
            if event is None:
                self._tick(node, at_ms)
            elif isinstance(event, bytes):
                self._deliver(node, event)
            else:
                event()
        self.now_ms = end_ms
        return until is not None and until()

    # What was seen

    def states(self, node: NodeId) -> list[State]:
        """What every other running member thinks of one."""
        return [member.state(node) for observer, member in self.members.items() if observer != node]

    def all_think(self, node: NodeId, state: State) -> bool:
        return all(member.state(node) == state for observer, member in self.members.items() if observer != node)

    def whole(self) -> bool:
        """Whether all that run think all others alive."""
        return all(self.all_think(node, State.ALIVE) for node in self.members)

    def deaths(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.change.after == State.DEAD]

    # Within

    def _warm(self) -> None:
        """Gives all of them the same knowledge, as one comparison with a member that knows all would."""
        known = [Update(node, GENERATION, State.ALIVE, self.homes[node]) for node in self.ids]
        payloads = [encode(Sync(me, known, True)) for me in known[:2]]
        for node, member in self.members.items():
            member.receive(payloads[node == self.ids[0]], 0.0)
        for node, member in self.members.items():
            member.broadcasts.clear()
            member.outbox.clear()
            self._due.pop(node, None)
            self._after(node, member)

    def _push(self, at_ms: float, node: NodeId, event: bytes | Callable[[], None] | None) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_ms, self._count, node, event))

    def _tick(self, node: NodeId, at_ms: float) -> None:
        if self._due.get(node) != at_ms:
            return  # another tick was set meanwhile
        del self._due[node]
        if node not in self._paused:
            member = self.members[node]
            member.tick(self.now_ms)
            self._after(node, member)

    def _deliver(self, node: NodeId, payload: bytes) -> None:
        if node in self._paused:
            if len(self._paused[node]) < BUFFERED_MAX:
                self._paused[node].append(payload)
            return
        member = self.members.get(node)
        if member is not None:
            member.receive(payload, self.now_ms)
            self._after(node, member)

    def _resume(self, node: NodeId, member: Membership) -> None:
        if self.members.get(node) is not member:
            return
        waiting = self._paused.pop(node)
        if self.rng.random() < 0.5:
            member.tick(self.now_ms)
        for payload in waiting:
            member.receive(payload, self.now_ms)
        self._after(node, member)

    def _after(self, node: NodeId, member: Membership) -> None:
        """Takes what a call has left: changes, packets, and when the next tick is due."""
        if member.changes:
            self.seen.extend(Seen(self.now_ms, node, change) for change in member.changes)
            member.changes.clear()
        if member.outbox:
            for outgoing in member.outbox:
                self._send(node, outgoing)
            member.outbox.clear()
        due_ms = member.next_due_ms
        if node not in self._due or self._due[node] > due_ms + TICK_MS:
            at_ms = max(due_ms, self.now_ms) + self.rng.random() * TICK_MS
            if at_ms < 1e15:
                self._due[node] = at_ms
                self._push(at_ms, node, None)

    def _send(self, sender: NodeId, outgoing: Outgoing) -> None:
        node, address, payload, reliable = outgoing
        if reliable:
            self.reliable_bytes += len(payload)
        else:
            self.datagrams += 1
            self.sent_bytes += len(payload)
            self.longest = max(self.longest, len(payload))
            if self.loss and self.rng.random() < self.loss:
                return
            if sender in self.no_udp or node in self.no_udp:
                return
        if (sender, node) in self.cut or self.homes[node] != address:
            return
        low, high = self.latency_ms
        delay_ms = low + (high - low) * self.rng.random()
        if self.slow_ms:
            delay_ms += self.slow_ms.get(node, 0.0)
        self._push(self.now_ms + delay_ms, node, payload)
