"""Properties: any order of updates gives one view; no bytes do harm; limits hold."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.gossip.broadcasts import Broadcasts
from ringwise.core.gossip.membership import Membership
from ringwise.core.gossip.packets import (
    DATAGRAM_BYTES_MAX,
    Ack,
    Ask,
    Nack,
    Packet,
    Ping,
    State,
    Sync,
    Tell,
    Update,
    decode,
    encode,
)
from ringwise.core.gossip.presets import LAN
from ringwise.sim.gossip_network import GENERATION, address_of, node_id

A, B, C, D = (node_id(index) for index in range(4))
LISTED = {node_id(index): address_of(index) for index in range(4)}

others = st.sampled_from([B, C, D])
incarnations = st.integers(1, 4)


def member() -> Membership:
    one = Membership(A, LISTED[A], GENERATION, LAN, random.Random(1))
    one.follow(LISTED, 0)
    return one


@st.composite
def updates(draw: st.DrawFn) -> Update:
    address = address_of(draw(st.integers(10, 12)))
    return Update(draw(others), draw(incarnations), draw(st.sampled_from(State)), address, draw(others))


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    me = Update(draw(others), draw(incarnations), State.ALIVE, address_of(draw(st.integers(10, 12))))
    news = draw(st.lists(updates(), max_size=4))
    number, target = draw(st.integers(0, 9)), draw(st.sampled_from([A, B, C, D]))
    kind = draw(st.integers(0, 5))
    if kind >= 4:
        return Tell(me, news) if kind == 4 else Sync(me, news, draw(st.booleans()))
    return (Ping, Ack, Ask, Nack)[kind](me, news, number, target)


def view(one: Membership) -> list[object]:
    return [(one.state(node), one.incarnation(node), one.address(node)) for node in (B, C, D)]


@given(st.lists(packets(), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_matter(sent: list[Packet], shuffle: random.Random) -> None:
    one, other = member(), member()
    for packet in sent:
        one.receive(encode(packet), 1)
    again = sent + sent[:3]
    shuffle.shuffle(again)
    for packet in again:
        other.receive(encode(packet), 1)
    assert view(one) == view(other)


@given(st.binary(max_size=200))
def test_random_bytes_are_counted_and_do_nothing(payload: bytes) -> None:
    one = member()
    before = view(one)
    for prefix in (b"", b"\x01", b"\x01\x97\x01"):
        one.receive(prefix + payload, 1)
    assert one.garbage + one.strangers == 3
    assert not one.outbox
    assert view(one) == before


@given(packets(), st.integers(0, 60), st.integers(1, 255))
def test_a_damaged_packet_raises_nothing(packet: Packet, position: int, flip: int) -> None:
    one = member()
    payload = bytearray(encode(packet))
    payload[position % len(payload)] ^= flip
    one.receive(bytes(payload), 1)
    one.tick(100_000)
    one.tick(200_000)


@given(packets())
def test_what_is_encoded_is_decoded(packet: Packet) -> None:
    assert decode(encode(packet)) == packet


def test_another_version_is_garbage() -> None:
    one = member()
    payload = encode(Tell(Update(B, 7, State.ALIVE, LISTED[B]), []))
    one.receive(b"\x02" + payload[1:], 1)
    assert one.garbage == 1
    one.receive(payload, 1)
    assert one.garbage == 0 + 1
    assert one.incarnation(B) == 7


def test_an_old_state_never_beats_a_newer_incarnation() -> None:
    one = member()
    one._merge(Update(B, 7, State.ALIVE, LISTED[B]), 1)
    for state in State:
        one._merge(Update(B, 6, state, address_of(50)), 1)
    assert one.state(B) == State.ALIVE
    assert one.address(B) == LISTED[B]


def test_what_is_said_of_this_node_is_outbid() -> None:
    one = member()
    for ahead, state in enumerate(State):
        one._merge(Update(A, GENERATION + 10 * ahead, state, address_of(50)), 1)
        assert one.incarnation(A) == GENERATION + 10 * ahead + 1
        assert one.state(A) == State.ALIVE
        assert one.address(A) == LISTED[A]


def test_news_is_told_least_told_first_and_not_for_ever() -> None:
    queue = Broadcasts()
    for index in range(100):
        queue.add(Update(node_id(index), 5, State.DEAD, address_of(index)))
    told: dict[bytes, int] = {}
    while queue:
        taken = queue.take(DATAGRAM_BYTES_MAX, 4)
        assert sum(len(encode(Tell(update, []))) for update in taken) < DATAGRAM_BYTES_MAX + 5 * len(taken)
        for update in taken:
            told[update.node] = told.get(update.node, 0) + 1
        assert max(told.values()) - min(told.get(node_id(index), 0) for index in range(100)) <= 1
    assert set(told.values()) == {4}
