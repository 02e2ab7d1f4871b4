"""The other nodes as a coordinator sees them: links, what each of them still owes an answer for, and who counts as up.

A peer is up while its link stands and takes frames, its oldest unanswered request is within the deadline, and gossip calls it
neither dead nor gone (R6). A suspect is up: most are only slow, and whoever does not answer is late soon enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ringwise.core.messages import NodeId


class Link(Protocol):
    """One connection to a peer; frames appended to `outbox` in a turn leave at its end, in order."""

    peer: NodeId
    outbox: list[bytes]

    def flush(self) -> bool:
        """Writes the outbox as one and clears it; False where the link is broken or its buffer past its bound (B3)."""
        ...

    def ready(self) -> bool:
        """Whether it is connected and its buffer below its bound."""
        ...


class Request(Protocol):
    """Something sent to peers that waits for their answers."""

    id: int
    started_ms: float

    def lost(self, peer: NodeId) -> None:
        """The peer will not answer: its link broke."""
        ...


class Peers:
    """Links to the other members, and the requests that each of them has not yet answered."""

    def __init__(self, me: NodeId) -> None:
        self.me = me
        self.links: dict[NodeId, Link] = {}
        self.late: set[NodeId] = set()
        self.gone: frozenset[NodeId] = frozenset()  # dead or left, by gossip
        self._out: set[NodeId] = set()  # late or gone: one look for both, since every group of operations takes one
        self._outstanding: dict[NodeId, dict[int, Request]] = {}  # insertion order is age
        self.forgotten: Callable[[NodeId, Request], None] = _ignore  # told of requests that are given up for lost
        self._touched: list[Link] = []
        self._last_id = 0

    def next_id(self) -> int:
        """A request id, unique in this run of the node."""
        self._last_id += 1
        return self._last_id

    @property
    def last_id(self) -> int:
        """The greatest request id so far."""
        return self._last_id

    def owed(self, upto: int) -> bool:
        """Whether any peer owes an answer to a request with an id up to this one."""
        return any(number <= upto for requests in self._outstanding.values() for number in requests)

    def post(self, link: Link, frame: bytes) -> None:
        """Puts a frame into the link's outbox of this turn."""
        if not link.outbox:
            self._touched.append(link)
        link.outbox.append(frame)

    def ask(self, peer: NodeId, request: Request, frame: bytes) -> bool:
        """Sends a request; False where the peer cannot take it now, which counts as no answer (B3)."""
        link = self.links.get(peer)
        if link is None or not link.ready():
            return False
        self.post(link, frame)
        self._outstanding[peer][request.id] = request
        return True

    def flush(self) -> None:
        """Ends the turn: one write for each link that has something to say."""
        touched, self._touched = self._touched, []
        for link in touched:
            link.flush()

    def request(self, peer: NodeId, request_id: int) -> Request | None:
        """The request that an answer belongs to, or None where it is late, or there twice."""
        return self._outstanding.get(peer, {}).get(request_id)

    def answered(self, peer: NodeId, request_id: int) -> None:
        """The peer owes nothing more for this request."""
        self._outstanding[peer].pop(request_id, None)

    def link_up(self, link: Link) -> None:
        """A dialled link is ready for requests; one that it replaces is lost first."""
        if link.peer in self.links:
            self.link_down(self.links[link.peer])
        self.links[link.peer] = link
        self.late.discard(link.peer)
        self._out = self.late | self.gone
        self._outstanding[link.peer] = {}

    def link_down(self, link: Link) -> None:
        """Tells every request that waits for this link's peer that there will be no answer."""
        if self.links.get(link.peer) is not link:
            return
        del self.links[link.peer]
        for request in list(self._outstanding.pop(link.peer).values()):
            request.lost(link.peer)

    def follow_gone(self, gone: Iterable[NodeId]) -> None:
        """Takes over whom gossip calls dead or gone (core/liveness.py)."""
        self.gone = frozenset(gone)
        self._out = self.late | self.gone

    def is_up(self, peer: NodeId) -> bool:
        """Whether requests should count on this peer."""
        if peer == self.me:
            return True
        link = self.links.get(peer)
        return link is not None and peer not in self._out and link.ready()

    def up(self, owners: Iterable[NodeId]) -> list[NodeId]:
        """Those of `owners`, this node not among them, that are up."""
        return [owner for owner in owners if owner != self.me and self.is_up(owner)]

    def tick(self, now_ms: float, timeout_ms: float) -> None:
        """Marks as late those whose oldest request is past the deadline, and no longer those that caught up.

        What is twice as old has been given up by whoever asked, and is forgotten: a lost answer is no reason to hold a peer
        for down as long as the link lasts. If it is still silent, the next request will tell.
        """
        for peer, requests in self._outstanding.items():
            oldest = next(iter(requests.values()), None)
            while oldest is not None and oldest.started_ms + 2 * timeout_ms < now_ms:
                del requests[oldest.id]
                self.forgotten(peer, oldest)
                oldest = next(iter(requests.values()), None)
            if oldest is not None and oldest.started_ms + timeout_ms < now_ms:
                self.late.add(peer)
            else:
                self.late.discard(peer)
        self._out = self.late | self.gone


def _ignore(_peer: NodeId, _request: Request) -> None:
    """Whoever asked has given it up, too."""
