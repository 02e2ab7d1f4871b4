"""Connections between nodes. Every node dials every other member, so there are two links between any two of them:

    n1 ──dialled──▶ n2     n1's requests, n2's answers
    n1 ◀──dialled── n2     n2's requests, n1's answers

The first frame each way is a Hello. Only then is a dialled link given to the node (`link_up`); an accepted one the node
sees through the messages that arrive on it. A link whose other end is somebody else than the document says, of another
cluster, or silent, is closed and dialled again, after a pause that grows and is jittered, so that members do not come
back in step. An accepted Hello ends that pause: who dials us can be dialled.

A peer's send buffer is bounded (B3): past the bound a flush is refused, which counts as no answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, cast

from ringwise.core.messages import Hello, Message, NodeId, decode, encode
from ringwise.core.topology import Topology
from ringwise.runtime import log
from ringwise.runtime.loopback import connected_locally, local_name, unpaced_on_loopback
from ringwise.runtime.turn import Turn
from ringwise.wire.frame import FrameDamaged, FrameReader

# A tenth of a second of a fast network: more would be sent after its requests have passed their deadline.
SEND_BUFFER_BYTES_MAX = 8 * 1024 * 1024
DIAL_TIMEOUT_S = 1.0
# A node that recovers its log accepts connections only afterwards, so a Hello is never late for a good reason.
HELLO_TIMEOUT_S = 2.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
# Unacknowledged bytes, or silence of a dead machine, end a connection after this; until then its requests run into
# their deadlines, and the node treats the peer as down.
SILENCE_MS_MAX = 10_000

Address = tuple[str, int]
# What a cut stops, seen from the node that is cut off: what it sends, what is sent to it, or both.
DIRECTIONS = ("both", "in", "out")


class Link(Protocol):
    """A link as the node sees it."""

    peer: NodeId
    outbox: list[bytes]

    def flush(self) -> bool: ...
    def ready(self) -> bool: ...


class Host(Protocol):
    """What links need of a node."""

    id: NodeId
    topology: Topology

    def addresses(self) -> Mapping[NodeId, Address]: ...
    def hello(self) -> Hello: ...
    def check_hello(self, hello: Hello) -> str | None: ...
    def link_up(self, link: Link) -> None: ...
    def link_down(self, link: Link) -> None: ...
    def receive(self, link: Link, message: Message) -> None: ...


class PeerLink(asyncio.Protocol):
    """One connection, dialled or accepted."""

    def __init__(self, peers: Peers, dialled: Dialer | None) -> None:
        self.peer: NodeId = b""
        self.outbox: list[bytes] = []
        self.hello: Hello | None = None
        self.closed = asyncio.Event()
        self.refusal = ""
        self._peers = peers
        self._dialer = dialled
        self._frames = FrameReader(decode)
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._holed = False  # bytes of it were dropped: no stream may go on after that
        self._file = -1  # of the connected socket
        self._deadline: asyncio.TimerHandle | None = None

    # What the node uses.

    def flush(self) -> bool:
        """One write of all frames in the outbox; False = not sent, the link is broken or its buffer past the bound."""
        frames, self.outbox = self.outbox, []
        transport = self._transport
        if transport is None or self._full or transport.is_closing():  # closing: connection_lost is still to come
            return False
        if frames:
            if self._peers.cut == "out":
                self._holed = True
                return True  # as a network would: whoever sends does not learn of it
            data = b"".join(frames)
            if not transport.get_write_buffer_size():
                # Past the transport, which would wait for the end of the loop's iteration, and a turn may be cut before.
                with suppress(OSError):  # it would block, or is broken: the transport finds out which
                    data = data[os.write(self._file, data) :]
            if data:
                transport.write(data)
        return True

    def ready(self) -> bool:
        transport = self._transport
        return self.hello is not None and transport is not None and not self._full and not transport.is_closing()

    def family(self) -> int:
        """Of its socket; -1 while it is not connected."""
        return self._transport.get_extra_info("socket").family if self._transport is not None else -1

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if transport.get_extra_info("sockname") == transport.get_extra_info("peername"):
            transport.abort()  # TCP's self-connect: nobody listens there, and the port was ours by chance
            self.closed.set()
            return
        if self._peers.cut:
            transport.abort()
            self.closed.set()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES_MAX, low=SEND_BUFFER_BYTES_MAX // 2)
        sock = transport.get_extra_info("socket")
        self._file = sock.fileno()
        _tune(sock)
        self._peers.links.add(self)
        self._deadline = self._peers.loop.call_later(HELLO_TIMEOUT_S, self._close, "no Hello in time")
        transport.write(encode(self._peers.node.hello()))

    def data_received(self, data: bytes) -> None:
        if self._peers.cut == "in":
            self._holed = True
            return
        try:
            messages = self._frames.feed(data)
        except FrameDamaged as damage:
            self._close(str(damage))
            return
        self._peers.turn.enter()
        node = self._peers.node
        try:
            for message in messages:
                if self.hello is not None:
                    node.receive(self, message)
                else:
                    self._greet(message)
        except Exception as error:
            # A message that this version cannot handle must not stop every node that is sent it.
            log.error("message_failed", error, peer=self._name())
            self._close("a message could not be handled")

    def pause_writing(self) -> None:
        self._full = True
        log.warning("send_buffer_full", peer=self._name())

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self.outbox = []
        self._peers.links.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._dialer is not None and self.hello is not None:
            log.info("link_down", peer=self._name(), reason=self.refusal or exc or "closed by the peer")
            self._peers.turn.enter()
            self._peers.node.link_down(self)
        self.closed.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def abort_if_holed(self) -> None:
        if self._holed:
            self.abort()

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            self._close("the first frame is no Hello")
            return
        reason = self._peers.node.check_hello(message)
        if reason is None and self._dialer is not None and self._dialer.expected not in (None, message.node):
            reason = f"another node answers there: {message.name} {message.node.hex()}"
        if reason is None and message.node == self._peers.node.id:
            reason = "that is this node itself"
        if reason is not None:
            self._close(reason)
            if self._dialer is not None:
                self._peers.refused(self._dialer, message, reason)
            return
        self.hello = message
        self.peer = message.node
        if self._deadline is not None:
            self._deadline.cancel()
        if self._dialer is not None:
            self._dialer.up()
            log.info("link_up", peer=message.name, address=f"{message.host}:{message.peer_port}")
            self._peers.node.link_up(self)
        else:
            self._peers.heard_of(message.node)

    def _close(self, reason: str) -> None:
        self.refusal = reason
        if self._transport is not None:
            if self.hello is not None or self._dialer is None:
                log.warning("link_closed", peer=self._name(), reason=reason)
            self._transport.abort()

    def _name(self) -> str:
        if self.hello is not None:
            return self.hello.name
        address = self._transport.get_extra_info("peername") if self._transport is not None else None
        return "{}:{}".format(*address[:2]) if isinstance(address, tuple) else "unknown"


class Dialer:
    """Keeps one link to one address: dials, waits for its end, pauses, dials again."""

    def __init__(self, peers: Peers, address: Address, expected: NodeId | None, rng: random.Random) -> None:
        self.address = address
        self.expected = expected  # None: whoever answers (the node named by --join)
        self.complaint = ""  # the last failure told, so that each is told once
        self._peers = peers
        self._rng = rng
        self._pause_s = PAUSE_MIN_S
        self._wake = asyncio.Event()
        self._link: PeerLink | None = None
        self._task = peers.loop.create_task(self._run())

    def up(self) -> None:
        self._pause_s = PAUSE_MIN_S
        self.complaint = ""

    def connected_to(self) -> NodeId:
        """Who answers there; b"" while nobody does."""
        return self._link.peer if self._link is not None and self._link.ready() else b""

    def wake(self) -> None:
        self._wake.set()

    def complain(self, reason: str) -> None:
        if reason != self.complaint:
            self.complaint = reason
            log.warning("peer_unreachable", address="{}:{}".format(*self.address), reason=reason)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            self._link.abort()
            await self._link.closed.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    self._link = await self._connect()
                await self._link.closed.wait()
                if self._link.hello is None:
                    self.complain(self._link.refusal or "closed before its Hello")
            except OSError as error:  # a TimeoutError is one
                self.complain(error.strerror or "no answer")
            except ValueError as error:  # a host that is no name, told by gossip
                self.complain(str(error))
            self._wake.clear()
            pause_s = self._pause_s * self._rng.uniform(0.5, 1.0)
            self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _connect(self) -> PeerLink:
        if self._peers.cut:
            raise ConnectionError(errno.ENETUNREACH, "cut off by 'ringwise dev partition'")
        loop, name = self._peers.loop, local_name(*self.address)
        sock = connected_locally(name) if name is not None else None
        if sock is not None:
            return await self._connect_through(sock)
        return (await loop.create_connection(self._make_link, *self.address))[1]

    async def _connect_through(self, sock: socket.socket) -> PeerLink:
        """uvloop closes the file of a connection that ends at once, and takes the socket object over only after that; left to
        itself, the object would close the same number once more, which may be a client's by then."""
        try:
            transport, link = await self._peers.loop.create_unix_connection(self._make_link, sock=sock)
        except BaseException:
            sock.detach()
            raise
        if transport.is_closing():
            sock.detach()
        return link

    def _make_link(self) -> PeerLink:
        return PeerLink(self._peers, self)


