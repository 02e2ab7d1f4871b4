"""One node: its paths wired together, and the order in which a turn ends.

    shell ── begin ─▶ inputs of the turn: session commands, frames, links, timers, loaded keys ─▶ end_turn
                                                                                                     │
              (1) groups sealed: chunks ─▶ one append to the commit log   ◀──────────────────────────┤   stored
              (2) this node's own acknowledgements, and its answers to others                        │   before
              (3) one write for each link, then one for each session that has replies                ▼   sent

This is all of a node but sockets, files, timers and threads, which the shell (`runtime`) owns, and of which the simulator
(`sim`) has its own: the same code runs in both.

Sync mode `batch` (S3): step (2) for a turn waits until the log is synced as far as that turn's append.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ringwise.core import messages
from ringwise.core.agreement import Agreement, AgreementFailed
from ringwise.core.antientropy import AntiEntropy
from ringwise.core.bucketchanges import BucketChanges
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, NoSuchBucket, NotReady, Overloaded, Replaced, StampTooFar
from ringwise.core.explain import ExplainPath
from ringwise.core.filling import Filling
from ringwise.core.flush import Flushes
from ringwise.core.forward import ForwardPath
from ringwise.core.get import GetPath, ReadGroup
from ringwise.core.gossip.presets import PRESETS
from ringwise.core.hints import Handover, HintPath
from ringwise.core.levels import Level
from ringwise.core.liveness import Liveness
from ringwise.core.merging import Merging
from ringwise.core.messages import ForwardedUpdate, Found, Hello, Message, NodeId, Written, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers, Request
from ringwise.core.put import PutPath
from ringwise.core.reapable import Owner
from ringwise.core.reaping import Reaping
from ringwise.core.replace import Replacements
from ringwise.core.replica import Replica
from ringwise.core.ring import slot_of
from ringwise.core.scan import ScanPath
from ringwise.core.settling import Settling
from ringwise.core.sink import Sink
from ringwise.core.space import Space, Spaces
from ringwise.core.standins import StandIns
from ringwise.core.store import LogFailed, Store
from ringwise.core.topology import ChangeRefused, Document, Former, Member, Topology, form
from ringwise.core.update import UpdatePath
from ringwise.core.versions import Write
from ringwise.core.view import View
from ringwise.core.writegroup import WriteGroup


class Flushable(Protocol):
    """A session with replies that are ready."""

    def flush(self) -> None:
        """Writes them."""
        ...


class Node:
    """A member of the cluster, without its sockets.

    `put`, `get`, `write` and `update` take an operation and answer its sink exactly once, in this turn or a later one; `scan`
    and `flush` call back in the same way.
    """

    def __init__(
        self,
        member: Member,
        topology: Topology,
        agreed: Agreement,
        store: Store,
        dots: DotSource,
        clock: Clock,
        save_topology: Callable[[bytes], None],
        config: NodeConfig,
        rng: random.Random,
        started_ms: int,
    ) -> None:
        self.member = member
        self.id: NodeId = member.id
        self.name = member.name
        self.started_ms = started_ms  # by the wall clock
        self.topology = topology
        self.agreement = agreed
        self.store = store
        self.config = config
        self.rng = rng
        self.clock = clock
        self.dots = dots
        self.dirty: list[Flushable] = []
        self.now = Now(config.max_clock_offset_ms // 2)
        self.linked_since: dict[NodeId, int] = {}
        self._save_topology = save_topology  # durable when it returns
        self._chunks: list[bytes] = []
        # On which others last spoke of agreement or gossip: whom we cannot dial yet.
        self._back: dict[NodeId, Link] = {}
        self._unformed: list[tuple[Callable[[], None], Sink, int]] = []
        self._unsynced: deque[tuple[int, _Turn]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []  # a heap: when, in the order they were set, what
        self._timers_set = 0

        self._epoch = topology.epoch  # as far as the paths follow it
        self._changed = topology.changed_max
        self.spaces = spaces = Spaces(topology)
        self.space = spaces.home  # of whoever selects no other
        self._views: dict[int, View] = {}
        store.follow(frozenset(spaces.live), frozenset(), spaces.void())
        self.peers = Peers(self.id)
        chance = random.Random(rng.getrandbits(32))  # of its own: how often a member is pinged changes nothing else
        preset = PRESETS[config.membership]
        self.liveness = Liveness(member, started_ms, preset, self.peers, self._back, topology, chance)
        self.cold = cold = Cold(store, config, self._chunks)
        now = self.now
        self.replica = Replica(store, topology, clock, config, now, cold, self._chunks, spaces)
        self.stand_ins = StandIns(self.peers, topology, now)
        self._put = PutPath(
            self.peers, topology, store, dots, clock, spaces, config, now, cold, self._chunks, self.stand_ins
        )
        self._get = GetPath(
            self.peers,
            topology,
            store,
            spaces,
            config,
            now,
            cold,
            self._put.reading,
            self._put.spread,
            self.stand_ins,
        )
        self._update = UpdatePath(self._get, self._put, self.now)
        self._scan = ScanPath(
            self.peers,
            topology,
            store,
            spaces,
            config,
            now,
            lambda *read: self.get_in(*read),  # as it then is
        )
        self._bucket_changes = BucketChanges(self.peers, topology, agreed, now)
        self._flushes = Flushes(self.peers, topology, agreed, config, now)
        self._forward = ForwardPath(self.peers, topology, spaces, self._put, self._update, config, now, clock)
        self.repair = AntiEntropy(self.peers, topology, store, clock, spaces, config, now, cold, self._chunks, rng)
        self.hints = HintPath(self.peers, topology, store, spaces, config, now, cold, clock, self._chunks, rng)
        hashing = self.repair.hashing
        self.filling = Filling(
            self.peers, topology, agreed, store, clock, config, now, cold, self._chunks, hashing, spaces
        )
        self._explain = ExplainPath(
            self.peers, topology, store, spaces, config, now, cold, self.hints.hints_of, self.stand_ins
        )
        self._settling = Settling(self.peers, cold)
        self._owner = owner = Owner(
            self.peers, topology, store, clock, config, now, cold, self._chunks, self._settling, dots, spaces
        )
        self.reaping = Reaping(self.peers, topology, store, clock, config, now, owner, self._settling, chance)
        self.replica.floor = self._forward.floor = lambda: owner.floor
        self._put.seal = self.seal
        self._put.hint = self.hints.keep
        self.stand_ins.room = self.hints.room
        self.hints.writing = lambda: self._put.opened
        self.hints.retire = dots.retire
        self.replica.catch_up = self._get.catch_up
        self.replica.hints_of = self.hints.hints_of
        self.replica.hint = self.hints.keep
        self.replica.room = self.hints.room_for
        self.peers.forgotten = self._forgotten
        agreed.is_up = self.peers.is_up
        self._put.elsewhere = self._forward.send
        self._get.behind_forwards = self._forward.wait
        self._put.unformed = self._await_formed
        cold.fetch = self._get.fetch
        cold.lost = lambda: dots.renew(rng.randbytes(4))
        store.on_synced = self._synced

        self.put_in = self._put.put
        self.write_in = self._put.write
        self.get_in = self._get.get if topology.formed else self._get_in_order
        self.merging = merging = Merging(lambda *read: self.get_in(*read), self._put.write, config, now)
        self._settling.background = [self._put, self.repair, self.hints, merging]
        self.put: Callable[[bytes, bytes, Level, Sink, int], None]
        self.get: Callable[[bytes, Level, Sink, int], None]
        self._serve_home()
        self.scan = self._scan.scan
        self.flush = self._flushes.flush
        self.flush_all = self._flushes.flush_all
        self.change_buckets = self._bucket_changes.change
        self.replace = Replacements(self.peers, topology, agreed, now).replace
        self.is_up = self.peers.is_up
        self.explain = self._explain.explain

    # -- operations

    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None:
        """A put with context, content type, flags or expiry."""
        self.view(self.space).write(key, write, level, sink, index)

    def select(self, label: str) -> Node | View | None:
        """The operations on the bucket of that name or number, None where there is none."""
        space = self.spaces.find(label)
        if space is None:
            return None
        return self if space is self.space else self.view(space)

    def view(self, space: Space) -> View:
        """The operations on a bucket."""
        view = self._views.get(space.number)
        if view is None:
            view = self._views[space.number] = View(self, space)
        return view

    def update(
        self,
        key: bytes,
        operation: str,
        arguments: tuple[bytes | int, ...],
        level: Level,
        sink: Sink,
        index: int,
        space: Space | None = None,
    ) -> None:
        """A read-modify-write named in `core.operations.OPERATIONS`."""
        slot = slot_of(key)
        if self.replaced is not None:
            sink.failed(index, Replaced(self.replaced.name, self.replaced.epoch))
            return
        space = space or self.space
        mine = not self.topology.epoch or self.id in self.topology.serving[slot]
        if mine and not self._unformed:
            self._update.run(key, operation, arguments, level, sink, index, space)
        elif not self.topology.formed:
            self._await_formed(lambda: self.update(key, operation, arguments, level, sink, index, space), sink, index)
        elif space.gone:
            sink.failed(index, NoSuchBucket(space.label))
        else:
            stamp = self.clock.last = self.clock.last + 2
            name = level.name.encode()
            forwarded = ForwardedUpdate(key, name, operation, list(arguments), stamp, False, space.number)
            self._forward.send(forwarded, slot, sink, index)

    def _get_in_order(self, key: bytes, level: Level, sink: Sink, index: int, space: Space | None = None) -> None:
        """B1 while the table is not formed: a read stays behind the writes that wait for that."""
        if self._unformed:
            self._await_formed(lambda: self.get_in(key, level, sink, index, space), sink, index)
        else:
            self._get.get(key, level, sink, index, space)

    # -- turns

    @property
    def wall_ms(self) -> int:
        """Wall-clock time of this turn."""
        return self.now.wall_ms

    def begin(self, wall_ms: int, now_ms: float) -> None:
        """Starts a turn."""
        now = self.now
        idle_ms = now_ms - (now.now_ms or now_ms)  # a tick comes every few milliseconds
        now.begin(wall_ms, now_ms)
        if idle_ms > self.config.request_timeout_ms / 2:
            self._forward.paused()
        clock = self.clock
        stamp = now.wall_ms << 16
        if stamp > clock.last:
            clock.last = stamp

    def seal(self) -> None:
        """Closes the open groups: writes before reads, which therefore see them on every owner (B1)."""
        self._put.seal_writes()
        self._get.seal_reads()

    def cut_turn(self) -> None:
        """Logs and sends what a long turn has brought so far, so that the other owners work while it goes on."""
        self._agree()
        while self._settle():
            pass
        self.peers.flush()

    def end_turn(self) -> None:
        """Logs, sends and answers what the turn brought, in that order."""
        self._agree()
        self._flushes.check()
        self._bucket_changes.check()
        # Answers can start new operations (a second phase, V5, commands that waited), which belong to this turn too.
        while self._settle():
            pass
        self._settling.end_turn()
        self._owner.end_turn()
        self.store.turn()
        self.peers.flush()
        dirty, self.dirty = self.dirty, []
        for session in dirty:
            session.flush()

    def _settle(self) -> bool:
        replica = self.replica
        replica.gather_late()
        self._forward.seal()
        self.seal()
        self.hints.seal()
        if self._chunks:
            chunks = self._chunks[:]
            self._chunks.clear()  # in place: the paths share the list
            with suppress(LogFailed):  # told below, to everyone who waits for this append
                self.store.append(chunks)
        turn = _Turn(self._put.take_sealed(), self._get.take_sealed(), replica.written, [])
        if not (turn.writes or turn.reads or replica.written or replica.found or self._forward.answering):
            return self._put.opened or self._get.opened  # by what sealing has answered
        replica.written = []
        found, replica.found = replica.found, []
        for link, answer, synced in found:
            if synced:
                turn.found.append((link, answer))
            else:
                self.peers.post(link, encode(answer))
        if self.store.failed:
            self._unsynced.append((self.store.position, turn))
            self._give_up()
        elif self.store.sync_mode == "batch" and self.store.synced < self.store.position:
            self._unsynced.append((self.store.position, turn))
        else:
            self._release(turn)
        self._forward.send_answers()
        return True

    def _release(self, turn: _Turn) -> None:
        """What the turn logged may now be told."""
        for link, written in turn.written:
            self.peers.post(link, encode(written))
        for link, found in turn.found:
            self.peers.post(link, encode(found))
        self._put.logged(turn.writes)
        self._get.synced(turn.reads)

    def _refuse(self, written: list[tuple[Link, Written]]) -> None:
        """S3: the append failed, so nothing of it is acknowledged; the senders' deadlines say the rest."""
        for link, answer in written:
            refused = [(position, messages.NOT_WRITING) for position in answer.positions] or answer.refused
            if refused:
                self.peers.post(link, encode(Written(answer.id, [], [], refused)))

    def _synced(self, position: int) -> None:
        while self._unsynced and self._unsynced[0][0] <= position:
            self._release(self._unsynced.popleft()[1])
        if self.store.failed:
            self._give_up()

    def _give_up(self) -> None:
        """S3: the log has failed. What waits for it is acknowledged by nobody here, and what must be durable is not shown."""
        while self._unsynced:
            turn = self._unsynced.popleft()[1]
            self._put.unloggable(turn.writes)
            self._refuse(turn.written)
            self._get.unsyncable(turn.reads)
            for link, found in turn.found:
                self.peers.post(link, encode(Found(found.id, [], [], [(0, messages.NOT_WRITING)])))

    def after(self, delay_ms: float, call: Callable[[], None]) -> None:
        """Runs `call` in the first turn with a tick after so long."""
        self._timers_set += 1
        heapq.heappush(self._timers, (self.now.now_ms + delay_ms, self._timers_set, call))

    def tick(self) -> None:
        """Deadlines and retries; the shell calls it every ten milliseconds or so."""
        now_ms = self.now.now_ms
        timers = self._timers
        while timers and timers[0][0] <= now_ms:
            heapq.heappop(timers)[2]()
        self.peers.tick(now_ms, self.config.request_timeout_ms)
        self.liveness.tick(now_ms)
        self._put.tick()
        self._get.tick()
        self._explain.tick()
        self._scan.tick()
        self._forward.tick()
        self.hints.tick()
        self.agreement.tick(now_ms)
        self._flushes.tick()
        self._bucket_changes.tick()
        self._follow()
        self.repair.tick()
        self.filling.tick()
        self.reaping.tick()
        self._go_on_if_formed()

    # -- peers

    def hello(self) -> Hello:
        """The first frame on every link. Its epoch is believed to be durable (Agreement.holds)."""
        self._save()
        document = self.topology.document
        cluster = document.cluster if document is not None else b""
        member = self.member
        return Hello(
            messages.PROTOCOL_VERSION,
            cluster,
            self.id,
            self.name,
            self.started_ms,
            self.topology.epoch,
            member.host,
            member.peer_port,
            self.clock.last,
        )

    def check_hello(self, hello: Hello) -> str | None:
        """Why the link must be closed, or None."""
        if hello.version != messages.PROTOCOL_VERSION:
            return f"it speaks protocol version {hello.version}, this node {messages.PROTOCOL_VERSION}"
        document = self.topology.document
        if document is not None and hello.cluster and hello.cluster != document.cluster:
            return f"it belongs to another cluster ({hello.cluster.hex()}, this one is {document.cluster.hex()})"
        self.agreement.heard(hello.node, hello.epoch, self.now.now_ms)
        with suppress(StampTooFar):
            self.clock.observe(hello.stamp, self.now.wall_ms)
        return None

    def link_up(self, link: Link) -> None:
        """A dialled link is ready."""
        self.peers.link_up(link)
        self.linked_since[link.peer] = self.now.wall_ms
        self.liveness.link_up(link.peer, self.now.now_ms)

    def link_down(self, link: Link) -> None:
        """A link is broken; what waited for its answers asks others, or is told."""
        self.peers.link_down(link)
        if link.peer not in self.peers.links:
            self.linked_since.pop(link.peer, None)
            self.liveness.link_down(link.peer, self.now.now_ms)
        if self._back.get(link.peer) is link:
            del self._back[link.peer]

    def _forgotten(self, peer: NodeId, request: Request) -> None:
        """R4: who has said nothing for so long has not got it."""
        if isinstance(request, WriteGroup | Handover):
            request.lost(peer)

    def addresses(self) -> dict[NodeId, tuple[str, int]]:
        """Where each other member's peer port is."""
        return self.liveness.addresses()

    def leave(self) -> None:
        """A clean stop begins: the others count on this node no more, and it still answers what it is asked."""
        self.reaping.suspended = True
        self.liveness.leave(self.now.now_ms)

    def receive(self, link: Link, message: Message) -> None:
        """Any message, from either kind of link."""
        match message:
            case messages.Write():
                self.replica.write(link, message)
            case Written():
                if not self._put.written(link, message):
                    self.repair.written(link, message)
                    self.hints.written(link, message)
            case messages.Read():
                self.replica.read(link, message)
            case Found():
                self._get.found(link, message)
                self._explain.found(link, message)
                self.repair.found(link, message)
                self.filling.found(link, message)
            case messages.Forward():
                self._forward.forward(link, message)
            case messages.Forwarded():
                self._forward.forwarded(link, message)
            case messages.Scan():
                self._scan.scan_for(link, message)
            case messages.Scanned():
                self._scan.scanned(link, message)
            case messages.Hashes():
                self.repair.hashing.hashes(link, message)
            case messages.Hashed():
                self.repair.hashed(link, message)
                self.filling.hashed(link, message)
            case messages.Digests():
                self.repair.hashing.digests(link, message)
            case messages.Digested():
                self.repair.digested(link, message)
                self.filling.digested(link, message)
            case messages.Reap():
                self._owner.reap(link, message)
            case messages.Reapable():
                self.reaping.reapable(link, message)
            case messages.Settle():
                self._owner.settle(link, message)
            case messages.Settled():
                self.reaping.settled(link, message)
            case messages.Drop():
                self._owner.drop_for(link, message)
            case messages.Dropped():
                self.reaping.dropped(link, message)
            case messages.Gossip():
                self._back[link.peer] = link
                self.liveness.receive(message.packet, self.now.now_ms)
            case Hello():
                self.agreement.heard(message.node, message.epoch, self.now.now_ms)
            case _:
                self._back[link.peer] = link
                self.agreement.receive(link.peer, message, self.now.now_ms)
                self._follow()
                self._go_on_if_formed()

    # -- topology

    @property
    def replaced(self) -> Former | None:
        """T4: another data directory has this node's place, so it is no member any more."""
        return self.topology.former.get(self.id)

    def _agree(self) -> None:
        """What agreement has to say leaves once its state is durable (T3)."""
        agreed = self.agreement
        self._follow()
        self._save()
        outbox, agreed.outbox = agreed.outbox, []
        for node, message in outbox:
            link = self.peers.links.get(node) or self._back.get(node)
            if link is not None and link.ready():
                self.peers.post(link, encode(message))

    def _save(self) -> None:
        agreed = self.agreement
        if agreed.dirty:
            self._save_topology(agreed.state())
            agreed.dirty = False

    def _follow(self) -> None:
        """T5: what a newer document means for what is under way: before anything of this node can be of both at once."""
        topology, spaces = self.topology, self.spaces
        if topology.epoch == self._epoch:
            return
        self._epoch = topology.epoch
        gone, fresh = spaces.follow()
        if gone or fresh:
            self._views = {number: view for number, view in self._views.items() if not view.space.gone}
            self.store.follow(frozenset(spaces.live), fresh, spaces.void() if gone else [])
        if gone:
            self._put.follow(gone)
            self.hints.follow(gone)
            self._get.follow(gone)
        if topology.changed_max != self._changed:
            self._changed = topology.changed_max
            self._put.move()
            self._get.follow(None)
        self._scan.follow()
        self._serve_home()

    def _serve_home(self) -> None:
        """The default bucket's own operations: nothing in between where its rules ask for nothing."""
        home = self.space
        self.put = self.view(home).put if home.rules.ttl_s else self._put.put
        self.get = self.view(home).get if home.merge else self.get_in

    def _go_on_if_formed(self) -> None:
        """Lets go what waits, in order, before anything newer can overtake it."""
        if self.topology.formed:
            self.get_in = self._get.get
            self._serve_home()
            waiting, self._unformed = self._unformed, []
            for again, _, _ in waiting:
                again()

    def _await_formed(self, again: Callable[[], None], sink: Sink, index: int) -> None:
        """T3: the first write anywhere waits until its coordinator has got the table decided as formed."""
        if len(self._unformed) >= self.config.forming_queue_max:
            sink.failed(index, Overloaded("forming", self.config.forming_queue_max))
            return
        self._unformed.append((again, sink, index))
        if len(self._unformed) == 1:
            now_ms = self.now.now_ms
            self.agreement.propose(self._form, self._formed, now_ms, now_ms + self.config.request_timeout_ms)

    def _form(self, document: Document) -> Document | None:
        members, expected = len(document.members), self.config.members_expected
        if not document.formed and members < expected:
            raise ChangeRefused(f"{members} of {expected} expected members are there")
        return form(document)

    def _formed(self, result: Document | AgreementFailed) -> None:
        if isinstance(result, AgreementFailed):
            waiting, self._unformed = self._unformed, []
            error: Failure = NotReady(f"the topology could not be decided as formed: {result.reason}")
            for _, sink, index in waiting:
                sink.failed(index, error)


class _Turn:
    """What may be told once a turn is logged (and, in sync mode `batch`, synced)."""

    __slots__ = ("found", "reads", "writes", "written")

    def __init__(
        self,
        writes: list[WriteGroup],
        reads: list[ReadGroup],
        written: list[tuple[Link, Written]],
        found: list[tuple[Link, Found]],
    ) -> None:
        self.writes = writes
        self.reads = reads
        self.written = written
        self.found = found
