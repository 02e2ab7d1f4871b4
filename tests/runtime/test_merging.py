"""The process that merge functions run in: their values, their failures, and that none of them holds anybody up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringwise.runtime.merging import DEADLINE_S, LOAD_S, MergeFailed, MergeProcess, functions

MODULE = """
import os, sys, time

def longest(values):
    return max(values, key=lambda value: (len(value), value))

def union(values):
    print("noise on stdout")
    return b",".join(sorted({part for value in values for part in value.split(b",")}))

def raises(values):
    raise KeyError("nobody")

def text(values):
    return "text"

def loops(values):
    while True:
        pass

def sleeps(values):
    time.sleep(60)

def exits(values):
    os._exit(3)

def eats(values):
    return b"x" * (4 << 30)

def pid(values):
    return str(os.getpid()).encode()
"""
NAMES = ("longest", "union", "raises", "text", "loops", "sleeps", "exits", "eats", "pid")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is a package with these entry points, as pip would leave it."""
    (tmp_path / "merges_for_tests.py").write_text(MODULE)
    info = tmp_path / "merges_for_tests-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: merges-for-tests\nVersion: 1\n")
    lines = [f"{name} = merges_for_tests:{name}" for name in NAMES]
    lines += ["missing = merges_for_tests:missing", "nothing = no_such_module:nothing"]
    (info / "entry_points.txt").write_text("[ringwise.merge]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return info


@pytest.fixture
def process(installed: Path) -> Iterator[MergeProcess]:
    assert installed.is_dir()
    process = MergeProcess(deadline_s=1.0)  # of a machine that is busy with other tests
    yield process
    process.close()


@pytest.mark.usefixtures("installed")
def test_installed_functions_are_known_by_name() -> None:
    assert set(NAMES) <= set(functions())


def test_values_are_merged(process: MergeProcess) -> None:
    assert process.merge("longest", [b"a", b"ccc", b"bb"]) == b"ccc"
    assert process.merge("union", [b"a,b", b"b,c", b""]) == b",a,b,c", "what it prints is not its answer"
    assert process.merge("longest", [b"\x00\xff", b""]) == b"\x00\xff"


def test_large_values_pass(process: MergeProcess) -> None:
    large = bytes(1024 * 1024)
    assert process.merge("longest", [large, b"a", large[:-1]]) == large


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "KeyError: 'nobody'"),
        ("text", "it returned str, not bytes"),
        ("missing", "AttributeError"),
        ("nothing", "ModuleNotFoundError"),
        ("unheard-of", "no installed package has an entry point unheard-of"),
        ("eats", "MemoryError"),
    ],
)
def test_a_function_that_fails_says_why_and_the_process_goes_on(process: MergeProcess, name: str, why: str) -> None:
    before = process.merge("pid", [])
    with pytest.raises(MergeFailed, match=why):
        process.merge(name, [b"a", b"b"])
    assert process.merge("pid", []) == before


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["loops", "sleeps"])
def test_one_that_is_late_is_ended_and_started_anew(name: str) -> None:
    process = MergeProcess()
    try:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(MergeFailed, match="took longer than 50 ms to merge, and was ended"):
                process.merge(name, [b"a"])
            assert time.monotonic() - started < DEADLINE_S + LOAD_S
    finally:
        process.close()


def test_after_a_late_one_another_function_is_served(process: MergeProcess) -> None:
    before = process.merge("pid", [])
    with pytest.raises(MergeFailed, match="was ended"):
        process.merge("loops", [b"a"])
    assert process.merge("longest", [b"a", b"bb"]) == b"bb"
    assert process.merge("pid", []) != before


def test_one_that_ends_its_process_is_told(process: MergeProcess) -> None:
    with pytest.raises(MergeFailed, match="its process has ended"):
        process.merge("exits", [b"a"])
    assert process.merge("longest", [b"a"]) == b"a"