class Peers:
    """The peer port, and a dialer for every other member of the document in force."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Host,
        turn: Turn,
        rng: random.Random,
        refused: Callable[[Hello, str], None],
    ) -> None:
        self.loop = loop
        self.node = node
        self.turn = turn
        self.links: set[PeerLink] = set()
        self.cut = ""  # by `ringwise dev partition`: one of DIRECTIONS
        self._silence: asyncio.TimerHandle | None = None
        self._rng = rng
        self._on_refused = refused  # tells whoever waits for the node named by --join
        self._dialers: dict[NodeId, Dialer] = {}
        self._seed: Dialer | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.AbstractServer] = []

    async def listen(self, address: Address) -> None:
        self._servers.append(await self.loop.create_server(lambda: PeerLink(self, None), *address, backlog=128))
        name = local_name(*address)
        if name is not None:
            self._servers.append(await self.loop.create_unix_server(lambda: PeerLink(self, None), name, backlog=128))

    def dial_seed(self, address: Address) -> Dialer:
        """Dial a node of which only the address is known, until the document names the members."""
        self._seed = Dialer(self, address, None, self._rng)
        return self._seed

    def follow(self) -> None:
        """Dial the members of the document in force. Called when that has changed, or one of them has moved."""
        document = self.node.topology.document
        if document is None:
            return
        wanted = self.node.addresses()
        for node, dialer in list(self._dialers.items()):
            if wanted.get(node) != dialer.address:
                self._drop(self._dialers.pop(node))
        if self._seed is not None and self.node.id in (member.id for member in document.members):
            seed, self._seed = self._seed, None
            found = seed.connected_to()
            if found not in self._dialers and wanted.get(found) == seed.address:
                seed.expected = found
                self._dialers[found] = seed
            else:
                self._drop(seed)
        for node, address in sorted(wanted.items()):
            if node not in self._dialers:
                self._dialers[node] = Dialer(self, address, node, self._rng)

    def heard_of(self, node: NodeId) -> None:
        dialer = self._dialers.get(node)
        if dialer is not None:
            dialer.wake()

    def refused(self, dialer: Dialer, hello: Hello, reason: str) -> None:
        dialer.complain(reason)
        self._on_refused(hello, reason)

    def isolate(self, direction: str) -> None:
        """Cuts this node off until it is called with ""; clients are not concerned.

        Both: every link breaks at once. One of them: frames of that direction vanish, and links stand until TCP would have
        given them up for want of acknowledgements, which need the other direction. No new link is made, since a handshake
        needs both. One that has lost something ends with the cut: the rest of a stream means nothing.
        """
        if direction == self.cut:
            return
        self.cut = direction
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if direction == "both":
            self._abort_all()
        else:
            for link in list(self.links):
                link.abort_if_holed()
        if direction in ("in", "out"):
            self._silence = self.loop.call_later(SILENCE_MS_MAX / 1000, self._abort_all)
        if not direction:
            for dialer in self._dialers.values():
                dialer.wake()
            log.warning("healed")
        else:
            log.warning("isolated", direction=direction)

    def _abort_all(self) -> None:
        for link in list(self.links):
            link.abort()

    def stop_listening(self) -> None:
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Close everything; the node hears of every link that goes down."""
        self.stop_listening()
        if self._silence is not None:
            self._silence.cancel()
        dialers = [*self._dialers.values(), *([self._seed] if self._seed is not None else [])]
        self._dialers.clear()
        await asyncio.gather(*(dialer.stop() for dialer in dialers))
        self._abort_all()

    def _drop(self, dialer: Dialer) -> None:
        stopping = self.loop.create_task(dialer.stop())
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)


def _tune(sock: socket.socket) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return  # a Unix socket: its other end cannot vanish silently
    unpaced_on_loopback(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS_MAX)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
