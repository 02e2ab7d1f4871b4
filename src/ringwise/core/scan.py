"""Scans: the keys that are there, page by page, over all slots and whatever moves meanwhile (rules S1, R2, T5).

    scan(cursor, count) ─▶ names behind the cursor ─▶ from R owners of every slot ─▶ union, below the least of the ended-at
                                                                                          │
    done(Page) ◀─ those that are alive ◀─ ordinary reads at the level (core/get.py) ◀─────┘

A cursor is a position: slot and hash48 of a key, one number of 62 bits (core/keys.py). It depends on nothing but the key, so it
means the same to every node, after every restart and every move, and holds no state on any of them. 0 begins and 0 ends.

Invariants
* A key that is there throughout is never missed. W owners hold what was acknowledged, R of the same slot's owners name what they
  hold, and R + W > N; names are all of them below the least position that the R answers reach, and the next page begins there.
  Keys of one position are never parted.
* Owners name what they hold, deleted keys too: only a read at the level tells what is alive, and shows it as a GET would.
* The cursor moves on with every page, also where nothing on it is alive.
* Answers count under one table of owners (T5): who is behind is taught, who is ahead refuses, and where the table has changed
  before the names are complete, they are asked for again.

What is written or deleted during a scan may be shown or not. The same key may be shown again only if a page is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from ringwise.core import messages, versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, NoSuchBucket, NotReady, Overloaded, ReadNotAnswered, Replaced
from ringwise.core.keys import POSITION_BITS, position_of
from ringwise.core.lesson import teach
from ringwise.core.levels import Level
from ringwise.core.messages import NodeId, Scanned, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.preference import is_first
from ringwise.core.record import size_of
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.sink import Nobody, Sink
from ringwise.core.space import Space, Spaces
from ringwise.core.store import Store
from ringwise.core.topology import Topology

END = SLOTS << POSITION_BITS  # behind every key

# Above so many members a page asks only the owners of some slots, or each page would trouble everybody.
MEMBERS_ASKED_MAX = 8
SLOTS_ASKED = 512
# Records of a page are held until it is answered: few are read at first, then as many as their size allows.
FIRST_READS = 32
PAGE_BYTES = 1024 * 1024

Names: TypeAlias = list[tuple[int, bytes]]
Get: TypeAlias = Callable[[bytes, Level, Sink, int, Space], None]


class Page(NamedTuple):
    """`cursor` goes on behind it, 0: there is nothing more. `found`: (key, merged record) of what is alive, by position."""

    cursor: int
    found: list[tuple[bytes, bytes]]


Done: TypeAlias = Callable[[Page | Failure], None]


class _Scan:
    """One page in the making."""

    __slots__ = (
        "count",
        "cursor",
        "deadline_ms",
        "done",
        "first_only",
        "found",
        "level",
        "names",
        "size",
        "space",
        "upto",
    )

    def __init__(
        self, cursor: int, count: int, level: Level, done: Done, first_only: bool, deadline_ms: float, space: Space
    ) -> None:
        self.space = space
        self.cursor = cursor
        self.count = count
        self.level = level
        self.done = done
        self.first_only = first_only
        self.deadline_ms = deadline_ms
        self.names: Names = []  # still to be read
        self.upto = 0  # where they end
        self.found: list[tuple[bytes, bytes]] = []
        self.size = 0  # bytes of the records read


class _Asked:
    """The question for the names of a page, and who has answered it; a request to peers (core/peers.py)."""

    __slots__ = (
        "_path",
        "answered",
        "asked",
        "bucket",
        "end",
        "epoch",
        "frame",
        "hedges",
        "id",
        "names",
        "needs",
        "pending",
        "scan",
        "started_ms",
        "upto",
    )

    def __init__(self, path: ScanPath, scan: _Scan, needs: list[tuple[tuple[NodeId, ...], int]], end: int) -> None:
        self._path = path
        self.scan = scan
        self.needs = needs  # sets of owners of the slots in question, and how many of each must answer
        self.end = end
        self.upto = end
        self.names: set[tuple[int, bytes]] = set()
        self.answered: set[NodeId] = set()
        self.pending: set[NodeId] = set()
        self.asked: set[NodeId] = set()
        self.hedges = 0
        self.id = 0
        self.epoch = 0
        self.bucket = b""  # its incarnation, when it was asked
        self.frame = b""
        self.started_ms = 0.0

    def lost(self, peer: NodeId) -> None:
        """A peer will not answer: ask another."""
        self.pending.discard(peer)
        self._path.ask_more(self)


class ScanPath:
    """Coordinates scans on any node, and names keys to those who do."""

    def __init__(
        self, peers: Peers, topology: Topology, store: Store, spaces: Spaces, config: NodeConfig, now: Now, get: Get
    ) -> None:
        self._me = peers.me
        self._peers = peers
        self._topology = topology
        self._store = store
        self._spaces = spaces
        self._config = config
        self._now = now
        self._get = get
        self._asking: dict[int, _Asked] = {}
        self._turn = 0
        # B3: the names of a page fit one frame.
        self.count_max = max(1, config.frame_bytes_max // (config.key_bytes_max + 8))

    def scan(
        self,
        cursor: int,
        count: int,
        level: Level,
        done: Done,
        first_only: bool = False,
        space: Space | None = None,
    ) -> None:
        """The page at a cursor, of about `count` keys, dead ones included; `done` is called once, at once or in a later turn.

        `first_only`: only slots of which this node is the first live owner, so that the pages of all nodes make up the whole.
        """
        if cursor >= END:
            done(Page(0, []))
            return
        deadline_ms = self._now.now_ms + self._config.request_timeout_ms
        space = space or self._spaces.home
        self._begin(_Scan(cursor, max(1, min(count, self.count_max)), level, done, first_only, deadline_ms, space))

    # -- names

    def _begin(self, scan: _Scan) -> None:
        topology = self._topology
        if not topology.epoch:
            scan.done(NotReady("this node is in no cluster yet"))
            return
        former = topology.former.get(self._me)
        if former is not None:
            scan.done(Replaced(former.name, former.epoch))
            return
        if scan.space.gone:
            scan.done(NoSuchBucket(scan.space.label))
            return
        first, last = scan.cursor >> POSITION_BITS, SLOTS
        if len(topology.members) > MEMBERS_ASKED_MAX:
            last = min(SLOTS, first + SLOTS_ASKED)
        sets = sorted(set(topology.owner_set[first:last])) if len(topology.sets) > 1 else [0]
        needs: list[tuple[tuple[NodeId, ...], int]] = []
        for number in sets:
            owners, serving = topology.sets[number], topology.serving_sets[number]
            try:
                scan.level.check(len(owners))
            except Failure as error:
                scan.done(error)
                return
            if not scan.first_only or self._me in serving:
                needs.append((serving, scan.level.needed_reads(len(owners))))
        self._ask(_Asked(self, scan, needs, last << POSITION_BITS))

    def _ask(self, asked: _Asked) -> None:
        scan, store = asked.scan, self._store
        bucket = asked.bucket = scan.space.prefix
        asked.id = self._peers.next_id()
        asked.epoch = self._topology.epoch
        asked.started_ms = self._now.now_ms
        asked.frame = encode(messages.Scan(asked.id, asked.epoch, bucket, scan.cursor, asked.end, scan.count))
        self._asking[asked.id] = asked
        if any(self._me in owners for owners, _ in asked.needs):
            asked.asked.add(self._me)
            asked.pending.add(self._me)
            if not store.names(bucket, scan.cursor, asked.end, scan.count, partial(self._own, asked)):
                self._fail(asked, Overloaded("scan", self._config.cold_queue_max))
        self.ask_more(asked)

    def ask_more(self, asked: _Asked, extra: int = 0) -> None:
        """Asks further owners (and `extra`) of each set that lacks answers; ends the scan where too few can answer."""
        if asked.id not in self._asking:
            return
        self._turn += 1
        lacking = False
        for owners, need in asked.needs:
            had = sum(owner in asked.answered for owner in owners)
            if had >= need:
                continue
            lacking = True
            due = sum(owner in asked.pending for owner in owners)
            if had + due < need + extra:
                due += self._ask_owners(asked, owners, need + extra - had - due)
            if had + due < need:
                self._fail(asked, ReadNotAnswered(needed=need, acknowledged=had))
                return
        if not lacking:
            self._named(asked)

    def _ask_owners(self, asked: _Asked, owners: tuple[NodeId, ...], missing: int) -> int:
        candidates = [owner for owner in self._peers.up(owners) if owner not in asked.asked]
        shift = self._turn % len(candidates) if candidates else 0
        count = 0
        for owner in candidates[shift:] + candidates[:shift]:
            if count == missing:
                break
            if self._peers.ask(owner, asked, asked.frame):
                asked.asked.add(owner)
                asked.pending.add(owner)
                count += 1
        return count

    def _own(self, asked: _Asked, names: Names | None, upto: int) -> None:
        asked.pending.discard(self._me)
        if names is not None:
            self._count(asked, self._me, names, upto)
        self.ask_more(asked)

    def _count(self, asked: _Asked, owner: NodeId, names: Names, upto: int) -> None:
        asked.answered.add(owner)
        asked.names.update(names)
        asked.upto = min(asked.upto, upto)

    def scanned(self, link: Link, message: Scanned) -> None:
        """An owner's answer."""
        peer = link.peer
        asked = self._peers.request(peer, message.id)
        if not isinstance(asked, _Asked) or peer not in asked.pending:
            return
        teach(self._peers, self._topology, link, {message.refused})
        if message.refused == messages.BEHIND:
            self._peers.ask(peer, asked, asked.frame)
            return
        self._peers.answered(peer, message.id)
        if message.refused == messages.STALE:  # it answers with its document, and then the page begins again
            return
        asked.pending.discard(peer)
        if not message.refused:
            names = [(position_of(slot_of(key), key), key) for key in message.keys]
            self._count(asked, peer, names, message.end)
        self.ask_more(asked)

    def follow(self) -> None:
        """T5: slots have changed, or another incarnation is in force. Names that are not complete are asked for again."""
        for asked in list(self._asking.values()):
            if self._is_old(asked):
                del self._asking[asked.id]
                self._begin(asked.scan)

    def _named(self, asked: _Asked) -> None:
        """Enough owners of every slot have answered."""
        del self._asking[asked.id]
        scan = asked.scan
        if self._is_old(asked):
            self._begin(scan)  # the answers of owners that are none any more prove nothing
            return
        scan.upto = asked.upto
        scan.names = sorted(name for name in asked.names if name[0] < asked.upto)
        if scan.first_only:
            scan.names = [name for name in scan.names if self._is_first(name[0] >> POSITION_BITS)]
        self._read(scan, FIRST_READS)

    def _is_old(self, asked: _Asked) -> bool:
        return asked.epoch < self._topology.changed_max or asked.bucket not in self._spaces.live

    def _is_first(self, slot: int) -> bool:
        return is_first(self._topology, slot, self._me, self._peers.is_up)

    # -- records

    def _read(self, scan: _Scan, count: int) -> None:
        """Reads the next names, or ends the page."""
        names = scan.names
        if not names or scan.size >= PAGE_BYTES:
            upto = names[0][0] if names else scan.upto
            scan.done(Page(0 if upto >= END else upto, scan.found))
            return
        while count < len(names) and names[count][0] == names[count - 1][0]:
            count += 1
        batch, scan.names = names[:count], names[count:]
        reads = _Reads(len(batch), partial(self._were_read, scan, batch))
        for index, (_, key) in enumerate(batch):
            self._get(key, scan.level, reads, index, scan.space)

    def _were_read(self, scan: _Scan, batch: Names, reads: _Reads) -> None:
        if reads.failure is not None:
            scan.done(reads.failure)
            return
        wall_ms = self._now.wall_ms
        for (_, key), record in zip(batch, reads.records, strict=True):
            scan.size += size_of(record)
            if versions.live(record, wall_ms) is not None:
                scan.found.append((key, record))
        mean = sum(map(size_of, reads.records)) // len(batch) + 1
        self._read(scan, max(1, (PAGE_BYTES - scan.size) // mean))

    # -- naming keys to others

    def scan_for(self, link: Link, message: messages.Scan) -> None:
        """Answers with the names that this node holds."""
        topology = self._topology
        first = message.start >> POSITION_BITS
        refused = 0
        if message.epoch > topology.epoch:
            refused = messages.BEHIND
        elif (
            message.epoch < topology.changed_max
            and message.epoch < max(topology.changed[first : ((message.end - 1) >> POSITION_BITS) + 1], default=0)
        ) or message.bucket not in self._spaces.live:
            refused = messages.STALE
        elif not self._store.names(
            message.bucket,
            message.start,
            message.end,
            min(message.limit, self.count_max),
            partial(self._tell, link, message.id),
        ):
            refused = messages.OVERLOADED
        if refused:
            self._peers.post(link, encode(Scanned(message.id, 0, [], refused)))

    def _tell(self, link: Link, request_id: int, names: Names | None, upto: int) -> None:
        if names is None:
            answer = Scanned(request_id, 0, [], messages.DAMAGED)
        else:
            answer = Scanned(request_id, upto, [key for _, key in names], 0)
        self._peers.post(link, encode(answer))

    # -- what does not come to its end

    def _fail(self, asked: _Asked, error: Failure) -> None:
        if self._asking.pop(asked.id, None) is not None:
            asked.scan.done(error)

    def tick(self) -> None:
        """Asks one more owner where an answer is slow, and ends what is past its deadline."""
        now_ms = self._now.now_ms
        for asked in list(self._asking.values()):
            if now_ms >= asked.scan.deadline_ms:
                need, had = min(
                    ((need, sum(owner in asked.answered for owner in owners)) for owners, need in asked.needs),
                    key=lambda counts: counts[1] - counts[0],
                )
                self._fail(asked, ReadNotAnswered(needed=need, acknowledged=had))
            elif now_ms - asked.started_ms >= self._config.hedge_ms * (1 + asked.hedges):
                asked.hedges += 1
                self.ask_more(asked, extra=1)


class _Reads(Nobody):
    """The reads of some names; `done` is called when all of them are answered."""

    __slots__ = ("_done", "_left", "failure", "records")

    def __init__(self, count: int, done: Callable[[_Reads], None]) -> None:
        self._left = count
        self._done = done
        self.records: list[bytes] = [b""] * count
        self.failure: Failure | None = None

    def found(self, index: int, record: bytes) -> None:
        self.records[index] = record
        self._count()

    def failed(self, index: int, error: Failure) -> None:
        self.failure = error
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._done(self)
