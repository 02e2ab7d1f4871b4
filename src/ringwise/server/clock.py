"""Vector clocks as people read them: `n1:2 n3:1`, the clock of Dynamo's section 4.4 and of every drawing of it.

An actor is a node in one incarnation and key epoch (V2), so a node may stand in a clock more than once: after a restart that may
have lost a tail, or where it wrote the key anew. Its actors are then told apart by number: `n1.1:2 n1.2:1`. Dots beyond a gap
(V3) follow their actor: `n1:2+4`. A node that is no member any more is shown by its id.
"""

from __future__ import annotations

from collections.abc import Iterable

from ringwise.core.context import Context
from ringwise.core.record import Dot
from ringwise.core.topology import NODE_ID_BYTES, Topology


class Names:
    """Names for the actors of one key; made from everything that is to be shown together."""

    def __init__(self, topology: Topology, actors: Iterable[bytes]) -> None:
        by_node: dict[bytes, list[bytes]] = {}
        for actor in sorted(set(actors)):
            by_node.setdefault(actor[:NODE_ID_BYTES], []).append(actor)
        self._names: dict[bytes, str] = {}
        for node, mine in by_node.items():
            member = topology.members.get(node)
            name = member.name if member is not None else node.hex()
            for number, actor in enumerate(mine, start=1):
                self._names[actor] = name if len(mine) == 1 else f"{name}.{number}"

    def dot(self, actor: bytes, counter: int) -> str:
        """One event."""
        return f"{self._names[actor]}:{counter}"

    def clock(self, vector: Iterable[Dot], cloud: Iterable[Dot]) -> str:
        """Everything that was seen; "" where nothing was."""
        seen = {actor: str(counter) for actor, counter in vector}
        for actor, counter in cloud:
            seen[actor] = f"{seen.get(actor, '0')}+{counter}"
        return " ".join(sorted(f"{self._names[actor]}:{count}" for actor, count in seen.items()))


def clock_of(topology: Topology, context: Context) -> str:
    """The clock of everything that a context has seen."""
    names = Names(topology, [actor for actor, _ in (*context.vector, *context.cloud)])
    return names.clock(context.vector, context.cloud)
