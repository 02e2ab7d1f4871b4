"""One contract for every engine: RocksDB and the simulator's model of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.storage.fakes import BUCKET, row

from ringwise.core.keys import Bucket, position_of, storage_key
from ringwise.core.ring import SLOTS, slot_of
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.storage.engine import Engine
from ringwise.storage.errors import EngineDamaged, ForeignDirectory, FormatTooNew, ReadFailed
from ringwise.storage.lsm import _META_KEY, LsmEngine, _meta

Open = Callable[[], Engine]
END = SLOTS << 48


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


def names_of(keys: list[bytes]) -> list[tuple[int, bytes]]:
    return sorted((position_of(slot_of(key), key), key) for key in keys)


def test_names_come_in_order_piece_by_piece(reopen: Open) -> None:
    engine = reopen()
    keys = [b"key:%d" % n for n in range(300)] + [b"{one}%d" % n for n in range(50)]
    for part in (keys[::2], keys[1::2]):
        flush(engine, {storage_key(slot_of(key), BUCKET.row_key(key)): b"r" for key in part}, 1)
    everything, upto = engine.names(BUCKET.prefix, 0, END, 1_000)
    assert (everything, upto) == (names_of(keys), END)
    for limit in (1, 7, 349, 350, 351):
        found: list[tuple[int, bytes]] = []
        position = 0
        while position < END:
            piece, upto = engine.names(BUCKET.prefix, position, END, limit)
            assert len(piece) <= limit and all(position <= at < upto for at, _ in piece) and upto > position
            found += piece
            position = upto
        assert found == names_of(keys)
    start, end = everything[100][0], everything[110][0]
    assert engine.names(BUCKET.prefix, start, end, 1_000) == (everything[100:110], end)
    slot = slot_of(b"{one}") << 48
    assert [key for _, key in engine.names(BUCKET.prefix, slot, slot + (1 << 48), 99)[0]] == [
        key for _, key in names_of(keys[300:])
    ]


def test_names_are_of_one_bucket_and_the_others_are_jumped_over(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = reopen()
    before, after = Bucket(0, 0), Bucket(0, 2)
    keys = [b"key:%d" % n for n in range(100)]
    records = {
        storage_key(slot_of(key), bucket.row_key(key, row)): b"r"
        for key in keys
        for bucket in (before, BUCKET, after)
        for row in (b"", b"member")
    }
    del records[storage_key(slot_of(keys[0]), BUCKET.row_key(keys[0]))]
    flush(engine, records, 1)
    assert engine.names(BUCKET.prefix, 0, END, 1_000) == (names_of(keys), END), "each key once, whatever rows it has"
    assert engine.names(Bucket(0, 1 << 20).prefix, 0, END, 10) == ([], END)
    monkeypatch.setattr("ringwise.storage.walk.JUMPS_MAX", 10)
    names, upto = engine.names(Bucket(0, 1 << 20).prefix, 0, END, 10)
    assert names == [] and 0 < upto < END, "a walk over what is not wanted comes back too"


def test_names_of_one_position_are_never_parted(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwise.core.keys.hash48", lambda key: b"same" + key[-1:] + b"!")
    engine = reopen()
    keys = [b"{s}%d-%d" % (n, m) for m in range(2) for n in range(4)]
    flush(engine, {storage_key(slot_of(key), BUCKET.row_key(key)): b"r" for key in sorted(keys)}, 1)
    names, upto = engine.names(BUCKET.prefix, 0, END, 2)
    assert sorted(key for _, key in names) == keys[:4]
    names, upto = engine.names(BUCKET.prefix, upto, END, 2)
    assert sorted(key for _, key in names) == keys[4:]


def test_t5_what_is_dropped_is_gone_and_what_is_in_force_stays(reopen: Open) -> None:
    engine = reopen()
    other = Bucket(1, 1)
    keys = [b"key:%d" % n for n in range(300)]
    records = {
        storage_key(slot_of(key), bucket.row_key(key)): b"%d" % bucket.incarnation
        for n, key in enumerate(keys)
        for bucket in (Bucket(0, 1), Bucket(0, 2), Bucket(0, 3), other)
        if n % 3 or bucket == Bucket(0, 1)  # slots with dead rows only, and with both
    }
    flush(engine, records, 5, stamp=6)
    low, live = b"\0" * 6, Bucket(0, 3).prefix
    kept = {key: record for key, record in records.items() if not low <= key[2:8] < live}
    middle = sorted({slot_of(key) for key in keys})[100]
    found = engine.drop([(low, live)], 0, middle)
    assert found == len({slot_of(key) for key in keys if slot_of(key) < middle})
    assert engine.scan(b"", middle.to_bytes(2, "big"), 9_999) == sorted(
        (key, record) for key, record in kept.items() if key < middle.to_bytes(2, "big")
    )
    assert engine.drop([(low, live)], middle, SLOTS) == len({slot_of(key) for key in keys if slot_of(key) >= middle})
    assert engine.drop([(low, live)], 0, SLOTS) == 0, "nothing is left to drop"
    later = {storage_key(slot_of(key), Bucket(0, 3).row_key(key)): b"later" for key in keys}
    flush(engine, later, 7, stamp=8)
    engine.reclaim()
    for held in now_and_reopened(engine, reopen):
        assert held.scan(b"", b"\xff", 9_999) == sorted((kept | later).items())
        assert held.get_many(list(records)) == [(kept | later).get(key, b"") for key in records]
        assert (held.position, held.stamp) == (7, 8)


# What is RocksDB's alone.


def walked(piece: Callable[[int, int, int], tuple[list[tuple[int, bytes]], int]]) -> list[tuple[int, bytes]]:
    """All of it, piece by piece."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < END:
        more, position = piece(position, END, 100)
        found += more
    return found


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_t5_the_space_of_what_was_dropped_comes_back(tmp_path: Path) -> None:
    noise = random.Random(1)
    engine = LsmEngine(tmp_path)
    for part in range(3):
        flush(
            engine, {storage_key(*row(n)): noise.randbytes(2_000) for n in range(part, 3_000, 3)}, part + 1, slice_=100
        )
    before = size_of(tmp_path)
    assert before > 6_000_000
    engine.drop([(b"\0" * 6, Bucket(0, 2).prefix)], 0, SLOTS)
    engine.reclaim()
    assert size_of(tmp_path) < before // 20 and engine.empty()
    engine.close()


