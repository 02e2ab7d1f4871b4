"""The `lsm` engine: RocksDB, fed with whole SSTables (design, section 6; O'Neil et al. 1996, the LSM-tree).

    flush:  sorted records ▶ SstFileWriter ▶ staging/*.sst ▶ one atomic ingest (files are linked in, not copied)

RocksDB's own log stays unused, and its memtable holds nothing but the ranges that `drop` removes: a record gets in by
ingest only. The last key of a flush is a meta key, behind every storage key, that carries the commit log's position;
ingesting several files is one edit of RocksDB's manifest, so records and position arrive together or not at all (S2).

What was measured of rocksdict 0.3: `SstFileWriter.finish` and `ingest_external_file` sync what they should, but hold
the interpreter lock meanwhile; hence filters and index in partitions (built while writing, not in `finish`), files of a
bounded size, and a sync of our own, without the lock, before `finish`. A `get` of a list gives the lock up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    CompactOptions,
    DBCompressionType,
    IngestExternalFileOptions,
    Options,
    Rdict,
    ReadOptions,
    SstFileWriter,
    WriteOptions,
)

from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.ring import SLOTS
from ringwise.storage.errors import EngineDamaged, ForeignDirectory, FormatTooNew, ReadFailed
from ringwise.storage.walk import Names, end_of, end_of_rows, walk, walk_rows

FORMAT = 1
_META_KEY = b"\xffringwise"  # storage keys begin with a slot below 0x4000
_meta = Struct(">HQQ")  # format, log position, greatest stamp
_STAGING = "staging"
_CONFIG = "rocksdict-config.json"
_OURS = re.compile(
    r"CURRENT|IDENTITY|LOCK|LOG.*|MANIFEST-.*|OPTIONS-.*|\d+\.(sst|log|dbtmp|blob)|staging|rocksdict-config\.json"
)

_FILE_BYTES = 64 * 1024 * 1024  # `finish` holds the interpreter lock about 4 ms for each of this size
_LEVEL_BASE_BYTES = 1024 * 1024 * 1024
_COMPACTION_BYTES_PER_S = 64 * 1024 * 1024  # leaves most of a cheap SSD to reads and to the commit log (S5)
_COMPACTION_FILES = 16  # a flush of the default memtable makes up to four files
_BUSY_FILES = 64  # more and reads suffer from what is not compacted: flushes wait, then writers (S5)
_OPEN_FILES_MAX = 1024
_BLOOM_BITS = 10  # for each key: 1% of the look-ups of absent keys read a block in vain


class LsmEngine:
    """One RocksDB in a directory of its own."""

    def __init__(self, path: str | os.PathLike[str], cache_bytes: int = 128 * 1024 * 1024) -> None:
        self._path = Path(path)
        self._staging = self._path / _STAGING
        self._prepare_directory()
        self._options = _options(cache_bytes)
        try:
            self._db = Rdict(str(self._path), _options(cache_bytes, background=True))
        except Exception as error:  # rocksdict raises bare Exception
            raise EngineDamaged(f"the storage engine in {self._path} does not open: {error}") from error
        self._ingest_options = IngestExternalFileOptions()
        self._ingest_options.set_move_files(True)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # the stubs call it a method
        self._met_damage = False
        self._compaction = CompactOptions()
        self._compaction.set_exclusive_manual_compaction(False)
        self._position, self._stamp = self._read_meta()
        self._flushes = 0

    @property
    def position(self) -> int:
        return self._position

    @property
    def stamp(self) -> int:
        return self._stamp

    def get_many(self, keys: Sequence[bytes]) -> list[bytes]:
        try:
            records: list[bytes | None] = self._db.get(list(keys)) or []
        except Exception as error:  # rocksdict raises bare Exception
            self._met_damage = True
            raise ReadFailed(f"reading from {self._path} failed: {error}") from error
        return [record or b"" for record in records]

    def flush(self) -> LsmWriter:
        self._flushes += 1
        return LsmWriter(self, self._staging / f"{self._flushes}", self._options)

    def busy(self) -> bool:
        return (self._db.property_int_value("rocksdb.num-files-at-level0") or 0) >= _BUSY_FILES

    def count(self) -> int:
        return self._db.property_int_value("rocksdb.estimate-num-keys") or 0

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        bounds = _up_to(min(end, _META_KEY))
        items: Iterator[tuple[Any, bytes]] = self._db.items(from_key=start, read_opt=bounds)
        return list(islice(items, limit))

    def names(self, bucket: bytes, start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        bounds = _up_to(min(end_of(bucket, end), _META_KEY))
        return self._walked(bounds, lambda steps: walk(steps, bucket, start, end, limit))

    def _walked(self, bounds: ReadOptions, look: Callable[[Any], tuple[Names, int]]) -> tuple[Names, int]:
        steps: Any = self._db.iter(bounds)
        try:
            found = look(steps)
            steps.status()  # an iterator that met damage ends as if nothing came behind it
        except RecordDamaged:
            raise
        except Exception as error:  # rocksdict raises bare Exception
            self._met_damage = True
            raise ReadFailed(f"reading from {self._path} failed: {error}") from error
        return found

    def rows(self, live: Collection[bytes], start: int, end: int, limit: int) -> tuple[list[tuple[int, bytes]], int]:
        bounds = _up_to(min(end_of_rows(end), _META_KEY))
        return self._walked(bounds, lambda steps: walk_rows(steps, live, start, end, limit))

    def drop(self, void: Sequence[tuple[bytes, bytes]], first: int, end: int) -> int:
        if not void:
            return 0
        highs = [high for _, high in void]
        bounds = _up_to(end.to_bytes(2, "big"))  # held as long as the iterator, which does not hold it
        steps: Any = self._db.iter(bounds)
        steps.seek(first.to_bytes(2, "big") + void[0][0])
        found = 0
        while steps.valid():
            stored: bytes = steps.key()
            slot, prefix = stored[:2], stored[2 : 2 + BUCKET_BYTES]
            at = bisect_right(highs, prefix)  # the first range that ends behind it
            if at == len(void):
                steps.seek((int.from_bytes(slot, "big") + 1).to_bytes(2, "big") + void[0][0])
                continue
            low, high = void[at]
            if prefix < low:
                steps.seek(slot + low)
            else:
                self._db.delete_range(slot + low, slot + high, self._unlogged)
                found += 1
                steps.seek(slot + high)
        try:
            steps.status()
        except Exception:  # rocksdict raises bare Exception; what cannot be read can be removed unread
            for number in range(first, end):
                slot = number.to_bytes(2, "big")
                for low, high in void:
                    self._db.delete_range(slot + low, slot + high, self._unlogged)
            found = end - first
            self._met_damage = True
        return found

    def reclaim(self, first: int = 0, end: int = SLOTS) -> None:
        self._db.flush()
        if not self._met_damage:  # a compaction that meets it would end all writing: that space stays in use
            self._db.compact_range(first.to_bytes(2, "big"), end.to_bytes(2, "big"), self._compaction)

    def empty(self) -> bool:
        return not self.scan(b"", _META_KEY, 1)

    def close(self) -> None:
        self._db.close()

    def ingest(self, files: Sequence[Path], position: int, stamp: int) -> None:
        """Take the files of a flush, all in one step."""
        self._db.ingest_external_file([str(file) for file in files], self._ingest_options)
        self._position, self._stamp = position, stamp

    def _prepare_directory(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        for entry in self._path.iterdir():
            if not _OURS.fullmatch(entry.name):
                raise ForeignDirectory(f"{self._path} holds {entry.name}, which is not of a storage engine")
        shutil.rmtree(self._staging, ignore_errors=True)  # flushes that a crash cut short
        self._staging.mkdir()
        config = self._path / _CONFIG
        if config.exists():  # rewritten in place at every open: a crash can leave half of it, and all of it is known
            try:
                json.loads(config.read_bytes())
            except ValueError:
                config.unlink()

    def _read_meta(self) -> tuple[int, int]:
        meta = self._db.get(_META_KEY)
        if meta is None:
            if not self.empty():
                raise ForeignDirectory(f"{self._path} holds a RocksDB that is not ours")
            return 0, 0
        if len(meta) < _meta.size:
            raise EngineDamaged(f"the log position in {self._path} is cut short")
        format_, position, stamp = _meta.unpack_from(meta)
        if format_ > FORMAT:
            raise FormatTooNew(f"the storage engine in {self._path}", format_, FORMAT)
        return position, stamp


class LsmWriter:
    """The SSTables of one flush."""

    def __init__(self, engine: LsmEngine, stem: Path, options: Options) -> None:
        self._engine = engine
        self._stem = stem
        self._options = options
        self._files: list[Path] = []
        self._writers: list[SstFileWriter] = []
        self._next_file()

    def add(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        if self._writer.file_size() >= _FILE_BYTES:
            self._next_file()
        writer = self._writer
        for key, record in records:
            if record:
                writer[key] = record
            else:
                del writer[key]

    def finish(self, position: int, stamp: int) -> None:
        self._writer[_META_KEY] = _meta.pack(FORMAT, position, stamp)
        for file, writer in zip(self._files, self._writers, strict=True):
            _sync(file)
            writer.finish()
        self._engine.ingest(self._files, position, stamp)

    def abort(self) -> None:
        self._writers.clear()
        for file in self._files:
            file.unlink(missing_ok=True)

    def _next_file(self) -> None:
        file = self._stem.with_name(f"{self._stem.name}-{len(self._files)}.sst")
        self._writer = SstFileWriter(self._options)
        self._writer.open(str(file))
        self._files.append(file)
        self._writers.append(self._writer)


def _sync(file: Path) -> None:
    """Bring to disk what is written so far, without the interpreter lock, so that `finish` has little left to sync."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _up_to(end: bytes) -> ReadOptions:
    """For an iterator. What it passes is not what clients ask for, so it stays out of the block cache, as dead as it may be."""
    bounds = ReadOptions()
    bounds.set_iterate_upper_bound(end)
    bounds.fill_cache(False)  # type: ignore[call-arg]  # the stubs forget its argument
    return bounds


def _options(cache_bytes: int, background: bool = False) -> Options:
    table = BlockBasedOptions()
    table.set_bloom_filter(_BLOOM_BITS, False)
    table.set_block_cache(Cache(cache_bytes))
    table.set_format_version(5)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(16 * 1024)
    table.set_cache_index_and_filter_blocks(True)  # so that cache_bytes bounds them too
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_writable_file_max_buffer_size(128 * 1024)  # short writes: they happen on the loop
    if background:
        options.set_bottommost_compression_type(DBCompressionType.zstd())
        options.set_max_background_jobs(2)
        options.set_ratelimiter(_COMPACTION_BYTES_PER_S, 100_000, 10)
        options.set_max_open_files(_OPEN_FILES_MAX)
        options.set_target_file_size_base(_FILE_BYTES)
        options.set_max_bytes_for_level_base(_LEVEL_BASE_BYTES)
        options.set_level_zero_file_num_compaction_trigger(_COMPACTION_FILES)
        options.set_keep_log_file_num(3)
        options.set_max_log_file_size(1024 * 1024)
        options.set_bytes_per_sync(1024 * 1024)
    return options
