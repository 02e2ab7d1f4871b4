"""Buckets whose rules are not those of the default one, in histories that have them: what a read shows there.

    LAST_WINS  lww          of concurrent versions the newest alone is shown
    BRIEF      ttl          what says nothing of an expiry is there for `TTL_S` seconds, and not longer
    MERGED     merge:union  what is concurrent becomes one value, made by a function that now and then fails

policy     a read shows what the bucket's policy makes of the concurrent versions, and each merge is of just those it replaces
expired    a read shows nothing longer than it has to live, as far as clocks agree
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import TypeAlias

from ringwise.core.buckets import Settings
from ringwise.core.merging import AGAIN_MS
from ringwise.sim.history import BRIEF, LAST_WINS, MERGED, READS, History, Operation, bucket_of
from ringwise.sim.model import Issue, Key, show_dot

TTL_S = 3
FUNCTION = "union"
RULES = {
    LAST_WINS: Settings(policy="lww"),
    BRIEF: Settings(ttl_s=TTL_S),
    MERGED: Settings(policy=f"merge:{FUNCTION}"),
}
FAILS = 0.1  # share of the runs of the function

Complaint: TypeAlias = tuple[str, str, tuple[int, ...]]  # check, what, operations to look at first


def union(values: Iterable[bytes]) -> bytes:
    """The merge function: all that is in any of them."""
    return b",".join(sorted({part for value in values for part in value.split(b",")}))


def shown_at_the_end(
    key: bytes, visible: Sequence[Issue], reading: Operation, history: History
) -> tuple[set[bytes], set[bytes]]:
    """(must, may): the values that a read has to show, and those that it can."""
    values = {issue.value for issue in visible if not (issue.tombstone or issue.role)}
    bucket = bucket_of(key)
    if bucket == MERGED and len(values) > 1 and not _may_have_failed(reading, history):
        return {union(values)}, {union(values)}  # by the read itself
    if bucket == LAST_WINS and visible:
        newest = max(visible, key=lambda issue: (issue.stamp, issue.dot))
        values = set() if newest.tombstone else {newest.value}
    if bucket == BRIEF:
        off_ms = history.clocks_apart_ms
        may = {issue.value for issue in visible if issue.at_ms + 1000 * TTL_S + off_ms >= reading.began_ms} & values
        return set(), may
    return values, values


def _may_have_failed(reading: Operation, history: History) -> bool:
    """The merge function, lately enough for it not to have been tried again."""
    began_ms = reading.began_ms - 2 * AGAIN_MS
    return any(began_ms <= at_ms <= reading.ended_ms for at_ms in history.merge_failures)


def lives(write: Operation, until_ms: float, history: History) -> bool:
    """Whether what was written is certain not to have expired by then."""
    if bucket_of(write.key) != BRIEF:
        return True
    return write.began_ms + 1000 * TTL_S - history.clocks_apart_ms > until_ms


def check_policy(key: bytes, operations: Sequence[Operation], versions: Key, history: History) -> Iterator[Complaint]:
    """Of one key."""
    bucket = bucket_of(key)
    if bucket == LAST_WINS:
        for reading in operations:
            if reading.kind == "inspect" and len(reading.siblings) > 1:
                yield "policy", f"{reading} shows more than the newest", (reading.number,)
    elif bucket == BRIEF:
        yield from _expired(operations, versions, history.clocks_apart_ms)
    elif bucket == MERGED:
        yield from _merged({operation.value for operation in operations}, versions)


def _expired(operations: Iterable[Operation], versions: Key, off_ms: float) -> Iterator[Complaint]:
    for reading in operations:
        if reading.kind in READS and reading.outcome == "ok":
            for value in [*reading.siblings, *([reading.found] if reading.found is not None else [])]:
                issued_ms = max((issue.at_ms for issue in versions.of_value(value)), default=inf)
                if issued_ms + 1000 * TTL_S + off_ms < reading.began_ms:
                    yield "expired", f"{reading} shows what was written at {issued_ms:.1f}", (reading.number,)


def _merged(written: set[bytes], versions: Key) -> Iterator[Complaint]:
    """What no client wrote, the function has made."""
    for issue in versions.issues.values():
        if not issue.tombstone and issue.value not in written:
            seen = [other for dot, other in versions.issues.items() if other is not issue and issue.saw(dot)]
            replaced = [one for one in seen if not any(other.saw(one.dot) for other in seen if other is not one)]
            expected = union(one.value for one in replaced if not one.tombstone)
            if issue.value != expected:
                text = f"{show_dot(issue.dot)} is {issue.value!r}, merged of {expected!r}"
                yield "policy", text, ()
