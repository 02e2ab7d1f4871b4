"""An operator gives a member's data up for lost, so that an empty node may take its place (T4): asked of any other node."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ringwise.core.agreement import Agreement, AgreementFailed
from ringwise.core.errors import Failure, NotReady, QuorumNotReached, Refused, UnknownOutcome
from ringwise.core.now import Now
from ringwise.core.peers import Peers
from ringwise.core.topology import Document, Member, Topology, lose


class Lost(NamedTuple):
    """What was decided: the member, and the epoch from which on its place is free."""

    member: Member
    epoch: int


Done: TypeAlias = Callable[[Lost | Failure], None]


class Replacements:
    """The members that clients of this node have declared lost."""

    def __init__(self, peers: Peers, topology: Topology, agreed: Agreement, now: Now) -> None:
        self._peers = peers
        self._topology = topology
        self._agreement = agreed
        self._now = now

    def replace(self, name: str, done: Done) -> None:
        """Frees the place of the member `name`; `done` is called once. To ask again does no harm."""
        document = self._topology.document
        if document is None:
            done(NotReady("this node is in no cluster yet"))
            return
        member = next((member for member in document.members if member.name == name), None)
        if member is None:
            names = ", ".join(sorted(each.name for each in document.members))
            done(Refused(f"there is no member {name}; the members are {names}"))
        elif member.id == self._peers.me:
            done(Refused(f"{name} is the node that was asked, and it is up; ask another one"))
        elif self._peers.is_up(member.id):
            done(Refused(f"{name} is up; only a member whose data are lost is replaced: stop it first"))
        else:

            def agreed(result: Document | AgreementFailed) -> None:
                done(self._failure(result) if isinstance(result, AgreementFailed) else Lost(member, result.epoch))

            self._agreement.propose(lambda newest: lose(newest, name, member.id), agreed, self._now.now_ms)

    def _failure(self, result: AgreementFailed) -> Failure:
        document = self._topology.document
        assert document is not None
        if result.unknown:
            return UnknownOutcome(needed=document.majority(), acknowledged=0, detail=result.reason)
        up = sum(map(self._peers.is_up, document.voters))
        if result.refused or up >= document.majority():
            return Refused(result.reason)
        return QuorumNotReached(needed=document.majority(), acknowledged=up)
