"""Purges: rows of dead incarnations leave memory, the log and the engine, whenever the process ends (T5)."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
from tests.storage.fakes import MemoryDisk, Steps, chunk, record

from ringwise.core.keys import Bucket, storage_key
from ringwise.core.ring import slot_of
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage.disk import OsDisk
from ringwise.storage.engine import Engine
from ringwise.storage.lsm import LsmEngine
from ringwise.storage.purge import SLOTS_OF_A_JOB
from ringwise.storage.store import Store, StoreConfig

OLD, LIVE = Bucket(0, 1), Bucket(0, 2)
VOID = [(bytes(6), LIVE.prefix)]
CONFIG = StoreConfig(sync_mode="batch", memtable_bytes=20_000, cache_bytes=30_000, segment_bytes=2_000)


class Machine:
    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.medium = Medium()
        self.time_ms = 0.0
        self.open()

    def open(self) -> None:
        self.worker = Steps()
        self.store = Store(self.disk, self.engine(), self.worker, CONFIG, self.clock_ms)

    def engine(self) -> Engine:
        return ModelEngine(self.medium)

    def clock_ms(self) -> float:
        self.time_ms += 0.01
        return self.time_ms

    def write(self, bucket: Bucket, count: int, value: bytes = b"v" * 50) -> None:
        for number in range(count):
            slot, rkey = row(bucket, number)
            new = record(value)
            self.store.put(slot, rkey, b"", new)
            self.store.append([chunk((slot, rkey, b"", new))])

    def work(self) -> None:
        """All that is to be done in the background."""
        while self.store.background(100.0) or self.store.purging or self.worker.jobs:
            self.worker.drain()

    def find(self, bucket: Bucket, number: int) -> bytes | None:
        return self.store.find(*row(bucket, number))

    def stored(self) -> set[bytes]:
        """The incarnations that memory and the engine hold."""
        layers = [self.store.tables, *([self.store._frozen] if self.store._frozen else [])]
        memory = {rkey[:6] for layer in layers for table in layer for rkey in table}
        cache = {rkey[:6] for shard in self.store._cache._shards for rkey in shard}
        return memory | cache | {key[2:8] for key in self.medium.records}


def row(bucket: Bucket, number: int) -> tuple[int, bytes]:
    key = b"key:%d" % (number % 500)
    if number >= 500:
        key = b"{crowded}%d" % number
    return slot_of(key), bucket.row_key(key)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_everything_void_goes_and_everything_in_force_stays(machine: Machine) -> None:
    machine.write(OLD, 5_000)
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    machine.write(LIVE, 700, b"live")
    machine.work()
    assert machine.stored() == {LIVE.prefix}
    found = [machine.find(LIVE, number) for number in range(700)]
    assert all(held is None or held.endswith(b"live") for held in found), "absent is none of them"
    assert not machine.store.purging


def test_a_new_incarnation_of_a_full_disk_knows_what_is_absent(machine: Machine) -> None:
    machine.write(OLD, 5_000)
    machine.work()
    machine.open()
    assert machine.medium.records and machine.find(LIVE, 1) is None, "only the disk can tell"
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    assert machine.find(LIVE, 1) == b"", "nothing of it can be there"


@pytest.mark.parametrize("steps", range(0, 60, 4))
def test_a_crash_at_any_time_leaves_the_rest_to_the_next_start(machine: Machine, steps: int) -> None:
    machine.write(OLD, 1_000)
    machine.work()
    machine.write(OLD, 300)
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    machine.write(LIVE, 100)
    for _ in range(steps):
        machine.store.background(0.05)
        machine.worker.drain()
    machine.open()
    assert all(machine.find(LIVE, number) != b"" for number in range(100))
    machine.store.follow([LIVE.prefix], [], VOID)
    machine.work()
    assert machine.stored() == {LIVE.prefix}
    machine.open()
    machine.store.follow([LIVE.prefix], [], VOID)
    assert OLD.prefix not in machine.stored(), "nor does the log bring it back"


def test_a_flush_under_way_is_finished_first(machine: Machine) -> None:
    machine.write(OLD, 400)
    while not machine.worker.jobs:
        machine.store.background(100.0)
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    machine.write(LIVE, 10)
    machine.work()
    assert machine.stored() == {LIVE.prefix}


def test_flush_upon_flush(machine: Machine) -> None:
    for incarnation in range(2, 30):
        machine.write(Bucket(0, incarnation - 1), 40)
        live = [Bucket(0, incarnation).prefix]
        machine.store.follow(live, live, [(bytes(6), live[0])])
        machine.store.background(0.1)
    machine.write(Bucket(0, 29), 40)
    machine.work()
    assert machine.stored() == {Bucket(0, 29).prefix}


def test_work_in_memory_is_cut_into_slices(machine: Machine) -> None:
    machine.write(OLD, 200)
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    slices = 0
    while machine.store.background(0.05):
        slices += 1
    assert slices > 10
    drops = [work for work, _ in machine.worker.jobs if isinstance(work, partial) and work.func.__name__ == "drop"]
    assert [(work.args[1], work.args[2]) for work in drops] == [(0, SLOTS_OF_A_JOB)], (
        "and the engine drops a few slots at a time"
    )


def test_an_engine_that_cannot_drop_ends_writing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(ModelEngine, "drop", fail)
    machine.write(OLD, 10)
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    for _ in range(100):
        machine.store.background(100.0)
        machine.worker.drain()
    assert machine.store.failed


class OnDisk(Machine):
    """The same on RocksDB and files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = OsDisk(path)
        self.medium = Medium()
        self.time_ms = 0.0
        self.worker = Steps()
        config = StoreConfig(sync_mode="batch", memtable_bytes=2_000_000, cache_bytes=1 << 20, segment_bytes=500_000)
        self.store = Store(self.files, LsmEngine(path / "engine", 1 << 20), self.worker, config, self.clock_ms)


def test_disk_space_comes_back(tmp_path: Path) -> None:
    machine = OnDisk(tmp_path)
    machine.write(OLD, 4_000, random.Random(1).randbytes(1_000))
    machine.work()
    machine.write(OLD, 900, random.Random(2).randbytes(1_000))
    before = used(tmp_path)
    assert before > 1_500_000
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    machine.write(LIVE, 50, b"live")
    machine.work()
    assert used(tmp_path) < before // 4, (before, used(tmp_path))
    keys = [storage_key(*row(LIVE, number)) for number in range(50)]
    assert all(machine.store._engine.get_many(keys)), "flushed, so that the log could be cut"
    machine.store.close()
    machine.files.close()


def used(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_what_begins_while_a_purge_goes_on_stays(machine: Machine) -> None:
    """Another incarnation, of this bucket or of another, and a new bucket: none of them is where the purge is at work."""
    machine.write(OLD, 3_000)
    machine.work()
    machine.store.follow([LIVE.prefix], [LIVE.prefix], VOID)
    begun = [LIVE, Bucket(1, 1), Bucket(7, 1)]
    machine.store.follow([bucket.prefix for bucket in begun], [bucket.prefix for bucket in begun[1:]], [])
    for bucket in begun:
        machine.write(bucket, 700, b"live")
    while machine.store.background(0.02) or machine.store.purging or machine.worker.jobs:
        if machine.worker.jobs:
            machine.worker.run()
        if machine.worker.results:
            machine.worker.deliver()
    for bucket in begun:
        for number in range(700):
            slot, rkey = row(bucket, number)
            held = machine.store.find(slot, rkey)
            held = machine.medium.records.get(storage_key(slot, rkey), b"") if held is None else held
            assert held.endswith(b"live")
    assert OLD.prefix not in machine.stored()
