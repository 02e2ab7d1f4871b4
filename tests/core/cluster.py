"""Three nodes (or more) in one process, with a dict for a disk and lists for sockets: the core alone, step by step.

Frames cross as bytes. Nothing moves by itself: `run` carries frames until all is quiet, `step` ends one turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial

import msgspec

from ringwise.core.agreement import Agreement, Join
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure
from ringwise.core.hashtree import HashTree
from ringwise.core.keys import BUCKET_BYTES, key_of, position_of
from ringwise.core.messages import Message, NodeId, decode
from ringwise.core.node import Node
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.store import Digested, LogFailed, Named, Swept
from ringwise.core.topology import Document, Member, Topology, form, found, join
from ringwise.storage.walk import cut
from ringwise.wire.frame import FrameReader


class DictStore:
    """A store whose keys can be made cold."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.cold: set[bytes] = set()
        self.damaged: set[bytes] = set()  # on disk; loading them does not help
        self.waiting: list[tuple[bytes, Callable[[], None]]] = []
        self.log: list[bytes] = []
        self.sync_mode = "periodic"
        self.on_synced: Callable[[int], None] = lambda _: None
        self.position = 0
        self.synced = 0
        self.failed = False
        self.overloaded = False
        self.fail_next_append = False
        self.live: frozenset[bytes] = frozenset()  # incarnations in force
        self.tree = HashTree()
        self.tree.ready[:] = b"\x01" * SLOTS
        self.walks = 0
        self.walking: list[Callable[[], None]] = []
        self.slow_walks = False  # they wait for `walked`
        self.fail_walks = False

    def find(self, slot: int, rkey: bytes) -> bytes | None:
        return None if rkey in self.cold or rkey in self.damaged else self.records.get(rkey, b"")

    def put(self, slot: int, rkey: bytes, base: bytes | None, record: bytes) -> None:
        assert rkey not in self.cold
        assert base is None or base == self.records.get(rkey, b"")[:8]
        if rkey[:BUCKET_BYTES] in self.live:
            self.tree.apply(slot, rkey, self.records.get(rkey, b"")[:8], record[:8])
        self.damaged.discard(rkey)
        self.records[rkey] = record

    def replace_many(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> list[int]:
        others = []
        for i, (slot, rkey, base, record) in enumerate(zip(slots, rkeys, bases, records, strict=True)):
            held = self.find(slot, rkey)
            if held is None or (held and held[:8] != base) or len(base) > 8:
                others.append(i)
            else:
                self.put(slot, rkey, (held or b"")[:8], record)
        return others

    def append(self, chunks: Sequence[bytes]) -> int:
        if self.fail_next_append:
            self.failed = True
            raise LogFailed
        self.log.extend(chunks)
        self.position += sum(map(len, chunks))
        return self.position

    def load(self, slot: int, rkey: bytes, then: Callable[[], None]) -> bool:
        self.waiting.append((rkey, then))
        return True

    def names(self, bucket: bytes, start: int, end: int, limit: int, then: Named) -> bool:
        held = [(position_of(slot_of(key_of(rkey)), key_of(rkey)), rkey) for rkey in self.records]
        within = [(at, rkey) for at, rkey in held if start <= at < end]
        if bucket:
            names = sorted((at, key_of(rkey)) for at, rkey in within if rkey.startswith(bucket))
        else:
            names = sorted((at, rkey) for at, rkey in within if rkey[:BUCKET_BYTES] in self.live)
        self.walks += 1
        named = (None, start) if self.fail_walks else cut(names, end, limit)
        if self.slow_walks:
            self.walking.append(partial(then, *named))
        else:
            then(*named)
        return True

    def fold(self, _limit: int) -> bool:
        return True

    def digests(self, start: int, end: int, limit: int, then: Digested) -> bool:
        def named(names: list[tuple[int, bytes]] | None, upto: int) -> None:
            then(None if names is None else [(rkey, self.records[rkey][:8]) for _, rkey in names], upto)

        return self.names(b"", start, end, limit, named)

    def sweep(
        self,
        start: int,
        end: int,
        limit: int,
        wanted: Callable[[int], bool],
        dead: Callable[[bytes], bool],
        then: Swept,
    ) -> bool:
        def named(names: list[tuple[int, bytes]] | None, upto: int) -> None:
            held = [(rkey, self.records[rkey]) for _, rkey in names or [] if wanted(slot_of(key_of(rkey)))]
            then(None if names is None else [(rkey, record[:8]) for rkey, record in held if dead(record)], upto)

        return self.names(b"", start, end, limit, named)

    def follow(self, live: Collection[bytes], fresh: Collection[bytes], void: Sequence[tuple[bytes, bytes]]) -> None:
        gone, self.live = self.live.difference(live), frozenset(live)
        for rkey, record in self.records.items():
            if rkey[:BUCKET_BYTES] in gone:
                self.tree.apply(slot_of(key_of(rkey)), rkey, record[:8], b"")

    def turn(self) -> None:
        pass

    def loaded(self) -> None:
        waiting, self.waiting = self.waiting, []
        for rkey, then in waiting:
            self.cold.discard(rkey)
            then()

    def walked(self) -> None:
        walking, self.walking = self.walking, []
        for then in walking:
            then()

    def sync(self) -> None:
        self.synced = self.position
        self.on_synced(self.synced)


class MemoryLink:
    """One direction of talk: what `owner` sends to `peer`; answers come back on the twin."""

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.outbox: list[bytes] = []
        self.wire: list[bytes] = []
        self.up = True

    def flush(self) -> bool:
        frames, self.outbox = self.outbox, []
        if self.up:
            self.wire.extend(frames)
        return self.up

    def ready(self) -> bool:
        return self.up


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.outcomes: dict[int, tuple[str, object]] = {}
        self.sloppy: set[int] = set()  # a stand-in counted

    def _tell(self, index: int, outcome: tuple[str, object]) -> None:
        assert index not in self.outcomes, "an operation is answered once"
        self.outcomes[index] = outcome

    def stood_in(self, index: int) -> None:
        self.sloppy.add(index)

    def stored(self, index: int, record: bytes) -> None:
        self._tell(index, ("stored", record))

    def found(self, index: int, record: bytes) -> None:
        self._tell(index, ("found", record))

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        self._tell(index, ("updated", (before, after)))

    def failed(self, index: int, error: Failure) -> None:
        self._tell(index, ("failed", error))


@cache
def _document(count: int, formed: bool) -> Document:
    members = [Member(f"n{i + 1}", bytes([i + 1]) * 6, "127.0.0.1", 9379 + i, 7379 + i, 8379 + i) for i in range(count)]
    document: Document | None = found(b"c" * 16, members[0])
    for member in members[1:]:
        assert document is not None
        document = join(document, member)
    if formed:
        assert document is not None
        document = form(document)
    assert document is not None
    return document


class Cluster:
    """`count` formed nodes, all linked."""

    def __init__(self, count: int = 3, config: NodeConfig | None = None, formed: bool = True) -> None:
        document = _document(count, formed)
        self.now_ms = 1000.0
        self.wall_ms = 1_700_000_000_000
        self.config = config or NodeConfig()
        self.stores = [DictStore() for _ in document.members]
        self.nodes: list[Node] = []
        for member, store in zip(document.members, self.stores, strict=True):
            self.nodes.append(self._start(member, document, store))
        self.by_id = {node.id: node for node in self.nodes}
        self.links: dict[tuple[NodeId, NodeId], MemoryLink] = {}
        self.back: dict[tuple[NodeId, NodeId], MemoryLink] = {}
        self.udp = True  # datagrams arrive
        self.readers: dict[int, FrameReader[Message]] = {}
        for a in self.nodes:
            for b in self.nodes:
                if a is not b:
                    self.connect(a, b)

    def _start(self, member: Member, document: Document, store: DictStore) -> Node:
        topology = Topology()
        topology.install(document)
        return self._node(member, topology, store)

    def _node(self, member: Member, topology: Topology, store: DictStore) -> Node:
        config = self.config
        rng = random.Random(member.name)
        agreed = Agreement(member.id, topology, rng, None)
        dots = DotSource(member.id, b"inc" + member.id[:1])
        clock = Clock(config.max_clock_offset_ms)
        node = Node(member, topology, agreed, store, dots, clock, lambda _: None, config, rng, self.wall_ms)
        node.begin(self.wall_ms, self.now_ms)
        return node

    def restart(self, node: Node, peer_port: int) -> Node:
        """A new run of a node a moment later, at another port; it has no links, and others know nothing of it yet."""
        for other in self.nodes:
            if other is not node:
                self.cut(node, other)
        self.wall_ms += 1
        index, document = self.nodes.index(node), node.topology.document
        assert document is not None
        moved = msgspec.structs.replace(node.member, peer_port=peer_port)
        self.nodes[index] = self.by_id[node.id] = self._start(moved, document, self.stores[index])
        return self.nodes[index]

    def die(self, number: int) -> Node:
        """A node and all its links are no more."""
        dead = self.nodes[number]
        for other in self.nodes:
            if other is not dead:
                self.cut(dead, other)
                for pair in ((dead.id, other.id), (other.id, dead.id)):
                    del self.links[pair], self.back[pair]
        del self.nodes[number], self.stores[number], self.by_id[dead.id]
        return dead

    def start_empty(self, number: int, old: Member) -> Node:
        """A node of that name with an empty store, in no cluster yet, with links to all."""
        member = msgspec.structs.replace(old, id=bytes([old.id[0] + 100]) * 6)
        store = DictStore()
        node = self._node(member, Topology(), store)
        self.nodes.insert(number, node)
        self.stores.insert(number, store)
        self.by_id[node.id] = node
        for other in self.nodes:
            if other is not node:
                self.connect(node, other)
                self.connect(other, node)
        return node

    def ask_to_join(self, node: Node, seed: Node) -> None:
        node.agreement.outbox.append((seed.id, Join(node.member)))
        for _ in range(50):
            self.pass_time(10)
            if node.topology.epoch:
                return

    def connect(self, a: Node, b: Node) -> None:
        link = self.links[a.id, b.id] = MemoryLink(b.id)
        twin = self.back[a.id, b.id] = MemoryLink(a.id)
        self.readers[id(link)] = FrameReader(decode)
        self.readers[id(twin)] = FrameReader(decode)
        a.link_up(link)

    def cut(self, a: Node, b: Node) -> None:
        """Breaks both links between two nodes; what was on the wire is lost."""
        for x, y in ((a, b), (b, a)):
            link = self.links[x.id, y.id]
            link.up = False
            self.back[x.id, y.id].up = False
            x.link_down(link)

    def step(self, node: Node) -> None:
        node.end_turn()
        node.begin(self.wall_ms, self.now_ms)

    def deliver(self) -> bool:
        """Carries what is on the wires; True if there was anything."""
        moved = self.deliver_datagrams()
        for (a, b), link in self.links.items():
            if link.wire and link.up:
                frames, link.wire = link.wire, []
                moved = True
                for message in self.readers[id(link)].feed(b"".join(frames)):
                    self.by_id[b].receive(self.back[a, b], message)
        for (a, _b), twin in self.back.items():
            link = self.links[a, _b]
            if twin.wire and twin.up:
                frames, twin.wire = twin.wire, []
                moved = True
                for message in self.readers[id(twin)].feed(b"".join(frames)):
                    self.by_id[a].receive(link, message)
        return moved

    def deliver_datagrams(self) -> bool:
        """Between nodes that have a link; what is sent to others is lost."""
        moved = False
        for node in self.nodes:
            packets, node.liveness.datagrams[:] = node.liveness.datagrams[:], []
            for packet in packets:
                link = self.links.get((node.id, packet.to))
                if self.udp and link is not None and link.up:
                    self.by_id[packet.to].liveness.receive(packet.payload, self.now_ms)
                    moved = True
        return moved

    def run(self) -> None:
        for node in self.nodes:
            self.step(node)
        while self.deliver():
            for node in self.nodes:
                self.step(node)

    def pass_time(self, ms: float) -> None:
        self.now_ms += ms
        self.wall_ms += int(ms)
        for node in self.nodes:
            node.begin(self.wall_ms, self.now_ms)
            node.tick()
        self.run()
