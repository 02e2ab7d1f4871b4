"""The client port: one protocol object a connection, plain callbacks, no coroutine for a request.

Bytes go to the connection's session, which queues its replies and is flushed at the end of the turn with one write.
A client that does not read its replies is not read from either, until what is queued for it has drained: its memory
here is bounded by the write limit and by what one read can ask for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from ringwise.runtime import log
from ringwise.runtime.turn import Turn

# Past this many bytes of unread replies a connection is paused; a few of the largest values fit.
WRITE_BUFFER_BYTES_MAX = 4 * 1024 * 1024
# As Redis's maxclients.
CONNECTIONS_MAX = 10_000
_TOO_MANY = b"-ERR max number of clients reached\r\n"


class Session(Protocol):
    """What a connection needs of a session."""

    def receive(self, data: bytes) -> None: ...
    def closed(self) -> None: ...
    def busy(self) -> bool: ...


class Connection(asyncio.Protocol):
    """Carries bytes between a client and its session; the session writes and closes through it."""

    def __init__(self, server: ClientServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self.session: Session | None = None

    # What the session uses.

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def peername(self) -> str:
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return "{}:{}".format(*address[:2]) if address else ""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._server.connections) >= CONNECTIONS_MAX:
            transport.write(_TOO_MANY)
            transport.close()
            return
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self.session = self._server.make_session(self)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        self._server.turn.enter()
        try:
            session.receive(data)
        except Exception as error:
            # One client's request must not stop the node for all the others.
            log.error("request_failed", error, client=self.peername())
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._server.stopping:
            self._transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        session, self.session = self.session, None
        if session is not None:
            self._server.connections.discard(self)
            self._server.turn.enter()
            session.closed()

    def stop_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()


class ClientServer:
    """Accepts clients, and lets go of them when the node stops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        self.turn = turn
        self.connections: set[Connection] = set()
        self.stopping = False
        self.make_session: Callable[[Connection], Session]
        self._loop = loop
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        self._server = await self._loop.create_server(lambda: Connection(self), host, port, backlog=1024)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and wait until what was taken is answered, or has had its time."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.stop_reading()
        deadline = self._loop.time() + timeout_s
        while self._loop.time() < deadline and any(
            connection.session is not None and connection.session.busy() for connection in self.connections
        ):
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Close every connection; what was written before is still sent."""
        for connection in list(self.connections):
            connection.close()
