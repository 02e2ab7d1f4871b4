"""The store: nothing put is ever unfindable, nothing appended is ever lost, nothing stale comes back (section 6, B4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.storage.fakes import BUCKET, MemoryDisk, Steps, chunk, record, row

from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import key_of, position_of, storage_key
from ringwise.core.ring import SLOTS, slot_of
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage import store as stores
from ringwise.storage.errors import ReadFailed, WritingEnded
from ringwise.storage.store import Store, StoreConfig, _records_in

SMALL = StoreConfig(sync_mode="batch", memtable_bytes=1, cache_bytes=3_000, segment_bytes=2_000, cold_queue_max=4)


class Machine:
    """A store, and what it stands on, over several lives."""

    def __init__(self, config: StoreConfig = SMALL, early: Callable[[], float] = lambda: 0.0) -> None:
        self.disk = MemoryDisk()
        self.medium = Medium()
        self.config = config
        self.early = early
        self.time_ms = 0.0
        self.held: dict[int, bytes] = {}  # what was written last
        self.open()

    def open(self) -> None:
        self.worker = Steps()
        self.engine = ModelEngine(self.medium)
        self.store = Store(self.disk, self.engine, self.worker, self.config, self.clock_ms, self.early)

    def clock_ms(self) -> float:
        self.time_ms += 0.01
        return self.time_ms

    def write(self, number: int, value: bytes) -> bytes:
        slot, rkey = row(number)
        old = self.held.get(number, b"")
        new = self.held[number] = record(value, old)
        self.store.put(slot, rkey, old[:8], new)
        self.store.append([chunk((slot, rkey, old, new))])
        return new

    def remove(self, number: int) -> None:
        """As reaping does with what is dead."""
        slot, rkey = row(number)
        old = self.held.pop(number, b"")
        self.store.put(slot, rkey, old[:8], b"")
        self.store.append([chunk((slot, rkey, old, b""))])

    def find(self, number: int) -> bytes | None:
        return self.store.find(*row(number))

    def load(self, number: int, then: Callable[[], None]) -> bool:
        return self.store.load(*row(number), then)

    def flush(self) -> None:
        """Everything that is in the memtable, into the engine and the cache."""
        while self.store.background(100.0) or self.worker.jobs:
            self.worker.drain()

    def flush_and_forget(self) -> None:
        """As after a restart: flushed, and in no memory."""
        self.flush()
        self.open()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_new_store_knows_what_is_absent(machine: Machine) -> None:
    assert machine.find(1) == b""
    new = machine.write(1, b"v")
    assert (machine.find(1), machine.find(2)) == (new, b"")


def test_s2_everything_appended_is_there_after_a_crash_at_every_stage_of_a_flush(machine: Machine) -> None:
    records = [machine.write(n, b"%d" % n) for n in range(8)]
    stages = 0
    while machine.store.background(0.0) or machine.worker.jobs:
        stages += 1
        assert [machine.find(n) for n in range(8)] == records
        life = Store(machine.disk, ModelEngine(machine.medium), Steps(), SMALL, machine.clock_ms)
        held = [life.find(*row(n)) or machine.medium.records[storage_key(*row(n))] for n in range(8)]
        assert held == records
        if not machine.store._flush or not machine.store._flush._writing:
            machine.worker.drain()
    assert stages > 10
    assert machine.medium.flushes == 1


def test_records_stay_findable_while_a_later_memtable_fills(machine: Machine) -> None:
    old = [machine.write(n, b"old") for n in range(4)]
    machine.store.background(0.0)
    new = machine.write(0, b"new")
    machine.flush()
    assert [machine.find(n) for n in range(4)] == [new, *old[1:]]


def test_a_cold_key_is_loaded_and_its_waiters_run_in_order(machine: Machine) -> None:
    held = machine.write(1, b"v")
    machine.flush_and_forget()
    assert machine.find(1) is None
    heard: list[tuple[str, bytes | None]] = []
    for name in "abc":
        assert machine.load(1, lambda name=name: heard.append((name, machine.find(1))))  # type: ignore[misc]
    assert machine.store.waiting(row(1)[1])
    machine.store.turn()
    assert heard == []
    machine.worker.drain()
    assert heard == [("a", held), ("b", held), ("c", held)]
    assert not machine.store.waiting(row(1)[1])


def test_an_absent_key_is_looked_up_once(machine: Machine) -> None:
    machine.write(1, b"v")
    machine.flush_and_forget()
    heard: list[bytes | None] = []
    machine.load(2, lambda: heard.append(machine.find(2)))
    machine.store.turn()
    machine.worker.drain()
    assert (heard, machine.find(2)) == ([b""], b"")


def test_b4_a_loaded_record_is_there_for_its_waiter_even_if_the_cache_holds_one_only() -> None:
    machine = Machine(StoreConfig(memtable_bytes=1, cache_bytes=1))
    records = [machine.write(n, b"v%d" % n) for n in range(50)]
    machine.flush_and_forget()
    heard: list[bytes | None] = []
    for n in range(50):
        machine.load(n, lambda n=n: heard.append(machine.find(n)))  # type: ignore[misc]
    machine.store.turn()
    machine.worker.drain()
    assert heard == records


def test_the_queue_of_cold_reads_is_bounded(machine: Machine) -> None:
    machine.write(1, b"v")
    machine.flush_and_forget()
    heard: list[int] = []
    assert [machine.load(n % 3, partial(heard.append, n)) for n in range(5)] == [True] * 4 + [False]
    machine.store.turn()
    machine.worker.drain()
    assert sorted(heard) == [0, 1, 2, 3]
    assert machine.load(9, partial(heard.append, 9))


def test_a_read_that_a_write_overtook_brings_nothing_old_back(machine: Machine) -> None:
    machine.write(1, b"old")
    machine.flush_and_forget()
    heard: list[bytes | None] = []
    machine.load(1, lambda: heard.append(machine.find(1)))
    machine.store.turn()
    machine.worker.run(-1)  # has read the old record; its result is under way
    new = machine.write(1, b"new")
    machine.worker.drain()
    assert heard == [new]
    machine.flush()
    assert machine.find(1) == new


def test_a_read_that_a_whole_flush_and_an_eviction_overtook_is_done_again() -> None:
    machine = Machine(StoreConfig(memtable_bytes=1, cache_bytes=1))
    machine.write(1, b"old")
    machine.flush_and_forget()
    machine.worker.drain()
    heard: list[bytes | None] = []
    machine.load(1, lambda: heard.append(machine.find(1)))
    machine.store.turn()
    machine.worker.run()  # has read the old record; its result is under way
    slow = machine.worker.results.pop()
    new = machine.write(1, b"new")
    machine.write(2, b"other")  # evicts it from a cache of one
    machine.flush()
    machine.write(3, b"another")
    machine.flush()
    assert machine.find(1) is None
    slow[0](slow[1])
    assert heard == [], "what was read is older than what the engine holds now"
    machine.store.turn()
    machine.worker.drain()
    assert heard == [new]


def test_s4_a_damaged_record_is_told_and_is_not_taken_as_absent(machine: Machine) -> None:
    machine.write(1, b"v")
    machine.flush_and_forget()
    machine.medium.damage(storage_key(*row(1)))
    told: list[tuple[int, bytes, type[Exception]]] = []
    machine.store.on_damaged = lambda slot, rkey, error: told.append((slot, rkey, type(error)))
    heard: list[bytes | None] = []
    machine.load(1, lambda: heard.append(machine.find(1)))
    machine.store.turn()
    machine.worker.drain()
    assert (heard, told) == ([None], [(*row(1), RecordDamaged)])
    new = machine.write(1, b"from a replica")
    machine.flush_and_forget()
    machine.load(1, lambda: heard.append(machine.find(1)))
    machine.store.turn()
    machine.worker.drain()
    assert heard == [None, new]


def test_an_engine_that_cannot_read_fails_the_keys_it_cannot_read(machine: Machine) -> None:
    held = machine.write(1, b"v")
    machine.write(2, b"v")
    machine.flush_and_forget()
    bad = storage_key(*row(2))
    read = machine.engine.get_many

    def get_many(keys: list[bytes]) -> list[bytes]:
        if bad in keys:
            raise ReadFailed("a damaged block")
        return read(keys)

    machine.engine.get_many = get_many  # type: ignore[assignment, method-assign]
    told: list[type[Exception]] = []
    machine.store.on_damaged = lambda _slot, _rkey, error: told.append(type(error))
    heard: list[bytes | None] = []
    machine.load(1, lambda: heard.append(machine.find(1)))
    machine.load(2, lambda: heard.append(machine.find(2)))
    machine.store.turn()
    machine.worker.drain()
    assert (heard, told) == ([held, None], [ReadFailed])


def test_one_flush_at_a_time_and_overload_past_twice_the_limit() -> None:
    machine = Machine(StoreConfig(memtable_bytes=2_000, cache_bytes=1_000))
    while not machine.store.background(0.0):
        machine.write(1, b"x" * 100)
    for n in range(8):
        machine.write(n, b"x" * 100)
    assert not machine.store.overloaded
    while not machine.store.overloaded:
        machine.write(2, b"x" * 100)
    assert machine.store._memtable_bytes > 4_000
    machine.flush()
    assert not machine.store.overloaded
    assert machine.medium.flushes == 2


@pytest.mark.parametrize("removes", [False, True])
def test_a_flush_begins_early_by_what_was_drawn_for_it(removes: bool) -> None:
    """S5: replicas fill alike, and are not all to flush at one moment."""
    drawn = [0.5, 0.0, 0.25, 0.0]
    config = StoreConfig(removed_rows=100) if removes else StoreConfig(memtable_bytes=40_000)
    machine = Machine(config, lambda: drawn.pop(0))
    counts: list[int] = []
    number = 0
    for _ in range(3):
        first = number
        while not machine.store.background(0.0):
            machine.write(number, b"x" * 100)
            if removes:
                machine.remove(number)
            number += 1
            assert number < 2_000
        counts.append(number - first)
        machine.flush()
    whole = counts[1]
    assert whole == 100 or not removes
    assert counts == pytest.approx([0.5 * whole, whole, 0.75 * whole], abs=2)


def test_keys_written_over_and_over_are_flushed_by_what_a_start_would_replay() -> None:
    machine = Machine(StoreConfig(memtable_bytes=2_000, cache_bytes=1_000))
    while machine.store.position < 3 * 2_000:
        machine.write(1, b"x" * 100)
        assert not machine.store.background(0.0) and not machine.store.overloaded
    while not machine.store.background(0.0):
        machine.write(1, b"x" * 100)
        assert machine.store.position < 4 * 2_000
    machine.flush()
    assert machine.medium.flushes == 1


def test_what_was_removed_gives_its_space_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the memtable has room: of the log, of the cache, and of the engine once as much has gone as is left."""
    machine = Machine(StoreConfig(cache_bytes=1_000_000, removed_rows=10))
    reclaimed: list[int] = []
    for number in range(40):
        machine.write(number, b"x" * 100)
    machine.store._flush_due = True
    machine.flush()
    slots: list[int] = []

    def reclaim(first: int, end: int) -> None:
        slots.extend(range(first, end))
        if end == SLOTS:
            assert slots == list(range(SLOTS)), "a part at a time"
            slots.clear()
            reclaimed.append(machine.engine.count())

    monkeypatch.setattr(machine.engine, "reclaim", reclaim)
    assert len(machine.store._cache) == 40
    for number in range(9):
        machine.remove(number)
        assert not machine.store.background(1.0)
    machine.remove(9)
    machine.flush()
    assert (machine.medium.flushes, machine.engine.count(), len(machine.store._cache)) == (2, 30, 30)
    assert machine.find(9) == b"" and reclaimed == []
    for number in range(10, 20):
        machine.remove(number)
    machine.flush()
    assert (machine.medium.flushes, reclaimed) == (3, []), "more may go"
    machine.time_ms += stores.CALM_MS
    machine.flush()
    assert (machine.medium.flushes, reclaimed) == (3, [20])
    for number in range(20, 30):
        machine.remove(number)
    machine.flush()
    machine.time_ms += stores.CALM_MS
    machine.flush()
    assert reclaimed == [20, 10]
    assert machine.engine.position == machine.store.position, "nothing is left in the log"
    assert all(machine.find(number) == machine.held.get(number, b"") for number in range(40))


