"""Versions: dotted version vector sets (Almeida, Baquero, Goncalves, Preguica, Fonte 2014), V1, V2, V3, V6.

A record is a set of *seen* dots (its context) and the versions that still live, each under the dot of the put that made
it. A dot that is seen and not alive was replaced. From this everything follows:

* A **put** with a client's context C drops the siblings whose dot C has seen, keeps the others, adds C to what is seen,
  and adds the new version under a new dot. A plain `SET` is the put whose context is all its coordinator holds.
* A **merge** unites what both sides have seen; a version survives unless one side has seen it and no longer has it.

    seen {A:1} live A:1  ── put at B by a client that saw A:1 ──▶    seen {A:1,B:1} live B:1        overwritten
    seen {A:1} live A:1  ── put at B by a client that saw nothing ──▶ seen {A:1,B:1} live A:1, B:1  siblings

Invariants
* Merge is commutative, associative and idempotent, byte for byte, and b"" is its neutral element.
* A version is stamped above everything its context covers (V1): who makes one (core/dots.py) raises a stamp that is not. So the
  greatest stamp of the living versions is the greatest of all ever seen, and `max_stamp` need not look further.

The hot functions (`value_of`, and `merge` where one side is simply newer) work on slices of plain records, and
give exactly the bytes that decode, compute, encode would: `tests/core/test_versions.py` holds them to it. Other modules
call these functions through the module (`versions.merge`), so that tests can put deliberate faults in their place.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import structs

from ringwise.core import counters, deltas, hyperloglog, maps, rows, sets, told
from ringwise.core import record as records
from ringwise.core.clock import stamp_at
from ringwise.core.context import Context, Seen
from ringwise.core.counters import Shown, age, expiry_of, is_session, is_value, newest_of, passed
from ringwise.core.errors import NotHyperLogLog, WrongType
from ringwise.core.record import (
    CHECKSUM_BYTES,
    COUNT_AT,
    DELTA,
    DOT_AT,
    ENTRY_BYTES,
    FORM_AT,
    PLAIN,
    ROWS,
    STAMP_AT,
    Record,
    Sibling,
    alarms,
    entries,
)
from ringwise.core.rows import Rows

__all__ = [
    "Context",
    "Write",
    "alarms",
    "carried",
    "context_of",
    "context_without",
    "covers",
    "dead",
    "estimate",
    "fields",
    "is_of",
    "is_plain",
    "last_of",
    "live",
    "max_stamp",
    "members",
    "merge",
    "newest",
    "parts",
    "scores",
    "shadow",
    "siblings",
    "value_of",
    "values",
    "version_at",
    "with_dots",
    "with_version",
    "with_version_of",
]


class Write(msgspec.Struct, frozen=True):
    """A put: the new version, and what its writer had seen (None: all that the coordinator holds)."""

    value: bytes
    content_type: str = ""
    flags: int = 0
    expiry_ms: int = 0
    tombstone: bool = False
    context: Context | None = None
    derived: bool = False  # from what the context has seen: newer than that, and than nothing that came since


def seen_by(record: bytes) -> Seen:
    """All that a record has seen."""
    held = rows.opened(record)
    return held.seen() if held is not None else Seen(records.unpack(record))


def unseen(held: list[Sibling], client: Seen) -> list[Sibling]:
    """The versions a put leaves standing: those its writer had not seen (V1)."""
    return [sibling for sibling in held if not client.has(sibling.actor, sibling.counter)]


def merge(a: bytes, b: bytes) -> bytes:
    """The join of two states of a key (DVVS sync)."""
    if a == b or not b:
        return deltas.part_of(a) if deltas.is_delta(a) else a
    if not a:
        return deltas.part_of(b) if deltas.is_delta(b) else b
    if a[FORM_AT] == PLAIN == b[FORM_AT]:
        # What covers another is stamped above it, so only the one with the greater stamp can supersede.
        if a[STAMP_AT:DOT_AT] < b[STAMP_AT:DOT_AT]:
            a, b = b, a
        if supersedes(a, b):
            return a
    elif a[FORM_AT] >= ROWS or b[FORM_AT] >= ROWS:
        return rows.merged(a, b, merge_states)
    return records.encode(merge_states(records.decode(a), records.decode(b)))


def supersedes(a: bytes, b: bytes) -> bool:
    """Of two plain records: has a seen all that b has, b's value included, and does a's value live on?"""
    vector_b: dict[bytes, int] = dict(entries.iter_unpack(b[DOT_AT : DOT_AT + b[COUNT_AT] * ENTRY_BYTES]))
    seen = iter(entries.iter_unpack(a[DOT_AT : DOT_AT + a[COUNT_AT] * ENTRY_BYTES]))
    actor, counter = next(seen)
    if vector_b.pop(actor, 0) >= counter:
        return False
    vector_a: dict[bytes, int] = dict(seen)
    return all(vector_a.get(other, 0) >= reached for other, reached in vector_b.items())


def merge_states(a: Record, b: Record) -> Record:
    seen_a, seen_b = Seen(a), Seen(b)
    kept = survivors(a, b, seen_b) | survivors(b, a, seen_a)
    # One dot with two contents must be impossible, but for a session's (V9). Both stay, so nothing is lost, and all agree.
    issued = [sibling for sibling in kept if not is_session(sibling.actor)]
    alarms["dot_collision"] += len(issued) - len({(sibling.actor, sibling.counter) for sibling in issued})
    seen_a.add(seen_b)
    vector, cloud = seen_a.lists()
    after = sorted(kept, key=records.order)
    # A delta merged with a complete state is complete (V3); the world flag is sticky (V10).
    return Record(vector, cloud, after, max(a.world, b.world), min(a.kind, b.kind))


def survivors(mine: Record, other: Record, other_seen: Seen) -> set[Sibling]:
    """Of my versions: those the other side also has, and those it has not seen."""
    theirs = {(sibling.actor, sibling.counter) for sibling in other.siblings}
    return {
        sibling
        for sibling in mine.siblings
        if (sibling.actor, sibling.counter) in theirs or not other_seen.has(sibling.actor, sibling.counter)
    }


def news(record: bytes, digest: bytes) -> bytes | None:
    """What a reader whose state is another has to be sent of a record, by its digest (core/rows.py); None: it has seen it all."""
    return rows.news(record, digest) if len(digest) > CHECKSUM_BYTES else record


def is_part(record: bytes) -> bool:
    """Whether it is only what was written while its holder stood in (V3)."""
    held = rows.opened(record)
    if held is not None:
        return bool(held.partial)
    return bool(record) and record[FORM_AT] != PLAIN and bool(records.unpack(record).kind)


def covers(record: bytes, other: bytes) -> bool:
    """Has `record` seen everything in `other`: would merging it change nothing?"""
    if not record or not other:
        return not other
    return merge(record, other)[:CHECKSUM_BYTES] == record[:CHECKSUM_BYTES]


def value_of(record: bytes, wall_ms: int) -> bytes | None:
    """What a plain `GET` answers (V6): the newest version's value, or None: never written, deleted, expired. Raises WrongType."""
    if not record:
        return None
    if record[FORM_AT] == PLAIN:
        return record[DOT_AT + record[COUNT_AT] * ENTRY_BYTES :]
    sibling = live(record, wall_ms)
    if sibling is None:
        return None
    if not is_plain(sibling):
        raise WrongType
    return sibling.value


