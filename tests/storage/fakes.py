"""Workers and a disk for the storage's tests: nothing happens unless a test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ringwise.core.dots import DotSource
from ringwise.core.keys import Bucket
from ringwise.core.messages import encode_chunk
from ringwise.core.ring import slot_of

BUCKET = Bucket(0, 1)
_dots = DotSource(b"node01", b"inc1")


class Steps:
    """A worker whose jobs run, and whose results arrive, one at a time when the test asks."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.results: list[tuple[Callable[[Any], None], Any]] = []

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((work, done))

    def run(self, index: int = 0) -> None:
        """Do the work of one job."""
        work, done = self.jobs.pop(index)
        try:
            result = work()
        except Exception as error:
            result = error
        self.results.append((done, result))

    def deliver(self, index: int = 0) -> None:
        """Hand the result of one job to the loop."""
        done, result = self.results.pop(index)
        done(result)

    def drain(self) -> None:
        while self.jobs or self.results:
            while self.jobs:
                self.run()
            while self.results:
                self.deliver()


class MemoryDisk:
    """Files in memory; `lose` is a power failure that keeps a given number of unsynced bytes of each file."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.synced: dict[str, int] = {}
        self.replaced: dict[str, int] = {}
        self.fail_sync = False
        self.fail_append_after: int | None = None  # bytes of the next append that still get in

    def open_append(self, name: str) -> MemoryFile:
        self.files.setdefault(name, bytearray())
        self.synced.setdefault(name, 0)
        return MemoryFile(self, name)

    def read(self, name: str) -> bytes:
        return bytes(self.files[name])

    def names(self) -> list[str]:
        return sorted(self.files)

    def remove(self, name: str) -> None:
        del self.files[name], self.synced[name]

    def truncate(self, name: str, size: int) -> None:
        del self.files[name][size:]
        self.synced[name] = size

    def replace(self, name: str, data: bytes) -> None:
        self.files[name] = bytearray(data)
        self.synced[name] = len(data)
        self.replaced[name] = self.replaced.get(name, 0) + 1

    def fingerprint(self, name: str) -> bytes:
        return b"%d" % self.replaced[name]

    def unsynced(self) -> dict[str, int]:
        return {name: len(data) - self.synced[name] for name, data in self.files.items()}

    def lose(self, kept: dict[str, int]) -> None:
        for name, count in kept.items():
            del self.files[name][self.synced[name] + count :]
            self.synced[name] = len(self.files[name])


class MemoryFile:
    def __init__(self, disk: MemoryDisk, name: str) -> None:
        self._disk = disk
        self._name = name

    def append(self, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        limit = self._disk.fail_append_after
        self._disk.files[self._name] += data if limit is None else data[:limit]
        if limit is not None:
            raise OSError(28, "no space left on device")

    def sync(self) -> None:
        if self._disk.fail_sync:
            raise OSError(5, "input/output error")
        self._disk.synced[self._name] = len(self._disk.files[self._name])

    def size(self) -> int:
        return len(self._disk.files[self._name])

    def close(self) -> None:
        pass


def row(number: int) -> tuple[int, bytes]:
    """(slot, row key) of the test's key of that number."""
    key = b"key:%d" % number
    return slot_of(key), BUCKET.row_key(key)


def record(value: bytes, old: bytes = b"", stamp: int = 1) -> bytes:
    """A real record that supersedes `old`."""
    return _dots.put(old, value, stamp)


def chunk(*rows: tuple[int, bytes, bytes, bytes]) -> bytes:
    """A chunk of (slot, row key, old record, new record)."""
    return encode_chunk([r[0] for r in rows], [r[1] for r in rows], [r[2][:8] for r in rows], [r[3] for r in rows])
