"""Issues dots, and makes the records that carry them: puts, and changes of several versions at once (V1, V2).

*A dot is never issued twice* (V2). The actor is (node, incarnation, key epoch): the incarnation is renewed by the caller whenever
a tail of the log may be missing; a new key epoch is taken when the record at hand does not show this incarnation's own counter,
or a client has seen more of it than the record shows (the clock is then not intact), or the counter is at its end. **The caller
stores each result before it asks for the next dot of that key.**

The hot function (`put`) works on slices of plain records, and gives exactly the bytes that decode, compute, encode would:
`tests/core/test_versions.py` holds it to that.
"""

import struct
from bisect import insort
from collections.abc import Sequence
from typing import TypeAlias

from xxhash import xxh3_64_digest

from ringwise.core import record as records
from ringwise.core import rows, versions
from ringwise.core.context import Context, Seen
from ringwise.core.record import (
    COUNT_AT,
    COUNTER_AT,
    COUNTER_MAX,
    DOT_AT,
    ENTRY_BYTES,
    FORM_AT,
    OTHERS_AT,
    PLAIN,
    PLAIN_ACTORS_MAX,
    STAMP_AT,
    Dot,
    Record,
    Sibling,
)
from ringwise.core.rows import Rows
from ringwise.core.versions import Write

_COUNTER_END = COUNTER_MAX.to_bytes(4, "big")
_FIRST = b"\0\0\0\1"
_pack_lone = struct.Struct(">BBQ16sI").pack  # a plain record's head, where the context is its own dot
_pack_first = struct.Struct(">BBQ10s6sI").pack  # the same, for the first dot of a key epoch
_unpack_lone = struct.Struct(">Q16sI").unpack_from


# Of a version: expiry, flags, type, whether it is a tombstone, value.
_Made: TypeAlias = tuple[int, int, str, bool, bytes]


