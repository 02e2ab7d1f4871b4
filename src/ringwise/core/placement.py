"""The planner: proposes the table slot -> owners (design T1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ringwise.core.ring import SLOTS, Ring

if TYPE_CHECKING:
    from ringwise.core.topology import Member, NodeId

Owners = list[tuple["NodeId", ...]]


def plan(members: Sequence[Member], replicas: int, previous: Sequence[tuple[NodeId, ...]] | None) -> Owners:
    """Owners by slot, first the preferred: the first distinct nodes clockwise."""
    del previous
    ring = Ring([(member.name, member.weight) for member in members])
    copies = min(replicas, len(members))
    return [tuple(members[node].id for node in ring.preference(slot, copies)) for slot in range(SLOTS)]
