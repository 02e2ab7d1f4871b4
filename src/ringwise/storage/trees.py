"""The hash tree kept true (R5): what was written is folded in later, a listing sets its leaves right, a start makes it anew.

    put ─▶ touched: row key, digest that it had before           two appends; a frame of writes: two extends
    gather ─▶ dirty[row key] = the first of these digests        once for each key until it is folded
    fold ─▶ tree.apply(digest before, digest now)                in slices, before a flush begins, and before a comparison
    digests ─▶ names of a range ─▶ their digests, from memory or a worker ─▶ the leaves of that range, set from the data

To fold costs a microsecond or two, as much as a replica spends on the write itself: a node that is written to as fast as it can
be would lose much of its speed. So the background folds at a bounded rate, a key that is written often once; and where writes
come faster for so long that DIRTY_MAX keys wait, the trees are let go, and made anew when it is calm again. Repair waits,
requests do not.

Invariants
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
from ringwise.core.keys import BUCKET_BYTES, POSITION_BITS, key_of, position_of, storage_key
from ringwise.core.record import CHECKSUM_BYTES
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.store import Digested, Named
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

DIRTY_MAX = 32_768  # some MiB, and 60 ms of folding, in slices, before a flush
FOLD_RUN = 256  # between two questions to the clock: half a millisecond
FOLD_KEYS_PER_S = 20_000  # 4% of a core
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
        self.touched: list[bytes] = []  # row keys in the order of their writes, and
        self.bases: list[bytes] = []  # the digests that they replaced; the store adds to both
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

    def _gather(self) -> dict[bytes, bytes]:
        """The dirty keys; of several digests of one, the first is in the tree."""
        touched, bases, dirty = self.touched, self.bases, self._dirty
        if touched:
            for rkey, base in zip(touched, bases, strict=True):
                dirty.setdefault(rkey, base)
            touched.clear()
            bases.clear()
        return dirty

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
            self.touched.clear()
            self.bases.clear()
        elif len(self._gather()) > DIRTY_MAX:
            self._let_go, self._rebuilding = True, False
            self._dirty = {}
            self.tree.forget_all()
            self._used.clear()
            self._due_ms = now_ms + CALM_MS
        else:
            self.fold(min(allowed, FOLD_RUN))

    def fold(self, limit: int) -> bool:
        """Takes up to so many dirty keys into the tree; whether nothing is left. HOT: HashTree.apply, written out."""
        dirty, tree, tables = self._gather(), self.tree, self._layers()[0]
        ready, leaves, roots, live = tree.ready, tree.leaves, tree.roots, self._live
        last = b""
        listing = self._listing is not None
        building = self._at >> POSITION_BITS if self._rebuilding else SLOTS
        for _ in range(min(limit, len(dirty))):
            rkey, old = dirty.popitem()
            prefix = rkey[:BUCKET_BYTES]
            if prefix != last:
                if prefix not in live:
                    continue
                last = prefix
                self._used.add(prefix)
            key = key_of(rkey)
            slot = slot_of(key)
            if listing:
                self._folded.add(rkey)
            if ready[slot] or (slot == building and position_of(slot, key) < self._at):
                record = tables[slot][rkey]  # a dirty key is in the memtable
                terms = xxh3_64_intdigest(rkey + record[:CHECKSUM_BYTES]) if record else 0
                if old:
                    terms ^= xxh3_64_intdigest(rkey + old)
                leaves[slot << LEAF_BITS | xxh3_64_intdigest(key) >> HASH_SHIFT] ^= terms
                roots[slot] ^= terms
        return not dirty

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
