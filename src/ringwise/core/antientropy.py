"""Anti-entropy (Dynamo, section 4.7; R5): replicas that should be equal find out where they are not, and become equal.

    every repair_interval_ms, with one peer after another:

    root ─ equal? done
      └─ groups that differ ─ slots that differ ─ leaves that differ ─ keys and digests of those ranges ─▶ core/exchange.py
         1 message             8 groups each       16 slots each        a page each

It mends what nothing else does: what a node missed while it was away, or lost with its disk, and nobody has read since. Whoever
begins asks, step by step, and the peer answers each question by itself and remembers nothing, so nothing is left behind where one
of the two dies. Both nodes of a pair begin rounds; each exchanges both ways.

Invariants
* Only slots that both own are compared, all buckets in force at once, under one and the same epoch (T5): any other question is
  refused, and any change ends the comparison.
* A slot whose tree is not ready is not compared; the rest is.
* What differs by its hashes is a suspicion only. Keys are exchanged where the data differ, twice (core/exchange.py), and listing
  them sets the leaves right, so a tree that is wrong makes no loop.
* Requests come first: one question at a time, one step a tick, none while the link's buffer is past its bound, and an answer that
  is late makes nobody look down: it ends the comparison, and the next round tries again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from ringwise.core import messages
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.exchange import Exchange, Tally
from ringwise.core.hashing import FOLDED_AT_ONCE, FOLDS_MAX, Hashing
from ringwise.core.hashtree import GROUP_SLOTS, LEAF_BITS, LEAF_SHIFT, LEAVES
from ringwise.core.keys import BUCKET_BYTES, key_of, position_of
from ringwise.core.lesson import teach
from ringwise.core.messages import Digested, Digests, Found, Hashed, Hashes, NodeId, Written, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.space import Spaces
from ringwise.core.store import Store
from ringwise.core.topology import Topology

GROUPS_AT_ONCE = 8  # of 128 slots, of 64 leaves: an answer of 9 KB takes some microseconds to make and to read
SLOTS_AT_ONCE = 16
STEPS_PER_TICK = 8  # questions; each costs both sides about a tenth of a millisecond
GAP_KEYS = 8  # between two leaves that differ: to list so many more is cheaper than another question
ANSWER_DEADLINES = 5  # request timeouts that a question may take: a listing may wait for the disk

Page: TypeAlias = tuple[dict[bytes, bytes], int]  # digests by row key, and the position before which these are all

_EVERY = bytes([1]) * SLOTS


class _Comparison:
    """One peer, from the root down to the keys."""

    __slots__ = (
        "asked_ms",
        "epoch",
        "exchange",
        "folds",
        "groups",
        "id",
        "link",
        "mine",
        "question",
        "ranges",
        "shared",
        "slots",
        "started",
        "theirs",
    )

    def __init__(self, link: Link, epoch: int, shared: bytes, exchange: Exchange) -> None:
        self.link = link
        self.epoch = epoch
        self.shared = shared
        self.exchange = exchange
        self.started = False
        self.folds = 0
        self.id = 0  # of the question that is not answered; 0: none
        self.asked_ms = 0.0
        self.question: messages.Message | None = None
        self.groups: deque[int] = deque()
        self.slots: deque[int] = deque()
        self.ranges: deque[tuple[int, int]] = deque()  # of positions
        self.mine: Page | None = None  # of a range, until both are there
        self.theirs: Page | None = None


class AntiEntropy:
    """The rounds that this node begins, and its answers in those of others."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        clock: Clock,
        spaces: Spaces,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        rng: random.Random,
    ) -> None:
        self.tally = Tally()
        self.hashing = Hashing(peers, topology, store, config, self.tally)
        self._live = spaces.live
        self._peers = peers
        self._topology = topology
        self._store = store
        self._clock = clock
        self._config = config
        self._now = now
        self._cold = cold
        self._chunks = chunks
        self._rng = rng
        self._due_ms: float | None = None
        self._steps_left = STEPS_PER_TICK
        self._slots = _EVERY  # of the present round
        self._waiting: list[NodeId] = []  # peers that the round comes to
        self._comparison: _Comparison | None = None

    # -- rounds

    def begin(self, slot: int | None = None) -> None:
        """A round now, with all peers, of all slots or of one; it takes the place of one that is under way."""
        self._end_comparison()
        slots = _EVERY
        if slot is not None:
            marked = bytearray(SLOTS)
            marked[slot] = 1
            slots = bytes(marked)
        self._slots = slots
        filling = self._topology.filling  # T4: who has its data not yet gets them another way (core/filling.py)
        others = [peer for peer in sorted(self._topology.members) if peer != self._peers.me and peer not in filling]
        self._waiting = [] if self._peers.me in filling else others
        self._rng.shuffle(self._waiting)
        if not self._waiting:
            self._end_round()

    @property
    def running(self) -> bool:
        """A round is under way."""
        return bool(self._waiting) or self._comparison is not None

    @property
    def with_peer(self) -> NodeId | None:
        """Whom the round has come to."""
        return None if self._comparison is None else self._comparison.link.peer

    @property
    def ready(self) -> int:
        """Slots whose tree is whole, so that they can be compared."""
        return sum(self._store.tree.ready)

    @property
    def settled(self) -> bool:
        """No state of a key is on its way to a peer, or waits for the disk (V8)."""
        return self._comparison is None or not (self._comparison.exchange.carries or self._comparison.exchange.loading)

    @property
    def left(self) -> int:
        """Keys that wait for their second look, or are on their way."""
        return 0 if self._comparison is None else len(self._comparison.exchange)

    def tick(self) -> None:
        """A small step; where its answer comes before the next tick, some more."""
        self.hashing.tick()
        self._steps_left = STEPS_PER_TICK
        if self._comparison is not None:
            self._step(self._comparison)
        elif self._waiting:
            self._compare_next()
        elif self._due_ms is None:
            self._schedule()
        elif self._config.repair_interval_ms and self._now.now_ms >= self._due_ms and self._topology.formed:
            self.begin()

    def _schedule(self) -> None:
        """Jittered, or the nodes of a cluster that was started at once would all ask at once for ever."""
        self._due_ms = self._now.now_ms + self._config.repair_interval_ms * self._rng.uniform(0.5, 1.5)

    def _compare_next(self) -> None:
        peer = self._waiting.pop()
        link = self._peers.links.get(peer)
        shared = self.hashing.shared_with(peer)
        if self._slots is not _EVERY:
            shared = bytes(a & b for a, b in zip(shared, self._slots, strict=True))
        if link is not None and self._peers.is_up(peer) and self._topology.formed and self._may_write() and any(shared):
            exchange = Exchange(
                self._store, self._clock, self._config, self._now, self._cold, self._chunks, self.tally, self._live
            )
            self.tally.comparisons += 1
            self._comparison = _Comparison(link, self._topology.epoch, shared, exchange)
        elif not self._waiting:
            self._end_round()

    def _end_comparison(self) -> None:
        if self._comparison is not None:
            self._comparison.exchange.ended = True
            self._comparison = None

    def _over(self, answered: bool) -> None:
        """With this peer."""
        self._end_comparison()
        self.tally.unanswered += not answered
        if not self._waiting:
            self._end_round()

    def _end_round(self) -> None:
        self.tally.rounds += 1
        self._schedule()

    def _may_write(self) -> bool:
        return not (self._store.failed or self._store.overloaded)

    # -- one comparison, from above

    def _go_on(self) -> None:
        """After an answer, in the same turn."""
        at = self._comparison
        if at is not None and not at.id and self._steps_left:
            self._step(at)

    def _step(self, at: _Comparison) -> None:
        self._steps_left -= 1
        same = at.epoch == self._topology.epoch
        if not same or self._peers.links.get(at.link.peer) is not at.link or not self._may_write():
            self._over(False)
        elif at.id or at.exchange.loading:
            if self._now.now_ms - at.asked_ms > ANSWER_DEADLINES * self._config.request_timeout_ms:
                self._over(False)
        elif not at.link.ready():
            pass  # requests first
        elif at.exchange.due:
            message = at.exchange.next(self._next_id(at), at.epoch)
            at.question = message
            if message is None:
                at.id = 0
            else:
                self._peers.post(at.link, encode(message))
        elif not at.exchange.full:  # else the first of them are due soon
            self._look(at)

    def _look(self, at: _Comparison) -> None:
        if not at.started:
            at.folds += 1
            if not self._store.fold(FOLDED_AT_ONCE) and at.folds < FOLDS_MAX:
                return
            at.started = True
            if self._slots is not _EVERY:
                at.slots.extend(slot for slot in range(SLOTS) if at.shared[slot])
            elif self._store.tree.all_ready(at.shared):
                self._ask(at, messages.ROOT, [])
            else:
                self._look_at_all(at)
        elif at.ranges:
            start, end = at.ranges.popleft()
            at.mine = at.theirs = None
            question = Digests(self._next_id(at), at.epoch, start, end, self.hashing.page_keys)
            self._send(at, question)
            if not self._store.digests(start, end, self.hashing.page_keys, partial(self._own_page, at, at.id)):
                at.id = 0  # too many wait: this range is left to the next round
        elif at.slots:
            self._ask(at, messages.LEAVES, [at.slots.popleft() for _ in range(min(SLOTS_AT_ONCE, len(at.slots)))])
        elif at.groups:
            self._ask(at, messages.SLOTS, [at.groups.popleft() for _ in range(min(GROUPS_AT_ONCE, len(at.groups)))])
        elif not at.exchange:
            self._over(True)

    def _look_at_all(self, at: _Comparison) -> None:
        """There is no hash of all, so what is ready is compared slot by slot."""
        ready = self._store.tree.ready
        starts = range(0, SLOTS, GROUP_SLOTS)
        at.groups.extend(start // GROUP_SLOTS for start in starts if any(ready[start : start + GROUP_SLOTS]))

    def _next_id(self, at: _Comparison) -> int:
        at.id = self._peers.next_id()
        at.asked_ms = self._now.now_ms
        return at.id

    def _ask(self, at: _Comparison, level: int, numbers: list[int]) -> None:
        self._send(at, Hashes(self._next_id(at), at.epoch, level, numbers))

    def _send(self, at: _Comparison, question: Hashes | Digests) -> None:
        """Not through `Peers.ask`: the answer may wait for the disk, and is no sign of life that others count on."""
        at.question = question
        frame = encode(question)
        self.tally.hash_bytes += len(frame)
        self._peers.post(at.link, frame)

    def _asked(self, link: Link, request_id: int) -> _Comparison | None:
        at = self._comparison
        return at if at is not None and at.link.peer == link.peer and at.id == request_id else None

    def hashed(self, link: Link, message: Hashed) -> None:
        """The peer's hashes: what differs is looked at more closely."""
        at = self._asked(link, message.id)
        if at is None or not isinstance(at.question, Hashes):
            return
        at.id = 0
        if message.refused == messages.NOT_READY:
            self._look_at_all(at)
            return
        mine = self.hashing.hashes_of(at.question, at.shared)
        if message.refused or len(mine) != len(message.hashes):
            teach(self._peers, self._topology, at.link, {message.refused})
            self._over(False)
            return
        pairs = zip(mine, message.hashes, strict=True)
        differing = [i for i, (a, b) in enumerate(pairs) if a != b and a is not None and b is not None]
        numbers = at.question.numbers
        match at.question.level:
            case messages.ROOT:
                if differing:
                    self._ask(at, messages.GROUPS, [])
                else:
                    self.tally.equal += 1
            case messages.GROUPS:
                at.groups.extend(differing)
            case messages.SLOTS:
                at.slots.extend(numbers[i // GROUP_SLOTS] * GROUP_SLOTS + i % GROUP_SLOTS for i in differing)
            case _ if not differing and self._slots is not _EVERY:
                self.tally.equal += 1  # of the one slot that was asked for
            case _:
                leaves = [numbers[i // LEAVES] << LEAF_BITS | i % LEAVES for i in differing]
                at.ranges.extend(_ranges(leaves, self._store.tree.leaves))
        self._go_on()

    def digested(self, link: Link, message: Digested) -> None:
        """The peer's keys of a range."""
        at = self._asked(link, message.id)
        if at is None or not isinstance(at.question, Digests):
            return
        if message.refused in (messages.DAMAGED, messages.OVERLOADED):
            at.id = 0  # this range is left to the next round
        elif message.refused or not message.whole:
            teach(self._peers, self._topology, at.link, {message.refused})
            self._over(False)
        else:
            at.theirs = message.by_row(), message.end
            self._compare_pages(at, at.question)

    def _own_page(self, at: _Comparison, request_id: int, listed: list[tuple[bytes, bytes]] | None, upto: int) -> None:
        if self._comparison is not at or at.id != request_id or not isinstance(at.question, Digests):
            return
        if listed is None:
            at.id = 0  # it cannot be read: left to the next round
            return
        at.mine = dict(listed), upto
        self._compare_pages(at, at.question)

    def _compare_pages(self, at: _Comparison, asked: Digests) -> None:
        """As far as both reach."""
        if at.mine is None or at.theirs is None:
            return
        (mine, my_end), (theirs, their_end) = at.mine, at.theirs
        at.mine = at.theirs = None
        at.id = 0
        end = min(my_end, their_end)
        for rkey in sorted({*mine, *theirs}):  # bucket by bucket: frames are of one incarnation
            key, one, other = key_of(rkey), mine.get(rkey, b""), theirs.get(rkey, b"")
            slot = slot_of(key)
            if one != other and asked.start <= position_of(slot, key) < end and rkey[:BUCKET_BYTES] in self._live:
                at.exchange.add(slot, rkey, one, other)
        if end < asked.end:
            at.ranges.appendleft((end, asked.end))
        self._go_on()

    # -- keys

    def found(self, link: Link, message: Found) -> None:
        """The peer's states of differing keys."""
        at = self._asked(link, message.id)
        if at is None:
            return
        if not at.exchange.found(message):
            self._over(False)
        elif at.exchange.answered:
            at.id = 0
            self._go_on()

    def written(self, link: Link, message: Written) -> None:
        """The peer has merged what it lacked."""
        at = self._asked(link, message.id)
        if at is None:
            return
        at.id = 0
        if not at.exchange.written(message):
            self._over(False)
        else:
            self._go_on()


def _ranges(leaves: list[int], held: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of leaves in ascending order; neighbours make one range, so that empty replicas are filled by whole pages. So
    do leaves of one slot with few keys between them, told by the leaves `held` here: there the peer has no others."""
    ranges: list[tuple[int, int]] = []
    last = -1
    for leaf in leaves:
        start, end = leaf << LEAF_SHIFT, (leaf + 1) << LEAF_SHIFT
        near = last >= 0 and (
            last + 1 == leaf
            or (last >> LEAF_BITS == leaf >> LEAF_BITS and sum(map(bool, held[last + 1 : leaf])) <= GAP_KEYS)
        )
        if near:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
        last = leaf
    return ranges
