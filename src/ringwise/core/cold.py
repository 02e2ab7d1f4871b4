"""Keys that are not in memory (B4), and records that the disk gives back damaged (S4).

An operation that meets a cold key waits here until the store has loaded it, and then runs again from its start. A record that
cannot be read, or fails its checksum, is not an absent one: this node has lost it, so it is fetched from the other owners. Every
write acknowledged by a majority is held by at least one of any N - majority + 1 others, so that many must answer; then the merged
state takes the damaged one's place, in the log and in memory, and the operation runs. If they do not answer, the operation fails.

What the others do not hold may still have been seen by a client: a write that only this node had. So a node that has lost a
record issues its next dots under another incarnation (V2), and its next start is not proven complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, Overloaded
from ringwise.core.messages import encode_chunk
from ringwise.core.sink import Nobody, Sink
from ringwise.core.store import Store

Waiting: TypeAlias = tuple[Callable[[], None], Callable[[Failure], None]]


class Fetch(Protocol):
    """Reads a key from its other owners only, as many as stand for everything that was acknowledged."""

    def __call__(self, slot: int, rkey: bytes, sink: Sink, index: int) -> None: ...


class _Healing(Nobody):
    """The fetch of one damaged record, and whoever waits for it."""

    def __init__(self, cold: Cold, slot: int, rkey: bytes) -> None:
        self._cold = cold
        self._slot = slot
        self._rkey = rkey
        self.waiting: list[Waiting] = []

    def found(self, index: int, record: bytes) -> None:
        self._cold.healed(self._slot, self._rkey, record)
        for again, _ in self.waiting:
            again()

    def failed(self, index: int, error: Failure) -> None:
        self._cold.given_up(self._rkey)
        for _, refuse in self.waiting:
            refuse(error)


class Cold:
    """The way of every operation to the disk."""

    def __init__(self, store: Store, config: NodeConfig, chunks: list[bytes]) -> None:
        self._store = store
        self._config = config
        self._chunks = chunks
        self._healing: dict[bytes, _Healing] = {}
        self.fetch: Fetch  # set by the node: the path of a get
        self.lost: Callable[[], None]  # set by the node: told of each loss, before anything is written after it
        self.damaged = 0  # records found damaged in this run
        self.last = 0  # loads so far
        self._loading: dict[int, None] = {}  # those under way, in order of age

    def loads(self, upto: int) -> bool:
        """Whether any of the first so many loads is still under way."""
        return bool(self._loading) and next(iter(self._loading)) <= upto

    def load(self, slot: int, rkey: bytes, again: Callable[[], None], refuse: Callable[[Failure], None]) -> None:
        """Runs `again` once the key can be found, in the order of the calls for that key; else tells `refuse`."""
        number = self.last = self.last + 1
        self._loading[number] = None

        def found() -> None:
            del self._loading[number]
            again()

        def refused(error: Failure) -> None:
            del self._loading[number]
            refuse(error)

        def loaded() -> None:
            if self._store.find(slot, rkey) is not None:
                found()
            else:
                self._heal(slot, rkey, (found, refused))

        healing = self._healing.get(rkey)
        if (
            healing is not None and len(healing.waiting) < self._config.cold_queue_max
        ):  # B1: behind those who wait for it
            healing.waiting.append((found, refused))
        elif healing is not None or not self._store.load(slot, rkey, loaded):
            refused(Overloaded("cold key", self._config.cold_queue_max))

    def _heal(self, slot: int, rkey: bytes, waiting: Waiting) -> None:
        healing = self._healing.get(rkey)
        if healing is not None:
            healing.waiting.append(waiting)
            return
        self.damaged += 1
        self.lost()
        healing = self._healing[rkey] = _Healing(self, slot, rkey)
        healing.waiting.append(waiting)
        self.fetch(slot, rkey, healing, 0)

    def healed(self, slot: int, rkey: bytes, record: bytes) -> None:
        """The state that the others agree on takes the damaged record's place."""
        del self._healing[rkey]
        if self._store.find(slot, rkey) is None:
            self._store.put(slot, rkey, None, record)
            self._chunks.append(encode_chunk([slot], [rkey], [b""], [record]))

    def given_up(self, rkey: bytes) -> None:
        """Nobody could tell; the next operation on the key tries again."""
        del self._healing[rkey]
