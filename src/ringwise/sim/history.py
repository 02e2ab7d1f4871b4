"""What clients asked and what they were told: the only things a checker may believe.

An operation *ended before* another began when its reply had reached its client before the other was sent.  Its
outcome is one of

    ok        acknowledged at its level
    refused   told as certain not to have been applied: it must never be seen
    unknown   told as unknown, or the connection ended first: it may be seen, now, later or never
"""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

Outcome = Literal["open", "ok", "refused", "unknown"]
Dot = tuple[bytes, int]
Vector = dict[bytes, int]  # an actor's counters, all of 1…n: what a context covers

WRITES = frozenset({"set", "update", "put", "delete"})
FLUSH_GIVEN_UP_MS = 6_000.0  # beyond the node's own deadline
SLOPPY = frozenset({"one", "quorum"})
READS = frozenset({"get", "inspect"})
OTHER = 3  # the bucket beside the default one, in histories that use two; its keys have names of their own
LAST_WINS, BRIEF, MERGED = 4, 5, 6  # buckets with rules of their own (sim/policies.py)
RULED = {b"w": LAST_WINS, b"t": BRIEF, b"m": MERGED}  # by how their keys begin
BUCKETS = {b"b": OTHER, **RULED}
EVERY = -1  # of a flush: all buckets


def bucket_of(key: bytes) -> int:
    """The bucket that a key of a history lies in."""
    return BUCKETS.get(key[:1], 0)


@dataclass(slots=True)
class Operation:
    number: int
    client: int
    node: str  # that the client was connected to
    # set (blind), update (SET … GET, KEEPTTL), put (RW.PUT), delete (DEL), get (GET), inspect (RW.GET); scan: a page, no key
    # flush: FLUSHDB, no key; incr (INCRBY), once (RW.INCR), count (GET of a counter)
    # lease (SET … PX, on keys of their own)
    # add (SADD), remove (SREM), members (SMEMBERS); expire (EXPIRE, so far ahead that nothing comes of it)
    # add (SADD), remove (SREM), members (SMEMBERS); hincr, hset, hdel, fields (HGETALL), zincr, zadd, zrem, scores (ZRANGE)
    # pfadd, estimate (GET of a HyperLogLog)
    # expire (EXPIRE, so far ahead that nothing comes of it)
    kind: str
    key: bytes
    level: str
    r: int
    w: int
    began_ms: float
    value: bytes = b""  # written; unique in its history, so that it names the write
    context: bytes = b""  # the token that was passed along
    ended_ms: float = 0.0
    outcome: Outcome = "open"
    error: str = ""
    found: bytes | None = None  # by get: the value; by update: the value before
    siblings: list[bytes] = field(default_factory=list)  # by inspect
    token: bytes = b""  # by inspect and put: the reply's context
    deleted: bool = False  # by delete: it said that there was something
    amount: int = 0  # of an incr: a bit of its own, so that the sum names those that count
    sequence: int = 0  # of a once
    bucket: int = 0  # of a flush
    dot: Dot | None = None  # of a delete, whose value names nothing; the others are found by value

    @property
    def writes(self) -> bool:
        return self.kind in WRITES

    def before(self, other: "Operation") -> bool:
        """Acknowledged before the other was sent."""
        return self.outcome == "ok" and self.ended_ms < other.began_ms

    def __str__(self) -> str:
        told = {"inspect": self.siblings, "members": self.siblings, "delete": self.deleted}.get(self.kind, self.found)
        ended = f"{self.ended_ms:9.1f}" if self.ended_ms else "     open"
        text = f"{self.began_ms:9.1f} to {ended}  c{self.client} at {self.node}  {self.kind} {self.key.decode()}"
        if self.value:
            text += f" = {self.value.decode()}"
        text += f"  {self.level}  {self.outcome}"
        if self.error:
            text += f" ({self.error})"
        if told is not None and self.outcome == "ok":
            text += f"  -> {told!r}"
        return text


