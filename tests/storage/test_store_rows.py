"""Collections of which the log holds what changed (V3): a start puts them together again, from log and engine."""

from __future__ import annotations

import pytest
from tests.storage.fakes import BUCKET, Steps, row
from tests.storage.test_store import Machine

from ringwise.core.changes import AddMembers, RemoveMembers
from ringwise.core.deltas import is_delta
from ringwise.core.dots import DotSource
from ringwise.core.keys import storage_key
from ringwise.core.messages import encode_rows
from ringwise.core.record import whole
from ringwise.core.ring import slot_of
from ringwise.core.rows import Rows, as_sent
from ringwise.sim.engine import ModelEngine
from ringwise.storage.errors import ReadFailed
from ringwise.storage.store import Store, StoreConfig

NOW_MS = 1_700_000_000_000
MEGABYTE = 1 << 20
SLOT, RKEY = row(1)


class Scene:
    """A set that is written through a store, over several lives."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.dots = DotSource(b"node01", b"inc1")
        self.state = b""
        self.stamp = 0
        self.logged = 0  # bytes of the last change

    def change(self, change: AddMembers | RemoveMembers) -> None:
        self.stamp += 1
        before, self.state = self.state, change.apply(self.dots, self.state, self.stamp, NOW_MS)
        chunk = encode_rows([(SLOT, RKEY, before[:8], self.state)])
        self.logged = len(chunk)
        self.machine.store.put(SLOT, RKEY, before[:8], self.state)
        self.machine.store.append([chunk])

    def add(self, *members: bytes) -> None:
        self.change(AddMembers(members, MEGABYTE))

    @property
    def found(self) -> bytes:
        self.machine.load(1, lambda: None)
        self.machine.store.turn()
        self.machine.worker.drain()
        held = self.machine.find(1)
        assert held is not None
        return whole(held)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.add(*[b"member-%d" % each for each in range(300)])
    assert isinstance(scene.state, Rows)
    return scene


def test_the_log_gets_what_changed(scene: Scene) -> None:
    scene.add(b"one more")
    assert scene.logged < 200
    assert is_delta(as_sent(scene.state.steps[-1].base, scene.state)[1]) if isinstance(scene.state, Rows) else False


def test_a_start_puts_it_together_from_the_log(scene: Scene) -> None:
    scene.add(b"one more")
    scene.change(RemoveMembers((b"member-7",)))
    scene.machine.open()
    assert scene.found == whole(scene.state)


def test_a_start_puts_it_together_from_engine_and_log(scene: Scene) -> None:
    scene.machine.flush_and_forget()
    assert scene.found == whole(scene.state)
    scene.add(b"one more")
    scene.change(RemoveMembers((b"member-7",)))
    scene.machine.open()
    assert scene.found == whole(scene.state)
    scene.machine.flush_and_forget()
    assert scene.found == whole(scene.state)


def test_a_crash_at_every_stage_of_a_flush_loses_nothing(scene: Scene) -> None:
    machine = scene.machine
    machine.flush_and_forget()
    scene.add(b"one more")
    stages = 0
    machine.store._flush_due = True
    while machine.store.background(0.0) or machine.worker.jobs:
        stages += 1
        if stages == 5:
            scene.add(b"while it is flushed")
        life = Scene()
        life.machine.disk, life.machine.medium = machine.disk, machine.medium
        life.machine.open()
        assert life.found == whole(scene.state)
        if not machine.store._flush or not machine.store._flush._writing:
            machine.worker.drain()
    assert stages > 10


def test_what_the_engine_gives_is_whole_for_everybody_and_rows_for_the_store(scene: Scene) -> None:
    scene.machine.flush_and_forget()
    assert scene.machine.medium.records[storage_key(SLOT, RKEY)] == whole(scene.state)
    scene.machine.load(1, lambda: None)
    scene.machine.store.turn()
    scene.machine.worker.drain()
    assert isinstance(scene.machine.find(1), Rows)


def test_what_changed_of_a_damaged_record_is_lost_with_it(scene: Scene) -> None:
    """S4: alone the delta would pass for all that this node ever had of the key; others have it all."""
    scene.machine.flush_and_forget()
    scene.add(b"one more")
    scene.machine.medium.damage(storage_key(SLOT, RKEY))
    scene.machine.open()
    told: list[bytes] = []
    scene.machine.store.on_damaged = lambda _slot, rkey, _error: told.append(rkey)
    scene.machine.load(1, lambda: None)
    scene.machine.store.turn()
    scene.machine.worker.drain()
    assert (scene.machine.find(1), told) == (None, [RKEY])


def test_a_disk_that_does_not_answer_stops_the_start(scene: Scene) -> None:
    """Later it may answer, and the delta would be forgotten: who is to try again, or to replace the node, is told."""
    scene.machine.flush_and_forget()
    scene.add(b"one more")
    engine = ModelEngine(scene.machine.medium)
    engine.fail_reads = True
    with pytest.raises(ReadFailed, match=r"key:1.*try again, or replace the node"):
        Store(scene.machine.disk, engine, Steps(), scene.machine.config, scene.machine.clock_ms)
    scene.machine.open()
    assert scene.found == whole(scene.state)


def test_collections_that_were_written_to_are_flushed_by_what_they_take_of_memory() -> None:
    """What was appended of them says nothing of that."""
    machine = Machine(StoreConfig(memtable_bytes=100_000, segment_bytes=1 << 30))
    dots = DotSource(b"node01", b"inc1")
    keys = [(slot_of(key), BUCKET.row_key(key)) for key in (b"board:%d" % number for number in range(8))]
    states = [b""] * len(keys)

    def add(stamp: int, *members: bytes) -> None:
        for number, (slot, rkey) in enumerate(keys):
            before = states[number]
            states[number] = after = AddMembers(members, MEGABYTE).apply(dots, before, stamp, NOW_MS)
            machine.store.put(slot, rkey, before[:8], after)
            machine.store.append([encode_rows([(slot, rkey, before[:8], after)])])

    add(1, *[b"member-%d" % each for each in range(300)])
    machine.flush()
    flushes = machine.medium.flushes
    add(2, b"one more")
    assert machine.store._memtable_bytes < 0.1 * machine.config.memtable_bytes
    assert machine.store.pressure >= 1
    machine.flush()
    assert machine.medium.flushes == flushes + 1