def live(record: bytes, wall_ms: int) -> Sibling | None:
    """The newest version, with what was added to it (V9) and the expiry in force; if it is deleted or expired the key is absent,
    whatever older versions hold (V6)."""
    held = rows.opened(record)
    if held is not None and held.is_pure:
        return _live_rows(held, wall_ms)
    found = records.unpack(record).siblings
    if len(found) == 1 and is_value(found[0]):
        return found[0] if is_live(found[0], wall_ms) else None
    return _live_of(found, wall_ms)


def _live_rows(held: Rows, wall_ms: int) -> Sibling | None:
    """A collection as one version, of which nobody asks which of its own is the newest."""
    entry = held.kind.entry if held.kind is not None else sets.MEMBER
    shown = members_in(held, wall_ms) if held.kind is None else fields_in(held.kind, held, wall_ms)
    if not shown.is_there():
        return None
    register = counters.register_of(held.rest)
    expiry_ms = register.expiry_ms if register is not None and not passed(register.expiry_ms, wall_ms) else 0
    return Sibling(b"", 0, held.stamp, expiry_ms, 0, entry, False, b"")


def _live_of(found: list[Sibling], wall_ms: int) -> Sibling | None:
    """V9: of two types written at once the one that was written to last is shown; `RW.GET` shows both."""
    value = Shown(found, wall_ms).version
    if counters.only_values(found):
        return value
    shown = [value, *_collections_of(found, wall_ms)]
    return max((each for each in shown if each is not None), key=age, default=None)