@dataclass(slots=True)
class Scan:
    """All keys, asked for page by page, at whatever nodes; a page without an answer is asked for again."""

    client: int
    level: str
    r: int
    count: int
    began_ms: float
    ended_ms: float = inf  # when the last page came
    cursor: int = 0
    keys: set[bytes] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.began_ms:9.1f} to {self.ended_ms:9.1f} client {self.client} scan {self.level}"


@dataclass(slots=True)
class History:
    operations: list[Operation] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    faults: int = 0
    steps: list[tuple[float, str]] = field(default_factory=list)  # when the nemesis did what, mending included
    disorder: list[tuple[float, float]] = field(default_factory=list)  # when frames of one link could be reordered

    stood_in: list[tuple[bytes, float]] = field(default_factory=list)  # a key, and when a stand-in counted (R2)
    damaged: set[bytes] = field(default_factory=set)  # keys of which an owner's record was damaged
    emptied: list[float] = field(default_factory=list)  # when a machine has lost its disk
    merge_failures: list[float] = field(default_factory=list)  # when a merge function failed
    skews_ms: list[int] = field(default_factory=list)  # how far off clocks were set
    pipelines_from_ms: float = inf  # from when on an order among operations under way together is promised

    @property
    def clocks_apart_ms(self) -> int:
        """How far two clocks may have been apart at any time."""
        skews_ms = [0, *self.skews_ms]
        return max(skews_ms) - min(skews_ms)

    def flushed(self, bucket: int = 0) -> list[tuple[float, float, bool]]:
        """(from, to, acknowledged) of each flush of the bucket that was not refused: between the two it takes effect, if it does.

        One with an unknown outcome may be proposed until its coordinator gives up, and what was accepted may be decided as
        long as nothing else is: it is over when another is acknowledged that began after that.
        """
        sent = [
            operation for operation in self.operations if operation.kind == "flush" and operation.outcome != "refused"
        ]
        whole = [flush for flush in sent if flush.outcome == "ok"]
        flushes = [flush for flush in sent if flush.bucket in (bucket, EVERY)]
        spans = []
        for flush in flushes:
            ended_ms = flush.ended_ms
            if flush.outcome != "ok":
                given_up_ms = flush.began_ms + FLUSH_GIVEN_UP_MS
                ended_ms = min((other.ended_ms for other in whole if other.began_ms > given_up_ms), default=inf)
            spans.append((flush.began_ms, ended_ms, flush.outcome == "ok"))
        return spans

    def promise_less(self) -> None:
        """R2: what a stand-in may have counted for has met no quorum of owners, so overlap is not promised."""
        times = self._times_stood_in()
        for operation in self.operations:
            if self._stood_in(times, operation):
                operation.r = operation.w = 0

    def of_owners(self) -> list[Operation]:
        """Those that no stand-in may have counted for."""
        times = self._times_stood_in()
        return [operation for operation in self.operations if not self._stood_in(times, operation)]

    def _times_stood_in(self) -> dict[bytes, list[float]]:
        times: dict[bytes, list[float]] = {}
        for key, at_ms in self.stood_in:
            times.setdefault(key, []).append(at_ms)
        return times

    def _stood_in(self, times: dict[bytes, list[float]], operation: Operation) -> bool:
        stood_in = times.get(operation.key, []) if operation.level in SLOPPY else []
        return any(operation.began_ms <= at_ms <= operation.ended_ms for at_ms in stood_in)

    def promise_less_of_lost_disks(self, majority: int) -> None:
        """T4: what fewer than a majority of owners acknowledged may have been on the lost disk alone."""
        for operation in self.operations:
            before = any(operation.began_ms < at_ms for at_ms in self.emptied)
            if before and operation.outcome == "ok" and operation.w < majority:
                operation.outcome = "unknown"

    def orderly(self, from_ms: float, to_ms: float) -> bool:
        """Whether the frames of each link kept their order all that time, as TCP keeps it."""
        return not any(begin <= to_ms and from_ms <= end for begin, end in self.disorder)

    def of_key(self, key: bytes) -> list[Operation]:
        return [operation for operation in self.operations if operation.key == key]
