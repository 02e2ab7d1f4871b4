"""A network that misbehaves: connections between hosts, and everything that can happen to the frames on them.

A connection has two sides; each is the `Link` its host's node writes to.  Frames travel as the encoded bytes and pass
through `FrameReader` at the other end, so the codec is part of every history.

    clean      a side's frames arrive in order, in one piece or in several
    noise      each frame may be lost, doubled, or overtaken by later ones
    partition  a blocked direction holds what is sent into it: after healing it all arrives, late, unless the connection
               was given up
    break      both sides close; what was already under way still arrives, as from a peer that died
    overflow   past a bound of bytes under way, nothing more is taken (B3)
    datagrams  belong to no connection: each may be lost, doubled or late by chances of its own, and a blocked direction
               loses it

Blocking is by direction, so that a one-way partition is only another set of pairs.
"""

import random
from dataclasses import dataclass
from math import inf
from typing import Protocol

from ringwise.core.messages import Message, decode
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.trace import Trace
from ringwise.wire.frame import FrameDamaged, FrameReader

DATAGRAM_LATE = 50  # times as long on its way as others


@dataclass
class Weather:
    """How frames fare at present; the nemesis changes it."""

    latency_ms: float = 0.5
    jitter_ms: float = 0.5
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    datagram_loss: float = 0.01  # of datagrams, which also a calm network may lose, double and delay
    datagram_duplicate: float = 0.005
    datagram_late: float = 0.02


class Host(Protocol):
    """A machine as the network sees it."""

    name: str
    up: bool

    def accepted(self, side: "Side") -> None: ...
    def connected(self, side: "Side") -> None: ...
    def dial_failed(self, name: str) -> None: ...
    def received(self, side: "Side", messages: list[Message]) -> None: ...
    def broken(self, side: "Side") -> None: ...
    def sent(self, side: "Side") -> None: ...
    def datagram(self, payload: bytes) -> None: ...


class Side:
    """One end of a connection: the Link of the host at this end."""

    __slots__ = (
        "_greeted_ms",
        "_held",
        "_last_ms",
        "_network",
        "_reader",
        "dialled",
        "greeted",
        "host",
        "open",
        "other",
        "outbox",
        "peer",
        "under_way",
    )

    def __init__(self, network: "Network", host: Host, dialled: bool) -> None:
        self._network = network
        self.host = host
        self.dialled = dialled
        self.greeted = False  # the other end has said Hello
        self.other: Side = self
        self.peer = b""
        self.outbox: list[bytes] = []
        self.open = True
        self.under_way = 0  # bytes sent from here and not yet delivered
        self._held: list[bytes] = []  # sent into a blocked direction
        self._last_ms = 0.0
        self._greeted_ms = 0.0  # when the first frame from here is there, which nothing overtakes
        self._reader = FrameReader(decode)

    def ready(self) -> bool:
        return self.open and self.under_way < self._network.send_buffer_bytes_max

    def flush(self) -> bool:
        frames = self.outbox
        if not frames:
            return self.open
        self.outbox = []
        if not self.ready():
            return False
        self._network.send(self, frames)
        self.host.sent(self)
        return True

    def greet(self, frame: bytes) -> None:
        """The first frame of a connection, which noise spares: without it there would be no connection."""
        self._network.send(self, [frame], noisy=False)

    def close(self) -> None:
        self._network.break_connection(self)


