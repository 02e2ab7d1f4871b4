"""`ringwise status`: the members as one node knows them, each asked for its own view, and what needs attention.

Exit codes: 0 all is well, 1 an error, 2 wrong usage, 3 something needs attention.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import click

from ringwise.cli.options import as_json, at_node, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call

ATTENTION = 3
NODE_ID_DIGITS = 12  # CLUSTER NODES fills them up to Redis's forty with zeros


@dataclass
class MemberStatus:
    """A member, by its own account where it answers."""

    id: str
    address: str
    peer_port: int
    linked: bool  # to the node that was asked
    gossip: str = ""  # alive, suspect, dead or left: what gossip says of it at the node that was asked
    answers: bool = False
    cut_off: bool = False  # by `ringwise dev partition`
    name: str = ""
    epoch: int = 0
    members_up: int = 0
    clients: int = 0
    commands: int = 0
    uptime_s: int = 0
    dot_collisions: int = 0
    filling: bool = False  # its disk was empty, and it has not all data yet
    fill_percent: int = 100
    fill_waits_for: str = ""
    merge_failure: str = ""
    fill_unreadable: int = 0  # keys that another owner could not read when this one was filled
    reap_waiting: int = 0  # deleted or expired records that it has found, and that have not gone yet
    reap_waits_for: str = ""  # the members because of whom
    lost: bool = False  # given up by `ringwise replace`


@dataclass
class ClusterStatus:
    cluster: str
    epoch: int
    formed: bool
    replicas: int
    named_buckets: int
    under_replicated_slots: int  # with fewer copies than that whole and up
    members: list[MemberStatus]
    attention: list[str]


@click.command()
@at_node
@as_json
def status(host: str, port: int, as_json: bool) -> None:
    """Show the members, their state, and what needs attention."""
    try:
        found = look(host, port)
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    if as_json:
        tell_json(asdict(found))
    else:
        _print(found)
    if found.attention:
        sys.exit(ATTENTION)


def look(host: str, port: int) -> ClusterStatus:
    """Ask one node for the members, and each member for itself."""
    asked = _info(host, port)
    settings = call(host, port, "CONFIG", "GET", "rw.replicas")
    assert isinstance(settings, list) and isinstance(settings[1], bytes)
    nodes = call(host, port, "CLUSTER", "NODES")
    assert isinstance(nodes, bytes)
    members = [_member(line, asked) for line in nodes.decode().splitlines()]
    found = ClusterStatus(
        cluster=asked["cluster_id"],
        epoch=int(asked["epoch"]),
        formed=asked["formed"] == "1",
        replicas=int(settings[1]),
        named_buckets=int(asked.get("named_buckets", "0")),
        under_replicated_slots=int(asked.get("under_replicated_slots", "0")),
        members=sorted(members, key=lambda member: member.name or member.id),
        attention=[],
    )
    found.attention = _attention(found)
    return found


def _info(host: str, port: int) -> dict[str, str]:
    text = call(host, port, "INFO")
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def _member(line: str, asked: dict[str, str]) -> MemberStatus:
    """From a line of CLUSTER NODES: id, host:port@peer-port, …, link state, slots; and the names that the node asked knows."""
    fields = line.split(" ")
    address, _, peer_port = fields[1].partition("@")
    id_ = fields[0][:NODE_ID_DIGITS]
    address = asked.get(f"address_{id_}", address)  # the line has the port for clients in cluster mode
    member = MemberStatus(id_, address, int(peer_port), fields[7] == "connected")
    member.name = asked.get(f"member_{member.id}", "")
    member.gossip = asked.get(f"state_{member.id}", "")
    member.lost = member.name in asked.get("lost_members", "").split(",")
    host, _, port = address.rpartition(":")
    try:
        info = _info(host, int(port))
    except (UnreachableError, NodeError):
        return member
    member.answers = True
    member.id, member.name, member.epoch = info["node_id"], info["node"], int(info["epoch"])
    member.members_up, member.clients = int(info["members_up"]), int(info["connected_clients"])
    member.commands, member.uptime_s = int(info["total_commands_processed"]), int(info["uptime_in_seconds"])
    member.cut_off = info.get("cut_off") == "1"
    member.dot_collisions = int(info.get("dot_collisions", "0"))
    member.filling = info.get("filling") == "1"
    member.fill_percent = int(info.get("fill_percent", "100"))
    member.fill_unreadable = int(info.get("fill_unreadable", "0"))
    member.merge_failure = info.get("merge_last_failure", "")
    member.fill_waits_for = info.get("fill_waits_for", "")
    member.reap_waiting = int(info.get("reap_waiting", "0"))
    member.reap_waits_for = info.get("reap_waits_for", "")
    return member


def _attention(found: ClusterStatus) -> list[str]:
    lines = []
    if not found.members:
        lines.append("the node is in no cluster yet")
    elif len(found.members) < found.replicas:
        lines.append(f"under-replicated: {len(found.members)} of {found.replicas} copies, for want of members")
    for member in found.members:
        who = member.name or member.address
        if not member.answers and member.lost:
            lines.append(f"{who} was given up for lost: start it on an empty directory, with --join, and it is filled")
        elif not member.answers:
            lines.append(f"{who} does not answer: start it again, or look into its log")
        elif member.cut_off:
            lines.append(f"{who} is cut off by 'ringwise dev partition'; join it again: ringwise dev heal")
        elif not member.linked:
            lines.append(f"{who} answers clients, but the node asked has no link to it")
        elif member.gossip not in ("", "alive"):
            lines.append(f"{who} answers clients, but gossip calls it {member.gossip}: do its datagrams get through?")
        elif member.epoch != found.epoch:
            lines.append(f"{who} has epoch {member.epoch} of the topology, not {found.epoch}")
        if member.answers and member.lost:
            lines.append(f"{who} was given up for lost, and is up: an empty node with its name would take its place")
        if member.fill_unreadable:
            lines.append(f"{who} was filled without {member.fill_unreadable} records that another owner could not read")
        if member.fill_waits_for:
            lines.append(f"{who} is being filled, and waits for {member.fill_waits_for}: start it again")
        if member.merge_failure:
            lines.append(f"on {who} a merge function has failed, and siblings stay: {member.merge_failure}")
        if member.dot_collisions:
            lines.append(
                f"{who} has met different values under one version {member.dot_collisions} times; both are kept: "
                "was a directory brought back from a copy?"
            )
    short, copies = found.under_replicated_slots, found.replicas
    if found.formed and short and any(member.filling or not member.answers for member in found.members):
        lines.append(f"{short:,} slots are under-replicated: fewer than {copies} copies of each are whole and up")
    return lines


def _state(member: MemberStatus) -> str:
    if not member.answers:
        return "down"
    if member.cut_off:
        return "cut off"
    if member.filling:
        return f"filling {member.fill_percent}%"
    return "up" if member.linked else "no link"


def _print(found: ClusterStatus) -> None:
    # Imported here: it takes longer to load than the other commands take to run.
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    state = "formed" if found.formed else "forming"
    named = f", {found.named_buckets} named buckets" if found.named_buckets else ""
    console.print(f"cluster {found.cluster}, epoch {found.epoch}, {state}, {found.replicas} copies of each key{named}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("member", "state", "gossip", "redis", "peers", "epoch", "clients", "commands", "up"):
        table.add_column(column, no_wrap=True)
    for member in found.members:
        state = _state(member)
        own = (str(member.epoch), str(member.clients), str(member.commands), f"{member.uptime_s} s")
        known = (member.name or member.id, state, member.gossip, member.address, str(member.peer_port))
        table.add_row(*known, *(own if member.answers else ("",) * len(own)))
    console.print(table)
    waiting = sum(member.reap_waiting for member in found.members)
    if waiting:
        because = sorted({name for member in found.members for name in member.reap_waits_for.split(",") if name})
        held_up = f", and wait for {', '.join(because)}" if because else ""
        console.print(f"deleted or expired, and not gone yet: {waiting:,} records{held_up}", soft_wrap=True)
    for line in found.attention:
        console.print(f"attention: {line}", soft_wrap=True)
