"""Collections as rows (V3, V4): what one member costs does not grow with the collection.

A record of a collection that is large enough is held taken apart, each version under the name of its member or field. It is never
changed: a write makes the next state, which shares all but a few nodes with the one before (a hash array mapped trie), and a
*delta* (core/deltas.py): the dots that were added and those that were covered, the versions that came, and the names under which
to look for what goes. The delta is what the commit log and the other owners get, in the place of the state.

    SADD k m   state ──▶ state'   delta: dot 7, m          a row came: its hash is added to the checksum (core/record.py)
    SREM k m   state' ─▶ state''  delta: dot 7, dot 8, ø   under the name m: the row of dot 7 goes; dot 8 is the mark

* Merging a delta is merging of dotted version vectors (core/versions.py) with a state that has seen just these dots. What lies
  beyond a gap goes into the cloud, so no replica takes itself to have seen what it has not (V3). Who holds nothing of the key
  has of it what the delta says, and its record says that it is a part (`kind`); what is whole, or covers it, completes it.
* Each state remembers the last steps that led to it. Two owners which differ by what is on its way, and that is nearly always,
  find a state that both have been in, and only what came after that is sent, and merged. A state only ever grows, so what was
  seen in a state that the other side has been in is not news to it.
* As bytes, such a record is its checksum and its form, so that the paths of put and get need not know; `record.whole` is what a
  disk or a peer gets. Any other record of a collection is bytes, as all records. Both forms behave the same:
  tests/core/test_rows.py holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

from immutables import Map
from xxhash import xxh3_64_intdigest

from ringwise.core import deltas, maps
from ringwise.core import record as records
from ringwise.core.context import Context, Seen
from ringwise.core.counters import EXPIRY, is_session
from ringwise.core.deltas import Delta, Step, Steps
from ringwise.core.maps import Field, Kind
from ringwise.core.order import Order, Place
from ringwise.core.record import CHECKSUM_BYTES, FORM_AT, ROWS, Dot, Opened, Record, Sibling, alarms, is_row
from ringwise.core.sets import MARK

BYTES_MIN = 4096  # smaller records are bytes: a few members are looked through faster than taken apart
OPEN_BYTES = BYTES_MIN  # the simulator and the tests have others
REST_MAX = 64  # versions that are no rows: marks, registers, values written beside
_NO_CUT = 1 << 64  # above any
_ROW_BYTES_MIN = 40  # of a version, whatever is in it
STEPS_SHARE = 4  # and no more bytes of them than this part of the rows, since then the whole can as well be sent
# How many steps back are the states that a reader tells.
STEPS_TOLD = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1023)
ROW_BYTES = 200  # of memory for each member or field, beside its versions as bytes
WHOLES_MAX = 4  # that are kept as bytes
OPENED_MAX = 4  # records that are bytes in the store and were asked for lately

Join: TypeAlias = Callable[[Record, Record], Record]  # of any two states (core/versions.py)


class Rows(Opened):
    """One state of a collection: a set, a hash or a sorted set, and little else under the key."""

    role: str  # how the content types of its rows begin
    kind: Kind | None  # of a hash or a sorted set
    rows: Map[bytes, tuple[Sibling, ...]]
    rest: tuple[Sibling, ...]  # in order
    vector: Mapping[bytes, int]
    cloud: frozenset[Dot]
    world: int
    partial: int
    total: int  # XOR of the hashes of all siblings
    size: int  # of all versions as bytes
    stamp: int  # the greatest of all, which is the greatest ever seen
    least: int  # no row has a smaller one
    loose: int  # contributions to nothing (core/maps.py)
    loose_cut: int  # of which none names a smaller cut
    absent: int  # names that are not there
    order: Order | None
    steps: Steps
    told: bytes = b""  # its digest, once somebody has asked for it
    again: bytes = b""  # a delta of rows that a write has found there (`unchanged`)
    bare: Rows | None = None  # and the state without that
    step: bytes = b""  # the delta that several writes are sent as (`in_one_step`)

    @property
    def is_pure(self) -> bool:
        """Nothing under the key but the collection, and what belongs to it."""
        return all(each.content_type in (MARK, EXPIRY) for each in self.rest)

    def seen(self) -> Seen:
        """What it has seen, to be added to."""
        seen = Seen()
        seen.vector, seen.cloud = dict(self.vector), set(self.cloud)
        return seen

    def state(self) -> Record:
        siblings = [*chain.from_iterable(self.rows.values()), *self.rest]
        records.put_in_order(siblings)
        return self.with_siblings(siblings)

    def lists(self) -> tuple[list[Dot], list[Dot]]:
        """What it has seen, (vector, cloud) as records and contexts hold them."""
        return sorted(self.vector.items()), sorted(self.cloud)

    def with_siblings(self, siblings: list[Sibling]) -> Record:
        """A state with this one's head."""
        return Record(*self.lists(), siblings, self.world, self.partial)

    def whole(self) -> bytes:
        return _whole(self)

    def has_been(self, checksum: bytes) -> bool:
        """Whether a state with that checksum led to it, as far as it remembers; most likely a late one."""
        return self.steps.since((checksum,)) is not None

    def checksums(self) -> set[bytes]:
        """Its own, and those of the states that led to it."""
        return {self[:CHECKSUM_BYTES], *[step.base for step in self.steps]}

    def in_order(self) -> Sequence[Place]:
        """Of a sorted set: (score, member), to be looked at at once (core/order.py)."""
        if self.order is None:
            self.order = Order(place for name, known in self.rows.items() for place in self._places(name, known))
        places: Sequence[Place] = self.order.places()
        return places

    def _places(self, name: bytes, known: tuple[Sibling, ...]) -> list[Place]:
        assert self.kind is not None
        if len(known) == 1 and known[0].content_type == self.kind.entry:
            return [(maps.score_in(known[0]), name)]
        field = Field(self.kind, known, 0)
        return [(field.score, name)] if field.there else []

    def _is_absent(self, known: tuple[Sibling, ...]) -> bool:
        kind = self.kind
        return kind is not None and not (
            (len(known) == 1 and known[0].content_type == kind.entry) or Field(kind, known, 0).there
        )


