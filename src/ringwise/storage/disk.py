"""The only door to files: the commit log, the identity and the topology go through a `Disk`.

The simulator gives a disk that tears (loses what was not synced, cuts an append short), `OsDisk` is a directory of the
operating system. The contract both keep:

* `append` hands all parts to the system in order, as one write; it may be cut short by a crash, at any byte.
* What was appended is durable when a later `sync` returns. A `sync` that raises may have lost what it was to save, and
  a second one "succeeds" without it (the 2018 PostgreSQL reports), so nobody retries it (S3).
* The name of a file is durable when `open_append` returns, and so is the removal of files before it.
* `replace` and `truncate` are durable when they return; `replace` is atomic.
* `fingerprint` stays the same while a file is left alone, and is another for every copy of it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ringwise.storage.errors import DirectoryInUse, DirectoryUnusable

_LOCK = "lock"
_TEMPORARY = ".tmp"
_PARTS_MAX = 1024  # IOV_MAX of Linux


class File(Protocol):
    def append(self, parts: Sequence[bytes]) -> None: ...
    def sync(self) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class Disk(Protocol):
    def open_append(self, name: str) -> File: ...
    def read(self, name: str) -> bytes: ...
    def names(self) -> list[str]: ...
    def remove(self, name: str) -> None: ...
    def truncate(self, name: str, size: int) -> None: ...
    def replace(self, name: str, data: bytes) -> None: ...
    def fingerprint(self, name: str) -> bytes: ...


class OsDisk:
    """The plain files of one directory, locked against other processes while it is open."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DirectoryUnusable(str(self.path), error.strerror or str(error)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            os.close(self._directory)
            raise DirectoryInUse(str(self.path)) from error
        for leftover in self.path.glob("*" + _TEMPORARY):  # a `replace` that a crash cut short
            leftover.unlink()

    def open_append(self, name: str) -> OsFile:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path / name, flags, 0o644)
        os.fsync(self._directory)
        return OsFile(descriptor)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def names(self) -> list[str]:
        return sorted(
            entry.name
            for entry in os.scandir(self.path)
            if entry.is_file() and entry.name != _LOCK and not entry.name.endswith(_TEMPORARY)
        )

    def remove(self, name: str) -> None:
        (self.path / name).unlink()

    def truncate(self, name: str, size: int) -> None:
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, name: str, data: bytes) -> None:
        temporary = self.path / (name + _TEMPORARY)
        file = OsFile(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        try:
            file.append([data])
            file.sync()
        finally:
            file.close()
        temporary.rename(self.path / name)
        os.fsync(self._directory)

    def fingerprint(self, name: str) -> bytes:
        """Inode and time of change: no tool can set the latter, so no copy, archive or `cp -a` has them."""
        status = (self.path / name).stat()
        return b"%d %d" % (status.st_ino, status.st_ctime_ns)

    def close(self) -> None:
        """Let go of the directory. The lock also ends with the process, however it ends."""
        os.close(self._lock)
        os.close(self._directory)


class OsFile:
    """A file that only grows."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def append(self, parts: Sequence[bytes]) -> None:
        if len(parts) > _PARTS_MAX:
            parts = [b"".join(parts)]
        written = os.writev(self._descriptor, parts)
        if written != sum(map(len, parts)):  # the system took less: a full disk says so on the next call
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)
