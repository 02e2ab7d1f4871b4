"""RW.MEMBERS; RW.RING [SLOT n]: who owns what, and how evenly; or the preference list of one slot (T1, T2)."""

from __future__ import annotations

from ringwise.core.ring import SLOTS
from ringwise.core.topology import Topology
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.wire.replies import Value


def rw_ring(call: Call) -> None:
    topology = call.node.topology
    if not topology.epoch:
        raise CommandError("CLUSTERDOWN this node is in no cluster yet, so no slot has an owner; try again")
    if len(call.arguments) == 1:
        call.answer(_ring(topology))
    elif len(call.arguments) == 3 and call.arguments[1].upper() == b"SLOT":
        slot = integer_of(call.arguments[2])
        if not 0 <= slot < SLOTS:
            raise CommandError(f"ERR a slot is a number from 0 to {SLOTS - 1}")
        owners: list[Value] = [topology.members[owner].name for owner in topology.owners[slot]]
        call.answer({"slot": slot, "owners": owners, "changed": topology.changed[slot]})
    else:
        raise CommandError(SYNTAX)


def rw_members(call: Call) -> None:
    """Where each member serves clients, for those who want another node to turn to when this one dies."""
    topology = call.node.topology
    if not topology.epoch:
        raise CommandError("CLUSTERDOWN this node is in no cluster yet, so it has no members; try again")
    addresses: list[Value] = [f"{member.host}:{member.port}" for member in topology.members.values()]
    call.answer(addresses)


def _ring(topology: Topology) -> Value:
    owned = dict.fromkeys(topology.members, 0)
    first = dict.fromkeys(topology.members, 0)
    for owners in topology.owners:
        first[owners[0]] += 1
        for owner in owners:
            owned[owner] += 1
    weights = {member.id: member.weight for member in topology.members.values()}
    fair = fair_shares(weights, sum(owned.values()))
    members: list[Value] = [
        {
            "node": member.name,
            "id": member.id.hex(),
            "rack": member.rack,
            "weight": member.weight,
            "slots": owned[member.id],
            "first": first[member.id],
            "fair": fair[member.id],
        }
        for member in topology.members.values()
    ]
    return {"epoch": topology.epoch, "formed": int(topology.formed), "slots": SLOTS, "members": members}


def fair_shares(weights: dict[bytes, float], copies: int) -> dict[bytes, float]:
    """So many copies of slots each node would hold, in proportion to its weight; but none holds a slot twice."""
    fair: dict[bytes, float] = {}
    rest = dict(weights)
    while rest:
        unit = (copies - SLOTS * len(fair)) / sum(rest.values())
        full = [node for node, weight in rest.items() if weight * unit >= SLOTS]
        if not full:
            return fair | {node: weight * unit for node, weight in rest.items()}
        for node in full:
            fair[node] = float(SLOTS)
            del rest[node]
    return fair
