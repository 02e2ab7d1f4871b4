"""Who a data directory is, and when an incarnation goes on (V2, T3)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.storage.fakes import MemoryDisk

from ringwise.storage.disk import OsDisk
from ringwise.storage.errors import ForeignDirectory, FormatTooNew, FormatTooOld
from ringwise.storage.identity import Identity, open_identity

draw = random.Random(1).randbytes


def opened(disk: MemoryDisk, name: str = "n1") -> Identity:
    return open_identity(disk, name, draw)


def test_an_empty_directory_is_given_an_identity_for_life() -> None:
    disk = MemoryDisk()
    first = opened(disk)
    assert (len(first.node), first.name, first.cluster) == (6, "n1", b"")
    first.begin(0, draw)
    first.joined(b"c" * 16)
    again = opened(disk)
    assert (again.node, again.cluster) == (first.node, b"c" * 16)
    assert opened(MemoryDisk()).node != first.node


def test_v2_an_incarnation_goes_on_after_a_clean_stop_only() -> None:
    disk = MemoryDisk()
    run = opened(disk)
    assert not run.begin(0, draw)
    incarnation = run.incarnation
    assert (len(incarnation), run.next_epoch) == (4, 1)
    run.stopped(700, next_epoch=9)

    run = opened(disk)
    assert run.begin(700, draw)
    assert (run.incarnation, run.next_epoch) == (incarnation, 9)

    run = opened(disk)  # kill -9: no mark
    assert not run.begin(900, draw)
    assert run.incarnation != incarnation
    assert run.next_epoch == 1


def test_v2_a_copy_of_a_cleanly_stopped_directory_goes_on_under_another_incarnation(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path / "n1")
    run = open_identity(disk, "n1", draw)
    run.begin(0, draw)
    run.stopped(700, next_epoch=9)
    disk.close()
    shutil.copytree(tmp_path / "n1", tmp_path / "copy")  # with times, as cp -a

    disk = OsDisk(tmp_path / "n1")
    original = open_identity(disk, "n1", draw)
    assert original.begin(700, draw) and original.next_epoch == 9
    original.stopped(800, next_epoch=20)
    disk.close()

    shutil.rmtree(tmp_path / "n1")
    shutil.copytree(tmp_path / "copy", tmp_path / "n1")
    disk = OsDisk(tmp_path / "n1")
    restored = open_identity(disk, "n1", draw)
    assert not restored.begin(700, draw)
    assert restored.incarnation != original.incarnation
    disk.close()


def test_v2_a_stop_that_was_cut_short_is_not_clean() -> None:
    disk = MemoryDisk()
    run = opened(disk)
    run.begin(0, draw)
    run.stopped(700, next_epoch=9)
    disk.remove("original")
    assert not opened(disk).begin(700, draw)


@pytest.mark.parametrize("end", [699, 701])
def test_v2_a_log_that_does_not_end_where_the_mark_says_is_not_complete(end: int) -> None:
    disk = MemoryDisk()
    run = opened(disk)
    run.begin(0, draw)
    incarnation = run.incarnation
    run.stopped(700, next_epoch=9)
    run = opened(disk)
    assert not run.begin(end, draw)
    assert run.incarnation != incarnation


def test_v2_the_mark_is_gone_before_the_first_write() -> None:
    disk = MemoryDisk()
    run = opened(disk)
    run.begin(0, draw)
    run.stopped(700, next_epoch=9)
    opened(disk).begin(700, draw)
    assert not opened(disk).begin(700, draw), "the run that begins here died at once"


def test_another_name_another_owner_and_a_newer_format_are_named() -> None:
    disk = MemoryDisk()
    opened(disk)
    with pytest.raises(ForeignDirectory, match="belongs to node n1, not to n2"):
        opened(disk, "n2")
    disk.replace("identity", b'{"format": 1, "more": true}')
    with pytest.raises(FormatTooOld, match="has format 1"):
        opened(disk)
    disk.replace("identity", b'{"format": 3, "more": true}')
    with pytest.raises(FormatTooNew, match="has format 3"):
        opened(disk)
    disk.replace("identity", b"PNG")
    with pytest.raises(ForeignDirectory, match="not ours"):
        opened(disk)
    disk.remove("identity")
    disk.replace("holiday.jpg", b"PNG")
    with pytest.raises(ForeignDirectory, match=r"holds holiday\.jpg"):
        opened(disk)