_wholes: dict[bytes, bytes] = {}


def _whole(rows: Rows) -> bytes:
    """Some are asked for several times in a row: for each owner, and for the disk. Kept by checksum, since a state of a sorted
    set that is kept keeps what has changed since (core/order.py)."""
    checksum = rows[:CHECKSUM_BYTES]
    found = _wholes.get(checksum)
    if found is None:
        if len(_wholes) >= WHOLES_MAX:
            del _wholes[next(iter(_wholes))]
        found = _wholes[checksum] = records.seal_rows(checksum, rows.state())
    return found


def name_of(row: Sibling) -> bytes:
    """Under which it stands."""
    return maps.parted(row.value)[0] if row.content_type[:2] != "\0s" else row.value


def opened(record: bytes) -> Rows | None:
    """A record as rows; None where it is too small, or other than rows."""
    if isinstance(record, Rows):
        return record
    if len(record) < OPEN_BYTES or record[FORM_AT] != ROWS:
        return None
    return _opened(record)


@lru_cache(maxsize=OPENED_MAX)
def _opened(record: bytes) -> Rows | None:
    return taken_apart(records.unpack(record)) if records.intact(record) else None


def held(record: bytes) -> bytes:
    """A record from a disk or a peer as the store holds it; not one that is kept elsewhere as well, as in `_whole`."""
    found = opened(record)
    if found is None:
        return record
    own = _copy(found)
    own.order = None
    return own


def taken_apart(state: Record) -> Rows | None:
    """None where it is no collection, or several."""
    beginnings = {each.content_type[:2] for each in state.siblings if is_row(each)}
    rest = [each for each in state.siblings if not is_row(each)]
    if len(beginnings) != 1 or len(rest) > REST_MAX:
        return None
    by_name: dict[bytes, tuple[Sibling, ...]] = {}
    total = size = loose = 0
    loose_cut = _NO_CUT
    for each in state.siblings:
        code = records.encoded(each)
        total ^= xxh3_64_intdigest(code)
        size += len(code)
        if is_row(each):
            name = name_of(each)
            by_name[name] = (*by_name[name], each) if name in by_name else (each,)
            if _is_loose(each):
                loose += 1
                loose_cut = min(loose_cut, maps.cut_of_added(each))
    checksum = total ^ records.head_sum(state.context, state.cloud, state.world, state.kind)
    found = Rows(checksum.to_bytes(CHECKSUM_BYTES, "big") + bytes((ROWS,)))
    found.total, found.size, found.loose, found.loose_cut = total, size, loose, loose_cut
    found.role = beginnings.pop()
    found.kind = next((kind for kind in maps.KINDS.values() if kind.entry == found.role), None)
    found.rows, found.rest = Map(by_name), tuple(rest)
    found.vector, found.cloud = dict(state.context), frozenset(state.cloud)
    found.world, found.partial = state.world, state.kind
    _measure(found)
    found.stamp = max(each.stamp for each in state.siblings)
    found.least = min(each.stamp for known in by_name.values() for each in known)
    found.absent = sum(map(found._is_absent, by_name.values()))
    found.order, found.steps = None, Steps()
    return found


