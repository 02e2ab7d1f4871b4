"""Who asked for an operation, and gets its outcome: exactly one call for each operation, with the asker's own number for it."""

from __future__ import annotations

from typing import Protocol

from ringwise.core.errors import Failure


class Sink(Protocol):
    """A session's row of replies, the answers to a forwarding node, or a phase of a longer operation."""

    def stood_in(self, index: int) -> None:
        """A node that is no owner of the key has counted towards the level (R2); told before the outcome itself."""
        ...

    def stored(self, index: int, record: bytes) -> None:
        """A write reached its level; `record` is the state that its coordinator made."""
        ...

    def found(self, index: int, record: bytes) -> None:
        """A read reached its level; b"" where there is no record."""
        ...

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        """A read-modify-write: the state read and the state written, equal where there was nothing to do."""
        ...

    def failed(self, index: int, error: Failure) -> None:
        """It did not reach its level: refused, or of unknown outcome."""
        ...


class Nobody:
    """The sink of what nobody waits for, such as a repair in the background."""

    def stood_in(self, index: int) -> None:
        """Nothing to tell."""

    def stored(self, index: int, record: bytes) -> None:
        """Nothing to tell."""

    def found(self, index: int, record: bytes) -> None:
        """Nothing to tell."""

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        """Nothing to tell."""

    def failed(self, index: int, error: Failure) -> None:
        """Nothing to tell."""


NOBODY = Nobody()
