"""What a command sees: the node behind it, the connection it came on, and the slot its reply belongs in."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ringwise.core.agreement import Change
from ringwise.core.bucketchanges import Done as BucketsChanged
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.exchange import Tally
from ringwise.core.explain import Explanation
from ringwise.core.filling import Source
from ringwise.core.gossip.packets import State
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.replace import Lost
from ringwise.core.scan import Done
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.topology import NodeId, Topology
from ringwise.core.versions import Write
from ringwise.wire.replies import Value, encode, error

if TYPE_CHECKING:
    from ringwise.server.row import Row
    from ringwise.server.session import Session


class Repair(Protocol):
    """Anti-entropy, as commands see it (core/antientropy.py)."""

    tally: Tally

    @property
    def running(self) -> bool: ...
    @property
    def with_peer(self) -> NodeId | None: ...
    @property
    def left(self) -> int: ...
    @property
    def ready(self) -> int: ...
    def begin(self, slot: int | None = None) -> None: ...


class Hints(Protocol):
    """What a node says of the hints that it keeps (core/hints.py)."""

    waiting: int
    kept: int
    handed_over: int
    sent_again: int
    dropped: int
    unreadable: int
    bytes: int

    def waiting_for(self) -> dict[NodeId, int]: ...


class StandIns(Protocol):
    """How often stand-ins helped to answer (core/standins.py)."""

    writes: int
    reads: int


class Merging(Protocol):
    """Merge functions (core/merging.py)."""

    names: Sequence[str]
    merged: int
    failed: int
    failure: str


class Liveness(Protocol):
    """What gossip says (core/liveness.py)."""

    def state(self, node: NodeId) -> State: ...
    def incarnation(self, node: NodeId) -> int: ...
    def told(self) -> dict[str, int]: ...


class Filling(Protocol):
    """How far a node with an empty disk has come (core/filling.py)."""

    sources: dict[NodeId, Source]
    received: int
    unreadable: int

    @property
    def active(self) -> bool: ...
    @property
    def share(self) -> float: ...
    @property
    def waits_for(self) -> list[NodeId]: ...


class Reaping(Protocol):
    """How far deleted and expired records have gone (core/reaping.py)."""

    reaped: int
    rounds: int
    failed: int
    waits_for: list[NodeId]

    @property
    def waiting(self) -> int: ...


class Node(Protocol):
    """What sessions need of a node (core/node.py)."""

    name: str
    id: NodeId
    topology: Topology
    config: NodeConfig
    dirty: list[Any]  # sessions with replies ready; the node calls flush() on each at the end of the turn
    now: Now
    rng: random.Random
    linked_since: dict[NodeId, int]  # members with a link dialled from here, and its wall-clock time in ms
    space: Space  # the bucket that its operations are on

    @property
    def repair(self) -> Repair: ...
    @property
    def hints(self) -> Hints: ...
    @property
    def stand_ins(self) -> StandIns: ...
    @property
    def liveness(self) -> Liveness: ...
    @property
    def filling(self) -> Filling: ...
    @property
    def reaping(self) -> Reaping: ...
    @property
    def merging(self) -> Merging: ...

    def put(self, key: bytes, value: bytes, level: Level, sink: Sink, index: int) -> None: ...
    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None: ...
    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None: ...
    def update(
        self, key: bytes, operation: str, arguments: tuple[bytes | int, ...], level: Level, sink: Sink, index: int
    ) -> None: ...

    def scan(self, cursor: int, count: int, level: Level, done: Done, first_only: bool = False) -> None: ...
    def select(
        self, label: str
    ) -> Any: ...  # the same with another bucket, None where there is none of that name or number
    def flush(self, done: Callable[[Failure | None], None]) -> None: ...
    def flush_all(self, done: Callable[[Failure | None], None]) -> None: ...
    def change_buckets(self, change: Change, done: BucketsChanged) -> None: ...
    def replace(self, name: str, done: Callable[[Lost | Failure], None]) -> None: ...
    def explain(self, key: bytes, done: Callable[[Explanation | Failure], None]) -> None: ...
    def after(self, delay_ms: float, call: Callable[[], None]) -> None: ...
    def cut_turn(self) -> None: ...
    def is_up(self, node: NodeId) -> bool: ...


class CommandError(Exception):
    """A command that cannot be run as it was sent; the text is the whole error reply. Certain not to have been applied."""


class Call:
    """One command that came on a connection, and its reply slot."""

    __slots__ = ("arguments", "index", "level", "node", "row", "session", "updating")

    def __init__(self, session: Session, arguments: list[bytes], level: Level, row: Row, index: int) -> None:
        self.session = session
        self.node = session.node
        self.arguments = arguments
        self.level = level
        self.row = row
        self.index = index
        self.updating: list[bytes] = []  # keys of a multi-phase operation, until it is answered (B2)

    def begin_update(self, keys: list[bytes]) -> None:
        """B2: later commands of this connection on these keys wait until this one is answered."""
        self.updating = keys
        self.session.begin_update(keys)

    def answer(self, value: Value) -> None:
        self.reply(encode(value, self.session.protocol))

    def reply(self, encoded: bytes) -> None:
        if self.updating:
            self.session.end_update(self.updating)
        self.row.fill(self.index, encoded)

    def refuse(self, text: str) -> None:
        self.reply(error(text))

    def fail(self, failure: Failure) -> None:
        self.refuse(failure.reply())


def shown(text: bytes, limit: int = 128) -> str:
    """Bytes from a client, as they may stand in an error message or a log: printable, and cut."""
    cut = text[:limit].decode("ascii", "backslashreplace")
    printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)
    return printable + ("…" if len(text) > limit else "")
