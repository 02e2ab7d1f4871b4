"""Row keys and storage keys: how a client's key is named in memory, on the wire and in the engine (S1).

    row key      bucket number u16 | bucket incarnation u32 | key length u16 | key | row
    storage key  slot u16 | bucket 6 | hash48(key) 6 | key length u16 | key | row

Everything is big endian, so storage keys sort by slot, then bucket, then hash: a slot is one range, a leaf of a hash
tree (a range of hash48) is one range, and slot + hash48 make a scan cursor of 64 bits that survives anything that
moves. The memtable, the log and the frames are addressed by row key, because there the slot travels beside it.
`row` is empty for plain values; collections put their members there (V4), which keeps them next to their header.
"""

import msgspec
from xxhash import xxh3_64_digest

from ringwise.core.errors import KeyTooLong, RecordDamaged

BUCKET_BYTES = 6
BUCKET_NUMBER_BYTES = 2  # of them; the incarnation follows
HASH_BYTES = 6
POSITION_BITS = 8 * HASH_BYTES  # of a scan position that are the hash; the slot stands above them
KEY_BYTES_LIMIT = 0xFFFF  # the length field's; the configured limit is far below

KEY_AT = BUCKET_BYTES + 2  # in a row key, behind the bucket and the key's length
_HASH_AT = 2 + BUCKET_BYTES
_REST_AT = _HASH_AT + HASH_BYTES


class Bucket(msgspec.Struct, frozen=True):
    """A bucket in its present incarnation; `FLUSHDB` makes a new incarnation, and the rows of the old one are void."""

    number: int
    incarnation: int
    prefix: bytes = b""

    def __post_init__(self) -> None:
        prefix = self.number.to_bytes(2, "big") + self.incarnation.to_bytes(4, "big")
        msgspec.structs.force_setattr(self, "prefix", prefix)

    def row_key(self, key: bytes, row: bytes = b"") -> bytes:
        size = len(key)
        if size > KEY_BYTES_LIMIT:
            raise KeyTooLong(size, KEY_BYTES_LIMIT)
        return self.prefix + size.to_bytes(2, "big") + key + row


def key_of(rkey: bytes) -> bytes:
    """The client's key of a row key."""
    return rkey[KEY_AT : KEY_AT + int.from_bytes(rkey[BUCKET_BYTES:KEY_AT], "big")]


def hash48(key: bytes) -> bytes:
    return xxh3_64_digest(key)[:HASH_BYTES]


def position_of(slot: int, key: bytes) -> int:
    """Where a key stands in a scan: slot and hash48 as one number of 62 bits, in the order of the storage keys."""
    return slot << POSITION_BITS | int.from_bytes(xxh3_64_digest(key)[:HASH_BYTES], "big")


def storage_key(slot: int, rkey: bytes) -> bytes:
    return slot.to_bytes(2, "big") + rkey[:BUCKET_BYTES] + hash48(key_of(rkey)) + rkey[BUCKET_BYTES:]


def split_storage_key(stored: bytes) -> tuple[int, bytes]:
    """(slot, row key) of a storage key; raises RecordDamaged when its parts do not fit together (S4)."""
    rkey = stored[2:_HASH_AT] + stored[_REST_AT:]
    key = key_of(rkey)
    if len(rkey) < KEY_AT or len(key) != int.from_bytes(rkey[BUCKET_BYTES:KEY_AT], "big"):
        raise RecordDamaged("a storage key is cut short")
    if hash48(key) != stored[_HASH_AT:_REST_AT]:
        raise RecordDamaged("a storage key does not match its hash")
    return int.from_bytes(stored[:2], "big"), rkey
