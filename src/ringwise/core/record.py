"""The record: the whole state of one key as bytes, encoded once, then stored, logged, sent and compared as they are.

    record   checksum 8 | body                  checksum = xxh3_64_digest(body); b"" means "no record"

    plain    01 | n u8 | stamp u64 | dot | (n-1) x entry, sorted by actor | value
    general  02 | msgpack [context, cloud, siblings, world, kind]
    rows     03 | xxh3_64_digest(checksum and what follows) | msgpack, as general; its checksum is a sum, see below

    dot and entry   actor 16 | counter u32      actor = node 6 | incarnation 4 | key epoch 6  (V2)

Plain is the one live value without expiry, type, flags, cloud or world, whose dot is its actor's greatest counter and
whose context names 1 to 255 actors: what an ordinary `SET` leaves behind. The dot is then also its actor's context
entry, so it is written once, and the hot path of `versions` works on slices of these bytes. Where a sibling is a member
or a field of a collection, the state has the form of rows: its checksum is the XOR of the hash of its head (context,
cloud, world, kind) and of the hash of each sibling, so that who changes one row of many need not look at the others (V4,
core/rows.py). Anything else is general.

Invariants
* *Canonical*: a state has exactly one encoding, so equal states have equal bytes and equal checksums; replicas compare
  states by checksum.
* Every sibling's dot is covered by the context; the context's dots of an actor are 1…counter of its entry, plus the
  cloud's, which lie beyond a gap (V3).
* `decode` is the door: it accepts nothing that `encode` would not write. `unpack` is for bytes that came through a
  door (`decode` or `intact`) before.
"""

import collections
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import attrgetter
from struct import Struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from ringwise.core.errors import RecordDamaged

CHECKSUM_BYTES = 8
UNKNOWN = bytes(CHECKSUM_BYTES)  # in the place of a checksum: the receiver must merge, whatever it holds
ACTOR_BYTES = 16
ENTRY_BYTES = 20
COUNTER_MAX = 0xFFFF_FFFF
PLAIN_ACTORS_MAX = 255

PLAIN = 1
GENERAL = 2
ROWS = 3
DELTA = 4  # what changed of rows, in frames and in the log; no state (core/deltas.py)

# Offsets in a plain record, its checksum included. The context ends, and the value starts, at DOT_AT + n * ENTRY_BYTES.
FORM_AT = 8
COUNT_AT = 9
STAMP_AT = 10
DOT_AT = 18
COUNTER_AT = 34
OTHERS_AT = 38
_ROWS_BODY_AT = FORM_AT + 1 + CHECKSUM_BYTES

entries = Struct(">16sI")

Actor = Annotated[bytes, Meta(min_length=ACTOR_BYTES, max_length=ACTOR_BYTES)]
Counter = Annotated[int, Meta(ge=1, le=COUNTER_MAX)]
Natural = Annotated[int, Meta(ge=0)]
Dot = tuple[Actor, Counter]


