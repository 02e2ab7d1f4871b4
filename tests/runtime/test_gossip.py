"""Datagrams over real sockets: lost, mad or refused, they harm nobody; and links keep alive whom datagrams do not reach."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
import uvloop
from tests.core.cluster import DictStore
from tests.runtime.test_peers import free_ports, until

from ringwise.core.agreement import Agreement
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.gossip.packets import DATAGRAM_BYTES_MAX, Address, Outgoing, State
from ringwise.core.gossip.presets import LOCAL, PRESETS
from ringwise.core.messages import NodeId
from ringwise.core.node import Node
from ringwise.core.topology import Document, Member, Topology, found, join
from ringwise.runtime.gossip import Datagrams
from ringwise.runtime.peers import Peers
from ringwise.runtime.turn import Turn

HOST = "127.0.0.1"


@dataclass
class Ear:
    """Keeps what it hears; a turn of its own does nothing."""

    datagrams: list[Outgoing] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    turns: int = 0
    cut: str = ""
    pressure = 0.0

    def receive(self, payload: bytes, now_ms: float) -> None:
        assert self.turns and payload != b"poison"
        self.heard.append(payload)

    def say(self, host: str, port: int, payload: bytes) -> None:
        self.datagrams.append(Outgoing(b"", Address(host, port, 1, 2, 3), payload, False))

    def begin(self, wall_ms: int, now_ms: float) -> None:
        self.turns += 1

    def end_turn(self) -> None: ...
    def tick(self) -> None: ...

    def background(self, budget_ms: float) -> bool:
        return False


def with_socket(scenario: Callable[[Ear, Datagrams, int], Awaitable[None]]) -> None:
    async def run() -> None:
        loop, ear = asyncio.get_running_loop(), Ear()
        turn = Turn(loop, ear, ear, lambda: None, lambda _: None)
        datagrams = Datagrams(loop, ear, turn, lambda: 0.0, lambda: ear.cut)
        (port,) = free_ports(1)
        await datagrams.listen((HOST, port))
        try:
            await scenario(ear, datagrams, port)
        finally:
            datagrams.close()
            await turn.ended()

    uvloop.run(run())


def test_whatever_comes_is_handed_on_and_what_is_too_long_is_cut() -> None:
    async def scenario(ear: Ear, _: Datagrams, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for payload in (b"", b"\x00", b"x" * 60_000, b"last"):
                sender.sendto(payload, (HOST, port))
        await until(lambda: len(ear.heard) == 4)
        assert [len(payload) for payload in ear.heard] == [0, 1, DATAGRAM_BYTES_MAX + 1, 4]

    with_socket(scenario)


def test_a_packet_that_cannot_be_handled_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(ear: Ear, datagrams: Datagrams, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for payload in (b"poison", b"poison", b"food"):
                sender.sendto(payload, (HOST, port))
        await until(lambda: ear.heard == [b"food"])
        assert datagrams.failed == 2 and caplog.text.count("datagram_failed") <= 1, "told once"

    with_socket(scenario)


def test_a_refused_port_an_unknown_name_and_a_closed_socket_lose_only_the_datagram() -> None:
    async def scenario(ear: Ear, datagrams: Datagrams, port: int) -> None:
        (nobody,) = free_ports(1)
        for _ in range(3):
            ear.say(HOST, nobody, b"to nobody")
            ear.say("no-such-host.invalid", port, b"to a name that is none")
            ear.say("::1", port, b"to another family")
            for impossible in ("a\0b", "x" * 100, "..", ""):
                ear.say(impossible, port, b"to no name at all")
            ear.say(HOST, port, b"to itself")
            datagrams.flush()
        await until(lambda: ear.heard == [b"to itself"] * 3)
        datagrams.close()
        ear.say(HOST, port, b"too late")
        datagrams.flush()
        assert ear.datagrams == []

    with_socket(scenario)


def test_a_name_is_looked_up_and_meanwhile_datagrams_to_it_are_lost() -> None:
    async def scenario(ear: Ear, datagrams: Datagrams, port: int) -> None:
        def heard() -> bool:
            ear.say("localhost", port, b"hello")
            datagrams.flush()
            return bool(ear.heard)

        assert not heard()
        await until(heard)

    with_socket(scenario)


@pytest.mark.parametrize(("cut", "sends", "hears"), [("both", 0, 0), ("out", 0, 1), ("in", 1, 0), ("", 1, 1)])
def test_a_node_that_is_cut_off_loses_the_datagrams_of_that_direction(cut: str, sends: int, hears: int) -> None:
    async def scenario(ear: Ear, datagrams: Datagrams, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((HOST, 0))
            other.setblocking(False)
            ear.cut = cut
            ear.say(HOST, other.getsockname()[1], b"from here")
            datagrams.flush()
            other.sendto(b"from there", (HOST, port))
            if hears:
                await until(lambda: ear.heard == [b"from there"])
            else:
                ear_before = len(ear.heard)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(ear.heard) == ear_before == 0
            assert datagrams.sent == sends

    with_socket(scenario)


@dataclass
class Running:
    """A node with real sockets and no clients."""

    node: Node
    peers: Peers
    datagrams: Datagrams
    turn: Turn

    def state(self, other: Running) -> State:
        return self.node.liveness.state(other.node.id)


async def start(member: Member, document: Document) -> Running:
    loop, rng, store = asyncio.get_running_loop(), random.Random(member.name), DictStore()
    topology = Topology()
    topology.install(document)
    agreed, config = Agreement(member.id, topology, rng, None), NodeConfig(membership="fast", repair_interval_ms=0)
    dots, clock = DotSource(member.id, b"inc1"), Clock(config.max_clock_offset_ms)
    node = Node(member, topology, agreed, store, dots, clock, lambda _: None, config, rng, 1_700_000_000_000)
    datagrams: Datagrams

    def fail(error: BaseException) -> None:
        raise error

    turn = Turn(loop, node, Ear(), lambda: datagrams.flush(), fail)
    peers = Peers(loop, node, turn, rng, lambda *_: None)
    datagrams = Datagrams(loop, node.liveness, turn, lambda: node.now.now_ms, lambda: peers.cut)
    await peers.listen((HOST, member.peer_port))
    await datagrams.listen((HOST, member.peer_port))
    turn.enter()
    turn.start()
    peers.follow()
    return Running(node, peers, datagrams, turn)


def with_cluster(
    monkeypatch: pytest.MonkeyPatch, scenario: Callable[[list[Running]], Awaitable[None]], times: float = 5
) -> None:
    """Three nodes that probe so many times as often as on a real machine, so that a test has not to wait. Where nobody may be
    called dead, they need the time to answer that a busy machine takes."""
    slow = (name for name in LOCAL.__struct_fields__ if name.endswith("_ms"))
    fast = msgspec.structs.replace(LOCAL, name="fast", **{name: getattr(LOCAL, name) / times for name in slow})
    monkeypatch.setitem(PRESETS, "fast", fast)

    async def run() -> None:
        ports = free_ports(3)
        members = [Member(f"n{i}", bytes([i] * 6), HOST, port, 1, 2) for i, port in enumerate(ports, 1)]
        document = found(bytes(16), members[0])
        for member in members[1:]:
            joined = join(document, member)
            assert joined is not None
            document = joined
        running = [await start(member, document) for member in members]
        try:
            await until(lambda: all(len(each.node.peers.links) == 2 for each in running))
            # Who has not had its first tick follows nobody yet, and takes all for dead.
            await until(lambda: all(one.state(other) == State.ALIVE for one in running for other in running))
            await scenario(running)
        finally:
            for each in running:
                each.turn.stop()
                await each.peers.close()
                each.datagrams.close()
                await each.turn.ended()
            await until(lambda: not any(each.peers.links for each in running))

    uvloop.run(run())


def test_a_blocked_udp_port_alone_is_no_death_and_a_closed_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(running: list[Running]) -> None:
        a, b, c = running
        deaths: list[NodeId] = []
        for each in running:
            each.node.liveness.watchers.append(lambda node, _, after: deaths.extend([node] * (after == State.DEAD)))
        c.datagrams.close()
        rounds = LOCAL.suspicion_min_ms / LOCAL.probe_interval_ms
        probes = [each.datagrams.sent for each in (a, b)]
        await until(
            lambda: all(each.datagrams.sent - before > 5 * rounds for each, before in zip((a, b), probes, strict=True))
        )
        assert deaths == [] and a.node.is_up(c.node.id) and c.node.is_up(a.node.id)
        c.turn.stop()  # nothing of it runs any more
        await c.peers.close()
        await until(lambda: a.state(c) == b.state(c) == State.DEAD)
        assert set(deaths) == {c.node.id} and a.state(b) == State.ALIVE

    with_cluster(monkeypatch, scenario, times=2)


def test_garbage_on_the_peer_port_is_counted_and_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(running: list[Running]) -> None:
        a, b, _ = running
        rng = random.Random(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(50):
                sender.sendto(rng.randbytes(rng.randint(0, 1_500)), (HOST, a.node.member.peer_port))
                await asyncio.sleep(0)
        await until(lambda: a.node.liveness.told()["garbage"] >= 50)
        assert a.state(b) == b.state(a) == State.ALIVE and a.node.liveness.told()["deaths"] == 0

    with_cluster(monkeypatch, scenario, times=1)


def test_a_clean_stop_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(running: list[Running]) -> None:
        a, b, c = running
        c.turn.enter()
        c.node.leave()
        await until(lambda: a.state(c) == b.state(c) == State.LEFT)

    with_cluster(monkeypatch, scenario)
