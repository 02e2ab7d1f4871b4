"""What nodes say to each other to agree on the next topology document (T3); agreement.py says when, and why.

Any message may be lost, doubled or late. All but Join and JoinRefused tell the epoch of the sender (Learn in its
document), so whoever hears one knows who of the two is behind.
"""

import msgspec

from ringwise.core.topology import Member, NodeId

Ballot = tuple[int, NodeId]  # round, proposer: no two proposers share one


class Prepare(msgspec.Struct, array_like=True, frozen=True, tag=32):
    epoch: int  # the sender's; the instance is the one that decides epoch + 1
    ballot: Ballot


class Promise(msgspec.Struct, array_like=True, frozen=True, tag=33):
    epoch: int
    ballot: Ballot
    accepted: Ballot | None
    document: bytes


class Accept(msgspec.Struct, array_like=True, frozen=True, tag=34):
    epoch: int
    ballot: Ballot
    document: bytes


class Accepted(msgspec.Struct, array_like=True, frozen=True, tag=35):
    epoch: int
    ballot: Ballot


class Rejected(msgspec.Struct, array_like=True, frozen=True, tag=36):
    epoch: int
    ballot: Ballot
    promised: Ballot


class Learn(msgspec.Struct, array_like=True, frozen=True, tag=37):
    document: bytes  # tells its epoch itself


class Known(msgspec.Struct, array_like=True, frozen=True, tag=38):
    """ "I hold this epoch", and, if `ask`, "what do you hold?"."""

    epoch: int
    ask: bool


class Join(msgspec.Struct, array_like=True, frozen=True, tag=39):
    member: Member


class JoinRefused(msgspec.Struct, array_like=True, frozen=True, tag=40):
    reason: str
    again: bool  # asking again may help


AgreementMessage = Prepare | Promise | Accept | Accepted | Rejected | Learn | Known | Join | JoinRefused
Vote = Promise | Accepted | Rejected
