"""Members on a virtual clock: what they must notice, and what they must not."""

import random

import pytest

from ringwise.core.gossip.awareness import Awareness
from ringwise.core.gossip.membership import Change, Membership
from ringwise.core.gossip.packets import DATAGRAM_BYTES_MAX, Address, State, Update
from ringwise.core.gossip.presets import LAN, LOCAL, WAN, Preset
from ringwise.sim.gossip_network import GENERATION, GossipNetwork, address_of, node_id

A, B, C, D, E = (node_id(index) for index in range(5))


def seconds_to_detect(net: GossipNetwork, node: bytes, limit_s: float = 60) -> float:
    net.kill(node)
    start_ms = net.now_ms
    assert net.run(limit_s * 1000, until=lambda: net.all_think(node, State.DEAD))
    return (net.now_ms - start_ms) / 1000


@pytest.mark.parametrize(("preset", "limit_s"), [(LOCAL, 5), (LAN, 10), (WAN, 40)])
@pytest.mark.parametrize("nodes", [2, 3, 5, 20, 100])
def test_a_killed_node_is_found_in_time_and_nobody_else_is_accused(preset: Preset, limit_s: float, nodes: int) -> None:
    for seed in range(2 if nodes == 100 else 10):
        net = GossipNetwork(nodes, seed, preset)
        net.run(3_000)
        assert seconds_to_detect(net, A) < limit_s
        assert {seen.change.node for seen in net.deaths()} == {A}


def test_several_that_die_at_once_are_found() -> None:
    net = GossipNetwork(5, 1, LOCAL)
    net.run(1_000)
    for node in (A, B, C):
        net.kill(node)
    assert net.run(15_000, until=lambda: all(net.all_think(node, State.DEAD) for node in (A, B, C)))


def test_a_broken_link_has_the_node_probed_at_once() -> None:
    net = GossipNetwork(20, 1)
    net.run(3_000)
    net.kill(A)
    net.link_broken(B, A)
    net.run(LAN.probe_interval_ms + 20)
    assert net.members[B].state(A) == State.SUSPECT


@pytest.mark.parametrize("preset", [LOCAL, LAN])
@pytest.mark.parametrize("nodes", [2, 3, 5, 30])
def test_a_pause_of_two_seconds_is_no_death(preset: Preset, nodes: int) -> None:
    suspected = 0
    for seed in range(20):
        net = GossipNetwork(nodes, seed, preset)
        net.run(1_000)
        net.pause(A, 2_000)
        net.run(15_000)
        assert not net.deaths()
        assert net.whole()
        suspected += any(seen.change.after == State.SUSPECT for seen in net.seen)
    assert suspected


def test_who_is_suspected_refutes_with_a_higher_incarnation() -> None:
    net = GossipNetwork(5, 1, LOCAL)
    net.pause(A, 1_500)
    net.run(5_000)
    assert net.members[A].incarnation(A) > GENERATION
    assert net.whole()
    assert all(member.incarnation(A) == net.members[A].incarnation(A) for member in net.members.values())


def test_one_way_partition() -> None:
    """A hears B no more, but others can tell that B is there."""
    net = GossipNetwork(5, 1)
    net.part([B], [A], both=False)
    net.run(120_000)
    assert not net.deaths()


def test_who_can_send_but_not_hear_accuses_nobody() -> None:
    net = GossipNetwork(5, 1)
    net.part([B, C, D, E], [A], both=False)
    net.run(8_000)
    assert not [seen for seen in net.deaths() if seen.change.node != A]
    assert net.members[A].health > 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("nodes", [2, 6, 30])
