"""A client's connection to a simulated process: bytes each way, in order, after a while, until one of them ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringwise.server.session import Session
from ringwise.sim.history import Operation
from ringwise.sim.workload import Client

if TYPE_CHECKING:
    from ringwise.sim.machine import Machine

CLIENT_LATENCY_MS = 0.2


class ClientSide:
    """A client's connection to a process: bytes each way, in order, after a while."""

    def __init__(self, machine: Machine, client: Client) -> None:
        self.machine = machine
        self.client = client
        self.open = True
        self.deletes: deque[Operation] = deque()  # sent and not yet begun by the node
        self._life = machine.life
        self._held: list[bytes] | None = None  # what came while the session does not read
        self._last_ms = 0.0
        self._session: Session | None = None
        machine.input(self._accept)

    # The client's end.

    def send(self, data: bytes) -> None:
        self.deletes += [op for ops in self.client.open for op in ops if op.kind == "delete" and op not in self.deletes]
        self.machine.world.scheduler.after(CLIENT_LATENCY_MS, self._arrive, data)

    def close(self) -> None:
        if self.open:
            self.open = False
            self.machine.world.scheduler.after(CLIENT_LATENCY_MS, self._hang_up)

    # The process's end.

    def _accept(self) -> None:
        machine = self.machine
        node = machine.node
        assert node is not None and machine.clients is not None
        self._session = Session(
            node,
            self._write,
            self._close,
            later=self._later,
            pause_reading=self._pause,
            resume_reading=self._resume,
            clients=machine.clients,
            address=f"client:{self.client.number}",
        )
        machine.client_sides.append(self)

    def _arrive(self, data: bytes) -> None:
        if self.machine.life == self._life:
            self.machine.input(self._receive, data)

    def _receive(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self._session is not None:
            self._serve(self._session.receive, data)

    def _later(self, call: Callable[[], None]) -> None:
        self.machine.later(0.0, self.machine.input, self._resumed, call)

    def _resumed(self, call: Callable[[], None]) -> None:
        if self._session is not None:
            self._serve(call)

    def _serve(self, call: Callable[..., None], *arguments: Any) -> None:
        node = self.machine.node
        assert node is not None
        node.deletes = self.deletes
        try:
            call(*arguments)
        finally:
            node.deletes = None

    def _pause(self) -> None:
        self._held = [] if self._held is None else self._held

    def _resume(self) -> None:
        held, self._held = self._held, None
        for data in held or ():
            self.machine.later(0.0, self.machine.input, self._receive, data)

    def _write(self, data: bytes) -> None:
        self._deliver(self.client.received, self, data)
        self.machine.passed("reply")

    def _close(self) -> None:
        self._ended("closed by the node")

    def _hang_up(self) -> None:
        if self.machine.life == self._life:
            self.machine.input(self._closed)

    def _closed(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.closed()
            self.machine.client_sides.remove(self)

    def ended(self, why: str) -> None:
        """The process is gone; what it had written still arrives."""
        self._ended(why)

    def _ended(self, why: str) -> None:
        self._deliver(self._tell, why)

    def _tell(self, why: str) -> None:
        if self.open:
            self.open = False
            self.client.disconnected(self, why)

    def _deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        scheduler = self.machine.world.scheduler
        self._last_ms = max(self._last_ms, scheduler.now_ms + CLIENT_LATENCY_MS)
        scheduler.at(self._last_ms, call, *arguments)
