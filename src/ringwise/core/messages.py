"""What nodes say to one another (B1): every message is data, and any of them may be lost, doubled or late.

A request names itself by an `id` that is unique for its sender and run; an answer repeats it. An answer numbers results by
position, and an empty list of positions means "every one", so the usual answer to a frame of a thousand writes is a few bytes.
A record travels as the very bytes that are stored, inside a *chunk*: the encoded part of one preference list's writes, which
is the same bytes in the commit log of every replica and in the frame to each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from ringwise.core import agreement
from ringwise.core.record import whole
from ringwise.core.rows import as_sent
from ringwise.core.versions import Write as WriteSpec
from ringwise.wire.frame import frame

NodeId: TypeAlias = bytes
DIGEST_BYTES = 8  # of a state: its record's checksum
PROTOCOL_VERSION = 3  # 1 knew one bucket, 2 sent collections whole

# Why a position of a request was refused; whatever the reason, the receiver applied nothing there.
BEHIND = 1  # the receiver's topology document is older than the frame's: send it, then the frame again
STALE = 2  # the slot, or the incarnation of its bucket, changed after the frame's epoch (T5): learn the document
NOT_WRITING = 3  # the receiver's log has failed (S3)
OVERLOADED = 4  # the receiver's queue of cold keys, or its memtable, is full
NOT_READY = 7  # the receiver's hash tree is not whole yet, so it has no hash of all (R5)
NO_ROOM = 8  # the receiver cannot keep one more hint, so it does not stand in (R4)
DAMAGED = 6  # the receiver's record of that key is damaged, and could not be had from others (S4)
ZOMBIE = 9  # the frame was sent before something that all members have settled after: nobody waits for it (V8)
FAR_STAMP = 5  # the frame's stamp lies beyond the maximum clock offset (V7)


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The first frame of each side of a link."""

    version: int
    cluster: bytes  # empty while the sender has not yet joined
    node: NodeId
    name: str
    generation: int  # the wall clock at its start, in ms
    epoch: int
    host: str
    peer_port: int
    stamp: int = 0  # the sender's greatest: whoever comes back must not send what all others have settled after (V8)


