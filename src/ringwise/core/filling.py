"""Filling (T4): a node with an empty disk in a lost member's place gets the data of its slots from their other owners.

    for each other owner P, one after another:

    list ── Digests: all keys of the slots that both own, page by page ─▶ lacking here? ─▶ Read ─▶ merged, logged
    verify ── Hashes of these slots ─▶ those that differ are listed again
                                                       enough owners done ─▶ agreement: `filled`, an owner as any other

Why it is safe. Until then this node counts for nothing, so what is acknowledged meanwhile is held by enough owners without it.
What was acknowledged before, with the help of the lost copy, is held by one owner more, at least. An owner answers here only
under an epoch that has this node in its place, and from that epoch on refuses writes of those before (T5): so it holds all of
that by then, and a listing that begins afterwards shows it. N - majority + 1 other owners have one in common with any majority
less one; with three copies that is both of the others. They are never chosen again once filling has ended: what it found is on
this node's disk first.

A listing is the proof, not the hash: a slot that is written all the time has equal hashes at no time, and the trees of a node
that is filled fast are let go (storage/trees.py). The hashes are looked at all the same, where both have them.

Only what this node lacks crosses the wire, and nothing is sent back: mending the others is repair's business (R5).

Bounds: one page and one batch at a time, of half a MiB; after each a pause half as long as it took, so the busier the other owner
is with requests, the less it is asked; `fill_keys_per_s`. Nothing is remembered on disk: a restart lists again, and lacks less.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import NamedTuple

from ringwise.core import messages, versions
from ringwise.core.agreement import Agreement, AgreementFailed
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.exchange import BATCH_BYTES, BATCH_KEYS_FIRST, BATCH_KEYS_MAX, Row
from ringwise.core.hashing import FOLDED_AT_ONCE, Hashing
from ringwise.core.hashtree import GROUP_SLOTS, GROUPS
from ringwise.core.keys import BUCKET_BYTES, POSITION_BITS, key_of, position_of
from ringwise.core.lesson import teach
from ringwise.core.levels import QUORUM
from ringwise.core.messages import DIGEST_BYTES, Digested, Digests, Found, Hashed, Hashes, NodeId, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.record import intact
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.space import Spaces
from ringwise.core.store import Store
from ringwise.core.topology import Document, Topology, filled

WANTED_MAX = 4_000  # keys that are listed and not yet read: some pages ahead
GROUPS_AT_ONCE = 8  # an answer of nine kilobytes
ANSWER_DEADLINES = 5  # request timeouts that a question may take: a listing may wait for the disk
YIELD = 0.5  # of the time that an answer took, a pause follows
PAUSE_MS = 500.0  # before a peer that did not answer is asked again
TRIES_MAX = 20  # for a key that its owner cannot read: past it, it is left to the others, and told
VERIFY_MS_MAX = 60_000.0  # that this node waits for its own trees


class _Key(NamedTuple):
    slot: int
    rkey: bytes
    mine: bytes  # digest
    tries: int


class Source:
    """One other owner, and how far this node has come with it."""

    def __init__(self, peer: NodeId, ranges: list[tuple[int, int]], slots: int) -> None:
        self.peer = peer
        self.slots = slots
        self.ranges = deque(ranges)  # of positions, still to be listed
        self.asked: tuple[int, int] | None = None  # the one that is being listed
        self.groups = deque(range(GROUPS))  # still to be verified
        self.wanted: deque[_Key] = deque()
        self.listed = False
        self.done = False
        self.loading = 0  # keys that wait for this node's own disk
        self.tries = 0  # of a range that cannot be listed
        self.skipped = 0  # such places, one after another: each time twice as many slots are left out
        self.keys = 0  # listed
        self.received = 0
        self.unreadable = 0

    @property
    def left(self) -> int:
        """Slots that are still to be listed."""
        ranges = [*self.ranges, self.asked] if self.asked is not None else self.ranges
        return sum((end - start) >> POSITION_BITS for start, end in ranges)

    @property
    def share(self) -> float:
        """Of the way, from 0 to 1."""
        if self.done:
            return 1.0
        return 0.95 * (1 - min(self.left, self.slots) / max(1, self.slots)) if not self.listed else 0.95


class Filling:
    """The node's own filling, while the document says that it is `filling`."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        agreed: Agreement,
        store: Store,
        clock: Clock,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        hashing: Hashing,
        spaces: Spaces,
    ) -> None:
        self._spaces = spaces
        self._peers = peers
        self._topology = topology
        self._agreement = agreed
        self._store = store
        self._clock = clock
        self._config = config
        self._now = now
        self._cold = cold
        self._chunks = chunks
        self._hashing = hashing
        self.sources: dict[NodeId, Source] = {}
        self.received = 0  # keys, since the start of the node
        self.unreadable = 0
        self._voided = -1  # flushes until it began; -1: it has not
        self._at: Source | None = None
        self._proposed = False
        self._durable_at: int | None = None
        self._ticked_ms = 0.0
        self._pause_until_ms = 0.0  # before anything is asked
        self._list_from_ms = 0.0
        self._read_from_ms = 0.0
        self._verify_from_ms: float | None = None
        self._mine: list[Row] = []
        self._batch_keys = BATCH_KEYS_FIRST
        self._drop()

    def _drop(self) -> None:
        """Nothing is asked any more; answers that still come belong to nothing."""
        self._asked_id = 0  # of the listing, or of hashes
        self._asked_ms = 0.0
        self._question: Digests | Hashes | None = None
        self._own: tuple[dict[bytes, bytes], int] | None = None
        self._theirs: tuple[dict[bytes, bytes], int] | None = None
        self._batch: list[_Key] = []
        self._batch_id = 0
        self._batch_ms = 0.0
        self._batch_bytes = 0
        self._unanswered: set[int] = set()

    # -- what others see

    @property
    def active(self) -> bool:
        return self._peers.me in self._topology.filling

    @property
    def share(self) -> float:
        """How far, from 0 to 1."""
        if not self.active:
            return 1.0
        shares = [source.share for source in self.sources.values()]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def waits_for(self) -> list[NodeId]:
        """Other owners that are needed and cannot be reached."""
        if not self.active or self._enough():
            return []
        return [node for node, source in self.sources.items() if not (source.done or self._peers.is_up(node))]

    # -- steps

    def tick(self) -> None:
        """Goes on; the node calls it in every tick."""
        if not self.active:
            if self.sources:
                self._drop()
                self._at, self.sources, self._voided = None, {}, -1
                self._durable_at, self._proposed = None, False
            return
        if self._voided != self._spaces.voided:  # a flush meanwhile: what was before it is void (T5)
            self._begin()
        if self._enough():
            self._finish()
            return
        now_ms = self._now.now_ms
        at = self._at
        if at is None or at.done or not self._peers.is_up(at.peer):
            self._choose()
        elif not self._store.failed and not self._store.overloaded:
            late_ms = now_ms - ANSWER_DEADLINES * self._config.request_timeout_ms
            if (self._asked_id and self._asked_ms < late_ms) or (self._unanswered and self._batch_ms < late_ms):
                self._again()
            else:
                self._step(at)

    def _begin(self) -> None:
        self._drop()
        self._at = None
        self._voided = self._spaces.voided
        self._durable_at = self._verify_from_ms = None
        self.sources = {}
        for peer in sorted(self._topology.members):
            shared = self._hashing.shared_with(peer)
            if peer != self._peers.me and peer not in self._topology.filling and any(shared):
                self.sources[peer] = Source(peer, _runs(shared), sum(shared))

    def _enough(self) -> bool:
        """Whether every set of owners has as many done as have one in common with any majority less one."""
        if self._voided < 0:
            return False
        me, done = self._peers.me, {node for node, source in self.sources.items() if source.done}
        for owners in self._topology.sets:
            if me in owners:
                n = len(owners)
                need = min(n - 1, n - QUORUM.needed_writes(n) + 1)
                if len(done.intersection(owners)) < need:
                    return False
        return True

    def _choose(self) -> None:
        """The next owner that is up; what was under way with another is asked for again later."""
        if self._at is not None and not self._at.done:
            self._again()
        self._at = next(
            (source for node, source in self.sources.items() if not source.done and self._peers.is_up(node)), None
        )

    def _again(self, *, unreadable: bool = False) -> None:
        """The peer has not answered, or refuses: what it was asked for is asked for again, after a pause. What a disk does not
        give back is left to the others after some tries, and told."""
        at = self._at
        if at is not None:
            at.asked = None
            if isinstance(self._question, Digests) and self._asked_id:
                start, end = self._question.start, self._question.end
                at.tries += unreadable
                if at.tries >= (1 if at.skipped else TRIES_MAX):
                    start = min(end, ((start >> POSITION_BITS) + (1 << at.skipped)) << POSITION_BITS)
                    at.tries, at.skipped = 0, min(at.skipped + 1, 14)
                    at.unreadable += 1
                    self.unreadable += 1
                if start < end:
                    at.ranges.appendleft((start, end))
            elif isinstance(self._question, Hashes) and self._asked_id:
                at.groups.extendleft(reversed(self._question.numbers))
            at.wanted.extendleft(self._batch[i] for i in sorted(self._unanswered, reverse=True))
        self._drop()
        self._pause_until_ms = self._now.now_ms + PAUSE_MS

    def _step(self, at: Source) -> None:
        now_ms = self._now.now_ms
        if now_ms < self._pause_until_ms:
            return
        link = self._peers.links[at.peer]
        if not link.ready():
            return
        if at.wanted and not self._batch and now_ms >= self._read_from_ms:
            self._read(at, link)
        if at.ranges:
            if not self._asked_id and len(at.wanted) < WANTED_MAX and now_ms >= self._list_from_ms:
                self._list(at, link)
        elif not (self._asked_id or at.wanted or self._batch or at.loading):
            self._verify(at, link)

    # -- listing

    def _list(self, at: Source, link: Link) -> None:
        start, end = at.asked = at.ranges.popleft()
        self._own = self._theirs = None
        page = self._hashing.page_keys
        question = Digests(self._next_id(), self._topology.epoch, start, end, page)
        self._question = question
        self._peers.post(link, encode(question))
        if not self._store.digests(start, end, page, partial(self._own_page, at, question.id)):
            self._again()

    def _next_id(self) -> int:
        self._asked_id = self._peers.next_id()
        self._asked_ms = self._now.now_ms
        return self._asked_id

    def digested(self, link: Link, message: Digested) -> None:
        """The peer's keys of a range."""
        at = self._at
        if at is None or link.peer != at.peer or not self._asked_id or message.id != self._asked_id:
            return
        if message.refused or not message.whole:
            teach(self._peers, self._topology, link, {message.refused})
            self._again(unreadable=message.refused == messages.DAMAGED)
            return
        self._theirs = message.by_row(), message.end
        self._compare(at)

    def _own_page(self, at: Source, question_id: int, listed: list[tuple[bytes, bytes]] | None, upto: int) -> None:
        if self._at is not at or self._asked_id != question_id:
            return
        if listed is None:
            self._again(unreadable=True)
            return
        self._own = dict(listed), upto
        self._compare(at)

    def _compare(self, at: Source) -> None:
        """As far as both reach."""
        if self._own is None or self._theirs is None or not isinstance(self._question, Digests):
            return
        (mine, my_end), (theirs, their_end) = self._own, self._theirs
        asked, end = self._question, min(my_end, their_end)
        at.tries = at.skipped = 0
        self._asked_id, self._question = 0, None
        self._own = self._theirs = None
        now_ms = self._now.now_ms
        self._list_from_ms = now_ms + YIELD * (now_ms - self._asked_ms)
        for rkey, digest in sorted(theirs.items()):  # bucket by bucket: frames are of one incarnation
            key = key_of(rkey)
            slot = slot_of(key)
            if asked.start <= position_of(slot, key) < end and rkey[:BUCKET_BYTES] in self._spaces.live:
                at.keys += 1
                if mine.get(rkey) != digest:
                    at.wanted.append(_Key(slot, rkey, mine.get(rkey, b""), 0))
        at.asked = None
        if end < asked.end:
            at.ranges.appendleft((end, asked.end))

    # -- keys

    def _read(self, at: Source, link: Link) -> None:
        """The next batch; the pause behind it is as long as its answer takes."""
        prefix = at.wanted[0].rkey[:BUCKET_BYTES]
        batch: list[_Key] = []
        while at.wanted and len(batch) < self._batch_keys and at.wanted[0].rkey[:BUCKET_BYTES] == prefix:
            batch.append(at.wanted.popleft())
        self._batch, count = batch, len(batch)
        self._unanswered = set(range(count))
        self._batch_bytes = 0
        self._batch_ms = self._now.now_ms
        self._batch_id = self._peers.next_id()
        slots, rkeys, digests = ([key[i] for key in batch] for i in range(3))
        epoch = self._topology.epoch
        read = messages.Read(self._batch_id, epoch, False, slots, rkeys, digests)  # type: ignore[arg-type]
        self._peers.post(link, encode(read))

    def found(self, link: Link, message: Found) -> None:
        """The peer's states, in one message or several."""
        at = self._at
        if at is None or link.peer != at.peer or not self._batch or message.id != self._batch_id:
            return
        reasons = {reason for _, reason in message.refused}
        if reasons & {messages.BEHIND, messages.STALE}:
            teach(self._peers, self._topology, link, reasons)
            self._again()
            return
        refused = {position for position, _ in message.refused}
        answered = set(message.positions) | refused or set(range(len(self._batch)))
        for position in refused & self._unanswered:
            self._not_read(at, self._batch[position])
        for position, record in message.differing:
            if position in self._unanswered:
                self._batch_bytes += len(record)
                self._merge(at, self._batch[position], record)
        self._unanswered -= answered
        self._log()
        self._end_batch(at)

    def _not_read(self, at: Source, key: _Key) -> None:
        """S4: the owner cannot read it, and mends it by itself if it can: it needs others, but not this one."""
        if key.tries < TRIES_MAX:
            at.wanted.append(key._replace(tries=key.tries + 1))
            self._pause_until_ms = max(self._pause_until_ms, self._now.now_ms + PAUSE_MS)
        else:
            at.unreadable += 1
            self.unreadable += 1

    def _merge(self, at: Source, key: _Key, record: bytes) -> None:
        if self._store.failed or key.rkey[:BUCKET_BYTES] not in self._spaces.live or not record:
            return
        if not intact(record):
            self._not_read(at, key)
            return
        held = self._store.find(key.slot, key.rkey)
        if held is None:
            at.loading += 1
            again = partial(self._loaded, at, key, record)
            self._cold.load(key.slot, key.rkey, again, partial(self._not_loaded, at, key))
            return
        try:
            self._clock.observe(versions.max_stamp(record), self._now.wall_ms)
        except Failure:  # V7: one mad clock is not spread
            self._not_read(at, key)
            return
        state = versions.merge(held, record)
        if state != held:
            at.received += 1
            self.received += 1
            self._store.put(key.slot, key.rkey, held[:DIGEST_BYTES], state)
            self._mine.append((key.slot, key.rkey, held[:DIGEST_BYTES], state))

    def _loaded(self, at: Source, key: _Key, record: bytes) -> None:
        at.loading -= 1
        if self._at is not at:
            at.wanted.append(key)
            return
        self._merge(at, key, record)
        self._log()
        self._end_batch(at)

    def _not_loaded(self, at: Source, key: _Key, _error: Failure) -> None:
        at.loading -= 1
        self._not_read(at, key)
        if self._at is at:
            self._end_batch(at)

    def _log(self) -> None:
        """In the log in this turn, as every write."""
        if self._mine:
            self._chunks.append(messages.encode_rows(self._mine))
            self._mine = []

    def _end_batch(self, at: Source) -> None:
        if not self._batch or self._unanswered or at.loading:
            return
        count, now_ms = len(self._batch), self._now.now_ms
        self._batch_keys = max(1, min(BATCH_KEYS_MAX, BATCH_BYTES // (self._batch_bytes // count + 1)))
        took_ms = now_ms - self._batch_ms
        pause_ms = max(YIELD * took_ms, 1000.0 * count / self._config.fill_keys_per_s - took_ms)
        self._read_from_ms = now_ms + pause_ms
        self._batch = []

    # -- hashes

    def _verify(self, at: Source, link: Link) -> None:
        """All is listed, and all that was lacking is here: the hashes should be equal, but for writes under way."""
        at.listed = True
        now_ms = self._now.now_ms
        if self._verify_from_ms is None:
            self._verify_from_ms = now_ms
        ready = self._store.fold(FOLDED_AT_ONCE) and all(self._store.tree.ready)
        if not ready and now_ms < self._verify_from_ms + VERIFY_MS_MAX:
            return
        if not at.groups:
            at.done = True
            return
        groups = [at.groups.popleft() for _ in range(min(GROUPS_AT_ONCE, len(at.groups)))]
        question = Hashes(self._next_id(), self._topology.epoch, messages.SLOTS, groups)
        self._question = question
        self._peers.post(link, encode(question))

    def hashed(self, link: Link, message: Hashed) -> None:
        """The peer's hashes of slots: what differs is listed once more."""
        at, question = self._at, self._question
        if at is None or link.peer != at.peer or message.id != self._asked_id or not isinstance(question, Hashes):
            return
        mine = self._hashing.hashes_of(question, self._hashing.shared_with(at.peer))
        if message.refused or len(mine) != len(message.hashes):
            teach(self._peers, self._topology, link, {message.refused})
            self._again()
            return
        self._asked_id, self._question = 0, None
        for i, (one, other) in enumerate(zip(mine, message.hashes, strict=True)):
            if one is not None and other is not None and one != other:
                slot = question.numbers[i // GROUP_SLOTS] * GROUP_SLOTS + i % GROUP_SLOTS
                at.ranges.append((slot << POSITION_BITS, (slot + 1) << POSITION_BITS))

    # -- the end

    def _finish(self) -> None:
        """On this node's disk first; then everybody is told, by agreement."""
        if self._proposed or self._store.failed:
            return
        if self._durable_at is None:
            self._durable_at = self._store.position
        if self._store.sync_mode != "off" and self._store.synced < self._durable_at:
            return
        self._proposed = True
        me = self._peers.me
        self._agreement.propose(lambda document: filled(document, me), self._decided, self._now.now_ms)

    def _decided(self, _result: Document | AgreementFailed) -> None:
        self._proposed = False  # the next tick proposes again where this failed


def _runs(shared: bytes) -> list[tuple[int, int]]:
    """The slots marked, as ranges of positions."""
    runs: list[tuple[int, int]] = []
    slot = shared.find(1)
    while slot >= 0:
        end = shared.find(0, slot)
        end = SLOTS if end < 0 else end
        runs.append((slot << POSITION_BITS, end << POSITION_BITS))
        slot = shared.find(1, end)
    return runs
