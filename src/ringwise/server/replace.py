"""RW.REPLACE [NAME | STATUS]: a member's data are given up for lost; how an empty node in such a place is filled (T4)."""

from __future__ import annotations

from ringwise.core.errors import Failure
from ringwise.core.replace import Lost
from ringwise.core.topology import Topology
from ringwise.server.arguments import SYNTAX
from ringwise.server.call import Call, CommandError, Node, shown
from ringwise.wire.replies import Value


def rw_replace(call: Call) -> None:
    words = call.arguments[1:]
    if len(words) > 1:
        raise CommandError(SYNTAX)
    if not words or words[0].upper() == b"STATUS":
        call.answer(_status(call.node))
        return

    def decided(result: Lost | Failure) -> None:
        if isinstance(result, Failure):
            call.fail(result)
            return
        member = result.member
        address = f"{member.host}:{member.peer_port}"
        call.answer({"node": member.name, "id": member.id.hex(), "address": address, "epoch": result.epoch})

    call.begin_update([b""])  # no key is empty: whatever comes next on this connection waits
    call.node.replace(shown(words[0]), decided)


def _status(node: Node) -> Value:
    """Who is lost, who is being filled; and of the node asked, how far it is with whom."""
    topology, filling = node.topology, node.filling
    document = topology.document
    sources: list[Value] = [
        {
            "from": name_of(topology, peer),
            "slots": source.slots,
            "slots_done": source.slots - min(source.left, source.slots),
            "keys": source.keys,
            "received": source.received,
            "unreadable": source.unreadable,
            "done": int(source.done),
        }
        for peer, source in filling.sources.items()
    ]
    return {
        "lost": _names(topology, document.lost if document is not None else []),
        "filling": _names(topology, sorted(topology.filling)),
        "under_replicated": under_replicated(node),
        "percent": int(100 * filling.share),
        "received": filling.received,
        "waits_for": _names(topology, filling.waits_for),
        "sources": sources,
    }


def _names(topology: Topology, members: list[bytes]) -> list[Value]:
    return [name_of(topology, member) for member in members]


def name_of(topology: Topology, member: bytes) -> str:
    return topology.members[member].name if member in topology.members else member.hex()


def under_replicated(node: Node) -> int:
    """Slots of which fewer than N copies are whole and up, as this node sees it."""
    topology = node.topology
    document = topology.document
    if document is None:
        return 0
    up = {member for member in topology.members if member == node.id or node.is_up(member)}
    short = [len(up.intersection(serving)) < document.replicas for serving in topology.serving_sets]
    return sum(short[number] for number in topology.owner_set)