def test_an_engine_that_cannot_give_space_back_ends_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(StoreConfig(removed_rows=1))
    machine.write(1, b"v")
    machine.remove(1)

    def fails(_first: int, _end: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(machine.engine, "reclaim", fails)
    machine.flush()
    machine.time_ms += stores.CALM_MS
    machine.flush()
    assert machine.store.failed and str(machine.store.failure) == "the disk is full"


def test_a_flush_waits_while_the_engine_is_behind(machine: Machine) -> None:
    machine.write(1, b"v")
    machine.engine.behind = True
    assert not machine.store.background(1.0)
    machine.engine.behind = False
    machine.flush()
    assert machine.medium.flushes == 1


def test_s5_a_flush_of_one_crowded_slot_is_cut_into_slices_and_sorted() -> None:
    machine = Machine(StoreConfig(memtable_bytes=1, cache_bytes=10_000_000))
    slot, rkey = row(0)
    records = {rkey + b"%d" % n: record(b"%d" % n) for n in range(2_000)}  # rows of one collection
    for each, held in records.items():
        machine.store.put(slot, each, b"", held)
    machine.store.append([chunk((slot, rkey, b"", record(b"")))])
    slices = 0
    while machine.store.background(0.0) or machine.worker.jobs:
        slices += 1
        machine.worker.drain()
    assert slices > 2_000 / 128 * 3
    found = machine.engine.scan(b"", b"\xff", 10_000)
    assert found == sorted((storage_key(slot, each), held) for each, held in records.items())


def test_a_failed_flush_ends_writing_and_loses_nothing(machine: Machine) -> None:
    held = machine.write(1, b"v")
    machine.engine.fail_flushes = True
    machine.flush()
    assert machine.store.failed
    with pytest.raises(WritingEnded):
        machine.write(2, b"v")
    assert machine.find(1) == held
    machine.open()
    assert machine.find(1) == held


def test_s3_batch_syncs_what_came_meanwhile_in_one_sync(machine: Machine) -> None:
    machine.worker.drain()
    told: list[int] = []
    machine.store.on_synced = told.append
    machine.write(1, b"a")
    first = machine.store.position
    machine.store.turn()
    for n in range(5):
        machine.write(n, b"b")
        machine.store.turn()
    machine.worker.drain()
    machine.store.turn()
    machine.worker.drain()
    assert told == [first, machine.store.position]


def test_s3_periodic_syncs_once_a_second_and_off_never() -> None:
    machine = Machine(StoreConfig(sync_mode="periodic"))
    told: list[int] = []
    machine.store.on_synced = told.append
    for _ in range(10):
        machine.write(1, b"a")
        machine.store.turn()
        machine.worker.drain()
        machine.time_ms += 400
    assert len(told) == 4
    machine = Machine(StoreConfig(sync_mode="off"))
    machine.worker.drain()
    machine.write(1, b"a")
    machine.store.turn()
    assert machine.worker.jobs == []


def test_a_clean_stop_syncs_and_a_failed_one_says_so(machine: Machine) -> None:
    machine.write(1, b"a")
    machine.worker.drain()
    end = machine.store.close()
    assert sum(machine.disk.unsynced().values()) == 0
    machine.open()
    assert machine.store.position == end
    machine.worker.drain()
    machine.disk.fail_sync = True
    machine.write(1, b"b")
    machine.store.turn()
    machine.worker.drain()
    assert machine.store.failed
    with pytest.raises(WritingEnded):
        machine.store.close()


def test_the_greatest_stamp_survives_log_and_flush(machine: Machine) -> None:
    slot, rkey = row(1)
    high = record(b"v", stamp=1 << 62)
    machine.store.put(slot, rkey, b"", high)
    machine.store.append([chunk((slot, rkey, b"", high))])
    machine.open()
    assert machine.store.stamp == 1 << 62
    machine.flush()
    machine.write(2, b"low")
    machine.flush_and_forget()
    assert machine.store.stamp == 1 << 62


def test_replay_settles_states_of_one_turn_that_were_logged_out_of_order(machine: Machine) -> None:
    slot, rkey = row(1)
    first = record(b"first")
    second = record(b"second", first, stamp=2)
    machine.store.put(slot, rkey, b"", second)
    machine.store.append([chunk((slot, rkey, first, second)), chunk((slot, rkey, b"", first))])
    machine.open()
    assert machine.find(1) == second


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 70_000])
def test_records_of_a_chunk_are_counted_from_its_head(count: int) -> None:
    assert _records_in(chunk(*[(1, b"k", b"", b"")] * count)) == count


