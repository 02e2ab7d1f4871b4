"""Walks: the names of keys in the order of storage keys (slot, hash48), piece by piece, from memory and from the engine.

    names() ─▶ memory: the slots' tables, sorted by hash      at once; up to `limit` names, which set the piece's end
            ─▶ engine: the same piece, in a worker            one walk at a time, so that cold reads and syncs go on
            ─▶ both merged and cut to `limit` ─▶ then()

Memory is looked at first. A record leaves memory only after the engine has it, so what is held throughout is in one of the
two when it is looked at; the other way round, a flush that ends between the two looks would hide it from both.

A piece is never cut between keys of one position: a cursor that says "from the next position on" would lose the rest.

What compares replicas wants the rows of all buckets in force instead, in the order of positions, too: `rows()`. Storage keys
sort by slot, then bucket, so each slot is looked at bucket by bucket, and then put into that order.

A slot holds few keys, so they are sorted when they are asked for. One that holds many, since they share a hashtag, gets an index
first: made in the worker, and brought up to date from then on with what has been put since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import compress, islice
from typing import NamedTuple, Protocol

from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import BUCKET_BYTES, HASH_BYTES, POSITION_BITS, key_of, position_of, split_storage_key
from ringwise.core.ring import SLOTS
from ringwise.core.store import Named
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

Names = list[tuple[int, bytes]]  # (position, key), ascending; or (position, row key)
Table = dict[bytes, bytes]

# A walk takes the worker about a millisecond. Whoever waits behind more than a second of them had better come back.
WAITING_MAX = 1000
LARGE = 2000  # keys of a slot; to sort so many takes two milliseconds
INDEXES_MAX = 8  # each takes nine bytes a key
INDEX_BITS = 12  # a million keys in buckets of 250
JUMPS_MAX = 1000  # over other buckets' keys within one walk; each costs what ten names do

_HASH_MASK = (1 << POSITION_BITS) - 1
_HASH_AT = 2 + BUCKET_BYTES


class Steps(Protocol):
    """Storage keys in ascending order: what a walk needs of an engine's iterator."""

    def seek(self, key: bytes) -> object: ...
    def valid(self) -> bool: ...
    def key(self) -> bytes: ...
    def next(self) -> object: ...


class _Walk(NamedTuple):
    bucket: bytes  # b"": the rows of all that are `live`
    start: int
    end: int
    limit: int
    then: Named
    live: Collection[bytes] = ()