class DotSource:
    """Issues the dots of one node in one incarnation. `next_epoch` is stored at a clean stop and passed on."""

    __slots__ = ("next_epoch", "prefix", "retired")

    def __init__(self, node_id: bytes, incarnation: bytes, next_epoch: int = 1) -> None:
        assert len(node_id) == 6 and len(incarnation) == 4
        self.prefix = node_id + incarnation
        self.next_epoch = next_epoch
        self.retired = bytearray()  # a bit for each key epoch: this node has dropped a record that knew it

    def retire(self, record: bytes) -> None:
        """A record is dropped: its actors of this incarnation issue nothing more.

        A client may hand back a context from before that, which names a smaller counter of theirs than they had reached; so what
        comes back in some record is no proof of what was issued (V2).
        """
        if type(record) is bytes and self.prefix not in record:  # most records are others' work alone
            return
        for actor in versions.seen_by(record).of_prefix(self.prefix):
            epoch = _epoch_of(actor)
            self.retired.extend(bytes(max(0, (epoch >> 3) + 1 - len(self.retired))))
            self.retired[epoch >> 3] |= 1 << (epoch & 7)

    def _is_retired(self, actor: bytes) -> bool:
        epoch = _epoch_of(actor)
        return epoch >> 3 < len(self.retired) and bool(self.retired[epoch >> 3] >> (epoch & 7) & 1)

    def renew(self, incarnation: bytes) -> None:
        """Go on under another incarnation, since a record was lost, and with it the proof of which dots were issued (V2)."""
        assert len(incarnation) == 4
        self.prefix = self.prefix[:6] + incarnation
        self.next_epoch = 1
        self.retired.clear()

    def put(self, old: bytes, value: bytes, stamp: int) -> bytes:
        """The record of a plain value that supersedes everything in `old`. Hot: bench with `python -m timeit`."""
        if not old:
            epoch = self.next_epoch
            self.next_epoch = epoch + 1
            body = _pack_first(PLAIN, 1, stamp, self.prefix, epoch.to_bytes(6, "big"), 1) + value
            return xxh3_64_digest(body) + body
        if old[FORM_AT] != PLAIN:
            return self.write(old, Write(value), stamp)
        if old[COUNT_AT] == 1 and old.startswith(self.prefix, DOT_AT):  # nobody else ever wrote it: the usual overwrite
            was, actor, last = _unpack_lone(old, STAMP_AT)
            if last < COUNTER_MAX:
                body = _pack_lone(PLAIN, 1, stamp if stamp > was else was + 1, actor, last + 1) + value
                return xxh3_64_digest(body) + body
        stamp8 = stamp.to_bytes(8, "big")
        if stamp8 <= old[STAMP_AT:DOT_AT]:
            stamp8 = (int.from_bytes(old[STAMP_AT:DOT_AT], "big") + 1).to_bytes(8, "big")
        end = DOT_AT + old[COUNT_AT] * ENTRY_BYTES
        own_at = old.rfind(self.prefix, OTHERS_AT, end)  # the last in order of actors is the greatest epoch
        if old.startswith(self.prefix, DOT_AT):
            counter = old[COUNTER_AT:OTHERS_AT]
            if own_at >= 0 or counter == _COUNTER_END:
                return self.write(old, Write(value), stamp)
            body = b"%b%b%b%b%b%b" % (
                old[FORM_AT:STAMP_AT],
                stamp8,
                old[DOT_AT:COUNTER_AT],
                (int.from_bytes(counter, "big") + 1).to_bytes(4, "big"),
                old[OTHERS_AT:end],
                value,
            )
            return xxh3_64_digest(body) + body
        if own_at < 0:
            if old[COUNT_AT] == PLAIN_ACTORS_MAX:
                return self.write(old, Write(value), stamp)
            count = old[COUNT_AT] + 1
            dot = self._new_actor() + _FIRST
            others = old[OTHERS_AT:end]
        else:
            counter_at = own_at + 16
            counter = old[counter_at : own_at + ENTRY_BYTES]
            retired = self.retired and self._is_retired(old[own_at:counter_at])
            if (own_at - OTHERS_AT) % ENTRY_BYTES or counter == _COUNTER_END or retired:
                return self.write(old, Write(value), stamp)
            count = old[COUNT_AT]
            dot = old[own_at:counter_at] + (int.from_bytes(counter, "big") + 1).to_bytes(4, "big")
            others = old[OTHERS_AT:own_at] + old[own_at + ENTRY_BYTES : end]
        # The old dot becomes an ordinary entry of the context, in its place.
        entry = old[DOT_AT:OTHERS_AT]
        at = 0
        while at < len(others) and others[at : at + ENTRY_BYTES] < entry:
            at += ENTRY_BYTES
        body = b"\1%c%b%b%b%b%b%b" % (count, stamp8, dot, others[:at], entry, others[at:], value)
        return xxh3_64_digest(body) + body

    def write(self, old: bytes, write: Write, stamp: int) -> bytes:
        """The record after a general put, which removes exactly what `write.context` has seen (None: all of `old`)."""
        told = write.context
        held = rows.opened(old)
        if held is not None and isinstance(told, rows.Covered):
            version = write.expiry_ms, write.flags, write.content_type, write.tombstone, write.value
            return self._write_rows(held, [version], told, stamp)
        state = records.unpack(old)
        seen = Seen(state)
        covered = max([sibling.stamp for sibling in state.siblings], default=-1)
        if told is None:
            kept = []
            actor, counter = self._next_dot(seen, Seen())
        else:
            client = Seen(told)
            kept = versions.unseen(state.siblings, client)
            actor, counter = self._next_dot(seen, client)
            covered = told.stamp if write.derived else max(covered, told.stamp)
            seen.add(client)
        seen.add_dot(actor, counter)
        kept.append(
            Sibling(
                actor,
                counter,
                max(stamp, covered + 1),
                write.expiry_ms,
                write.flags,
                write.content_type,
                write.tombstone,
                write.value,
            )
        )
        vector, cloud = seen.lists()
        if len(kept) > 1:
            kept.sort(key=records.order)
        return records.encode(Record(vector, cloud, kept, state.world, state.kind))

    def write_each(self, old: bytes, made: Sequence[tuple[str, bytes]], covered: Context, stamp: int) -> bytes:
        """The record after several versions of one write, each (type, value) under a dot of its own, at one stamp."""
        held = rows.opened(old)
        if held is not None and isinstance(covered, rows.Covered):
            return self._write_rows(held, [(0, 0, role, False, value) for role, value in made], covered, stamp)
        state = records.unpack(old)
        seen, client = Seen(state), Seen(covered)
        stamp = max([stamp, *(sibling.stamp + 1 for sibling in state.siblings)])
        kept = versions.unseen(state.siblings, client)
        dots = self._next_dots(seen, client, len(made))
        for (content_type, value), (actor, counter) in zip(made, dots, strict=True):
            kept.append(Sibling(actor, counter, stamp, 0, 0, content_type, False, value))
        seen.add(client)
        if len(made) > 1:
            kept.sort(key=records.order)
        elif made:
            insort(kept, kept.pop(), key=records.order)  # the rest is in order
        return rows.encode(Record(*seen.lists(), kept, state.world, state.kind))

    def _write_rows(self, held: Rows, made: Sequence[_Made], covered: rows.Covered, stamp: int) -> bytes:
        """As `write` and `write_each`, of a collection that is held as rows (V4)."""
        seen, client = held.seen(), Seen(covered)
        stamp = max(stamp, held.stamp + 1)
        dots = self._next_dots(seen, client, len(made))
        siblings = [
            Sibling(actor, counter, stamp, expiry_ms, flags, role, tombstone, value)
            for (actor, counter), (expiry_ms, flags, role, tombstone, value) in zip(dots, made, strict=True)
        ]
        return rows.written(held, siblings, covered, versions.merge_states)

    def last_actor(self, record: bytes) -> bytes:
        """Under which the next dot of this key comes, where that does not take a new key epoch; else b""."""
        return max(self._usable(versions.seen_by(record).of_prefix(self.prefix)), default=b"")

    def _usable(self, own: dict[bytes, int]) -> dict[bytes, int]:
        if not self.retired:
            return {actor: last for actor, last in own.items() if last < COUNTER_MAX}
        return {actor: last for actor, last in own.items() if last < COUNTER_MAX and not self._is_retired(actor)}

    def _next_dot(self, held: Seen, told: Seen) -> Dot:
        """The dot after the greatest of this incarnation that the record shows, or the first of a new epoch (V2)."""
        own = held.of_prefix(self.prefix)
        intact = all(counter <= own.get(actor, 0) for actor, counter in told.of_prefix(self.prefix).items())
        usable = self._usable(own)
        if intact and usable:
            actor = max(usable)
            return actor, usable[actor] + 1
        actor = self._new_actor()
        while held.names(actor) or told.names(actor):
            actor = self._new_actor()
        return actor, 1

    def _next_dots(self, held: Seen, told: Seen, count: int) -> list[Dot]:
        """So many, in their order; the record has seen them then."""
        dots: list[Dot] = []
        while len(dots) < count:
            actor, first = self._next_dot(held, told)
            end = min(first + count - len(dots), COUNTER_MAX + 1)
            more = [(actor, counter) for counter in range(first, end)]
            held.add_few(more)
            dots += more
        if dots and dots[0][0] != dots[-1][0]:  # actors that were used up on the way
            dots.sort()  # who made them relies on it (rows.written)
        return dots

    def _new_actor(self) -> bytes:
        epoch = self.next_epoch
        self.next_epoch = epoch + 1
        return self.prefix + epoch.to_bytes(6, "big")


def _epoch_of(actor: bytes) -> int:
    return int.from_bytes(actor[10:], "big")
