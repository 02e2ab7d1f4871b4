"""What a crash leaves (S3): all that was synced, and of the rest what its kind of crash allows."""

import random

import pytest

from ringwise.sim.disk import Crash, TornDisk


def written(seed: int, synced: bytes, unsynced: bytes) -> TornDisk:
    disk = TornDisk(random.Random(seed))
    file = disk.open_append("log")
    file.append([synced])
    file.sync()
    file.append([unsynced])
    return disk


def test_process_death_keeps_everything_written() -> None:
    disk = written(0, b"one", b"two")
    disk.process_died()
    assert disk.read("log") == b"onetwo"


def test_power_loss_keeps_what_was_synced_and_some_prefix_of_the_rest() -> None:
    unsynced = bytes(range(100, 200))
    kept, torn = set(), 0
    for seed in range(200):
        disk = written(seed, b"one", unsynced)
        disk.power_lost()
        data = disk.read("log")
        assert data.startswith(b"one")
        tail = data[3:]
        common = next((i for i, (a, b) in enumerate(zip(tail, unsynced, strict=False)) if a != b), len(tail))
        torn += common < len(tail)
        assert len(tail) - common <= 64
        kept.add(common)
    assert {0, 100} <= kept
    assert len(kept) > 20
    assert torn > 20


def test_power_loss_does_not_lose_twice() -> None:
    disk = written(5, b"one", b"two")
    disk.power_lost()
    left = disk.read("log")
    disk.power_lost()
    assert disk.read("log") == left


def test_a_planted_crash_tears_an_append_and_ends_the_process() -> None:
    disk = TornDisk(random.Random(1))
    file = disk.open_append("log")
    disk.crash_at_append = 2
    file.append([b"first"])
    with pytest.raises(Crash):
        file.append([b"second", b"third"])
    disk.process_died()
    assert b"firstsecondthird".startswith(disk.read("log"))
    assert disk.read("log").startswith(b"first")


def test_a_file_of_a_dead_process_writes_no_more() -> None:
    disk = TornDisk(random.Random(1))
    file = disk.open_append("log")
    disk.process_died()
    with pytest.raises(OSError, match="died"):
        file.append([b"x"])
    with pytest.raises(OSError, match="died"):
        file.sync()


def test_a_failed_sync_loses_the_pages_and_the_next_one_does_not_bring_them_back() -> None:
    disk = written(0, b"one", b"two")
    disk.fail_syncs = True
    file = disk.open_append("log")
    with pytest.raises(OSError, match="input/output"):
        file.sync()
    disk.fail_syncs = False
    file.sync()
    assert disk.read("log") == b"one"


def test_replace_is_atomic_and_durable() -> None:
    disk = TornDisk(random.Random(1))
    disk.replace("topology", b"epoch 1")
    disk.replace("topology", b"epoch 2")
    disk.power_lost()
    assert disk.read("topology") == b"epoch 2"
    assert disk.names() == ["topology"]


def test_a_full_disk_takes_nothing() -> None:
    disk = TornDisk(random.Random(1))
    disk.fail_appends = True
    with pytest.raises(OSError, match="no space"):
        disk.open_append("log").append([b"x"])
    with pytest.raises(OSError, match="no space"):
        disk.replace("topology", b"x")


def test_names_that_are_not_there() -> None:
    disk = TornDisk(random.Random(1))
    with pytest.raises(FileNotFoundError):
        disk.read("log")
    with pytest.raises(FileNotFoundError):
        disk.remove("log")


def test_a_removed_file_may_be_back_until_the_directory_is_synced() -> None:
    back = []
    for seed in range(20):
        disk = written(seed, b"one", b"two")
        disk.remove("log")
        assert disk.names() == []
        disk.power_lost()
        back.append(disk.names() == ["log"])
        disk = written(seed, b"one", b"two")
        disk.remove("log")
        disk.open_append("next")
        disk.power_lost()
        assert disk.names() == ["next"]
    assert any(back)
    assert not all(back)
