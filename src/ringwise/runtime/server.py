"""The client port: one poll, one read and one write for each connection that has something to say in a turn.

An event loop's transports cost two to three microseconds of their own for each read and write, more than a command does. So
client sockets are watched by a selector of their own, whose file descriptor the loop watches in turn: one event for all the
clients that are ready, and between the system calls and the sessions nothing but this file (`make bench`, unpipelined).

    loop ─ one event ─▶ selector ─ sockets that are ready ─▶ recv ─▶ Session.receive …… end of the turn ─▶ Session.flush ─▶ send

A client that does not read its replies is not read from either, until what is queued for it has drained: its memory here is
bounded by the write limit and by what one read can ask for.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ringwise.runtime import log
from ringwise.runtime.loopback import unpaced_on_loopback
from ringwise.runtime.turn import Turn
from ringwise.server.call import Node
from ringwise.server.clients import Clients
from ringwise.server.session import Session

# Past this many bytes of unread replies a connection is paused; a few of the largest values fit.
WRITE_BUFFER_BYTES_MAX = 4 * 1024 * 1024
# As Redis's maxclients.
CONNECTIONS_MAX = 10_000
# A read takes what a pipeline usually holds; a connection that fills it is read in larger pieces, up to a frame's size.
READ_BYTES_MIN = 16 * 1024
READ_BYTES_MAX = 256 * 1024
# Connections accepted in one turn: a storm of them must not hold up those that are there.
ACCEPTS_MAX = 64
# Of a turn that brings more commands (pipelines), so many at a time are logged and sent on: the other owners then work while
# this node does, where otherwise they and it would wait for one another.
COMMANDS_MAX = 128
# After accept fails for want of file descriptors, as trying again at once would spin.
ACCEPT_PAUSE_S = 0.1
# A client whose machine died never says so: it is asked after so long a silence, as Redis does, and not kept for ever.
KEEPALIVE_S = 300
BACKLOG = 1024

_TOO_MANY = b"-ERR max number of clients reached\r\n"
_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


class Connection:
    """Carries bytes between a client and its session; the session writes and closes through it."""

    __slots__ = (
        "_closing",
        "_events",
        "_full",
        "_read_bytes",
        "_recv",
        "_send",
        "_server",
        "_socket",
        "_unsent",
        "_unsent_bytes",
        "_wants_read",
        "address",
        "session",
    )

    def __init__(self, server: ClientServer, sock: socket.socket, address: str, first_only: bool) -> None:
        self._server = server
        self._socket: socket.socket | None = sock
        self._recv = sock.recv
        self._send = sock.send
        self.address = address
        self._read_bytes = READ_BYTES_MIN
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._full = False  # the session was told to pause
        self._closing = False  # once everything is sent
        self._wants_read = True
        self._events = 0  # what the selector watches
        self._watch()
        self.session: Session | None = Session(
            server.node,
            self.write,
            self.close,
            later=self.later,
            pause_reading=self.pause_reading,
            resume_reading=self.resume_reading,
            clients=server.clients,
            address=address,
            abort=self.lost,
            first_only=first_only,
        )

    # What the session uses.

    def write(self, data: bytes) -> None:
        """Sends at once what the socket takes; the rest as the client reads."""
        if self._socket is None or self._closing:
            return
        if not self._unsent:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._server.loop.call_soon(self.lost)  # not now: the session is in the middle of its flush
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self._watch()
        if self._unsent_bytes > WRITE_BUFFER_BYTES_MAX and not self._full and self.session is not None:
            self._full = True
            self.session.pause_writing()

    def close(self) -> None:
        """Close once everything written has been sent."""
        self._closing = True
        self._wants_read = False
        if self._unsent:
            self._watch()
        else:
            self._server.loop.call_soon(self.lost)

    def later(self, call: Callable[[], None]) -> None:
        """Run a callback as an input of a coming turn."""
        self._server.loop.call_soon(self._input, call)

    def pause_reading(self) -> None:
        self._wants_read = False
        self._watch()

    def resume_reading(self) -> None:
        if not self._closing and not self._server.stopping:
            self._wants_read = True
            self._watch()

    # What the server calls, inside a turn.

    def readable(self) -> None:
        session = self.session
        if session is None or not self._wants_read:
            return
        try:
            data = self._recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        if len(data) == self._read_bytes:
            self._read_bytes = min(2 * self._read_bytes, READ_BYTES_MAX)
        try:
            session.receive(data)
        except Exception as error:
            self._failed(error)

    def writable(self) -> None:
        if self._socket is None or not self._unsent:
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.lost()
            return
        self._unsent_bytes -= sent
        if sent < len(data):
            self._unsent.append(data[sent:])
        elif self._closing:
            self.lost()
            return
        self._watch()
        if self._full and self._unsent_bytes < WRITE_BUFFER_BYTES_MAX // 4 and self.session is not None:
            self._full = False
            self._call(self.session.resume_writing)

    def lost(self) -> None:
        """The connection is over: by the client, by an error, or because everything is sent."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._wants_read = False
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._events:
            self._server.selector.unregister(sock)
            self._events = 0
        sock.close()
        session, self.session = self.session, None
        self._server.connections.discard(self)
        if session is not None:
            self._server.turn.enter()
            session.closed()

    # Inside.

    def _watch(self) -> None:
        """Tells the selector what this connection waits for."""
        if self._socket is None:
            return
        events = (_READ if self._wants_read else 0) | (_WRITE if self._unsent else 0)
        if events == self._events:
            return
        selector = self._server.selector
        if not self._events:
            selector.register(self._socket, events, self)
        elif not events:
            selector.unregister(self._socket)
        else:
            selector.modify(self._socket, events, self)
        self._events = events

    def _input(self, call: Callable[[], None]) -> None:
        if self.session is not None:
            self._server.turn.enter()
            self._call(call)

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """One client's request must not stop the node for all the others."""
        log.error("request_failed", error, client=self.address)
        self.lost()


