"""Agreement on the topology: document e+1 is decided by single-decree Paxos among the voters of document e (design T3).

One instance for each epoch (Lamport, "Paxos Made Simple", 2001). Everybody may propose; a node that is no voter runs
the same proposer towards the voters. Instance e+1 exists only while e is in force: who has learned e+1 answers late
messages of its instance with the document, and who is behind is brought up to date by `Learn` before it can vote.

      proposer                     voters of e                        everybody
         |--- Prepare(ballot) -------->|  promise: nothing below ballot    |
         |<-- Promise(accepted?) ------|                                   |
         |   value = highest accepted, or else my change of document e     |
         |--- Accept(ballot, value) -->|  unless promised higher           |
         |<-- Accepted ----------------|                                   |
         |   majority: decided                                             |
         |--- Learn(document e+1) ---------------------------------------->|
         |<-- Known(e+1) --------------------------------------------------|   asked again until everybody has it

Invariants
- Stored before sent: while `dirty`, state() must reach the disk before anything in `outbox` is released; the shell then
  clears `dirty`. What a node says to itself waits for the disk just the same (`_own`): a promise that a crash forgets
  was never made.
- A ballot is used for one value only: its round is stored before the first message that carries it, and never falls.
- Acceptors of e hold what they accepted until they hold document e+1 itself, so at any time either a majority of the
  voters of e can tell the result, or a majority of the voters of e+1 holds it (`held`). A removed voter that waits for
  `held` before it goes away takes nothing with it.
- A change is a function of the newest document. It must be content (return None) with a document that contains it.
"""

import random
from collections.abc import Callable

import msgspec
from xxhash import xxh3_64_digest

from ringwise.core.ballot import (
    Accept,
    Accepted,
    AgreementMessage,
    Ballot,
    Join,
    JoinRefused,
    Known,
    Learn,
    Prepare,
    Promise,
    Rejected,
    Vote,
)
from ringwise.core.topology import (
    BucketRules,
    ChangeRefused,
    Document,
    Member,
    NodeId,
    Topology,
    TopologyTooNew,
    epoch_of,
    join,
)
from ringwise.core.topology import found as first_document

__all__ = [
    "Accept",
    "Accepted",
    "Agreement",
    "AgreementFailed",
    "AgreementMessage",
    "AgreementStateDamaged",
    "Ballot",
    "Join",
    "JoinRefused",
    "Known",
    "Learn",
    "Prepare",
    "Promise",
    "Rejected",
]

FORMAT = 1
PROPOSALS_MAX = 64  # changes waiting for their turn; one is decided at a time, and operators are not that fast
DEADLINE_MS = 10_000
RETRY_MS = 100  # first pause after a lost message or a lost race, doubled up to:
RETRY_MS_MAX = 5_000

Change = Callable[[Document], Document | None]
Done = Callable[["Document | AgreementFailed"], None]


