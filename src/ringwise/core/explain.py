"""What each owner of a key holds, as it is: nothing is merged and nothing repaired by looking.

A read merges the answers of R owners and mends what differs; this asks every owner for its own state and keeps the answers
apart, so that people can see what a read, a conflict or a repair is made of. An owner is asked with an empty digest, so it
sends its record whatever that is (`core/replica.py`); one that is down, or silent until the deadline, is named as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ringwise.core import messages
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, NotReady
from ringwise.core.messages import Found, NodeId, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.ring import slot_of
from ringwise.core.space import Space, Spaces
from ringwise.core.standins import StandIns
from ringwise.core.store import Store
from ringwise.core.topology import Topology

ANSWERED = "answered"
DOWN = "down"
SILENT = "silent"
REFUSED = "refused"

OTHERS_MAX = 16  # nodes that are asked beside the owners; a stand-in is the first one that was up


@dataclass(frozen=True)
class Copy:
    """One owner's answer. `record` is b"" where it holds none, and means nothing unless `state` is ANSWERED."""

    owner: NodeId
    state: str
    record: bytes
    hinted: tuple[NodeId, ...] = ()  # owners for whom this one keeps a hint on the key (R4)


@dataclass(frozen=True)
class Explanation:
    """Where a key lives, what each of its owners, in order of preference, holds, and who else keeps it for one of them."""

    key: bytes
    slot: int
    copies: list[Copy]
    stand_ins: list[Copy]  # R2: the next one on the ring first


Done = Callable[[Explanation | Failure], None]


class _Question:
    """One explanation on its way."""

    def __init__(
        self,
        path: ExplainPath,
        key: bytes,
        slot: int,
        owners: tuple[NodeId, ...],
        others: Iterable[NodeId],
        done: Done,
    ) -> None:
        self.id = 0
        self.started_ms = 0.0
        self.key = key
        self.slot = slot
        self.owners = owners
        self.copies: dict[NodeId, Copy | None] = dict.fromkeys((*owners, *others))
        self.done = done
        self._path = path

    def lost(self, peer: NodeId) -> None:
        """Its link broke."""
        self._path.told(self, Copy(peer, DOWN, b""))


class ExplainPath:
    """Asks owners, on any node."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        spaces: Spaces,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        hints_of: Callable[[bytes], list[NodeId]],
        stand_ins: StandIns,
    ) -> None:
        self._stand_ins = stand_ins
        self._hints_of = hints_of
        self._peers = peers
        self._topology = topology
        self._store = store
        self._spaces = spaces
        self._config = config
        self._now = now
        self._cold = cold
        self._open: dict[int, _Question] = {}

    def explain(self, key: bytes, done: Done, space: Space | None = None) -> None:
        """Calls `done` once, with every owner's answer or with why there can be none."""
        if not self._topology.epoch:
            done(NotReady("this node is in no cluster yet"))
            return
        slot, rkey = slot_of(key), (space or self._spaces.home).row_key(key)
        topology = self._topology
        others = self._stand_ins.order(topology.sets[topology.owner_set[slot]])[:OTHERS_MAX]
        others = [node for node in others if node == self._peers.me or self._peers.is_up(node)]
        question = _Question(self, key, slot, topology.owners[slot], others, done)
        question.id = self._peers.next_id()
        question.started_ms = self._now.now_ms
        self._open[question.id] = question
        frame = encode(messages.Read(question.id, self._topology.epoch, False, [slot], [rkey], [b""]))
        for owner in question.copies:
            if owner == self._peers.me:
                self._look(question, slot, rkey)
            elif not self._peers.is_up(owner) or not self._peers.ask(owner, question, frame):
                self.told(question, Copy(owner, DOWN, b""))

    def _look(self, question: _Question, slot: int, rkey: bytes) -> None:
        held = self._store.find(slot, rkey)
        me = self._peers.me
        if held is None:
            again = partial(self._look, question, slot, rkey)
            self._cold.load(slot, rkey, again, lambda _: self.told(question, Copy(me, REFUSED, b"")))
        else:
            self.told(question, Copy(me, ANSWERED, held, tuple(self._hints_of(rkey))))

    def found(self, link: Link, message: Found) -> None:
        """An owner's answer, if it belongs to an explanation."""
        question = self._peers.request(link.peer, message.id)
        if not isinstance(question, _Question):
            return
        self._peers.answered(link.peer, message.id)
        record = message.differing[0][1] if message.differing else b""
        state = REFUSED if message.refused else ANSWERED
        self.told(question, Copy(link.peer, state, record, tuple(message.hinted)))

    def told(self, question: _Question, copy: Copy) -> None:
        """One owner's answer is known."""
        if question.copies[copy.owner] is None and question.id in self._open:
            question.copies[copy.owner] = copy
            if None not in question.copies.values():
                self._end(question)

    def tick(self) -> None:
        """Ends what is past its deadline: who has not answered is silent."""
        late_ms = self._now.now_ms - self._config.request_timeout_ms
        for question in [question for question in self._open.values() if question.started_ms <= late_ms]:
            self._end(question)

    def _end(self, question: _Question) -> None:
        del self._open[question.id]
        copies = {node: copy or Copy(node, SILENT, b"") for node, copy in question.copies.items()}
        owners = [copies.pop(owner) for owner in question.owners]
        keeping = [copy for copy in copies.values() if copy.state == ANSWERED and (copy.record or copy.hinted)]
        question.done(Explanation(question.key, question.slot, owners, keeping))
