"""Counters, sets, maps and leaderboards of a `Client`, each as an object: a key, and what can be done with it.

A handle holds no state of the key; every call asks the cluster. `timeout` and `level` are as for the client's own methods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from ringwise.client import types
from ringwise.client.commands import Text, as_bytes, checked_count
from ringwise.client.types import Numbering, Run


class Counter:
    """A number that any node adds to: every increment that is answered counts, whoever else adds at the same time.

    `session`: the name under which increments are numbered (`increment_once`); None: a new one for this handle.
    """

    def __init__(self, run: Run, key: Text, level: str | None, session: Text | None = None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level
        self._numbering = Numbering(session)
        self._lock = threading.Lock()

    def increment(self, amount: int = 1, *, level: str | None = None, timeout: float | None = None) -> int:
        """Adds, and tells the sum. Not sent again where its outcome is unknown."""
        return self._run(types.increment(self._key, amount, level or self._level), timeout)

    def decrement(self, amount: int = 1, *, level: str | None = None, timeout: float | None = None) -> int:
        return self.increment(-amount, level=level, timeout=timeout)

    def value(self, *, level: str | None = None, timeout: float | None = None) -> int:
        """The sum; 0 where the key does not exist."""
        return self._run(types.number(self._key, level or self._level), timeout)

    def increment_once(
        self, amount: int = 1, *, seq: int | None = None, level: str | None = None, timeout: float | None = None
    ) -> int:
        """Adds, and counts once however often it is sent: on other nodes too, and by calling it again after an `UnknownOutcome`.

        `seq`: with a `session` of your own, your own numbers, from 1 and without a gap. Calls on one handle go one after another.
        """
        level = level or self._level
        numbering = self._numbering
        if seq is not None:
            own = types.increment_once(self._key, amount, numbering.session, numbering.own(seq), level)
            return self._run(own, timeout).value
        with self._lock:
            command = types.increment_once(self._key, amount, numbering.session, numbering.begin(amount), level)
            try:
                counted = self._run(command, timeout)
            except BaseException as error:
                numbering.failed(error)
                raise
            numbering.answered()
            return counted.value


class Set:
    """A set that any node changes: an addition survives a removal at the same time."""

    def __init__(self, run: Run, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    def add(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them are new."""
        return self._run(types.add(self._key, members, level or self._level), timeout)

    def remove(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return self._run(types.remove(self._key, members, level or self._level), timeout)

    def contains(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return self._run(types.contains(self._key, member, level or self._level), timeout)

    def members(self, *, level: str | None = None, timeout: float | None = None) -> set[bytes]:
        return self._run(types.members(self._key, level or self._level), timeout)

    def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return self._run(types.size(self._key, level or self._level), timeout)

    def pop(self, count: int = 1, *, level: str | None = None, timeout: float | None = None) -> set[bytes]:
        """Takes up to so many members out, by chance; of two at once both may get the same one."""
        return self._run(types.pop(self._key, count, level or self._level), timeout)

    def __len__(self) -> int:
        return self.size()

    def __contains__(self, member: Text) -> bool:
        return self.contains(member)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.members())


class Map:
    """A hash that any node changes, each field by itself: of two writes of a field at once the newer is shown."""

    def __init__(self, run: Run, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    def put(
        self,
        fields: Mapping[str, Text] | Mapping[bytes, Text],
        *,
        level: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Sets these fields, and leaves the others; how many are new."""
        return self._run(types.put_fields(self._key, fields, level or self._level), timeout)

    def get(self, field: Text, *, level: str | None = None, timeout: float | None = None) -> bytes | None:
        """None where there is no such field."""
        return self._run(types.get_field(self._key, field, level or self._level), timeout)

    def contains(self, field: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return self._run(types.has_field(self._key, field, level or self._level), timeout)

    def items(self, *, level: str | None = None, timeout: float | None = None) -> dict[bytes, bytes]:
        """All fields, with what is under them."""
        return self._run(types.all_fields(self._key, level or self._level), timeout)

    def remove(self, *fields: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return self._run(types.remove_fields(self._key, fields, level or self._level), timeout)

    def increment(self, field: Text, amount: int = 1, *, level: str | None = None, timeout: float | None = None) -> int:
        """Adds to the number under a field, and tells the sum. Not sent again where its outcome is unknown."""
        return self._run(types.increment_field(self._key, field, amount, level or self._level), timeout)

    def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return self._run(types.count_fields(self._key, level or self._level), timeout)

    def __getitem__(self, field: Text) -> bytes:
        value = self.get(field)
        if value is None:
            raise KeyError(field)
        return value

    def __setitem__(self, field: Text, value: Text) -> None:
        self.put({as_bytes(field, "field"): value})

    def __delitem__(self, field: Text) -> None:
        if not self.remove(field):
            raise KeyError(field)

    def __contains__(self, field: Text) -> bool:
        return self.contains(field)

    def __len__(self) -> int:
        return self.size()


class Leaderboard:
    """Members ranked by their scores, the greatest first; every increment that is answered counts."""

    def __init__(self, run: Run, key: Text, level: str | None) -> None:
        self._run = run
        self._key = as_bytes(key, "key")
        self._level = level

    def put(
        self,
        scores: Mapping[str, float] | Mapping[bytes, float],
        *,
        level: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Sets these scores; how many members are new."""
        return self._run(types.put_scores(self._key, scores, level or self._level), timeout)

    def increment(
        self, member: Text, amount: float = 1, *, level: str | None = None, timeout: float | None = None
    ) -> float:
        """Adds to a score, and tells the sum. Not sent again where its outcome is unknown."""
        return self._run(types.increment_score(self._key, member, amount, level or self._level), timeout)

    def score(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> float | None:
        """None where there is no such member."""
        return self._run(types.score(self._key, member, level or self._level), timeout)

    def rank(self, member: Text, *, level: str | None = None, timeout: float | None = None) -> int | None:
        """How many are before it: 0 for the first; None where there is no such member."""
        return self._run(types.rank(self._key, member, level or self._level), timeout)

    def top(
        self, count: int = 10, *, level: str | None = None, timeout: float | None = None
    ) -> list[tuple[bytes, float]]:
        """The first ones, with their scores."""
        return self._run(
            types.ranked(self._key, 0, checked_count(count, "count", 1) - 1, level or self._level), timeout
        )

    def ranked(
        self, first: int, last: int, *, level: str | None = None, timeout: float | None = None
    ) -> list[tuple[bytes, float]]:
        """Those of the ranks from first to last, both included; -1 is the last of all."""
        return self._run(types.ranked(self._key, first, last, level or self._level), timeout)

    def remove(self, *members: Text, level: str | None = None, timeout: float | None = None) -> int:
        """How many of them there were."""
        return self._run(types.remove_scores(self._key, members, level or self._level), timeout)

    def size(self, *, level: str | None = None, timeout: float | None = None) -> int:
        return self._run(types.count_scores(self._key, level or self._level), timeout)

    def __len__(self) -> int:
        return self.size()
