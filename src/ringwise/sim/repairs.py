"""Anti-entropy at the end of a history (R5): everything is mended, nobody reads, and the replicas become equal by themselves.

    needless   where the faults lose nothing that was sent, nothing is exchanged: a write in flight is no difference
    tree       a node's hash tree is that of its records; and no listing on the way has found a leaf that was not
    repaired   when rounds find no difference any more, the owners of each key hold the same record

The trees are checked before the rounds, too: listings set wrong leaves right, and would hide what they are to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ringwise.core.hashtree import HashTree
from ringwise.core.keys import BUCKET_BYTES, key_of, split_storage_key
from ringwise.core.ring import SLOTS, slot_of
from ringwise.sim.checker import Violation
from ringwise.sim.machine import Machine
from ringwise.sim.scheduler import Scheduler
from ringwise.storage.store import Store

LOSSLESS = {"skew"}  # faults under which every frame arrives
READY_MS_MAX = 5_000.0  # for the trees of nodes that have just been started
ROUND_MS_MAX = 60_000.0
ROUNDS_MAX = 6
STEP_MS = 50.0

_DIGEST_BYTES = 8


def check_repairs(
    scheduler: Scheduler,
    machines: Sequence[Machine],
    keys: Sequence[bytes],
    replicas: Callable[[bytes], dict[str, bytes]],
    rounds: bool,
    lossless: bool,
) -> Iterator[Violation]:
    """Runs rounds on all machines until none finds anything, unless `rounds` says that there are to be none."""
    yield from _check_trees(scheduler, machines)
    if not rounds:
        return
    for _ in range(ROUNDS_MAX):
        if not _round(scheduler, machines):
            break
    else:
        yield Violation("repaired", b"", f"{ROUNDS_MAX} rounds, and the last one still found differences")
    yield from _check_trees(scheduler, machines)
    for key in keys:
        held = {name: record[:_DIGEST_BYTES].hex() or "nothing" for name, record in replicas(key).items()}
        if len(set(held.values())) > 1:
            told = ", ".join(f"{name} {digest}" for name, digest in sorted(held.items()))
            yield Violation("repaired", key, f"its owners differ after repair: {told}")
    if lossless:
        exchanged = sum(machine.node.repair.tally.exchanged for machine in machines if machine.node is not None)
        if exchanged:
            yield Violation("needless", b"", f"{exchanged} keys were exchanged, though nothing was lost")


def _round(scheduler: Scheduler, machines: Sequence[Machine]) -> int:
    """How many differing keys a round of every machine finds; 1 too where it did not come to its end."""
    nodes = [machine.node for machine in machines if machine.node is not None]
    before = sum(node.repair.tally.differing + node.repair.tally.unanswered for node in nodes)
    for node in nodes:
        node.repair.begin()
    deadline_ms = scheduler.now_ms + ROUND_MS_MAX
    while any(node.repair.running for node in nodes):
        if scheduler.now_ms > deadline_ms:
            return 1
        scheduler.run(scheduler.now_ms + STEP_MS)
    return sum(node.repair.tally.differing + node.repair.tally.unanswered for node in nodes) - before


def _check_trees(scheduler: Scheduler, machines: Sequence[Machine]) -> Iterator[Violation]:
    stores = [(machine, machine.node.store) for machine in machines if machine.node is not None]
    deadline_ms = scheduler.now_ms + READY_MS_MAX
    while any(0 in store.tree.ready for _, store in stores) and scheduler.now_ms < deadline_ms:
        scheduler.run(scheduler.now_ms + STEP_MS)
    for machine, store in stores:
        assert isinstance(store, Store) and machine.node is not None
        if 0 in store.tree.ready:
            left = SLOTS - sum(store.tree.ready)
            yield Violation("tree", b"", f"{machine.name} has not come to an end with the trees of {left} slots")
        store.fold(1_000_000)
        truth = _truth(machine, store)
        for slot in range(SLOTS) if store.tree.leaves != truth.leaves else ():
            if store.tree.ready[slot] and store.tree.leaves_of(slot) != truth.leaves_of(slot):
                yield Violation("tree", b"", f"{machine.name}: the tree of slot {slot} is not that of its records")
        if store.mended:
            yield Violation("tree", b"", f"{machine.name} has found {store.mended} leaves wrong")


def _truth(machine: Machine, store: Store) -> HashTree:
    node = machine.node
    assert node is not None and node.topology.document is not None
    live = node.spaces.live
    held = {split_storage_key(key)[1]: record for key, record in machine.medium.records.items()}
    for layer in reversed(store.layers()):
        for table in filter(None, layer):
            held.update(table)
    tree = HashTree()
    for rkey, record in held.items():
        if rkey[:BUCKET_BYTES] in live:
            tree.apply(slot_of(key_of(rkey)), rkey, b"", record[:_DIGEST_BYTES])
    return tree
