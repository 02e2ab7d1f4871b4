"""The commit log against crashes, lost tails and damage (S2, S3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.fakes import MemoryDisk, Steps

from ringwise.storage.commitlog import CommitLog
from ringwise.storage.entries import HEADER_BYTES, entries, header
from ringwise.storage.errors import FormatTooNew, LogDamaged, WritingEnded

SEGMENT = 200


def open_log(disk: MemoryDisk, flushed: int = 0) -> tuple[CommitLog, Steps, list[bytes]]:
    replayed: list[bytes] = []
    worker = Steps()
    log = CommitLog(disk, worker, flushed, replayed.append, SEGMENT)
    return log, worker, replayed


def test_what_was_appended_is_replayed_in_order() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    payloads = [b"%d" % n * n for n in range(40)]
    for at in range(0, len(payloads), 2):
        log.append(payloads[at : at + 2])
        worker.drain()
    assert len([name for name in disk.names() if disk.files[name]]) > 3
    again, _, replayed = open_log(disk)
    assert replayed == payloads
    assert again.position == log.position


def test_an_append_is_one_write() -> None:
    disk = MemoryDisk()
    log, _, _ = open_log(disk)
    appends: list[int] = []
    log._file.append = lambda parts: appends.append(len(parts))  # type: ignore[method-assign]
    log.append([b"a", b"b", b"c"])
    assert appends == [6]


def test_positions_go_on_over_restarts_and_skip_what_the_engine_holds() -> None:
    disk = MemoryDisk()
    log, _, _ = open_log(disk)
    first = log.append([b"first"])
    log.append([b"second"])
    again, _, replayed = open_log(disk, flushed=first)
    assert replayed == [b"second"]
    third = again.append([b"third"])
    assert third > log.position
    _, _, replayed = open_log(disk, flushed=first)
    assert replayed == [b"second", b"third"]


def test_a_lost_log_goes_on_where_the_engine_is() -> None:
    """Sync mode off: a flush is durable before the log below it; then power fails."""
    disk = MemoryDisk()
    log, _, _ = open_log(disk)
    log.append([b"a"])
    flushed = log.append([b"b"])
    disk.lose(dict.fromkeys(disk.files, 0))
    again, worker, replayed = open_log(disk, flushed)
    assert (replayed, again.position) == ([], flushed)
    again.append([b"c"])
    worker.drain()
    third, _, replayed = open_log(disk, flushed)
    assert replayed == [b"c"]
    assert third.position == again.position


@given(st.data())
def test_power_loss_keeps_a_prefix_that_holds_all_that_was_synced(data: st.DataObject) -> None:
    """Any prefix of the unsynced bytes of each file, over any number of lives; the model is a list of payloads."""
    disk = MemoryDisk()
    known: list[bytes] = []  # what the log must replay, and nothing else
    ends: list[int] = [0]
    flushed = 0
    for _life in range(data.draw(st.integers(1, 4))):
        log, worker, replayed = open_log(disk, flushed)
        assert replayed == [p for p, end in zip(known, ends[1:], strict=True) if end > flushed]
        durable = log.synced
        for step in data.draw(st.lists(st.sampled_from("aaaassrdc"), max_size=25)):
            if step == "a":
                payloads = data.draw(st.lists(st.binary(max_size=90), min_size=1, max_size=3))
                for payload in payloads:
                    known.append(payload)
                    ends.append(ends[-1] + HEADER_BYTES + len(payload))
                assert log.append(payloads) == ends[-1]
            elif step == "s":
                log.sync()
            elif step == "r" and worker.jobs:
                worker.run(data.draw(st.integers(0, len(worker.jobs) - 1)))
            elif step == "d" and worker.results:
                worker.deliver(data.draw(st.integers(0, len(worker.results) - 1)))
            elif step == "c":
                flushed = data.draw(st.sampled_from([end for end in ends if flushed <= end <= log.synced] or [flushed]))
                log.cut(flushed)
            assert durable <= log.synced <= log.position
            durable = log.synced
        kept = {name: data.draw(st.integers(0, size), name) for name, size in disk.unsynced().items()}
        disk.lose(kept)
        log, _, replayed = open_log(disk, flushed)
        assert log.position >= durable
        held = [end for end in ends if end <= log.position]
        assert held[-1] == log.position
        assert replayed == [p for p, end in zip(known, ends[1:], strict=True) if flushed < end <= log.position]
        del ends[len(held) :], known[len(held) - 1 :]


@given(st.binary(max_size=300), st.data())
def test_garbage_behind_the_end_is_cut(garbage: bytes, data: st.DataObject) -> None:
    disk = MemoryDisk()
    log, _, _ = open_log(disk)
    log.append([b"kept"])
    last = header(b"torn off", log.position, 0) + b"torn off"
    name = disk.names()[0]
    disk.files[name] += last[: data.draw(st.integers(0, len(last) - 1))] + garbage
    written = len(disk.files[name])
    again, _, replayed = open_log(disk)
    assert replayed == [b"kept"]
    assert again.recovered.torn_bytes == written - log.position
    assert len(disk.files[name]) == log.position


@pytest.mark.parametrize("offset", [0, 5, 12, 20, HEADER_BYTES, HEADER_BYTES + 3])
def test_damage_with_synced_writes_behind_it_stops_the_start(offset: int) -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    first = log.append([b"first"])
    log.append([b"second"])
    log.sync()
    worker.drain()
    log.append([b"third"])
    name = disk.names()[0]
    disk.files[name][first + offset] ^= 0x40
    before = {name: bytes(data) for name, data in disk.files.items()}
    with pytest.raises(LogDamaged, match=f"{name} is damaged at offset {first}"):
        open_log(disk)
    assert before == disk.files, "a start that stops changes nothing"


def test_damage_in_an_older_segment_stops_the_start() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    for number in range(20):
        log.append([b"%d" % number * 40])
        worker.drain()
    disk.files[disk.names()[1]][50] ^= 1
    with pytest.raises(LogDamaged, match=disk.names()[1]):
        open_log(disk)


def test_a_missing_segment_stops_the_start() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    for number in range(20):
        log.append([b"%d" % number * 40])
        worker.drain()
    disk.remove(disk.names()[1])
    with pytest.raises(LogDamaged):
        open_log(disk)


def test_damage_below_what_the_engine_holds_is_of_no_interest() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    flushed = log.append([b"first"])
    log.append([b"second"])
    log.sync()
    worker.drain()
    log.append([b"third"])
    disk.files[disk.names()[0]][3] ^= 1
    assert open_log(disk, flushed)[2] == [b"second", b"third"]


def test_a_payload_that_looks_like_an_entry_is_not_one() -> None:
    inner = header(b"inner", 0, 0) + b"inner"
    data = header(inner, 0, 0) + inner
    assert [entry.payload for entry in entries(data, "x")] == [inner]


def test_a_newer_format_is_named() -> None:
    disk = MemoryDisk()
    disk.open_append("commit-0000000001.log").append([b"RWL2" + bytes(60)])
    with pytest.raises(FormatTooNew, match=r"commit-0000000001\.log has format 2, written by a newer version"):
        open_log(disk)


def test_a_failed_append_ends_writing_for_good() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    log.append([b"kept"])
    disk.fail_append_after = 7
    with pytest.raises(WritingEnded, match="no space left"):
        log.append([b"lost"])
    disk.fail_append_after = None
    with pytest.raises(WritingEnded):
        log.append([b"lost too"])
    log.sync()
    worker.drain()
    assert log.synced == 0
    with pytest.raises(WritingEnded):
        log.close()
    assert open_log(disk)[2] == [b"kept"]


def test_a_failed_sync_ends_writing_and_is_not_tried_again() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    told: list[int] = []
    log.on_synced = told.append
    log.append([b"a"])
    disk.fail_sync = True
    log.sync()
    worker.drain()
    disk.fail_sync = False
    log.sync()
    worker.drain()
    assert isinstance(log.failed, OSError)
    assert (log.synced, told) == (0, [0])  # who waits for the sync is woken up, and finds that it never came
    with pytest.raises(WritingEnded):
        log.append([b"b"])


def test_a_sync_covers_what_was_written_when_it_began() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    told: list[int] = []
    log.on_synced = told.append
    first = log.append([b"a"])
    log.sync()
    second = log.append([b"b"])
    log.sync()  # one at a time
    worker.drain()
    assert (log.synced, told) == (first, [first])
    log.sync()
    worker.drain()
    assert told == [first, second]


def test_rotation_leaves_the_loop_alone_and_syncs_the_full_segment_in_every_mode() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    worker.drain()
    end = log.append([bytes(SEGMENT)])
    assert log.synced == 0
    log.append([b"in the next"])
    assert [bool(disk.files[name]) for name in disk.names()] == [True, True]
    worker.drain()
    assert log.synced == end


def test_the_log_is_cut_as_a_prefix_below_the_flushed_position() -> None:
    disk = MemoryDisk()
    log, worker, _ = open_log(disk)
    worker.drain()
    ends = []
    for number in range(8):
        ends.append(log.append([b"%d" % number * SEGMENT]))
        worker.drain()
    log.cut(ends[2] + 1)
    worker.drain()
    assert disk.names()[0] == "commit-0000000004.log"
    assert len(open_log(disk, ends[3])[2]) == 4
