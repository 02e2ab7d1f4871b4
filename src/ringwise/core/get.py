"""The path of a get (Dynamo, sections 4.5 and 4.6; rules R1, R3, B1, B2).

    get ─▶ own record ─▶ group (same owners, level, turn) ─▶ at its end: one frame of digests to each other owner R needs
    R answers ─▶ equal: answered   ─▶ different: merged (V1), answered, and the merged state brought to the owners (read repair)

An owner answers a digest only where its record differs, so agreement costs nine bytes a key and no decoding. At a level that
repairs (`strong`, `all`) the answer waits until enough owners hold the merged state, so that reads never go backwards (R3).
A read has no effect, so it may ask another owner at any time: when a link breaks, and when an answer is slow ("hedge").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ringwise.core import deltas, messages, rows, versions
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, NotReady, ReadNotAnswered, Replaced
from ringwise.core.keys import BUCKET_BYTES, key_of
from ringwise.core.lesson import teach
from ringwise.core.levels import QUORUM, Level
from ringwise.core.messages import Found, NodeId, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.quorum import Tally, take_part
from ringwise.core.ring import slot_of
from ringwise.core.sink import NOBODY, Nobody, Several, Sink
from ringwise.core.space import Space, Spaces
from ringwise.core.standins import StandIns
from ringwise.core.store import Store
from ringwise.core.topology import Topology

CATCH_UP_MS = 1_000.0
CAUGHT_UP_MAX = 10_000
LATELY_MAX = 16  # large collections of others that are kept
LATELY_BYTES_MAX = 64 * 1024 * 1024  # of memory, that all of them but the last may take

Spread = Callable[[int, bytes, bytes, int, Sink, int], None]


class ReadGroup:
    """Reads of one turn with the same owners and level, column by column."""

    __slots__ = (
        "_path",
        "asked",
        "differing",
        "frame",
        "hedges",
        "id",
        "indexed",
        "indexes",
        "level",
        "owned",
        "owners",
        "pending",
        "positions",
        "records",
        "repair",
        "rkeys",
        "serving",
        "sinks",
        "slots",
        "space",
        "standing_in",
        "started_ms",
        "stood_in",
        "tally",
        "unsynced",
    )

    def __init__(
        self, path: GetPath, owners: tuple[NodeId, ...], serving: tuple[NodeId, ...], need: int, repair: bool
    ) -> None:
        self._path = path
        self.owners = owners
        self.serving = serving  # those of them that have their data (T4): who is asked, and counts
        self.owned = path.me in serving
        self.space: Space | None = None  # the bucket of all of it; none where a row is fetched, of whatever bucket
        self.repair = repair
        self.standing_in = False  # this node, for an owner: what it holds counts, that it holds nothing does not
        self.stood_in: set[int] = set()  # positions that have an answer of a stand-in
        self.slots: list[int] = []
        self.rkeys: list[bytes] = []
        self.records: list[bytes] = []  # this node's own; b"" where it is no owner
        self.sinks: list[Sink] = []
        self.indexes: list[int] = []
        self.positions: dict[bytes, int] = {}  # by row key, of as many as are
        self.indexed = 0
        self.tally = Tally(0, need)
        self.id = 0
        self.started_ms = 0.0
        self.frame = b""
        self.asked: set[NodeId] = set()
        self.hedges = 0
        self.level: Level | None = None  # of clients' reads: they can be asked again from their start
        self.pending: dict[NodeId, set[int] | None] = {}  # None: has answered for no position yet
        self.differing: dict[int, list[bytes]] = {}  # by position: what others hold in place of our record
        self.unsynced = False  # our own answer waits for the disk

    def sharing(self, rkey: bytes, held: bytes) -> Several | None:
        """Who reads this key already, of the same state: one answer does for all."""
        for at in range(self.indexed, len(self.rkeys)):
            self.positions[self.rkeys[at]] = at
        self.indexed = len(self.rkeys)
        at = self.positions.get(rkey, -1)
        if at < 0 or self.records[at] is not held:
            return None
        first = self.sinks[at]
        if not isinstance(first, Several):
            first = self.sinks[at] = Several([(first, self.indexes[at], b"")])
        return first

    def lost(self, peer: NodeId) -> None:
        """A peer will not answer: ask another."""
        self.pending.pop(peer, None)
        self._path.ask_more(self)


def _counts(told: bytes, asked: bytes = b"") -> bool:
    """Whether what a stand-in holds is a copy: not where it is nothing, or only what was written while it stood in (V3). A delta
    says that it is what it was asked about, and more."""
    record = asked if deltas.is_delta(told) else told
    return bool(record) and not versions.is_part(record)


def _concerns(gone: frozenset[bytes] | None, group: ReadGroup) -> bool:
    return gone is None or (bool(group.rkeys) and group.rkeys[0][:BUCKET_BYTES] in gone)


class _Repaired(Nobody):
    """Answers a read once enough owners hold the state that it shows."""

    __slots__ = ("_index", "_sink", "_state")

    def __init__(self, sink: Sink, index: int, state: bytes) -> None:
        self._sink = sink
        self._index = index
        self._state = state

    def stored(self, index: int, record: bytes) -> None:
        self._sink.found(self._index, self._state)

    def failed(self, index: int, error: Failure) -> None:
        needed = getattr(error, "needed", 0)
        self._sink.failed(self._index, ReadNotAnswered(needed=needed, acknowledged=getattr(error, "acknowledged", 0)))


class GetPath:
    """Coordinates reads, on any node: an owner counts its own record as one answer."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        spaces: Spaces,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        reading: set[bytes],
        spread: Spread,
        stand_ins: StandIns,
    ) -> None:
        self.me = peers.me
        self._now = now
        self._cold = cold
        self._peers = peers
        self._topology = topology
        self._store = store
        self._find = store.find
        self._spaces = spaces
        self._row_key = spaces.home.row_key  # of the default bucket
        self._config = config
        self._reading = reading  # keys of open groups, shared with the put path (B1)
        self._spread = spread
        self._stand_ins = stand_ins
        self.behind_forwards: Callable[[bytes, Callable[[], None]], bool]  # set by the node: waits for them, if any
        self._open: dict[int, ReadGroup] = {}
        self._sealed: list[ReadGroup] = []  # since the last turn's end, waiting for our own answer to be durable
        self._groups: dict[int, ReadGroup] = {}  # unanswered, in order of age
        self._turn = 0
        self._lately: dict[bytes, rows.Rows] = {}
        self._caught_up: dict[bytes, float] = {}  # when an owner may be asked once more

    def get(self, key: bytes, level: Level, sink: Sink, index: int, space: Space | None = None) -> None:
        """Reads one key; the sink gets the merged record of R owners. No space: the default bucket."""
        slot = slot_of(key)
        set_index = self._topology.owner_set[slot]
        code = set_index << 20 | level.code
        if space is None:
            rkey = self._row_key(key)
        else:
            rkey = space.row_key(key)
            code |= space.code
        group = self._open.get(code)
        if group is None:
            group = self._open_group(code, set_index, level, sink, index, space)
            if group is None:
                return
        if group.owned:
            held = self._find(slot, rkey)
            if held is None:
                again = partial(self.get, key, level, sink, index, space)
                self._cold.load(slot, rkey, again, partial(sink.failed, index))
                return
            if group.tally.need == 1 and not group.repair:
                sink.found(index, held)
                return
        else:
            if self.behind_forwards(key, partial(self.get, key, level, sink, index, space)):
                return
            held = self._lately.get(rkey, b"")  # by which owners know what is news (core/rows.py)
            if group.standing_in:
                mine = self._find(slot, rkey)
                if mine is None:
                    again = partial(self.get, key, level, sink, index, space)
                    self._cold.load(slot, rkey, again, partial(sink.failed, index))
                    return
                held = mine
        if rkey in self._reading:
            shared = group.sharing(rkey, held)
            if shared is not None:
                shared.add(sink, index)
                return
        self._reading.add(rkey)
        group.slots.append(slot)
        group.rkeys.append(rkey)
        group.records.append(held)
        group.sinks.append(sink)
        group.indexes.append(index)

    def fetch(self, slot: int, rkey: bytes, sink: Sink, index: int) -> None:
        """Reads a key whose record this node has lost (S4) from so many others that none can hold what they all lack."""
        number = self._topology.owner_set[slot]
        owners = self._topology.sets[number]
        need = len(owners) - QUORUM.needed_reads(len(owners)) + 1
        group = ReadGroup(self, owners, self._topology.serving_sets[number], need, False)
        group.owned = False
        group.slots, group.rkeys, group.records = [slot], [rkey], [b""]
        group.sinks, group.indexes = [sink], [index]
        self._send(group)

    def catch_up(self, slot: int, rkey: bytes) -> None:
        """Asks another owner for what this one has missed of a large collection (V3), a second apart at least."""
        number, held = self._topology.owner_set[slot], self._find(slot, rkey)
        group = ReadGroup(self, self._topology.sets[number], self._topology.serving_sets[number], 2, False)
        if not group.owned or not held or self._now.now_ms < self._caught_up.get(rkey, 0.0):
            return
        if len(self._caught_up) >= CAUGHT_UP_MAX:
            self._caught_up.clear()
        self._caught_up[rkey] = self._now.now_ms + CATCH_UP_MS
        group.slots, group.rkeys, group.records = [slot], [rkey], [held]
        group.sinks, group.indexes = [NOBODY], [0]
        self._send(group)

    def follow(self, gone: frozenset[bytes] | None) -> None:
        """T5: these incarnations are void, or (None) slots have changed. Reads have no effect, so those that it is about begin
        again."""
        self._row_key = self._spaces.home.row_key
        groups = [group for group in (*self._groups.values(), *self._open.values()) if _concerns(gone, group)]
        again = set(map(id, groups))
        self._groups = {number: group for number, group in self._groups.items() if id(group) not in again}
        self._open = {code: group for code, group in self._open.items() if id(group) not in again}
        self._reading.difference_update(*(group.rkeys for group in groups if not group.id))
        for group in groups:
            left = group.tally.unreached() if group.id else range(len(group.slots))
            for i in left:
                if group.level is None:
                    self._fail(group, i)
                elif not group.id or group.tally.close(i):
                    self.get(key_of(group.rkeys[i]), group.level, group.sinks[i], group.indexes[i], group.space)

    def _open_group(
        self, code: int, set_index: int, level: Level, sink: Sink, index: int, space: Space | None
    ) -> ReadGroup | None:
        if not self._topology.epoch:
            sink.failed(index, NotReady("this node is in no cluster yet"))
            return None
        former = self._topology.former.get(self.me)
        if former is not None:
            sink.failed(index, Replaced(former.name, former.epoch))
            return None
        owners, serving = self._topology.sets[set_index], self._topology.serving_sets[set_index]
        try:
            level.check(len(owners))
            if space is not None:
                space.check()
        except Failure as error:
            sink.failed(index, error)
            return None
        need = level.needed_reads(len(owners))
        group = ReadGroup(self, owners, serving, need, level.repair)
        group.level, group.space = level, space
        up = len(self._peers.up(serving)) + group.owned
        if up < need and level.sloppy:
            able = self._stand_ins.able(owners, reading=True)
            group.standing_in = self.me in able
            up += len(able)
        if up < need:
            sink.failed(index, ReadNotAnswered(needed=need, acknowledged=up))
            return None
        self._open[code] = group
        return group

    # -- asking

    def seal_reads(self) -> None:
        """Closes the open groups and asks their other owners."""
        if not self._open:
            return
        groups, self._open = self._open, {}
        self._reading.clear()
        for group in groups.values():
            if group.slots:
                self._send(group)

    def _send(self, group: ReadGroup) -> None:
        group.tally = Tally(len(group.slots), group.tally.need)
        group.id = self._peers.next_id()
        group.started_ms = self._now.now_ms
        digests = [record[:8] if type(record) is bytes else self._digest_of(group, record) for record in group.records]
        synced = group.repair and self._store.sync_mode == "batch"
        group.frame = encode(messages.Read(group.id, self._topology.epoch, synced, group.slots, group.rkeys, digests))
        self._groups[group.id] = group
        if group.owned:
            if synced:
                group.unsynced = True
                self._sealed.append(group)
            else:
                self._count(group, ())
        elif group.standing_in:
            self._count_held(group, [i for i, record in enumerate(group.records) if _counts(record)])
        if group.tally.open:
            self.ask_more(group)

    def _digest_of(self, group: ReadGroup, record: bytes) -> bytes:
        """Of a collection that is held as rows: with those of its last states, unless all has to be repaired at once (R3)."""
        return record[:8] if group.repair else rows.digest_of(record)

    def ask_more(self, group: ReadGroup, extra: int = 0) -> None:
        """Asks as many further owners as may still be needed (and `extra`); fails what nobody can answer any more."""
        tally = group.tally
        unreached = tally.unreached()
        if not unreached:
            return
        fewest = min(tally.acknowledged(i) for i in unreached)
        missing = tally.need - fewest - len(group.pending) - group.unsynced + extra
        if missing > 0:
            self._turn += 1
            up = self._peers.up(group.serving)
            candidates = [owner for owner in up if owner not in group.asked]
            shift = self._turn % len(candidates) if candidates else 0
            candidates = candidates[shift:] + candidates[:shift]
            too_few = len(up) + group.owned < tally.need  # R2: else an owner is slow, which is no reason
            if too_few and group.level is not None and group.level.sloppy:
                able = self._stand_ins.able(group.owners, reading=True)
                candidates += [node for node in able if node != self.me and node not in group.asked]
            for owner in candidates:
                if self._peers.ask(owner, group, group.frame):
                    group.asked.add(owner)
                    group.pending[owner] = None
                    missing -= 1
                    if not missing:
                        break
        remaining = len(group.pending) + group.unsynced
        for i in unreached:
            if tally.acknowledged(i) + remaining < tally.need:
                self._fail(group, i)
        if not tally.open:
            self._groups.pop(group.id, None)

    @property
    def opened(self) -> bool:
        """Whether a group is open."""
        return bool(self._open)

    def take_sealed(self) -> list[ReadGroup]:
        """Groups whose own answer counts only once everything logged so far is synced (R3, sync mode `batch`)."""
        sealed, self._sealed = self._sealed, []
        return sealed

    def synced(self, groups: list[ReadGroup]) -> None:
        """This node's own answer for these groups is durable."""
        for group in groups:
            group.unsynced = False
            self._count(group, ())

    def unsyncable(self, groups: list[ReadGroup]) -> None:
        """The log has failed (S3): this node's own answer will never be durable, so others are asked instead."""
        for group in groups:
            group.unsynced = False
            self.ask_more(group)

    # -- answers

    def found(self, link: Link, message: Found) -> None:
        """An owner's answer, for all of a group or for a part."""
        peer = link.peer
        group = self._peers.request(peer, message.id)
        if not isinstance(group, ReadGroup) or peer not in group.pending:
            return
        if peer not in group.owners:
            self._found_by_stand_in(link, group, message)
        elif message.refused:
            self._refused(link, group, message)
        elif not message.positions and group.pending[peer] is None:
            del group.pending[peer]
            self._peers.answered(peer, group.id)
            for position, record in message.differing:
                group.differing.setdefault(position, []).append(record)
            self._count(group, ())
        else:
            self._count_part(peer, group, message)

    def _count_part(self, peer: NodeId, group: ReadGroup, message: Found) -> None:
        fresh = take_part(group.pending, peer, message.positions, len(group.slots))
        if peer not in group.pending:
            self._peers.answered(peer, group.id)
        for position, record in message.differing:
            if position in fresh:
                group.differing.setdefault(position, []).append(record)
        if fresh:
            self._count(group, fresh)

    def _found_by_stand_in(self, link: Link, group: ReadGroup, message: Found) -> None:
        """R2: what it holds counts; that it holds nothing does not, since it is no owner."""
        peer = link.peer
        fresh: Iterable[int] = message.positions
        if not message.refused and not message.positions and group.pending[peer] is None:
            del group.pending[peer]
            fresh = range(len(group.slots))
        elif message.positions:
            fresh = take_part(group.pending, peer, message.positions, len(group.slots))
        if message.refused:
            teach(self._peers, self._topology, link, {reason for _, reason in message.refused})
            group.pending.pop(peer, None)
        if peer not in group.pending:
            self._peers.answered(peer, group.id)
        differing = dict(message.differing)
        held = [i for i in fresh if _counts(differing.get(i, group.records[i]), group.records[i])]
        for i in held:
            if i in differing:
                group.differing.setdefault(i, []).append(differing[i])
        self._count_held(group, held)
        self.ask_more(group)

    def _count_held(self, group: ReadGroup, positions: Sequence[int]) -> None:
        if positions:
            group.stood_in.update(positions)
            self._count(group, positions)

    def _refused(self, link: Link, group: ReadGroup, message: Found) -> None:
        reasons = {reason for _, reason in message.refused}
        teach(self._peers, self._topology, link, reasons)
        if messages.BEHIND in reasons:
            self._peers.ask(link.peer, group, group.frame)
            return
        missing = group.pending.pop(link.peer)
        stale = {i for i, reason in message.refused if reason == messages.STALE and (missing is None or i in missing)}
        self._peers.answered(link.peer, group.id)  # also where stale: who has refused is not late
        if stale:  # it answers with its document, and then they begin again
            group.pending[link.peer] = stale
        fresh = [i for i in dict.fromkeys(message.positions) if missing is None or i in missing]
        for position, record in message.differing:
            if position in fresh:
                group.differing.setdefault(position, []).append(record)
        if fresh:
            self._count(group, fresh)
        self.ask_more(group)

    def _count(self, group: ReadGroup, positions: Sequence[int]) -> None:
        reached = group.tally.add(positions)
        if not reached:
            return
        if not group.tally.open:
            self._groups.pop(group.id, None)
        sinks, indexes, records = group.sinks, group.indexes, group.records
        for i in group.stood_in.intersection(reached) if group.stood_in else ():
            self._stand_ins.reads += 1
            self._stand_ins.counted(group.rkeys[i])
            group.sinks[i].stood_in(group.indexes[i])
        if not group.differing:
            for i in reached:
                sinks[i].found(indexes[i], records[i])
            return
        for i in reached:
            others = group.differing.get(i)
            if others is None:
                sinks[i].found(indexes[i], records[i])
            else:
                self._reconcile(group, i, others)

    def _reconcile(self, group: ReadGroup, i: int, others: list[bytes]) -> None:
        state = group.records[i]
        if not (group.owned or group.standing_in) and not self._is_confirmed(group, i, others):
            state = b""
        for record in others:
            state = versions.merge(state, record)
        if not group.owned:
            self._keep(group.rkeys[i], state)
        sink, index = group.sinks[i], group.indexes[i]
        if not group.owned and len(others) == group.tally.need and all(record == state for record in others):
            sink.found(index, state)  # a non-owner holds nothing: its owners agree with one another
        elif group.repair:
            repaired = _Repaired(sink, index, state)
            self._spread(group.slots[i], group.rkeys[i], state, group.tally.need, repaired, index)
        else:
            sink.found(index, state)
            # Of rows: who lags behind, by what is on its way, is left to that, and to repair.
            news = type(state) is bytes or (group.owned and state != group.records[i])
            if news and self._topology.formed and not self._store.failed:
                self._spread(group.slots[i], group.rkeys[i], state, 1, NOBODY, 0)

    def _is_confirmed(self, group: ReadGroup, i: int, others: list[bytes]) -> bool:
        """Whether an owner has answered by what this node had read before, which counts for nothing by itself."""
        return group.tally.acknowledged(i) > len(others) or any(map(deltas.is_delta, others))

    def _keep(self, rkey: bytes, state: bytes) -> None:
        """A large collection that this node owns no copy of: the next read of it asks for what is new."""
        held = rows.opened(state)
        if held is not None:
            self._lately.pop(rkey, None)
            self._lately[rkey] = held
            while len(self._lately) > 1 and (
                len(self._lately) > LATELY_MAX
                or sum(each.held_size for each in self._lately.values()) > LATELY_BYTES_MAX
            ):
                del self._lately[next(iter(self._lately))]

    # -- what does not reach its level

    def _fail(self, group: ReadGroup, i: int) -> None:
        tally = group.tally
        if tally.close(i):
            error = ReadNotAnswered(needed=tally.need, acknowledged=tally.acknowledged(i))
            group.sinks[i].failed(group.indexes[i], error)

    def tick(self) -> None:
        """Asks one more owner for what is slow, and ends what is past its deadline."""
        expired: list[ReadGroup] = []
        for group in self._groups.values():
            age_ms = self._now.now_ms - group.started_ms
            if age_ms < self._config.hedge_ms:
                break
            if age_ms >= self._config.request_timeout_ms:
                expired.append(group)
        for group in expired:
            self._groups.pop(group.id, None)
            for i in group.tally.unreached():
                self._fail(group, i)
        for group in list(self._groups.values()):
            age_ms = self._now.now_ms - group.started_ms
            if age_ms < self._config.hedge_ms:
                break
            if age_ms >= self._config.hedge_ms * (1 + group.hedges):
                group.hedges += 1
                self.ask_more(group, extra=1)
