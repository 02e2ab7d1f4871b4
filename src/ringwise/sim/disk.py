"""A disk that tears: what a process wrote, what reached the platter, and what a crash leaves of the difference.

Two kinds of crash (design, S3):
- the *process* dies: the page cache lives on, so every byte handed to `append` is kept.  But the call itself may be
  cut short: a crash planted by `crash_at_append` keeps a prefix of that one append and ends the process in the middle
  of it.
- *power* is lost: what was synced is kept, and of the rest of each file some prefix, possibly cut inside an entry,
  possibly followed by bytes that were allocated but never written (zeros) or written only in part (noise).

`replace` and `truncate` are atomic and durable when they return, as `OsDisk` promises; a removed file may be back
after a power loss until the directory is synced, which opening or replacing one does.  A failed sync loses the
unsynced pages as Linux does: the next sync "succeeds" without them (the 2018 PostgreSQL reports), which is why S3
never retries one.
"""

import random
from collections.abc import Sequence


class Crash(BaseException):
    """The process ends here. No `Exception`, so that no handler of the code under test can outlive its own death."""


class _Data:
    """The bytes of one file: all that were written, how many of them are durable."""

    __slots__ = ("bytes", "synced")

    def __init__(self, data: bytes = b"", synced: int = 0) -> None:
        self.bytes = bytearray(data)
        self.synced = synced


class TornDisk:
    """`storage.disk.Disk` for one simulated machine; it outlives the processes that run on it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, _Data] = {}
        self._replaced: dict[str, int] = {}
        self._removed: dict[str, _Data] = {}  # since the directory was last synced
        self._life = 0  # a file opened by a process that died writes no more
        self.crash_at_append = 0  # 1: the next append is cut short and ends the process; 0: none planted
        self.fail_appends = False
        self.fail_syncs = False
        self.appends = 0
        self.syncs = 0

    # The Disk protocol.

    def open_append(self, name: str) -> "TornFile":
        self._removed.clear()
        return TornFile(self, self._files.setdefault(name, _Data()), self._life)

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._files[name].bytes)
        except KeyError:
            raise FileNotFoundError(name) from None

    def names(self) -> list[str]:
        return sorted(self._files)

    def remove(self, name: str) -> None:
        try:
            self._removed[name] = self._files.pop(name)
        except KeyError:
            raise FileNotFoundError(name) from None

    def truncate(self, name: str, size: int) -> None:
        data = self._files[name]
        del data.bytes[size:]
        data.synced = len(data.bytes)

    def replace(self, name: str, data: bytes) -> None:
        if self.fail_appends:
            raise OSError(28, "no space left on device", name)
        self._removed.clear()
        self._files[name] = _Data(data, len(data))
        self._replaced[name] = self._replaced.get(name, 0) + 1

    def fingerprint(self, name: str) -> bytes:
        return b"%d" % self._replaced[name]

    # What the nemesis does to it.

    def process_died(self) -> None:
        """The page cache is kept: every append that returned is still there."""
        self._life += 1
        self.crash_at_append = 0

    def power_lost(self) -> None:
        """Of what was not synced, some prefix of each file is left, possibly torn."""
        self.process_died()
        rng = self._rng
        for name, removed in sorted(self._removed.items()):
            if rng.random() < 0.5:
                self._files.setdefault(name, removed)
        self._removed.clear()
        for name in sorted(self._files):
            data = self._files[name]
            unsynced = len(data.bytes) - data.synced
            if not unsynced:
                continue
            kept = rng.choice((0, 0, unsynced, rng.randint(0, unsynced)))
            tail = unsynced - kept
            del data.bytes[data.synced + kept :]
            if tail and rng.random() < 0.3:
                garbage = min(tail, rng.randint(1, 64))
                data.bytes += bytes(garbage) if rng.random() < 0.5 else rng.randbytes(garbage)
            data.synced = len(data.bytes)  # what a restart reads is what the next power loss leaves

    # What files do.

    def _append(self, data: _Data, parts: Sequence[bytes], life: int) -> None:
        if life != self._life:
            raise OSError(9, "written by a process that died")
        if self.fail_appends:
            raise OSError(28, "no space left on device")
        self.appends += 1
        joined = b"".join(parts)
        if self.crash_at_append:
            self.crash_at_append -= 1
            if not self.crash_at_append:
                data.bytes += joined[: self._rng.randint(0, len(joined))]
                raise Crash
        data.bytes += joined

    def _sync(self, data: _Data, life: int) -> None:
        if life != self._life:
            raise OSError(9, "synced by a process that died")
        self.syncs += 1
        if self.fail_syncs:
            del data.bytes[data.synced :]
            raise OSError(5, "input/output error")
        data.synced = len(data.bytes)


class TornFile:
    """`storage.disk.File` of a `TornDisk`."""

    __slots__ = ("_data", "_disk", "_life")

    def __init__(self, disk: TornDisk, data: _Data, life: int) -> None:
        self._disk = disk
        self._data = data
        self._life = life

    def append(self, parts: Sequence[bytes]) -> None:
        self._disk._append(self._data, parts, self._life)

    def sync(self) -> None:
        self._disk._sync(self._data, self._life)

    def size(self) -> int:
        return len(self._data.bytes)

    def close(self) -> None:
        """Nothing to release: the bytes belong to the disk."""
