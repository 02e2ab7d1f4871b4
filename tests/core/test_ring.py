"""Slots as Redis Cluster computes them, and the walk on the circle against an obvious model (T1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core.ring import SLOTS, VIRTUAL_NODES_MIN, Ring, points_of, slot_of, slot_point, virtual_nodes


@pytest.mark.parametrize(
    ("key", "slot"),
    [  # from Redis: CLUSTER KEYSLOT; 0x31C3 is the reference checksum of its cluster specification
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"somekey", 11058),
        (b"", 0),
    ],
)
def test_slots_are_those_of_redis_cluster(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


def test_only_the_first_non_empty_hashtag_counts() -> None:
    assert slot_of(b"{user1000}.following") == slot_of(b"{user1000}.followers") == slot_of(b"user1000")
    assert slot_of(b"foo{bar}{zap}") == slot_of(b"bar")
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")
    assert slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{bar") != slot_of(b"bar")
    assert slot_of(b"}foo{bar}") == slot_of(b"bar")


def obvious_slot(key: bytes) -> int:
    crc = 0
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    for byte in key[start + 1 : end] if end > start + 1 else key:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % SLOTS


@given(st.text(alphabet="{}ab", max_size=12).map(str.encode) | st.binary(max_size=40))
def test_slot_of_against_a_bitwise_model(key: bytes) -> None:
    assert slot_of(key) == obvious_slot(key)


def test_a_node_has_virtual_nodes_by_weight_and_never_few() -> None:
    assert virtual_nodes(1.0) == 256
    assert virtual_nodes(2.0) == 512
    assert virtual_nodes(0.01) == VIRTUAL_NODES_MIN
    assert points_of("n1", 2.0)[:256] == points_of("n1", 1.0), "more weight adds points and moves none"


def test_points_are_part_of_the_protocol() -> None:
    # Every process, of every version, has to see the same circle.
    assert points_of("n1", 1.0)[0] == 0x47F61CFB4F546317571573A8B4A8DE8B


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_walk_meets_nodes_by_clockwise_distance(count: int) -> None:
    nodes = [(f"n{number}", 1.0 + number % 3) for number in range(count)]
    ring = Ring(nodes)
    points = [(point, number) for number, (name, weight) in enumerate(nodes) for point in points_of(name, weight)]
    for slot in (0, 1, 4711, SLOTS // 2, SLOTS - 1):
        by_distance = sorted(points, key=lambda pair: (pair[0] - slot_point(slot)) % 2**128)
        assert list(ring.walk(slot)) == [number for _, number in by_distance]
        assert ring.preference(slot, count) == list(dict.fromkeys(number for _, number in by_distance))