class Walks:
    """The walks of one store, in the order in which they were asked for."""

    def __init__(self, engine: Engine, worker: Worker, layers: Callable[[], list[list[Table]]]) -> None:
        self._engine = engine
        self._worker = worker
        self._layers = layers  # the tables of memory, by slot
        self._waiting: deque[tuple[_Walk, Names]] = deque()  # with what memory has, up to their end
        self._walking = False
        self._unindexed: list[tuple[_Walk, bool]] = []
        self._indexes: dict[int, _Index] = {}  # by identity of the table

    def names(self, bucket: bytes, start: int, end: int, limit: int, then: Named, older: bool) -> bool:
        """`older`: the engine holds something too. False where too many wait."""
        return self._walk(_Walk(bucket, start, end, limit, then), older)

    def rows(self, live: Collection[bytes], start: int, end: int, limit: int, then: Named, older: bool) -> bool:
        """The same for the rows of these incarnations of buckets."""
        return self._walk(_Walk(b"", start, end, limit, then, live), older)

    def _walk(self, walk: _Walk, older: bool) -> bool:
        start = walk.start
        if len(self._waiting) + len(self._unindexed) >= WAITING_MAX:
            return False
        if self._index(start >> POSITION_BITS):
            self._unindexed.append((walk, older))
        else:
            self._begin(walk, older)
        return True

    def forget(self) -> None:
        """Lets go what was made of tables that are gone."""
        self._indexes.clear()

    def _begin(self, walk: _Walk, older: bool) -> None:
        held, upto = self._in_memory(walk)
        if older:
            self._waiting.append((walk._replace(end=upto), held))
            self._submit()
        else:
            walk.then(held, upto)

    # -- memory

    def _in_memory(self, walk: _Walk) -> tuple[Names, int]:
        layers, start, end = self._layers(), walk.start, walk.end
        first = start >> POSITION_BITS
        names: Names = []
        for slot in _occupied(layers, first, ((end - 1) >> POSITION_BITS) + 1):
            tables = [layer[slot] for layer in layers]
            if any(len(table) > LARGE for table in tables):
                if slot == first:
                    return self._in_large(walk, slot, tables)
                return cut(names, slot << POSITION_BITS, walk.limit)  # it begins a piece of its own
            names += _names((rkey for table in tables for rkey in table), walk, slot)
            if len(names) >= walk.limit:
                break
        return cut(names, end, walk.limit)

    def _in_large(self, walk: _Walk, slot: int, tables: list[Table]) -> tuple[Names, int]:
        upto = min(walk.end, (slot + 1) << POSITION_BITS)
        found: set[tuple[int, bytes]] = set()
        for table in tables:
            if len(table) > LARGE:
                names, until = self._indexes[id(table)].names(walk, slot, upto)
                upto = min(upto, until)
            else:
                names = _names(table, walk, slot)
            found.update(names)
        return cut(sorted(name for name in found if name[0] < upto), upto, walk.limit)

    def _index(self, slot: int) -> bool:
        """Brings the indexes of a large slot up to date; True where a worker has to, and then tells `_indexed`."""
        waits = False
        for layer in self._layers():
            table = layer[slot] if slot < len(layer) else {}
            if len(table) <= LARGE:
                continue
            index = self._indexes.pop(id(table), None) or _Index(table)
            if len(self._indexes) >= INDEXES_MAX:
                del self._indexes[next(iter(self._indexes))]  # the least recently used
            self._indexes[id(table)] = index
            if index.in_work:
                waits = True
            elif index.behind() > LARGE:
                index.in_work = waits = True
                self._worker.submit(partial(index.add, index.take()), partial(self._indexed, index))
            else:
                index.add(index.take())
        return waits

    def _indexed(self, index: _Index, result: BaseException | None) -> None:
        if result is not None:
            raise result  # a mistake in the program
        index.in_work = False
        waiting, self._unindexed = self._unindexed, []
        for walk, older in waiting:
            if self._index(walk.start >> POSITION_BITS):
                self._unindexed.append((walk, older))
            else:
                self._begin(walk, older)

    # -- the engine

    def _submit(self) -> None:
        if self._waiting and not self._walking:
            self._walking = True
            walk, held = self._waiting.popleft()
            self._worker.submit(partial(_look, self._engine, walk), partial(self._done, walk, held))

    def _done(self, walk: _Walk, held: Names, result: tuple[Names, int] | BaseException) -> None:
        self._walking = False
        self._submit()
        if isinstance(result, ReadFailed):
            walk.then(None, walk.start)
            return
        if isinstance(result, BaseException):
            raise result  # a mistake in the program
        found, upto = result
        if held:
            found = sorted({*found, *(name for name in held if name[0] < upto)})
            found, upto = cut(found, upto, walk.limit)
        walk.then(found, upto)


class _Index:
    """The row keys of one large table, in buckets by hash; a bucket is sorted when it is read.

    Nothing is ever taken out of a table of memory, and what is new in it comes last: its length keeps it up to date.
    """

    __slots__ = ("_buckets", "_count", "_table", "in_work")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._count = 0
        self._buckets: list[list[bytes]] = [[] for _ in range(1 << INDEX_BITS)]
        self.in_work = False  # a worker adds to it

    def behind(self) -> int:
        return len(self._table) - self._count

    def take(self) -> list[bytes]:
        """What it lacks, to be added."""
        fresh = list(islice(reversed(self._table), self.behind()))
        self._count = len(self._table)
        return fresh

    def add(self, rkeys: list[bytes]) -> None:
        buckets, shift = self._buckets, POSITION_BITS - INDEX_BITS
        for rkey in rkeys:
            buckets[position_of(0, key_of(rkey)) >> shift].append(rkey)

    def names(self, walk: _Walk, slot: int, end: int) -> tuple[Names, int]:
        shift = POSITION_BITS - INDEX_BITS
        found: Names = []
        for number in range((walk.start & _HASH_MASK) >> shift, 1 << INDEX_BITS):
            found += _names(self._buckets[number], walk, slot)
            if len(found) >= walk.limit:
                break
        return cut(found, end, walk.limit)


def _names(rkeys: Iterable[bytes], walk: _Walk, slot: int) -> Names:
    """Those of the row keys of a slot that are wanted, in order."""
    if walk.bucket:
        keys = {key_of(rkey) for rkey in rkeys if rkey.startswith(walk.bucket)}
        names = [(position_of(slot, key), key) for key in keys]
    else:
        wanted = {rkey for rkey in rkeys if rkey[:BUCKET_BYTES] in walk.live}
        names = [(position_of(slot, key_of(rkey)), rkey) for rkey in wanted]
    return sorted(name for name in names if walk.start <= name[0] < walk.end)


def cut(names: Names, upto: int, limit: int) -> tuple[Names, int]:
    """The first `limit` of the names below `upto`, and those of the last one's position; and the position behind them."""
    if len(names) < limit:
        return names, upto
    last = names[limit - 1][0]
    count = limit
    while count < len(names) and names[count][0] == last:
        count += 1
    return names[:count], last + 1