def _collections_of(found: list[Sibling], wall_ms: int) -> list[Sibling]:
    """Each collection that the key has, as one version."""
    shown = [
        sets.as_version(found, wall_ms),
        hyperloglog.as_version(found, wall_ms),
        *(maps.as_version(kind, found, wall_ms) for kind in maps.KINDS.values()),
    ]
    return [each for each in shown if each is not None]


def is_plain(version: Sibling) -> bool:
    """A string, as Redis calls it, which a HyperLogLog is too; no collection."""
    return version.content_type != sets.MEMBER and version.content_type not in maps.KINDS


def is_of(content_type: str, record: bytes, wall_ms: int) -> bool:
    """Whether a collection's commands may have the key: it has such a one, or nothing."""
    held = rows.opened(record)
    if held is not None and held.is_pure:
        entry = held.kind.entry if held.kind is not None else sets.MEMBER
        return entry == content_type or _live_rows(held, wall_ms) is None
    return _is_of(content_type, records.unpack(record).siblings, wall_ms)


def _is_of(content_type: str, found: list[Sibling], wall_ms: int) -> bool:
    if {each.content_type for each in found} <= maps.ROLES[content_type]:
        return True  # nobody ever wrote anything else beside it
    shown = _live_of(found, wall_ms)
    return shown is None or shown.content_type == content_type


def members_in(record: bytes, wall_ms: int) -> sets.Members:
    """What a key has of a set, whatever else it has."""
    held = rows.opened(record)
    found = sets.Members.of_rows(held, wall_ms) if held is not None and held.role == sets.MEMBER else None
    return found if found is not None else sets.Members(records.unpack(record).siblings, wall_ms)


def fields_in(kind: maps.Kind, record: bytes, wall_ms: int) -> maps.Fields:
    """What a key has of a hash or a sorted set, whatever else it has."""
    held = rows.opened(record)
    found = maps.Fields.of_rows(held, wall_ms) if held is not None and held.kind is kind else None
    return found if found is not None else maps.Fields(kind, records.unpack(record).siblings, wall_ms)


def members(record: bytes, wall_ms: int) -> Collection[bytes] | None:
    """The members of a set, in no order; none where the key is absent; None where it is no set."""
    return members_in(record, wall_ms).found if is_of(sets.MEMBER, record, wall_ms) else None


def fields(record: bytes, wall_ms: int) -> Mapping[bytes, bytes] | None:
    """What a hash has under each field; nothing where the key is absent; None where it is no hash."""
    return fields_in(maps.HASH, record, wall_ms).values() if is_of(maps.HASH.entry, record, wall_ms) else None


def scores(record: bytes, wall_ms: int) -> Mapping[bytes, float] | None:
    """The members of a sorted set and their scores; none where the key is absent; None where it is no sorted set."""
    return fields_in(maps.SORTED, record, wall_ms).scores() if is_of(maps.SORTED.entry, record, wall_ms) else None


def estimate(record: bytes, wall_ms: int) -> bytes | None:
    """What was added to a HyperLogLog; None where the key is absent. Raises WrongType, NotHyperLogLog."""
    held = rows.opened(record)
    if held is not None and held.is_pure and _live_rows(held, wall_ms) is not None:
        raise WrongType
    found = records.unpack(record).siblings
    shown = _live_of(found, wall_ms)
    if shown is None:
        return None
    if shown.content_type != hyperloglog.ESTIMATE:
        raise NotHyperLogLog if is_plain(shown) else WrongType
    return hyperloglog.union([each.value for each in hyperloglog.shown(found, wall_ms)])