class Write(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """States of keys to merge into the receiver's. `stamp` is at least that of every version inside."""

    id: int
    epoch: int
    stamp: int
    chunk: bytes
    owner: NodeId = b""  # for whom the receiver stands in (R2); it keeps a hint with each key, or refuses


class Written(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Positions of a Write that are merged and logged (and synced, where the sync mode says so).

    higher: (position, the replica's greatest stamp for the key) where a version other than the write's is the newest (V5).
    """

    id: int
    positions: list[int]
    higher: list[tuple[int, int]]
    refused: list[tuple[int, int]]


class Read(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Asks for the states of keys that differ from what the asker holds, told by the first eight bytes (a record's checksum)."""

    id: int
    epoch: int
    synced: bool  # answer only with what is durable (R3, sync mode `batch`)
    slots: list[int]
    rkeys: list[bytes]
    digests: list[bytes]


class Found(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Positions of a Read that were looked up; those not listed in `differing` are as the asker's digest says."""

    id: int
    positions: list[int]
    differing: list[tuple[int, bytes]]
    refused: list[tuple[int, int]]
    hinted: list[NodeId] = []  # where one key was asked for with an empty digest: for whom it waits here (R4)


class ForwardedWrite(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A put that the taker may not coordinate, since only a replica issues dots (V2)."""

    key: bytes
    level: bytes
    stamp: int  # kept when it is sent once more, so that the two are recognisable as one (R1)
    write: WriteSpec
    blind: bool  # a plain SET: covers what its coordinator knows, and may be forwarded once more
    again: bool = False  # another may have coordinated it before
    bucket: int = 0  # its number, which no other bucket ever has


class ForwardedUpdate(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A read-modify-write, both phases of which the receiver runs."""

    key: bytes
    level: bytes
    operation: str
    arguments: list[bytes | int]
    stamp: int = 0  # of its taker, when it was taken
    again: bool = False  # another may have coordinated it before; only a delete is forwarded once more
    bucket: int = 0


class Forward(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Operations that the receiver, an owner of every key in it, is to coordinate (R1)."""

    id: int
    epoch: int
    operations: list[ForwardedWrite | ForwardedUpdate]
    wall_ms: int = 0  # the sender's clock when it was sent: how late it is shows beside others of the link
    stamp: int = 0  # the sender's greatest stamp then (V8)


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """What became of one forwarded operation: the states (before, after), or an error by its code, with its text."""

    position: int
    before: bytes
    after: bytes
    code: str
    text: str
    sloppy: bool = False  # a stand-in counted (R2)


class Forwarded(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Outcomes of a Forward, in as many messages as it takes."""

    id: int
    outcomes: list[Outcome]
    refused: int  # 0, or the reason why none of it was looked at


class Scan(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Asks for the names of keys with start <= position < end (slot and hash48), about `limit` of them."""

    id: int
    epoch: int
    bucket: bytes  # number and incarnation
    start: int
    end: int
    limit: int


class Scanned(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """The names that an owner holds below `end`, in order: all of them, deleted ones and those of slots it has lost included."""

    id: int
    end: int
    keys: list[bytes]
    refused: int  # 0, or the reason why there is no answer


class Hashes(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Asks for hashes of the trees over the slots that both own (R5), under exactly this epoch, and so these buckets (T5)."""

    id: int
    epoch: int
    level: int
    numbers: list[int]  # groups at level SLOTS, slots at level LEAVES


ROOT = 0
GROUPS = 1
SLOTS = 2
LEAVES = 3


class Hashed(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """The hashes in the order of the question; None for a slot that is not shared, or not ready, and for its leaves."""

    id: int
    hashes: list[int | None]
    refused: int  # 0, or the reason why there is no answer


class Digests(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Asks for the rows of all buckets with start <= position < end (slot and hash48) and their digests, about `limit`."""

    id: int
    epoch: int
    start: int
    end: int
    limit: int


class Digested(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """All that is held below `end`, in no order: row keys, and the first eight bytes of their records in one string."""

    id: int
    end: int
    rkeys: list[bytes]
    digests: bytes
    refused: int

    @property
    def whole(self) -> bool:
        """There is a digest for every row."""
        return len(self.digests) == DIGEST_BYTES * len(self.rkeys)

    def by_row(self) -> dict[bytes, bytes]:
        """Digests by row key."""
        at = range(0, len(self.digests), DIGEST_BYTES)
        return {rkey: self.digests[i : i + DIGEST_BYTES] for rkey, i in zip(self.rkeys, at, strict=True)}


class Gossip(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """A packet of the membership protocol (R6) that is to arrive, or is too long for a datagram."""

    packet: bytes


class Reap(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Asks an owner which of these dead records it holds itself, as they are and on its disk, or holds nothing for (V8)."""

    id: int
    epoch: int
    rkeys: list[bytes]
    digests: bytes  # of their records, in one string


class Reapable(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """Positions of a Reap that may go as far as this owner is concerned."""

    id: int
    positions: list[int]
    refused: int  # 0, or the reason why there is no answer


class Settle(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Asks a member to answer once all that it has under way has ended (V8)."""

    id: int
    epoch: int
    stamp: int  # the asker's clock: whatever the member does from now on is stamped above it


class Settled(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """It has ended."""

    id: int


class Drop(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """These records go, where they are still the same (V8)."""

    id: int
    epoch: int
    stamp: int  # all members had settled after it: what was sent before it is nobody's any more
    rkeys: list[bytes]
    digests: bytes


class Dropped(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """They have gone, as far as they were still the same."""

    id: int
    refused: int  # 0, or the reason why nothing has


Message: TypeAlias = (
    Hello
    | Write
    | Written
    | Read
    | Found
    | Forward
    | Forwarded
    | Scan
    | Scanned
    | Hashes
    | Hashed
    | Digests
    | Digested
    | Gossip
    | Reap
    | Reapable
    | Settle
    | Settled
    | Drop
    | Dropped
    | agreement.AgreementMessage
)


_message_encoder = msgspec.msgpack.Encoder(enc_hook=whole)
_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
decode = _message_decoder.decode  # of a frame's body


def encode(message: Message) -> bytes:
    """A message as a frame."""
    return frame(_message_encoder.encode(message))


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """Writes of one turn and one owner set, as parallel lists: column by column they are coded without a Python loop."""

    slots: list[int]
    rkeys: list[bytes]
    bases: list[bytes]  # digest of the state each record was made from: who holds that very state need not merge
    records: list[bytes]  # or, with a base of one byte more, deltas (core/deltas.py)


_chunk_encoder = msgspec.msgpack.Encoder(enc_hook=whole)
_chunk_decoder = msgspec.msgpack.Decoder(Chunk)


def encode_chunk(
    slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
) -> bytes:
    """A chunk from its columns; they have the same length."""
    return _chunk_encoder.encode((slots, rkeys, bases, records))


def encode_rows(rows: Sequence[tuple[int, bytes, bytes, bytes]]) -> bytes:
    """A chunk from its rows, one at least: slot, row key, base, record; of a record that was made from its base, what changed."""
    slots, rkeys, bases, records = zip(*rows, strict=True)
    sent = [as_sent(base, record) for base, record in zip(bases, records, strict=True)]
    return encode_chunk(slots, rkeys, [base for base, _ in sent], [record for _, record in sent])


def decode_chunk(chunk: bytes) -> Chunk:
    """The columns of a chunk; raises msgspec.DecodeError (ValidationError) where it is not one."""
    columns = _chunk_decoder.decode(chunk)
    if not len(columns.slots) == len(columns.rkeys) == len(columns.bases) == len(columns.records):
        raise msgspec.ValidationError("columns of a chunk differ in length")
    return columns
