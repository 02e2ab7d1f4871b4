"""Writes of one turn with the same bucket, owners and level: what `core/put.py` sends as one chunk, and counts together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.messages import NodeId
from ringwise.core.quorum import Tally
from ringwise.core.record import Dot
from ringwise.core.sink import Several, Sink
from ringwise.core.succession import Made, Name, dot_of

if TYPE_CHECKING:
    from ringwise.core.put import PutPath


class WriteGroup:
    """Writes of one turn with the same bucket, owners and level, column by column."""

    __slots__ = (
        "_path",
        "bases",
        "blind",
        "chunk",
        "epoch",
        "higher",
        "id",
        "indexed",
        "indexes",
        "opened",
        "owned",
        "owners",
        "pending",
        "placed",
        "positions",
        "records",
        "repairs",
        "rkeys",
        "rows",
        "sinks",
        "sloppy",
        "slots",
        "stand_ins",
        "started_ms",
        "stood_in",
        "tally",
        "unlogged",
        "weak",
    )

    def __init__(
        self,
        path: PutPath,
        owners: tuple[NodeId, ...],
        need: int,
        blind: bool,
        sloppy: bool = False,
        owned: bool = True,
    ) -> None:
        self._path = path
        self.owners = owners
        # Here, or by a stand-in for an owner; who is neither may spread a repair, and keeps nothing of it.
        self.owned = owned
        self.opened = False  # whether a record is held as rows: of such a one only what changed is logged and sent (V3)
        self.sloppy = sloppy
        self.stand_ins: dict[NodeId, NodeId] = {}  # for whom each was asked
        self.placed: dict[NodeId, set[int]] = {}  # positions that an owner, or who stands in for it, was counted for
        self.stood_in = False  # whether one of them has acknowledged, or this node is one
        self.blind = blind  # plain SETs: V5 issues them once more where a replica knows a greater stamp
        self.rows: list[tuple[int, bytes, bytes, bytes, Sink, int]] = []  # while open; then these columns:
        self.slots: Sequence[int] = ()
        self.rkeys: Sequence[bytes] = ()
        self.bases: Sequence[bytes] = ()
        self.records: Sequence[bytes] = ()
        self.sinks: Sequence[Sink] = ()
        self.indexes: Sequence[int] = ()
        self.tally = Tally(0, need)
        self.id = 0
        self.epoch = 0
        self.started_ms = 0.0
        self.chunk = b""
        self.pending: dict[NodeId, set[int] | None] = {}  # None: has answered for no position yet
        self.higher: dict[int, int] = {}
        self.weak = 2 * need <= len(owners)  # answered before it has met what a quorum held (V5)
        self.repairs = False  # states that are brought to owners: nothing new is made
        self.positions: dict[Name, tuple[int, Made]] = {}  # of as many as are
        self.indexed = 0
        self.unlogged = True

    @property
    def prefix(self) -> bytes:
        """The incarnation of the bucket that all of it is of (T5); none while it is open and empty."""
        rkey = self.rkeys[0] if self.rkeys else self.rows[0][1] if self.rows else b""
        return rkey[:BUCKET_BYTES]

    def under_way(self, rkey: bytes, dot: Dot) -> Made | None:
        """The write that issued the dot, if it is one of these and is not answered (core/succession.py)."""
        for at in range(self.indexed, len(self.rows)):
            for name, made in self.made(at):
                self.positions[name] = at, made
        self.indexed = len(self.rows)
        at, found = self.positions.get((rkey, dot), (-1, None))
        return found if found is not None and (not self.rkeys or self.tally.is_open(at)) else None

    def made(self, at: int) -> Iterator[tuple[Name, Made]]:
        """The values that a row has put."""
        _, rkey, _, record, sink, _ = self.rows[at]
        for each in () if self.repairs else sink.records if isinstance(sink, Several) else (record,):
            dot = dot_of(each, self._path.prefix)
            if dot is not None:
                yield (rkey, dot), Made(each, self.blind)

    def lost(self, peer: NodeId) -> None:
        """A peer will not answer."""
        if peer in self.pending:
            self._path.missed(self, peer, self.pending.pop(peer))
        self._path.give_up_hopeless(self)
