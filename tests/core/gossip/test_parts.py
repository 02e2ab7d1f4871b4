"""The parts by themselves: suspicion, health, probes, presets, the roster."""

import itertools
import math
import random

import pytest

from ringwise.core.gossip.awareness import Awareness
from ringwise.core.gossip.membership import OUTBOX_MAX, Membership
from ringwise.core.gossip.packets import Ping, State, Sync, Tell, Update, decode, encode
from ringwise.core.gossip.presets import LAN, LOCAL, PRESETS
from ringwise.core.gossip.probes import RELAYS_MAX, Probes
from ringwise.core.gossip.roster import Roster
from ringwise.core.gossip.suspicion import Suspicion
from ringwise.sim.gossip_network import GENERATION, GossipNetwork, address_of, node_id

A, B, C, D = (node_id(index) for index in range(4))


def test_a_suspicion_shrinks_with_the_logarithm_of_confirmations() -> None:
    """LHA-Suspicion of arXiv 1707.00788."""
    suspicion = Suspicion(A, 3, 1_000, 9_000, 0)
    expected = [9_000 - 8_000 * math.log(count + 1) / math.log(4) for count in range(4)]
    due = [suspicion.due_ms]
    for accuser in (B, C, D):
        assert suspicion.confirm(accuser)
        due.append(suspicion.due_ms)
    assert due == pytest.approx(expected)
    assert not suspicion.confirm(node_id(9))  # enough
    assert suspicion.due_ms == 1_000


def test_nobody_confirms_namelessly_or_twice() -> None:
    suspicion = Suspicion(A, 3, 1_000, 9_000, 0)
    assert not suspicion.confirm(A)
    assert not suspicion.confirm(b"")
    assert suspicion.due_ms == 9_000


def test_with_nobody_to_confirm_a_suspicion_is_short() -> None:
    assert Suspicion(A, 0, 1_000, 9_000, 0).due_ms == 1_000


def test_health_is_bounded_and_scales_timeouts() -> None:
    health = Awareness(8)
    assert health.scaled(100) == 100
    health.worse(3)
    assert health.scaled(100) == 400
    health.worse(100)
    assert health.score == 8
    for _ in range(20):
        health.better()
    assert health.score == 0


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_presets_are_sound(preset: object) -> None:
    assert preset in PRESETS.values()
    for one in PRESETS.values():
        assert one.probe_timeout_ms < one.probe_interval_ms
        assert (
            one.probe_interval_ms + one.suspicion_min_ms > 2_000 + 500
        )  # the longest pause, and an answer to the last word
        assert one.suspicion_ms(3) == one.suspicion_ms(100) < one.suspicion_ms(1_000)
        assert one.sync_ms(3) == one.sync_interval_ms < one.sync_ms(1_000)


def test_each_member_is_probed_once_a_round_and_within_two() -> None:
    roster = Roster(A, random.Random(1))
    members = {node_id(index): address_of(index) for index in range(10)}
    roster.follow(members)
    order = [target.node for target in (roster.next_target() for _ in range(90)) if target is not None]
    for start in range(0, 90, 9):
        assert set(order[start : start + 9]) == set(members) - {A}
    for node in set(members) - {A}:
        rounds = [index for index, other in enumerate(order) if other == node]
        assert max(later - earlier for earlier, later in itertools.pairwise(rounds)) <= 17


def test_probes_are_one_a_member_and_numbers_are_not_mixed_up() -> None:
    probes = Probes(LAN, random.Random(1))
    probe = probes.begin(B, 200, 500, 0)
    assert probe is not None
    assert probes.begin(B, 200, 500, 0) is None
    assert probes.of(B, probe.number) is probe
    assert probes.of(C, probe.number) is None
    assert probes.of(B, probe.number + 1) is None
    assert probes.due_ms == 200
    assert probes.overdue(200) == [probe]
    assert probes.due_ms == 500


def test_relays_are_bounded_nacked_once_and_forgotten() -> None:
    probes = Probes(LAN, random.Random(1))
    relays = [probes.relay(B, number, C, 0) for number in range(RELAYS_MAX + 1)]
    assert relays[-1] is None
    assert len(probes.overdue_relays(200)) == RELAYS_MAX
    assert probes.overdue_relays(10_000) == []
    assert probes.due_ms == math.inf
    assert probes.relay(B, 1, C, 0) is not None


def member(nodes: int = 4) -> Membership:
    one = Membership(A, address_of(0), GENERATION, LOCAL, random.Random(1))
    one.follow({node_id(index): address_of(index) for index in range(nodes)}, 0)
    return one


