"""The hash tree kept true (R5): what was written is folded in later, a listing sets its leaves right, a start makes it anew.

    put ─▶ written: slot, row key, digest before, record         four appends; a frame of writes: four extends
    fold ─▶ tree.apply(digest before, digest now)                with every tick, before a flush begins, and before a comparison
    gather ─▶ dirty[row key] = the first of these digests        where more is written than is folded: once for each key
    digests ─▶ names of a range ─▶ their digests, from memory or a worker ─▶ the leaves of that range, set from the data

To fold costs a microsecond while what was written is still in a processor's cache, and two or three later, when the record has to
be looked up again: so a tick folds what has come since the last one. That is as much as a replica spends on the write itself, and
a node that is written to as fast as it can be would lose much of its speed. So it folds at a bounded rate; what is beyond that
waits, a key that is written often once; and where DIRTY_MAX keys wait, the trees are let go, and made anew when it is calm again.
Repair waits, requests do not.

Invariants
* Each change of a record is written down, from the digest before to the record after it, so changes of one key follow upon one
  another. A dirty key is folded from its first digest to what is held then, so no later change of it is folded by itself.
* A dirty key is in the memtable: a flush begins only when nothing is dirty, and only void rows leave the memtable otherwise.
* A listing is exact although it takes many turns: for a key that is dirty when it ends, the tree's digest is the one from before,
  which the next fold takes out; what was folded while the listing ran is looked up once more; where a flush ended meanwhile, the
  worker may have read something older, and the listing is made again.
* Where an incarnation goes out of force, its terms go: by emptying the trees, where nothing else is in them, or else by making
  them anew. So FLUSHDB costs nothing where one bucket is in use, and a rebuild where several are.
* Slots are made anew in order of position. In the slot under way, what lies before `_at` is in the tree, what lies behind is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from xxhash import xxh3_64_intdigest

from ringwise.core.hashtree import HASH_SHIFT, LEAF_BITS, LEAF_SHIFT, HashTree, leaf_of, term
from ringwise.core.keys import BUCKET_BYTES, KEY_AT, POSITION_BITS, key_of, position_of, storage_key
from ringwise.core.record import CHECKSUM_BYTES
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.store import Digested, Named
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

DIRTY_MAX = 32_768  # some MiB, and 60 ms of folding, in slices, before a flush
FOLD_RUN = 256  # between two questions to the clock: half a millisecond
FOLD_AT_ONCE = 1_024  # of a tick: a millisecond
FOLD_KEYS_PER_S = 50_000  # 5% of a core
CALM_MS = 2_000.0  # without writes at a greater rate than that, before the trees are made anew
LISTINGS_MAX = 100  # that wait; each takes some milliseconds, so who comes later had better come back
REBUILD_KEYS = 512  # of a step of the rebuild; the loop has it for a millisecond
REBUILD_PAUSE_MS = 10.0  # between two steps: 50,000 keys a second, a tenth of a core
REBUILD_AGAIN_MS = 60_000.0  # for slots that could not be read
KEYS_AT_ONCE = 32  # of the engine: records are read whole, and may have a megabyte each
UNREADABLE = bytes(CHECKSUM_BYTES)  # the digest of a record that the disk does not give back: no other replica has it
TRIES_MAX = 8  # flushes are seconds apart

END = SLOTS << POSITION_BITS

Rows: TypeAlias = Callable[[Collection[bytes], int, int, int, Named], bool]
Tables: TypeAlias = list[dict[bytes, bytes]]


class Entry(NamedTuple):
    """A key as it is, and as the tree has it until it is folded."""

    slot: int
    rkey: bytes
    digest: bytes
    folded: bytes


Listed: TypeAlias = Callable[[list[Entry] | None, int], None]


class _Listing(NamedTuple):
    start: int
    end: int
    limit: int
    then: Listed


class Trees:
    """The hash tree of one store, for the rows of all buckets in force."""

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        layers: Callable[[], list[Tables]],
        rows: Rows,
        flushes: Callable[[], int],
        clock_ms: Callable[[], float],
    ) -> None:
        self.tree = HashTree()
        # What was written, in order; the store adds to all four. Records are kept until the next tick and not longer, since
        # the next writes are cheaper where they find memory that has just been given back.
        self.slots: list[int] = []
        self.touched: list[bytes] = []  # row keys
        self.bases: list[bytes] = []  # the digests that were replaced
        self.records: list[bytes] = []
        self._dirty: dict[bytes, bytes] = {}  # row key -> the digest that the tree has
        self.mended = 0  # leaves that a listing found wrong: 0, or there is a path that changes records unseen
        self._engine = engine
        self._worker = worker
        self._layers = layers  # the tables of memory, newest first
        self._rows = rows
        self._flushes = flushes
        self._clock_ms = clock_ms
        self._let_go = False  # the trees, until a rebuild begins
        self._kept_up_ms = clock_ms()
        self._live: frozenset[bytes] = frozenset()
        self._used: set[bytes] = set()  # incarnations of which there may be terms in the tree
        self._followed = 0  # times; what was begun before the last one is void
        self._waiting: deque[_Listing] = deque()
        self._listing: _Listing | None = None
        self._folded: set[bytes] = set()  # since it began
        self._tries = 0
        self._at = 0  # of the rebuild
        self._rebuilding = False
        self._doubted = False  # a slot, since the rebuild began
        self._due_ms = 0.0

    def follow(self, live: frozenset[bytes], fresh: Collection[bytes]) -> None:
        """Only rows of these incarnations count; there are none yet of those that are `fresh`."""
        gone, self._live = self._live - live, live
        if self._rebuilding and self._at < END:
            self.tree.forget(self._at >> POSITION_BITS)  # what of it is made already is made once more
        self._followed += 1
        self._rebuilding = False
        if not self._let_go:
            self._due_ms = 0.0
        if live.issubset(fresh):
            self._gather().clear()
            self._let_go = False
            self.tree.clear()
            self._used.clear()
        elif self._used & gone:
            ready = bytes(self.tree.ready) if self._used <= gone else bytes(SLOTS)  # a copy: it is cleared
            self.tree.clear()
            self.tree.ready[:] = ready
            self._used.clear()

    def doubt(self, slot: int) -> None:
        """Something of the slot was replaced, nobody knows what: its tree is made anew."""
        self.tree.forget(slot)
        self._doubted = True
        if self._rebuilding and self._at >> POSITION_BITS == slot:
            self._at = slot << POSITION_BITS

    # -- folding

    @property
    def behind(self) -> int:
        """How much is to be folded, at most."""
        return len(self._dirty) + len(self.touched)

    def _gather(self, end: int | None = None) -> dict[bytes, bytes]:
        """The dirty keys, with what was written before `end`; of several digests of one, the first is in the tree."""
        dirty = self._dirty
        if self.touched:
            for rkey, base in zip(self.touched[:end], self.bases[:end], strict=True):
                dirty.setdefault(rkey, base)
            self._forget_written(end)
        return dirty

    def _forget_written(self, end: int | None = None) -> None:
        for column in (self.slots, self.touched, self.bases, self.records):
            del column[:end]

    def keep_up(self) -> None:
        """What the background does about the keys that were written."""
        now_ms = self._clock_ms()
        allowed = int((now_ms - self._kept_up_ms) * FOLD_KEYS_PER_S / 1000)
        if not allowed:
            return
        self._kept_up_ms = now_ms
        if self._let_go:
            if len(self.touched) > allowed:
                self._due_ms = now_ms + CALM_MS
            self._forget_written()
            return
        self.fold(min(allowed, FOLD_AT_ONCE))
        if len(self._dirty) > DIRTY_MAX:
            self._let_go, self._rebuilding = True, False
            self._dirty = {}
            self.tree.forget_all()
            self._used.clear()
            self._due_ms = now_ms + CALM_MS

    def fold(self, limit: int) -> bool:
        """Takes up to so many changes into the tree, the latest first; whether nothing is left."""
        limit -= self._fold_written(limit)
        dirty, tables = self._dirty, self._layers()[0]
        if not dirty or not limit:
            return not dirty
        slots: list[int] = []
        rkeys: list[bytes] = []
        bases: list[bytes] = []
        for _ in range(min(limit, len(dirty))):
            rkey, base = dirty.popitem()
            if rkey[:BUCKET_BYTES] in self._live:
                slots.append(slot_of(key_of(rkey)))
                rkeys.append(rkey)
                bases.append(base)
        self._apply(slots, rkeys, bases, [tables[slot][rkey] for slot, rkey in zip(slots, rkeys, strict=True)])
        return not dirty

    def _fold_written(self, limit: int) -> int:
        """The latest changes, and what was written before them is dirty; how many these were."""
        count = len(self.touched)
        if count > limit:
            self._gather(count - limit)
            count = limit
        if count:
            self._apply(self.slots, self.touched, self.bases, self.records)
            self._forget_written()
        return count

    def _apply(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> None:
        """Changes of keys that are not dirty, and of others nothing. HOT: HashTree.apply and key_of, written out."""
        tree, dirty, live = self.tree, self._dirty, self._live
        ready, leaves, roots, hashed = tree.ready, tree.leaves, tree.roots, xxh3_64_intdigest
        last = b""
        listing = self._listing is not None
        building = self._at >> POSITION_BITS if self._rebuilding else SLOTS
        for slot, rkey, base, record in zip(slots, rkeys, bases, records, strict=True):
            prefix = rkey[:BUCKET_BYTES]
            if prefix != last:
                if prefix not in live:
                    continue
                last = prefix
                self._used.add(prefix)
            if dirty and rkey in dirty:
                continue
            key = rkey[KEY_AT : KEY_AT + (rkey[BUCKET_BYTES] << 8 | rkey[BUCKET_BYTES + 1])]
            if listing:
                self._folded.add(rkey)
            if ready[slot] or (slot == building and position_of(slot, key) < self._at):
                terms = hashed(rkey + record[:CHECKSUM_BYTES]) if record else 0
                if base:
                    terms ^= hashed(rkey + base)
                leaves[slot << LEAF_BITS | hashed(key) >> HASH_SHIFT] ^= terms
                roots[slot] ^= terms

    # -- listings

    def digests(self, start: int, end: int, limit: int, then: Digested) -> bool:
        """(Row key, digest) of what is held in a range of positions, and the leaves that lie in it whole set right."""
        if len(self._waiting) >= LISTINGS_MAX:
            return False
        self._waiting.append(_Listing(start, end, limit, partial(self._refresh, start, then)))
        self._next()
        return True

    def _next(self) -> None:
        while self._listing is None and self._waiting:
            self._listing = self._waiting.popleft()
            self._tries = 0
            self._begin()

    def _begin(self) -> None:
        listing = self._listing
        assert listing is not None
        self._folded.clear()
        self._tries += 1
        named = partial(self._named, self._followed, self._flushes())
        if self._tries > TRIES_MAX or not self._rows(self._live, listing.start, listing.end, listing.limit, named):
            self._ended(None, listing.start)

    def _named(self, followed: int, flushes: int, named: list[tuple[int, bytes]] | None, upto: int) -> None:
        listing = self._listing
        assert listing is not None
        if named is None or followed != self._followed:
            self._ended(None, listing.start)
            return
        rows = [(position >> POSITION_BITS, rkey) for position, rkey in named]
        memtable, *frozen = self._layers()
        cold: list[tuple[int, bytes]] = []
        stored: dict[
            bytes, bytes
        ] = {}  # what may leave memory before the listing ends, its flush being counted already
        for slot, rkey in rows:
            if rkey in memtable[slot]:
                continue
            record = next((layer[slot][rkey] for layer in frozen if rkey in layer[slot]), None)
            if record is None:
                cold.append((slot, rkey))
            else:
                stored[rkey] = record[:CHECKSUM_BYTES]
        done = partial(self._looked_up, followed, flushes, upto, rows, cold, stored)
        if cold:
            keys = [storage_key(slot, rkey) for slot, rkey in cold]
            self._worker.submit(partial(_digests, self._engine, keys), done)
        else:
            done([])

    def _looked_up(
        self,
        followed: int,
        flushes: int,
        upto: int,
        rows: list[tuple[int, bytes]],
        cold: list[tuple[int, bytes]],
        stored: dict[bytes, bytes],
        found: list[bytes] | BaseException,
    ) -> None:
        listing = self._listing
        assert listing is not None
        if isinstance(found, BaseException):
            raise found  # _digests lets nothing through but mistakes in the program
        if followed != self._followed:
            self._ended(None, listing.start)
            return
        if flushes != self._flushes():
            self._begin()
            return
        stored.update((rkey, digest) for (_, rkey), digest in zip(cold, found, strict=True))
        for rkey in self._folded.difference(rkey for _, rkey in rows):
            slot = slot_of(key_of(rkey))
            if listing.start <= position_of(slot, key_of(rkey)) < upto:
                rows.append((slot, rkey))
        layers, dirty = self._layers(), self._gather()
        entries: list[Entry] = []
        for slot, rkey in rows:
            record = next((layer[slot][rkey] for layer in layers if rkey in layer[slot]), None)
            digest = stored[rkey] if record is None else record[:CHECKSUM_BYTES]
            entries.append(Entry(slot, rkey, digest, dirty.get(rkey, digest)))
        self._ended(entries, upto)

    def _ended(self, entries: list[Entry] | None, upto: int) -> None:
        listing, self._listing = self._listing, None
        assert listing is not None
        listing.then(entries, upto)
        self._next()

    def _refresh(self, start: int, then: Digested, entries: list[Entry] | None, upto: int) -> None:
        if entries is None:
            then(None, start)
            return
        first, end = -(-start >> LEAF_SHIFT), upto >> LEAF_SHIFT
        if end - first <= 4 * max(1, len(entries)) + 64:  # else most of them are empty, and nobody asked for their sake
            hashed = dict.fromkeys(range(first, end), 0)
            for slot, rkey, _, folded in entries:
                leaf = leaf_of(slot, key_of(rkey))
                if leaf in hashed:
                    hashed[leaf] ^= term(rkey, folded)
            self._used.update(each.rkey[:BUCKET_BYTES] for each in entries)
            for leaf, value in hashed.items():
                if self.tree.ready[leaf >> POSITION_BITS - LEAF_SHIFT]:
                    self.mended += self.tree.set_leaf(leaf, value)
        then([(rkey, digest) for _, rkey, digest, _ in entries if digest], upto)

    # -- the rebuild

    def step(self) -> None:
        """Goes on with the slots that are not ready, at a bounded rate."""
        if self._listing is not None or not self._live:
            return
        now_ms = self._clock_ms()
        if now_ms < self._due_ms:
            return
        if not self._rebuilding:
            if 0 not in self.tree.ready:
                return
            self._rebuilding, self._at, self._let_go = True, 0, False
            self._doubted = False
        self._due_ms = now_ms + REBUILD_PAUSE_MS
        slot = self.tree.ready.find(0, self._at >> POSITION_BITS)
        if slot < 0:
            self._rebuilding = False
            unreadable = 0 in self.tree.ready and not self._doubted  # else some were put into doubt behind `_at`
            self._due_ms = now_ms + REBUILD_AGAIN_MS if unreadable else 0.0
            return
        self._at = max(self._at, slot << POSITION_BITS)
        end = self.tree.ready.find(1, slot)
        end = SLOTS if end < 0 else end
        built = partial(self._built, self._followed, self._at)
        self._waiting.append(_Listing(self._at, end << POSITION_BITS, REBUILD_KEYS, built))
        self._next()

    def _built(self, followed: int, at: int, entries: list[Entry] | None, upto: int) -> None:
        if followed != self._followed or not self._rebuilding or at != self._at:
            return
        slot, tree = at >> POSITION_BITS, self.tree
        if entries is None:
            tree.forget(slot)
            self._at = (slot + 1) << POSITION_BITS
            return
        for each, rkey, _, folded in entries:
            tree.add(leaf_of(each, key_of(rkey)), term(rkey, folded))
            self._used.add(rkey[:BUCKET_BYTES])
        ended = upto >> POSITION_BITS
        tree.ready[slot:ended] = b"\x01" * (ended - slot)
        self._at = upto


def _digests(engine: Engine, keys: Sequence[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for at in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[at : at + KEYS_AT_ONCE]
        try:
            found += [record[:CHECKSUM_BYTES] for record in engine.get_many(some)]
        except ReadFailed:
            found += [_digest(engine, key) for key in some]
    return found


def _digest(engine: Engine, key: bytes) -> bytes:
    try:
        return engine.get_many([key])[0][:CHECKSUM_BYTES]
    except ReadFailed:
        return UNREADABLE