class AgreementFailed(Exception):
    """The change was not decided. `unknown`: it was proposed to voters, so it may still be decided later."""

    def __init__(self, reason: str, *, unknown: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unknown = unknown
        self.refused = refused  # it makes no sense on the document in force; asking again does not help


class AgreementStateDamaged(Exception):
    """The saved state cannot be trusted. A voter that forgot its promises must not vote; it can join anew, empty."""


class _Head(msgspec.Struct, array_like=True):
    format: int


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    format: int
    document: bytes
    round: int
    promised: Ballot | None
    accepted: Ballot | None
    accepted_document: bytes


class _Proposal(msgspec.Struct):
    change: Change
    done: Done
    deadline_ms: float
    sent: bytes = b""  # the document last sent to acceptors: decided by whomever, it is this change
    passed_over: bool = False  # something was sent for an epoch whose outcome was not learned by itself


class _Attempt(msgspec.Struct):
    """One ballot of this proposer; None while it stands back after a rejection."""

    ballot: Ballot | None
    own: bytes  # what it proposes if the voters leave it the choice
    value: bytes = b""  # what it does propose, once a majority has promised
    promises: dict[NodeId, Promise] = {}
    accepted: set[NodeId] = set()


class Pace:
    """When to try again: doubled pauses with jitter, so that two proposers do not meet for ever."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pause_ms = float(RETRY_MS)
        self.at_ms = 0.0

    def passed(self, now_ms: float) -> bool:
        """True when it is time; the next time is then set."""
        if now_ms < self.at_ms:
            return False
        self.at_ms = now_ms + self._pause_ms * self._rng.uniform(0.5, 1.5)
        self._pause_ms = min(2 * self._pause_ms, RETRY_MS_MAX)
        return True


class Agreement:
    """Proposer, acceptor and learner of one node. Pure: time and chance are arguments, messages go to `outbox`."""

    def __init__(self, me: NodeId, topology: Topology, rng: random.Random, saved: bytes | None) -> None:
        self.me = me
        self.topology = topology
        self.dirty = False
        self.outbox: list[tuple[NodeId, AgreementMessage]] = []
        self.is_up: Callable[[NodeId], bool] = lambda _: False  # set by the node
        self.refused: JoinRefused | None = None  # the last answer to this node's own Join
        self._rng = rng
        self._round = 0
        self._promised: Ballot | None = None
        self._accepted: Ballot | None = None
        self._accepted_document = b""
        self._document = b""  # the document in force, encoded
        self._own: list[Vote] = []  # this acceptor's answers to this proposer, until state() is on the disk
        self._proposals: list[_Proposal] = []
        self._attempt: _Attempt | None = None
        self._retry = Pace(rng)
        self._joining: set[NodeId] = set()
        self._known: dict[NodeId, int] = {}  # the newest epoch each peer is known to hold
        self._asking: dict[NodeId, Pace] = {}  # members not known to hold the document in force
        self._teaching: dict[NodeId, Pace] = {}  # when a peer that is behind may get the document again
        if saved is not None:
            self._restore(saved)

    # What the shell calls

    def state(self) -> bytes:
        """Everything durable, with its checksum."""
        saved = _Saved(FORMAT, self._document, self._round, self._promised, self._accepted, self._accepted_document)
        body = _encoder.encode(saved)
        return xxh3_64_digest(body) + body

    def holds(self, node: NodeId, epoch: int) -> bool:
        """Whether a node is known to hold, durably, the document of that epoch or a later one."""
        if node == self.me:
            return self.topology.epoch >= epoch and not self.dirty
        return self._known.get(node, 0) >= epoch

    @property
    def held(self) -> bool:
        """A majority of the voters holds the document in force: older voters may go."""
        document = self.topology.document
        if document is None:
            return False
        holding = sum(self._known.get(node, 0) >= document.epoch for node in document.voters if node != self.me)
        return holding + (self.me in document.voters) >= document.majority()

    def found(self, member: Member, cluster: bytes, replicas: int = 3) -> None:
        """Make document 1: this node alone, which is its only voter; `replicas` is N of the default bucket."""
        assert self.topology.document is None, "a node that has a document founds no other cluster"
        assert member.id == self.me
        self._install(first_document(cluster, member, [BucketRules(n=replicas)]))

    def propose(self, change: Change, done: Done, now_ms: float, deadline_ms: float | None = None) -> None:
        """Get `change` decided; `done` gets the document that contains it or, by the deadline, the failure."""
        if len(self._proposals) >= PROPOSALS_MAX:
            done(AgreementFailed(f"{PROPOSALS_MAX} topology changes are waiting already"))
            return
        self._proposals.append(_Proposal(change, done, now_ms + DEADLINE_MS if deadline_ms is None else deadline_ms))
        self._begin(now_ms)

    def tick(self, now_ms: float) -> None:
        self._hear_own(now_ms)
        self._expire(now_ms)
        if self._proposals and self._retry.passed(now_ms):
            self._again()
        for node in [node for node, pace in self._asking.items() if pace.passed(now_ms)]:
            self.outbox.append((node, Known(self.topology.epoch, True)))

    def heard(self, peer: NodeId, epoch: int, now_ms: float) -> None:
        """A frame of any kind carried the peer's epoch: whoever of the two is behind is brought up to date."""
        member = peer in self.topology.members
        if member:
            self._known[peer] = max(epoch, self._known.get(peer, 0))
        if epoch < self.topology.epoch:
            # Who is at 0 and no member belongs to nobody yet: it has to ask (Join).
            if (member or epoch) and self._teaching.setdefault(peer, Pace(self._rng)).passed(now_ms):
                self.outbox.append((peer, Learn(self._document)))
            return
        self._teaching.pop(peer, None)
        if epoch > self.topology.epoch:
            self.outbox.append((peer, Known(self.topology.epoch, False)))
        else:
            self._asking.pop(peer, None)

    def receive(self, sender: NodeId, message: AgreementMessage, now_ms: float) -> None:
        self._hear_own(now_ms)
        match message:
            case Join():
                self._admit(sender, message.member, now_ms)
            case JoinRefused():
                self.refused = message
            case Learn():
                self._learn(sender, message, now_ms)
            case Known():
                if message.ask and message.epoch == self.topology.epoch:
                    self.outbox.append((sender, Known(self.topology.epoch, False)))
                self.heard(sender, message.epoch, now_ms)
            case Prepare() | Accept():
                self.heard(sender, message.epoch, now_ms)
                document = self.topology.document
                if document is not None and document.epoch == message.epoch and self.me in document.voters:
                    self.outbox.append((sender, self._vote(message)))
            case _:
                self.heard(sender, message.epoch, now_ms)
                self._tally(sender, message, now_ms)

    # Acceptor

    def _vote(self, message: Prepare | Accept) -> Vote:
        epoch, ballot = message.epoch, message.ballot
        if not self._permits(ballot):
            assert self._promised is not None
            return Rejected(epoch, ballot, self._promised)
        if self._promised != ballot:
            self._promised = ballot
            self.dirty = True
        if isinstance(message, Prepare):
            return Promise(epoch, ballot, self._accepted, self._accepted_document)
        if self._accepted != ballot:
            self._accepted, self._accepted_document = ballot, message.document
            self.dirty = True
        return Accepted(epoch, ballot)

    def _permits(self, ballot: Ballot) -> bool:
        """The promise: nothing below the highest ballot answered."""
        return self._promised is None or ballot >= self._promised

    # Proposer

    def _begin(self, now_ms: float) -> None:
        """Start on the first proposal that has something left to do on the document in force."""
        while self._proposals and self._attempt is None:
            proposal, document = self._proposals[0], self.topology.document
            result: Document | AgreementFailed | None
            if document is None:
                result = AgreementFailed("this node is not a member of a cluster yet")
            else:
                try:
                    changed = proposal.change(document)
                except ChangeRefused as refusal:
                    result = AgreementFailed(refusal.reason, refused=not refusal.again)
                else:
                    if changed is not None:
                        assert changed.epoch == document.epoch + 1 and changed.cluster == document.cluster
                        self._retry = Pace(self._rng)
                        self._retry.passed(now_ms)
                        # What was sent for an older epoch can no longer be decided; but it may have been, unseen from here.
                        proposal.passed_over |= bool(proposal.sent)
                        proposal.sent = b""
                        self._prepare(changed.encode())
                        return
                    result = document
            self._proposals.pop(0)
            proposal.done(result)

    def _prepare(self, own: bytes) -> None:
        self._round += 1
        self.dirty = True  # the round: after a restart this ballot must not be used for another value
        ballot = (self._round, self.me)
        self._attempt = _Attempt(ballot, own)
        self._ask_voters(Prepare(self.topology.epoch, ballot), set())

    def _ask_voters(self, message: Prepare | Accept, answered: set[NodeId]) -> None:
        assert self.topology.document is not None
        for node in self.topology.document.voters:
            if node == self.me:
                self._own.append(self._vote(message))
            elif node not in answered:
                self.outbox.append((node, message))

    def _hear_own(self, now_ms: float) -> None:
        if self._own and not self.dirty:
            votes, self._own = self._own, []
            for vote in votes:
                self._tally(self.me, vote, now_ms)

    def _tally(self, voter: NodeId, vote: Vote, now_ms: float) -> None:
        attempt, document = self._attempt, self.topology.document
        if attempt is None or document is None or vote.epoch != document.epoch or vote.ballot != attempt.ballot:
            return
        assert voter in document.voters, "only voters are asked"
        match vote:
            case Rejected():
                # Somebody else is at it. Stand back for the pause that tick() keeps, then come with a higher ballot.
                if vote.promised[0] > self._round:
                    self._round = vote.promised[0]
                    self.dirty = True
                self._attempt = _Attempt(None, attempt.own)
            case Promise() if not attempt.value:
                attempt.promises[voter] = vote
                if len(attempt.promises) >= document.majority():
                    self._choose(attempt, vote.ballot)
            case Accepted() if attempt.value:
                attempt.accepted.add(voter)
                if len(attempt.accepted) >= document.majority():
                    self._decided(Document.decode(attempt.value), now_ms)

    def _choose(self, attempt: _Attempt, ballot: Ballot) -> None:
        """Paxos' one rule: with a majority's promises, the value accepted at the highest ballot, or else one's own."""
        best = max(
            (promise for promise in attempt.promises.values() if promise.accepted is not None),
            key=lambda promise: promise.accepted or (0, b""),
            default=None,
        )
        if best is None:
            attempt.value = self._proposals[0].sent = attempt.own
        else:
            attempt.value = best.document
        self._ask_voters(Accept(self.topology.epoch, ballot, attempt.value), set())

    def _again(self) -> None:
        """The pause is over: repeat what was not answered, or come with a higher ballot after a rejection."""
        attempt = self._attempt
        assert attempt is not None, "the first proposal is always being tried"
        if attempt.ballot is None:
            self._prepare(attempt.own)
        elif attempt.value:
            self._ask_voters(Accept(self.topology.epoch, attempt.ballot, attempt.value), attempt.accepted)
        else:
            self._ask_voters(Prepare(self.topology.epoch, attempt.ballot), set(attempt.promises))

    def _expire(self, now_ms: float) -> None:
        late = [proposal for proposal in self._proposals if proposal.deadline_ms <= now_ms]
        if not late:
            return
        head = self._proposals[0]
        self._proposals = [proposal for proposal in self._proposals if proposal.deadline_ms > now_ms]
        document = self.topology.document
        attempt = self._attempt
        heard = 0 if attempt is None else max(len(attempt.promises), len(attempt.accepted))
        needed = 0 if document is None else document.majority()
        if head in late:
            self._attempt = None
        for proposal in late:
            reason = f"no majority of the voters agreed in time: {needed} needed, {heard} answered"
            proposal.done(AgreementFailed(reason, unknown=bool(proposal.sent) or proposal.passed_over))
        self._begin(now_ms)

    # Learner

    def _decided(self, document: Document, now_ms: float) -> None:
        """This proposer saw the majority; it tells old voters and new members."""
        before = self.topology.document
        assert before is not None
        self._install(document)
        told = dict.fromkeys([*before.voters, *(member.id for member in document.members)])
        for node in told:
            if node != self.me:
                self._teaching.setdefault(node, Pace(self._rng)).passed(now_ms)
                self.outbox.append((node, Learn(self._document)))
        self._next(now_ms)

    def _learn(self, sender: NodeId, message: Learn, now_ms: float) -> None:
        epoch = epoch_of(message.document)
        if epoch > self.topology.epoch:
            document = Document.decode(message.document)
            # A node without a document takes only one that names it; others keep to their own cluster.
            mine = self.topology.document
            if document.member(self.me) is None if mine is None else document.cluster != mine.cluster:
                return
            self._install(document)
            self.outbox.append((sender, Known(self.topology.epoch, False)))
            self._next(now_ms)
        self.heard(sender, epoch, now_ms)

    def _install(self, document: Document) -> None:
        installed = self.topology.install(document)
        assert installed
        self.dirty = True
        self._document = document.encode()
        self._promised = self._accepted = None
        self._accepted_document = b""
        self._own.clear()
        self._attempt = None
        self.refused = None
        self._follow(document)

    def _follow(self, document: Document) -> None:
        """Voters ask all members until each is known to hold the document, and all members ask the voters."""
        self._teaching.clear()
        self._known = {member.id: self._known.get(member.id, 0) for member in document.members}
        nodes = self._known if self.me in document.voters else document.voters
        missing = [node for node in nodes if node != self.me and self._known[node] < document.epoch]
        self._asking = {node: Pace(self._rng) for node in missing}

    def _next(self, now_ms: float) -> None:
        """A newer document is in force: is it the first proposal's own? The rest is tried on it."""
        document = self.topology.document
        assert document is not None
        if self._proposals and self._proposals[0].sent == self._document:
            self._proposals.pop(0).done(document)
        self._begin(now_ms)

    def _admit(self, sender: NodeId, member: Member, now_ms: float) -> None:
        """A non-member asks to be let in; its repeated questions are one proposal."""
        if sender != member.id:
            self.outbox.append((sender, JoinRefused("a node can ask to join for itself only", False)))
            return
        if sender in self._joining:
            return
        self._joining.add(sender)

        def answer(result: Document | AgreementFailed) -> None:
            self._joining.discard(sender)
            if isinstance(result, AgreementFailed):
                self.outbox.append((sender, JoinRefused(result.reason, not result.refused)))
            else:
                self.outbox.append((sender, Learn(self._document)))

        self.propose(lambda document: self._join(document, member), answer, now_ms)

    def _join(self, document: Document, member: Member) -> Document | None:
        """T4: who was given up for lost and has come back with its data keeps its place as long as it is up."""
        back = next(
            (other for other in document.members if other.id in document.lost and other.name == member.name), None
        )
        if back is not None and back.id != member.id and self.is_up(back.id):
            raise ChangeRefused(
                f"{member.name} was given up for lost, but it is up again, with its data; stop it, if this directory is to "
                "take its place",
                again=True,
            )
        return join(document, member)

    def _restore(self, saved: bytes) -> None:
        body = saved[8:]
        if xxh3_64_digest(body) != saved[:8]:
            raise AgreementStateDamaged("the saved topology fails its checksum")
        try:
            if (written := _head_decoder.decode(body).format) > FORMAT:
                raise TopologyTooNew(written)
            state = _decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise AgreementStateDamaged(f"the saved topology cannot be read: {error}") from error
        self._round, self._promised = state.round, state.promised
        self._accepted, self._accepted_document = state.accepted, state.accepted_document
        self._document = state.document
        if state.document:
            document = Document.decode(state.document)
            self.topology.install(document)
            self._follow(document)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Saved)
_head_decoder = msgspec.msgpack.Decoder(_Head)
