"""The client port: one protocol object a connection, plain callbacks, no coroutine for a request.

Bytes go to the connection's session, which queues its replies and is flushed at the end of the turn with one write.
A client that does not read its replies is not read from either, until what is queued for it has drained: its memory
here is bounded by the write limit and by what one read can ask for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from ringwise.runtime import log
from ringwise.runtime.turn import Turn
from ringwise.server.call import Node
from ringwise.server.clients import Clients
from ringwise.server.session import Session

# Past this many bytes of unread replies a connection is paused; a few of the largest values fit.
WRITE_BUFFER_BYTES_MAX = 4 * 1024 * 1024
# As Redis's maxclients.
CONNECTIONS_MAX = 10_000
_TOO_MANY = b"-ERR max number of clients reached\r\n"


class Connection(asyncio.Protocol):
    """Carries bytes between a client and its session; the session writes and closes through it."""

    def __init__(self, server: ClientServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self.session: Session | None = None

    # What the session uses.

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def close(self) -> None:
        """Close once everything written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def later(self, call: Callable[[], None]) -> None:
        """Run a callback as an input of a coming turn."""
        self._server.loop.call_soon(self._resumed, call)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self._server.stopping:
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport = transport
        if len(self._server.connections) >= CONNECTIONS_MAX:
            transport.write(_TOO_MANY)
            transport.close()
            return
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._server.turn.enter()
        self.session = Session(
            self._server.node,
            self.write,
            self.close,
            later=self.later,
            pause_reading=self.pause_reading,
            resume_reading=self.resume_reading,
            clients=self._server.clients,
            address=self._address(),
        )
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            self._server.turn.enter()
            try:
                session.receive(data)
            except Exception as error:
                self._failed(error)

    def pause_writing(self) -> None:
        if self.session is not None:
            self.session.pause_writing()

    def resume_writing(self) -> None:
        session = self.session
        if session is not None:
            self._input(session.resume_writing)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        session, self.session = self.session, None
        if session is not None:
            self._server.connections.discard(self)
            self._server.turn.enter()
            session.closed()

    def _resumed(self, call: Callable[[], None]) -> None:
        if self.session is not None:
            self._input(call)

    def _input(self, call: Callable[[], None]) -> None:
        self._server.turn.enter()
        try:
            call()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """One client's request must not stop the node for all the others."""
        log.error("request_failed", error, client=self._address())
        if self._transport is not None:
            self._transport.abort()

    def _address(self) -> str:
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return "{}:{}".format(*address[:2]) if address else ""


class ClientServer:
    """Accepts clients, and lets go of them when the node stops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, node: Node, clients: Clients) -> None:
        self.loop = loop
        self.turn = turn
        self.node = node
        self.clients = clients
        self.connections: set[Connection] = set()
        self.stopping = False
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        self._server = await self.loop.create_server(lambda: Connection(self), host, port, backlog=1024)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens."""
        return self._server.sockets[0].getsockname() if self._server is not None else None

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and wait until what was taken is answered, or has had its time."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.pause_reading()
        deadline = self.loop.time() + timeout_s
        while self.loop.time() < deadline and any(
            connection.session is not None and connection.session.busy() for connection in self.connections
        ):
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Close every connection; what was written before is still sent."""
        for connection in list(self.connections):
            connection.close()
