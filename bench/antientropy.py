"""What anti-entropy costs: to find and mend one key among many, and to learn that nothing differs (R5).

    .venv/bin/python -m bench.antientropy [--keys 10000,100000,1000000]

Two nodes in one process, with stores in memory and lists for sockets: what is counted are frames and their bytes, in both
directions, and the time that the processor has for both nodes and their ticks.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence

from ringwise.core.agreement import Agreement
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.keys import Bucket
from ringwise.core.messages import Gossip, Message, NodeId, decode
from ringwise.core.node import Node
from ringwise.core.ring import slot_of
from ringwise.core.topology import Document, Member, Topology, form, found, join
from ringwise.sim.disk import TornDisk
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage.store import Store, StoreConfig
from ringwise.wire.frame import FrameReader

BUCKET = Bucket(0, 1)
TICK_MS = 10.0
FRAME_HEADER_BYTES = 8
VALUE = 100
WIRE_BYTES_MAX = 100_000  # for one differing key


class NoWorker:
    """Nothing is on disk."""

    def submit(self, work: Callable[[], object], done: Callable[[object], None]) -> None:
        done(work())


class ListLink:
    """What one node sends to the other, counted save for gossip, which goes on all the time."""

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.outbox: list[bytes] = []
        self.wire: list[bytes] = []
        self.frames = 0
        self.bytes = 0
        self.reader: FrameReader[Message] = FrameReader(decode)

    def flush(self) -> bool:
        self.wire += self.outbox
        counted = [frame for frame in self.outbox if not isinstance(decode(frame[FRAME_HEADER_BYTES:]), Gossip)]
        self.frames += len(counted)
        self.bytes += sum(map(len, counted))
        self.outbox = []
        return True

    def ready(self) -> bool:
        return True


class Pair:
    """Two nodes that own everything, and hold the same keys but one."""

    def __init__(self, count: int) -> None:
        members = [Member(f"n{i}", bytes([i]) * 6, "127.0.0.1", 9379 + i, 7379 + i, 8379 + i) for i in (1, 2)]
        document: Document | None = join(found(b"c" * 16, members[0]), members[1])
        assert document is not None
        document = form(document)
        assert document is not None
        self.now_ms = 1_000.0
        self.stores: list[Store] = []
        self.nodes: list[Node] = []
        config = NodeConfig(repair_interval_ms=0)
        for member in members:
            topology = Topology()
            topology.install(document)
            rng = random.Random(member.name)
            disk = TornDisk(rng)
            store_config = StoreConfig(sync_mode="off", memtable_bytes=1 << 40)
            store = Store(disk, ModelEngine(Medium()), NoWorker(), store_config, lambda: self.now_ms)  # type: ignore[arg-type]
            agreed = Agreement(member.id, topology, rng, None)
            dots, clock = DotSource(member.id, b"inc1"), Clock(config.max_clock_offset_ms)
            node = Node(member, topology, agreed, store, dots, clock, lambda _: None, config, rng, 1_700_000_000_000)
            node.begin(1_700_000_000_000, self.now_ms)
            store.follow([BUCKET.prefix], [BUCKET.prefix], [])
            self.stores.append(store)
            self.nodes.append(node)
        one, two = self.nodes
        self.links = [ListLink(two.id), ListLink(one.id), ListLink(one.id), ListLink(two.id)]
        one.link_up(self.links[0])
        two.link_up(self.links[2])
        self._fill(count)

    def _fill(self, count: int) -> None:
        dots, value = DotSource(b"\x01" * 6, b"load"), b"x" * VALUE
        for number in range(count):
            key = b"key:%012d" % number
            slot, rkey, record = slot_of(key), BUCKET.row_key(key), dots.put(b"", value, number + 1)
            for store in self.stores:
                if number != count // 2 or store is self.stores[0]:
                    store.put(slot, rkey, b"", record)
        for store in self.stores:
            store.fold(count)

    def tick(self) -> None:
        self.now_ms += TICK_MS
        for node in self.nodes:
            node.begin(int(1_700_000_000_000 + self.now_ms), self.now_ms)
            node.tick()
            node.end_turn()
        one, two = self.nodes
        ask_one, answer_two, ask_two, answer_one = self.links
        while any(link.wire for link in self.links):
            for link, receiver, back in (
                (ask_one, two, answer_two),
                (answer_two, one, ask_one),
                (ask_two, one, answer_one),
                (answer_one, two, ask_two),
            ):
                frames, link.wire = link.wire, []
                for message in link.reader.feed(b"".join(frames)) if frames else []:
                    receiver.receive(back, message)
            for node in self.nodes:
                node.end_turn()

    def round(self) -> tuple[int, int, float]:
        """Frames, bytes, and seconds of the processor."""
        frames, size = sum(link.frames for link in self.links), sum(link.bytes for link in self.links)
        began_s = time.process_time()
        self.nodes[0].repair.begin()
        while self.nodes[0].repair.running:
            self.tick()
        took_s = time.process_time() - began_s
        return sum(link.frames for link in self.links) - frames, sum(link.bytes for link in self.links) - size, took_s


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.antientropy", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", default="10000,100000,1000000")
    counts = [int(count) for count in parser.parse_args(arguments).keys.split(",")]
    print("| keys | one differs: messages | bytes | equal: messages | bytes | ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    failed = False
    for count in counts:
        pair = Pair(count)
        frames, size, _ = pair.round()
        assert all(store.fold(count) for store in pair.stores)
        one, two = (store.tree.roots for store in pair.stores)
        assert one == two and pair.nodes[0].repair.tally.sent == 1, "it was not repaired"
        equal_frames, equal_size, equal_s = min((pair.round() for _ in range(5)), key=lambda each: each[2])
        failed = failed or size >= WIRE_BYTES_MAX
        print(f"| {count:,} | {frames} | {size:,} | {equal_frames} | {equal_size} | {equal_s * 1000:.1f} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
