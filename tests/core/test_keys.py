"""Row keys and storage keys (S1, S4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.errors import KeyTooLong, RecordDamaged
from ringwise.core.keys import KEY_BYTES_LIMIT, Bucket, hash48, key_of, split_storage_key, storage_key

keys = st.binary(max_size=300)
buckets = st.builds(Bucket, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF))
slots = st.integers(0, 16383)


def test_the_layouts_are_pinned() -> None:
    rkey = Bucket(1, 2).row_key(b"key", b"row")
    assert rkey == b"\0\1\0\0\0\2\0\3keyrow"
    assert storage_key(0x0304, rkey) == b"\3\4\0\1\0\0\0\2" + hash48(b"key") + b"\0\3keyrow"
    assert hash48(b"key").hex() == "bbea0d63a051"


@given(buckets, keys, keys, slots)
def test_keys_come_back(bucket: Bucket, key: bytes, row: bytes, slot: int) -> None:
    rkey = bucket.row_key(key, row)
    assert key_of(rkey) == key
    assert split_storage_key(storage_key(slot, rkey)) == (slot, rkey)


@given(st.lists(st.tuples(slots, buckets, keys), max_size=20))
def test_storage_keys_sort_by_slot_then_bucket_then_hash(rows: list[tuple[int, Bucket, bytes]]) -> None:
    stored = sorted(storage_key(slot, bucket.row_key(key)) for slot, bucket, key in rows)
    by_parts = sorted((slot, bucket.number, bucket.incarnation, hash48(key)) for slot, bucket, key in rows)
    for one, (slot, number, incarnation, hashed) in zip(stored, by_parts, strict=True):
        assert one[:14] == slot.to_bytes(2, "big") + number.to_bytes(2, "big") + incarnation.to_bytes(4, "big") + hashed


@given(slots, keys.filter(bool), st.data())
def test_a_damaged_key_is_noticed(slot: int, key: bytes, data: st.DataObject) -> None:
    stored = bytearray(storage_key(slot, Bucket(0, 0).row_key(key)))
    at = data.draw(st.integers(8, len(stored) - 1))  # the hash, the length or the key
    stored[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RecordDamaged):
        split_storage_key(bytes(stored))


@given(st.binary(max_size=40))
def test_garbage_is_refused(garbage: bytes) -> None:
    try:
        slot, rkey = split_storage_key(garbage)
    except RecordDamaged:
        return
    assert storage_key(slot, rkey) == garbage


def test_a_key_past_the_length_field_is_refused() -> None:
    with pytest.raises(KeyTooLong, match="65536 bytes, the limit is 65535"):
        Bucket(0, 0).row_key(b"k" * (KEY_BYTES_LIMIT + 1))