def test_t5_what_cannot_be_read_is_dropped_unread(tmp_path: Path) -> None:
    engine = LsmEngine(tmp_path, 1 << 20)
    flush(engine, {storage_key(*row(n)): b"%d" % n * 100 for n in range(2_000)}, 1, slice_=100)
    engine.close()
    [file] = tmp_path.glob("*.sst")
    data = bytearray(file.read_bytes())
    data[2_000:12_000] = bytes(10_000)
    file.write_bytes(data)
    engine = LsmEngine(tmp_path, 1 << 20)
    assert engine.drop([(b"\0" * 6, Bucket(0, 2).prefix)], 0, SLOTS) == SLOTS
    engine.reclaim()  # not by compaction: RocksDB would take nothing in any more after meeting the damage
    flush(engine, {b"\x00a": b"1"}, 2)
    assert engine.get_many([b"\x00a"]) == [b"1"]
    engine.close()


def test_s4_damage_that_a_read_has_met_is_not_compacted(tmp_path: Path) -> None:
    """RocksDB would take in nothing more, and the node would have to stop writing."""
    engine = LsmEngine(tmp_path, 1 << 20)
    records = {storage_key(*row(n)): b"%d" % n * 100 for n in range(2_000)}
    flush(engine, records, 1, slice_=100)
    flush(engine, dict.fromkeys(list(records)[:1500], b""), 2, slice_=100)
    engine.close()
    file = max(tmp_path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = bytearray(file.read_bytes())
    data[2_000:12_000] = bytes(10_000)
    file.write_bytes(data)
    engine = LsmEngine(tmp_path, 1 << 20)
    with pytest.raises(ReadFailed):
        engine.get_many(list(records))
    for first in range(0, SLOTS, 4096):
        engine.reclaim(first, first + 4096)
    flush(engine, {b"\x00a": b"1"}, 3)
    assert engine.get_many([b"\x00a"]) == [b"1"]
    engine.close()


def test_the_space_of_what_was_removed_comes_back_in_parts(tmp_path: Path) -> None:
    noise = random.Random(1)
    engine = LsmEngine(tmp_path)
    records = {storage_key(*row(n)): noise.randbytes(2_000) for n in range(3_000)}
    flush(engine, records, 1, slice_=100)
    before = size_of(tmp_path)
    flush(engine, dict.fromkeys(list(records)[:2900], b""), 2, slice_=100)
    assert 100 <= engine.count() <= 3_000
    for first in range(0, SLOTS, 1024):
        engine.reclaim(first, first + 1024)
    assert size_of(tmp_path) < before // 10
    assert {key for key, _ in engine.scan(b"", b"\xff", 9_999)} == set(list(records)[2_900:])
    engine.close()


def test_what_a_walk_passes_does_not_fill_the_block_cache(tmp_path: Path) -> None:
    """Walks go over all there is again and again, dead records too: what clients ask for stays where it is."""
    noise = random.Random(1)
    engine = LsmEngine(tmp_path)
    records = {storage_key(*row(n)): noise.randbytes(2_000) for n in range(3_000)}
    flush(engine, records, 1, slice_=100)
    live = frozenset([BUCKET.prefix])

    def cached() -> int:
        return engine._db.property_int_value("rocksdb.block-cache-usage") or 0

    engine.get_many(list(records)[:10])
    before = cached()
    assert len(walked(partial(engine.rows, live))) == 3_000 == len(walked(partial(engine.names, BUCKET.prefix)))
    assert len(engine.scan(b"", b"\xff", 9_999)) == 3_000
    assert cached() - before < 500_000
    engine.get_many(list(records))
    assert cached() - before > 5_000_000
    engine.close()


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


def test_rows_are_of_all_buckets_in_the_order_of_positions(reopen: Open) -> None:
    engine = reopen()
    live = [Bucket(number, 2) for number in (0, 1, 7)]
    dead = [Bucket(0, 1), Bucket(1, 1), Bucket(3, 1), Bucket(0xFFFF, 0)]
    keys = [b"{t%d}k%d" % (n % 5, n) for n in range(200)] + [b"k%d" % n for n in range(100)]
    records = {storage_key(slot_of(key), bucket.row_key(key)): b"r" for key in keys for bucket in (*live, *dead)}
    flush(engine, records, 1)
    prefixes = frozenset(bucket.prefix for bucket in live)
    expected = sorted((position_of(slot_of(key), key), bucket.row_key(key)) for key in keys for bucket in live)
    assert engine.rows(prefixes, 0, END, 10_000) == (expected, END)
    assert engine.rows(frozenset(), 0, END, 10) == ([], END)
    for limit in (1, 2, 7, 100):
        found: list[tuple[int, bytes]] = []
        position = 0
        while position < END:
            piece, upto = engine.rows(prefixes, position, END, limit)
            assert upto > position and all(position <= at < upto for at, _ in piece)
            found += piece
            position = upto
        assert found == expected, "pieces are whole, and never part keys of one position"
    start, end = expected[100][0], expected[400][0]
    assert engine.rows(prefixes, start, end, 10_000) == ([row for row in expected if start <= row[0] < end], end)
