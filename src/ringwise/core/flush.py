"""Flushes: a bucket's rows, or those of all buckets, become void all at once, by a new incarnation (T3, T5).

    flush ─▶ agreement: document e+1, the next incarnation ─▶ owners hold it, durably ─▶ a majority of every slot's: done(None)

From then on no majority of any slot's owners can be had for the old incarnation, since an owner that holds e+1 refuses its rows:
no read at `quorum` shows, and no write at `quorum` joins, what was before the flush. Below a majority, a node that has not heard
of it yet still answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from ringwise.core.agreement import Agreement, AgreementFailed, Change, Known
from ringwise.core.buckets import flush_all
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, FlushNotAgreed, NotReady, Overloaded, Refused, UnknownOutcome
from ringwise.core.messages import encode
from ringwise.core.now import Now
from ringwise.core.peers import Peers
from ringwise.core.space import Space
from ringwise.core.topology import Document, Topology, flush

Done: TypeAlias = Callable[[Failure | None], None]

FLUSHES_MAX = 32  # half of the changes that may wait for agreement; each is one round trip and one write to disk


class _Decided(NamedTuple):
    """A flush that waits for owners to hold its document."""

    epoch: int
    done: Done
    deadline_ms: float


class Flushes:
    """The flushes that clients of this node have asked for."""

    def __init__(self, peers: Peers, topology: Topology, agreed: Agreement, config: NodeConfig, now: Now) -> None:
        self._peers = peers
        self._topology = topology
        self._agreement = agreed
        self._config = config
        self._now = now
        self._deciding = 0
        self._decided: list[_Decided] = []

    def flush(self, done: Done, space: Space | None = None) -> None:
        """A new incarnation of a bucket, the default one if none is given; `done` is called once, with the failure if there is
        one."""
        number = space.number if space is not None else 0
        self._flush(done, lambda document: flush(document, number))

    def flush_all(self, done: Done) -> None:
        """A new incarnation of every bucket, in one document."""
        self._flush(done, flush_all)

    def _flush(self, done: Done, change: Change) -> None:
        if not self._topology.epoch:
            done(NotReady("this node is in no cluster yet"))
            return
        if self._deciding + len(self._decided) >= FLUSHES_MAX:
            done(Overloaded("flush", FLUSHES_MAX))
            return
        self._deciding += 1
        now_ms = self._now.now_ms
        deadline_ms = now_ms + self._config.flush_timeout_ms
        agreed = partial(self._agreed, done, deadline_ms)
        self._agreement.propose(change, agreed, now_ms, deadline_ms)

    def _agreed(self, done: Done, deadline_ms: float, result: Document | AgreementFailed) -> None:
        self._deciding -= 1
        if not isinstance(result, AgreementFailed):
            self._decided.append(_Decided(result.epoch, done, deadline_ms))
        elif result.unknown:
            done(UnknownOutcome(needed=self._voters_needed(), acknowledged=0, detail=result.reason))
        elif result.refused:
            done(Refused(result.reason))
        else:
            done(FlushNotAgreed(needed=self._voters_needed(), acknowledged=self._voters_up()))

    def _voters_needed(self) -> int:
        document = self._topology.document
        return document.majority() if document is not None else 1

    def _voters_up(self) -> int:
        document = self._topology.document
        return sum(map(self._peers.is_up, document.voters)) if document is not None else 0

    def check(self) -> None:
        """Answers what enough owners hold; the node calls it when its own state is on disk."""
        if self._decided:
            decided, self._decided = self._decided, []
            for flushed in decided:
                if self._lacking(flushed.epoch)[0]:
                    self._decided.append(flushed)
                else:
                    flushed.done(None)

    def _lacking(self, epoch: int) -> tuple[int, int]:
        """(acknowledgements needed, and had) of the owners that lack the most for a majority; (0, 0): none does."""
        worst = 0, 0
        for owners, serving in zip(self._topology.sets, self._topology.serving_sets, strict=True):
            need = len(owners) // 2 + 1
            had = sum(self._agreement.holds(owner, epoch) for owner in serving)
            if need - had > worst[0] - worst[1]:
                worst = need, had
        return worst

    def tick(self) -> None:
        """Asks owners that have not said what they hold, and ends what is past its deadline."""
        if not self._decided:
            return
        now_ms = self._now.now_ms
        late = [flushed for flushed in self._decided if flushed.deadline_ms <= now_ms]
        self._decided = [flushed for flushed in self._decided if flushed.deadline_ms > now_ms]
        for flushed in late:
            need, had = self._lacking(flushed.epoch)
            flushed.done(
                UnknownOutcome(needed=need, acknowledged=had, detail="it was decided, and owners learn of it yet")
            )
        if self._decided:
            newest = max(flushed.epoch for flushed in self._decided)
            question = encode(Known(self._topology.epoch, True))
            for owner in sorted({owner for owners in self._topology.sets for owner in owners}):
                link = self._peers.links.get(owner)
                if link is not None and link.ready() and not self._agreement.holds(owner, newest):
                    self._peers.post(link, question)
