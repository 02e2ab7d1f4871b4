"""The planner: proposes who owns which slot (design T1). Consistent hashing with bounded loads (Dynamo 6.2, strategy 3;
Mirrokni, Thorup, Zadimoghaddam 2018), racks and hosts apart, and as little movement as balance allows.

    1. shares    how many slots each node should hold: in proportion to weight, as far as racks and hosts allow
    2. keep      whatever the previous table holds and still may
    3. walk      fill each gap with the first node clockwise that is not full and keeps copies apart
    4. even out  while a node is below its share, one that is above it hands over a slot, by a chain where needed
    5. order     the same evening out for the first owners, the first two, …: clients and smaller buckets see those

Invariants
- The owners of a slot are distinct; copies are spread over racks, and inside a rack over hosts, as evenly as there are
  racks and hosts: `apart` is the most copies one rack and one host may hold.
- A node's load is its share rounded down or up, so within a slot of the best that weights, racks and hosts allow.
- The same members in the same order and the same previous table give the same table, in every process.

A rack is a rack of one data centre, a host a host in one rack; members without labels are all in one rack.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING

from ringwise.core.ring import SLOT_SHIFT, SLOTS, Ring, points_of

if TYPE_CHECKING:
    from ringwise.core.topology import Member, NodeId

Owners = list[tuple["NodeId", ...]]
Bounds = tuple[list[int], list[int]]  # least and greatest load of each node

_NOBODY = -1  # a gap in a list
_ROUNDING = 1e-6
_ORDER_SLACK = 0.05  # first owners may be this far from even: reordering a list is a move as well (T4)


def plan(members: Sequence[Member], replicas: int, previous: Sequence[tuple[NodeId, ...]] | None) -> Owners:
    """Owners by slot, the preferred first; as many as `replicas`, or as there are members."""
    planner = _Planner(members, min(replicas, len(members)))
    if previous is None:
        planner.walk(_rounded(members, planner.shares))
    else:
        planner.keep(previous)
        planner.walk(_bounds(planner.shares, 0)[1])
    planner.even_out()
    planner.order()
    lists = {nodes: tuple(members[node].id for node in nodes) for nodes in map(tuple, planner.lists)}
    return [lists[tuple(nodes)] for nodes in planner.lists]


def fair_shares(members: Sequence[Member], copies: int) -> list[float]:
    """The slots each member should hold: the best that weights, racks and hosts allow.

    The level rises for all members together, in proportion to weight; who reaches a bound (a node holds a slot once, a
    rack and a host only so many copies of it) stays there, until all copies are given out.
    """
    racks, hosts = _racks(members), _hosts(members)
    rack_most, host_most = apart(members, copies)
    groups: dict[Hashable, tuple[list[int], float]] = {("all",): (list(range(len(members))), copies * SLOTS)}
    for node in range(len(members)):
        groups["node", node] = ([node], SLOTS)
        groups.setdefault(("rack", racks[node]), ([], rack_most * SLOTS))[0].append(node)
        groups.setdefault(("host", hosts[node]), ([], host_most * SLOTS))[0].append(node)
    shares = [0.0] * len(members)
    rising = set(range(len(members)))
    while rising:
        levels: list[tuple[float, list[int]]] = []
        for nodes, most in groups.values():
            weight = sum(members[node].weight for node in nodes if node in rising)
            if weight > 0:
                levels.append(((most - sum(shares[node] for node in nodes if node not in rising)) / weight, nodes))
        level = min(level for level, _ in levels)
        reached = {node for at, nodes in levels if at <= level + _ROUNDING for node in nodes} & rising
        for node in reached:
            shares[node] = max(0.0, level * members[node].weight)
        rising -= reached
    return shares


def apart(members: Sequence[Member], copies: int) -> tuple[int, int]:
    """The most copies of a slot that one rack and one host need to hold: 1 and 1 where there are racks enough."""
    racks, hosts = _racks(members), _hosts(members)
    rack_of_host = dict(zip(hosts, racks, strict=True))
    in_host = Counter(hosts)

    def room(rack_most: int, host_most: int) -> int:
        in_rack: Counter[int] = Counter()
        for host, count in in_host.items():
            in_rack[rack_of_host[host]] += min(count, host_most)
        return sum(min(count, rack_most) for count in in_rack.values())

    rack_most = next(most for most in range(copies + 1) if room(most, copies) >= copies)
    host_most = next(most for most in range(copies + 1) if room(rack_most, most) >= copies)
    return rack_most, host_most


def _racks(members: Sequence[Member]) -> list[int]:
    return _numbered([(member.dc, member.rack) for member in members])


def _hosts(members: Sequence[Member]) -> list[int]:
    return _numbered([(member.dc, member.rack, member.host) for member in members])


def _numbered(labels: Sequence[Hashable]) -> list[int]:
    number: dict[Hashable, int] = {}
    return [number.setdefault(label, len(number)) for label in labels]


def _bounds(shares: Sequence[float], slack: float) -> Bounds:
    """A share rounded down and up, after taking away and adding `slack` of it."""
    low = [floor(share * (1 - slack) + _ROUNDING) for share in shares]
    high = [ceil(share * (1 + slack) - _ROUNDING) for share in shares]
    return low, high


def _rounded(members: Sequence[Member], shares: Sequence[float]) -> list[int]:
    """Shares as whole slots with the same sum. Members of one rack and host stand together while the running sum is
    rounded, so racks and hosts are rounded too and none gets beyond its bound.
    """
    racks, hosts = _racks(members), _hosts(members)
    whole = [0] * len(members)
    total, given = 0.0, 0
    for node in sorted(range(len(members)), key=lambda node: (racks[node], hosts[node], node)):
        total += shares[node]
        whole[node] = floor(total + 0.5) - given
        given += whole[node]
    return whole


class _Planner:
    """One run of the planner. Nodes are numbers in the order of `members`."""

    def __init__(self, members: Sequence[Member], copies: int) -> None:
        self.members = members
        self.copies = copies
        self.racks, self.hosts = _racks(members), _hosts(members)
        self.rack_most, self.host_most = apart(members, copies)
        self.shares = fair_shares(members, copies)
        self.lists: list[list[int]] = [[_NOBODY] * copies for _ in range(SLOTS)]
        self.gaps: dict[int, list[int]] = {}  # slots that the previous table leaves incomplete: the positions to fill
        self.loads = [0] * len(members)

    def fits(self, nodes: Sequence[int], position: int, node: int) -> bool:
        """May `node` stand at `position` of this list, in place of whoever is there?"""
        rack, host = self.racks[node], self.hosts[node]
        in_rack = in_host = 0
        for index, other in enumerate(nodes):
            if other == node:
                return False
            if index != position and other != _NOBODY and self.racks[other] == rack:
                in_rack += 1
                in_host += self.hosts[other] == host
        return in_rack < self.rack_most and in_host < self.host_most

    def keep(self, previous: Sequence[tuple[NodeId, ...]]) -> None:
        """Owners stay where they are; gaps keep their place in the order."""
        number = {member.id: node for node, member in enumerate(self.members)}
        for slot, (nodes, owners) in enumerate(zip(self.lists, previous, strict=True)):
            for position, owner in enumerate(owners[: self.copies]):
                node = number.get(owner, _NOBODY)
                if node != _NOBODY and self.fits(nodes, position, node):
                    nodes[position] = node
                    self.loads[node] += 1
            if _NOBODY in nodes:
                self.gaps[slot] = [position for position, node in enumerate(nodes) if node == _NOBODY]

    def walk(self, most: Sequence[int]) -> None:
        """Fill gaps with the first nodes clockwise that hold less than `most`."""
        ring = Ring([(member.name, member.weight) for member in self.members])
        loads = self.loads
        for slot, nodes in enumerate(self.lists):
            position = nodes.index(_NOBODY) if _NOBODY in nodes else self.copies
            met: set[int] = set()
            for node in ring.walk(slot) if position < self.copies else ():
                if node in met:
                    continue
                met.add(node)
                if loads[node] < most[node] and self.fits(nodes, position, node):
                    nodes[position] = node
                    loads[node] += 1
                    if _NOBODY not in nodes:
                        break
                    position = nodes.index(_NOBODY)
            while _NOBODY in nodes:
                # Whoever would fit is full. Any partial list can be completed (copies apart is a laminar matroid), and
                # evening out mends the load.
                position = nodes.index(_NOBODY)
                able = [node for node in range(len(loads)) if self.fits(nodes, position, node)]
                node = min(able, key=lambda node: (loads[node] - self.shares[node], node))
                nodes[position] = node
                loads[node] += 1

    def even_out(self) -> None:
        @lru_cache(maxsize=16)  # chains in a small cluster ask for the same few again and again
        def near(node: int) -> list[int]:
            """All slots, those first that meet the node soonest on their walk clockwise."""
            member = self.members[node]
            distances = [SLOTS] * SLOTS
            for point in points_of(member.name, member.weight):
                distances[point >> SLOT_SHIFT] = 0
            for slot in [*range(SLOTS - 1, -1, -1)] * 2:  # twice: the distance runs on over the end of the circle
                distances[slot - 1] = min(distances[slot - 1], distances[slot] + 1)
            return sorted(range(SLOTS), key=distances.__getitem__)

        def near_gaps(node: int) -> list[int]:
            return [slot for slot in near(node) if slot in self.gaps]

        def givers(node: int, slot: int) -> list[int]:
            nodes = self.lists[slot]
            if node in nodes:
                return []
            return [other for position, other in enumerate(nodes) if self.fits(nodes, position, node)]

        def newcomers(node: int, slot: int) -> list[int]:
            nodes = self.lists[slot]
            return [nodes[position] for position in self.gaps[slot] if self.fits(nodes, position, node)]

        def hand_over(slot: int, giver: int, taker: int) -> None:
            nodes = self.lists[slot]
            nodes[nodes.index(giver)] = taker

        # Copies that have just found a place can find another one at no cost, so they go first.
        bounds = _bounds(self.shares, 0)
        _Evening(self.loads, self.shares, bounds, near_gaps, newcomers, hand_over).run()
        _Evening(self.loads, self.shares, bounds, near, givers, hand_over).run()

    def order(self) -> None:
        """From the longest prefix to the first owner alone: each is evened out inside the one that contains it."""
        shares = self.shares
        slots_of: list[list[int]] = [[] for _ in self.members]
        for slot, nodes in enumerate(self.lists):
            for node in nodes:
                slots_of[node].append(slot)
        for length in range(self.copies - 1, 0, -1):
            # What is fair inside a prefix: its part of the node's share. It adds up, and keeps racks in proportion.
            shares = [share * length / self.copies for share in self.shares]
            loads = [0] * len(self.members)
            for nodes in self.lists:
                for node in nodes[:length]:
                    loads[node] += 1

            def givers(node: int, slot: int, length: int = length) -> list[int]:
                nodes = self.lists[slot]
                return nodes[:length] if nodes[length] == node else []

            def hand_over(slot: int, giver: int, taker: int) -> None:
                nodes = self.lists[slot]
                here, there = nodes.index(giver), nodes.index(taker)
                nodes[here], nodes[there] = taker, giver

            bounds = _bounds(shares, _ORDER_SLACK)
            _Evening(loads, shares, bounds, slots_of.__getitem__, givers, hand_over).run()


class _Evening:
    """Moves slots between nodes until each load is within its bounds: augmenting paths, as in any flow.

    A taker may stand in for a giver of a slot (`givers`); `near` names the slots worth asking, best first.
    """

    def __init__(
        self,
        loads: list[int],
        shares: Sequence[float],
        bounds: Bounds,
        near: Callable[[int], Sequence[int]],
        givers: Callable[[int, int], list[int]],
        hand_over: Callable[[int, int, int], None],
    ) -> None:
        self.loads, self.shares = loads, shares
        self.low, self.high = bounds
        self.near, self.givers, self.hand_over = near, givers, hand_over

    def run(self) -> None:
        nodes = range(len(self.loads))
        # Straight from those above their bounds first: they have to give anyway, so nothing moves twice.
        for taker in nodes:
            if self.loads[taker] < self.low[taker]:
                self.take(taker, self.high, self.high)
        for taker in nodes:
            if self.loads[taker] < self.low[taker]:
                self.take(taker, self.low, self.low)
        for taker in nodes:
            while self.loads[taker] < self.low[taker] and self.pull(taker, self.low):
                pass
        # Loads and shares have one sum, so while somebody is above its bounds, somebody is below its share.
        while any(self.loads[node] > self.high[node] for node in nodes):
            takers = [node for node in nodes if self.loads[node] < min(self.shares[node], self.high[node])]
            takers.sort(key=lambda node: (self.loads[node] - self.shares[node], node))
            if not any(self.pull(taker, self.high) for taker in takers):
                break

    def take(self, taker: int, until: Sequence[int], above: Sequence[int]) -> None:
        """Take slots from whoever holds most above `above`, up to `until`."""
        loads, shares = self.loads, self.shares
        for slot in self.near(taker):
            if loads[taker] >= until[taker]:
                return
            able = [node for node in self.givers(taker, slot) if loads[node] > above[node]]
            if able:
                self._move(slot, max(able, key=lambda node: (loads[node] - shares[node], -node)), taker)

    def pull(self, taker: int, above: Sequence[int]) -> bool:
        """One slot more for `taker`, by the shortest chain from a node whose load is above `above`."""
        parent: dict[int, tuple[int, int]] = {taker: (_NOBODY, _NOBODY)}
        queue = deque([taker])
        while queue:
            to = queue.popleft()
            for slot in self.near(to):
                for giver in self.givers(to, slot):
                    if giver in parent:
                        continue
                    parent[giver] = (to, slot)
                    if self.loads[giver] > above[giver]:
                        self._hand_down(giver, parent)
                        return True
                    queue.append(giver)
                if len(parent) == len(self.loads):
                    break  # all are met: the rest of the slots can show nobody new
        return False

    def _hand_down(self, giver: int, parent: dict[int, tuple[int, int]]) -> None:
        # The slots of a chain differ: each holds its giver and lacks its taker.
        while parent[giver][0] != _NOBODY:
            to, slot = parent[giver]
            self._move(slot, giver, to)
            giver = to

    def _move(self, slot: int, giver: int, taker: int) -> None:
        self.hand_over(slot, giver, taker)
        self.loads[giver] -= 1
        self.loads[taker] += 1
