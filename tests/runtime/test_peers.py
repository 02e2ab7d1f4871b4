"""Links over real sockets, between stand-ins for nodes: Hello first, bounded buffers, back again after a loss."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uvloop

from ringwise.core.agreement import Known
from ringwise.core.messages import Hello, Message, encode
from ringwise.core.topology import Member, Topology, found, join
from ringwise.runtime.peers import SEND_BUFFER_BYTES_MAX, Link, Peers
from ringwise.runtime.turn import Turn

CLUSTER = bytes(16)


class FakeNode:
    """Keeps what it is given."""

    def __init__(self, number: int, port: int, cluster: bytes = CLUSTER) -> None:
        self.id = bytes([number] * 6)
        self.member = Member(f"n{number}", self.id, "127.0.0.1", port, port + 1, port + 2)
        self.cluster = cluster
        self.topology = Topology()
        self.links: list[Link] = []
        self.ups = 0
        self.received: list[tuple[bytes, Message]] = []
        self.answer = False
        self.refused: list[str] = []
        self.moved: dict[bytes, tuple[str, int]] = {}

    def hello(self) -> Hello:
        return Hello(
            1, self.cluster, self.id, self.member.name, 7, self.topology.epoch, "127.0.0.1", self.member.peer_port
        )

    def addresses(self) -> dict[bytes, tuple[str, int]]:
        members = self.topology.members.values()
        listed = {member.id: (member.host, member.peer_port) for member in members if member.id != self.id}
        return listed | self.moved

    def check_hello(self, hello: Hello) -> str | None:
        return None if hello.cluster in (self.cluster, b"") else "another cluster"

    def link_up(self, link: Link) -> None:
        self.links.append(link)
        self.ups += 1

    def link_down(self, link: Link) -> None:
        self.links.remove(link)

    def receive(self, link: Link, message: Message) -> None:
        self.received.append((link.peer, message))
        if self.answer:
            link.outbox.append(encode(Known(99, False)))
            assert link.flush()

    def begin(self, wall_ms: int, now_ms: float) -> None: ...
    def end_turn(self) -> None: ...
    def tick(self) -> None: ...

    pressure = 0.0

    def background(self, budget_ms: float) -> bool:
        return budget_ms < 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def make_peers(node: FakeNode) -> Peers:
    loop = asyncio.get_running_loop()
    turn = Turn(loop, node, node, lambda: None, lambda _: None)
    return Peers(loop, node, turn, random.Random(1), lambda _, reason: node.refused.append(reason))


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in with_sockets]
    for listener in with_sockets:
        listener.close()
    return ports


@dataclass
class Pair:
    """Two nodes and their shells."""

    first: FakeNode
    a: Peers
    second: FakeNode
    b: Peers


def with_pair(scenario: Callable[[Pair], Awaitable[None]], **other: bytes) -> None:
    """Runs a scenario with two nodes that listen and are members of one document, and do not yet dial."""

    async def run() -> None:
        first_port, second_port = free_ports(2)
        first, second = FakeNode(1, first_port), FakeNode(2, second_port, **other)
        document = found(CLUSTER, first.member)
        both = join(document, second.member)
        assert both is not None
        shells = []
        for node in (first, second):
            node.topology.install(both)
            peers = make_peers(node)
            await peers.listen(("127.0.0.1", node.member.peer_port))
            shells.append(peers)
        try:
            await scenario(Pair(first, shells[0], second, shells[1]))
        finally:
            for peers in shells:
                await peers.close()
            await until(lambda: not any(peers.links for peers in shells))

    uvloop.run(run())


def test_each_dials_the_other_and_answers_come_back_on_the_same_link() -> None:
    async def scenario(pair: Pair) -> None:
        pair.second.answer = True
        pair.a.follow()
        pair.b.follow()
        await until(lambda: pair.first.ups == 1 and pair.second.ups == 1)
        assert pair.first.links[0].peer == pair.second.id
        assert len(pair.a.links) == len(pair.b.links) == 2
        pair.first.links[0].outbox.append(encode(Known(1, True)))
        assert pair.first.links[0].flush()
        await until(lambda: bool(pair.first.received))
        assert pair.second.received == [(pair.first.id, Known(1, True))]
        assert pair.first.received == [(pair.second.id, Known(99, False))]

    with_pair(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract name space is Linux's")
def test_on_one_machine_links_are_unix_sockets() -> None:
    """Half the system time of TCP; falling back to that works as well, so nothing else would tell."""

    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        pair.b.follow()
        await until(lambda: pair.first.ups == 1 and pair.second.ups == 1)
        families = [link.family() for peers in (pair.a, pair.b) for link in peers.links]
        assert families == [socket.AF_UNIX] * 4

    with_pair(scenario)


def test_a_broken_link_goes_down_once_and_comes_back() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)
        lost = pair.first.links[0]
        for link in list(pair.b.links):
            link.abort()
            assert not link.ready() and not link.flush()  # before the event loop has told of its end, too
        await until(lambda: not pair.first.links)
        assert not lost.ready()
        lost.outbox.append(encode(Known(1, True)))
        assert not lost.flush()
        await until(lambda: pair.first.ups == 2)
        assert pair.first.links[0] is not lost

    with_pair(scenario)


def test_a_node_of_another_cluster_is_refused_on_both_sides() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: bool(pair.first.refused))
        assert pair.first.refused[0] == "another cluster"
        assert pair.first.ups == 0 and not pair.first.received and not pair.second.received

    with_pair(scenario, cluster=b"x" * 16)


def test_a_dialled_address_where_another_member_answers_is_refused() -> None:
    async def scenario(pair: Pair) -> None:
        pair.second.id = bytes([3] * 6)
        pair.a.follow()
        await until(lambda: bool(pair.first.refused))
        assert pair.first.refused[0].startswith("another node answers there: n2")
        assert pair.first.ups == 0

    with_pair(scenario)


def test_the_address_named_by_join_is_dialled_whoever_is_there_and_kept_as_a_member() -> None:
    async def scenario(pair: Pair) -> None:
        documents = pair.first.topology
        pair.first.topology = Topology()
        pair.a.follow()
        pair.a.dial_seed(("127.0.0.1", pair.second.member.peer_port))
        await until(lambda: pair.first.ups == 1)
        pair.first.topology = documents
        pair.a.follow()
        assert [link.peer for link in pair.first.links] == [pair.second.id]
        assert len(pair.a.links) == 1 and pair.first.ups == 1

    with_pair(scenario)


def test_a_member_with_a_new_address_is_dialled_there() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)
        (port,) = free_ports(1)
        moved = Member("n2", pair.second.id, "127.0.0.1", port, 1, 2)
        assert pair.first.topology.document is not None
        document = join(pair.first.topology.document, moved)
        assert document is not None and pair.first.topology.install(document)
        pair.b.stop_listening()
        await pair.b.listen(("127.0.0.1", port))
        pair.a.follow()
        await until(lambda: pair.first.ups == 2)
        await until(lambda: len(pair.first.links) == 1)
        assert pair.first.links[0].ready()

    with_pair(scenario)


def test_a_member_that_has_moved_is_dialled_where_gossip_says_it_is() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)
        (port,) = free_ports(1)
        pair.b.stop_listening()
        await pair.b.listen(("127.0.0.1", port))
        pair.first.moved[pair.second.id] = ("127.0.0.1", port)
        pair.a.follow()
        await until(lambda: pair.first.ups == 2 and len(pair.first.links) == 1)
        assert pair.first.links[0].ready()

    with_pair(scenario)


@pytest.mark.parametrize("host", ["x" * 100, "a\0b", "", ".."])
def test_a_host_that_is_none_is_complained_about_and_harms_nobody(host: str) -> None:
    async def scenario(pair: Pair) -> None:
        home = pair.first.addresses()[pair.second.id]
        pair.first.moved[pair.second.id] = (host, home[1])
        pair.a.follow()
        (dialer,) = pair.a._dialers.values()
        await until(lambda: bool(dialer.complaint))
        pair.first.moved.clear()
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)

    with_pair(scenario)


def test_past_the_bound_of_its_buffer_a_link_takes_nothing_until_it_has_drained() -> None:
    """B3: what does not fit counts as no answer."""

    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)
        link = pair.first.links[0]
        frame = encode(Hello(1, b"", pair.second.id, "x" * 1_000_000, 1, 1, "", 1))
        sent = 0
        while link.ready():  # in one iteration of the loop, so that nothing drains meanwhile
            link.outbox.append(frame)
            assert link.flush()
            sent += 1
        assert sent * len(frame) > SEND_BUFFER_BYTES_MAX
        link.outbox.append(frame)
        assert not link.flush() and not link.outbox
        await until(link.ready)
        await until(lambda: len(pair.second.received) == sent)

    with_pair(scenario)


def test_garbage_and_silence_and_a_first_frame_that_is_no_hello_close_the_link() -> None:
    async def scenario(pair: Pair) -> None:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", encode(Known(1, True))):
            reader, writer = await asyncio.open_connection("127.0.0.1", pair.second.member.peer_port)
            writer.write(nonsense)
            with contextlib.suppress(ConnectionResetError):
                await reader.read()  # its Hello, then the end
            writer.close()
        await until(lambda: not pair.b.links)
        assert not pair.second.received

    with_pair(scenario)


def test_what_is_cut_in_one_direction_vanishes_while_links_stand_and_a_heal_makes_new_ones() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        pair.b.follow()
        await until(lambda: pair.first.ups == 1 and pair.second.ups == 1)
        there, back = pair.first.links[0], pair.second.links[0]

        def send(link: Link, number: int) -> None:
            link.outbox.append(encode(Known(number, True)))
            assert link.flush() and link.ready()

        pair.b.isolate("in")
        send(there, 1)
        send(back, 2)
        await until(lambda: bool(pair.first.received))
        assert pair.first.received == [(pair.second.id, Known(2, True))] and not pair.second.received
        pair.b.isolate("")  # `there` has a hole, `back` has none
        await until(lambda: pair.first.ups == 2)
        assert pair.second.ups == 1 and back.ready() and not there.ready()
        pair.b.isolate("out")
        send(back, 3)
        send(pair.first.links[0], 4)
        await until(lambda: bool(pair.second.received))
        assert pair.second.received == [(pair.first.id, Known(4, True))]
        pair.b.isolate("")
        await until(lambda: pair.second.ups == 2)
        send(pair.second.links[0], 5)
        await until(lambda: len(pair.first.received) == 2)
        assert pair.first.received[1] == (pair.second.id, Known(5, True)) and pair.first.ups == 2

    with_pair(scenario)


def test_a_cut_in_one_direction_ends_links_as_tcp_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.runtime.peers.SILENCE_MS_MAX", 50)

    async def scenario(pair: Pair) -> None:
        pair.a.follow()
        await until(lambda: pair.first.ups == 1)
        pair.b.isolate("out")
        assert pair.first.links
        await until(lambda: not pair.first.links)
        pair.b.isolate("both")
        pair.b.isolate("")
        await until(lambda: pair.first.ups == 2)
        assert pair.first.links[0].ready()

    with_pair(scenario)
