"""The topology as Redis Cluster clients see it: every slot has an owner that is up, and the load spreads."""

from __future__ import annotations

from typing import Any

import hiredis
from tests.server.fake import MEMBERS, Connection, FakeNode

from ringwise.core.gossip.packets import State
from ringwise.core.preference import first_slots, is_first
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.topology import Topology, found


def run(node: FakeNode, *arguments: str, protocol: int = 2) -> Any:
    client = Connection(node)
    client.run("HELLO", str(protocol))
    reader = hiredis.Reader()
    reader.feed(client.run(*arguments))
    return reader.gets()


def ports_by_slot(node: FakeNode) -> list[list[int]]:
    by_slot: dict[int, list[int]] = {}
    for first, last, *owners in run(node, "CLUSTER", "SLOTS"):
        for slot in range(first, last + 1):
            assert slot not in by_slot
            by_slot[slot] = [port for _, port, _, _ in owners]
    return [by_slot[slot] for slot in range(SLOTS)]


def owners_by_slot(node: FakeNode) -> list[list[int]]:
    port_of = {member.id: member.cluster_port for member in MEMBERS}
    return [[port_of[owner] for owner in owners] for owners in node.topology.owners]


def test_slots_cover_all_and_follow_the_table() -> None:
    node = FakeNode()
    told, owners = ports_by_slot(node), owners_by_slot(node)
    alone = [slot for slot in range(SLOTS) if len(told[slot]) == 1]
    assert {told[slot][0] for slot in alone} == {member.cluster_port for member in MEMBERS}
    assert len(alone) == len(MEMBERS)
    assert all(told[slot] == owners[slot][: len(told[slot])] for slot in range(SLOTS))


def test_every_member_is_met_first_as_a_primary() -> None:
    """Clients that take a member for a replica then would not ask it for its keys (redis-py)."""
    for down in ([], [MEMBERS[1].id]):
        node = FakeNode()
        node.down.update(down)
        met: dict[int, bool] = {}
        for _, _, primary, *replicas in run(node, "CLUSTER", "SLOTS"):
            met.setdefault(primary[1], True)
            for replica in replicas:
                met.setdefault(replica[1], False)
        assert met == {member.cluster_port: True for member in MEMBERS if member.id not in down}


def test_first_owners_spread() -> None:
    firsts = [ports[0] for ports in ports_by_slot(FakeNode())]
    for member in MEMBERS:
        assert abs(firsts.count(member.cluster_port) - SLOTS / 3) < SLOTS * 0.05


def test_a_live_owner_is_listed_first() -> None:
    node = FakeNode()
    before = owners_by_slot(node)
    dead = MEMBERS[1]
    node.down.add(dead.id)
    for was, now in zip(before, ports_by_slot(node), strict=True):
        live = [port for port in was if port != dead.cluster_port]
        assert now in (live, live[:1])


def test_a_slot_whose_owners_are_all_down_keeps_its_first_owner() -> None:
    """The map must cover all slots, or clients refuse all of it."""
    alone = found(b"c" * 16, MEMBERS[0])
    topology = Topology()
    topology.install(alone)
    node = FakeNode(topology=topology, me=1)
    node.down.add(MEMBERS[0].id)
    assert ports_by_slot(node) == [[MEMBERS[0].cluster_port]] * SLOTS


def test_what_is_announced_is_what_a_node_speaks_for() -> None:
    """Clients in cluster mode ask every node for its slots and add up: each slot has one node that answers for it."""
    for down in (set(), {MEMBERS[2].id}):
        told = None
        claimed: list[int] = []
        for me, member in enumerate(MEMBERS):
            if member.id in down:
                continue
            node = FakeNode(me=me)
            node.down.update(down)
            told = ports_by_slot(node) if told is None else told
            mine = first_slots(node.topology, node.id, node.is_up)
            assert mine == [ports[0] == member.cluster_port for ports in told]
            assert mine == [is_first(node.topology, slot, node.id, node.is_up) for slot in range(SLOTS)]
            claimed += [slot for slot in range(SLOTS) if mine[slot]]
        assert sorted(claimed) == list(range(SLOTS))