def names_of(numbers: Iterable[int]) -> list[tuple[int, bytes]]:
    keys = [key_of(row(number)[1]) for number in numbers]
    return sorted((position_of(slot_of(key), key), key) for key in keys)


POSITIONS = [0, *(at + more for at, _ in names_of(range(8)) for more in (0, 1)), SLOTS << 48]


def test_a_walk_names_what_memory_and_disk_hold(machine: Machine) -> None:
    for number in range(4):
        machine.write(number, b"old")
    machine.flush_and_forget()
    for number in range(2, 6):
        machine.write(number, b"new")
    heard: list[tuple[list[tuple[int, bytes]] | None, int]] = []
    assert machine.store.names(BUCKET.prefix, 0, SLOTS << 48, 10, lambda *named: heard.append(named))
    assert not heard, "the disk is asked in a worker"
    machine.worker.drain()
    assert heard == [(names_of(range(6)), SLOTS << 48)]


def test_a_walk_sees_what_a_flush_carries_from_one_place_to_the_other(machine: Machine) -> None:
    """Begun before the flush ends, and looked up in the engine at any time from then on."""
    machine.write(0, b"v")
    machine.flush_and_forget()
    machine.write(1, b"v")
    heard: list[list[tuple[int, bytes]] | None] = []
    machine.store.background(100.0)
    machine.store.names(BUCKET.prefix, 0, SLOTS << 48, 10, lambda names, _: heard.append(names))
    machine.worker.run(1)  # the walk's look at the engine, before the flush is there
    machine.worker.run(0)
    machine.worker.deliver(1)
    while machine.store.background(100.0):
        pass
    machine.worker.drain()
    assert heard == [names_of([0, 1])]


