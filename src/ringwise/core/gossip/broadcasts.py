"""News to pass on: it rides on every packet, least-told first, and each piece a limited number of times (SWIM 4.1).

With a limit of a few times log(n) everybody has heard, with high probability, after O(log n) rounds. One piece for each
member: newer news replaces older, so the queue is bounded by the membership.
"""

from __future__ import annotations

import heapq

from ringwise.core.gossip.packets import Update, size
from ringwise.core.topology import NodeId


class _News:
    __slots__ = ("age", "bytes", "told", "update")

    def __init__(self, update: Update, age: int) -> None:
        self.update = update
        self.bytes = 0  # not measured yet
        self.told = 0
        self.age = age

    def __lt__(self, other: _News) -> bool:
        return (self.told, -self.age) < (other.told, -other.age)


class Broadcasts:
    """The queue of one node."""

    def __init__(self) -> None:
        self._news: dict[NodeId, _News] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._news)

    def add(self, update: Update) -> None:
        self._count += 1
        self._news[update.node] = _News(update, self._count)

    def forget(self, node: NodeId) -> None:
        self._news.pop(node, None)

    def clear(self) -> None:
        self._news.clear()

    def take(self, room_bytes: int, transmissions: int) -> list[Update]:
        """What fits, least-told first and then the newest; what was told often enough is dropped."""
        if not self._news:
            return []
        taken: list[Update] = []
        candidates = heapq.nsmallest(room_bytes // _UPDATE_BYTES_MIN, self._news.values())
        for news in candidates:
            news.bytes = news.bytes or size(news.update)
            if news.bytes > room_bytes:
                continue
            room_bytes -= news.bytes
            taken.append(news.update)
            news.told += 1
            if news.told >= transmissions:
                del self._news[news.update.node]
        return taken


_UPDATE_BYTES_MIN = 13  # incarnation 0, without address or accuser
