"""A node's own copies of keys: what it does with the states and questions that coordinators send it.

Path of a replicated write: frame -> compare with what is held -> memtable -> commit log (at the end of the turn) -> answer.
Nearly every record in a frame was made from the very state this replica holds, which eight bytes prove; it then replaces that
state unread. Otherwise the two are merged (V1), and the log gets the merged state: log entries are final states.

B1, B4: a key that is neither in memory nor known to be absent is loaded by a worker; its position is answered later, and
operations on it keep their order in the store's queue. All else in the frame is answered at the end of the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import structs

from ringwise.core import deltas, messages, rows, versions
from ringwise.core.clock import Clock, wall_of
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, Overloaded, StampTooFar
from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.messages import Found, NodeId, Read, Write, Written
from ringwise.core.now import Now
from ringwise.core.peers import Link
from ringwise.core.record import size_of
from ringwise.core.space import Spaces
from ringwise.core.store import Store
from ringwise.core.topology import Topology

GAP_DOTS = 64  # beyond a gap: what is on its way comes soon, and each write costs more with each of them

Reply = Callable[[Link, messages.Message], None]


class _Late:
    """Positions of one request that were answered in this turn, after their keys had been loaded."""

    __slots__ = ("differing", "higher", "positions", "refused")

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.higher: list[tuple[int, int]] = []
        self.differing: list[tuple[int, bytes]] = []
        self.refused: list[tuple[int, int]] = []


class Replica:
    """Applies writes and answers reads of other nodes.

    `chunks` is what must be appended to the commit log before `answers` are sent; the node does both at the end of a turn.
    """

    def __init__(
        self,
        store: Store,
        topology: Topology,
        clock: Clock,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        spaces: Spaces,
    ) -> None:
        self._live = spaces.live  # the incarnations in force, as row keys begin with them; changed in place
        self._now = now
        self._cold = cold
        self._store = store
        self._topology = topology
        self._clock = clock
        self._config = config
        self._chunks = chunks
        # Set by the node: something of a collection has not come (V3).
        self.catch_up: Callable[[int, bytes], None] = _wait
        self.floor: Callable[[], int] = lambda: 0  # set by the node: what was sent before it was given up (V8)
        self.hints_of: Callable[[bytes], list[NodeId]] = _nobody  # set by the node: for whom a key waits here (R4)
        self.hint: Callable[[NodeId, Sequence[bytes], bool], None]  # set by the node: where it stands in (R2)
        self.room: Callable[[NodeId, Sequence[bytes]], bool]
        # Released once this turn's chunks are logged (synced, in mode `batch`).
        self.written: list[tuple[Link, Written]] = []
        self.found: list[tuple[Link, Found, bool]] = []  # the bool: only once synced
        self._late_writes: dict[tuple[int, int], tuple[Link, int, _Late]] = {}
        self._late_reads: dict[tuple[int, int, bool], tuple[Link, int, bool, _Late]] = {}

    # -- writes

    def write(self, link: Link, message: Write) -> None:
        """Merges the states of a frame into this node's own."""
        columns = messages.decode_chunk(message.chunk)
        if len(message.chunk) >= rows.OPEN_BYTES and max(map(len, columns.records), default=0) >= rows.OPEN_BYTES:
            columns = structs.replace(columns, records=list(map(rows.held, columns.records)))
        refusal = messages.STALE if link.peer in self._topology.former else self._refusal(message)
        slots, rkeys = columns.slots, columns.rkeys
        if not refusal and rkeys and rkeys[0][:BUCKET_BYTES] not in self._live:
            refusal = messages.STALE  # T5: a frame is of one incarnation; this one is dead
        if not refusal and message.owner:
            refusal = self._stand_in(message.owner, rkeys)
        if refusal:
            self.written.append((link, Written(message.id, [], [], [(i, refusal) for i in range(len(slots))])))
            return
        if message.epoch >= self._topology.changed_max:
            odd = self._store.replace_many(slots, rkeys, columns.bases, columns.records)
            if not odd:
                self._chunks.append(message.chunk)  # the same bytes: nothing is coded twice
                self.written.append((link, Written(message.id, [], [], [])))
                return
        else:
            odd = list(range(len(slots)))
        self._write_odd(link, message, columns, odd)

    def _stand_in(self, owner: NodeId, rkeys: Sequence[bytes]) -> int:
        """R2: hints with these keys, or why not, and then nothing is applied."""
        if owner not in self._topology.members:
            return messages.STALE  # T5: it has been replaced, which the coordinator is to learn
        if not self.room(owner, rkeys):
            return messages.NO_ROOM
        self.hint(owner, rkeys, True)
        return 0

    def _write_odd(self, link: Link, message: Write, columns: messages.Chunk, odd: list[int]) -> None:
        """The positions that need more than a replacement; the others of the frame are in the memtable already."""
        slots, rkeys = list(columns.slots), list(columns.rkeys)
        bases, records = list(columns.bases), list(columns.records)
        left_out: set[int] = set()
        higher: list[tuple[int, int]] = []
        refused: list[tuple[int, int]] = []
        alike = True
        for position in odd:
            slot, rkey, record = slots[position], rkeys[position], records[position]
            if self._topology.changed[slot] > message.epoch or rkey[:BUCKET_BYTES] not in self._live:
                refused.append((position, messages.STALE))
                left_out.add(position)
                continue
            held = self._store.find(slot, rkey)
            if held is None:
                left_out.add(position)
                then = partial(self._write_late, link, message.id, message.epoch, position, slot, rkey, record)
                self._cold.load(slot, rkey, then, partial(self._refuse_write, link, message.id, position))
                continue
            state = records[position] = self._merge_in(slot, rkey, held, record, position, higher)
            changed = state[:8] != held[:8]
            alike = alike and changed and deltas.is_delta(record) and bases[position][:8] == held[:8]
            bases[position] = held[:8]
        kept = [i for i in range(len(slots)) if i not in left_out]
        if alike and not left_out:
            self._chunks.append(
                message.chunk
            )  # deltas of states that this node is in as well: their bytes, as they came
        else:
            self._log([(slots[i], rkeys[i], bases[i], records[i]) for i in kept])
        if left_out:
            if kept or refused:
                self.written.append((link, Written(message.id, kept, higher, refused)))
        else:
            self.written.append((link, Written(message.id, [], higher, [])))

    def _merge_in(
        self, slot: int, rkey: bytes, held: bytes, record: bytes, position: int, higher: list[tuple[int, int]]
    ) -> bytes:
        state = versions.merge(held, record)
        shadow = versions.shadow(state, record) if state != record else 0
        if state != held:
            self._store.put(slot, rkey, held[:8], state)
        if shadow:
            higher.append((position, shadow))
        if isinstance(state, rows.Rows) and len(state.cloud) > GAP_DOTS:
            self.catch_up(slot, rkey)
        return state

    def _write_late(
        self, link: Link, request_id: int, epoch: int, position: int, slot: int, rkey: bytes, record: bytes
    ) -> None:
        """A write whose old record has just been loaded."""
        if self._store.failed:
            self._refuse_write(link, request_id, position, None)
            return
        if (
            rkey[:BUCKET_BYTES] not in self._live or self._topology.changed[slot] > epoch
        ):  # flushed, or fenced, meanwhile
            self._late_write(link, request_id).refused.append((position, messages.STALE))
            return
        held = self._store.find(slot, rkey)
        assert held is not None
        late = self._late_write(link, request_id)
        base = held[:8]
        state = self._merge_in(slot, rkey, held, record, position, late.higher)
        self._log([(slot, rkey, base, state)])
        late.positions.append(position)

    def _log(self, merged: list[tuple[int, bytes, bytes, bytes]]) -> None:
        """Rows of a chunk; not what a large collection is in the log as already."""
        changed = [row for row in merged if type(row[3]) is bytes or row[3][:8] != row[2]]
        if changed:
            self._chunks.append(messages.encode_rows(changed))

    def _refusal(self, message: Write) -> int:
        """Why nothing of this frame may be applied, or 0."""
        if message.epoch > self._topology.epoch or not self._topology.formed:
            return messages.BEHIND
        if message.stamp < self.floor():
            return messages.ZOMBIE
        if self._store.failed:
            return messages.NOT_WRITING
        if self._store.overloaded:
            return messages.OVERLOADED
        try:
            self._clock.observe(message.stamp, self._now.wall_ms)
        except StampTooFar:
            if not self._now.confirm(wall_of(message.stamp), self._clock.max_offset_ms):
                return messages.FAR_STAMP
            self._clock.observe(message.stamp, self._now.wall_ms)
        return 0

    # -- reads

    def read(self, link: Link, message: Read) -> None:
        """Looks up keys and answers with those that differ from the asker's digests."""
        refusal = messages.BEHIND if message.epoch > self._topology.epoch else 0
        if message.rkeys and message.rkeys[0][:BUCKET_BYTES] not in self._live:
            refusal = refusal or messages.STALE  # T5: of a dead incarnation
        if refusal:
            refused = [(i, refusal) for i in range(len(message.slots))]
            self.found.append((link, Found(message.id, [], [], refused), False))
            return
        find, news = self._store.find, versions.news
        differing: list[tuple[int, bytes]] = []
        odd: list[int] = []
        size = 0
        for position, (slot, rkey, digest) in enumerate(
            zip(message.slots, message.rkeys, message.digests, strict=False)
        ):
            held = find(slot, rkey)
            if held is None:
                odd.append(position)
            elif held[:8] != digest:
                told = news(held, digest)
                if told is not None:
                    differing.append((position, told))
                    size += size_of(told)
        changed = self._topology.changed
        stale = (
            [i for i, slot in enumerate(message.slots) if changed[slot] > message.epoch]
            if message.epoch < self._topology.changed_max
            else []
        )
        if not odd and not stale and size <= self._config.frame_bytes_max:
            hinted = self.hints_of(message.rkeys[0]) if message.digests == [b""] else []
            self.found.append((link, Found(message.id, [], differing, [], hinted), message.synced))
            return
        self._read_odd(link, message, differing, odd, stale)

    def _read_odd(
        self, link: Link, message: Read, differing: list[tuple[int, bytes]], odd: list[int], stale: list[int]
    ) -> None:
        refused = [(position, messages.STALE) for position in stale]
        left_out = {*odd, *stale}
        for position in odd:
            if position in stale:
                continue
            slot, rkey, digest = message.slots[position], message.rkeys[position], message.digests[position]
            then = partial(self._read_late, link, message.id, message.synced, position, slot, rkey, digest)
            self._cold.load(slot, rkey, then, partial(self._refuse_read, link, message.id, message.synced, position))
        whole = _Late()
        whole.positions = [position for position in range(len(message.slots)) if position not in left_out]
        whole.differing = [pair for pair in differing if pair[0] not in left_out]
        whole.refused = refused
        self._answer(link, message.id, message.synced, whole)

    def _answer(self, link: Link, request_id: int, synced: bool, whole: _Late) -> None:
        """B3: an answer in as many frames as it takes."""
        states = dict(whole.differing)
        part = _Late()
        part.refused = whole.refused
        size = 0
        for position in whole.positions:
            part.positions.append(position)
            if position in states:
                part.differing.append((position, states[position]))
                size += size_of(states[position])
                if size > self._config.frame_bytes_max:
                    self.found.append((link, Found(request_id, part.positions, part.differing, part.refused), synced))
                    part, size = _Late(), 0
        if part.positions or part.refused:
            self.found.append((link, Found(request_id, part.positions, part.differing, part.refused), synced))

    def _read_late(
        self, link: Link, request_id: int, synced: bool, position: int, slot: int, rkey: bytes, digest: bytes
    ) -> None:
        late = self._late_read(link, request_id, synced)
        if rkey[:BUCKET_BYTES] not in self._live:  # flushed while it waited
            late.refused.append((position, messages.STALE))
            return
        held = self._store.find(slot, rkey)
        assert held is not None
        late.positions.append(position)
        told = versions.news(held, digest) if held[:8] != digest else None
        if told is not None:
            late.differing.append((position, told))

    def _late_write(self, link: Link, request_id: int) -> _Late:
        return self._late_writes.setdefault((id(link), request_id), (link, request_id, _Late()))[2]

    def _late_read(self, link: Link, request_id: int, synced: bool) -> _Late:
        return self._late_reads.setdefault((id(link), request_id, synced), (link, request_id, synced, _Late()))[3]

    def _refuse_write(self, link: Link, request_id: int, position: int, error: Failure | None) -> None:
        self._late_write(link, request_id).refused.append((position, _reason(error)))

    def _refuse_read(self, link: Link, request_id: int, synced: bool, position: int, error: Failure) -> None:
        self._late_read(link, request_id, synced).refused.append((position, _reason(error)))

    def gather_late(self) -> None:
        """Before the end of a turn: the answers for keys that were loaded in it, one message for each request."""
        if self._late_writes:
            for link, request_id, late in self._late_writes.values():
                self.written.append((link, Written(request_id, late.positions, late.higher, late.refused)))
            self._late_writes = {}
        if self._late_reads:
            for link, request_id, synced, late in self._late_reads.values():
                self._answer(link, request_id, synced, late)
            self._late_reads = {}


def _wait(_slot: int, _rkey: bytes) -> None:
    """Hints and repair bring it, too."""


def _nobody(_rkey: bytes) -> list[NodeId]:
    return []


def _reason(error: Failure | None) -> int:
    if error is None:
        return messages.NOT_WRITING
    return messages.OVERLOADED if isinstance(error, Overloaded) else messages.DAMAGED
