"""What histories of types that merge by themselves must satisfy: `counted` and `member` of the checker.

    counted    an acknowledged increment counts once, a refused one never, one with an unknown outcome once at most; and a read
               that began after it was acknowledged shows it, where R + W > N
    member     a member (a field, a member of a sorted set) is there once its addition is acknowledged, until somebody asks for
               its removal, and gone once that is acknowledged: for a read that began after it, where R + W > N

Each increment adds a bit of its own, so that a sum names those in it; each member is added once, and removed by who has added it.
A hash and a sorted set have both: a number under `NUMBER`, and members of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from ringwise.sim.estimates import ADDITION, check_estimates
from ringwise.sim.history import Operation

NUMBER = b"n"

INCREMENTS = frozenset({"incr", "once", "hincr", "zincr"})
ADDITIONS = frozenset({"add", "hset", "zadd"})
REMOVALS = frozenset({"remove", "hdel", "zrem"})
SUMS = frozenset({"count", "fields", "scores"})  # reads of one
LISTS = frozenset({"members", "fields", "scores"})  # reads of members

Complaint: TypeAlias = tuple[str, str, tuple[int, ...]]  # check, what, operations to look at first


def check_merging(operations: list[Operation], copies: int) -> Iterator[Complaint]:
    """Of one key."""
    yield from _counted(operations, copies)
    yield from _members(operations, copies)
    yield from check_estimates(operations, copies)


def is_merging(operations: Iterable[Operation]) -> bool:
    """Whether a key is of such a type."""
    return any(operation.kind in INCREMENTS | ADDITIONS | {ADDITION} for operation in operations)


def _counted(operations: list[Operation], copies: int) -> Iterator[Complaint]:
    added = [operation for operation in operations if operation.kind in INCREMENTS and operation.amount]
    if not added:
        return
    possible = 0
    for operation in added:
        if operation.outcome != "refused":
            possible |= operation.amount
    for reading in operations:
        if reading.outcome != "ok" or reading.kind not in INCREMENTS | SUMS | {"inspect"}:
            continue
        total = _total(reading, added[0].kind)
        if total is None or total < 0 or total & ~possible:
            yield "counted", f"{reading}: shows {total or 0:b}, while {possible:b} were added", (reading.number,)
            continue
        for write in added:
            before = write.before(reading) or write is reading
            if before and reading.r + write.w > copies and not total & write.amount:
                yield "counted", f"{reading} misses {write}", (write.number, reading.number)


def _total(reading: Operation, kind: str) -> int | None:
    """The sum that a reading shows; None where it shows several."""
    if reading.kind == "inspect" and kind in ("hincr", "zincr"):
        return _parts(reading)[1]
    shown = [*reading.siblings, *([reading.found] if reading.found is not None else [])]
    if reading.kind in LISTS:
        shown = shown[len(reading.siblings) :]
    return int(shown[0] if shown else 0) if len(shown) <= 1 else None


def _parts(reading: Operation) -> tuple[list[bytes], int]:
    """Members and number that an `RW.GET` shows."""
    shown: Any = msgspec.json.decode(reading.siblings[0]) if reading.siblings else []
    told = dict(shown) if isinstance(shown, dict) or all(isinstance(each, list) for each in shown) else None
    if told is None:
        return [member.encode() for member in shown], 0  # of a set
    number = int(told.pop(NUMBER.decode(), 0))
    return [member.encode() for member in told], number


def _members(operations: list[Operation], copies: int) -> Iterator[Complaint]:
    added = {operation.value: operation for operation in operations if operation.kind in ADDITIONS}
    removed: dict[bytes, list[Operation]] = {}
    for operation in operations:
        if operation.kind in REMOVALS:
            removed.setdefault(operation.value, []).append(operation)
    if not added:
        return
    for reading in operations:
        if reading.outcome == "ok" and reading.kind in LISTS | {"inspect"}:
            shown = _parts(reading)[0] if reading.kind == "inspect" else reading.siblings
            yield from _shown(reading, set(shown), added, removed, copies)


def _shown(
    reading: Operation,
    shown: set[bytes],
    added: dict[bytes, Operation],
    removed: dict[bytes, list[Operation]],
    copies: int,
) -> Iterator[Complaint]:
    for member in sorted(shown - added.keys()):
        yield "member", f"{reading} shows {member!r}, which nobody added", (reading.number,)
    for member, write in added.items():
        gone, there = removed.get(member, []), member in shown
        if there and write.outcome == "refused":
            yield "member", f"{reading} shows what was refused: {write}", (write.number, reading.number)
        if not there and not gone and write.before(reading) and reading.r + write.w > copies:
            yield "member", f"{reading} misses {write}", (write.number, reading.number)
        for removal in gone:
            seen = write.w + removal.r > copies and removal.w + reading.r > copies
            if there and seen and removal.before(reading):
                yield "member", f"{reading} shows what {removal}", (removal.number, reading.number)
