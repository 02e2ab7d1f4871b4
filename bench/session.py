"""What a session costs for an operation: bytes in, parsed, dispatched, answered, bytes out; a node that does nothing.

    .venv/bin/python bench/session.py

Holds the hot path of wire/resp.py and server/session.py to its aim: below 1.5 µs for an operation, parsing included, on an
idle machine; and a parser below 1.2 µs for one small SET, below 1 µs for one of 16.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.levels import Level
from ringwise.core.now import Now
from ringwise.core.scan import Done
from ringwise.core.sink import Sink
from ringwise.core.space import Space
from ringwise.core.topology import BucketRules, Topology
from ringwise.core.versions import Write
from ringwise.server.clients import Clients
from ringwise.server.session import Session
from ringwise.wire.resp import RequestParser

REPEATS = 50
OPERATIONS = 3200


class IdleNode:
    """Answers at once, with what it always answers."""

    def __init__(self) -> None:
        self.name = "n1"
        self.id = b"nodeid"
        self.topology = Topology()
        self.config = NodeConfig()
        self.now = Now()
        self.rng = random.Random(1)
        self.dirty: list[Any] = []
        self.linked_since: dict[bytes, int] = {}
        self.repair: Any = None
        self.hints: Any = None
        self.stand_ins: Any = None
        self.liveness: Any = None
        self.filling: Any = None
        self.reaping: Any = None
        self.merging: Any = None
        self.space = Space(BucketRules())
        self._record = DotSource(self.id, b"0000").put(b"", b"x" * 100, 1 << 16)

    def put(self, key: bytes, value: bytes, level: Level, sink: Sink, index: int) -> None:
        sink.stored(index, b"")

    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None:
        sink.found(index, self._record)

    def write(self, key: bytes, write: Write, level: Level, sink: Sink, index: int) -> None:
        raise NotImplementedError

    def update(
        self, key: bytes, operation: str, arguments: tuple[bytes | int, ...], level: Level, sink: Sink, index: int
    ) -> None:
        raise NotImplementedError

    def scan(self, cursor: int, count: int, level: Level, done: Done, first_only: bool = False) -> None:
        raise NotImplementedError

    def explain(self, key: bytes, done: object) -> None:
        raise NotImplementedError

    def flush(self, done: object) -> None:
        raise NotImplementedError

    def flush_all(self, done: object) -> None:
        raise NotImplementedError

    def select(self, label: str) -> None:
        raise NotImplementedError

    def change_buckets(self, change: object, done: object) -> None:
        raise NotImplementedError

    def replace(self, name: str, done: object) -> None:
        raise NotImplementedError

    def after(self, delay_ms: float, call: object) -> None:
        raise NotImplementedError

    def cut_turn(self) -> None: ...

    def is_up(self, node: bytes) -> bool:
        return node == self.id


def nothing(*_: object) -> None:
    pass


def microseconds(run: Callable[[], object], operations: int) -> float:
    """CPU time of one operation, the best of many repeats."""
    turns = OPERATIONS // operations
    best = float("inf")
    for _ in range(REPEATS):
        started = time.process_time_ns()
        for _ in range(turns):
            run()
        best = min(best, time.process_time_ns() - started)
    return best / 1000 / turns / operations


def session_turn(data: bytes) -> Callable[[], object]:
    node = IdleNode()
    session = Session(
        node, nothing, nothing, later=nothing, pause_reading=nothing, resume_reading=nothing, clients=Clients()
    )

    def turn() -> None:
        session.receive(data)
        dirty, node.dirty = node.dirty, []
        for each in dirty:
            each.flush()

    return turn


def main() -> None:
    value = random.Random(1).randbytes(100)
    requests = {
        "SET": b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$100\r\n%b\r\n" % value,
        "GET": b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n",
    }
    print("µs an operation     parser   whole session")
    for name, request in requests.items():
        for count in (1, 16):
            data = request * count
            parser = RequestParser()
            parsed = microseconds(lambda parser=parser, data=data: parser.feed(data), count)  # type: ignore[misc]
            print(f"{name} x {count:<13} {parsed:8.2f} {microseconds(session_turn(data), count):15.2f}")


if __name__ == "__main__":
    main()
