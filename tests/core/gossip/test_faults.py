"""Deliberate faults: each breaks a rule of the protocol, and a scenario notices."""

import random
from collections.abc import Callable

import pytest

from ringwise.core.gossip.membership import Membership
from ringwise.core.gossip.packets import State, Update
from ringwise.core.gossip.presets import LAN, LOCAL
from ringwise.core.gossip.roster import Peer
from ringwise.core.gossip.suspicion import Suspicion
from ringwise.sim.gossip_network import GENERATION, GossipNetwork, address_of, node_id

A, B, C, D, E = (node_id(index) for index in range(5))


def a_pause_is_no_death() -> None:
    net = GossipNetwork(5, 1, LOCAL)
    net.pause(A, 2_000)
    net.run(20_000)
    assert not net.deaths()


def a_restart_is_alive() -> None:
    net = GossipNetwork(5, 1, LOCAL)
    net.kill(A)
    net.run(10_000)
    net.start(A, GENERATION + 1)
    assert net.run(5_000, until=net.whole)


def an_accuser_counts_once() -> None:
    member = Membership(A, address_of(0), GENERATION, LAN, random.Random(1))
    member.follow({node_id(index): address_of(index) for index in range(5)}, 0)
    for _ in range(10):
        member._merge(Update(B, 7, State.SUSPECT, address_of(1), C), 0)
    suspicion = member._roster.peers[B].suspicion
    assert suspicion is not None
    assert suspicion.due_ms == LAN.suspicion_min_ms * LAN.suspicion_max_factor
    for accuser in (D, E, A):
        member._merge(Update(B, 6, State.SUSPECT, address_of(1), accuser), 0)
    assert suspicion.due_ms == LAN.suspicion_min_ms * LAN.suspicion_max_factor  # that was an older incarnation
    for accuser in (D, E, A):
        member._merge(Update(B, 7, State.SUSPECT, address_of(1), accuser), 0)
    assert suspicion.due_ms == LAN.suspicion_min_ms


SCENARIOS = [a_pause_is_no_death, a_restart_is_alive, an_accuser_counts_once]


def refutation_ignored(patch: pytest.MonkeyPatch) -> None:
    def deaf(membership: Membership, update: Update, now_ms: float) -> None:
        pass

    patch.setattr(Membership, "_refute", deaf)


def incarnation_compared_the_wrong_way(patch: pytest.MonkeyPatch) -> None:
    def is_news(peer: Peer, update: Update) -> bool:
        return update.incarnation < peer.incarnation or update.state > peer.state

    patch.setattr(Peer, "is_news", is_news)


def confirmations_counted_twice_from_one_node(patch: pytest.MonkeyPatch) -> None:
    confirm = Suspicion.confirm

    def careless(suspicion: Suspicion, by: bytes) -> bool:
        return confirm(suspicion, by + bytes([len(suspicion.accusers)]))

    patch.setattr(Suspicion, "confirm", careless)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_fault_all_hold(scenario: Callable[[], None]) -> None:
    scenario()


@pytest.mark.parametrize(
    ("fault", "scenario"),
    [
        (refutation_ignored, a_pause_is_no_death),
        (incarnation_compared_the_wrong_way, a_restart_is_alive),
        (confirmations_counted_twice_from_one_node, an_accuser_counts_once),
    ],
)
def test_a_fault_is_noticed(
    fault: Callable[[pytest.MonkeyPatch], None], scenario: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        scenario()
