"""The client port: bytes in, one write out, and no reading from those who do not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
import uvloop

from ringwise.runtime import server as server_module
from ringwise.runtime.server import ClientServer
from ringwise.runtime.turn import Turn
from ringwise.server.clients import Clients


class FakeNode:
    def begin(self, wall_ms: int, now_ms: float) -> None: ...
    def end_turn(self) -> None: ...
    def tick(self) -> None: ...

    pressure = 0.0

    def background(self, budget_ms: float) -> bool:
        return budget_ms < 0


class Echo:
    """In place of a session: says a thousand times what it hears, and reads no more while that is not taken."""

    born: ClassVar[list[Echo]] = []

    def __init__(
        self,
        _node: object,
        write: Callable[[bytes], None],
        _close: Callable[[], None],
        *,
        later: Callable[[Callable[[], None]], None],
        pause_reading: Callable[[], None],
        resume_reading: Callable[[], None],
        **_: object,
    ) -> None:
        self.heard = 0
        self.gone = False
        self.pending = False
        self.later = later
        self.pause_writing = pause_reading
        self.resume_writing = resume_reading
        self._write = write
        self.born.append(self)

    def receive(self, data: bytes) -> None:
        if data.startswith(b"crash"):
            raise RuntimeError("as a mistake in a command would")
        self.heard += len(data)
        if data == b"later":
            self.later(lambda: self._write(b"now"))
        else:
            self._write(data * 1000)

    def closed(self) -> None:
        self.gone = True

    def busy(self) -> bool:
        return self.pending


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "Session", Echo)
    monkeypatch.setattr(Echo, "born", [])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@dataclass
class Served:
    """A client port that listens."""

    server: ClientServer
    sessions: list[Echo]
    port: int


def serving(scenario: Callable[[Served], Awaitable[None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        node = FakeNode()
        turn = Turn(loop, node, node, lambda: None, lambda _: None)
        server = ClientServer(loop, turn, cast(Any, node), Clients())
        await server.listen("127.0.0.1", 0)
        assert server.address is not None
        try:
            await scenario(Served(server, Echo.born, server.address[1]))
        finally:
            await server.drain(0)
            server.close()
            await until(lambda: not server.connections)

    uvloop.run(run())


def test_a_client_that_does_not_read_is_not_read_from_and_goes_on_later() -> None:
    async def scenario(it: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=2**16)
        total = 64 * 1024 * 1024
        writer.transport.set_write_buffer_limits(high=2 * total)
        # Each byte asks for a thousand; unread, that would be 64 GB in the node's memory.
        writer.write(bytes(total))
        await until(lambda: bool(it.sessions) and it.sessions[0].heard > 0)
        settled = -1
        while settled != it.sessions[0].heard:
            settled = it.sessions[0].heard
            for _ in range(20):
                await asyncio.sleep(0)
        assert settled < 2 * 1024 * 1024
        while it.sessions[0].heard == settled:
            await reader.read(2**16)
        writer.transport.abort()
        await until(lambda: it.sessions[0].gone)

    serving(scenario)


def test_clients_whose_machine_has_died_are_not_kept_for_ever() -> None:
    async def scenario(it: Served) -> None:
        with socket.create_connection(("127.0.0.1", it.port)):
            await until(lambda: len(it.server.connections) == 1)
            (connection,) = it.server.connections
            accepted = connection._socket
            assert accepted is not None
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == server_module.KEEPALIVE_S

    serving(scenario)


def test_a_mistake_in_one_request_closes_that_connection_alone() -> None:
    async def scenario(it: Served) -> None:
        bad_reader, bad_writer = await asyncio.open_connection("127.0.0.1", it.port)
        good_reader, good_writer = await asyncio.open_connection("127.0.0.1", it.port)
        bad_writer.write(b"crash")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await bad_reader.readexactly(1)
        good_writer.write(b"a")
        assert await good_reader.readexactly(1000) == b"a" * 1000
        for writer in (bad_writer, good_writer):
            writer.close()
        await until(lambda: all(session.gone for session in it.sessions))

    serving(scenario)


def test_what_a_session_puts_off_runs_in_a_later_turn() -> None:
    async def scenario(it: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"later")
        assert await reader.readexactly(3) == b"now"
        writer.close()
        await until(lambda: it.sessions[0].gone)

    serving(scenario)


def test_past_the_greatest_number_of_connections_the_next_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 1)

    async def scenario(it: Served) -> None:
        _, first = await asyncio.open_connection("127.0.0.1", it.port)
        await until(lambda: len(it.sessions) == 1)
        reader, second = await asyncio.open_connection("127.0.0.1", it.port)
        assert await reader.read() == b"-ERR max number of clients reached\r\n"
        for writer in (first, second):
            writer.close()
        await until(lambda: it.sessions[0].gone)
        assert len(it.sessions) == 1

    serving(scenario)


def test_draining_takes_nothing_new_and_waits_for_what_is_unanswered() -> None:
    async def scenario(it: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"a")
        await reader.readexactly(1000)
        it.sessions[0].pending = True
        draining = asyncio.create_task(it.server.drain(5))
        await until(lambda: it.server.stopping)
        writer.write(b"b")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", it.port)
        assert not draining.done() and it.sessions[0].heard == 1
        it.sessions[0].pending = False
        await draining
        it.server.close()
        with pytest.raises(ConnectionResetError):  # a request that was not read is certain not to have been applied
            await reader.read()
        writer.close()

    serving(scenario)