def test_a_ping_for_another_is_not_answered() -> None:
    """Whoever is at an old address of the target must not answer for it."""
    one = member()
    me = Update(B, 7, State.ALIVE, address_of(1))
    one.receive(encode(Ping(me, [], 1, C)), 0)
    assert not one.outbox
    one.receive(encode(Ping(me, [], 1, A)), 0)
    assert [outgoing.to for outgoing in one.outbox] == [B]


def test_a_suspect_is_told_first_of_all_news() -> None:
    one = member(100)
    for index in range(2, 100):
        one._merge(Update(node_id(index), 7, State.ALIVE, address_of(index)), 0)
    one._merge(Update(B, 7, State.SUSPECT, address_of(1), C), 0)
    one.outbox.clear()
    one.link_broken(B, 0)
    ping = decode(one.outbox[0].payload)
    assert isinstance(ping, Ping)
    assert ping.updates[0] == Update(B, 7, State.SUSPECT, address_of(1), A)
    assert len(ping.updates) > 10


def test_dead_in_a_comparison_is_only_suspect() -> None:
    one = member()
    me = Update(B, 7, State.ALIVE, address_of(1))
    dead = Update(C, 7, State.DEAD, address_of(2))
    one.receive(encode(Sync(me, [dead], True)), 0)
    assert one.state(C) == State.SUSPECT
    one.receive(encode(Tell(me, [dead])), 0)
    assert one.state(C) == State.DEAD


def test_who_left_answers_but_neither_probes_nor_refutes() -> None:
    one = member()
    one.leave(0)
    one.outbox.clear()
    one.follow({node_id(index): address_of(index) for index in range(5)}, 0)
    one._merge(Update(A, GENERATION + 5, State.DEAD, address_of(0)), 0)
    assert one.state(A) == State.LEFT
    for now_ms in range(0, 20_000, 10):
        one.tick(now_ms)
    assert not any(isinstance(decode(outgoing.payload), Ping) for outgoing in one.outbox)


def test_the_outbox_is_bounded() -> None:
    one = member()
    me = Update(B, 7, State.ALIVE, address_of(1))
    for number in range(OUTBOX_MAX + 10):
        one.receive(encode(Ping(me, [], number, A)), 0)
    assert len(one.outbox) == OUTBOX_MAX
    assert one.overflowed == 10


def test_changes_retell_the_states() -> None:
    net = GossipNetwork(6, 2, loss=0.2)
    for at_ms in range(1_000, 60_000, 5_000):
        net.at(at_ms, lambda: net.pause(net.ids[net.rng.randrange(6)], 8_000))
    net.run(90_000)
    views = {(observer, node): State.ALIVE for observer in net.ids for node in net.ids}
    for _, observer, change in net.seen:
        assert views[observer, change.node] == change.before != change.after
        views[observer, change.node] = change.after
    assert all(net.members[observer].state(node) == state for (observer, node), state in views.items())
    assert len(net.seen) > 20


def test_a_suspect_has_the_last_word() -> None:
    for answers in (True, False):
        one = member()
        one._merge(Update(B, 7, State.SUSPECT, address_of(1), C), 0)
        for accuser in (A, D):
            one._merge(Update(B, 7, State.SUSPECT, address_of(1), accuser), 0)
        now_ms = 0.0
        while now_ms < LOCAL.suspicion_min_ms:
            one.outbox.clear()
            now_ms = one.next_due_ms
            one.tick(now_ms)
        pings = [(outgoing, decode(outgoing.payload)) for outgoing in one.outbox]
        asked = [outgoing.reliable for outgoing, ping in pings if isinstance(ping, Ping) and ping.target == B]
        assert {True, False} <= set(asked)
        assert one.state(B) == State.SUSPECT
        if answers:
            one.receive(encode(Tell(Update(B, 8, State.ALIVE, address_of(1)), [])), now_ms)
        while now_ms < LOCAL.suspicion_min_ms + 9 * LOCAL.probe_timeout_ms:  # whatever its health
            now_ms = one.next_due_ms
            one.tick(now_ms)
        assert one.state(B) == (State.ALIVE if answers else State.DEAD)


def test_nacks_keep_a_nodes_health_when_the_fault_is_the_targets() -> None:
    net = GossipNetwork(6, 1, LOCAL)
    net.run(1_000)
    net.kill(B)
    for _ in range(100):
        net.run(100)
        assert all(one.health == 0 for one in net.members.values())
    assert net.all_think(B, State.DEAD)
