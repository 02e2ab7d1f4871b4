"""What has replaced a SET before its owners told of a greater stamp (V5): it may be hidden by that, as the SET would have been.

    SET k 1 ─▶ b, c            under way, b has answered
    SET k 2 ─▶ b, c            at the same coordinator: replaces it
    c: "I hold k above 1"      is k 2 hidden by that? If c has answered to it as well, it is above that, or will be

A write has *met* what a quorum held before it once more than half of the owners have answered for it, and none told of a greater
stamp, or it has been issued again above that. What has met it is never raised: what is above it may have come after it. What has
not is under way, or ended early, and nobody was promised that it is older than anything. Not looked for is what is no value (a
collection in a SET's place), or came from another coordinator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ringwise.core import versions
from ringwise.core.counters import is_value
from ringwise.core.record import Dot, Sibling
from ringwise.core.topology import NODE_ID_BYTES

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

    def add(self, rkey: bytes, dot: Dot, made: Made) -> None:
        self._lately[rkey, dot] = made

    def find(self, rkey: bytes, dot: Dot) -> Made | None:
        """The write that issued the dot."""
        return self._lately.get((rkey, dot)) or self._before.get((rkey, dot))

    def tick(self, now_ms: float, kept_ms: float) -> None:
        """Forgets those from longer ago."""
        if now_ms >= self._until_ms:
            self._before, self._lately = self._lately, {}
            self._until_ms = now_ms + kept_ms


def dot_of(record: bytes, prefix: bytes) -> Dot | None:
    """Of the value that a node has put, if that is what it did last: each of its writes has a greater dot, or, after it lost a
    record (V2), begins otherwise. `prefix` is how they begin now."""
    own = [each for each in versions.parts(record) if each.actor.startswith(prefix[:NODE_ID_BYTES])]
    last = max(own, key=lambda each: (each.actor.startswith(prefix), each.actor, each.counter), default=None)
    return (last.actor, last.counter) if last is not None and is_value(last) else None


def successor(held: bytes, replaced: Sibling, find: Callable[[Dot], Made | None]) -> Sibling | None:
    """The living version that came in the place of one, if it has not met what owners know, so that `find` knows it; None where
    one that has is there: that is above what was there before. A SET covers all; of anything else it is the last."""
    sets: list[Sibling] = []
    others: list[Sibling] = []
    for version in versions.values(held):
        made = find((version.actor, version.counter))
        if made is None:
            if version.actor == replaced.actor and version.counter > replaced.counter:
                return None
        elif version.stamp > replaced.stamp:
            if made.blind:
                sets.append(version)
            elif versions.version_at(made.record, replaced.actor, replaced.counter) is None:
                others.append(version)
    return max(sets or others, key=lambda version: version.stamp, default=None)
