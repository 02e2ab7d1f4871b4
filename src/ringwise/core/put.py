"""The path of a put (Dynamo, sections 4.4 and 4.5; rules R1, V5, B1 to B3).

    put ─▶ memtable ─▶ group (same owners, level, turn) ─▶ at the end of the turn: one chunk ─▶ commit log ─▶ own acknowledgement
                                                                         └──────▶ one frame to each other owner ─▶ theirs
    W acknowledgements ─▶ every operation of the group is answered

A group is closed ("sealed") at the end of the turn, in parts of a frame's size (B3), and before a key that an open read is
about is written (B1: `GET k; SET k 2` answers the old value, on every replica).

Invariants: a dot is issued once for each client operation (V2), and only here and by an owner; nothing is sent or counted as this
node's own acknowledgement before it is in the log ("stored before sent"; the node calls `logged` after the append).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from msgspec import structs

from ringwise.core import messages, rows, versions
from ringwise.core.changes import Change, ForAWhile
from ringwise.core.clock import Clock
from ringwise.core.coalescing import coalesced
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import (
    Failure,
    Flushed,
    NotReady,
    Overloaded,
    QuorumNotReached,
    Replaced,
    UnknownOutcome,
    WritesStopped,
)
from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.lesson import teach
from ringwise.core.levels import Level
from ringwise.core.messages import NodeId, Written, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.quorum import Tally, take_part
from ringwise.core.record import UNKNOWN, Dot
from ringwise.core.reissue import Reissue
from ringwise.core.ring import slot_of
from ringwise.core.sink import Sink
from ringwise.core.space import Space, Spaces, code_of
from ringwise.core.standins import StandIns
from ringwise.core.store import Store
from ringwise.core.succession import Made
from ringwise.core.topology import Topology
from ringwise.core.versions import Write
from ringwise.core.writegroup import WriteGroup


class PutPath:
    """Coordinates writes on a node that owns their keys; what it does not own it hands to `elsewhere`."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        dots: DotSource,
        clock: Clock,
        spaces: Spaces,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        stand_ins: StandIns,
    ) -> None:
        self.me = peers.me
        self._stand_ins = stand_ins
        self._now = now
        self._cold = cold
        self._peers = peers
        self._topology = topology
        self._owner_set = topology.owner_set  # changed in place
        self._store = store
        self._find = store.find
        self._store_put = store.put
        self._dots = dots
        self._clock = clock
        self._config = config
        self._spaces = spaces
        self._live = spaces.live  # changed in place
        self._name_rows()
        self._chunks = chunks
        self._reissue = Reissue(self, store, dots, clock, now, cold, spaces.live)
        self._read = self._left = b""  # by the last change: what it was asked on, and the state that it made
        self.reading: set[bytes] = set()  # keys of open read groups (B1)
        self.seal: Callable[[], None] = self.seal_writes  # the node puts its own in place: writes, then reads
        self.elsewhere: Callable[[messages.ForwardedWrite, int, Sink, int], None]  # set by the node: to an owner
        self.hint: Callable[[NodeId, Iterable[bytes], bool], None]  # set by the node: an owner has not got these (R4)
        self.unformed: Callable[[Callable[[], None], Sink, int], None]  # set by the node: after the document is formed
        self._open: dict[int, WriteGroup] = {}
        self._sealed: list[WriteGroup] = []  # since the last append to the log
        self._groups: dict[int, WriteGroup] = {}  # unanswered, in order of age
        self._stale: dict[tuple[NodeId, int], WriteGroup] = {}  # what owners that are ahead of this node have refused

    def _name_rows(self) -> None:
        """How row keys of the default bucket begin, by the length of the key."""
        row_key = self._spaces.home.row_key
        sizes = range(self._config.key_bytes_max + 1)
        self._prefixes = [row_key(bytes(size))[: -size or None] for size in sizes]

    def follow(self, gone: frozenset[bytes]) -> None:
        """T5: these incarnations are void. What was sent of them has an unknown outcome; what was not, is refused."""
        self._name_rows()
        self._give_up(Flushed(), "the database was flushed meanwhile", gone)

    def _give_up(self, refusal: Failure, detail: str, gone: frozenset[bytes] | None = None) -> None:
        """Ends what is under way, of these incarnations or of all."""
        opened = {code: group for code, group in self._open.items() if gone is None or group.prefix in gone}
        groups = {number: group for number, group in self._groups.items() if gone is None or group.prefix in gone}
        self._open = {code: group for code, group in self._open.items() if code not in opened}
        self._groups = {number: group for number, group in self._groups.items() if number not in groups}
        self._stale = {
            key: group for key, group in self._stale.items() if gone is not None and group.prefix not in gone
        }
        for group in opened.values():
            for _, _, _, _, sink, index in group.rows:
                sink.failed(index, refusal)
        for group in groups.values():
            for i in group.tally.unreached():
                self._fail(group, i, detail)

    def move(self) -> None:
        """T4, T5: a member was replaced. What is under way goes on with the present owners: the same dots, in frames of the
        new epoch. The new owner gets what was under way before by being filled: this node held it before it followed."""
        topology = self._topology
        former = topology.former.get(self.me)
        if former is not None:
            self._give_up(Replaced(former.name, former.epoch), "this node was replaced meanwhile")
            return
        opened, self._open = self._open, {}
        sealed = self._sealed
        stale, self._stale = self._stale, {}
        for group in opened.values():
            group.owners = self._present(group.owners)
            if group.rows:
                for part in self._parts(group):
                    self._send(part)
        started = [group for group in self._groups.values() if group.epoch < topology.epoch]
        young_ms = self._now.now_ms - self._config.request_timeout_ms
        for (peer, _), group in stale.items():
            if group.started_ms <= young_ms and peer in group.pending:
                self.missed(group, peer, group.pending.pop(peer))
        for group in {group.id: group for group in (*started, *stale.values())}.values():
            for peer in [peer for peer in group.pending if peer not in topology.members]:
                del group.pending[peer]
            group.owners = self._present(group.owners)
            self._ask_again(group)
            if group not in sealed:
                self.give_up_hopeless(group)

    def _present(self, owners: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        present = map(self._topology.present, owners)
        return tuple(sorted(owner for owner in present if owner is not None))

    def _ask_again(self, group: WriteGroup) -> None:
        group.epoch = self._topology.epoch
        for peer in list(group.pending):
            owner = group.stand_ins.get(peer)
            if owner is not None:
                group.stand_ins[peer] = present = self._topology.present(owner) or owner
                group.placed[present] = group.placed.pop(owner, set())
            if not self._peers.ask(peer, group, self._frame(group, peer)):
                self.missed(group, peer, group.pending.pop(peer))

    def _frame(self, group: WriteGroup, peer: NodeId) -> bytes:
        return encode(
            messages.Write(group.id, group.epoch, self._clock.last, group.chunk, group.stand_ins.get(peer, b""))
        )

    # -- the operations

    def put(self, key: bytes, value: bytes, level: Level, sink: Sink, index: int, space: Space | None = None) -> None:
        """A plain SET: supersedes what this coordinator knows of the key (V5). No space: the default bucket."""
        slot = slot_of(key)
        code = self._owner_set[slot] << 20 | level.code << 1 | 1
        if space is None:
            rkey = self._prefixes[len(key)] + key
        else:
            rkey = space.row_key(key)
            code |= space.code
        if self.reading and rkey in self.reading:
            self.seal()
        group = self._open.get(code)
        if group is None:
            again = partial(self.put, key, value, level, sink, index, space)
            group = self._open_group(code, slot, level, True, again, sink, index, space)
            if group is None:
                return
            if not group.owned:
                self._forward(key, slot, level, Write(value=value), True, sink, index, space)
                return
        held = self._find(slot, rkey)
        if held is None:
            self._load(slot, rkey, partial(self.put, key, value, level, sink, index, space), sink, index)
            return
        clock = self._clock
        clock.last = stamp = clock.last + 2  # in between is room for what is derived from what was read (V6)
        record = self._dots.put(held, value, stamp)
        base = held[:8]
        self._store_put(slot, rkey, base, record)
        group.rows.append((slot, rkey, base, record, sink, index))

    def write(
        self,
        key: bytes,
        write: Write,
        level: Level,
        sink: Sink,
        index: int,
        space: Space | None = None,
        *,
        stamp: int = 0,
        blind: bool = False,
        exact: bool = False,
    ) -> None:
        """A put with a context, an expiry, a content type; or one that another node took and forwarded with its stamp: `exact`
        refuses to raise it, since what is above it may have come after it (R1)."""
        slot = slot_of(key)
        space = space or self._spaces.home
        rkey = space.row_key(key)
        if self.reading and rkey in self.reading:
            self.seal()
        blind = blind or (write.context is None and not write.tombstone)
        again = partial(self.write, key, write, level, sink, index, space, stamp=stamp, blind=blind, exact=exact)
        code = space.code | self._topology.owner_set[slot] << 20 | level.code << 1 | blind
        group = self._open.get(code) or self._open_group(code, slot, level, blind, again, sink, index, space)
        if group is None:
            return
        if not group.owned and not exact:
            self._forward(key, slot, level, write, blind, sink, index, space)
            return
        held = self._find(slot, rkey)
        if held is None:
            self._load(slot, rkey, partial(self._write_loaded, rkey, again, sink, index), sink, index)
            return
        try:
            if stamp:
                self._clock.observe(stamp, self._now.wall_ms)
            if write.context is not None:
                self._clock.observe(write.context.stamp, self._now.wall_ms)  # V1: refused beyond the maximum offset
        except Failure as error:
            sink.failed(index, error)
            return
        if write.context is not None and space.last_wins:  # V6: it replaces what its writer has not seen, too
            write = structs.replace(write, context=versions.joined(write.context, held))
        covered = max(versions.max_stamp(held), write.context.stamp if write.context is not None else 0)
        if exact and (stamp <= covered or not group.owned):
            detail = "another write of the key came at the same time, or since"
            sink.failed(index, UnknownOutcome(needed=group.tally.need, acknowledged=0, detail=detail))
            return
        if write.derived:  # what came after what was read is newer, a deletion too
            stamp = 0
        elif stamp <= covered:
            self._clock.last = stamp = self._clock.last + 2
        record = self._dots.write(held, write, stamp)
        self.add(group, slot, rkey, held, record, sink, index)

    def change(
        self, key: bytes, before: bytes, change: Change, level: Level, sink: Sink, index: int, space: Space
    ) -> None:
        """A change of what this node holds and of what was read (core/changes.py)."""
        slot = slot_of(key)
        rkey = space.row_key(key)
        if self.reading and rkey in self.reading:
            self.seal()
        again = partial(self.change, key, before, change, level, sink, index, space)
        code = space.code | self._topology.owner_set[slot] << 20 | level.code << 1
        group = self._open.get(code) or self._open_group(code, slot, level, False, again, sink, index, space)
        if group is None:
            return
        if not group.owned:  # it was when the update began: nothing of it has been written
            sink.failed(index, QuorumNotReached(needed=group.tally.need, acknowledged=0))
            return
        held = self._find(slot, rkey)
        if held is None:
            self._load(slot, rkey, partial(self._write_loaded, rkey, again, sink, index), sink, index)
            return
        clock = self._clock
        try:
            # Of several that have read the same, each is made to what the one before it left, and that has it in it.
            known = held if held is self._left and before is self._read else versions.merge(held, before)
            clock.observe(versions.max_stamp(known), self._now.wall_ms)
            clock.last = stamp = clock.last + 2
            record = change.apply(self._dots, known, stamp, self._now.wall_ms)
            if isinstance(change, ForAWhile):  # two versions, the second one above the first
                clock.last = stamp + 1
        except Failure as error:
            sink.failed(index, error)
            return
        self._read, self._left = before, self.add(group, slot, rkey, held, record, sink, index)

    def _write_loaded(self, rkey: bytes, again: Callable[[], None], sink: Sink, index: int) -> None:
        """T5: what an update has read is void with the incarnation that it read it in."""
        if rkey[:BUCKET_BYTES] in self._live:
            again()
        else:
            sink.failed(index, Flushed())

    def repeat(self, key: bytes, state: bytes, level: Level, sink: Sink, index: int, space: Space) -> None:
        """Brings a state that was read to as many owners as a write needs: what is in it may be on fewer (R1)."""
        slot = slot_of(key)
        owners = self._topology.sets[self._topology.owner_set[slot]]
        self.spread(slot, space.row_key(key), state, level.needed_writes(len(owners)), sink, index)

    def spread(self, slot: int, rkey: bytes, state: bytes, need: int, sink: Sink, index: int) -> None:
        """Brings a merged state to the key's owners, this node among them where it is one: a repair, which issues no dot."""
        if rkey[:BUCKET_BYTES] not in self._live:
            sink.failed(index, Flushed())
            return
        if self.reading and rkey in self.reading:
            self.seal()
        group = self.group_for(slot, rkey, need, False)
        held = self._find(slot, rkey) if group.owned else b""
        if held is None:
            self._load(slot, rkey, partial(self.spread, slot, rkey, state, need, sink, index), sink, index)
            return
        if group.owned and (self._store.failed or not self._topology.formed):
            sink.failed(index, WritesStopped("see its log"))
            return
        record = versions.merge(held, state) if held else state
        if need == 1 and isinstance(record, rows.Rows) and record[:8] == held[:8]:
            # Of a large collection: what was read is old news here, and on its way to the others.
            sink.stored(index, record)
            return
        self.add(group, slot, rkey, held, record, sink, index, whole=need > 1 and isinstance(record, rows.Rows))

    # -- groups

    def add(
        self,
        group: WriteGroup,
        slot: int,
        rkey: bytes,
        held: bytes,
        record: bytes,
        sink: Sink,
        index: int,
        whole: bool = False,
    ) -> bytes:
        """What is held now. `whole`: owners are to have the state, and not only what changed of it here."""
        base = held[:8]
        state = record
        if isinstance(record, rows.Rows):
            group.opened = True
            state = held if record[:8] == base else record.bare or record
        if group.owned:
            self._store_put(slot, rkey, base, state)
        group.rows.append((slot, rkey, UNKNOWN if whole else base, record, sink, index))
        return state

    def group_for(self, slot: int, rkey: bytes, need: int, blind: bool, first: WriteGroup | None = None) -> WriteGroup:
        """The open group of what is not a client's own operation: repairs, and what is issued again, as the `first` was."""
        number = self._topology.owner_set[slot]
        owners = self._topology.sets[number]
        serving = self._topology.serving_sets[number]
        owned, sloppy = (self.me in serving, False) if first is None else (first.owned, first.sloppy)
        code = code_of(rkey) | number << 20 | 1 << 19 | blind << 18 | owned << 17 | sloppy << 16 | need
        group = self._open.get(code)
        if group is None:
            group = self._open[code] = WriteGroup(self, owners, need, blind, sloppy, owned)
            group.repairs = not blind
        return group

    def _open_group(
        self,
        code: int,
        slot: int,
        level: Level,
        blind: bool,
        again: Callable[[], None],
        sink: Sink,
        index: int,
        space: Space | None,
    ) -> WriteGroup | None:
        """A new group for these owners and level; None where the operation was refused, or waits for a formed document."""
        topology = self._topology
        if not topology.epoch:
            sink.failed(index, NotReady("this node is in no cluster yet"))
            return None
        if not topology.formed:
            self.unformed(again, sink, index)
            return None
        if self.me in topology.former:
            former = topology.former[self.me]
            sink.failed(index, Replaced(former.name, former.epoch))
            return None
        number = topology.owner_set[slot]
        owners, serving = topology.sets[number], topology.serving_sets[number]
        try:
            level.check(len(owners))
            if space is not None:
                space.check()
        except Failure as error:
            sink.failed(index, error)
            return None
        need = level.needed_writes(len(owners))  # of N, also while one of them is filling and counts for nothing (T4)
        group = WriteGroup(self, owners, need, blind, level.sloppy, self.me in serving)
        up = group.owned + len(self._peers.up(serving))
        if up < need and level.sloppy and (group.owned or not up):
            able = self._stand_ins.able(owners)
            # V2: where no owner is reachable, a stand-in issues dots of its own.
            group.owned = group.owned or self.me in able
            up = min(len(owners), up + len(able))
        if group.owned:
            if self._store.failed:
                sink.failed(index, WritesStopped("see its log"))
                return None
            if self._store.overloaded:
                sink.failed(index, Overloaded("memtable", self._config.memtable_bytes))
                return None
            if up < need:
                sink.failed(index, QuorumNotReached(needed=need, acknowledged=up))
                return None
            self._open[code] = group  # what is found open is owned: `put` relies on it
        return group

    def _forward(
        self,
        key: bytes,
        slot: int,
        level: Level,
        write: Write,
        blind: bool,
        sink: Sink,
        index: int,
        space: Space | None,
    ) -> None:
        stamp = self._clock.last = self._clock.last + 2
        number = space.number if space is not None else 0
        forwarded = messages.ForwardedWrite(key, level.name.encode(), stamp, write, blind, False, number)
        self.elsewhere(forwarded, slot, sink, index)

    def _load(self, slot: int, rkey: bytes, again: Callable[[], None], sink: Sink, index: int) -> None:
        self._cold.load(slot, rkey, again, partial(sink.failed, index))

    def seal_writes(self) -> None:
        """Closes the open groups: chunks for the log, frames for the other owners."""
        if not self._open:
            return
        groups, self._open = self._open, {}
        for group in groups.values():
            if group.rows:
                for part in self._parts(group):
                    self._send(part)

    def _parts(self, group: WriteGroup) -> list[WriteGroup]:
        """B3: a group larger than a frame goes in several, and a value larger than that travels alone."""
        size_max = self._config.frame_bytes_max
        if not group.blind and len(group.rows) > 1:
            group.rows = coalesced(group.rows, size_max)
        if group.opened:
            sizes = [len(rows.as_sent(row[2], row[3])[1]) for row in group.rows]
        else:
            sizes = [len(row[3]) for row in group.rows]
        if sum(sizes) <= size_max:
            return [group]
        parts: list[WriteGroup] = []
        total = size_max
        for row, size in zip(group.rows, sizes, strict=True):
            total += size
            if total > size_max:
                total = size
                parts.append(WriteGroup(self, group.owners, group.tally.need, group.blind, group.sloppy, group.owned))
                parts[-1].opened, parts[-1].repairs = group.opened, group.repairs
            parts[-1].rows.append(row)
        return parts

    def _send(self, group: WriteGroup) -> None:
        columns = zip(*group.rows, strict=True)
        group.slots, group.rkeys, group.bases, group.records, group.sinks, group.indexes = columns
        group.tally = Tally(len(group.rows), group.tally.need)
        if group.indexed and not group.blind:  # by what is one row now
            group.indexed = 0
            group.positions.clear()
        group.id = self._peers.next_id()
        group.epoch = self._topology.epoch
        group.started_ms = self._now.now_ms
        if group.opened:
            group.chunk = messages.encode_rows([row[:4] for row in group.rows])
        else:
            group.chunk = messages.encode_chunk(group.slots, group.rkeys, group.bases, group.records)
        frame = self._frame(group, self.me)  # the same for every owner
        self._groups[group.id] = group
        if group.owned:
            self._chunks.append(group.chunk)
            self._sealed.append(group)
        else:
            group.unlogged = False
        standing_in = group.stood_in = group.owned and self.me not in group.owners
        filling = self._topology.filling
        for owner in group.owners:
            if owner == self.me:
                continue
            if standing_in and owner not in filling:
                standing_in = False
                self.hint(owner, group.rkeys, True)
            elif self._peers.ask(owner, group, frame):
                group.pending[owner] = None
                if group.sloppy and owner not in filling and not self._peers.is_up(owner):
                    self._ask_stand_in(group, owner)
            else:
                self.missed(group, owner, None)
        if not group.owned:
            self.give_up_hopeless(group)

    def missed(self, group: WriteGroup, peer: NodeId, positions: Iterable[int] | None) -> None:
        """R2, R4: an owner, or who stood in for it, has not got these positions (None: none of the group). The next node on the
        ring stands in; where there is none, this node's own state is there for the owner."""
        if not group.owned:
            return
        owner = group.stand_ins.get(peer, peer)
        needed = group.sloppy and owner not in self._topology.filling
        if positions is None and needed and self._ask_stand_in(group, owner):
            return
        self.hint(owner, group.rkeys if positions is None else [group.rkeys[i] for i in positions], False)

    def _ask_stand_in(self, group: WriteGroup, owner: NodeId) -> bool:
        if group.started_ms + self._config.request_timeout_ms < self._now.now_ms:
            return False  # nobody waits for it any more, and one asked now would be late at once
        for node in self._stand_ins.able(group.owners):
            if node != self.me and node not in group.stand_ins:
                group.stand_ins[node] = owner
                if self._peers.ask(node, group, self._frame(group, node)):
                    group.pending[node] = None
                    return True
                del group.stand_ins[node]
        return False

    @property
    def prefix(self) -> bytes:
        """How the actors of this node begin, as long as it runs (V2)."""
        return self._dots.prefix

    @property
    def settled(self) -> bool:
        """No owner that is ahead of this node has refused anything that it will be asked again (V8)."""
        return not self._stale

    # -- acknowledgements

    @property
    def opened(self) -> bool:
        """Whether a group is open."""
        return bool(self._open)

    def under_way(self, rkey: bytes, dot: Dot) -> Made | None:
        """The write that issued the dot, if it is not answered."""
        for group in (*self._groups.values(), *self._open.values()):
            made = group.under_way(rkey, dot)
            if made is not None:
                return made
        return None

    @property
    def sets_under_way(self) -> bool:
        """Whether plain SETs have been sent that may be issued again (V5)."""
        return any(group.blind and not group.weak for group in self._groups.values())

    def take_sealed(self) -> list[WriteGroup]:
        """The groups whose chunks the node is about to append; it calls `logged` with them once they are durable enough."""
        sealed, self._sealed = self._sealed, []
        return sealed

    def logged(self, groups: list[WriteGroup]) -> None:
        """This node's own acknowledgement."""
        for group in groups:
            group.unlogged = False
            self._count(group, ())
            if group.tally.open:
                self.give_up_hopeless(group)

    def unloggable(self, groups: list[WriteGroup]) -> None:
        """The log has failed (S3): this node's own acknowledgement will never come."""
        for group in groups:
            group.unlogged = False
            self.give_up_hopeless(group)

    def written(self, link: Link, message: Written) -> bool:
        """An owner's answer, for all of a group or for a part; False where it is to something else."""
        peer = link.peer
        group = self._peers.request(peer, message.id)
        if not isinstance(group, WriteGroup):
            return False
        if peer not in group.pending:
            return True
        for position, stamp in message.higher:
            group.higher[position] = max(stamp, group.higher.get(position, 0))
        if message.refused:
            self._refused(link, group, message)
            return True
        if peer in group.stand_ins:
            group.stood_in = True
        if not message.positions and group.pending[peer] is None:
            del group.pending[peer]
            self._peers.answered(peer, group.id)
            if group.stand_ins:
                self._count_place(peer, group, range(len(group.rows)))
            elif peer not in self._topology.filling:  # T4: it has it, and stands for nothing
                self._count(group, ())
        else:
            self._count_part(peer, group, message.positions)
        return True

    def _count_part(self, peer: NodeId, group: WriteGroup, positions: Sequence[int]) -> None:
        fresh = take_part(group.pending, peer, positions, len(group.rows))
        if peer not in group.pending:
            self._peers.answered(peer, group.id)
        self._count_place(peer, group, fresh)

    def _count_place(self, peer: NodeId, group: WriteGroup, positions: Iterable[int]) -> None:
        """R2: an owner that was late and the stand-in for it are one: there is one copy again when the hint is handed over."""
        place = group.stand_ins.get(peer, peer)
        placed = group.placed.setdefault(place, set())
        fresh = [i for i in positions if i not in placed]
        placed.update(fresh)
        if fresh and place not in self._topology.filling:
            self._count(group, fresh)

    def _refused(self, link: Link, group: WriteGroup, message: Written) -> None:
        peer = link.peer
        reasons = {reason for _, reason in message.refused}
        teach(self._peers, self._topology, link, reasons)
        if messages.BEHIND in reasons:
            if not self._peers.ask(peer, group, self._frame(group, peer)):
                group.lost(peer)
            return
        if messages.NO_ROOM in reasons:
            self._stand_ins.refused(peer)
            self._peers.answered(peer, group.id)
            group.lost(peer)
            return
        stale = messages.STALE in reasons
        if message.positions:
            group.stood_in = group.stood_in or peer in group.stand_ins
            self._count_part(peer, group, message.positions)
        void = self.me in self._topology.former or group.prefix not in self._live
        if stale and peer in group.pending and not void:
            if group.epoch < self._topology.epoch:
                self._ask_again(group)
            else:  # T5: it is asked again under that document
                self._peers.answered(peer, group.id)
                self._stale[peer, group.id] = group
            return
        if peer in group.pending:
            missing = group.pending[peer]
            if missing is None:
                missing = group.pending[peer] = set(range(len(group.rows)))
            refused = [position for position, _ in message.refused if position in missing]
            whole = len(refused) == len(group.rows) and messages.FAR_STAMP not in reasons  # others would say so too
            self.missed(group, peer, None if whole else refused)
            missing.difference_update(refused)
            if not missing:
                del group.pending[peer]
                self._peers.answered(peer, group.id)
        self.give_up_hopeless(group)

    def _count(self, group: WriteGroup, positions: Sequence[int]) -> None:
        reached = group.tally.add(positions)
        if not reached:
            return
        if not group.tally.open:
            self._groups.pop(group.id, None)
        sinks, indexes, records = group.sinks, group.indexes, group.records
        if group.stood_in:  # R2: who asked is to know that this was no quorum of owners
            for i in reached:
                self._stand_ins.writes += 1
                self._stand_ins.counted(group.rkeys[i])
                group.sinks[i].stood_in(group.indexes[i])
        if group.weak:
            self._reissue.end(group, reached)
        elif group.higher and not group.blind:
            self._reissue.end(group, [i for i in reached if i in group.higher])
        if group.higher and group.blind:
            for i in reversed(reached):  # of two of one key, the later one is above it before the first looks
                if i in group.higher:
                    self._reissue.issue(group, i)
                else:
                    sinks[i].stored(indexes[i], records[i])
            return
        if len(reached) == len(records):
            for sink, index, record in zip(sinks, indexes, records, strict=True):
                sink.stored(index, record)
            return
        for i in reached:
            sinks[i].stored(indexes[i], records[i])

    # -- what does not reach its level

    def give_up_hopeless(self, group: WriteGroup) -> None:
        """Tells the positions that can no longer reach their level: they may be stored somewhere (unknown outcome)."""
        places = group.pending.keys() - self._topology.filling
        if group.stand_ins:
            places = {group.stand_ins.get(peer, peer) for peer in group.pending} - self._topology.filling
        remaining = len(places) + (1 if group.unlogged else 0)
        tally = group.tally
        if not group.placed and tally.open and tally.least + remaining >= tally.need:
            return  # after each append to the log, for each group: no position of it is looked at
        for i in tally.unreached():
            counted = sum(i in group.placed.get(place, ()) for place in places) if group.placed else 0
            if tally.acknowledged(i) + remaining - counted < tally.need:
                self._fail(group, i)
        if not tally.open:
            self._groups.pop(group.id, None)

    def _fail(self, group: WriteGroup, i: int, detail: str = "") -> None:
        tally = group.tally
        if tally.close(i):
            self._reissue.end(group, (i,))
            error = UnknownOutcome(needed=tally.need, acknowledged=tally.acknowledged(i), detail=detail)
            group.sinks[i].failed(group.indexes[i], error)

    def tick(self) -> None:
        """Ends what is past its deadline."""
        self._reissue.tick(2 * self._config.request_timeout_ms)
        expired: list[WriteGroup] = []
        for group in self._groups.values():
            if group.started_ms + self._config.request_timeout_ms > self._now.now_ms:
                break
            expired.append(group)
        for group in expired:
            self._groups.pop(group.id, None)
            for i in group.tally.unreached():
                self._fail(group, i)
        late_ms = self._now.now_ms - self._config.request_timeout_ms
        for key, group in [item for item in self._stale.items() if item[1].started_ms <= late_ms]:
            del self._stale[key]
            if key[0] in group.pending:
                self.missed(group, key[0], group.pending.pop(key[0]))