def newest(record: bytes) -> Sibling | None:
    """The version with the greatest (stamp, actor, counter), tombstones and expired ones included."""
    return newest_of(parts(record))


def parts(record: bytes) -> Sequence[Sibling]:
    """The living versions of every kind, but for members and fields where there are many."""
    if deltas.is_delta(record):
        return [sibling for sibling in deltas.delta_of(record).siblings if not records.is_row(sibling)]
    held = rows.opened(record)
    return held.rest if held is not None else records.unpack(record).siblings


def registers(record: bytes) -> list[Sibling]:
    """The expiries that were set after a value (core/counters.py)."""
    return [sibling for sibling in parts(record) if sibling.content_type == counters.EXPIRY]


def values(record: bytes) -> list[Sibling]:
    """The living versions that somebody wrote or deleted, but for members and fields."""
    return [sibling for sibling in parts(record) if is_value(sibling)]


def version_at(record: bytes, actor: bytes, counter: int) -> Sibling | None:
    """The living version under a dot."""
    found = records.unpack(record).siblings
    return next((each for each in found if (each.actor, each.counter) == (actor, counter)), None)


def shadow(state: bytes, record: bytes) -> int:
    """The stamp of what hides the newest value of `record`, which has been merged into `state` (V5): of a newer value, of another
    type, or of an expiry that was set for an older one; 0 where nothing does.

    Nothing as well where one other version is left: that has seen it, so it came later. Equal stamps are decided by the actor
    (V6), so a tie can shadow just as well.
    """
    found = values(state)
    hiding, written = newest_of(found), newest(record)
    if hiding is None or hiding != written:
        return hiding.stamp if hiding is not None and len(found) > 1 else 0
    held = rows.opened(state)
    beside = [each.stamp for each in parts(state) if not (is_value(each) or each.content_type == counters.COUNT)]
    stamp = max([*beside, held.stamp if held is not None else 0], default=0)
    return stamp if stamp > hiding.stamp else 0


def siblings(record: bytes, wall_ms: int) -> list[Sibling]:
    """What `RW.GET` shows: all live versions, newest first; equal ones (value, type, flags, expiry) once (R1)."""
    found = records.unpack(record).siblings
    shown: dict[tuple[bytes, str, int, int], Sibling] = {}
    for sibling in _as_shown(found, wall_ms):
        shown.setdefault((sibling.value, sibling.content_type, sibling.flags, sibling.expiry_ms), sibling)
    return list(shown.values())


def latest(record: bytes, wall_ms: int) -> list[Sibling]:
    """What `RW.GET` shows where the last write wins: the newest version, as a `GET` shows it (V6), or nothing."""
    return siblings(record, wall_ms)[:1] if live(record, wall_ms) is not None else []


def _as_shown(found: list[Sibling], wall_ms: int) -> list[Sibling]:
    base = newest_of(found)
    first = Shown(found, wall_ms).version
    rest = [
        structs.replace(sibling, expiry_ms=expiry_of(sibling, found))
        for sibling in sorted(filter(is_value, found), key=age, reverse=True)
        if sibling is not base
    ]
    whole = [told.as_told(each, found, wall_ms) for each in _collections_of(found, wall_ms)]
    shown = [each for each in (first, *rest, *whole) if each is not None and is_live(each, wall_ms)]
    return sorted(shown, key=age, reverse=True) if whole else shown


def dead(record: bytes, wall_ms: int) -> bool:
    """Whether a record has shown nothing any more since that time, and no later time can change it: deleted, or expired (V8).

    Not where it remembers the increments of a session, which would count again (V9), nor in the world of registers (V10).
    """
    if not record or record[FORM_AT] == PLAIN:
        return False
    held = rows.opened(record)
    if held is not None and held.is_pure and _live_rows(held, wall_ms) is not None:
        return False
    state = records.unpack(record)
    if state.world or any(is_session(actor) for actor, _ in state.context):
        return False
    found = state.siblings
    if len(found) == 1 and is_value(found[0]):  # nearly all that are asked for: some microseconds instead of forty
        return found[0].stamp < stamp_at(wall_ms) and not is_live(found[0], wall_ms)
    return max_stamp(record) < stamp_at(wall_ms) and not _as_shown(found, wall_ms)


