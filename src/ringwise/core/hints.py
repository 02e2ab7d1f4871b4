"""Hinted handoff (Dynamo, section 4.6; rule R4): what an owner missed is noted, and brought to it when it is back.

    a write ─▶ the owner is down, its link breaks, it is silent past the deadline, it refuses ─▶ hint (owner, key), in the log
    owner up again ─▶ the key's present state, as one more replicated write ─▶ acknowledged ─▶ hint forgotten

A hint does not keep the value: it names the owner and the key, and what is handed over is whatever state this node then holds,
by ordinary merge. A thousand writes to one key are one hint.

A coordinator is an owner itself, and its hints do not count towards W: its own copy has been counted, and the two are on one
disk. A stand-in (standins.py) is no owner: its copy is there for the hint's sake, counts, and goes with the hint.

A hint is a row of a bucket of its own, under owner and row key, so commit log, memtable and engine keep it as they keep records.
In memory there is an index of all of them, made anew in the background after a start.

Invariants
* A hint is in the log in the turn in which its owner is found missing; it is forgotten only when that owner has acknowledged a
  state that this node held after the hint was last renewed.
* Handing over is bounded in bytes under way and bytes a second, divided by the number of nodes that may do so at once, and goes
  out in ticks, behind the requests of the turn. What is not acknowledged waits a jittered pause and is sent again.
* There is a limit on hints. Past it a stand-in refuses; what has counted is never dropped. A coordinator's are dropped and told,
  and repair brings the rest (R5).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from ringwise.core import messages, record, versions
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, Overloaded
from ringwise.core.keys import BUCKET_BYTES, POSITION_BITS, Bucket, key_of
from ringwise.core.lesson import teach
from ringwise.core.messages import NodeId, Written, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.quorum import take_part
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.space import Spaces
from ringwise.core.store import Store
from ringwise.core.topology import NODE_ID_BYTES, Topology

BUCKET = Bucket(0xFFFF, 0)  # behind every bucket of users, and of one incarnation for ever
# A row must hold a record: this one says nothing, and is the same for every hint.
_ACTOR = bytes(record.ACTOR_BYTES)
MARK = record.encode(
    record.Record([(_ACTOR, 1)], [], [record.Sibling(_ACTOR, 1, 0, 0, 0, "", False, b"")]),
)
_MARK_DIGEST = MARK[: record.CHECKSUM_BYTES]

FRAME_BYTES = 64 * 1024  # of states in one frame of a handover: a fraction of a millisecond for the receiver
FRAME_KEYS = 500
COLD_MAX = 256  # keys that are loaded for handing over at once
SLOTS_LOADED = 64  # looked at in one step after a start: a millisecond where the memtable is full
NAMES_LOADED = 1000
LOAD_TRIES_MAX = 20  # ticks, for a range of the index that cannot be read


class Handover:
    """One frame of a handover; a request to a peer (core/peers.py)."""

    __slots__ = (
        "_path",
        "id",
        "noted",
        "owner",
        "pending",
        "rkeys",
        "sequences",
        "size",
        "started_ms",
    )

    def __init__(
        self, path: HintPath, owner: NodeId, noted: NodeId, rkeys: list[bytes], sequences: list[int], size: int
    ) -> None:
        self._path = path
        self.owner = owner
        self.noted = noted  # for whom it was kept: the owner, or whom that has replaced
        self.rkeys = rkeys
        self.sequences = sequences
        self.size = size
        self.id = 0
        self.started_ms = 0.0
        self.pending: dict[NodeId, set[int] | None] = {owner: None}

    def lost(self, peer: NodeId) -> None:
        """The owner will not answer."""
        self._path.failed(self)


class _Owner:
    """What is kept for one owner."""

    __slots__ = ("allowance", "in_flight", "not_before_ms", "sequences", "waiting")

    def __init__(self) -> None:
        self.sequences: dict[bytes, int] = {}  # by row key: when it was last renewed
        self.waiting: deque[bytes] = deque()  # those that are neither under way nor being loaded
        self.in_flight = 0  # bytes
        self.allowance = 0.0  # bytes that may be sent now
        self.not_before_ms = 0.0


class HintPath:
    """Keeps hints for owners that missed a write, and hands them over."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        spaces: Spaces,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        clock: Clock,
        chunks: list[bytes],
        rng: random.Random,
    ) -> None:
        self._peers = peers
        self._topology = topology
        self._store = store
        self._live = spaces.live  # changed in place
        self._config = config
        self._now = now
        self._cold = cold
        self._clock = clock
        self._chunks = chunks
        self._rng = rng
        self._owners: dict[NodeId, _Owner] = {}
        self._rows: list[tuple[int, bytes, bytes, bytes]] = []  # for the log: slot, row key, base, record
        self._sequence = 0
        self._loading = 0
        self._ticked_ms = 0.0
        self._load_from = 0  # the slot from which on the index is still to be made
        self._asked = False
        self._load_tries = 0
        self._load_step = SLOTS_LOADED
        self._checking = 0  # hints whose rows are being loaded
        # Copies of a stand-in that wait to be dropped, and for whom they were kept: these rows go with them, at once.
        self._unneeded: dict[bytes, set[NodeId]] = {}
        self._fetching: set[bytes] = set()  # of these copies, from the disk
        self._unreadable: set[bytes] = set()
        self._void: list[tuple[NodeId, dict[bytes, int]]] = []
        self.writing: Callable[[], bool] = lambda: False  # set by the node: a group of writes is open
        self.retire: Callable[[bytes], None] = lambda _: None  # set by the node: a record is dropped (V2)
        self.waiting = 0
        self.kept = 0
        self.handed_over = 0
        self.bytes = 0  # sent, of row keys and states
        self.sent_again = 0
        self.dropped = 0
        self.unreadable = 0  # ranges of the index that the disk does not give back

    @property
    def ready(self) -> bool:
        """Whether the index of what was kept before the start is whole."""
        return self._load_from >= SLOTS and not (self._checking or self.unreadable)

    @property
    def settled(self) -> bool:
        """Nothing is kept for anybody, and no copy of a stand-in is left (V8)."""
        return self.ready and not (self.waiting or self._unneeded)

    # -- keeping

    def room(self, count: int = 1) -> bool:
        """Whether so many more hints can be kept."""
        store = self._store
        return self.waiting + count <= self._config.hints_max and not (store.failed or store.overloaded)

    def room_for(self, owner: NodeId, rkeys: Sequence[bytes]) -> bool:
        """Whether these keys can be kept for an owner: what is kept for it already takes no room."""
        kept = self._owners.get(owner)
        held = kept.sequences if kept is not None else {}
        return self.room(sum(rkey not in held for rkey in rkeys))

    def keep(self, owner: NodeId, rkeys: Iterable[bytes], counted: bool = False) -> None:
        """These keys have a state here that the owner has not acknowledged. What is `counted` towards W, by a stand-in that asked
        for `room` before, is never dropped."""
        present = self._topology.present(owner)
        if present is None:
            return
        owner = present
        kept = self._owners.get(owner)
        if kept is None:
            kept = self._owners[owner] = _Owner()
        sequences = kept.sequences
        for rkey in rkeys:
            if rkey[:BUCKET_BYTES] not in self._live:
                continue  # of a dead incarnation (T5)
            self._sequence += 1
            if rkey in sequences:
                sequences[rkey] = self._sequence
            elif rkey in self._unneeded and owner in self._unneeded[rkey]:  # its row is there still
                self._unneeded[rkey].discard(owner)
                self._remember(kept, rkey)
                self.kept += 1
            elif not counted and not self.room():
                self.dropped += 1
            else:
                self._remember(kept, rkey)
                self.kept += 1
                self._log(owner, rkey, b"", MARK)

    def hints_of(self, rkey: bytes) -> list[NodeId]:
        """The owners for whom this key waits here."""
        present = self._topology.present
        return [present(noted) or noted for noted, kept in self._owners.items() if rkey in kept.sequences]

    def waiting_for(self) -> dict[NodeId, int]:
        """How many keys wait for each owner."""
        waiting: dict[NodeId, int] = {}
        for noted, kept in self._owners.items():
            if kept.sequences:
                owner = self._topology.present(noted) or noted
                waiting[owner] = waiting.get(owner, 0) + len(kept.sequences)
        return waiting

    def seal(self) -> None:
        """The end of a turn, its groups sealed: what is new, or forgotten, goes into the log with the turn's writes."""
        if self._unneeded and self.ready and not self.writing():
            self._drop_copies()
        if self._rows:
            # Before the copies of this turn: a log that is torn between the two has no copy that nobody knows of.
            self._chunks.insert(0, messages.encode_rows(self._rows))
            self._rows = []

    def follow(self, gone: frozenset[bytes]) -> None:
        """T5: these incarnations are void, and so are their hints."""
        rows: dict[NodeId, dict[bytes, int]] = {}
        for rkey in [rkey for rkey in self._unneeded if rkey[:BUCKET_BYTES] in gone]:
            for owner in self._unneeded.pop(rkey):
                rows.setdefault(owner, {})[rkey] = 0
        self._void += rows.items()
        for owner, kept in self._owners.items():
            void = {rkey: number for rkey, number in kept.sequences.items() if rkey[:BUCKET_BYTES] in gone}
            if void:  # there may be a million: their rows go little by little
                self._void.append((owner, void))
                self.waiting -= len(void)
                if len(void) == len(kept.sequences):
                    kept.sequences = {}
                    kept.waiting.clear()
                else:
                    for rkey in void:
                        del kept.sequences[rkey]

    def _redirect(self, owner: NodeId, kept: _Owner, rkey: bytes) -> None:
        """R4: a hint is for the slot's present owners, who are others now. It may have counted, so none of them is left out."""
        for present in self._topology.owners[slot_of(key_of(rkey))]:
            if present != self._peers.me:
                self.keep(present, [rkey], True)
        self._forget(owner, kept, rkey)

    def _remember(self, kept: _Owner, rkey: bytes) -> None:
        kept.sequences[rkey] = self._sequence
        kept.waiting.append(rkey)
        self.waiting += 1

    def _forget(self, owner: NodeId, kept: _Owner, rkey: bytes) -> None:
        del kept.sequences[rkey]
        self.waiting -= 1
        if self._peers.me in self._topology.owners[slot_of(key_of(rkey))] or rkey[:BUCKET_BYTES] not in self._live:
            self._log(owner, rkey, _MARK_DIGEST, b"")
        else:
            self._unneeded.setdefault(rkey, set()).add(owner)

    def _drop_copies(self) -> None:
        """A stand-in's copies go with their last hints: which is certain only when all hints are known, and no group is open that
        has written such a copy anew and keeps its hint when it is sealed. Until then the rows of the hints stay in the log, or
        after a restart nobody would know that the copy is not needed."""
        unneeded, self._unneeded = self._unneeded, {}
        for rkey, noted in unneeded.items():
            slot = slot_of(key_of(rkey))
            held = self._store.find(slot, rkey)
            if held is None and rkey not in self._unreadable:
                self._unneeded[rkey] = noted  # V2: which of its dots are this node's own must be known first
                self._fetch(slot, rkey)
                continue
            for owner in noted:
                self._log(owner, rkey, _MARK_DIGEST, b"")
            self._unreadable.discard(rkey)
            hinted = any(rkey in kept.sequences for kept in self._owners.values())
            if held == b"" or hinted or self._store.failed or self._peers.me in self._topology.owners[slot]:
                continue
            base = None if held is None else held[: record.CHECKSUM_BYTES]
            self.retire(held or b"")
            self._store.put(slot, rkey, base, b"")
            self._rows.append((slot, rkey, base or b"", b""))

    def _fetch(self, slot: int, rkey: bytes) -> None:
        if rkey in self._fetching:
            return
        self._fetching.add(rkey)

        def known(error: Failure | None = None) -> None:
            self._fetching.discard(rkey)
            # Lost, and so is the incarnation (core/cold.py).
            if error is not None and not isinstance(error, Overloaded):
                self._unreadable.add(rkey)

        self._cold.load(slot, rkey, known, known)

    def _clear_void(self) -> None:
        """The rows of hints that a flush has made void."""
        owner, sequences = self._void[-1]
        for _ in range(min(FRAME_KEYS, len(sequences))):
            self._log(owner, sequences.popitem()[0], _MARK_DIGEST, b"")
        if not sequences:
            self._void.pop()

    def _log(self, owner: NodeId, rkey: bytes, base: bytes, mark: bytes) -> None:
        if self._store.failed:
            return
        key = owner + rkey
        slot, row = slot_of(key), BUCKET.row_key(key)
        self._store.put(slot, row, base, mark)
        self._rows.append((slot, row, base, mark))

    # -- handing over

    def tick(self) -> None:
        """Goes on with the index after a start, and sends what may be sent now."""
        now_ms = self._now.now_ms
        passed_ms, self._ticked_ms = min(now_ms - self._ticked_ms, 100.0), now_ms
        if self._load_from < SLOTS and not self._asked:
            self._load()
        if self._void:
            self._clear_void()
        if not self.waiting:
            return
        senders = max(1, len(self._topology.members) - 1)
        fresh = self._config.hint_bytes_per_s / senders * passed_ms / 1000
        for noted, kept in list(self._owners.items()):
            owner = self._topology.present(noted) or noted  # T4: its place, and what waits for it, is another's now
            kept.allowance = min(kept.allowance + fresh, FRAME_BYTES)
            if owner not in self._topology.members:
                for rkey in list(islice(kept.sequences, FRAME_KEYS)):
                    self._redirect(noted, kept, rkey)
            if kept.waiting and now_ms >= kept.not_before_ms and self._peers.is_up(owner):
                while kept.waiting and kept.allowance > 0 and kept.in_flight < self._config.hint_bytes_in_flight_max:
                    if not self._hand_over(noted, owner, kept):
                        break

    def _hand_over(self, noted: NodeId, owner: NodeId, kept: _Owner) -> bool:
        """Sends one frame, of one incarnation (T5); False where there is nothing to send just now."""
        prefix = b""
        others: list[bytes] = []
        slots: list[int] = []
        rkeys: list[bytes] = []
        states: list[bytes] = []
        size = 0
        for _ in range(min(FRAME_KEYS, len(kept.waiting))):
            if size >= FRAME_BYTES:
                break
            rkey = kept.waiting.popleft()
            if rkey not in kept.sequences:
                continue
            prefix = prefix or rkey[:BUCKET_BYTES]
            if rkey[:BUCKET_BYTES] != prefix:
                others.append(rkey)
                continue
            slot = slot_of(key_of(rkey))
            if owner not in self._topology.owners[slot]:
                self._redirect(noted, kept, rkey)
                continue
            state = self._store.find(slot, rkey)
            if state is None:
                if self._loading >= COLD_MAX:
                    kept.waiting.append(rkey)
                    break
                self._loading += 1
                again = partial(self._loaded, kept, rkey)
                self._cold.load(slot, rkey, again, partial(self._not_loaded, kept, rkey))
            elif not state:
                self._forget(noted, kept, rkey)
            else:
                slots.append(slot)
                rkeys.append(rkey)
                states.append(state)
                size += record.size_of(state) + len(rkey)
        kept.waiting.extend(others)
        if not rkeys:
            return bool(others)
        handover = Handover(self, owner, noted, rkeys, [kept.sequences[rkey] for rkey in rkeys], size)
        handover.id = self._peers.next_id()
        handover.started_ms = self._now.now_ms
        chunk = messages.encode_chunk(slots, rkeys, [record.UNKNOWN] * len(slots), states)
        frame = encode(messages.Write(handover.id, self._topology.epoch, self._stamp_of(states), chunk))
        kept.in_flight += size
        self.bytes += size
        kept.allowance -= size
        if not self._peers.ask(owner, handover, frame):
            self.failed(handover)
            return False
        return True

    def _stamp_of(self, states: Sequence[bytes]) -> int:
        return max(self._clock.last, *map(versions.max_stamp, states))

    def _loaded(self, kept: _Owner, rkey: bytes) -> None:
        self._loading -= 1
        kept.waiting.appendleft(rkey)

    def _not_loaded(self, kept: _Owner, rkey: bytes, _error: Failure) -> None:
        self._loading -= 1
        kept.waiting.append(rkey)
        self._pause(kept)

    def written(self, link: Link, message: Written) -> None:
        """An owner's answer, if it belongs to a handover."""
        handover = self._peers.request(link.peer, message.id)
        if not isinstance(handover, Handover) or link.peer not in handover.pending:
            return
        teach(self._peers, self._topology, link, {reason for _, reason in message.refused})
        if message.positions or not message.refused:
            fresh = take_part(handover.pending, link.peer, message.positions, len(handover.rkeys))
            self._acknowledged(handover, fresh)
        if message.refused:
            self._peers.answered(link.peer, handover.id)
            self.failed(handover)
        elif link.peer not in handover.pending:
            self._peers.answered(link.peer, handover.id)
            self._owners[handover.noted].in_flight -= handover.size

    def _acknowledged(self, handover: Handover, positions: Iterable[int]) -> None:
        kept = self._owners[handover.noted]
        for position in positions:
            rkey = handover.rkeys[position]
            sequence = kept.sequences.get(rkey)
            if sequence is None:
                continue
            if sequence == handover.sequences[position]:
                self._forget(handover.noted, kept, rkey)
                self.handed_over += 1
            else:
                kept.waiting.append(rkey)  # written again meanwhile, and missed again

    def failed(self, handover: Handover) -> None:
        """What was not acknowledged waits, and is sent again."""
        kept = self._owners[handover.noted]
        left = handover.pending.pop(handover.owner, set())
        positions = range(len(handover.rkeys)) if left is None else sorted(left)
        again = [handover.rkeys[position] for position in positions if handover.rkeys[position] in kept.sequences]
        kept.waiting.extend(again)
        self.sent_again += len(again)
        kept.in_flight -= handover.size
        self._pause(kept)

    def _pause(self, kept: _Owner) -> None:
        pause_ms = self._config.hint_pause_ms
        kept.not_before_ms = self._now.now_ms + pause_ms * self._rng.uniform(0.5, 1.5)

    # -- after a start

    def _load(self) -> None:
        """The next slots' hints, from the log and the engine."""
        end = min(self._load_from + self._load_step, SLOTS) << POSITION_BITS
        self._load_range(self._load_from << POSITION_BITS, end)

    def _named(self, end: int, names: list[tuple[int, bytes]] | None, upto: int) -> None:
        self._asked = False
        if names is None:  # the disk could not be read
            self._load_tries += 1
            if self._load_tries >= LOAD_TRIES_MAX:  # a damaged place: the hints behind it are not to wait for it
                self._load_tries = 0
                if self._load_step == 1:
                    self._load_from += 1
                    self.unreadable += 1
                self._load_step = 1
            return
        self._load_tries = 0
        for position, key in names:
            self._check(position >> POSITION_BITS, key)
        if upto >= end:
            self._load_from = end >> POSITION_BITS
            self._load_step = SLOTS_LOADED if self._load_from % SLOTS_LOADED == 0 else self._load_step
        else:
            self._load_range(upto, end)

    def _load_range(self, start: int, end: int) -> None:
        self._asked = True  # before the names come, which may be at once
        if not self._store.names(BUCKET.prefix, start, end, NAMES_LOADED, partial(self._named, end)):
            self._asked = False

    def _check(self, slot: int, key: bytes) -> None:
        """A name may be that of a hint that was forgotten."""
        row = BUCKET.row_key(key)
        held = self._store.find(slot, row)
        if held is not None:
            self._found(slot, row, key)
        elif self._store.load(slot, row, partial(self._checked, slot, row, key)):
            self._checking += 1
        else:
            self._found(slot, row, key)  # too many wait: to hand over once too often does no harm

    def _checked(self, slot: int, row: bytes, key: bytes) -> None:
        self._checking -= 1
        self._found(slot, row, key)

    def _found(self, slot: int, row: bytes, key: bytes) -> None:
        if self._store.find(slot, row) == b"":
            return
        owner, rkey = key[:NODE_ID_BYTES], key[NODE_ID_BYTES:]
        kept = self._owners.setdefault(owner, _Owner())
        if rkey not in kept.sequences:
            self._sequence += 1
            self._remember(kept, rkey)
            if rkey[:BUCKET_BYTES] not in self._live:
                self._forget(owner, kept, rkey)
