"""Reaping (V8): what is deleted or expired goes for good, by proof and not by a clock.

The first owner of a slot looks for dead records in it, some thousand at a time, and then:

    1  all N owners hold them exactly so, or hold nothing, on their disks      no owner can bring back what they cover
    2  at that moment, the asker's clock says `stamp`; every member of the     nor can anybody who had read it, or kept it as a
       document answers once it has settled after it (core/settling.py)         hint, or was about to write it
    3  the owners drop them, where they are still the same; frames sent        nor a frame that was long on its way
       before `stamp` are refused from then on

A member that is away is waited for, however long: it may hold a hint, or the last copy of what was deleted. Nothing is lost by
waiting but space, and `status` names who is waited for.

A key that is written again meanwhile is not the same any more, and stays. Where one owner has dropped a record and another has
not, because a frame was lost, repair brings it back to the first, and it is reaped once more.

Why for each record, and not when the hash trees of a slot are equal: a slot that is written all the time never is.
Why no durable floor: what is refused by it can only come on a connection from before a restart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial

from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.keys import POSITION_BITS, key_of
from ringwise.core.lesson import teach
from ringwise.core.messages import Drop, Dropped, Message, NodeId, Reap, Reapable, Settle, Settled, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.reapable import Owner
from ringwise.core.ring import slot_of
from ringwise.core.scan import END
from ringwise.core.settling import Settling
from ringwise.core.store import Store
from ringwise.core.topology import Topology

PAGE_NAMES = 256  # a millisecond of the loop
CALM_PAGE_MS = 100.0  # between two pages: 2,500 names a second, one or two percent of a core
# In haste, a pause so many times as long as a page took: one that a worker reads from the disk holds the interpreter lock,
# for which every system call of the loop has to wait then.
HASTE_PAUSES = 8
HASTE_PAGE_MS = 25.0  # and no longer than this: what expires for hours is to be kept up with
MANY = 8  # dead records in a page: then the next one comes in haste
MANY_IN_ALL = 1_000  # in the pass before: then the next one comes at once, and all of its pages in haste
# That go together: the more, the fewer questions to settle; but to list them is one piece of work, of a millisecond.
ROUND_KEYS = 2_500
ROUND_WAIT_MS = 1_000.0  # for more of them, after the first
# One frame at a time for each owner: a millisecond for who gets it, and it may get as many from each other node. Much of
# that is what a frame takes, however few are in it.
FRAME_KEYS = 100
FRAME_PAUSE_MS = 30.0  # three ticks
DEADLINES = 10  # request timeouts that a round may take in each of its steps
PAUSE_MS = 2_000.0  # after a round that failed

LOOKING, CHECKING, SETTLING, DROPPING = range(4)


class _Record:
    """A dead record on its way."""

    __slots__ = ("digest", "owners", "rkey", "waits_for")

    def __init__(self, rkey: bytes, digest: bytes, owners: tuple[NodeId, ...]) -> None:
        self.rkey = rkey
        self.digest = digest
        self.owners = owners
        self.waits_for = set(owners)


class Reaping:
    """The rounds that this node begins, for the slots of which it is the first owner."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        clock: Clock,
        config: NodeConfig,
        now: Now,
        owner: Owner,
        settling: Settling,
        rng: random.Random,
    ) -> None:
        self.reaped = 0  # records that went, of those this node has looked for
        self.rounds = 0
        self.failed = 0  # rounds that ended early
        self.suspended = False  # no round is begun
        self.waits_for: list[NodeId] = []  # the members because of whom nothing can be reaped
        self._dead = 0  # of the pass under way
        self._dead_before = 0  # of the one before
        self._peers = peers
        self._topology = topology
        self._store = store
        self._clock = clock
        self._config = config
        self._now = now
        self._owner = owner
        self._settling = settling
        self._rng = rng
        self._step = LOOKING
        self._records: dict[bytes, _Record] = {}  # of the round under way, by row key
        self._found: dict[bytes, _Record] = {}  # for the next one
        self._first_ms = 0.0  # when the first of them was found
        self._number = 0  # of the round, so that nothing late is taken for its own
        self._epoch = 0
        self._deadline_ms = 0.0
        self._to_send: dict[NodeId, list[list[_Record]]] = {}
        self._next_frames_ms = 0.0
        self._asked: dict[tuple[NodeId, int], list[_Record]] = {}
        self._unsettled: set[NodeId] = set()
        self._own_turn = False  # to drop: the others have
        self._stamp = 0
        self._at = 0  # of the pass
        self._sweeping = False
        self._next_page_ms = 0.0
        self._asked_page_ms = 0.0
        self._not_before_ms = 0.0

    @property
    def waiting(self) -> int:
        """Dead records that wait, as far as this node has looked."""
        return max(self._dead, self._dead_before)

    @property
    def running(self) -> bool:
        """A round is under way."""
        return self._step != LOOKING

    # -- time

    def tick(self) -> None:
        """A small step."""
        topology = self._topology
        if not topology.formed or self._peers.me in topology.former or not self._config.reap_after_ms:
            return
        now_ms = self._now.now_ms
        if not (self.suspended or self._sweeping) and now_ms >= self._next_page_ms and len(self._found) < ROUND_KEYS:
            self._look()
        if self._step == LOOKING:
            enough = len(self._found) >= ROUND_KEYS or now_ms >= self._first_ms + ROUND_WAIT_MS
            if self._found and enough and now_ms >= self._not_before_ms and not self.suspended:
                self._begin()
            return
        if self._epoch != topology.epoch or now_ms > self._deadline_ms or self._store.failed:
            self._give_up({*self._unsettled, *(peer for peer, _ in self._asked), *self._to_send})
            return
        if now_ms >= self._next_frames_ms:
            self._next_frames_ms = now_ms + FRAME_PAUSE_MS
            for owner in list(self._to_send):
                self._send(owner)

    # -- looking

    def _look(self) -> None:
        self._sweeping = True
        self._asked_page_ms = self._now.now_ms
        swept = partial(self._swept, self._topology.epoch)
        if not self._store.sweep(self._at, END, PAGE_NAMES, self._mine(), self._owner.dead, swept):
            self._sweeping = False
            self._next_page_ms = self._now.now_ms + CALM_PAGE_MS

    def _mine(self) -> Callable[[int], bool]:
        owners, me = self._topology.owners, self._peers.me
        return lambda slot: owners[slot][0] == me

    def _swept(self, epoch: int, found: list[tuple[bytes, bytes]] | None, upto: int) -> None:
        self._sweeping = False
        now_ms = self._now.now_ms
        many = len(found or ()) >= MANY or self._dead_before >= MANY_IN_ALL
        in_haste = many and not self.waits_for
        took_ms = now_ms - self._asked_page_ms  # nothing, as long as memory has it all
        self._next_page_ms = now_ms + (min(HASTE_PAGE_MS, HASTE_PAUSES * took_ms) if in_haste else CALM_PAGE_MS)
        if epoch != self._topology.epoch:
            return
        if found is None:  # a damaged place: whoever reads it heals it, and the rest is not to wait for it
            upto = (self._at >> POSITION_BITS) + 1 << POSITION_BITS
        for rkey, digest in found or ():
            self._dead += 1
            if rkey not in self._records and len(self._found) < ROUND_KEYS:
                if not self._found:
                    self._first_ms = now_ms
                self._found[rkey] = _Record(rkey, digest, self._topology.owners[slot_of(key_of(rkey))])
        self._at = upto
        if upto >= END:
            self._at = 0
            self._dead_before, self._dead = self._dead, 0
            if not self._dead_before:
                self.waits_for = []
            # Many: some of them have waited for the rounds of the others.
            if self._dead_before < MANY_IN_ALL or self.waits_for:
                self._next_page_ms = now_ms + self._config.reap_interval_ms * self._rng.uniform(0.5, 1.5)

    # -- a round

    def _begin(self) -> None:
        topology, me = self._topology, self._peers.me
        away = sorted(node for node in topology.members if node != me and not self._peers.is_up(node))
        unfit = away or sorted(topology.filling)  # who was declared lost, and is up with its data, is a member as any
        if unfit or self._store.failed or self._store.overloaded:
            self._forget(unfit)
            return
        self._number += 1
        self._epoch = topology.epoch
        self._records, self._found = self._found, {}
        self._enter(CHECKING)
        for owner in self._owners():
            self._queue(owner)

    def _owners(self) -> list[NodeId]:
        return sorted({owner for record in self._records.values() for owner in record.owners})

    def _enter(self, step: int) -> None:
        self._step = step
        self._deadline_ms = self._now.now_ms + DEADLINES * self._config.request_timeout_ms
        self._asked, self._to_send = {}, {}

    def _queue(self, owner: NodeId) -> None:
        records = [record for record in self._records.values() if owner in record.owners]
        self._to_send[owner] = [records[at : at + FRAME_KEYS] for at in range(0, len(records), FRAME_KEYS)]

    def _send(self, owner: NodeId) -> None:
        link = self._peers.links.get(owner)
        if owner != self._peers.me and (link is None or not link.ready()):
            return
        records = self._to_send[owner].pop()
        if not self._to_send[owner]:
            del self._to_send[owner]
        number = self._peers.next_id()
        self._asked[owner, number] = records
        rkeys, digests = [record.rkey for record in records], [record.digest for record in records]
        if link is None:
            self._ask_own(number, rkeys, digests)
            return
        message: Message
        if self._step == CHECKING:
            message = Reap(number, self._epoch, rkeys, b"".join(digests))
        else:
            message = Drop(number, self._epoch, self._stamp, rkeys, b"".join(digests))
        # Not through `Peers.ask`: the answer may wait for the disk, and is no sign of life that others count on.
        self._peers.post(link, encode(message))

    def _ask_own(self, number: int, rkeys: list[bytes], digests: list[bytes]) -> None:
        me, step = self._peers.me, self._step
        if step == CHECKING:

            def told(positions: list[int]) -> None:
                records = self._answered(me, number, step)
                if records is not None:
                    self._told(me, records, positions)

            self._owner.look(rkeys, digests, told)
        else:

            def dropped() -> None:
                if self._answered(me, number, step) is not None:
                    self._has_dropped()

            self._owner.drop(rkeys, digests, self._stamp, dropped)

    def reapable(self, link: Link, message: Reapable) -> None:
        """An owner's answer: what may go as far as it is concerned."""
        records = self._answered(link.peer, message.id, CHECKING)
        if records is None:
            return
        if message.refused:
            self._refused(link, message.refused)
            return
        self._told(link.peer, records, message.positions)

    def _told(self, owner: NodeId, records: list[_Record], positions: Iterable[int]) -> None:
        for position in positions:
            if 0 <= position < len(records):
                records[position].waits_for.discard(owner)
        if not (self._asked or self._to_send):
            self._records = {rkey: record for rkey, record in self._records.items() if not record.waits_for}
            self._settle()

    def _settle(self) -> None:
        if not self._records:
            self._end(worked=True)
            return
        self._enter(SETTLING)
        clock = self._clock
        clock.last = self._stamp = clock.last + 1
        self._unsettled = set(self._topology.members)
        number = self._peers.next_id()
        frame = encode(Settle(number, self._epoch, self._stamp))
        for peer in sorted(self._unsettled):
            link = self._peers.links.get(peer)
            if link is not None:
                self._asked[peer, number] = []
                self._peers.post(link, frame)
        self._settling.ask(partial(self._has_settled, self._number, self._peers.me))

    def settled(self, link: Link, message: Settled) -> None:
        """A member has settled."""
        if self._answered(link.peer, message.id, SETTLING) is not None:
            self._has_settled(self._number, link.peer)

    def _has_settled(self, number: int, member: NodeId) -> None:
        if number != self._number or self._step != SETTLING:
            return
        self._unsettled.discard(member)
        if not self._unsettled:
            self._drop()

    def _drop(self) -> None:
        """The others first: while this node holds a record still, it finds it again if one of them does not get the frame."""
        self._enter(DROPPING)
        self._owner.floor = max(self._owner.floor, self._stamp)
        for owner in self._owners():
            if owner != self._peers.me:
                self._queue(owner)
        if not self._to_send:
            self._own_turn = True
            self._queue(self._peers.me)

    def dropped(self, link: Link, message: Dropped) -> None:
        """An owner has dropped them."""
        if self._answered(link.peer, message.id, DROPPING) is None:
            return
        if message.refused:
            self._refused(link, message.refused)
        else:
            self._has_dropped()

    def _has_dropped(self) -> None:
        if self._asked or self._to_send:
            return
        if not self._own_turn:
            self._own_turn = True
            self._queue(self._peers.me)
            return
        self.reaped += len(self._records)
        self._dead = max(0, self._dead - len(self._records))
        self._end(worked=True)

    # -- its end

    def _answered(self, owner: NodeId, number: int, step: int) -> list[_Record] | None:
        if self._step != step:
            return None
        return self._asked.pop((owner, number), None)

    def _refused(self, link: Link, reason: int) -> None:
        teach(self._peers, self._topology, link, {reason})
        self._give_up({link.peer})

    def _give_up(self, waited_for: set[NodeId]) -> None:
        self.waits_for = sorted(waited_for & set(self._topology.members) - {self._peers.me})
        self._end(worked=False)

    def _forget(self, waited_for: list[NodeId]) -> None:
        """Nothing can be reaped now: what was found is found again."""
        self.waits_for = waited_for
        self._found = {}
        self._not_before_ms = self._now.now_ms + PAUSE_MS

    def _end(self, *, worked: bool) -> None:
        self.rounds += worked
        self.failed += not worked
        if worked:
            self.waits_for = []
        else:
            self._not_before_ms = self._now.now_ms + PAUSE_MS * self._rng.uniform(0.5, 1.5)
        self._enter(LOOKING)
        self._number += 1
        self._records, self._unsettled, self._own_turn = {}, set(), False