def is_live(sibling: Sibling, wall_ms: int) -> bool:
    return not sibling.tombstone and not passed(sibling.expiry_ms, wall_ms)


def context_of(record: bytes) -> Context:
    """What a client that reads this record has seen: to be handed back with its next put of the key."""
    held = rows.opened(record)
    if held is not None:
        return rows.context_of(held)
    state = records.unpack(record)
    return Context(state.context, state.cloud, max_stamp(record))


def context_without(record: bytes, version: Sibling) -> Context:
    """What a record has seen, but for what lives beside a version: what that replaced, and itself. Mostly it is alone."""
    context = context_of(record)
    beside = {(each.actor, each.counter) for each in records.unpack(record).siblings} - {
        (version.actor, version.counter)
    }
    if not beside:
        return context
    seen = Seen(context)
    for actor, counter in beside:
        reached = seen.vector.get(actor, 0)
        seen.cloud.discard((actor, counter))
        if counter <= reached:
            seen.vector[actor] = counter - 1
            seen.cloud.update(
                (actor, later) for later in range(counter + 1, reached + 1) if (actor, later) not in beside
            )
    seen.vector = {actor: counter for actor, counter in seen.vector.items() if counter}
    return Context(*seen.lists(), context.stamp)


def joined(context: Context, record: bytes) -> Context:
    """A context that has seen all of the record, too."""
    seen = Seen(context)
    seen.add(seen_by(record))
    return Context(*seen.lists(), max(context.stamp, max_stamp(record)))


def carried(version: Sibling, held: bytes) -> tuple[Sibling, list[Sibling]]:
    """The version as it is shown, with what was added to it since (V9), and what that takes in."""
    return counters.carried(version, records.unpack(held).siblings)


def with_version(context: Context, version: Sibling, held: bytes) -> Context:
    """A context that has seen this version too, and what its actor had issued before, unless `held` has that still."""
    seen = Seen(context)
    actor, counter = version.actor, version.counter
    reached = seen.vector.get(actor, 0)
    if any(other.actor == actor and reached < other.counter < counter for other in records.unpack(held).siblings):
        seen.add_dot(actor, counter)
    else:
        seen.add(Seen(Context([(actor, counter)])))
    return Context(*seen.lists(), max(context.stamp, version.stamp))


def with_version_of(record: bytes, version: Sibling, covered: Context) -> bytes:
    """The record with one more version, under a dot that no `DotSource` issued: a session's (V9)."""
    state = records.unpack(record)
    seen, client = Seen(state), Seen(covered)
    kept = [*unseen(state.siblings, client), version]
    seen.add(client)
    seen.add_dot(version.actor, version.counter)
    kept.sort(key=records.order)
    return records.encode(Record(*seen.lists(), kept, state.world, state.kind))


def last_of(record: bytes, actor: bytes) -> int:
    """The greatest counter of an actor that the record has seen."""
    return seen_by(record).of_prefix(actor).get(actor, 0)


def with_dots(context: Context, added: Iterable[Sibling]) -> Context:
    """A context that has seen these versions too, and nothing else."""
    seen = Seen(context)
    stamp = context.stamp
    for each in added:
        seen.add_dot(each.actor, each.counter)
        stamp = max(stamp, each.stamp)
    return Context(*seen.lists(), stamp)


def max_stamp(record: bytes) -> int:
    """The greatest stamp of anything the record has seen."""
    if not record:
        return 0
    if record[FORM_AT] == PLAIN:
        return int.from_bytes(record[STAMP_AT:DOT_AT], "big")
    if record[FORM_AT] == DELTA:
        return max([sibling.stamp for sibling in deltas.delta_of(record).siblings], default=0)
    held = rows.opened(record)
    if held is not None:
        return held.stamp
    return max([sibling.stamp for sibling in records.unpack(record).siblings], default=0)
