"""Walks: the names of keys in the order of storage keys (slot, hash48), piece by piece, from memory and from the engine.

    names() ─▶ memory: the slots' tables, sorted by hash      at once; up to `limit` names, which set the piece's end
            ─▶ engine: the same piece, in a worker            one walk at a time, so that cold reads and syncs go on
            ─▶ both merged and cut to `limit` ─▶ then()

Memory is looked at first. A record leaves memory only after the engine has it, so what is held throughout is in one of the
two when it is looked at; the other way round, a flush that ends between the two looks would hide it from both.

A piece is never cut between keys of one position: a cursor that says "from the next position on" would lose the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import compress
from typing import NamedTuple, Protocol

from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import BUCKET_BYTES, HASH_BYTES, POSITION_BITS, key_of, position_of, split_storage_key
from ringwise.core.ring import SLOTS
from ringwise.core.store import Named
from ringwise.storage.engine import Engine, Worker
from ringwise.storage.errors import ReadFailed

Names = list[tuple[int, bytes]]  # (position, key), ascending
Table = dict[bytes, bytes]

# A walk takes the worker about a millisecond. Whoever waits behind more than a second of them had better come back.
WAITING_MAX = 1000
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
    bucket: bytes
    start: int
    end: int
    limit: int
    held: Names  # what memory has of it
    then: Named


class Walks:
    """The walks of one store, in the order in which they were asked for."""

    def __init__(self, engine: Engine, worker: Worker) -> None:
        self._engine = engine
        self._worker = worker
        self._waiting: deque[_Walk] = deque()
        self._walking = False

    def names(
        self, layers: Sequence[list[Table]], bucket: bytes, start: int, end: int, limit: int, then: Named
    ) -> bool:
        """`layers` are the tables of memory; False where too many wait."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        held, upto = names_in(layers, bucket, start, end, limit)
        self._waiting.append(_Walk(bucket, start, upto, limit, held, then))
        self._submit()
        return True

    def _submit(self) -> None:
        if self._waiting and not self._walking:
            self._walking = True
            walk = self._waiting.popleft()
            work = partial(_look, self._engine, walk.bucket, walk.start, walk.end, walk.limit)
            self._worker.submit(work, partial(self._done, walk))

    def _done(self, walk: _Walk, result: tuple[Names, int] | ReadFailed | BaseException) -> None:
        self._walking = False
        self._submit()
        if isinstance(result, ReadFailed):
            walk.then(None, walk.start)
            return
        if isinstance(result, BaseException):
            raise result  # a mistake in the program
        found, upto = result
        if walk.held:
            found = sorted({*found, *(name for name in walk.held if name[0] < upto)})
            found, upto = cut(found, upto, walk.limit)
        walk.then(found, upto)


def names_in(layers: Sequence[list[Table]], bucket: bytes, start: int, end: int, limit: int) -> tuple[Names, int]:
    """The names that tables of memory hold, and the position below which these are all."""
    names: Names = []
    for slot in _occupied(layers, start >> POSITION_BITS, ((end - 1) >> POSITION_BITS) + 1):
        keys = {key_of(rkey) for layer in layers for rkey in layer[slot] if rkey.startswith(bucket)}
        names += sorted(name for key in keys if start <= (name := (position_of(slot, key), key))[0] < end)
        if len(names) >= limit:
            break
    return cut(names, end, limit)


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


def _look(engine: Engine, bucket: bytes, start: int, end: int, limit: int) -> tuple[Names, int]:
    try:
        return engine.names(bucket, start, end, limit)
    except RecordDamaged as error:
        raise ReadFailed(f"a storage key is damaged: {error}") from error
