"""The tree of a store is that of its records, whatever happens to them: written, flushed, evicted, loaded, lost, restarted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.storage.fakes import BUCKET, MemoryDisk, Steps, chunk, record

from ringwise.core.hashtree import LEAF_BITS, LEAF_SHIFT, HashTree, leaf_of
from ringwise.core.keys import POSITION_BITS, Bucket, key_of, position_of, split_storage_key
from ringwise.core.ring import SLOTS, slot_of
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage import trees
from ringwise.storage.errors import ReadFailed
from ringwise.storage.store import Store, StoreConfig
from ringwise.storage.trees import CALM_MS, DIRTY_MAX, END, REBUILD_AGAIN_MS, UNREADABLE

SMALL = StoreConfig(sync_mode="off", memtable_bytes=1_500, cache_bytes=2_000, segment_bytes=2_000)
KEYS = [b"key:%d" % number for number in range(30)] + [b"{tag}%d" % number for number in range(30)]


class Machine:
    """A store over several lives, and how often each record was replaced."""

    def __init__(self, config: StoreConfig = SMALL) -> None:
        self.disk = MemoryDisk()
        self.medium = Medium()
        self.config = config
        self.time_ms = 0.0
        self.buckets = {0: BUCKET, 1: Bucket(1, 1), 20: Bucket(20, 1)}
        self.next_number = 21
        self.stamp = 0
        self.open()

    def open(self) -> None:
        self.worker = Steps()
        self.engine = ModelEngine(self.medium)
        self.store = Store(self.disk, self.engine, self.worker, self.config, self.clock_ms)
        self.store.follow(self.live, [], self.void)

    @property
    def void(self) -> list[tuple[bytes, bytes]]:
        """Of numbers below the next one: earlier incarnations, and those that were dropped."""
        found = []
        for number in (0, 1, *range(20, self.next_number)):
            bucket = self.buckets.get(number)
            if bucket is None:
                found.append((Bucket(number, 0).prefix, Bucket(number + 1, 0).prefix))
            elif bucket.incarnation > 1:
                found.append((Bucket(number, 0).prefix, bucket.prefix))
        return found

    @property
    def bucket(self) -> Bucket:
        return self.buckets[0]

    @property
    def live(self) -> list[bytes]:
        return [bucket.prefix for bucket in self.buckets.values()]

    def flush(self, *numbers: int) -> None:
        """New incarnations of these buckets."""
        for number in numbers:
            self.buckets[number] = Bucket(number, self.buckets[number].incarnation + 1)
        self.store.follow(self.live, [self.buckets[number].prefix for number in numbers], self.void)

    def clock_ms(self) -> float:
        self.time_ms += 0.01
        return self.time_ms

    def row(self, key: bytes, number: int = 0) -> tuple[int, bytes]:
        return slot_of(key), self.buckets[number].row_key(key)

    def write(self, key: bytes, framed: bool = False, number: int = 0) -> None:
        slot, rkey = self.row(key, number)
        held = self.store.find(slot, rkey)
        if held is None:
            bucket = self.buckets[number]

            def again() -> None:
                if self.buckets.get(number) == bucket:
                    self.write(key, framed, number)

            self.store.load(slot, rkey, again)
            self.store.turn()
            return
        assert held == self.known(rkey), "what is said to be absent is absent"
        self.stamp += 1
        new = record(b"%d" % self.stamp, held, self.stamp)
        if framed:
            assert not self.store.replace_many([slot], [rkey], [held[:8]], [new])
        else:
            self.store.put(slot, rkey, held[:8], new)
        self.store.append([chunk((slot, rkey, held, new))])

    def work(self) -> None:
        """All that is to be done, slices and jobs, and the rebuild with them."""
        for _ in range(4_000):
            self.time_ms += 20.0
            more = self.store.background(1.0)
            if not (more or self.worker.jobs or self.worker.results or 0 in self.store.tree.ready):
                return
            self.worker.drain()

    def held(self) -> dict[bytes, bytes]:
        """Every record of a bucket in force, by row key."""
        return {rkey: value for rkey, value in self.everything().items() if rkey[:6] in self.live}

    def known(self, rkey: bytes) -> bytes:
        return self.everything().get(rkey, b"")

    def everything(self) -> dict[bytes, bytes]:
        found = {split_storage_key(key)[1]: value for key, value in self.medium.records.items()}
        for layer in reversed(self.store._layers()):
            for table in layer:
                found.update(table)
        return found

    def truth(self) -> HashTree:
        tree = HashTree()
        for rkey, value in self.held().items():
            tree.apply(slot_of(key_of(rkey)), rkey, b"", value[:8])
        return tree

    def check(self) -> None:
        """For slots that are ready, and for what the rebuild has passed."""
        self.store.fold(1_000_000)
        truth, tree = self.truth(), self.store.tree
        slots = {slot_of(key) for key in KEYS}
        for slot in slots:
            if tree.ready[slot]:
                assert (tree.roots[slot], tree.leaves_of(slot)) == (truth.roots[slot], truth.leaves_of(slot))
        if 0 not in tree.ready:
            assert tree.roots == truth.roots


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.listed: list[tuple[int, int, int]] = []

    @rule(key=st.sampled_from(KEYS), framed=st.booleans(), number=st.sampled_from((0, 0, 1, 20)))
    def write(self, key: bytes, framed: bool, number: int) -> None:
        self.machine.write(key, framed, number)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=5, max_size=30))
    def write_many(self, keys: list[bytes]) -> None:
        for key in keys:
            self.machine.write(key)

    @rule(budget_ms=st.sampled_from((0.0, 0.05, 5.0)), after_ms=st.sampled_from((0.0, 20.0, 70_000.0)))
    def background(self, budget_ms: float, after_ms: float) -> None:
        self.machine.time_ms += after_ms
        self.machine.store.background(budget_ms)

    @rule()
    def job(self) -> None:
        if self.machine.worker.jobs:
            self.machine.worker.run()

    @rule()
    def result(self) -> None:
        if self.machine.worker.results:
            self.machine.worker.deliver()

    @rule(count=st.integers(1, 40))
    def fold(self, count: int) -> None:
        self.machine.store.fold(count)

    @rule(key=st.sampled_from(KEYS), leaves=st.sampled_from((1, 3, 64, 64 * 400)), limit=st.sampled_from((1, 3, 500)))
    def list(self, key: bytes, leaves: int, limit: int) -> None:
        first = leaf_of(slot_of(key), key)
        end = min(SLOTS << LEAF_BITS, first + leaves)
        self.machine.store.digests(first << LEAF_SHIFT, end << LEAF_SHIFT, limit, lambda *_: None)

    @rule(fail=st.booleans())
    def disk(self, fail: bool) -> None:
        self.machine.engine.fail_reads = fail

    @rule()
    def restart(self) -> None:
        self.machine.open()

    @rule(numbers=st.sampled_from(((0,), (1,), (0, 1), (0, 1, 20))))
    def flush_buckets(self, numbers: tuple[int, ...]) -> None:
        self.machine.flush(*numbers)

    @rule()
    def bucket_is_created(self) -> None:
        """Under a number that no bucket ever had."""
        machine = self.machine
        bucket = machine.buckets[machine.next_number] = Bucket(machine.next_number, 1)
        machine.next_number += 1
        machine.store.follow(machine.live, [bucket.prefix], [])

    @rule(which=st.integers(0, 99))
    def bucket_is_dropped(self, which: int) -> None:
        machine = self.machine
        created = [number for number in machine.buckets if number > 20]
        if created:
            del machine.buckets[created[which % len(created)]]
            machine.store.follow(machine.live, [], machine.void)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=10), which=st.integers(0, 99))
    def write_to_the_created(self, keys: Sequence[bytes], which: int) -> None:
        created = [number for number in self.machine.buckets if number > 20]
        for key in keys if created else []:
            self.machine.write(key, number=created[which % len(created)])

    @rule()
    def settle(self) -> None:
        self.machine.engine.fail_reads = False
        self.machine.time_ms += 70_000.0
        self.machine.work()
        assert 0 not in self.machine.store.tree.ready

    @invariant()
    def the_tree_is_that_of_the_records(self) -> None:
        # Only sometimes: to fold all the time would hide what depends on keys that wait.
        if not self.machine.stamp % 3:
            self.machine.check()
            assert not self.machine.store.mended

    def teardown(self) -> None:
        self.settle()
        self.machine.check()
        assert not self.machine.store.mended


def test_slots_that_wait_for_the_rebuild_wait_through_a_flush() -> None:
    machine = Machine()
    for number in (0, 0, 1):
        machine.write(KEYS[0], number=number)
    machine.check()
    machine.flush(0)
    machine.write(KEYS[0])
    machine.store.fold(1)
    machine.flush(0)
    machine.check()
    machine.work()
    machine.check()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_listing_sets_a_wrong_leaf_right() -> None:
    machine = Machine()
    machine.work()
    for key in KEYS:
        machine.write(key)
    machine.check()
    leaf = leaf_of(slot_of(KEYS[3]), KEYS[3])
    machine.store.tree.add(leaf, 99)
    found: list[object] = []
    assert machine.store.digests(
        leaf << LEAF_SHIFT, (leaf + 1) << LEAF_SHIFT, 100, lambda *listed: found.append(listed)
    )
    machine.worker.drain()
    machine.check()
    slot, rkey = machine.row(KEYS[3])
    held = machine.store.find(slot, rkey)
    assert held and found == [([(rkey, held[:8])], (leaf + 1) << LEAF_SHIFT)] and machine.store.mended == 1


def test_pages_of_a_listing_make_up_the_whole() -> None:
    machine = Machine()
    for key in KEYS:
        machine.write(key)
    machine.work()
    for key in KEYS[::7]:
        machine.write(key)
    found: dict[bytes, bytes] = {}
    ends = [0]

    def listed(page: list[tuple[bytes, bytes]] | None, upto: int) -> None:
        assert page is not None
        assert all(ends[-1] <= position_of(slot_of(key_of(rkey)), key_of(rkey)) < upto for rkey, _ in page)
        found.update(page)
        ends.append(upto)

    while ends[-1] < END:
        assert machine.store.digests(ends[-1], END, 7, listed)
        machine.worker.drain()
    assert found == {rkey: value[:8] for rkey, value in machine.held().items()} and len(found) == len(KEYS)


def test_a_record_that_cannot_be_read_differs_from_every_other() -> None:
    machine = Machine()
    machine.write(KEYS[0])
    machine.store._flush_due = True
    machine.work()
    machine.open()
    get_many = machine.engine.get_many

    def fail(_: object) -> list[bytes]:
        raise ReadFailed("bad block")

    machine.engine.get_many = fail  # type: ignore[method-assign,assignment]
    machine.work()
    found: list[object] = []
    slot, rkey = machine.row(KEYS[0])
    machine.store.digests(slot << POSITION_BITS, (slot + 1) << POSITION_BITS, 9, lambda page, _: found.append(page))
    machine.worker.drain()
    assert found == [[(rkey, UNREADABLE)]]
    machine.engine.get_many = get_many  # type: ignore[method-assign]
    machine.store.put(slot, rkey, None, record(b"healed"))  # as core/cold.py does
    assert not machine.store.tree.ready[slot]
    machine.time_ms += 70_000.0
    machine.work()
    machine.check()
    assert machine.store.tree.ready[slot] and machine.store.tree.roots[slot]


def test_trees_are_let_go_under_a_storm_and_made_anew_when_it_is_calm() -> None:
    machine = Machine(StoreConfig(sync_mode="off"))
    machine.work()
    new = record(b"v")
    keys = [b"%d" % number for number in range(DIRTY_MAX + 1)]
    for key in [*keys, *keys]:
        machine.store.put(*machine.row(key), b"", new)
    machine.time_ms += 10.0
    machine.store.background(1.0)
    assert not any(machine.store.tree.ready) and not machine.store._trees.behind
    for number in range(300):
        for each in range(600):
            machine.store.put(*machine.row(b"%d:%d" % (number, each)), b"", new)
        machine.time_ms += 10.0
        machine.store.background(1.0)
    assert not any(machine.store.tree.ready), "it goes on"
    machine.time_ms += CALM_MS
    machine.work()
    machine.check()
    assert 0 not in machine.store.tree.ready and not machine.store.mended


def test_what_is_written_at_a_moderate_rate_is_folded() -> None:
    machine = Machine(StoreConfig(sync_mode="off"))
    machine.work()
    for number in range(1_000):
        for each in range(50):
            machine.store.put(*machine.row(b"%d:%d" % (number, each)), b"", record(b"v"))
        machine.time_ms += 10.0
        machine.store.background(1.0)
        assert machine.store._trees.behind <= 256
    assert 0 not in machine.store.tree.ready
    machine.check()


def test_a_flush_empties_the_trees_where_nothing_else_is_in_them() -> None:
    machine = Machine()
    for key in KEYS:
        machine.write(key)
    machine.work()
    machine.flush(0)
    assert not any(machine.store.tree.roots) and all(machine.store.tree.ready)
    machine.write(KEYS[0], number=1)
    machine.work()
    machine.flush(0)
    assert all(machine.store.tree.ready), "nothing was written in between"
    machine.check()


def test_a_flush_of_one_of_several_buckets_makes_the_trees_anew() -> None:
    machine = Machine()
    for key in KEYS:
        machine.write(key)
        machine.write(key, number=1)
    machine.work()
    machine.flush(0)
    assert not any(machine.store.tree.ready)
    machine.work()
    assert all(machine.store.tree.ready) and any(machine.store.tree.roots)
    machine.check()


def test_other_buckets_are_in_no_tree() -> None:
    machine = Machine()
    machine.work()
    other = Bucket(0xFFFF, 1).row_key(b"hint")
    machine.store.put(slot_of(b"hint"), other, b"", record(b"v"))
    machine.store.fold(10)
    assert not any(machine.store.tree.roots)


def test_a_listing_is_made_again_where_a_flush_ended_meanwhile() -> None:
    machine = Machine(StoreConfig(sync_mode="off", memtable_bytes=1, cache_bytes=1, segment_bytes=2_000))
    key = KEYS[0]
    machine.write(key)
    machine.work()
    machine.open()
    machine.work()
    slot, worker = slot_of(key), machine.worker
    found: list[object] = []
    machine.store.digests(slot << POSITION_BITS, (slot + 1) << POSITION_BITS, 9, lambda page, _: found.append(page))
    worker.run()
    worker.deliver()  # the names
    worker.run()  # the old record is read, and told to nobody yet
    machine.write(key)
    worker.run()
    worker.deliver(1)  # loaded, and written
    for _ in range(100):
        machine.time_ms += 20.0
        machine.store.background(100.0)
        if worker.jobs:
            worker.run()
            worker.deliver(1)
    assert machine.medium.flushes == 2 and not any(map(any, machine.store.layers())) and not found
    worker.drain()
    rkey = machine.row(key)[1]
    assert found == [[(rkey, machine.held()[rkey][:8])]]
    machine.check()


def test_a_listing_that_begins_while_a_counted_flush_still_leaves_memory_is_whole() -> None:
    machine = Machine(StoreConfig(sync_mode="off", memtable_bytes=1, cache_bytes=1, segment_bytes=2_000))
    cold, leaving = KEYS[30], KEYS[31]
    machine.write(cold)
    machine.work()
    machine.open()
    machine.work()
    store, worker, slot = machine.store, machine.worker, slot_of(cold)
    machine.write(leaving)
    worker.drain()
    rows = [machine.row(key)[1] for key in (cold, leaving)]
    assert rows[1] in store.tables[slot]
    while store._reads.flushes == 0:
        machine.time_ms += 20.0
        store.background(0.0)
        if worker.jobs:
            worker.run()
            worker.deliver()
    assert any(rows[1] in layer[slot] for layer in store.layers()), "counted, and not yet moved out of memory"
    worker.drain()
    found: list[object] = []
    store.digests(slot << POSITION_BITS, (slot + 1) << POSITION_BITS, 9, lambda page, _: found.append(page))
    worker.run()
    worker.deliver()  # the names
    while any(map(any, store.layers())):
        machine.time_ms += 20.0
        store.background(100.0)
    worker.drain()
    assert len(found) == 1 and sorted(found[0]) == sorted((rkey, machine.held()[rkey][:8]) for rkey in rows)  # type: ignore[call-overload]
    machine.check()


def test_a_slot_in_doubt_behind_the_rebuild_is_made_anew_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "REBUILD_KEYS", 5)
    machine = Machine()
    for key in KEYS:
        machine.write(key)
    machine.work()
    machine.open()
    store = machine.store
    first = min(slot_of(key) for key in KEYS)
    while not store.tree.ready[first]:
        machine.time_ms += 20.0
        store.background(1.0)
        machine.worker.drain()
    assert 0 in store.tree.ready, "the rebuild goes on"
    store._trees.doubt(first)
    begun_ms = machine.time_ms
    machine.work()
    while 0 in store.tree.ready:
        machine.time_ms += 20.0
        store.background(1.0)
        machine.worker.drain()
    assert machine.time_ms - begun_ms < REBUILD_AGAIN_MS / 2
    machine.check()