class ClientServer:
    """Accepts clients, reads from all that are ready at once, and lets go of them when the node stops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, node: Node, clients: Clients) -> None:
        self.loop = loop
        self.turn = turn
        self.node = node
        self.clients = clients
        self.connections: set[Connection] = set()
        self.stopping = False
        self.selector = selectors.DefaultSelector()
        self._listeners: dict[socket.socket, bool] = {}  # and whether a connection there is `first_only`

    async def listen(self, host: str, port: int, *, first_only: bool = False) -> None:
        """Opens a port; raises OSError. On the cluster port, what a command finds is `first_only` (server/session.py)."""
        for family, kind, _, _, address in await self.loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind)
            self._listeners[listener] = first_only
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _tune(listener)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(BACKLOG)
            self.selector.register(listener, _READ, None)
        self.loop.add_reader(self.selector.fileno(), self._ready)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listened first."""
        return next((listener.getsockname()[:2] for listener in self._listeners), None)

    def _ready(self) -> None:
        self.turn.enter()
        clients = self.clients
        cut_at = clients.commands_total + COMMANDS_MAX
        for key, events in self.selector.select(0):
            connection = key.data
            if connection is None:
                self._accept(key.fileobj)  # type: ignore[arg-type]  # a listener
                continue
            if events & _READ:
                connection.readable()
                if clients.commands_total >= cut_at:
                    self.node.cut_turn()
                    cut_at = clients.commands_total + COMMANDS_MAX
            if events & _WRITE:
                connection.writable()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("accept_failed", reason=error)
                self.selector.unregister(listener)
                self.loop.call_later(ACCEPT_PAUSE_S, self._accept_again, listener)
                return
            sock.setblocking(False)
            if len(self.connections) >= CONNECTIONS_MAX:
                with sock, suppress(OSError):  # it may be gone already
                    sock.send(_TOO_MANY)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            unpaced_on_loopback(sock)
            self.connections.add(Connection(self, sock, "{}:{}".format(*address[:2]), self._listeners[listener]))

    def _accept_again(self, listener: socket.socket) -> None:
        if not self.stopping:
            self.selector.register(listener, _READ, None)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and wait until what was taken is answered, or has had its time."""
        self.stopping = True
        while self._listeners:
            listener, _ = self._listeners.popitem()
            with suppress(KeyError):  # while it pauses, the selector does not know it
                self.selector.unregister(listener)
            listener.close()
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


def _tune(listener: socket.socket) -> None:
    """What accepted sockets inherit, so that it costs nothing for each of them."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 3)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
