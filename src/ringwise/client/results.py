"""What a request gives. All frozen; values and contexts are bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sibling:
    """One of the versions of a key that live side by side."""

    value: bytes
    version: str
    stamp: int  # of the coordinator's hybrid clock; only good for comparing
    ttl: float | None  # seconds left; None: for ever
    content_type: str
    flags: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A key as a read shows it. `siblings` are newest first; the other fields but `context` and `clock` are the newest's."""

    siblings: tuple[Sibling, ...]
    context: bytes  # what was seen: a put with it replaces exactly these siblings
    clock: str = ""  # the same as people read it: "n1:2 n3:1"; empty where `resolve` has just merged

    @property
    def value(self) -> bytes:
        return self.siblings[0].value

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()

    @property
    def version(self) -> str:
        return self.siblings[0].version

    @property
    def ttl(self) -> float | None:
        return self.siblings[0].ttl

    @property
    def content_type(self) -> str:
        return self.siblings[0].content_type

    @property
    def flags(self) -> int:
        return self.siblings[0].flags

    @property
    def conflict(self) -> bool:
        return len(self.siblings) > 1


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left. `siblings` above 1 (after a delete, above 0): somebody else's version stands beside it, unseen.

    `context` is None then: it would cover what the writer has not seen, so read before the next put.
    """

    version: str | None
    siblings: int
    context: bytes | None
