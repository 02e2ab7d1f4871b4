"""The ring: a circle of 2^128 points, virtual nodes on it, and 16,384 slots evenly spaced (Dynamo, 4.2 and 6.2).

A key belongs to a *slot*, by the rule of Redis Cluster, so that placement is one array look-up and cluster-aware Redis
clients can compute it themselves. A slot's point is `slot * 2^114`. Each node puts virtual nodes on the circle, in
proportion to its weight; walking clockwise from a slot's point, the nodes met first are the ones that should own it:

        slot 0        slot 1            slot 2
          |---x-----y---|----z---x--------|---
              a     b        c   a            walk from slot 0: a, b, c;  from slot 1: c, a, ...

Invariants: points depend on a member's *name* and a number only (never on its address, its id or `hash()`), so a node
that comes back under its old name with an empty directory stands where it stood, and every process computes the same
circle.
"""

from binascii import crc_hqx
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache

from xxhash import xxh3_128_intdigest

SLOTS = 16384  # as in Redis Cluster: small enough for a table in every node, large enough for 1,000 nodes
HASHTAG = ord("{")  # to look for a byte by its number costs a third
CIRCLE_BITS = 128
SLOT_SHIFT = CIRCLE_BITS - 14
VIRTUAL_NODES = 256  # for each unit of weight: plain tokens are then 1.12 from even, which bounded loads have to mend
# A light node still meets many neighbours, so that its share comes from, and goes to, all of them.
VIRTUAL_NODES_MIN = 100


def slot_of(key: bytes) -> int:
    """The slot of a key: crc16 (XMODEM) of the key, or of what stands in its first non-empty `{…}` (hashtag)."""
    if HASHTAG in key and (end := key.find(b"}", start := key.find(b"{") + 1)) > start:
        key = key[start:end]
    return crc_hqx(key, 0) & 16383


def slot_point(slot: int) -> int:
    return slot << SLOT_SHIFT


def virtual_nodes(weight: float) -> int:
    """How many points a node of this weight puts on the circle."""
    return max(VIRTUAL_NODES_MIN, round(VIRTUAL_NODES * weight))


def points_of(name: str, weight: float) -> list[int]:
    """The points of one node. A change of weight adds or removes points at the end and moves none."""
    prefix = name.encode() + b"#"
    return [xxh3_128_intdigest(prefix + b"%d" % number) for number in range(virtual_nodes(weight))]


@lru_cache(maxsize=1024)
def _sorted_points(name: str, weight: float) -> list[int]:
    return sorted(points_of(name, weight))


def successors(slot: int, nodes: Sequence[tuple[str, float]]) -> list[str]:
    """The names of these nodes (name, weight) in the order in which they are met, clockwise from a slot."""
    start = slot_point(slot)

    def distance(node: tuple[str, float]) -> int:
        points = _sorted_points(*node)
        following = bisect_left(points, start)
        return (points[following % len(points)] - start) % (1 << CIRCLE_BITS)

    return [name for name, _ in sorted(nodes, key=distance)]


class Ring:
    """The circle of some nodes, numbered as they were given; answers who is met, clockwise from a slot."""

    def __init__(self, nodes: Sequence[tuple[str, float]]) -> None:
        points = [(point, node) for node, (name, weight) in enumerate(nodes) for point in points_of(name, weight)]
        points.sort()
        self.nodes = [node for _, node in points]
        # first[slot] is where the slot's walk begins: the first virtual node at or after the slot's point.
        self.first = [0] * SLOTS
        index = 0
        for slot in range(SLOTS):
            start = slot_point(slot)
            while index < len(points) and points[index][0] < start:
                index += 1
            self.first[slot] = index % len(points) if points else 0

    def walk(self, slot: int) -> Iterator[int]:
        """Node numbers in the order met, once round the circle; a node is met once for each of its points."""
        start = self.first[slot]
        yield from (self.nodes[index] for index in range(start, len(self.nodes)))
        yield from (self.nodes[index] for index in range(start))

    def preference(self, slot: int, count: int) -> list[int]:
        """The first `count` distinct nodes met: Dynamo's plain preference list, blind to loads and racks."""
        seen: dict[int, None] = {}
        for node in self.walk(slot):
            seen[node] = None
            if len(seen) == count:
                break
        return list(seen)
