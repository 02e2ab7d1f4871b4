"""The store: what one node holds of every slot, in memory at once or from disk later (design, section 6).

    put ─▶ memtable (tables)          find ─▶ memtable ▶ frozen memtable ▶ cache ▶ slot complete? ─▶ absent
    append ─▶ commit log                                                              else cold: load()

`find` and `put` are called for every operation, so they are dictionary look-ups and nothing else; bytes are counted
by the chunk in `append`. Everything slow runs in the worker, everything long in slices of `background`.

Invariants
* The commit log holds final states, and of collections what changed (V3), for which alone replay asks the engine. The chunks of
  one turn may hold a key's states in another order than they came to be, so replay overwrites what a state was made from (its
  base) and merges with anything else.
  What the log holds above the engine's position is in the memtable (or the frozen one) too, at every moment: after a
  crash nothing appended is missing (S2).
* `complete[slot]` is 1 while all that the engine holds of the slot is in memory; then a miss is an absence. So it is where all
  is in memory that it holds of a bucket's incarnation which began in this run.
* `find` says b"" only for what is known to be absent; what could not be read is None, before and after `load`.
* At most one flush at a time. While the memtable is past twice its limit, the store is `overloaded`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from ringwise.core.hashtree import HashTree
from ringwise.core.hints import BUCKET as HINTS
from ringwise.core.keys import BUCKET_BYTES, key_of, storage_key
from ringwise.core.messages import decode_chunk
from ringwise.core.record import CHECKSUM_BYTES, Opened, intact
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.store import Digested, Named, Swept
from ringwise.core.versions import max_stamp, merge
from ringwise.storage.cache import RecordCache
from ringwise.storage.commitlog import CommitLog, SyncMode
from ringwise.storage.disk import Disk
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed
from ringwise.storage.flush import Flush
from ringwise.storage.purge import Purge
from ringwise.storage.reads import ColdReads
from ringwise.storage.sweep import Sweep
from ringwise.storage.trees import FOLD_RUN, Trees
from ringwise.storage.walk import Walks

MEBIBYTE = 1024 * 1024
SYNC_EVERY_MS = 1000.0  # sync mode `periodic`, as Redis `everysec`
REPLAY_FACTOR = 3  # of the memtable's size: the most that is logged before a flush
# Of the memtable's size: collections that were written to are held whole until they are flushed, and a flush writes each whole.
ROWS_FACTOR = 4
# Since removed rows were flushed: where many go, the engine gives their space back once, and not while they go.
CALM_MS = 15_000.0
SLOTS_OF_A_RECLAIM = 256  # of one job: a clean stop waits for it
# Of the removed rows at which a flush begins at the latest: with fewer gone, the engine is not even asked.
RECLAIM_SHARE = 0.5
FREEZE_PRESSURE = 1.5  # a flush this late waits for nothing more
BEGUN_MAX = 64  # incarnations of which it is known what memory holds: 16 KB each
ENTRY_BYTES = 200  # what CPython spends on an entry of the memtable beside the bytes of the chunk


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Sizes in bytes."""

    sync_mode: SyncMode = "periodic"
    memtable_bytes: int = 256 * MEBIBYTE  # larger flushes make fewer SSTables to compact, and a longer replay
    cache_bytes: int = 256 * MEBIBYTE
    segment_bytes: int = 64 * MEBIBYTE  # the unit in which the log is cut
    # So many removed rows are flushed at the latest, though the memtable has room, since that gives back memory and log.
    removed_rows: int = 100_000
    cold_queue_max: int = 100_000  # operations that wait for the disk; past it they are refused at once (section 8)


