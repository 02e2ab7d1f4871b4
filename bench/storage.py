"""What the store costs, operation by operation, on real files: `python -m bench.storage [DIRECTORY]`.

The figures behind the design's budget (section 2): a found record and a put below 0.15 µs, slices of a flush that do not
hold the loop, cold reads that leave it alone.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.threads import Worker

from ringwise.core.dots import DotSource
from ringwise.core.keys import Bucket, storage_key
from ringwise.core.messages import encode_chunk
from ringwise.core.ring import slot_of
from ringwise.storage.disk import OsDisk
from ringwise.storage.lsm import LsmEngine
from ringwise.storage.store import MEBIBYTE, Store, StoreConfig

RECORDS = 1_000_000
CHUNK = 50
VALUE = b"x" * 100


def timed(name: str, count: int, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    print(f"{name:<46}{(time.perf_counter() - started) / count * 1e6:10.3f} µs")


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    directory = Path(tempfile.mkdtemp(dir=parent))
    try:
        measure(directory)
    finally:
        shutil.rmtree(directory)


def measure(directory: Path) -> None:
    sys.setswitchinterval(0.0005)
    gc.freeze()
    worker = Worker()
    disk = OsDisk(directory)
    engine = LsmEngine(directory / "engine")
    store = Store(disk, engine, worker, StoreConfig(memtable_bytes=10_000 * MEBIBYTE, cache_bytes=128 * MEBIBYTE))
    dots = DotSource(b"node01", b"inc1")
    bucket = Bucket(0, 1)
    keys = [b"key:%012d" % number for number in range(RECORDS)]
    rows = [(slot_of(key), bucket.row_key(key)) for key in keys]
    record = dots.put(b"", VALUE, 1 << 60)
    records = [record[:-8] + os.urandom(8) for _ in range(1000)]
    records = [dots.put(b"", r[-100:], 1 << 60) for r in records]

    def put() -> None:
        put = store.put
        for number, (slot, rkey) in enumerate(rows):
            put(slot, rkey, b"", records[number % 1000])

    def find() -> None:
        find = store.find
        for slot, rkey in rows:
            find(slot, rkey)

    def nothing(slot: int, rkey: bytes) -> None:
        """What calling and looping costs by itself."""

    def loop() -> None:
        for slot, rkey in rows:
            nothing(slot, rkey)

    timed("an empty call in the same loop", RECORDS, loop)
    timed("put, new keys", RECORDS, put)
    timed("put, keys there already", RECORDS, put)
    timed("find in the memtable", RECORDS, find)
    few, rows = rows, rows[:2000] * 100
    timed("find in the memtable, 2,000 hot keys", len(rows), find)
    timed("put, 2,000 hot keys", len(rows), put)
    rows = few
    chunks = [
        encode_chunk([slot for slot, _ in part], [rkey for _, rkey in part], [b""] * CHUNK, records[:CHUNK])
        for part in (rows[at : at + CHUNK] for at in range(0, RECORDS, CHUNK))
    ]

    def append() -> None:
        for chunk in chunks:
            store.append([chunk])

    timed(f"append of a chunk of {CHUNK} records ({len(chunks[0])} B)", len(chunks), append)
    worker.pump(wait=True)
    store._memtable_bytes_max = 1  # flush now
    flush(store, worker)
    cold(store, worker, rows)
    stalls(engine, rows)
    worker.close()
    store.close()
    disk.close()


def flush(store: Store, worker: Worker) -> None:
    slices: list[float] = []
    waits: list[float] = []
    started = last = time.perf_counter()
    while True:
        begun = time.perf_counter()
        more = store.background(1.0)
        slices.append(time.perf_counter() - begun)
        if not more:
            if not worker.pending:
                break
            last = time.perf_counter()  # the worker finishes: how long does it hold the interpreter?
            while worker.pending:
                worker.pump()
                now = time.perf_counter()
                waits.append(now - last)
                last = now
    took = time.perf_counter() - started
    slices.sort()
    print(f"{'flush':<46}{RECORDS / took / 1000:10.0f} thousand records/s ({took / RECORDS * 1e6:.2f} µs each)")
    print(
        f"{'  slices: median, 99%, longest':<46}"
        + "".join(f"{s * 1e3:8.2f}" for s in (slices[len(slices) // 2], slices[len(slices) * 99 // 100], slices[-1]))
        + " ms"
    )
    print(f"{'  loop held by finish and ingest: longest':<46}{max(waits) * 1e3:10.2f} ms")


def cold(store: Store, worker: Worker, rows: list[tuple[int, bytes]]) -> None:
    sample = [row for row in random.sample(rows, 60_000) if store.find(*row) is None][:20_000]
    answered: list[bytes] = []

    def answer(slot: int, rkey: bytes) -> None:
        answered.append(store.find(slot, rkey) or b"")

    started = time.perf_counter()
    for slot, rkey in sample:
        store.load(slot, rkey, partial(answer, slot, rkey))
    while len(answered) < len(sample):
        store.turn()
        worker.pump(wait=True)
    took = time.perf_counter() - started
    assert all(answered)
    print(f"{'cold reads, checked and delivered':<46}{took / len(sample) * 1e6:10.2f} µs each, {len(sample)} keys")


def stalls(engine: LsmEngine, rows: list[tuple[int, bytes]]) -> None:
    """How long a look-up in a thread keeps the loop from running."""
    for count in (256, 1000):
        keys = [storage_key(*row) for row in random.sample(rows, count)]
        for heat in ("cold", "again"):
            thread = threading.Thread(target=engine.get_many, args=(keys,))
            longest = 0.0
            started = last = time.perf_counter()
            thread.start()
            while thread.is_alive():
                now = time.perf_counter()
                longest = max(longest, now - last)
                last = now
            thread.join()
            took = f"{(last - started) / count * 1e6:10.2f} µs each, loop held {longest * 1e3:.2f} ms at most"
            print(f"{f'get_many of {count} in a thread, {heat}':<46}{took}")


if __name__ == "__main__":
    main()
