"""The answers to questions about hashes and digests, each by itself: nothing of a comparison is remembered here (R5).

Who asks must do so under the very epoch that is in force here (T5), so that both mean the same slots and buckets.
An answer waits some ticks where writes are still to be folded into the tree: it would find differences that are none.
"""

from __future__ import annotations

from functools import partial

from ringwise.core import messages
from ringwise.core.config import NodeConfig
from ringwise.core.exchange import Tally
from ringwise.core.hashtree import GROUPS, LEAVES
from ringwise.core.messages import DIGEST_BYTES, Digested, Digests, Hashed, Hashes, NodeId, encode
from ringwise.core.peers import Link, Peers
from ringwise.core.ring import SLOTS
from ringwise.core.store import Store
from ringwise.core.topology import Topology

PAGE_KEYS = 200  # 6 KB of usual keys, and a millisecond or two of the loop: requests wait behind it
FOLDED_AT_ONCE = 1000  # a millisecond or two
FOLDS_MAX = 20  # ticks that a comparison waits for the tree: then it goes on, and finds differences that are none
QUESTIONS_MAX = 100  # that wait for folding; each peer asks one at a time


class Hashing:
    """What this node tells others, and itself, of its hashes."""

    def __init__(self, peers: Peers, topology: Topology, store: Store, config: NodeConfig, tally: Tally) -> None:
        self._peers = peers
        self._topology = topology
        self._store = store
        self._tally = tally
        self._shared: dict[NodeId, bytes] = {}  # of the epoch:
        self._shared_epoch = 0
        self._questions: list[tuple[Link, Hashes, int]] = []  # that wait for the tree, and how many ticks they have
        self.page_keys = max(1, min(PAGE_KEYS, config.frame_bytes_max // (config.key_bytes_max + 2 * DIGEST_BYTES)))

    def tick(self) -> None:
        """Answers what has waited for the tree."""
        questions, self._questions = self._questions, []
        for link, question, folds in questions:
            self._answer_folded(link, question, folds + 1)

    def shared_with(self, peer: NodeId) -> bytes:
        """A 1 for each slot that both own."""
        topology, me = self._topology, self._peers.me
        if self._shared_epoch != topology.epoch:
            self._shared_epoch = topology.epoch
            self._shared.clear()
        shared = self._shared.get(peer)
        if shared is None:
            both = [me in owners and peer in owners for owners in topology.sets]
            shared = self._shared[peer] = bytes([both[number] for number in topology.owner_set])
        return shared

    def hashes(self, link: Link, message: Hashes) -> None:
        """Answers for what this node holds, once it is in the tree."""
        self._answer_folded(link, message, 0)

    def _answer_folded(self, link: Link, message: Hashes, folds: int) -> None:
        refused = self._refusal(message.epoch)
        if not refused and not self._store.fold(FOLDED_AT_ONCE) and folds < FOLDS_MAX:
            if len(self._questions) < QUESTIONS_MAX:
                self._questions.append((link, message, folds))
            return
        hashes: list[int | None] = []
        if not refused:
            shared = self.shared_with(link.peer)
            if message.level <= messages.GROUPS and not self._store.tree.all_ready(shared):
                refused = messages.NOT_READY
            else:
                hashes = self.hashes_of(message, shared)
        frame = encode(Hashed(message.id, hashes, refused))
        self._tally.hash_bytes += len(frame)
        self._peers.post(link, frame)

    def digests(self, link: Link, message: Digests) -> None:
        """Answers with the keys of a range."""
        refused = self._refusal(message.epoch)
        if not refused:
            limit = max(1, min(message.limit, self.page_keys))
            if self._store.digests(message.start, message.end, limit, partial(self._tell, link, message)):
                return
            refused = messages.OVERLOADED
        self._peers.post(link, encode(Digested(message.id, 0, [], b"", refused)))

    def _tell(self, link: Link, message: Digests, listed: list[tuple[bytes, bytes]] | None, upto: int) -> None:
        refused = self._refusal(message.epoch)
        if listed is None or refused:
            answer = Digested(message.id, 0, [], b"", refused or messages.DAMAGED)
        else:
            rkeys = [rkey for rkey, _ in listed]
            answer = Digested(message.id, upto, rkeys, b"".join(digest for _, digest in listed), 0)
        frame = encode(answer)
        self._tally.hash_bytes += len(frame)
        self._peers.post(link, frame)

    def _refusal(self, epoch: int) -> int:
        if epoch > self._topology.epoch:
            return messages.BEHIND
        return messages.STALE if epoch < self._topology.epoch else 0

    def hashes_of(self, question: Hashes, shared: bytes) -> list[int | None]:
        """This node's own answer to a question, over the slots that count."""
        tree, numbers = self._store.tree, question.numbers
        match question.level:
            case messages.ROOT:
                return [tree.root(shared)]
            case messages.GROUPS:
                return list(tree.groups(shared))
            case messages.SLOTS:
                return [each for group in numbers if 0 <= group < GROUPS for each in tree.slots(group, shared)]
            case _:
                return [each for slot in numbers if 0 <= slot < SLOTS for each in self._leaves(slot, shared)]

    def _leaves(self, slot: int, shared: bytes) -> list[int | None]:
        if not shared[slot] or not self._store.tree.ready[slot]:
            return [None] * LEAVES
        return list(self._store.tree.leaves_of(slot))
