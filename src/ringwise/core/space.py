"""Buckets as the paths of one node see them: which incarnations are in force, and what each means for keys and levels (T2, T5).

    document ─▶ follow() ─▶ live: the six bytes that begin the row keys of every bucket in force
                                   │ one gone: its rows are void, whatever the frame's epoch; what was under way on them ends
                                   └ one new: nothing of it can be held yet, since frames of a newer epoch were refused so far

A row key begins with its bucket's number and incarnation, so to ask whether a row counts is one look into a set. A frame of
writes or reads is of one incarnation, so that its first row answers for all.

`live` is changed in place, so a reference to it stays good. A `Space` stays the same object while its bucket is there, through
flushes and changes of its rules; one whose bucket was dropped is `gone` for good, since numbers are not used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ringwise.core import buckets, versions
from ringwise.core.errors import NoSuchBucket
from ringwise.core.keys import BUCKET_NUMBER_BYTES, Bucket
from ringwise.core.levels import Level
from ringwise.core.record import Sibling
from ringwise.core.topology import NUMBERED, BucketRules, Document, Topology

CODE_SHIFT = 48  # above the number of a set of owners and a level's code, by which the paths group operations


class Space:
    """One bucket."""

    __slots__ = ("code", "gone", "level", "merge", "merge_failure", "number", "prefix", "row_key", "rules", "watchers")

    def __init__(self, rules: BucketRules) -> None:
        self.number = rules.number
        self.code = rules.number << CODE_SHIFT
        self.gone = False
        self.watchers: set[Callable[[], None]] = (
            set()
        )  # connections that have selected it: told when its level is another
        self.level: Level | None = None  # of operations that name none; None: the node's default
        self.merge_failure = ""  # why siblings stand though there is a function; the last time
        self.merge: str  # the name of its merge function, "": none
        self.rules: BucketRules
        self.prefix: bytes  # of its rows
        self.row_key: Callable[[bytes], bytes]
        self.follow(rules)

    def follow(self, rules: BucketRules) -> None:
        """These are its rules and its incarnation now."""
        bucket = Bucket(rules.number, rules.incarnation)
        self.rules = rules
        self.merge = rules.policy.removeprefix(buckets.MERGE) if rules.policy.startswith(buckets.MERGE) else ""
        self.prefix = bucket.prefix
        self.row_key = bucket.row_key
        named = rules.r or rules.w
        level = Level.of(rules.r.encode() or b"quorum", rules.w.encode() or b"quorum") if named else None
        if level != self.level:
            self.level = level
            for told in self.watchers:
                told()

    @property
    def label(self) -> str:
        return buckets.label_of(self.rules)

    def bound(self, key: bytes) -> bytes:
        """What a context is bound to (core/context.py): the key in this bucket, and in no other."""
        return bound(self.number, key)

    def shown(self, record: bytes, wall_ms: int) -> list[Sibling]:
        """What `RW.GET` shows of a record: all siblings, or where the last write wins, the newest version only."""
        return (versions.latest if self.last_wins else versions.siblings)(record, wall_ms)

    @property
    def last_wins(self) -> bool:
        return self.rules.policy == buckets.LWW

    def check(self) -> None:
        """Raises NoSuchBucket where it was dropped."""
        if self.gone:
            raise NoSuchBucket(self.label)


class Spaces:
    """All buckets in force on one node."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.live: set[bytes] = set()
        self.voided = 0  # how often incarnations went out of force in this run
        self._spaces: dict[int, Space] = {}
        self.follow()
        self.voided = 0
        self.home = self._spaces[0]  # the default bucket

    def follow(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """What the document in force says; the prefixes that are void from now on, and those that have just begun."""
        document = self._topology.document
        rules = document.in_force() if document is not None else [BucketRules(number) for number in range(NUMBERED)]
        for each in rules:
            space = self._spaces.get(each.number)
            if space is None:
                self._spaces[each.number] = Space(each)
            elif space.rules != each:
                space.follow(each)
        numbers = {each.number for each in rules}
        for number in [number for number in self._spaces if number not in numbers]:
            self._spaces.pop(number).gone = True
        now = {space.prefix for space in self._spaces.values()}
        gone, fresh = frozenset(self.live - now), frozenset(now - self.live)
        self.live -= gone
        self.live |= fresh
        self.voided += bool(gone)
        return gone, fresh

    def void(self) -> list[tuple[bytes, bytes]]:
        """Where rows may be that are void: ranges (low <= prefix < high), in ascending order.

        Those of earlier incarnations, and of numbers that were dropped. Whatever may come yet, a greater incarnation or number,
        is in none of them: to remove what lies there takes a while.
        """
        document: Document | None = self._topology.document
        found: list[tuple[bytes, bytes]] = []
        behind = 0
        for number in [*sorted(self._spaces), NUMBERED + (document.named if document is not None else 0)]:
            if behind < number:
                found.append((Bucket(behind, 0).prefix, Bucket(number, 0).prefix))
            space = self._spaces.get(number)
            if space is not None and space.rules.incarnation > 1:
                found.append((Bucket(number, 0).prefix, space.prefix))
            behind = number + 1
        return found

    def get(self, number: int) -> Space | None:
        return self._spaces.get(number)

    def of(self, rkey: bytes) -> Space | None:
        """The bucket of a row key, of whatever incarnation."""
        return self._spaces.get(int.from_bytes(rkey[:BUCKET_NUMBER_BYTES], "big"))

    def find(self, label: str) -> Space | None:
        """By name or number."""
        for space in self._spaces.values():
            if space.label == label:
                return space
        return None

    def all(self) -> Iterable[Space]:
        """By number."""
        return [self._spaces[number] for number in sorted(self._spaces)]


def bound(number: int, key: bytes) -> bytes:
    """What the contexts of a key are bound to, in a bucket."""
    return number.to_bytes(BUCKET_NUMBER_BYTES, "big") + key if number else key


def code_of(rkey: bytes) -> int:
    """The code of a row key's bucket."""
    return int.from_bytes(rkey[:BUCKET_NUMBER_BYTES], "big") << CODE_SHIFT