def test_shards_say_the_same_as_slots() -> None:
    node = FakeNode()
    node.down.add(MEMBERS[2].id)
    by_slot: list[list[int]] = [[]] * SLOTS
    for shard in run(node, "CLUSTER", "SHARDS", protocol=3):
        bounds = shard[b"slots"]
        ports = [each[b"port"] for each in shard[b"nodes"]]
        assert [each[b"role"] for each in shard[b"nodes"]] == [b"master", b"replica", b"replica"]
        assert [each[b"health"] for each in shard[b"nodes"]] == [b"online", b"online", b"failed"]
        for first, last in zip(bounds[::2], bounds[1::2], strict=True):
            by_slot[first : last + 1] = [ports] * (last - first + 1)
    told = ports_by_slot(node)
    live = [[port for port in ports if port != MEMBERS[2].cluster_port] for ports in by_slot]
    assert all(told[slot] in (live[slot], live[slot][:1]) for slot in range(SLOTS))


def test_nodes_lists_each_member_once_with_its_first_slots() -> None:
    node = FakeNode(me=1)
    node.down.add(MEMBERS[2].id)
    lines = [line.split() for line in run(node, "CLUSTER", "NODES").decode().splitlines()]
    assert [line[2] for line in lines] == ["master", "myself,master", "master,fail?"], "only this node cannot reach it"
    assert [line[7] for line in lines] == ["connected", "connected", "disconnected"]
    assert lines[1][0] == run(node, "CLUSTER", "MYID").decode()
    assert lines[2][8:] == []
    firsts = [ports[0] for ports in ports_by_slot(node)]
    for line in lines:
        port = int(line[1].split("@")[0].split(":")[1])
        bounds = [[int(bound) for bound in each.split("-")] for each in line[8:]]
        slots = [slot for each in bounds for slot in range(each[0], each[-1] + 1)]
        assert slots == [slot for slot, first in enumerate(firsts) if first == port]


def test_nodes_tells_what_gossip_says_of_each_member() -> None:
    node = FakeNode()

    def flags(state: State) -> list[str]:
        node.liveness.states[MEMBERS[1].id] = state
        return [line.split()[2] for line in run(node, "CLUSTER", "NODES").decode().splitlines()]

    assert flags(State.ALIVE) == ["myself,master", "master", "master"]
    assert flags(State.SUSPECT) == ["myself,master", "master,fail?", "master"]
    assert flags(State.DEAD) == flags(State.LEFT) == ["myself,master", "master,fail", "master"]


def test_info_has_the_counters_and_states_of_gossip() -> None:
    node = FakeNode()
    node.liveness.states[MEMBERS[2].id] = State.LEFT
    told = run(node, "INFO", "ringwise").decode()
    assert "gossip_suspicions:2\r\n" in told
    assert f"state_{MEMBERS[2].id.hex()}:left\r\n" in told and f"state_{MEMBERS[1].id.hex()}:alive\r\n" in told


def test_info_tells_whether_every_slot_can_be_served() -> None:
    node = FakeNode()
    assert b"cluster_state:ok" in run(node, "CLUSTER", "INFO")
    assert b"cluster_state:fail" in run(FakeNode(topology=Topology()), "CLUSTER", "INFO")
    node.down = {MEMBERS[1].id}
    assert b"cluster_state:ok" in run(node, "CLUSTER", "INFO")
    node.down = {MEMBERS[1].id, MEMBERS[2].id}  # one owner of three answers at `one` only
    state = run(node, "CLUSTER", "INFO")
    assert b"cluster_state:fail" in state and b"cluster_slots_ok:0" in state


