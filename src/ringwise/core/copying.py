"""COPY and RENAME: what one key shows, put in the place of all that is known under another.

    source, read at R ─▶ its type, flags, expiry, values ─▶ placed at the destination, as one change (core/changes.py)

The copy is of what is shown: of siblings the newest, of a counter the sum, of a collection all members, each as if just written.
Source and destination have owners of their own, so a copy is a read, then a write; there is no moment at which both are changed.
RENAME then forgets what was read: a version that came to the source since stays, and no tombstone hides it. (But for an INCR,
which counts as before a deletion that has not seen it, V9.)

A kind of collection is a line in `KINDS`: how its values are listed, and the change that puts such a list in the place of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from ringwise.core import hyperloglog, maps, sets, versions
from ringwise.core import record as records
from ringwise.core.changes import Change, Expire, StoreMembers
from ringwise.core.context import Context, Seen
from ringwise.core.counters import is_value
from ringwise.core.dots import DotSource
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.core.map_changes import StoreAll
from ringwise.core.maps import HASH, SORTED
from ringwise.core.record import Sibling
from ringwise.core.versions import Write, unseen

_contexts = msgspec.msgpack.Decoder(Context)

Values = tuple[bytes, ...]
Arguments = tuple[bytes | int, ...]


class Kind(NamedTuple):
    values: Callable[[Sequence[Sibling], int], Values]
    store: Callable[[Values, int], Change]  # with the most bytes that it may take


class StoreEstimate(Change, frozen=True):
    """A HyperLogLog in the place of all that is known."""

    value: bytes

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        return dots.write(held, Write(self.value, content_type=ESTIMATE), stamp)


def _items(kind: maps.Kind, found: Sequence[Sibling], wall_ms: int) -> Values:
    """Names and what is under them, in turn."""
    if kind is HASH:
        pairs = sorted(maps.values_of(found, wall_ms).items())
    else:
        pairs = [(name, maps.score_bytes(score)) for name, score in sorted(maps.scores_of(found, wall_ms).items())]
    return tuple(part for pair in pairs for part in pair)


def _store_items(entry: str, values: Values, bytes_max: int) -> Change:
    return StoreAll(entry, tuple(zip(values[::2], values[1::2], strict=True)), bytes_max)


KINDS: dict[str, Kind] = {
    sets.MEMBER: Kind(lambda found, wall_ms: tuple(sorted(sets.members_of(found, wall_ms))), StoreMembers),
    **{kind.entry: Kind(partial(_items, kind), partial(_store_items, kind.entry)) for kind in (HASH, SORTED)},
    ESTIMATE: Kind(
        lambda found, wall_ms: (hyperloglog.union([each.value for each in hyperloglog.shown(found, wall_ms)]),),
        lambda values, _: StoreEstimate(*values),
    ),
}


def taken(record: bytes, wall_ms: int) -> Arguments | None:
    """What a key shows, as the last arguments of `place`; None where it is absent."""
    live = versions.live(record, wall_ms)
    if live is None:
        return None
    kind = KINDS.get(live.content_type)
    values = (live.value,) if kind is None else kind.values(records.unpack(record).siblings, wall_ms)
    return live.expiry_ms, live.flags, live.content_type.encode(), *values


class Place(Change, frozen=True):
    """What was taken, in the place of all that is known."""

    expiry_ms: int
    flags: int
    content_type: str
    values: Values
    bytes_max: int

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        kind = KINDS.get(self.content_type)
        if kind is None:
            (value,) = self.values
            write = Write(value, content_type=self.content_type, flags=self.flags, expiry_ms=self.expiry_ms)
            return dots.write(held, write, stamp)
        record = kind.store(self.values, self.bytes_max).apply(dots, held, stamp, wall_ms)
        return Expire(self.expiry_ms).apply(dots, record, stamp, wall_ms) if self.expiry_ms else record


class Forget(Change, frozen=True):
    """RENAME: the versions that were read. A tombstone in their place, or, where it would hide a value, a mark."""

    seen: Context

    def apply(self, dots: DotSource, held: bytes, stamp: int, wall_ms: int) -> bytes:
        siblings = records.unpack(held).siblings
        if not any(is_value(each) and versions.is_live(each, wall_ms) for each in unseen(siblings, Seen(self.seen))):
            return dots.write(held, Write(b"", tombstone=True, context=self.seen), stamp)
        marks = [each for each in siblings if each.content_type == sets.MARK]
        kept = max((each.value for each in marks), default=b"")
        mark = Write(kept, content_type=sets.MARK, context=versions.with_dots(self.seen, marks))
        return dots.write(held, mark, stamp)


def forget(before: bytes, arguments: Sequence[bytes | int], _wall_ms: int) -> Change | None:
    """RENAME: (the context of what was read)."""
    (told,) = arguments
    assert isinstance(told, bytes)
    context = _contexts.decode(told)
    siblings = records.unpack(before).siblings
    return Forget(context) if len(unseen(siblings, Seen(context))) < len(siblings) else None


def seen(record: bytes) -> bytes:
    """The argument of `forget`."""
    return msgspec.msgpack.encode(versions.context_of(record))


def whole(content_type: str, values: Iterable[bytes], bytes_max: int) -> Arguments:
    """The arguments of `place` for a collection that is stored in the place of whatever is there."""
    return 1, bytes_max, 0, 0, content_type.encode(), *values


def place(before: bytes, arguments: Sequence[bytes | int], wall_ms: int) -> Change | None:
    """COPY, RENAME, ZRANGESTORE and its kin: (1 to replace what is there, most bytes of a collection, what was taken)."""
    replace, bytes_max, expiry_ms, flags, content_type, *values = arguments
    assert isinstance(bytes_max, int) and isinstance(expiry_ms, int) and isinstance(flags, int)
    assert isinstance(content_type, bytes)
    if not replace and versions.live(before, wall_ms) is not None:
        return None
    parts = tuple(value for value in values if isinstance(value, bytes))
    return Place(expiry_ms, flags, content_type.decode(), parts, bytes_max)