def _measure(rows: Rows) -> None:
    rows.whole_size = rows.size + 64 + records.ENTRY_BYTES * (len(rows.vector) + len(rows.cloud))
    rows.held_size = rows.whole_size + ROW_BYTES * len(rows.rows)


def _is_loose(row: Sibling) -> bool:
    return row.content_type[2:] == "c" and maps.parted(row.value)[1][:1] == b"\0"


# -- changes


class Covered(Context, frozen=True):
    """Exactly some versions, not those that their actors wrote before; and under which names they stand."""

    names: tuple[bytes, ...] = ()


def covering(replaced: Iterable[Sibling]) -> Covered:
    """Exactly these versions."""
    versions = list(replaced)
    names = {name_of(each) for each in versions if is_row(each)}
    dots = {(each.actor, each.counter) for each in versions}
    return Covered([], sorted(dots), names=tuple(sorted(names)))


def written(state: Rows, made: Sequence[Sibling], covered: Covered, generic: Join) -> bytes:
    """The state after a write: new versions under dots that it has not seen, in their order, in the place of these."""
    seen = Seen()
    seen.add_dots([*covered.cloud, *((each.actor, each.counter) for each in made)])
    delta = Delta(list(covered.names), *seen.lists(), list(made))
    found = joined(state, delta, deltas.sealed(delta))
    return encode(generic(state.state(), delta.part)) if found is None else found


def unchanged(record: bytes, names: Iterable[bytes]) -> bytes:
    """A record after a write that found something as it was to be: of rows, those under these names are sent once more, so that
    as many owners have them as the write needs. Only for what is sent: the store holds it `bare`."""
    state = opened(record)
    if state is None:
        return record
    siblings = sorted((each for name in set(names) for each in state.rows.get(name, ())), key=records.order)
    if not siblings:
        return record
    seen = Seen()
    seen.add_dots((each.actor, each.counter) for each in siblings)
    same = _copy(state)
    same.again, same.bare = deltas.sealed(Delta([], *seen.lists(), siblings)), state.bare or state
    return same


def in_one_step(state: Rows, wires: Sequence[bytes]) -> Rows:
    """A state that several changes have led to, to be sent as one of what the first was made to."""
    same = _copy(state)
    same.step = deltas.one_of(wires)
    return same


def _copy(state: Rows) -> Rows:
    same = Rows(bytes(state))
    same.__dict__.update(state.__dict__)
    return same