def test_a_partition_heals(nodes: int, seed: int) -> None:
    net = GossipNetwork(nodes, seed)
    one, other = net.ids[: nodes // 2], net.ids[nodes // 2 :]
    net.part(one, other)
    assert net.run(60_000, until=lambda: all(net.members[a].state(b) == State.DEAD for a in one for b in other))
    net.run(60_000)
    net.cut.clear()
    assert net.run(15_000, until=net.whole)
    net.run(60_000)
    assert net.whole()


def test_a_blocked_udp_port_is_no_death() -> None:
    net = GossipNetwork(5, 1)
    net.no_udp.add(A)
    net.run(120_000)
    assert not net.deaths()


def test_a_restarted_node_is_alive_at_once_with_its_new_address() -> None:
    net = GossipNetwork(5, 1)
    seconds_to_detect(net, A)
    moved = address_of(77)
    net.start(A, GENERATION + 60_000, moved)
    assert net.run(1_500, until=net.whole)
    assert all(member.address(A) == moved for member in net.members.values())
    net.run(90_000)
    assert all(member.address(A) == moved for member in net.members.values())  # the old one is not gossiped back


@pytest.mark.parametrize("dead_before", [False, True])
def test_a_restart_with_the_clock_set_back(dead_before: bool) -> None:
    net = GossipNetwork(5, 1)
    if dead_before:
        seconds_to_detect(net, A)
    else:
        net.kill(A)
    moved = address_of(77)
    net.start(A, GENERATION - 3_600_000, moved)
    assert net.run(5_000, until=lambda: net.members[A].incarnation(A) > GENERATION)
    assert net.run(5_000, until=lambda: all(member.address(A) == moved for member in net.members.values()))
    net.run(10_000)
    assert net.whole()


def test_leaving_is_told_at_once_and_is_no_suspicion() -> None:
    net = GossipNetwork(30, 1)
    net.run(1_000)
    net.leave(A)
    assert net.run(500, until=lambda: net.all_think(A, State.LEFT))
    net.run(60_000)
    assert net.all_think(A, State.LEFT)
    assert all(seen.change == Change(A, State.ALIVE, State.LEFT) for seen in net.seen)
    net.start(A, GENERATION + 1)
    assert net.run(5_000, until=net.whole)


def test_a_process_that_slept_for_thirty_seconds_accuses_nobody() -> None:
    for seed in range(20):
        net = GossipNetwork(5, seed, LOCAL)
        net.run(1_000)
        net.pause(A, 30_000)
        net.run(45_000)
        assert not [seen for seen in net.seen if seen.observer == A and seen.change.after != State.ALIVE]
        assert {seen.change.node for seen in net.deaths()} == {A}
        assert net.whole()


def test_a_slow_observer_accuses_nobody() -> None:
    """arXiv 1707.00788: what it does not hear in time it must put down to itself."""
    for seed in range(5):
        net = GossipNetwork(20, seed)
        net.slow_ms[A] = 2_000
        net.run(120_000)
        assert net.members[A].health > 0
        assert not net.deaths()


def test_local_health_spares_the_others_most_accusations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run without it: every refutation that a slow node's impatience costs is paid by all."""
    accusations = []
    for _ in range(2):
        net = GossipNetwork(20, 1)
        net.slow_ms[A] = 1_000
        net.run(60_000)
        accusations.append(sum(seen.change.after == State.SUSPECT for seen in net.seen))
        monkeypatch.setattr(Awareness, "scaled", lambda _, milliseconds: milliseconds)
    assert 2 * accusations[0] < accusations[1]


def test_nodes_that_sleep_in_turns_are_never_dead() -> None:
    for seed in range(3):
        net = GossipNetwork(10, seed, LOCAL)
        for at_ms in range(1_000, 60_000, 500):
            node = net.ids[net.rng.randrange(10)]
            net.at(at_ms, lambda net=net, node=node: net.pause(node, net.rng.uniform(0, 2_000)))  # type: ignore[misc]
        net.run(65_000)
        assert not net.deaths()


@pytest.mark.parametrize("preset", [LOCAL, LAN])
@pytest.mark.parametrize(("awake_ms", "asleep_ms"), [(50, 300), (50, 900), (20, 1_900)])
def test_a_stuttering_process_accuses_nobody_and_is_not_dead(preset: Preset, awake_ms: int, asleep_ms: int) -> None:
    net = GossipNetwork(10, 1, preset)
    for at_ms in range(1_000, 60_000, awake_ms + asleep_ms):
        net.at(at_ms, lambda: net.pause(A, asleep_ms))
    net.run(60_000)
    assert not net.deaths()
    assert not [seen for seen in net.seen if seen.observer == A]


@pytest.mark.parametrize("asleep_ms", [1_500, 2_000, 30_000])
def test_when_all_sleep_at_once_nobody_accuses_anybody(asleep_ms: int) -> None:
    """The machine that all of them run on was suspended."""
    net = GossipNetwork(6, 1, LOCAL)
    net.run(2_000)
    for node in net.ids:
        net.pause(node, asleep_ms + net.rng.random() * 50)
    net.run(asleep_ms + 20_000)
    assert not net.seen


@pytest.mark.parametrize("clock", [-5, 5])
def test_two_restarted_nodes_with_each_others_address_are_told_apart(clock: int) -> None:
    net = GossipNetwork(5, 1)
    one, other = net.homes[A], net.homes[B]
    net.kill(A)
    net.kill(B)
    net.run(1_000)
    net.start(A, GENERATION + clock, other)
    net.start(B, GENERATION + 5, one)
    assert net.run(10_000, until=net.whole)
    net.run(5_000)
    assert all(member.address(A) == other and member.address(B) == one for member in net.members.values())


@pytest.mark.parametrize("seed", range(5))
def test_after_any_partitions_all_meet_again(seed: int) -> None:
    net = GossipNetwork(9, seed, loss=0.05)
    for cut in range(1, 6):
        shuffled = net.rng.sample(net.ids, len(net.ids))
        net.part(shuffled[:cut], shuffled[cut:], both=cut % 2 == 0)
        net.run(net.rng.uniform(0, 30_000))
        net.cut.clear()
        net.run(net.rng.uniform(0, 5_000))
    assert net.run(30_000, until=net.whole)
    net.run(60_000)
    assert net.whole()


def test_datagrams_stay_below_the_limit_with_the_longest_names_and_much_news() -> None:
    net = GossipNetwork(60, 1, warm=False)
    for index, node in enumerate(net.ids):
        net.listed[node] = address_of(index, f"{index:03}" + "x" * 250)
    for node in net.ids:
        net.start(node, GENERATION + 1)
    net.run(20_000)
    assert 1_000 < net.longest <= DATAGRAM_BYTES_MAX
    assert net.whole()


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> list[object]:
        net = GossipNetwork(10, 3, loss=0.05)
        net.pause(A, 2_000)
        net.run(10_000)
        return [*net.seen, net.datagrams, net.sent_bytes]

    assert run() == run()


def test_removed_members_are_forgotten_and_their_packets_ignored() -> None:
    net = GossipNetwork(4, 1, LOCAL)
    net.run(1_000)
    member = net.members[A]
    member.follow({node: net.listed[node] for node in (A, B, C)}, net.now_ms)
    net.run(5_000)
    assert member.strangers > 0
    assert member.address(D) is None
    assert member.state(D) == State.DEAD
    assert not net.deaths()


def test_a_newer_address_wins_over_the_documents() -> None:
    net = GossipNetwork(3, 1, warm=False)
    member = Membership(A, net.listed[A], 5, LAN, random.Random(1))
    moved = address_of(99)
    member.follow(net.listed, 0)
    member._merge(Update(B, 7, State.ALIVE, moved), 0)
    member.follow({**net.listed, B: address_of(5), C: address_of(6)}, 1)
    assert member.address(B) == moved
    assert member.address(C) == address_of(6)


def test_an_address_that_no_packet_could_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="no host name"):
        Membership(A, Address("x" * 254, 1, 2, 3, 4), 5, LAN, random.Random(1))


def test_who_slept_thinks_the_less_of_its_own_health() -> None:
    member = Membership(A, address_of(0), GENERATION, LAN, random.Random(1))
    member.follow({A: address_of(0), B: address_of(1)}, 0)
    member.tick(member.next_due_ms)
    assert member.health == 0
    member.tick(30_000)
    assert member.health == 1
    member.tick(member.next_due_ms)
    assert member.health == 1