def test_keyslot_is_that_of_redis_cluster() -> None:
    assert run(FakeNode(), "CLUSTER", "KEYSLOT", "foo") == 12182
    assert run(FakeNode(), "CLUSTER", "KEYSLOT", "{foo}bar") == slot_of(b"foo")


def name_of(member: int) -> str:
    return MEMBERS[member].id.hex().ljust(40, "0")


def test_a_node_is_named_as_it_is_in_nodes() -> None:
    node = FakeNode(me=1)
    assert run(node, "CLUSTER", "MYID").decode() == run(node, "CLUSTER", "MYSHARDID").decode() == name_of(1)
    assert name_of(1) in run(node, "CLUSTER", "NODES").decode()


def test_links_are_those_that_were_dialled() -> None:
    links = run(FakeNode(me=1), "CLUSTER", "LINKS", protocol=3)
    assert [(link[b"node"].decode(), link[b"direction"], link[b"create-time"]) for link in links] == [
        (name_of(0), b"to", 1_700_000_000_000),
        (name_of(2), b"to", 1_700_000_000_002),
    ]


def test_failure_reports_and_replicas_of_a_member() -> None:
    node = FakeNode()
    assert run(node, "CLUSTER", "COUNT-FAILURE-REPORTS", name_of(2)) == 0
    node.down.add(MEMBERS[2].id)
    assert run(node, "CLUSTER", "COUNT-FAILURE-REPORTS", name_of(2)) == 1
    assert run(node, "CLUSTER", "REPLICAS", name_of(2)) == run(node, "CLUSTER", "SLAVES", name_of(0)) == []
    for command in ("REPLICAS", "SLAVES", "COUNT-FAILURE-REPORTS"):
        assert str(run(node, "CLUSTER", command, "nobody")) == "ERR Unknown node nobody"


def test_keys_of_a_slot_are_counted_and_named_by_any_node() -> None:
    for me in range(3):
        node = FakeNode(me=me)
        client = Connection(node)
        keys = [b"{tag}%d" % n for n in range(600)]  # more than a page
        for key in [*keys, b"elsewhere"]:
            client.run("SET", key.decode(), "v")
        slot = str(slot_of(b"tag"))
        assert run(node, "CLUSTER", "COUNTKEYSINSLOT", slot) == 600
        assert sorted(run(node, "CLUSTER", "GETKEYSINSLOT", slot, "1000")) == sorted(keys)
        some = run(node, "CLUSTER", "GETKEYSINSLOT", slot, "7")
        assert len(set(some)) == 7 and set(some) <= set(keys)
        assert run(node, "CLUSTER", "GETKEYSINSLOT", slot, "0") == []
        client.run("DEL", "{tag}3")
        assert run(node, "CLUSTER", "COUNTKEYSINSLOT", slot) == 599
        assert run(node, "CLUSTER", "COUNTKEYSINSLOT", str(SLOTS - 1)) == 0


def test_bad_slots_and_counts() -> None:
    node = FakeNode()
    assert str(run(node, "CLUSTER", "COUNTKEYSINSLOT", "16384")) == "ERR Invalid slot"
    assert str(run(node, "CLUSTER", "GETKEYSINSLOT", "-1", "1")) == "ERR Invalid slot"
    assert str(run(node, "CLUSTER", "GETKEYSINSLOT", "1", "-1")) == "ERR Invalid number of keys"
    assert "integer" in str(run(node, "CLUSTER", "COUNTKEYSINSLOT", "x"))


def test_what_would_change_owners_says_who_does() -> None:
    for command in ("MEET", "addslots", "FORGET", "SETSLOT", "REPLICATE", "RESET"):
        reply = str(run(FakeNode(), "CLUSTER", command, "1"))
        assert reply == (
            f"ERR CLUSTER {command.upper()} is not served: it would change who owns what, which the members decide among "
            "themselves; see `ringwise ring`"
        )
    assert str(run(FakeNode(), "CLUSTER", "NONSENSE")) == "ERR unknown subcommand 'NONSENSE'. Try CLUSTER HELP."