def test_a_slot_of_many_keys_is_indexed_in_the_worker_and_kept_up_to_date(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringwise.storage.walk.LARGE", 20)
    slot = slot_of(b"tag")
    keys: list[bytes] = []

    def put(count: int) -> None:
        for _ in range(count):
            keys.append(b"{tag}%d" % len(keys))
            machine.store.put(slot, BUCKET.row_key(keys[-1]), b"", record(b"v"))

    def walk_all() -> list[bytes]:
        found: list[bytes] = []
        ends = [0]

        def then(names: list[tuple[int, bytes]] | None, upto: int) -> None:
            assert names is not None and len(names) <= 7 and all(ends[-1] <= at < upto for at, _ in names)
            found.extend(key for _, key in names)
            ends.append(upto)

        while ends[-1] < SLOTS << 48:
            count = len(ends)
            assert machine.store.names(BUCKET.prefix, ends[-1], SLOTS << 48, 7, then)
            machine.worker.drain()
            assert len(ends) == count + 1 and ends[-1] > ends[-2]
        return found

    def ordered() -> list[bytes]:
        return [key for _, key in sorted((position_of(slot, key), key) for key in keys)]

    machine.store.put(*row(0), b"", record(b"v"))
    alone = [key_of(row(0)[1])]
    put(500)
    worked: list[int] = []
    submit = machine.worker.submit

    def counted(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        worked.append(1)
        submit(work, done)

    monkeypatch.setattr(machine.worker, "submit", counted)
    assert sorted(walk_all()) == sorted(keys + alone) and len(worked) == 1, "indexed once"
    assert [key for key in walk_all() if key not in alone] == ordered()
    put(20)
    assert sorted(walk_all()) == sorted(keys + alone) and len(worked) == 1, "few new ones are added at once"
    put(21)
    assert sorted(walk_all()) == sorted(keys + alone) and len(worked) == 2


def test_a_walk_that_cannot_read_says_so_and_too_many_are_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(0, b"v")
    machine.flush_and_forget()
    machine.engine.fail_reads = True
    heard: list[list[tuple[int, bytes]] | None] = []
    monkeypatch.setattr("ringwise.storage.walk.WAITING_MAX", 2)
    taken = [machine.store.names(BUCKET.prefix, 0, 1, 10, lambda names, _: heard.append(names)) for _ in range(5)]
    assert taken == [True, True, True, False, False], "one walks, two wait"
    machine.worker.drain()
    assert heard == [None] * 3


class StoreMachine(RuleBasedStateMachine):
    """Against a dictionary: any order of writes, removals, slices, jobs, deliveries, evictions, crashes."""

    large_slots = False

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(
            StoreConfig(sync_mode="batch", memtable_bytes=900, cache_bytes=2_500, segment_bytes=1_500)
        )
        self.model: dict[int, bytes] = {}
        self.removed: dict[int, bytes] = {}
        self.value = 0

    @rule(number=st.integers(0, 7))
    def write(self, number: int) -> None:
        self.value += 1
        self.model[number] = self.machine.write(number, b"%d" % self.value)

    @rule(number=st.integers(0, 7))
    def remove(self, number: int) -> None:
        """Only of what is at hand is it known what it is."""
        if self.machine.find(number):
            self.machine.remove(number)
            self.removed[number] = self.model.pop(number)

    @rule(number=st.integers(0, 7))
    def load(self, number: int) -> None:
        if self.machine.find(number) is None:
            self.machine.load(number, lambda: self.found(number))

    def found(self, number: int) -> None:
        assert self.machine.find(number) == self.model.get(number, b"")

    @rule()
    def turn(self) -> None:
        self.machine.store.turn()

    @rule(start=st.sampled_from(POSITIONS), end=st.sampled_from(POSITIONS), limit=st.integers(1, 9))
    def walk(self, start: int, end: int, limit: int) -> None:
        """A walk names whatever was there when it was begun, whenever its parts come together."""
        if start < end:
            wanted = [name for name in names_of(self.model) if start <= name[0] < end]
            then = partial(self.walked, wanted, (start, end, limit))
            assert self.machine.store.names(BUCKET.prefix, start, end, limit, then)

    def walked(
        self,
        wanted: list[tuple[int, bytes]],
        asked: tuple[int, int, int],
        names: list[tuple[int, bytes]] | None,
        upto: int,
    ) -> None:
        start, end, limit = asked
        assert names is not None and names == sorted(names) and len(names) <= limit
        assert start < upto <= end and all(start <= at < upto for at, _ in names)
        assert upto == end or len(names) == limit or self.large_slots
        there, gone = set(names_of(self.model)), set(names_of(self.removed))  # whose names may still be told
        assert {name for name in wanted if name[0] < upto} & there <= set(names) <= there | gone

    @rule(budget_ms=st.sampled_from([0.0, 1.0, 100.0]))
    def slice(self, budget_ms: float) -> None:
        self.machine.store.background(budget_ms)

    @precondition(lambda self: self.machine.worker.jobs)
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        self.machine.worker.run(data.draw(st.integers(0, len(self.machine.worker.jobs) - 1)))

    @precondition(lambda self: self.machine.worker.results)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.machine.worker.deliver(data.draw(st.integers(0, len(self.machine.worker.results) - 1)))

    @rule()
    def killed(self) -> None:
        self.machine.open()

    @rule()
    def stopped(self) -> None:
        self.machine.worker.drain()
        self.machine.store.close()
        self.machine.open()

    @invariant()
    def nothing_found_is_wrong(self) -> None:
        assert not self.machine.store.failed
        for number in range(8):
            assert self.machine.find(number) in (self.model.get(number, b""), None)

    @invariant()
    def complete_slots_are_in_memory(self) -> None:
        store = self.machine.store
        assert store._complete_count == sum(store.complete)
        for number, held in self.model.items():
            if store.complete[row(number)[0]]:
                assert self.machine.find(number) == held


class LargeSlots(StoreMachine):
    """Every slot is one that holds many keys."""

    large_slots = True

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("ringwise.storage.walk.LARGE", 0)

    def teardown(self) -> None:
        self.machine.worker.drain()
        self.patch.undo()


TestLargeSlots = LargeSlots.TestCase
TestLargeSlots.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
