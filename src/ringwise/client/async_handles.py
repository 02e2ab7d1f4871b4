"""Counters, sets, maps and leaderboards of an `AsyncClient`: as handles.py, with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ringwise.client import types
from ringwise.client.commands import Text, as_bytes, checked_count
from ringwise.client.types import AsyncRun, Numbering


class AsyncCounter:
    """As `Counter`."""

    def __init__(self, run: AsyncRun, key: Text, level: str | None, session: Text | None = None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level
        self._numbering = Numbering(session)
        self._lock = asyncio.Lock()

    async def increment(self, amount: int = 1, *, level: str | None = None, timeout: float | None = None) -> int:
        """Adds, and tells the sum. Not sent again where its outcome is unknown."""
        return await self._run(types.increment(self._key, amount, level or self._level), timeout)

    async def decrement(self, amount: int = 1, *, level: str | None = None, timeout: float | None = None) -> int:
        return await self.increment(-amount, level=level, timeout=timeout)

    async def value(self, *, level: str | None = None, timeout: float | None = None) -> int:
        """The sum; 0 where the key does not exist."""
        return await self._run(types.number(self._key, level or self._level), timeout)

    async def increment_once(
        self, amount: int = 1, *, seq: int | None = None, level: str | None = None, timeout: float | None = None
    ) -> int:
        """Adds, and counts once however often it is sent: on other nodes too, and by calling it again after an `UnknownOutcome`.

        `seq`: with a `session` of your own, your own numbers, from 1 and without a gap. Calls on one handle go one after another.
        """
        level = level or self._level
        numbering = self._numbering
        if seq is not None:
            own = types.increment_once(self._key, amount, numbering.session, numbering.own(seq), level)
            return (await self._run(own, timeout)).value
        async with self._lock:
            command = types.increment_once(self._key, amount, numbering.session, numbering.begin(amount), level)
            try:
                counted = await self._run(command, timeout)
            except BaseException as error:
                numbering.failed(error)
                raise
            numbering.answered()
            return counted.value


class AsyncSet:
    """As `Set`."""

    def __init__(self, run: AsyncRun, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    async def add(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them are new."""
        return await self._run(types.add(self._key, members, level or self._level), timeout)

    async def remove(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return await self._run(types.remove(self._key, members, level or self._level), timeout)

    async def contains(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return await self._run(types.contains(self._key, member, level or self._level), timeout)

    async def members(self, *, level: str | None = None, timeout: float | None = None) -> set[bytes]:
        return await self._run(types.members(self._key, level or self._level), timeout)

    async def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return await self._run(types.size(self._key, level or self._level), timeout)

    async def pop(self, count: int = 1, *, level: str | None = None, timeout: float | None = None) -> set[bytes]:
        """Takes up to so many members out, by chance; of two at once both may get the same one."""
        return await self._run(types.pop(self._key, count, level or self._level), timeout)


class AsyncMap:
    """As `Map`."""

    def __init__(self, run: AsyncRun, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    async def put(
        self,
        fields: Mapping[str, Text] | Mapping[bytes, Text],
        *,
        level: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Sets these fields, and leaves the others; how many are new."""
        return await self._run(types.put_fields(self._key, fields, level or self._level), timeout)

    async def get(self, field: Text, *, level: str | None = None, timeout: float | None = None) -> bytes | None:
        """None where there is no such field."""
        return await self._run(types.get_field(self._key, field, level or self._level), timeout)

    async def contains(self, field: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return await self._run(types.has_field(self._key, field, level or self._level), timeout)

    async def items(self, *, level: str | None = None, timeout: float | None = None) -> dict[bytes, bytes]:
        """All fields, with what is under them."""
        return await self._run(types.all_fields(self._key, level or self._level), timeout)

    async def remove(self, *fields: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return await self._run(types.remove_fields(self._key, fields, level or self._level), timeout)

    async def increment(
        self, field: Text, amount: int = 1, *, level: str | None = None, timeout: float | None = None
    ) -> int:
        """Adds to the number under a field, and tells the sum. Not sent again where its outcome is unknown."""
        return await self._run(types.increment_field(self._key, field, amount, level or self._level), timeout)

    async def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return await self._run(types.count_fields(self._key, level or self._level), timeout)


class AsyncLeaderboard:
    """As `Leaderboard`."""

    def __init__(self, run: AsyncRun, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    async def put(
        self,
        scores: Mapping[str, float] | Mapping[bytes, float],
        *,
        level: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Sets these scores; how many members are new."""
        return await self._run(types.put_scores(self._key, scores, level or self._level), timeout)

    async def increment(
        self, member: Text, amount: float = 1, *, level: str | None = None, timeout: float | None = None
    ) -> float:
        """Adds to a score, and tells the sum. Not sent again where its outcome is unknown."""
        return await self._run(types.increment_score(self._key, member, amount, level or self._level), timeout)

    async def score(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> float | None:
        """None where there is no such member."""
        return await self._run(types.score(self._key, member, level or self._level), timeout)

    async def rank(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> int | None:
        """How many are before it: 0 for the first; None where there is no such member."""
        return await self._run(types.rank(self._key, member, level or self._level), timeout)

    async def top(
        self, count: int = 10, *, level: str | None = None, timeout: float | None = None
    ) -> list[tuple[bytes, float]]:
        """The first ones, with their scores."""
        return await self._run(
            types.ranked(self._key, 0, checked_count(count, "count", 1) - 1, level or self._level), timeout
        )

    async def ranked(
        self, first: int, last: int, *, level: str | None = None, timeout: float | None = None
    ) -> list[tuple[bytes, float]]:
        """Those of the ranks from first to last, both included; -1 is the last of all."""
        return await self._run(types.ranked(self._key, first, last, level or self._level), timeout)

    async def remove(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return await self._run(types.remove_scores(self._key, members, level or self._level), timeout)

    async def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return await self._run(types.count_scores(self._key, level or self._level), timeout)
