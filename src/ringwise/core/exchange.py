"""The end of anti-entropy: keys that differ are looked at twice, and then exchanged, both ways (R5).

    differs, 1st look ── repair_confirm_ms ──▶ Read with the digest that was seen here ─▶ the state that was seen there?
                                                                                           │ no: somebody has written it
    merged (V1) ─▶ this node's memtable and log, if it lacked something                    ▼ yes
              └──▶ Write to the peer, if that lacked something                          2nd look

A write in flight looks like a difference. So only *the same* difference, the same two digests after a while, is believed: a key
that is written all the time is brought to all its owners by its writes; and who has missed one to a large collection asks for
it by itself (V3, `GetPath.catch_up`).

Nothing is overwritten: here and there a state is merged into what is held, by the path of any replica. No dot is issued.

Bounds: one request at a time, so the bytes in flight are those of one batch; a batch is as large as the last one's records say
that BATCH_BYTES are; and after each a pause, as `repair_keys_per_s` has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from functools import partial
from typing import NamedTuple, TypeAlias

from ringwise.core import messages, versions
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.messages import DIGEST_BYTES, Found, Written
from ringwise.core.now import Now
from ringwise.core.record import intact, size_of
from ringwise.core.store import Store

DIFFERING_MAX = 50_000  # keys that wait for their second look: those of two seconds at the greatest rate, 20 MB
BATCH_KEYS_FIRST = 32  # nothing is known of their size
BATCH_KEYS_MAX = 100  # a key that the disk has takes the loop some twenty microseconds: requests wait behind them
BATCH_BYTES = 512 * 1024  # twice that is in flight where records vary, beside one value of any size: within 1 MiB

Row: TypeAlias = tuple[int, bytes, bytes, bytes]  # of a chunk: slot, row key, base, record


class Difference(NamedTuple):
    """A key as it was at the first look; b"": no record."""

    seen_ms: float
    slot: int
    rkey: bytes
    mine: bytes
    theirs: bytes


class Tally:
    """What anti-entropy has done since the start of the node."""

    __slots__ = ("comparisons", "differing", "equal", "hash_bytes", "received", "rounds", "sent", "unanswered")

    def __init__(self) -> None:
        self.rounds = 0
        self.comparisons = 0  # with one peer each
        self.equal = 0  # of them, settled by one hash
        self.unanswered = 0  # of them, ended early
        self.differing = 0  # keys, at the first look
        self.received = 0  # keys that were brought up to date here
        self.sent = 0  # and at a peer
        self.hash_bytes = 0  # sent in questions and answers about hashes and digests

    def told(self) -> dict[str, int]:
        """By name, for whoever shows them."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def exchanged(self) -> int:
        """Keys that differed twice."""
        return self.received + self.sent


