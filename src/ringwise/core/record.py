"""The record: the whole state of one key as bytes, encoded once, then stored, logged, sent and compared as they are.

    record   checksum 8 | body                  checksum = xxh3_64_digest(body); b"" means "no record"

    plain    01 | n u8 | stamp u64 | dot | (n-1) x entry, sorted by actor | value
    general  02 | msgpack [context, cloud, siblings, world, kind]

    dot and entry   actor 16 | counter u32      actor = node 6 | incarnation 4 | key epoch 6  (V2)

Plain is the one live value without expiry, type, flags, cloud or world, whose dot is its actor's greatest counter and
whose context names 1 to 255 actors: what an ordinary `SET` leaves behind. The dot is then also its actor's context
entry, so it is written once, and the hot path of `versions` works on slices of these bytes. Anything else is general.

Invariants
* *Canonical*: a state has exactly one encoding, so equal states have equal bytes and equal checksums; replicas compare
  states by checksum.
* Every sibling's dot is covered by the context; the context's dots of an actor are 1…counter of its entry, plus the
  cloud's, which lie beyond a gap (V3).
* `decode` is the door: it accepts nothing that `encode` would not write. `unpack` is for bytes that came through a
  door (`decode` or `intact`) before.
"""

from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from xxhash import xxh3_64_digest

from ringwise.core.errors import RecordDamaged

CHECKSUM_BYTES = 8
ACTOR_BYTES = 16
ENTRY_BYTES = 20
COUNTER_MAX = 0xFFFF_FFFF
PLAIN_ACTORS_MAX = 255

PLAIN = 1
GENERAL = 2

# Offsets in a plain record, its checksum included. The context ends, and the value starts, at DOT_AT + n * ENTRY_BYTES.
FORM_AT = 8
COUNT_AT = 9
STAMP_AT = 10
DOT_AT = 18
COUNTER_AT = 34
OTHERS_AT = 38

entries = Struct(">16sI")

Actor = Annotated[bytes, Meta(min_length=ACTOR_BYTES, max_length=ACTOR_BYTES)]
Counter = Annotated[int, Meta(ge=1, le=COUNTER_MAX)]
Natural = Annotated[int, Meta(ge=0)]
Dot = tuple[Actor, Counter]


class Sibling(msgspec.Struct, array_like=True, frozen=True):
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


NOTHING = Record([], [], [])

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def order(sibling: Sibling) -> tuple[bytes, int, int, int, int, str, bool, bytes]:
    """Sort key of siblings: the dot; and should one dot ever carry two contents, the rest settles the order."""
    return (
        sibling.actor,
        sibling.counter,
        sibling.stamp,
        sibling.expiry_ms,
        sibling.flags,
        sibling.content_type,
        sibling.tombstone,
        sibling.value,
    )


def seal(body: bytes) -> bytes:
    return xxh3_64_digest(body) + body


def intact(record: bytes) -> bool:
    """Is the checksum right? The cheap door, for records this program encoded before they were stored or sent (S4)."""
    return not record or (len(record) > FORM_AT and xxh3_64_digest(record[FORM_AT:]) == record[:FORM_AT])


def encode(state: Record) -> bytes:
    """The canonical bytes of a state; no record at all is the empty state."""
    if state == NOTHING:
        return b""
    body = _plain_body(state)
    return seal(b"\x02" + _encoder.encode(state) if body is None else body)


def decode(record: bytes) -> Record:
    """The state of bytes from a disk or a peer; raises RecordDamaged for anything `encode` would not have written."""
    if not record:
        return NOTHING
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


def unpack(record: bytes) -> Record:
    """The state of bytes that came through a door before: nothing is checked again."""
    if not record:
        return NOTHING
    form = record[FORM_AT]
    if form == PLAIN:
        return _unpack_plain(record)
    if form == GENERAL:
        return _decoder.decode(memoryview(record)[COUNT_AT:])
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
