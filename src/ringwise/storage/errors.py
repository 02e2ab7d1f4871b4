"""What can go wrong with files, each as one line that a user can act on."""

from __future__ import annotations

from ringwise.core.store import LogFailed


class StorageError(Exception):
    """An error of the world, told in one line."""


class DirectoryInUse(StorageError):
    """Another process works on this directory."""

    def __init__(self, path: str) -> None:
        super().__init__(f"data directory {path} is in use by another process")


class DirectoryUnusable(StorageError):
    """The directory cannot be created, read or written."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"data directory {path} cannot be used: {reason}")


class ForeignDirectory(StorageError):
    """The directory holds something that is not ours, or belongs to another node."""


class FormatTooNew(StorageError):
    """Written by a newer version of the program."""

    def __init__(self, what: str, found: object, known: object) -> None:
        super().__init__(f"{what} has format {found}, written by a newer version; this one knows {known}")


class FormatTooOld(StorageError):
    """Written by an older version of the program, in a form that this one does not read."""

    def __init__(self, what: str, found: object, known: object) -> None:
        super().__init__(
            f"{what} has format {found}, written by an older version; this one knows {known}: start on an empty directory, "
            "and have it filled by the others"
        )


class LogDamaged(StorageError):
    """Damage in the middle of the commit log: synced writes behind it would be lost by cutting it (S3)."""

    def __init__(self, name: str, offset: int, position: int) -> None:
        super().__init__(
            f"commit log file {name} is damaged at offset {offset} (position {position}), with synced writes behind it: "
            "restore the file, or replace the node from its replicas"
        )
        self.name = name
        self.offset = offset
        self.position = position


class EngineDamaged(StorageError):
    """The storage engine does not open, or does not hold what it should."""


class WritingEnded(StorageError, LogFailed):
    """A write or sync failed before: nothing is written until a restart (S3)."""


class ReadFailed(StorageError):
    """The engine could not read a record: a damaged block, a disk that does not answer."""