def walk(steps: Steps, bucket: bytes, start: int, end: int, limit: int) -> tuple[Names, int]:
    """The names that an engine's iterator, which ends before `end`, comes by. Jumps over what is of other buckets."""
    names: Names = []
    jumps = 0
    steps.seek(_stored(bucket, start))
    while steps.valid():
        stored = steps.key()
        found = stored[2:_HASH_AT]
        if found != bucket:
            slot = int.from_bytes(stored[:2], "big") + (found > bucket)
            jumps += 1
            if jumps > JUMPS_MAX:
                return names, min(slot << POSITION_BITS, end)
            steps.seek(_stored(bucket, slot << POSITION_BITS))
            continue
        slot, rkey = split_storage_key(stored)
        name = slot << POSITION_BITS | int.from_bytes(stored[_HASH_AT : _HASH_AT + HASH_BYTES], "big"), key_of(rkey)
        if not names or name != names[-1]:  # the rows of a collection follow its header (V4)
            if len(names) >= limit and name[0] != names[-1][0]:
                return names, names[-1][0] + 1
            names.append(name)
        steps.next()
    return names, end


def walk_rows(steps: Steps, live: Collection[bytes], start: int, end: int, limit: int) -> tuple[Names, int]:
    """As `walk`, the rows of all these incarnations; `steps` ends before the slot behind `end`."""
    rows: Names = []
    if not live:
        return rows, end
    last = max(live)
    jumps = 0
    steps.seek((start >> POSITION_BITS).to_bytes(2, "big"))
    while steps.valid() and len(rows) < limit:
        slot = int.from_bytes(steps.key()[:2], "big")
        first, behind = slot << POSITION_BITS, (slot + 1) << POSITION_BITS
        if first >= end:
            break
        begin, upto = max(first, start), min(behind, end)
        found: Names = []
        while steps.valid() and (stored := steps.key()) < behind_slot(slot):
            prefix = stored[2:_HASH_AT]
            if prefix > last:
                break
            jumps += 1
            if prefix in live:
                upto = min(upto, _rows_of(steps, prefix, begin, upto, limit - len(rows), found))
            steps.seek(stored[:2] + (int.from_bytes(prefix, "big") + 1).to_bytes(BUCKET_BYTES, "big"))
        rows += sorted(row for row in found if row[0] < upto)
        if upto < behind or len(rows) >= limit or jumps > JUMPS_MAX:
            return rows, min(upto, end)
        if steps.valid() and steps.key() < behind_slot(slot):
            steps.seek(behind_slot(slot))
    return rows, end


def _rows_of(steps: Steps, prefix: bytes, start: int, end: int, limit: int, found: Names) -> int:
    """Adds one bucket's rows of one slot, about `limit`; the position below which these are all."""
    head = (start >> POSITION_BITS).to_bytes(2, "big") + prefix
    steps.seek(_stored(prefix, start))
    count, last = 0, -1
    while steps.valid() and (stored := steps.key()).startswith(head):
        slot, rkey = split_storage_key(stored)
        position = slot << POSITION_BITS | int.from_bytes(stored[_HASH_AT : _HASH_AT + HASH_BYTES], "big")
        if position >= end:
            break
        if count >= limit and position != last:
            return last + 1
        found.append((position, rkey))
        count, last = count + 1, position
        steps.next()
    return end


def behind_slot(slot: int) -> bytes:
    """The storage key before which a slot ends."""
    return (slot + 1).to_bytes(2, "big")


def end_of_rows(end: int) -> bytes:
    """The storage key before which a walk over all buckets ends."""
    return behind_slot((end - 1) >> POSITION_BITS)


def end_of(bucket: bytes, end: int) -> bytes:
    """The storage key before which a walk ends."""
    return _stored(bucket, end) if end & _HASH_MASK else (end >> POSITION_BITS).to_bytes(2, "big")


def _stored(bucket: bytes, position: int) -> bytes:
    """The storage key at which a position begins."""
    slot = (position >> POSITION_BITS).to_bytes(2, "big")
    return slot + bucket + (position & _HASH_MASK).to_bytes(HASH_BYTES, "big")


def _occupied(layers: Sequence[list[Table]], first: int, last: int) -> Iterator[int]:
    """Slots of which any layer holds something; 16,384 empty ones take a third of a millisecond."""
    slots = range(first, min(last, SLOTS))
    if len(layers) == 1:
        return compress(slots, layers[0][first:last])
    return compress(slots, map(any, zip(*(layer[first:last] for layer in layers), strict=True)))


def _look(engine: Engine, walk: _Walk) -> tuple[Names, int]:
    try:
        if walk.bucket:
            return engine.names(walk.bucket, walk.start, walk.end, walk.limit)
        return engine.rows(walk.live, walk.start, walk.end, walk.limit)
    except RecordDamaged as error:
        raise ReadFailed(f"a storage key is damaged: {error}") from error
