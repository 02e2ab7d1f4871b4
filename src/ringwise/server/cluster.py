"""The topology in the words of Redis Cluster, so that cluster clients send each key straight to a replica.

There is no primary here: for each slot the first owner listed is the most preferred one that is up (core/preference.py), and
takes a primary's place; since preference orders differ from slot to slot, the load spreads. Any node answers for any key, so
nobody is ever redirected, and a client with an old map is slower, not wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from ringwise.core.gossip.packets import State
from ringwise.core.preference import live_first
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.topology import Member, NodeId
from ringwise.server.call import Call, CommandError, Node, shown
from ringwise.wire.replies import Encoded, Value, encode

Range = tuple[int, int, tuple[NodeId, ...]]


def ranges(node: Node) -> list[Range]:
    """(first slot, last slot, owners with the live ones first), runs of equal owners as one; without those that are filling."""
    if not node.topology.epoch:
        raise CommandError("CLUSTERDOWN this node is in no cluster yet, so no slot has an owner; try again")
    ordered: dict[tuple[NodeId, ...], tuple[NodeId, ...]] = {}
    for owners in set(node.topology.serving):
        ordered[owners] = live_first(owners, node.id, node.is_up)
    found: list[Range] = []
    start = 0
    for owners, run in groupby(node.topology.serving, key=ordered.__getitem__):
        count = sum(1 for _ in run)
        found.append((start, start + count - 1, owners))
        start += count
    return found


def is_up(node: Node, member: NodeId) -> bool:
    return member == node.id or node.is_up(member)


def announced_port(member: Member) -> int:
    """Where clients in cluster mode are sent: they ask every node and add up, and only there that adds up."""
    return member.cluster_port or member.port


def member_name(member: NodeId) -> str:
    """Redis names nodes with forty hexadecimal digits."""
    return member.hex().ljust(40, "0")


def kept(describe: Callable[[Call], Value]) -> Callable[[Call], None]:
    """The reply as it was encoded for whoever asked first since the topology, or who is up, changed."""

    def run(call: Call) -> None:
        clients, topology = call.session.clients, call.node.topology
        state = call.node.liveness.state
        view = (topology.epoch, [(is_up(call.node, member), state(member)) for member in topology.members])
        if clients.view != view:
            clients.view = view
            clients.topology_replies.clear()
        asked = (describe.__name__, call.session.protocol)
        reply = clients.topology_replies.get(asked)
        if reply is None:
            reply = clients.topology_replies[asked] = encode(describe(call), call.session.protocol)
        call.reply(reply)

    return run


@kept
def slots(call: Call) -> Value:
    """Ranges with their first live owner, then the others that are up, as Redis leaves out replicas that are not.

    A client takes a node for a primary or for a replica by where it meets it first (redis-py), and asks only primaries for
    their keys. So each member is met first as the only owner of one slot, before any range that has it as a replica.
    """
    node = call.node
    seen: set[NodeId] = set()
    described: dict[NodeId, Value] = {
        member.id: Encoded(
            encode([member.host, announced_port(member), member_name(member.id), []], call.session.protocol)
        )
        for member in node.topology.members.values()
    }
    heads: list[Value] = []
    rest: list[Value] = []
    for first, last, owners in ranges(node):
        begin = first
        if owners[0] not in seen:
            seen.add(owners[0])
            heads.append([first, first, described[owners[0]]])
            begin += 1
        if begin <= last:
            copies = (owner for owner in owners[1:] if is_up(node, owner))
            rest.append([begin, last, described[owners[0]], *(described[owner] for owner in copies)])
    return heads + rest


@kept
def shards(call: Call) -> Value:
    node = call.node
    described: dict[tuple[NodeId, bool], Value] = {
        (member, first): Encoded(encode(_shard_node(node, member, first), call.session.protocol))
        for member in node.topology.members
        for first in (True, False)
    }
    by_owners: dict[tuple[NodeId, ...], list[Value]] = {}
    for first, last, owners in ranges(node):
        by_owners.setdefault(owners, []).extend((first, last))
    return [
        {"slots": bounds, "nodes": [described[owner, owner == owners[0]] for owner in owners]}
        for owners, bounds in by_owners.items()
    ]


def _shard_node(node: Node, owner: NodeId, first: bool) -> Value:
    member = node.topology.members[owner]
    return {
        "id": member_name(owner),
        "port": announced_port(member),
        "ip": member.host,
        "endpoint": member.host,
        "role": "master" if first else "replica",
        "replication-offset": 0,
        "health": "online" if is_up(node, owner) else "failed",
    }


@kept
def nodes(call: Call) -> Value:
    """One line a member, each with the slots whose first owner it is."""
    node = call.node
    first_of: dict[NodeId, list[str]] = {member: [] for member in node.topology.members}
    for owner, run in groupby(ranges(node), key=lambda found: found[2][0]):
        bounds = list(run)
        first, last = bounds[0][0], bounds[-1][1]
        first_of[owner].append(str(first) if first == last else f"{first}-{last}")
    lines = [_node_line(node, member, first_of[member.id]) for member in node.topology.members.values()]
    return "".join(f"{line}\n" for line in lines)


def _failing(node: Node, member: NodeId) -> str:
    """`fail` is what gossip has settled; `fail?` what it only suspects, or what this node alone cannot reach."""
    state = node.liveness.state(member)
    if state >= State.DEAD:
        return ",fail"
    return ",fail?" if state == State.SUSPECT or not node.is_up(member) else ""


def _node_line(node: Node, member: Member, bounds: list[str]) -> str:
    flags = "myself,master" if member.id == node.id else "master" + _failing(node, member.id)
    state = "connected" if is_up(node, member.id) else "disconnected"
    address = f"{member.host}:{announced_port(member)}@{member.peer_port}"
    return " ".join([member_name(member.id), address, flags, "- 0 0", str(node.topology.epoch), state, *bounds])


@kept
def info(call: Call) -> Value:
    """A slot is ok while a majority of its owners is up: the default level then answers for each of its keys."""
    node = call.node
    topology = node.topology
    sets = zip(topology.sets, topology.serving_sets, strict=True)
    majority = [2 * sum(is_up(node, each) for each in serving) > len(owners) for owners, serving in sets]
    reachable = sum(majority[number] for number in topology.owner_set) if topology.epoch else 0
    fields = {
        "cluster_enabled": 1,
        "cluster_state": "ok" if reachable == SLOTS else "fail",
        "cluster_slots_assigned": SLOTS if topology.epoch else 0,
        "cluster_slots_ok": reachable,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": SLOTS - reachable if topology.epoch else 0,
        "cluster_known_nodes": len(topology.members),
        "cluster_size": len(topology.members),
        "cluster_current_epoch": topology.epoch,
        "cluster_my_epoch": topology.epoch,
    }
    return "".join(f"{name}:{value}\r\n" for name, value in fields.items())


def keyslot(call: Call) -> None:
    call.answer(slot_of(call.arguments[2]))


def my_id(call: Call) -> None:
    call.answer(member_name(call.node.id))


def my_shard_id(call: Call) -> None:
    """Slots overlap in their owners rather than falling into shards, so a shard is named after the node that is asked."""
    my_id(call)


def links(call: Call) -> None:
    """The connections that this node has dialled; each member dials every other, so all links are two of these."""
    since = call.node.linked_since
    call.answer(
        [
            {
                "direction": "to",
                "node": member_name(member),
                "create-time": since[member],
                "events": "rw",
                "send-buffer-allocated": 0,
                "send-buffer-used": 0,
            }
            for member in sorted(since)
        ]
    )


def replicas(call: Call) -> None:
    """None: every member is the first owner of some slots, and all are listed as primaries (CLUSTER NODES)."""
    _member_of(call)
    call.answer([])


def count_failure_reports(call: Call) -> None:
    """How many say that a member is down: this node speaks for itself."""
    call.answer(int(not is_up(call.node, _member_of(call))))


def _member_of(call: Call) -> NodeId:
    name = call.arguments[2].decode("ascii", "replace")
    for member in call.node.topology.members:
        if member_name(member) == name:
            return member
    raise CommandError(f"ERR Unknown node {shown(call.arguments[2])}")
