"""The disk of the operating system keeps its contract."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringwise.storage.disk import OsDisk
from ringwise.storage.errors import DirectoryInUse, DirectoryUnusable


def test_files_grow_and_are_cut(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path / "a" / "b")
    file = disk.open_append("x")
    file.append([b"one", b"", b"two"])
    file.append([b"%d" % n for n in range(3000)])  # more parts than the system takes at once
    file.sync()
    expected = b"onetwo" + b"".join(b"%d" % n for n in range(3000))
    assert (disk.read("x"), file.size()) == (expected, len(expected))
    disk.truncate("x", 4)
    file.append([b"!"])
    assert disk.read("x") == b"onet!"
    disk.remove("x")
    assert disk.names() == []
    file.close()
    disk.close()


def test_an_append_that_the_system_cuts_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = OsDisk(tmp_path)
    file = disk.open_append("x")
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: os.write(descriptor, b"".join(parts)[:5]))
    file.append([b"abc", b"defghi"])
    assert disk.read("x") == b"abcdefghi"
    file.close()
    disk.close()


def test_replace_is_all_or_nothing_and_leftovers_go(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.replace("x", b"old")
    disk.replace("x", b"new")
    (tmp_path / "y.tmp").write_bytes(b"a crash left this")
    assert disk.names() == ["x"]
    disk.close()
    disk = OsDisk(tmp_path)
    assert not (tmp_path / "y.tmp").exists()
    assert disk.read("x") == b"new"
    disk.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    with pytest.raises(DirectoryInUse, match="in use by another process"):
        OsDisk(tmp_path)
    disk.close()
    OsDisk(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DirectoryUnusable, match="cannot be used: Not a directory"):
        OsDisk(tmp_path / "file" / "below")
