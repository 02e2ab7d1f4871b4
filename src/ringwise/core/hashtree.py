"""Hash trees: two replicas find where they differ without telling each other what they hold (R5).

R. Merkle, "A Digital Signature Based on a Conventional Encryption Function", 1987; Dynamo, section 4.7.

                              root towards a peer                     1 number: equal replicas compare no more
                     ┌────────────────┼────────────────┐
                  group 0          group 1    …    group 127          of 128 slots each
              ┌──────┼──────┐
           slot 0  slot 1 … slot 127                                  a tree belongs to a slot, not to a node
        ┌─────┼─────┐
     leaf 0 leaf 1 … leaf 63                                          a leaf is a range of hash48: its upper 6 bits
        │
     (row key, digest) (row key, digest) …                            read from the data when a leaf differs

Every number is the XOR of the terms of the keys below it, and the term of a key is a hash of its row key and the checksum of
its record. XOR takes a term out as it puts one in, so a write changes one leaf and one root, in any order, and nothing above need
be stored: the hash of a group or of a root is made on demand from the roots of just those slots that *both* replicas own. So a
change of the ring gives no false differences: it changes which slots are compared, never a slot's own tree.

XOR is no defence against somebody who builds keys to cancel out; it does not have to be one, since whoever can write a replica's
records can change them. Against chance, 64 bits are plenty: a difference is missed once in 2^64 comparisons.

Leaves are counted over all slots, so that a leaf's number is the front of the positions in it (core/keys.py). With a million keys
on a node a leaf holds one, with a hundred million it holds a hundred: some kilobytes to list. The leaves take 8 MiB.

Invariants
* For a slot that is `ready`, leaves and root are the XOR of the terms of the records held, but for what the store has still to
  fold in (storage/trees.py). A slot that is not ready is not compared.
* A root is the XOR of its slot's leaves, ready or not.
"""

from __future__ import annotations

from array import array
from functools import reduce
from itertools import compress
from operator import xor

from xxhash import xxh3_64_intdigest

from ringwise.core.keys import POSITION_BITS, key_of
from ringwise.core.ring import SLOTS

LEAF_BITS = 6
LEAVES = 1 << LEAF_BITS  # of a slot
LEAF_SHIFT = POSITION_BITS - LEAF_BITS  # a position without these bits is the number of its leaf
GROUPS = 128
GROUP_SLOTS = SLOTS // GROUPS  # both near the square root: neither level's answer is longer than two kilobytes

HASH_SHIFT = 64 - LEAF_BITS  # of the 64 bits that begin with hash48


def term(rkey: bytes, digest: bytes) -> int:
    """What a key with a record of that digest adds to its leaf; without a record (b""), nothing."""
    return xxh3_64_intdigest(rkey + digest) if digest else 0


def leaf_of(slot: int, key: bytes) -> int:
    """The number of a key's leaf, over all slots."""
    return slot << LEAF_BITS | xxh3_64_intdigest(key) >> HASH_SHIFT


class HashTree:
    """The trees of all slots of one node, for the bucket's incarnation in force."""

    def __init__(self) -> None:
        self.leaves = array("Q", bytes(8 * SLOTS * LEAVES))
        self.roots = array("Q", bytes(8 * SLOTS))
        self.ready = bytearray(SLOTS)  # by slot

    def apply(self, slot: int, rkey: bytes, old: bytes, new: bytes) -> None:
        """A record of digest `new` has taken the place of one of digest `old`; b"" is none."""
        self.add(leaf_of(slot, key_of(rkey)), term(rkey, old) ^ term(rkey, new))

    def add(self, leaf: int, terms: int) -> None:
        """Puts terms into a leaf, or takes them out."""
        self.leaves[leaf] ^= terms
        self.roots[leaf >> LEAF_BITS] ^= terms

    def set_leaf(self, leaf: int, hashed: int) -> bool:
        """A leaf's hash as the data have it; whether it was another."""
        wrong = self.leaves[leaf] ^ hashed
        if wrong:
            self.add(leaf, wrong)
        return bool(wrong)

    def forget(self, slot: int) -> None:
        """The slot's tree is not known to be true: it will be made anew."""
        self.ready[slot] = 0
        self.roots[slot] = 0
        self.leaves[slot << LEAF_BITS : (slot + 1) << LEAF_BITS] = array("Q", bytes(8 * LEAVES))

    def forget_all(self) -> None:
        """No slot's tree is known to be true."""
        self.leaves = array("Q", bytes(8 * SLOTS * LEAVES))
        self.roots = array("Q", bytes(8 * SLOTS))
        self.ready[:] = bytes(SLOTS)

    def clear(self) -> None:
        """Nothing is held, and that is certain: the bucket begins a new incarnation."""
        self.forget_all()
        self.ready[:] = b"\x01" * SLOTS

    # -- hashes; `shared` has a 1 for each slot that counts

    def all_ready(self, shared: bytes) -> bool:
        return all(compress(self.ready, shared))

    def root(self, shared: bytes) -> int:
        return reduce(xor, compress(self.roots, shared), 0)

    def groups(self, shared: bytes) -> list[int]:
        starts = range(0, SLOTS, GROUP_SLOTS)
        roots = self.roots
        return [reduce(xor, compress(roots[i : i + GROUP_SLOTS], shared[i : i + GROUP_SLOTS]), 0) for i in starts]

    def slots(self, group: int, shared: bytes) -> list[int | None]:
        """By slot of a group; None where it is not shared, or not ready."""
        first = group * GROUP_SLOTS
        slots = range(first, first + GROUP_SLOTS)
        return [self.roots[slot] if shared[slot] and self.ready[slot] else None for slot in slots]

    def leaves_of(self, slot: int) -> list[int]:
        return list(self.leaves[slot << LEAF_BITS : (slot + 1) << LEAF_BITS])
