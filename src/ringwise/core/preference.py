"""Who speaks for a slot: of its owners in order of preference, the first that is up, as one node sees it.

There is no primary, but clients in cluster mode want one for each slot, and send it what they would ask every node of
(DBSIZE, KEYS, SCAN). What such a client is told (CLUSTER SLOTS) and what a node then answers for (`first_only`) must be the
same, so both ask here. Two nodes that see different members up disagree for as long as that lasts: a slot between them is
then answered for twice, or by nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core.topology import NodeId, Topology

IsUp = Callable[[NodeId], bool]


def live_first(owners: tuple[NodeId, ...], me: NodeId, is_up: IsUp) -> tuple[NodeId, ...]:
    """The owners, those that are up first, otherwise in order of preference. `me`, the node that looks, is up."""
    return tuple(sorted(owners, key=lambda owner: owner != me and not is_up(owner)))  # sorting keeps preference


def first_slots(topology: Topology, me: NodeId, is_up: IsUp) -> list[bool]:
    """By slot: whether its first live owner is `me`."""
    mine = {owners: bool(owners) and live_first(owners, me, is_up)[0] == me for owners in set(topology.serving)}
    return [mine[owners] for owners in topology.serving]


def is_first(topology: Topology, slot: int, me: NodeId, is_up: IsUp) -> bool:
    """Whether the first live owner of this slot is `me`."""
    owners = topology.serving[slot]
    return bool(owners) and live_first(owners, me, is_up)[0] == me
