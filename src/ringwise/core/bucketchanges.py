"""Changes of buckets that clients of this node ask for: decided as the next document, answered when it is there to be used.

    create, set, drop ─▶ agreement: document e+1 ─▶ every member that is up holds it, or half a second has passed ─▶ done

A client that creates a bucket at one node may select it at another the moment after. The wait is a courtesy: the change stands
once it is decided, so a member that is away does not hold it up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from ringwise.core.agreement import Agreement, AgreementFailed, Change, Known
from ringwise.core.errors import Failure, NotReady, QuorumNotReached, Refused, UnknownOutcome
from ringwise.core.messages import encode
from ringwise.core.now import Now
from ringwise.core.peers import Peers
from ringwise.core.topology import Document, Topology

Done: TypeAlias = Callable[[Document | Failure], None]

HELD_MS_MAX = 500.0


class _Decided(NamedTuple):
    document: Document
    done: Done
    deadline_ms: float


class BucketChanges:
    """Those that are under way."""

    def __init__(self, peers: Peers, topology: Topology, agreed: Agreement, now: Now) -> None:
        self._peers = peers
        self._topology = topology
        self._agreement = agreed
        self._now = now
        self._decided: list[_Decided] = []

    def change(self, change: Change, done: Done) -> None:
        """Gets a change decided; `done` is called once."""
        if self._topology.document is None:
            done(NotReady("this node is in no cluster yet"))
            return
        self._agreement.propose(change, partial(self._agreed, done), self._now.now_ms)

    def _agreed(self, done: Done, result: Document | AgreementFailed) -> None:
        if not isinstance(result, AgreementFailed):
            self._decided.append(_Decided(result, done, self._now.now_ms + HELD_MS_MAX))
            return
        document = self._topology.document
        assert document is not None
        if result.refused:
            done(Refused(result.reason))
        elif result.unknown:
            done(UnknownOutcome(needed=document.majority(), acknowledged=0, detail=result.reason))
        else:
            up = sum(map(self._peers.is_up, document.voters))
            done(QuorumNotReached(needed=document.majority(), acknowledged=up))

    def check(self) -> None:
        """Answers what is held; the node calls it at the end of a turn, its own state being on disk."""
        if self._decided:
            decided, self._decided = self._decided, []
            for each in decided:
                if each.deadline_ms > self._now.now_ms and self._lacking(each.document.epoch):
                    self._decided.append(each)
                else:
                    each.done(each.document)

    def _lacking(self, epoch: int) -> list[bytes]:
        up = [node for node in self._topology.members if node == self._peers.me or self._peers.is_up(node)]
        return [node for node in up if not self._agreement.holds(node, epoch)]

    def tick(self) -> None:
        """Asks members that have not said what they hold."""
        if self._decided:
            question = encode(Known(self._topology.epoch, True))
            for node in self._lacking(max(each.document.epoch for each in self._decided)):
                link = self._peers.links.get(node)
                if link is not None and link.ready():
                    self._peers.post(link, question)
