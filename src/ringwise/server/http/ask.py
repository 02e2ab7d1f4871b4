"""Operations of the node as something a handler can await: a turn is opened, a sink completes a future (core/sink.py).

A handler that is cancelled, because its client has gone, cancels the future with it; the operation goes on and ends as it may,
and its outcome is told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure, NoSuchBucket
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.scan import Page
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.topology import NodeId, Topology
from ringwise.core.versions import Write
from ringwise.server.call import shown

if TYPE_CHECKING:
    from asyncio import Future

Outcome: TypeAlias = bytes | Failure


class Node(Protocol):
    """What HTTP needs of a node (core/node.py)."""

    name: str
    id: NodeId
    topology: Topology
    config: NodeConfig
    now: Now
    space: Space  # the bucket that its operations are on

    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None: ...
    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None: ...
    def scan(self, cursor: int, count: int, level: Level, done: Callable[[Page | Failure], None]) -> None: ...
    def select(self, label: str) -> Any: ...  # the same with another bucket; None: there is none of that name or number
    def is_up(self, node: NodeId) -> bool: ...


class _Outcomes:
    """Sink of a handful of operations; the future is done with the last of them."""

    __slots__ = ("_future", "_left", "outcomes", "sloppy")

    def __init__(self, count: int, future: Future[None]) -> None:
        self.outcomes: list[Outcome] = [b""] * count
        self.sloppy = False
        self._left = count
        self._future = future

    def stood_in(self, index: int) -> None:
        self.sloppy = True

    def found(self, index: int, record: bytes) -> None:
        self._tell(index, record)

    def stored(self, index: int, record: bytes) -> None:
        self._tell(index, record)

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        self._tell(index, before)

    def failed(self, index: int, error: Failure) -> None:
        self._tell(index, error)

    def _tell(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self._left -= 1
        if not self._left and not self._future.done():
            self._future.set_result(None)


class Ask:
    """`enter` opens a turn; `future` makes one of the event loop's futures."""

    def __init__(self, node: Node, enter: Callable[[], None], future: Callable[[], Future[Any]]) -> None:
        self.node = node
        self._enter = enter
        self._future = future
        self.sloppy = False  # a stand-in has counted for something that was asked (R2)

    def for_request(self, bucket: str = "") -> Ask:
        """The same, and nothing asked yet, on the bucket of that name or number; raises NoSuchBucket."""
        node = self.node.select(bucket) if bucket else self.node
        if node is None:
            raise NoSuchBucket(shown(bucket.encode()))
        return Ask(node, self._enter, self._future)

    async def get(self, key: bytes, level: Level) -> bytes:
        """The merged record; raises Failure."""
        return _only(await self.get_many([key], level))

    async def write(self, key: bytes, write: Write, level: Level) -> bytes:
        """The record that the write left; raises Failure."""
        return _only(await self.write_many([(key, write)], level))

    async def get_many(self, keys: Sequence[bytes], level: Level) -> list[Outcome]:
        """A record or a failure for each key."""
        done: Future[None] = self._future()
        sink = _Outcomes(len(keys), done)
        self._enter()
        for index, key in enumerate(keys):
            self._start(self.node.get, sink, index, key, level)
        await done
        self.sloppy = self.sloppy or sink.sloppy
        return sink.outcomes

    async def write_many(self, writes: Sequence[tuple[bytes, Write]], level: Level) -> list[Outcome]:
        """A record or a failure for each write; those of one key happen in order (B1)."""
        done: Future[None] = self._future()
        sink = _Outcomes(len(writes), done)
        self._enter()
        for index, (key, write) in enumerate(writes):
            self._start(self.node.write, sink, index, key, write, level)
        await done
        self.sloppy = self.sloppy or sink.sloppy
        return sink.outcomes

    async def scan(self, cursor: int, count: int, level: Level) -> Page:
        """Raises Failure."""
        done: Future[Page | Failure] = self._future()

        def tell(result: Page | Failure) -> None:
            if not done.done():
                done.set_result(result)

        self._enter()
        self.node.scan(cursor, count, level, tell)
        result = await done
        if isinstance(result, Failure):
            raise result
        return result

    @staticmethod
    def _start(operation: Callable[..., None], sink: _Outcomes, index: int, *arguments: object) -> None:
        try:
            operation(*arguments, sink, index)
        except Failure as failure:  # refused before it was begun
            sink.failed(index, failure)


def _only(outcomes: list[Outcome]) -> bytes:
    outcome = outcomes[0]
    if isinstance(outcome, Failure):
        raise outcome
    return outcome