class Store:
    """Opened by its constructor, which replays the commit log; see the module's text for the rest."""

    def __init__(
        self,
        disk: Disk,
        engine: Engine,
        worker: Worker,
        config: StoreConfig | None = None,
        clock_ms: Callable[[], float] | None = None,
        early: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`early` is drawn for each flush: by which part of the limits (below 1) it begins before them. Replicas fill alike, and
        are not all to flush at one moment."""
        config = config or StoreConfig()
        self.sync_mode: str = config.sync_mode
        self.tables: list[dict[bytes, bytes]] = _empty_tables()
        empty = engine.empty()
        self._has_older = not empty  # anything but the memtable: until the first flush of a new node there is nothing
        self.complete = bytearray([empty]) * SLOTS
        self._complete_count = SLOTS if empty else 0
        self._begun: dict[bytes, bytearray] = {}  # as `complete`, by incarnation, for those that began in this run
        self._live: frozenset[bytes] | None = None  # incarnations in force, and the hints; None: nobody has said
        self._frozen: list[dict[bytes, bytes]] | None = None
        self._cache = RecordCache(config.cache_bytes, self._evicted)
        self._engine = engine
        self._worker = worker
        self._clock_ms = clock_ms or _monotonic_ms
        self._memtable_bytes_max = config.memtable_bytes
        self._draw_early = early
        self._early = early()
        self._memtable_bytes = 0  # as if every record appended since the last freeze were still there
        self._memtable_records = 0
        self._rows_bytes = 0  # of memory, that collections in the memtable take beside what was appended of them
        self._flush: Flush | None = None
        self._purge: Purge | None = None
        self._removed_max = config.removed_rows
        self._removed = 0  # rows, since the last freeze; not of hints, which are small, and mostly no older than that
        self._gone = 0  # rows that were removed since the engine gave space back
        self._gone_ms = 0.0  # when the last of them were flushed
        self._reclaim_slot = SLOTS  # up to here it has given space back, this time
        self._reclaiming = False
        self._flush_due = False  # though the memtable is not full: so that the log can be cut
        self._segment_bytes = config.segment_bytes
        self._sync_due_ms = 0.0
        self.stamp = engine.stamp  # the greatest stamp found at the start: the clock goes on above it
        self.failed = False
        self.failure: BaseException | None = None
        self.on_synced: Callable[[int], None] = _ignore_position  # told `synced` when it grows, and when it will not
        self._reads = ColdReads(engine, worker, self._cache, self.find, config.cold_queue_max)
        self._walks = Walks(engine, worker, self._layers)
        self._trees = Trees(engine, worker, self._layers, self._rows, lambda: self._reads.flushes, self._clock_ms)
        self._written_slots, self._touched = self._trees.slots, self._trees.touched
        self._bases, self._records = self._trees.bases, self._trees.records
        self._log = CommitLog(disk, worker, engine.position, self._replay, config.segment_bytes)
        self._log.on_synced = self._synced
        self._log.on_failed = self._failed
        self.recovered = self._log.recovered

    # -- records

    def find(self, slot: int, rkey: bytes) -> bytes | None:
        """The record; b"" where there is none for certain; None where the disk must be asked (`load`)."""
        record = self.tables[slot].get(rkey)
        if record is None:
            return self._find_older(slot, rkey) if self._has_older else b""
        return record

    def put(self, slot: int, rkey: bytes, base: bytes | None, record: bytes) -> None:
        """Set the record. The caller has it in a chunk of this turn's `append`, and `base` from `find`. HOT."""
        if base is None:
            self._trees.doubt(slot)
        else:
            self._written_slots.append(slot)
            self._touched.append(rkey)
            self._bases.append(base)
            self._records.append(record)
        table = self.tables[slot]
        if isinstance(record, Opened) and rkey not in table:
            self._rows_bytes += record.held_size
        elif not record and not rkey.startswith(HINTS.prefix):
            self._removed += 1
        table[rkey] = record

    def replace_many(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> list[int]:
        """Put each record that was made from the one held, which its base tells, or where none is held; the positions
        of the others. HOT: `find` and `put` for a frame of writes, in one loop."""
        tables, has_older = self.tables, self._has_older
        others: list[int] = []
        absent: list[int] = []  # here, though not where the record was made
        for position, (slot, rkey, base, record) in enumerate(zip(slots, rkeys, bases, records, strict=True)):
            table = tables[slot]
            held = table.get(rkey)
            if held is None and has_older:
                held = self._find_older(slot, rkey)
                if held is None:
                    others.append(position)
                    continue
            if held:
                if held[:CHECKSUM_BYTES] != base:
                    others.append(position)
                    continue
            elif base:
                if len(base) > CHECKSUM_BYTES:  # what changed of a record that is not here
                    others.append(position)
                    continue
                absent.append(position)
            table[rkey] = record
        if others or absent:
            self._touch_some(slots, rkeys, bases, records, others, absent)
        else:
            self._written_slots += slots
            self._touched += rkeys
            self._bases += bases
            self._records += records
        return others

    def _touch_some(
        self,
        slots: Sequence[int],
        rkeys: Sequence[bytes],
        bases: Sequence[bytes],
        records: Sequence[bytes],
        others: list[int],
        absent: list[int],
    ) -> None:
        left_out, none = set(others), set(absent)
        kept = [i for i in range(len(rkeys)) if i not in left_out]
        self._written_slots += [slots[i] for i in kept]
        self._touched += [rkeys[i] for i in kept]
        self._bases += [b"" if i in none else bases[i] for i in kept]
        self._records += [records[i] for i in kept]

    def load(self, slot: int, rkey: bytes, then: Callable[[], None]) -> bool:
        """Ask the disk; False where too many wait already. `then` runs, in order for each key, when `find` answers;
        or with `find` still None, where the record could not be read: then it is damaged and not absent (S4)."""
        return self._reads.load(slot, rkey, then)

    def names(self, bucket: bytes, start: int, end: int, limit: int, then: Named) -> bool:
        """Name the bucket's keys with start <= position < end, about `limit` of them (core/store.py); False where too many
        wait."""
        return self._walks.names(bucket, start, end, limit, then, self._has_older)

    @property
    def tree(self) -> HashTree:
        """The hash tree, but for what is still to be folded in (R5)."""
        return self._trees.tree

    @property
    def mended(self) -> int:
        """Leaves of the tree that were found to be wrong."""
        return self._trees.mended

    def fold(self, limit: int) -> bool:
        """Fold up to so many written keys into the tree; whether it now has them all."""
        return self._trees.fold(limit)

    def digests(self, start: int, end: int, limit: int, then: Digested) -> bool:
        """(Row key, checksum) of what is held with start <= position < end (core/store.py); False where too many wait."""
        return self._trees.digests(start, end, limit, then)

    def sweep(
        self,
        start: int,
        end: int,
        limit: int,
        wanted: Callable[[int], bool],
        dead: Callable[[bytes], bool],
        then: Swept,
    ) -> bool:
        """(Row key, checksum) of what is dead among about `limit` names (core/store.py); False where too many wait."""
        page = Sweep(self.find, self._engine, self._worker, wanted, dead, then)
        return self._rows((self._live or frozenset()) - {HINTS.prefix}, start, end, limit, page.named)

    def follow(self, live: Collection[bytes], fresh: Collection[bytes], void: Sequence[tuple[bytes, bytes]]) -> None:
        """Rows of other incarnations of buckets are void from now on (core/store.py)."""
        kept = self._live = frozenset({*live, HINTS.prefix})
        self._trees.follow(frozenset(live), fresh)
        for prefix in [prefix for prefix in self._begun if prefix not in kept]:
            del self._begun[prefix]
        for prefix in sorted(fresh):
            self._begun[prefix] = bytearray(b"\x01") * SLOTS
            if len(self._begun) > BEGUN_MAX:
                del self._begun[next(iter(self._begun))]
            self._cache.on_evicted = self._evicted
        if void:
            self._purge = Purge(
                lambda: self.tables,
                self._cache,
                self._engine,
                self._worker,
                void,
                self._purged,
                self._log.fail,  # an engine that failed once is not trusted again
            )

    def _rows(self, live: Collection[bytes], start: int, end: int, limit: int, then: Named) -> bool:
        """As `names`, of all buckets in force."""
        return self._walks.rows(live, start, end, limit, then, self._has_older)

    @property
    def purging(self) -> bool:
        """Rows of dead incarnations may still take space."""
        return self._purge is not None

    def layers(self) -> list[list[dict[bytes, bytes]]]:
        """The tables of memory, newest first."""
        return self._layers()

    def waiting(self, rkey: bytes) -> bool:
        """Does anybody wait for this key?"""
        return self._reads.waiting(rkey)

    @property
    def on_damaged(self) -> Callable[[int, bytes, Exception], None]:
        """Told (slot, row key, error) of each record that cannot be read, before its waiters run."""
        return self._reads.damaged

    @on_damaged.setter
    def on_damaged(self, damaged: Callable[[int, bytes, Exception], None]) -> None:
        self._reads.damaged = damaged

    # -- the commit log

    def append(self, chunks: Sequence[bytes]) -> int:
        """Log the chunks of a turn; the position behind them. Raises WritingEnded where they may not be in it."""
        for chunk in chunks:
            count = _records_in(chunk)
            self._memtable_records += count
            self._memtable_bytes += len(chunk) + ENTRY_BYTES * count
        return self._log.append(chunks)

    @property
    def position(self) -> int:
        """Appended up to here."""
        return self._log.position

    @property
    def synced(self) -> int:
        """Durable up to here."""
        return self._log.synced

    @property
    def pressure(self) -> float:
        """How far flushes are behind: at 1 the next one is due at the latest, past 2 writes are refused (not for rows)."""
        rows = self._rows_bytes / ROWS_FACTOR
        return max(self._memtable_bytes, rows) / self._memtable_bytes_max

    @property
    def overloaded(self) -> bool:
        """Flushes are so far behind that writes must be refused."""
        return self._memtable_bytes > 2 * self._memtable_bytes_max

    # -- time

    def turn(self) -> None:
        """The end of a turn, and of a tick at least: starts the syncs that are due, and the cold reads."""
        if self.sync_mode == "batch":
            self._log.sync()
        elif self.sync_mode == "periodic":
            now_ms = self._clock_ms()
            if now_ms >= self._sync_due_ms:
                self._sync_due_ms = now_ms + SYNC_EVERY_MS
                self._log.sync()
        self._reads.submit()

    def background(self, budget_ms: float) -> bool:
        """One slice of flushing; True where there is more to do at once."""
        if self.failed:
            return False
        deadline_ms = self._clock_ms() + budget_ms
        self._trees.keep_up()
        self._trees.step()
        if self._flush is None:
            if self._purge is not None and self._purge_some(self._purge, deadline_ms):
                return True
            if self._purge is None and (self._gone > self._removed_max * RECLAIM_SHARE or self._reclaim_slot < SLOTS):
                self._reclaim()
            if not self._is_flush_due():
                return False
            if not self._fold_down(deadline_ms) and self.pressure < FREEZE_PRESSURE:
                return True
            self._freeze()
        assert self._flush is not None
        while self._flush.step():
            if self._clock_ms() >= deadline_ms:
                return True
        if self._flush.moved:
            self._flush = self._frozen = None
            self._walks.forget()
            return self._memtable_bytes >= self._memtable_bytes_max
        return False

    def close(self) -> int:
        """Stop cleanly, with the worker idle; the log's end, all of it durable. Raises WritingEnded if it is not."""
        if self._flush is not None:
            self._flush.abort()
        try:
            return self._log.close()
        finally:
            self._engine.close()

    # -- inside

    def _layers(self) -> list[list[dict[bytes, bytes]]]:
        return [self.tables, self._frozen] if self._frozen else [self.tables]

    def _find_older(self, slot: int, rkey: bytes) -> bytes | None:
        if self._frozen:
            record = self._frozen[slot].get(rkey)
            if record is not None:
                return record
        record = self._cache.get(slot, rkey)
        if record is None and (self.complete[slot] or (self._begun and self._all_here(slot, rkey))):
            return b""
        return record

    def _all_here(self, slot: int, rkey: bytes) -> bool:
        begun = self._begun.get(rkey[:BUCKET_BYTES])
        return begun is not None and bool(begun[slot])

    def _replay(self, chunk: bytes) -> None:
        columns = decode_chunk(chunk)
        tables = self.tables
        rows = zip(columns.slots, columns.rkeys, columns.bases, columns.records, strict=True)
        for slot, rkey, base, record in rows:
            held = tables[slot].get(rkey)
            if held is None and len(base) > CHECKSUM_BYTES:
                held = self._read_now(slot, rkey)
                if held is None:
                    continue
            state = merge(b"", merge(held, record) if held and held[:CHECKSUM_BYTES] != base else record)
            if isinstance(state, Opened) and rkey not in tables[slot]:
                self._rows_bytes += state.held_size
            tables[slot][rkey] = state
            self.stamp = max(self.stamp, max_stamp(record))
        self._memtable_records += len(columns.slots)
        self._memtable_bytes += len(chunk) + ENTRY_BYTES * len(columns.slots)

    def _read_now(self, slot: int, rkey: bytes) -> bytes | None:
        """What a delta in the log was about; None where that is damaged.

        Then the delta is let go, too: alone it would pass for all that this node has seen, while a damaged record that is read
        is fetched from so many others that nothing is missing (S4). A disk that does not answer may do so later, and then the
        record would be there and the delta forgotten: that stops the start.
        """
        try:
            (record,) = self._engine.get_many([storage_key(slot, rkey)])
        except ReadFailed as error:
            text = (
                f"{error}; the commit log holds changes of the key {key_of(rkey)!r}, which need what is stored of it: "
            )
            raise ReadFailed(text + "try again, or replace the node from its replicas") from error
        return record if intact(record) else None

    def _purge_some(self, purge: Purge, deadline_ms: float) -> bool:
        """True where memory holds more of it. The memtable is flushed before and after, never meanwhile."""
        while purge.step():
            if self._clock_ms() >= deadline_ms:
                return True
        purge.submit()
        if purge.ended:
            self._purge = None
        return False

    def _purged(self) -> None:
        """Memory holds nothing void any more: what the log holds of it can go, too."""
        self._count_held()
        self._flush_due = self._log.position - self._engine.position > self._segment_bytes

    def _is_flush_due(self) -> bool:
        due = self._flush_due or self._rows_bytes >= ROWS_FACTOR * self._memtable_bytes_max * (1 - self._early)
        due = due or self._removed >= self._removed_max * (1 - self._early)
        if not due and self._memtable_bytes < self._memtable_bytes_max * (1 - self._early):
            return False  # nearly always, and the engine takes some microseconds to tell
        return not self._engine.busy() and (due or not self._mostly_overwritten())

    def _count_held(self) -> None:
        held = sum(map(len, self.tables))
        self._memtable_bytes = self._memtable_bytes * held // max(1, self._memtable_records)
        self._memtable_records = held

    def _mostly_overwritten(self) -> bool:
        """Whether the memtable seemed full, and holds the same keys over and over: then it may go on for a while.

        Not for ever, since what is logged above the engine's position is replayed at the next start.
        """
        self._count_held()
        if self._log.position - self._engine.position > REPLAY_FACTOR * self._memtable_bytes_max:
            return False
        return self._memtable_bytes < self._memtable_bytes_max * (1 - self._early) * 3 / 4

    def _freeze(self) -> None:
        """Begin a flush. What is put but not yet appended in this turn is flushed too, and replayed once more."""
        self._flush_due = False
        self._early = self._draw_early()
        self._trees.fold(self._trees.behind)  # a dirty key is in the memtable
        frozen, self.tables = self.tables, _empty_tables()
        self._frozen = frozen
        self._has_older = True
        self._memtable_bytes = self._memtable_records = self._rows_bytes = 0
        if self._removed:
            self._gone, self._gone_ms = self._gone + self._removed, self._clock_ms()
            self._removed = 0
        self._flush = Flush(frozen, self._log.position, self._engine, self._worker, self._cache, self._flush_ended)

    def _fold_down(self, deadline_ms: float) -> bool:
        """Whether so little is left to be folded that a flush may begin."""
        trees = self._trees
        while not trees.fold(FOLD_RUN):
            if self._clock_ms() >= deadline_ms:
                break
        return trees.behind <= FOLD_RUN

    def _flush_ended(self, error: BaseException | None) -> None:
        if error is not None:  # the log keeps what was not flushed; but an engine that failed once is not trusted again
            self._log.fail(error)
            return
        self._reads.flushes += 1
        self._log.cut(self._engine.position)

    def _reclaim(self) -> None:
        """The engine gives space back once as many rows have gone as are left, and no more of them go for a while: to rewrite
        those that stay costs no more than to write the others has cost."""
        if self._reclaiming:
            return
        if self._reclaim_slot >= SLOTS:
            if self._clock_ms() < self._gone_ms + CALM_MS or self._gone < self._engine.count():
                return
            self._gone = self._reclaim_slot = 0
        first, self._reclaim_slot = self._reclaim_slot, self._reclaim_slot + SLOTS_OF_A_RECLAIM
        self._reclaiming = True
        self._worker.submit(partial(self._engine.reclaim, first, self._reclaim_slot), self._reclaimed)

    def _reclaimed(self, error: BaseException | None) -> None:
        self._reclaiming = False
        if error is not None:
            self._log.fail(error)  # as after a flush

    def _evicted(self, rkey: bytes) -> None:
        if self._live is not None and rkey[:BUCKET_BYTES] not in self._live:
            return  # void; nobody asks for it
        slot = slot_of(key_of(rkey))
        begun = self._begun.get(rkey[:BUCKET_BYTES])
        if begun is not None:
            begun[slot] = 0
        self._complete_count -= self.complete[slot]
        self.complete[slot] = 0
        if not (self._complete_count or self._begun):
            self._cache.on_evicted = None

    def _synced(self, position: int) -> None:
        self.on_synced(position)

    def _failed(self, error: BaseException) -> None:
        self.failed = True
        self.failure = error


def _empty_tables() -> list[dict[bytes, bytes]]:
    return [{} for _ in range(SLOTS)]


def _records_in(chunk: bytes) -> int:
    """How many records a chunk holds, from the msgpack head of its first column."""
    head = chunk[1]
    if head == 0xDC:
        return int.from_bytes(chunk[2:4], "big")
    if head == 0xDD:
        return int.from_bytes(chunk[2:6], "big")
    return head & 0x0F


def _monotonic_ms() -> float:
    return time.monotonic() * 1000.0


def _ignore_position(_position: int) -> None:
    """Nobody waits for syncs."""
