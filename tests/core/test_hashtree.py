"""Hash trees against the obvious: a dict of keys, hashed from scratch (R5; Merkle 1987)."""

from __future__ import annotations

from functools import reduce
from operator import xor

from hypothesis import given, settings
from hypothesis import strategies as st

from ringwise.core.hashtree import GROUP_SLOTS, GROUPS, LEAF_SHIFT, LEAVES, HashTree, leaf_of, term
from ringwise.core.keys import Bucket, position_of
from ringwise.core.ring import SLOTS, slot_of

BUCKET = Bucket(0, 1)
EVERY = b"\x01" * SLOTS

keys = st.integers(0, 40).map(lambda number: b"k%d" % number)
digests = st.one_of(st.just(b""), st.integers(1, 5).map(lambda number: number.to_bytes(8, "big")))
histories = st.lists(st.tuples(keys, digests), max_size=60)


def grown(history: list[tuple[bytes, bytes]]) -> tuple[HashTree, dict[bytes, bytes]]:
    tree, held = HashTree(), dict[bytes, bytes]()
    tree.ready[:] = EVERY
    for key, digest in history:
        tree.apply(slot_of(key), BUCKET.row_key(key), held.get(key, b""), digest)
        held[key] = digest
    return tree, {key: digest for key, digest in held.items() if digest}


def terms(held: dict[bytes, bytes], within: range) -> int:
    """The hash of a range of leaves, by its definition."""
    found = [term(BUCKET.row_key(key), held[key]) for key in held if leaf_of(slot_of(key), key) in within]
    return reduce(xor, found, 0)


@settings(max_examples=40)  # a tree is 8 MiB
@given(histories)
def test_every_hash_is_that_of_the_keys_below_it(history: list[tuple[bytes, bytes]]) -> None:
    tree, held = grown(history)
    assert tree.root(EVERY) == terms(held, range(SLOTS * LEAVES))
    groups = tree.groups(EVERY)
    for key, _ in history:
        slot = slot_of(key)
        leaf = leaf_of(slot, key)
        group = slot // GROUP_SLOTS
        size = GROUP_SLOTS * LEAVES
        assert tree.leaves[leaf] == terms(held, range(leaf, leaf + 1))
        assert tree.roots[slot] == terms(held, range(slot * LEAVES, (slot + 1) * LEAVES))
        assert groups[group] == terms(held, range(group * size, (group + 1) * size))
        assert tree.slots(group, EVERY)[slot % GROUP_SLOTS] == tree.roots[slot]


@settings(max_examples=40)  # a tree is 8 MiB
@given(histories)
def test_the_order_of_writes_leaves_no_trace(history: list[tuple[bytes, bytes]]) -> None:
    tree, held = grown(history)
    other, _ = grown(sorted(held.items()))
    assert tree.roots == other.roots and tree.leaves == other.leaves


@settings(max_examples=40)  # a tree is 8 MiB
@given(histories, histories)
def test_equal_hashes_mean_equal_keys(one: list[tuple[bytes, bytes]], two: list[tuple[bytes, bytes]]) -> None:
    (tree, held), (other, others) = grown(one), grown(two)
    assert (tree.root(EVERY) == other.root(EVERY)) == (held == others)
    differing = {leaf_of(slot_of(key), key) for key in {*held, *others} if held.get(key) != others.get(key)}
    slots = {slot_of(key) for key in {*held, *others}}
    leaves = [number for slot in slots for number in range(slot * LEAVES, (slot + 1) * LEAVES)]
    assert {number for number in leaves if tree.leaves[number] != other.leaves[number]} == differing


@settings(max_examples=40)  # a tree is 8 MiB
@given(histories, st.sets(keys))
def test_only_shared_slots_count(history: list[tuple[bytes, bytes]], owned: set[bytes]) -> None:
    tree, held = grown(history)
    shared = bytearray(SLOTS)
    for key in owned:
        shared[slot_of(key)] = 1
    both = {key: digest for key, digest in held.items() if shared[slot_of(key)]}
    assert tree.root(bytes(shared)) == terms(both, range(SLOTS * LEAVES)) == reduce(xor, tree.groups(bytes(shared)), 0)
    for key in held:
        slot = slot_of(key)
        assert (tree.slots(slot // GROUP_SLOTS, bytes(shared))[slot % GROUP_SLOTS] is None) == (not shared[slot])


@settings(max_examples=40)  # a tree is 8 MiB
@given(keys)
def test_a_leaf_is_a_range_of_positions(key: bytes) -> None:
    slot = slot_of(key)
    assert position_of(slot, key) >> LEAF_SHIFT == leaf_of(slot, key)


def test_a_slot_that_is_not_ready_is_told_apart() -> None:
    tree, _ = grown([(b"k1", b"1" * 8), (b"k2", b"2" * 8)])
    slot = slot_of(b"k1")
    tree.forget(slot)
    assert not tree.all_ready(EVERY) and tree.slots(slot // GROUP_SLOTS, EVERY)[slot % GROUP_SLOTS] is None
    shared = bytearray(EVERY)
    shared[slot] = 0
    assert tree.all_ready(bytes(shared))
    assert tree.leaves_of(slot) == [0] * LEAVES and tree.roots[slot] == 0


def test_a_wrong_leaf_is_set_right_with_its_root() -> None:
    tree, held = grown([(b"k1", b"1" * 8)])
    leaf = leaf_of(slot_of(b"k1"), b"k1")
    right = tree.leaves[leaf]
    assert not tree.set_leaf(leaf, right)
    tree.add(leaf, 7)
    assert tree.set_leaf(leaf, right)
    assert tree.root(EVERY) == terms(held, range(SLOTS * LEAVES))


def test_groups_cover_all_slots() -> None:
    assert GROUPS * GROUP_SLOTS == SLOTS
