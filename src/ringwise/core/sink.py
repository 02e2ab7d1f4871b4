"""Who asked for an operation, and gets its outcome: exactly one call for each operation, with the asker's own number for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class Together:
    """A sink which, with others that have asked for the same, makes one thing of what is found (B5)."""

    __slots__ = ()

    def found_together(self, asked: Sequence[Together], record: bytes) -> None:
        """A read reached its level, for all of these; this is the first of them."""
        raise NotImplementedError


class Several:
    """Several who have asked for the same: each gets the outcome, and of a write the state that it made itself."""

    __slots__ = ("_asked",)

    def __init__(self, asked: Iterable[tuple[Sink, int, bytes]]) -> None:
        self._asked = list(asked)

    def add(self, sink: Sink, index: int, record: bytes = b"") -> None:
        self._asked.append((sink, index, record))

    @property
    def records(self) -> list[bytes]:
        """The states that they made."""
        return [record for _, _, record in self._asked]

    def stood_in(self, _index: int) -> None:
        for sink, index, _ in self._asked:
            sink.stood_in(index)

    def stored(self, _index: int, _record: bytes) -> None:
        for sink, index, record in self._asked:
            sink.stored(index, record)

    def found(self, _index: int, record: bytes) -> None:
        together: list[Together] = []
        for sink, index, _ in self._asked:
            if isinstance(sink, Together):
                together.append(sink)
            else:
                sink.found(index, record)
        if together:
            together[0].found_together(together, record)

    def updated(self, _index: int, before: bytes, after: bytes) -> None:
        for sink, index, _ in self._asked:
            sink.updated(index, before, after)

    def failed(self, _index: int, error: Failure) -> None:
        for sink, index, _ in self._asked:
            sink.failed(index, error)


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
