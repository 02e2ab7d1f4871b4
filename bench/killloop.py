"""`kill -9` at random points of append, flush and ingest, on the real engine: `python -m bench.killloop --rounds 200`.

A child process writes known keys through the real store, with a memtable so small that flushes and ingests never stop.
After each append it says on a pipe what it appended. It is killed at a random moment; the next round reopens the
directory, checks that everything said is there with its right value or a later one that was being written, and goes on.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.threads import Worker

from ringwise.core.dots import DotSource
from ringwise.core.keys import Bucket
from ringwise.core.messages import encode_chunk
from ringwise.core.ring import slot_of
from ringwise.core.versions import value_of
from ringwise.storage.disk import OsDisk
from ringwise.storage.lsm import LsmEngine
from ringwise.storage.store import Store, StoreConfig

KEYS = 2_000
CHUNK = 20
CONFIG = StoreConfig(memtable_bytes=120_000, cache_bytes=200_000, segment_bytes=60_000)
BUCKET = Bucket(0, 1)
ROWS = [(slot_of(b"%d" % number), BUCKET.row_key(b"%d" % number)) for number in range(KEYS)]


def open_store(disk: OsDisk) -> tuple[Store, Worker]:
    worker = Worker()
    return Store(disk, LsmEngine(disk.path / "engine", 1 << 20), worker, CONFIG), worker


def with_each(store: Store, worker: Worker, numbers: Sequence[int], then: Callable[[int, bytes], None]) -> None:
    """Call `then` with each key's record, from memory or, later, from disk."""
    left = len(numbers)

    def found(number: int) -> None:
        nonlocal left
        record = store.find(*ROWS[number])
        assert record is not None, "a record could not be read"
        left -= 1
        then(number, record)

    for number in numbers:
        if store.find(*ROWS[number]) is not None:
            found(number)
        else:
            assert store.load(*ROWS[number], partial(found, number))
    while left:
        store.turn()
        worker.pump(wait=True)


class Turn:
    """The writes of one turn, and what will be said of them."""

    def __init__(self, store: Store, dots: DotSource, rng: random.Random, value: int) -> None:
        self.value = value
        self.columns: tuple[list[int], list[bytes], list[bytes], list[bytes]] = ([], [], [], [])
        self.said = b""
        self._store = store
        self._dots = dots
        self._rng = rng

    def write(self, number: int, held: bytes) -> None:
        self.value += 1
        slot, rkey = ROWS[number]
        record = self._dots.put(held, b"%d " % self.value + b"x" * self._rng.randrange(200), self.value)
        self._store.put(slot, rkey, held[:8], record)
        slots, rkeys, bases, records = self.columns
        slots.append(slot)
        rkeys.append(rkey)
        bases.append(held[:8])
        records.append(record)
        self.said += b"%d %d\n" % (number, self.value)


def write(directory: Path, seed: int, value: int) -> None:
    """The child: write for ever; say (number, value) of what is in the log, and where the flush stands."""
    rng = random.Random(seed)
    store, worker = open_store(OsDisk(directory))
    dots = DotSource(b"node01", rng.randbytes(4))
    os.write(1, b"@append\n")
    while True:
        turn = Turn(store, dots, rng, value)
        with_each(store, worker, rng.sample(range(KEYS), CHUNK), turn.write)
        value = turn.value
        store.append([encode_chunk(*turn.columns)])
        os.write(1, turn.said)
        store.turn()
        worker.pump()
        store.background(rng.choice((0.05, 0.5)))
        assert not store.failed, store.failure
        os.write(1, b"@" + stage(store) + b"\n")


def stage(store: Store) -> bytes:
    flush = store._flush
    if flush is None:
        return b"append"
    if flush._writing:
        return b"flush"
    return b"move" if flush._steps is not None else b"ingest"


def check(directory: Path, expected: dict[int, int]) -> None:
    """Every key must hold the value said last, or one appended after all that was said."""
    disk = OsDisk(directory)
    store, worker = open_store(disk)
    said_last = max(expected.values(), default=0)

    def compare(number: int, record: bytes) -> None:
        value = int((value_of(record, 0) or b"0").split()[0])
        said = expected.get(number, 0)
        if value != said and not said_last < value <= said_last + CHUNK:
            raise SystemExit(f"key {number} holds {value} in place of {said}: {directory} is kept")
        expected[number] = value

    with_each(store, worker, range(KEYS), compare)
    worker.close()
    store.close()
    disk.close()


def kill_one(directory: Path, rng: random.Random, expected: dict[int, int]) -> str:
    """One life of the child; what it said goes into `expected`. Returns the stage it was killed in."""
    arguments = ["--child", str(directory), str(rng.randrange(1 << 32)), str(max(expected.values(), default=0))]
    said = b"@start\n"
    with subprocess.Popen([sys.executable, "-m", "bench.killloop", *arguments], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if rng.random() < 0.9:  # the others are killed while they start and replay
            said += child.stdout.readline()
            timer = threading.Timer(rng.uniform(0.0, 0.5), child.kill)
        else:
            timer = threading.Timer(rng.uniform(0.1, 0.4), child.kill)
        timer.start()
        said += child.stdout.read()
        timer.cancel()
    if child.returncode != -signal.SIGKILL:
        raise SystemExit(f"the child ended by itself, with {child.returncode}: {directory} is kept")
    last = "start"
    for line in said.decode().split("\n")[:-1]:  # what follows the last newline was cut off
        if line.startswith("@"):
            last = line[1:]
        else:
            number, value = line.split()
            expected[int(number)] = int(value)
    return last


def run(directory: Path, rounds: int, seed: int) -> Counter[str]:
    """Kill and check that often; how often in which stage."""
    rng = random.Random(seed)
    stages: Counter[str] = Counter()
    expected: dict[int, int] = {}
    for _ in range(rounds):
        stages[kill_one(directory, rng, expected)] += 1
        check(directory, expected)
    return stages


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="killloop-"))
    stages = run(directory, options.rounds, options.seed)
    shutil.rmtree(directory)
    print(f"{options.rounds} kills, nothing missing, nothing wrong; killed in: {dict(stages.most_common())}")


if __name__ == "__main__":
    main()
