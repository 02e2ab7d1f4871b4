"""Counters and sets of a `Client`, each as an object: a key, and what can be done with it.

A handle holds no state of the key; every call asks the cluster. `timeout` and `level` are as for the client's own methods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ringwise.client import types
from ringwise.client.commands import Text, as_bytes
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