def joined(state: Rows, delta: Delta, wire: bytes) -> bytes | None:
    """The join of a state and a delta; None where the result is no collection of this kind, or has too much beside it."""
    theirs: dict[bytes, list[Sibling]] = {name: [] for name in delta.names}
    others: list[Sibling] = []
    for each in delta.siblings:
        if each.content_type[:2] == state.role:
            theirs.setdefault(name_of(each), []).append(each)
        elif is_row(each):
            return None
        else:
            others.append(each)
    change = _Change(state, delta)
    rest = change.join(state.rest, others) if others or state.rest else ()
    if len(rest) > REST_MAX:
        return None
    rows, absent = state.rows, state.absent
    gone: list[Place] = []
    came: list[Place] = []
    fresh: dict[bytes, tuple[Sibling, ...]] = {}
    for name, siblings in theirs.items():
        before = rows.get(name, ())
        after = change.join(before, siblings)
        if after != before:
            fresh[name] = after
            if state.kind is not None:
                absent += _counted(state, after) - _counted(state, before)
            if state.order is not None:
                gone += state._places(name, before)
                came += state._places(name, after)
    if fresh:
        with rows.mutate() as mutation:
            for name, after in fresh.items():
                if after:
                    mutation[name] = after
                else:
                    mutation.pop(name, None)
            rows = mutation.finish()
    if not rows:
        return None
    seen = state.seen()
    if delta.context:
        seen.add(change.theirs)
    else:
        seen.add_few(delta.cloud)
    vector, cloud = sorted(seen.vector.items()), sorted(seen.cloud) if seen.cloud else []
    checksum = (change.total ^ records.head_sum(vector, cloud, state.world, state.partial)).to_bytes(8, "big")
    if checksum == state[:CHECKSUM_BYTES]:
        return state
    found = Rows(checksum + bytes((ROWS,)))
    found.role, found.kind, found.rows, found.rest = state.role, state.kind, rows, rest
    found.vector, found.cloud = seen.vector, frozenset(seen.cloud)
    found.world, found.partial = state.world, state.partial
    found.total, found.size, found.loose, found.absent = change.total, change.size, change.loose, absent
    _measure(found)
    found.stamp, found.least, found.loose_cut = change.stamp, change.least, change.loose_cut
    found.order = state.order.changed(gone, came) if state.order is not None else None
    found.steps = state.steps.and_then(Step(state[:CHECKSUM_BYTES], wire), state.size // STEPS_SHARE)
    return found


def _counted(state: Rows, known: tuple[Sibling, ...]) -> int:
    """Of names that stand in the rows and are not there."""
    return 1 if known and state._is_absent(known) else 0


class _Change:
    """What a delta does, name by name."""

    def __init__(self, state: Rows, delta: Delta) -> None:
        self.theirs = Seen()
        self.theirs.vector, self.theirs.cloud = dict(delta.context), set(delta.cloud)
        self._dots = {(each.actor, each.counter) for each in delta.siblings}
        self._state = state
        self.total, self.size, self.loose, self.loose_cut = state.total, state.size, state.loose, state.loose_cut
        self.stamp, self.least = state.stamp, state.least

    def join(self, mine: tuple[Sibling, ...], theirs: Sequence[Sibling]) -> tuple[Sibling, ...]:
        """What survives of both (core/versions.py)."""
        if len(theirs) == 1 and len(mine) < 2 and self._is_unseen(theirs[0]) and all(map(self._goes, mine)):
            for each in mine:  # the usual case: one version comes, in the place of one or none
                self._drop(each)
            self._take(theirs[0])
            return tuple(theirs)
        lost = [each for each in mine if self._goes(each)]
        new = [each for each in theirs if each not in mine and not self._is_gone(each, mine)]
        if not lost and not new:
            return mine
        if mine and new:
            held = {(each.actor, each.counter) for each in mine}
            alarms["dot_collision"] += sum(
                (each.actor, each.counter) in held and not is_session(each.actor) for each in new
            )
        for each in lost:
            self._drop(each)
        for each in new:
            self._take(each)
        kept = [each for each in mine if each not in lost] + new
        if len(kept) > 1:
            kept.sort(key=records.order)
        return tuple(kept)

    def _drop(self, each: Sibling) -> None:
        self.size -= self._account(each)
        self.loose -= _is_loose(each)

    def _take(self, each: Sibling) -> None:
        self.size += self._account(each)
        if _is_loose(each):
            self.loose += 1
            self.loose_cut = min(self.loose_cut, maps.cut_of_added(each))
        stamp = each.stamp
        if stamp > self.stamp:
            self.stamp = stamp
        if stamp < self.least and is_row(each):
            self.least = stamp

    def _goes(self, each: Sibling) -> bool:
        """Covered by the delta, and not alive in it."""
        actor, counter = each.actor, each.counter
        return self.theirs.has(actor, counter) and (actor, counter) not in self._dots

    def _is_unseen(self, each: Sibling) -> bool:
        state = self._state
        if each.counter <= state.vector.get(each.actor, 0):
            return False
        return not state.cloud or (each.actor, each.counter) not in state.cloud

    def _is_gone(self, each: Sibling, mine: tuple[Sibling, ...]) -> bool:
        """Seen before, and not alive: somebody had covered it. (One dot with two contents is alive in both.)"""
        dot = (each.actor, each.counter)
        return not self._is_unseen(each) and all((other.actor, other.counter) != dot for other in mine)

    def _account(self, each: Sibling) -> int:
        code = records.encoded(each)
        self.total ^= xxh3_64_intdigest(code)
        return len(code)


# -- merging


def merged(a: bytes, b: bytes, generic: Join) -> bytes:
    """The join of two records, one of them a delta or large. `generic` joins any two states (core/versions.py).

    Raises RecordDamaged.
    """
    if deltas.is_delta(a):
        a, b = b, a
    if deltas.is_delta(b):
        delta = deltas.delta_of(b)
        if deltas.is_delta(a):
            return deltas.together([deltas.delta_of(a), delta])
        state = opened(a)
        result = joined(state, delta, b) if state is not None else None
        return _same(encode(generic(_state_of(a), delta.part)) if result is None else result, a)
    if a[:CHECKSUM_BYTES] == b[:CHECKSUM_BYTES]:
        return opened(a) or a
    mine, theirs = opened(a), opened(b)
    result = _caught_up(mine, theirs) if mine is not None and theirs is not None else None
    if result is None:
        result = encode(generic(_state_of(a), _state_of(b)))
    return _same(result, a, b)


def _state_of(record: bytes) -> Record:
    return record.state() if isinstance(record, Opened) else records.decode(record)


def _same(result: bytes, *others: bytes) -> bytes:
    """One of these where that is what came out."""
    return next((opened(each) or each for each in others if each[:CHECKSUM_BYTES] == result[:CHECKSUM_BYTES]), result)


def encode(state: Record) -> bytes:
    """A state as the store holds it."""
    if len(state.siblings) * _ROW_BYTES_MIN >= OPEN_BYTES // 4:
        found = taken_apart(state)
        if found is not None and found.whole_size >= OPEN_BYTES:
            return found
    return records.encode(state)


def _caught_up(mine: Rows, theirs: Rows) -> bytes | None:
    """By the steps since a state that both have been in; None where none is known."""
    if mine.has_been(theirs[:CHECKSUM_BYTES]):
        return mine
    since = theirs.steps.since(mine.checksums())
    if since is None:
        return None
    result: bytes | None = mine
    for step in since:
        state = opened(result) if result is not None else None
        if state is None:
            return None
        result = joined(state, deltas.delta_of(step.delta), step.delta)
    return result


# -- what is sent


def part_about(record: bytes, names: Collection[bytes]) -> bytes:
    """What a record says about some members or fields, and how else it stands; a small one as it is."""
    state = opened(record)
    if state is None:
        return record
    siblings = [each for name in set(names) for each in state.rows.get(name, ())]
    siblings += state.rest
    siblings.sort(key=records.order)
    return records.encode(state.with_siblings(siblings))


def as_sent(base: bytes, record: bytes) -> tuple[bytes, bytes]:
    """(base, record) as a chunk carries them: the state, or, with a base of one byte more, what changed since the base."""
    if not isinstance(record, Rows):
        return base, record
    if record.step:
        return base + b"\1", record.step
    since = changes_since(base, record)
    return (base + b"\1", deltas.one_of(since)) if since else (base, record.whole())


def changes_since(base: bytes, record: bytes) -> list[bytes] | None:
    """The deltas that led from there to this state, and what is sent once more; None where that is not known."""
    since = steps_since([base], record) if isinstance(record, Rows) else None
    if since is None or not isinstance(record, Rows):
        return None
    return [*(step.delta for step in since), *([record.again] if record.again else [])]


def steps_since(checksums: Collection[bytes], state: Rows) -> Sequence[Step] | None:
    """How a state was come to from the latest of these that it has been in; None where it has been in none."""
    if state[:CHECKSUM_BYTES] in checksums:
        return ()
    return state.steps.since(checksums)


def digest_of(record: bytes) -> bytes:
    """What a reader tells of its own state: its checksum, and of rows those of some states before, or its own once more."""
    own = record[:CHECKSUM_BYTES]
    if not isinstance(record, Rows):
        return own
    if not record.told:
        steps = record.steps
        record.told = own + (b"".join([steps[-back].base for back in STEPS_TOLD if back <= len(steps)]) or own)
    return record.told


def news(record: bytes, digest: bytes) -> bytes | None:
    """What somebody with that digest has to be sent to know this record: it, or a delta; None: nothing."""
    checksums = [digest[at : at + CHECKSUM_BYTES] for at in range(0, len(digest), CHECKSUM_BYTES)]
    if not isinstance(record, Rows):
        return None if record[:CHECKSUM_BYTES] in checksums else record
    since = steps_since(checksums, record)
    if since is None:
        return record
    return deltas.one_of([step.delta for step in since]) if since else None


def context_of(state: Rows) -> Context:
    """What a client that reads it has seen."""
    return Context(*state.lists(), state.stamp)
