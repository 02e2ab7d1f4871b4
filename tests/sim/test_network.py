"""What can happen to frames: each fault alone, between two hosts that do nothing but note."""

import random

from ringwise.core.messages import Forwarded, Message, encode
from ringwise.sim.network import Network, Side, Weather
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.trace import Trace


class Ear:
    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.heard: list[int] = []
        self.sides: list[Side] = []
        self.lost: list[Side] = []
        self.failed: list[str] = []
        self.sends = 0
        self.datagrams: list[bytes] = []

    def accepted(self, side: Side) -> None:
        self.sides.append(side)

    def connected(self, side: Side) -> None:
        self.sides.append(side)

    def dial_failed(self, name: str) -> None:
        self.failed.append(name)

    def received(self, side: Side, messages: list[Message]) -> None:
        for message in messages:
            assert isinstance(message, Forwarded)
            self.heard.append(message.id)

    def broken(self, side: Side) -> None:
        self.lost.append(side)

    def sent(self, side: Side) -> None:
        self.sends += 1

    def datagram(self, payload: bytes) -> None:
        self.datagrams.append(payload)


def pair(weather: Weather | None = None, bound: int = 1 << 20) -> tuple[Scheduler, Network, Ear, Ear]:
    scheduler = Scheduler()
    network = Network(scheduler, random.Random(7), bound, Trace(lambda: scheduler.now_ms))
    a, b = Ear("a"), Ear("b")
    network.dial(a, b)
    scheduler.run(100)
    network.weather = weather or Weather()
    return scheduler, network, a, b


def say(side: Side, *numbers: int) -> bool:
    side.outbox += [encode(Forwarded(number, [], 0)) for number in numbers]
    return side.flush()


def test_datagrams_have_chances_of_their_own_and_a_blocked_direction_loses_them() -> None:
    scheduler, network, a, b = pair(Weather(datagram_loss=0.2, datagram_duplicate=0.1, datagram_late=0.1))
    sent = [b"%04d" % number for number in range(1_000)]
    for payload in sent:
        network.datagram(a, b, payload)
        scheduler.run(scheduler.now_ms + 1)
    scheduler.run(scheduler.now_ms + 1_000)
    arrived = b.datagrams
    assert 750 < len(set(arrived)) < 850, "lost"
    assert 50 < len(arrived) - len(set(arrived)) < 150, "doubled"
    assert arrived != sorted(arrived), "out of order"
    assert network.troubled_ms > 0, "and whoever judges deaths can know it"

    network.weather = Weather(datagram_loss=0.0, datagram_duplicate=0.0)
    network.block({("a", "b")})
    network.datagram(a, b, b"blocked")
    network.datagram(b, a, b"there")
    scheduler.run(scheduler.now_ms + 100)
    network.heal()
    scheduler.run(scheduler.now_ms + 1_000)
    assert a.datagrams == [b"there"] and b.datagrams == arrived


def test_frames_arrive_once_and_in_order() -> None:
    scheduler, _, a, b = pair()
    for number in range(0, 100, 2):
        assert say(a.sides[0], number, number + 1)
    scheduler.run(200)
    assert b.heard == list(range(100))
    assert a.sends == 50
    assert say(b.sides[0], 5)
    scheduler.run(300)
    assert a.heard == [5]


def test_noise_loses_doubles_and_reorders() -> None:
    scheduler, network, a, b = pair(Weather(1, 1, loss=0.2, duplicate=0.2, reorder=0.2))
    for number in range(200):
        say(a.sides[0], number)
    scheduler.run(1_000)
    assert network.lost > 10
    assert network.doubled > 10
    assert len(set(b.heard)) < 200 < len(b.heard) + network.lost
    assert b.heard != sorted(b.heard)
    assert a.sides[0].under_way == 0


def test_a_partition_holds_frames_until_it_heals() -> None:
    scheduler, network, a, b = pair()
    network.block({("a", "b")})
    say(a.sides[0], 1)
    say(b.sides[0], 2)
    scheduler.run(400)
    assert b.heard == []
    assert a.heard == [2], "the other direction is not blocked"
    network.heal()
    scheduler.run(500)
    assert b.heard == [1]


def test_a_connection_through_a_partition_is_given_up_and_no_new_one_made() -> None:
    scheduler, network, a, b = pair()
    network.block({("a", "b"), ("b", "a")})
    scheduler.run(11_000)
    assert a.lost == a.sides
    assert b.lost == b.sides
    network.dial(a, b)
    scheduler.run(12_000)
    assert a.failed == ["b"]
    network.heal()
    network.dial(a, b)
    scheduler.run(13_000)
    assert len(a.sides) == len(b.sides) == 2


def test_a_dead_host_breaks_its_connections_after_what_was_under_way() -> None:
    scheduler, network, a, b = pair()
    say(a.sides[0], 1)
    a.up = False
    network.host_died(a)
    scheduler.run(200)
    assert b.heard == [1]
    assert b.lost == b.sides
    assert not say(b.sides[0], 2)


def test_a_break_is_told_to_both_ends() -> None:
    scheduler, network, a, b = pair()
    assert network.break_between("b", "a") == 1
    scheduler.run(200)
    assert a.lost == a.sides
    assert b.lost == b.sides
    assert network.sides == []


def test_past_its_bound_a_send_buffer_takes_nothing(bound: int = 200) -> None:
    scheduler, network, a, b = pair(bound=bound)
    network.block({("a", "b")})
    side = a.sides[0]
    taken = sum(say(side, number) for number in range(100))
    assert 0 < taken < 100
    assert not side.ready()
    network.heal()
    scheduler.run(200)
    assert side.ready()
    assert b.heard == list(range(taken))
