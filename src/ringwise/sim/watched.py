"""Parts of a node under the eyes of the witness: they do what they always do, and tell what they did.

Nothing here changes what the node does; a history with and without these is the same history.
"""

from collections import deque
from collections.abc import Callable, Sequence

from ringwise.core import record
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure
from ringwise.core.levels import Level
from ringwise.core.messages import NodeId
from ringwise.core.node import Node
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.versions import Context, Write
from ringwise.sim.history import Operation
from ringwise.sim.model import Key, Witness
from ringwise.storage.store import Store


class WitnessedDots(DotSource):
    """Issues dots, and tells the witness of each."""

    __slots__ = ("_name", "_node_id", "_witness")

    def __init__(self, witness: Witness, name: str, node_id: NodeId, incarnation: bytes, next_epoch: int) -> None:
        super().__init__(node_id, incarnation, next_epoch)
        self._witness = witness
        self._name = name
        self._node_id = node_id

    def put(self, old: bytes, value: bytes, stamp: int) -> bytes:
        new = super().put(old, value, stamp)
        self._witness.issued(self._name, self._node_id, old, new, None)
        return new

    def write(self, old: bytes, write: Write, stamp: int) -> bytes:
        new = super().write(old, write, stamp)
        self._witness.issued(self._name, self._node_id, old, new, write.context)
        return new

    def write_each(self, old: bytes, made: Sequence[tuple[str, bytes]], covered: Context, stamp: int) -> bytes:
        new = super().write_each(old, made, covered, stamp)
        self._witness.issued(self._name, self._node_id, old, new, covered, len(made))
        return new


class WitnessedStore(Store):
    """Shows the witness every record that is put."""

    witness: Witness
    name: str
    wall_ms: Callable[[], int]  # ahead of all clocks of the history

    def put(self, slot: int, rkey: bytes, base: bytes | None, record: bytes) -> None:
        if not record:
            self.witness.dropped(rkey, self.find(slot, rkey) or b"", self.wall_ms())
        self.witness.stored(self.name, rkey, record)
        super().put(slot, rkey, base, record)

    def replace_many(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> list[int]:
        others = super().replace_many(slots, rkeys, bases, records)
        for position, rkey in enumerate(rkeys):
            if position not in others:
                self.witness.stored(self.name, rkey, records[position])
        return others


class WitnessedNode(Node):
    """Notes which tombstone a DEL became, since its value does not tell."""

    witness: Witness
    deletes: deque[Operation] | None = None  # of the connection whose commands the node is being given

    def update(
        self,
        key: bytes,
        operation: str,
        arguments: tuple[bytes | int, ...],
        level: Level,
        sink: Sink,
        index: int,
        space: Space | None = None,
    ) -> None:
        deletes = self.deletes
        if deletes is not None and operation == "delete":
            asked = next((each for each in deletes if each.key == key), None)
            if asked is not None:
                deletes.remove(asked)
                sink = DeleteSink(sink, asked, self.witness.key(key))
        super().update(key, operation, arguments, level, sink, index, space)


class DeleteSink:
    """Finds the tombstone of one DEL: the state may hold those of others too, but only its own has seen just what it read."""

    def __init__(self, sink: Sink, operation: Operation, versions: Key) -> None:
        self._sink = sink
        self._operation = operation
        self._versions = versions

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        if after != before:
            seen = dict(record.decode(before).context)
            for sibling in record.decode(after).siblings:
                issue = self._versions.issues.get((sibling.actor, sibling.counter))
                if sibling.tombstone and issue is not None and issue.seen == seen:
                    self._operation.dot = issue.dot
        self._sink.updated(index, before, after)

    def failed(self, index: int, error: Failure) -> None:
        self._sink.failed(index, error)

    def stood_in(self, index: int) -> None:
        self._sink.stood_in(index)

    def stored(self, index: int, record: bytes) -> None:
        self._sink.stored(index, record)

    def found(self, index: int, record: bytes) -> None:
        self._sink.found(index, record)