class Sibling(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One version and the dot of the put that made it. A tombstone is a version too: the one a delete made."""

    actor: Actor
    counter: Counter
    stamp: Natural
    expiry_ms: Natural  # absolute wall milliseconds, 0 = never (V7)
    flags: Natural
    content_type: str
    tombstone: bool
    value: bytes


class Record(msgspec.Struct, array_like=True, frozen=True):
    """The state of a key: the versions that live, and everything that was ever seen of it, theirs included."""

    context: list[Dot]  # version vector, sorted by actor
    cloud: list[Dot]  # dots beyond gaps, sorted (V3); empty for plain values
    siblings: list[Sibling]  # sorted by `order`
    world: Annotated[int, Meta(ge=0, le=1)] = 0  # 1 once the key belongs to a linearizable register (V10)
    kind: Annotated[int, Meta(ge=0, le=1)] = 0  # 0 complete state, 1 delta (V3)


class Opened(bytes):
    """A record held taken apart (core/rows.py). As bytes it is its checksum and its form; a disk or a peer gets `whole`."""

    whole_size: int  # about the length of `whole`
    held_size: int  # about the bytes of memory that it takes

    def whole(self) -> bytes:
        raise NotImplementedError

    def state(self) -> Record:
        raise NotImplementedError


alarms: collections.Counter[str] = collections.Counter()
"""Things that must be impossible. `dot_collision`: one dot with two contents was seen (basho/riak_kv#814)."""

NOTHING = Record([], [], [])

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
encoded = _encoder.encode


def whole(record: bytes) -> bytes:
    """The bytes of a record, to be stored or sent."""
    return record.whole() if isinstance(record, Opened) else record


def size_of(record: bytes) -> int:
    """About how many bytes are stored or sent."""
    return record.whole_size if isinstance(record, Opened) else len(record)


def held_size_of(record: bytes) -> int:
    """About how many bytes of memory it takes, beside what any object does."""
    return record.held_size if isinstance(record, Opened) else len(record)


def is_row(sibling: Sibling) -> bool:
    """A member of a set, a field of a hash, a member of a sorted set, and what belongs to one (core/sets.py, core/maps.py)."""
    return sibling.content_type.startswith(("\0s", "\0h", "\0z"))


# Sort key of siblings: the dot; and should one dot ever carry two contents, the rest settles the order.
order: Callable[[Sibling], tuple[bytes, int, int, int, int, str, bool, bytes]] = attrgetter(*Sibling.__struct_fields__)


def put_in_order(siblings: list[Sibling]) -> None:
    """Sorts very many of them, a fifth of the time that it takes by `order`."""
    siblings.sort(key=attrgetter("counter"))
    siblings.sort(key=attrgetter("actor"))
    if any(a.counter == b.counter and a.actor == b.actor for a, b in pairwise(siblings)):
        siblings.sort(key=order)


def seal(body: bytes) -> bytes:
    return xxh3_64_digest(body) + body


def head_sum(context: list[Dot], cloud: list[Dot], world: int, kind: int) -> int:
    """What the head adds to the checksum of rows."""
    return xxh3_64_intdigest(encoded((context, cloud, world, kind)))


def seal_rows(checksum: bytes, state: Record) -> bytes:
    """The bytes of rows whose checksum is known."""
    body = encoded(state)
    return b"%b\x03%b%b" % (checksum, xxh3_64_digest(checksum + body), body)


def _rows_checksum(state: Record) -> bytes:
    total = head_sum(state.context, state.cloud, state.world, state.kind)
    for sibling in state.siblings:
        total ^= xxh3_64_intdigest(encoded(sibling))
    return total.to_bytes(CHECKSUM_BYTES, "big")


def intact(record: bytes) -> bool:
    """Is the checksum right? The cheap door, for records this program encoded before they were stored or sent (S4)."""
    if not record or isinstance(record, Opened):
        return True
    if len(record) <= FORM_AT:
        return False
    if record[FORM_AT] == ROWS:
        body = record[:FORM_AT] + record[_ROWS_BODY_AT:]
        return xxh3_64_digest(body) == record[COUNT_AT:_ROWS_BODY_AT]
    return xxh3_64_digest(record[FORM_AT:]) == record[:FORM_AT]


def encode(state: Record) -> bytes:
    """The canonical bytes of a state; no record at all is the empty state."""
    if state == NOTHING:
        return b""
    body = _plain_body(state)
    if body is not None:
        return seal(body)
    if any(map(is_row, state.siblings)):
        return seal_rows(_rows_checksum(state), state)
    record = seal(b"\x02" + encoded(state))
    _remember(record, state)
    return record


def decode(record: bytes) -> Record:
    """The state of bytes from a disk or a peer; raises RecordDamaged for anything `encode` would not have written."""
    if not record:
        return NOTHING
    if isinstance(record, Opened):
        return record.state()
    if not intact(record):
        raise RecordDamaged("its checksum does not match")
    try:
        state = unpack(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordDamaged(f"its shape is wrong ({error})") from error
    _check(state)
    if encode(state) != record:
        raise RecordDamaged("it is not in its canonical form")
    return state


_last: tuple[bytes, Record] = (b"", NOTHING)


def _remember(record: bytes, state: Record) -> None:
    """An update looks at the same record several times in a row, and so does its reply at what it made."""
    global _last
    _last = record, state


def unpack(record: bytes) -> Record:
    """The state of bytes that came through a door before: nothing is checked again. It is not to be changed."""
    if not record:
        return NOTHING
    form = record[FORM_AT]
    if form == PLAIN:
        return _unpack_plain(record)
    if form == GENERAL:
        last, state = _last
        if last is not record:
            state = _decoder.decode(memoryview(record)[COUNT_AT:])
            _remember(record, state)
        return state
    if isinstance(record, Opened):
        return record.state()
    if form == ROWS:
        return _decoder.decode(memoryview(record)[_ROWS_BODY_AT:])
    raise RecordDamaged(f"form {form} is not known")


def _plain_body(state: Record) -> bytes | None:
    """The plain form of a state, or None if it has none."""
    context, siblings = state.context, state.siblings
    if state.cloud or state.world or state.kind or len(siblings) != 1 or len(context) > PLAIN_ACTORS_MAX:
        return None
    one = siblings[0]
    if one.expiry_ms or one.flags or one.content_type or one.tombstone or (one.actor, one.counter) not in context:
        return None
    others = b"".join([entries.pack(actor, counter) for actor, counter in context if actor != one.actor])
    return b"%b%c%b%b%b%b" % (
        b"\x01",
        len(context),
        one.stamp.to_bytes(8, "big"),
        entries.pack(one.actor, one.counter),
        others,
        one.value,
    )


def _unpack_plain(record: bytes) -> Record:
    count = record[COUNT_AT] if len(record) > COUNT_AT else 0
    end = DOT_AT + count * ENTRY_BYTES
    if not count or end > len(record):
        raise RecordDamaged("its context is cut short")
    context: list[Dot] = list(entries.iter_unpack(record[DOT_AT:end]))
    actor, counter = context[0]
    context.sort()
    stamp = int.from_bytes(record[STAMP_AT:DOT_AT], "big")
    return Record(context, [], [Sibling(actor, counter, stamp, 0, 0, "", False, record[end:])])


def _check(state: Record) -> None:
    """The invariants that types do not hold."""
    vector = dict(state.context)
    if not _ascending([actor for actor, _ in state.context]) or not all(vector.values()):
        raise RecordDamaged("its context is out of order")
    if not _ascending(state.cloud) or any(counter <= vector.get(actor, 0) + 1 for actor, counter in state.cloud):
        raise RecordDamaged("its dot cloud is out of order")
    if not _ascending([order(sibling) for sibling in state.siblings]):
        raise RecordDamaged("its siblings are out of order")
    for sibling in state.siblings:
        dot = (sibling.actor, sibling.counter)
        if sibling.counter > vector.get(sibling.actor, 0) and dot not in state.cloud:
            raise RecordDamaged("a sibling is not covered by its context")


def _ascending(items: Sequence[Any]) -> bool:
    return all(a < b for a, b in pairwise(items))