class Exchange:
    """The differing keys of one comparison with one peer.

    `post` sends a message to the peer and says whether it could; its answer comes to `found` or `written`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        tally: Tally,
        live: Container[bytes],
    ) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        self._now = now
        self._cold = cold
        self._chunks = chunks
        self._tally = tally
        self._live = live  # the incarnations in force
        self._differing: deque[Difference] = deque()
        self._batch: list[Difference] = []
        self._unanswered: set[int] = set()  # positions of the batch
        self.loading = 0  # keys that wait for the disk here
        self._mine: list[Row] = []  # for the log
        self._outgoing: deque[Row] = deque()
        self._batch_keys = BATCH_KEYS_FIRST
        self._batch_bytes = 0
        self._not_before_ms = 0.0
        self.ended = False  # its comparison is over; what still comes is dropped

    def __len__(self) -> int:
        return len(self._differing) + len(self._batch) + len(self._outgoing)

    @property
    def full(self) -> bool:
        return len(self._differing) >= DIFFERING_MAX

    @property
    def carries(self) -> bool:
        """It has asked for states, or holds some for the peer."""
        return bool(self._batch or self._outgoing)

    def add(self, slot: int, rkey: bytes, mine: bytes, theirs: bytes) -> None:
        """A first look."""
        self._tally.differing += 1
        self._differing.append(Difference(self._now.now_ms, slot, rkey, mine, theirs))

    @property
    def due(self) -> bool:
        """There is something to be sent now."""
        now_ms = self._now.now_ms
        if self._batch or now_ms < self._not_before_ms:
            return False
        if self._outgoing:
            return True
        return bool(self._differing) and self._differing[0].seen_ms + self._config.repair_confirm_ms <= now_ms

    def next(self, request_id: int, epoch: int) -> messages.Message | None:
        """The next message to the peer; None where everything that was due has settled by itself."""
        if self._outgoing:
            return messages.Write(request_id, epoch, self._clock.last, self._chunk())
        due_ms = self._now.now_ms - self._config.repair_confirm_ms
        while self._differing and len(self._batch) < self._batch_keys and self._differing[0].seen_ms <= due_ms:
            difference = self._differing[0]
            if self._batch and difference.rkey[:BUCKET_BYTES] != self._batch[0].rkey[:BUCKET_BYTES]:
                break  # T5: a frame is of one incarnation
            self._differing.popleft()
            held = self._store.find(difference.slot, difference.rkey)
            if held is None or held[:DIGEST_BYTES] == difference.mine:
                self._batch.append(difference)
        if not self._batch:
            return None
        self._batch_bytes = 0
        self._unanswered = set(range(len(self._batch)))
        self._not_before_ms = self._now.now_ms + 1000.0 * len(self._batch) / self._config.repair_keys_per_s
        slots, rkeys = [each.slot for each in self._batch], [each.rkey for each in self._batch]
        return messages.Read(request_id, epoch, False, slots, rkeys, [each.mine for each in self._batch])

    def _chunk(self) -> bytes:
        """B3: as many of the outgoing states as fit a frame, and one at least."""
        rows: list[Row] = []
        size = 0
        while self._outgoing:
            size += size_of(self._outgoing[0][3])
            if size > self._config.frame_bytes_max and rows:
                break
            if rows and self._outgoing[0][1][:BUCKET_BYTES] != rows[0][1][:BUCKET_BYTES]:
                break
            rows.append(self._outgoing.popleft())
        self._tally.sent += len(rows)
        return messages.encode_rows(rows)

    def found(self, message: Found) -> bool:
        """The peer's states, in one message or several; False where it refuses the frame. A key that it cannot read is left to
        the next round."""
        if any(reason in (messages.BEHIND, messages.STALE) for _, reason in message.refused):
            return False
        refused = [position for position, _ in message.refused]
        self._unanswered.difference_update([*message.positions, *refused] or range(len(self._batch)))
        for position, record in message.differing:
            if position < len(self._batch):
                self._batch_bytes += len(record)
                self._compare(self._batch[position], record)
        self._log()
        self._end_batch()
        return True

    @property
    def answered(self) -> bool:
        """The peer owes no more states."""
        return not self._unanswered

    def written(self, message: Written) -> bool:
        """The peer has merged what it was sent; False where it refuses."""
        return not message.refused

    # -- one key

    def _compare(self, difference: Difference, record: bytes) -> None:
        """The second look, at the peer's side; this node's was when it was asked."""
        if record[:DIGEST_BYTES] == difference.theirs and intact(record):
            self._merge(difference, record)

    def _merge(self, difference: Difference, record: bytes) -> None:
        slot, rkey = difference.slot, difference.rkey
        if self.ended or self._store.failed or rkey[:BUCKET_BYTES] not in self._live:
            return
        held = self._store.find(slot, rkey)
        if held is None:
            self.loading += 1
            self._cold.load(slot, rkey, partial(self._loaded, difference, record), self._unreadable)
            return
        try:
            self._clock.observe(versions.max_stamp(record), self._now.wall_ms)
        except Failure:
            return  # V7: one mad clock is not spread
        state = versions.merge(held, record)
        if state != held:
            self._tally.received += 1
            self._store.put(slot, rkey, held[:DIGEST_BYTES], state)
            self._mine.append((slot, rkey, held[:DIGEST_BYTES], state))
        if state != record:
            self._outgoing.append((slot, rkey, record[:DIGEST_BYTES], state))

    def _loaded(self, difference: Difference, record: bytes) -> None:
        self.loading -= 1
        self._merge(difference, record)
        self._log()
        self._end_batch()

    def _unreadable(self, _error: Failure) -> None:
        """Left to the next round."""
        self.loading -= 1
        self._end_batch()

    def _log(self) -> None:
        """Stored before sent: the chunk is in the log before this turn's frames leave."""
        if self._mine:
            self._chunks.append(messages.encode_rows(self._mine))
            self._mine = []

    def _end_batch(self) -> None:
        if self._batch and not self._unanswered and not self.loading:
            mean = self._batch_bytes // len(self._batch) + 1
            self._batch_keys = max(1, min(BATCH_KEYS_MAX, BATCH_BYTES // mean))
            self._batch = []