class Network:
    def __init__(self, scheduler: Scheduler, rng: random.Random, send_buffer_bytes_max: int, trace: Trace) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self._trace = trace
        self.send_buffer_bytes_max = send_buffer_bytes_max
        self.weather = self.calm = Weather()
        self.troubled_ms = -inf  # when the network was last worse than calm
        self.blocked: set[tuple[str, str]] = set()  # directions; only ever asked for membership
        self.sides: list[Side] = []  # both sides of every open connection, oldest first
        self.frames = 0
        self.bytes = 0
        self.lost = 0
        self.doubled = 0
        self.datagrams = 0

    # Connections.

    def dial(self, dialler: Host, acceptor: Host) -> None:
        """Ends in `connected` on the one and `accepted` on the other, or in `dial_failed`."""
        self._scheduler.after(self._delay() * 2, self._dialled, dialler, acceptor)

    def _dialled(self, dialler: Host, acceptor: Host) -> None:
        if not dialler.up:
            return
        if not acceptor.up or self._cut(dialler.name, acceptor.name):
            dialler.dial_failed(acceptor.name)
            return
        here, there = Side(self, dialler, True), Side(self, acceptor, False)
        here.other, there.other = there, here
        self.sides += (here, there)
        acceptor.accepted(there)
        dialler.connected(here)

    def break_connection(self, side: Side) -> None:
        """Closes this side at once; the other learns of it after what is under way, or gives up if it never will."""
        if not side.open:
            return
        side.open = False
        self.sides.remove(side)
        side.outbox = []
        side._held = []
        self._scheduler.at(max(side._last_ms, self._scheduler.now_ms + self._delay()), self._other_closed, side)

    def _other_closed(self, side: Side) -> None:
        other = side.other
        if not other.open:
            return
        if self._cut(side.host.name, other.host.name):
            self._scheduler.after(1_000 + 4_000 * self._rng.random(), self._other_closed, side)
            return
        self._close(other)

    def _close(self, side: Side) -> None:
        if side.open:
            self.break_connection(side)
            if side.host.up:
                side.host.broken(side)

    def host_died(self, host: Host) -> None:
        for side in [side for side in self.sides if side.host is host]:
            self.break_connection(side)

    def break_between(self, first: str, second: str) -> int:
        """Break every connection between two hosts, both ends at once; returns how many there were."""
        self.troubled_ms = self._scheduler.now_ms
        pair = (first, second), (second, first)
        sides = [side for side in self.sides if (side.host.name, side.other.host.name) in pair]
        for side in sides:
            self._close(side)
        return len(sides) // 2

    # Partitions.

    def block(self, directions: set[tuple[str, str]]) -> None:
        self.troubled_ms = self._scheduler.now_ms
        self.blocked |= directions
        for side in self.sides:
            if (side.host.name, side.other.host.name) in directions:
                self._scheduler.after(500 + 9_500 * self._rng.random(), self._give_up, side)

    def heal(self) -> None:
        if self.blocked:
            self.troubled_ms = self._scheduler.now_ms
        self.blocked.clear()
        for side in self.sides:
            if side._held:
                held, side._held = side._held, []
                self._deliver_later(side, held)
                side._greeted_ms = side._last_ms  # the first frame may be among them

    def _give_up(self, side: Side) -> None:
        """The keep-alive of a connection through a blocked direction has run out."""
        if (side.host.name, side.other.host.name) in self.blocked:
            self._close(side)

    def _cut(self, first: str, second: str) -> bool:
        return (first, second) in self.blocked or (second, first) in self.blocked

    # Frames.

    def send(self, side: Side, frames: list[bytes], noisy: bool = True) -> None:
        size = sum(map(len, frames))
        side.under_way += size
        self.frames += len(frames)
        self.bytes += size
        self._trace.event(side.host.name, "", b"".join(frames))
        if self.blocked and (side.host.name, side.other.host.name) in self.blocked:
            side._held += frames
            return
        weather = self.weather
        if noisy and (weather.loss or weather.duplicate or weather.reorder):
            for frame in frames:
                self._send_through_noise(side, frame, weather)
        else:
            self._deliver_later(side, frames)
            if not noisy:
                side._greeted_ms = side._last_ms

    def _send_through_noise(self, side: Side, frame: bytes, weather: Weather) -> None:
        random = self._rng.random
        if random() < weather.loss:
            self.lost += 1
            side.under_way -= len(frame)
            return
        if random() < weather.duplicate:
            self.doubled += 1
            side.under_way += len(frame)
            self._scheduler.at(self._late_ms(side), self._deliver, side, [frame])
        if random() < weather.reorder:
            self._scheduler.at(self._late_ms(side), self._deliver, side, [frame])
        else:
            self._deliver_later(side, [frame])

    # Datagrams.

    def datagram(self, sender: Host, receiver: Host, payload: bytes) -> None:
        """Sends one; each copy of it may be overtaken by later ones, as by their random delays it often is anyway."""
        self._trace.event(sender.name, "", payload)
        weather, random = self.weather, self._rng.random
        self.datagrams += 1
        if self.blocked or weather is not self.calm:
            self.troubled_ms = self._scheduler.now_ms
        copies = 2 if random() < weather.datagram_duplicate else 1
        for _ in range(copies):
            if (sender.name, receiver.name) not in self.blocked and random() >= weather.datagram_loss:
                late = DATAGRAM_LATE if random() < weather.datagram_late else 1
                self._scheduler.after(self._delay() * late, self._datagram, receiver, payload)

    def _datagram(self, receiver: Host, payload: bytes) -> None:
        if receiver.up:
            receiver.datagram(payload)

    def _late_ms(self, side: Side) -> float:
        return max(side._greeted_ms, self._scheduler.now_ms + self._delay() * 4)

    def _deliver_later(self, side: Side, frames: list[bytes]) -> None:
        side._last_ms = when_ms = max(side._last_ms, self._scheduler.now_ms + self._delay())
        self._scheduler.at(when_ms, self._deliver, side, frames)

    def _deliver(self, sender: Side, frames: list[bytes]) -> None:
        data = b"".join(frames)
        sender.under_way -= len(data)
        receiver = sender.other
        if not receiver.open or not receiver.host.up:
            return
        reader = receiver._reader
        try:
            if len(data) > 64 and self._rng.random() < 0.05:  # a read of the socket ends where it likes
                cut = self._rng.randrange(1, len(data))
                messages = reader.feed(data[:cut]) + reader.feed(data[cut:])
            else:
                messages = reader.feed(data)
        except FrameDamaged:
            self._close(receiver)
            raise AssertionError("nothing in this network damages frames") from None
        receiver.host.received(receiver, messages)

    def _delay(self) -> float:
        weather = self.weather
        return weather.latency_ms + self._rng.expovariate(1.0) * weather.jitter_ms
