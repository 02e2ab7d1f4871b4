"""A node as those see it who have selected a bucket: the same operations, on its keys.

A session, or an HTTP request, holds a view in place of the node and does not know of buckets otherwise. What a bucket's rules
say about clients' reads and writes is done here, at the node that takes them, so that owners coordinate one kind of each only: a
write that names no time to live gets the bucket's, and a read that finds siblings merges them where the bucket has a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import structs

from ringwise.core.errors import Failure
from ringwise.core.explain import Explanation
from ringwise.core.levels import Level
from ringwise.core.scan import Done
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.versions import Write

if TYPE_CHECKING:
    from ringwise.core.node import Node


class View:
    """One bucket of a node; everything that is not about keys is the node's."""

    def __init__(self, node: Node, space: Space) -> None:
        self._node = node
        self.space = space

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def put(self, key: bytes, value: bytes, level: Level, sink: Sink, index: int) -> None:
        """A plain SET."""
        if self.space.rules.ttl_s:
            self.write(key, Write(value=value), level, sink, index)
        else:
            self._node.put_in(key, value, level, sink, index, self.space)

    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None:
        if self.space.merge:
            self._node.merging.get(key, level, sink, index, self.space)
        else:
            self._node.get_in(key, level, sink, index, self.space)

    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None:
        """A put with context, content type, flags or expiry."""
        ttl_s = self.space.rules.ttl_s
        if ttl_s and not (write.expiry_ms or write.tombstone):
            write = structs.replace(write, expiry_ms=self._node.wall_ms + 1000 * ttl_s)
        self._node.write_in(key, write, level, sink, index, self.space)

    def update(
        self, key: bytes, operation: str, arguments: tuple[bytes | int, ...], level: Level, sink: Sink, index: int
    ) -> None:
        self._node.update(key, operation, arguments, level, sink, index, self.space)

    def scan(self, cursor: int, count: int, level: Level, done: Done, first_only: bool = False) -> None:
        self._node.scan(cursor, count, level, done, first_only, self.space)

    def flush(self, done: Callable[[Failure | None], None]) -> None:
        self._node.flush(done, self.space)

    def explain(self, key: bytes, done: Callable[[Explanation | Failure], None]) -> None:
        self._node.explain(key, done, self.space)
