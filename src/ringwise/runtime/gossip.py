"""Datagrams of the membership protocol (R6): one UDP socket on the peer port.

A datagram may be lost, so nothing here is an error: what cannot be sent is as if lost, and what comes in is looked at by the
protocol alone, which takes any bytes. The socket is read without a transport, since a connectionless one reports failures of
earlier sends at odd times and has nothing to close, pause or resume.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Protocol

from ringwise.core.gossip.packets import DATAGRAM_BYTES_MAX, Outgoing
from ringwise.runtime import log
from ringwise.runtime.turn import Turn

READ_MAX = 64  # datagrams in one go: then requests get their turn, and the rest waits in the socket's buffer
RESOLVED_S = 30.0  # a name is looked up again after this: members may move
NAMES_MAX = 2_048  # twice the members there can be


class Ear(Protocol):
    """What takes the datagrams: `core/liveness.py`."""

    datagrams: list[Outgoing]

    def receive(self, payload: bytes, now_ms: float) -> None: ...


class Datagrams:
    """The socket, open from `listen` to `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ear: Ear,
        turn: Turn,
        now_ms: Callable[[], float],
        cut: Callable[[], str],
    ) -> None:
        self.failed = 0  # could not be handled, for a mistake in the program
        self.received = 0
        self.sent = 0
        self._loop = loop
        self._ear = ear
        self._turn = turn
        self._now_ms = now_ms  # of the turn
        self._cut = cut  # by `ringwise dev partition`
        self._socket: socket.socket | None = None
        self._names: dict[str, tuple[str | None, float]] = {}  # host: its address, and when that is too old
        self._lookups: set[asyncio.Task[None]] = set()

    async def listen(self, address: tuple[str, int]) -> None:
        family, kind, protocol, _, where = (await self._loop.getaddrinfo(*address, type=socket.SOCK_DGRAM))[0]
        self._socket = sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            sock.bind(where)
        except OSError:
            self.close()
            raise
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        for lookup in self._lookups:
            lookup.cancel()

    def flush(self) -> None:
        """Sends what the protocol has to say."""
        packets = self._ear.datagrams
        if not packets:
            return
        waiting = packets[:]
        packets.clear()
        sock = self._socket
        if sock is None or self._cut() in ("both", "out"):
            return
        for packet in waiting:
            assert packet.address is not None
            host = self._resolved(packet.address.host)
            if host is not None:
                with suppress(OSError):  # no route, a full buffer, a port that refused the last one: lost
                    sock.sendto(packet.payload, (host, packet.address.peer_port))
                    self.sent += 1

    def _readable(self) -> None:
        sock = self._socket
        for _ in range(READ_MAX):
            if sock is None:
                return
            try:
                payload = sock.recv(DATAGRAM_BYTES_MAX + 1)  # a longer one is cut, and so is garbage
            except BlockingIOError:
                return
            except OSError:  # of an earlier send: that one is lost
                continue
            if self._cut() in ("both", "in"):
                continue
            self.received += 1
            self._turn.enter()
            try:
                self._ear.receive(payload, self._now_ms())
            except Exception as error:
                # A packet that this version cannot handle must not stop every node that is sent it, nor fill its log.
                if not self.failed:
                    log.error("datagram_failed", error)
                self.failed += 1

    # Names

    def _resolved(self, host: str) -> str | None:
        """The address of a host; None while its name is being looked up for the first time, or has none."""
        found, until_s = self._names.get(host, (None, 0.0))
        if self._loop.time() >= until_s:
            if _is_address(host):
                self._remember(host, host, inf)
                return host
            self._remember(host, found, self._loop.time() + RESOLVED_S)  # the old one serves until the new one is there
            lookup = self._loop.create_task(self._look_up(host))
            self._lookups.add(lookup)
            lookup.add_done_callback(self._lookups.discard)
        return found

    async def _look_up(self, host: str) -> None:
        sock = self._socket
        if sock is None:
            return
        with suppress(
            OSError, ValueError
        ):  # no such name, or none that there can be; tried again when it is next too old
            found = await self._loop.getaddrinfo(host, None, family=sock.family, type=socket.SOCK_DGRAM)
            self._remember(host, str(found[0][4][0]), self._loop.time() + RESOLVED_S)

    def _remember(self, host: str, address: str | None, until_s: float) -> None:
        if len(self._names) >= NAMES_MAX and host not in self._names:
            self._names.clear()
        self._names[host] = (address, until_s)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
