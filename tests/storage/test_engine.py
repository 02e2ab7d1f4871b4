"""One contract for every engine: RocksDB and the simulator's model of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.storage.fakes import row

from ringwise.core.keys import storage_key
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage.engine import Engine
from ringwise.storage.errors import EngineDamaged, ForeignDirectory, FormatTooNew
from ringwise.storage.lsm import _META_KEY, LsmEngine, _meta

Open = Callable[[], Engine]


@pytest.fixture(params=["lsm", "model"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the engine on the same disk, after closing the one before."""
    opened: list[Engine] = []
    medium = Medium()

    def open_() -> Engine:
        if opened:
            opened.pop().close()
        opened.append(LsmEngine(tmp_path / "engine", 1 << 20) if request.param == "lsm" else ModelEngine(medium))
        return opened[-1]

    yield open_
    opened.pop().close()


def flush(engine: Engine, records: dict[bytes, bytes], position: int, stamp: int = 0, slice_: int = 3) -> None:
    writer = engine.flush()
    pairs = sorted(records.items())
    for at in range(0, len(pairs), slice_):
        writer.add(pairs[at : at + slice_])
    writer.finish(position, stamp)


def now_and_reopened(engine: Engine, reopen: Open) -> Iterator[Engine]:
    yield engine
    yield reopen()


def test_an_engine_begins_empty_at_position_0(reopen: Open) -> None:
    engine = reopen()
    assert (engine.empty(), engine.position, engine.stamp) == (True, 0, 0)
    assert engine.get_many([b"a", b"b"]) == [b"", b""]
    assert engine.get_many([]) == []
    assert reopen().empty()


def test_a_flush_is_there_with_its_position_and_stays(reopen: Open) -> None:
    engine = reopen()
    records = {storage_key(*row(n)): b"record %d" % n for n in range(100)}
    flush(engine, records, position=77, stamp=1 << 63)
    for held in now_and_reopened(engine, reopen):
        assert held.get_many([*records, b"no"]) == [*records.values(), b""]
        assert (held.position, held.stamp, held.empty(), held.busy()) == (77, 1 << 63, False, False)


def test_later_flushes_win_key_by_key(reopen: Open) -> None:
    engine = reopen()
    flush(engine, {b"\x00a": b"1", b"\x00b": b"1", b"\x00c": b"1"}, 1)
    flush(engine, {b"\x00b": b"2"}, 2)
    flush(engine, {b"\x00c": b"3", b"\x00d": b"3"}, 3)
    for held in now_and_reopened(engine, reopen):
        assert held.get_many([b"\x00a", b"\x00b", b"\x00c", b"\x00d"]) == [b"1", b"2", b"3", b"3"]
        assert held.position == 3


def test_an_empty_record_removes_the_key(reopen: Open) -> None:
    engine = reopen()
    flush(engine, {b"\x00a": b"1", b"\x00b": b"1"}, 1)
    flush(engine, {b"\x00a": b"", b"\x00never": b""}, 2)
    for held in now_and_reopened(engine, reopen):
        assert held.get_many([b"\x00a", b"\x00b"]) == [b"", b"1"]
        assert held.scan(b"", b"\x01", 9) == [(b"\x00b", b"1")]
    flush(reopen(), {b"\x00b": b""}, 3)
    engine = reopen()
    assert (engine.empty(), engine.position) == (True, 3)


def test_an_unfinished_flush_leaves_no_trace(reopen: Open) -> None:
    engine = reopen()
    flush(engine, {b"\x00a": b"1"}, 1)
    writer = engine.flush()
    writer.add([(b"\x00a", b"2"), (b"\x00b", b"2")])
    assert engine.get_many([b"\x00a", b"\x00b"]) == [b"1", b""]
    writer.abort()
    writer = engine.flush()
    writer.add([(b"\x00a", b"3")])  # never finished: the process dies
    for held in now_and_reopened(engine, reopen):
        assert held.get_many([b"\x00a", b"\x00b"]) == [b"1", b""]
        assert held.position == 1
    engine = reopen()
    flush(engine, {b"\x00a": b"4"}, 4)
    assert engine.get_many([b"\x00a"]) == [b"4"]


def test_a_flush_of_nothing_moves_the_position(reopen: Open) -> None:
    engine = reopen()
    flush(engine, {}, 5, 6)
    engine = reopen()
    assert (engine.position, engine.stamp, engine.empty()) == (5, 6, True)


def test_a_scan_is_ordered_half_open_and_limited(reopen: Open) -> None:
    engine = reopen()
    records = {bytes([0, n]): b"%d" % n for n in range(10)}
    flush(engine, dict(list(records.items())[::2]), 1)
    flush(engine, dict(list(records.items())[1::2]), 2)
    assert engine.scan(b"\x00\x03", b"\x00\x07", 100) == list(records.items())[3:7]
    assert engine.scan(b"\x00\x03", b"\x00\x07", 2) == list(records.items())[3:5]
    assert engine.scan(b"", b"\xff\xff", 100) == list(records.items())
    assert engine.scan(b"\x00\x20", b"\x00\x30", 100) == []


# What is RocksDB's alone.


def test_a_large_flush_is_several_files_taken_in_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.storage.lsm._FILE_BYTES", 2_000)
    engine = LsmEngine(tmp_path)
    records = {storage_key(*row(n)): (b"%d" % n) * 20 for n in range(2_000)}
    flush(engine, records, 9, slice_=100)
    assert len(list(tmp_path.glob("*.sst"))) > 5
    assert list(tmp_path.glob("staging/*")) == []
    assert engine.get_many(list(records)) == list(records.values())
    engine.close()


def test_a_crash_while_rocksdict_writes_its_options_is_mended(tmp_path: Path) -> None:
    engine = LsmEngine(tmp_path)
    flush(engine, {b"\x00a": b"1"}, 1)
    engine.close()
    (tmp_path / "rocksdict-config.json").write_bytes(b"")
    (tmp_path / "staging" / "1-0.sst").write_bytes(b"half a flush")
    engine = LsmEngine(tmp_path)
    assert engine.get_many([b"\x00a"]) == [b"1"]
    assert list(tmp_path.glob("staging/*")) == []
    engine.close()


def test_what_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "photo.jpg").write_bytes(b"")
    with pytest.raises(ForeignDirectory, match=r"photo\.jpg"):
        LsmEngine(tmp_path / "foreign")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    with pytest.raises(EngineDamaged, match="does not open"):
        LsmEngine(tmp_path / "broken")


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    engine = LsmEngine(tmp_path)
    engine._db[_META_KEY] = _meta.pack(2, 0, 0)
    engine.close()
    with pytest.raises(FormatTooNew, match="has format 2"):
        LsmEngine(tmp_path)


def test_a_rocksdb_of_somebody_else_is_named(tmp_path: Path) -> None:
    engine = LsmEngine(tmp_path)
    engine._db[b"theirs"] = b"1"
    engine.close()
    with pytest.raises(ForeignDirectory, match="not ours"):
        LsmEngine(tmp_path)
