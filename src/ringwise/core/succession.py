"""What has replaced a SET before its owners told of a greater stamp (V5): it may be hidden by that, as the SET would have been.

    SET k 1 ─▶ b, c            under way, b has answered
    SET k 2 ─▶ b, c            at the same coordinator: replaces it
    c: "I hold k above 1"      is k 2 hidden by that? If c has answered to it as well, it is above that, or will be

A write has *met* what a quorum held before it once more than half of the owners have answered for it; a read-modify-write has
when it has read as many. What has met it is never raised: what is above it may have come after it. What has not met it is
under way, or ended early, and nobody was promised that it is older than anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ringwise.core import versions
from ringwise.core.record import Dot, Sibling

Name: TypeAlias = tuple[bytes, Dot]  # row key, and the dot that the write has issued


class Made(NamedTuple):
    """A write as its coordinator made it."""

    record: bytes
    blind: bool  # a plain SET: it covers all that its coordinator held


class Ended:
    """Writes that have met nothing and are not under way any more, kept while one before them may be."""

    def __init__(self) -> None:
        self._lately: dict[Name, Made] = {}
        self._before: dict[Name, Made] = {}
        self._until_ms = 0.0

    def add(self, rkey: bytes, made: Made) -> None:
        self._lately[rkey, dot_of(made.record)] = made

    def find(self, rkey: bytes, dot: Dot) -> Made | None:
        """The write that issued the dot."""
        return self._lately.get((rkey, dot)) or self._before.get((rkey, dot))

    def tick(self, now_ms: float, kept_ms: float) -> None:
        """Forgets those from longer ago."""
        if now_ms >= self._until_ms:
            self._before, self._lately = self._lately, {}
            self._until_ms = now_ms + kept_ms


def dot_of(record: bytes) -> Dot:
    """Of the version that a write has made: stamped above all others that its coordinator held."""
    newest = versions.newest(record)
    return (newest.actor, newest.counter) if newest is not None else (b"", 0)


def successor(held: bytes, replaced: Sibling, find: Callable[[Dot], Made | None]) -> Sibling | None:
    """The living version that came in the place of one, if it has not met what owners know, so that `find` knows it. A SET covers
    all; of anything else it is the last one, unless one that has met them is there, which may have been the one."""
    sets: list[Sibling] = []
    others: list[Sibling] = []
    met = False
    for version in versions.values(held):
        made = find((version.actor, version.counter))
        if made is None:
            met = met or (version.actor == replaced.actor and version.counter > replaced.counter)
        elif version.stamp > replaced.stamp:
            if made.blind:
                sets.append(version)
            elif versions.version_at(made.record, replaced.actor, replaced.counter) is None:
                others.append(version)
    return max(sets or ([] if met else others), key=lambda version: version.stamp, default=None)
