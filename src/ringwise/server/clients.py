"""The client connections of one node: numbers, names and counts, for CLIENT and INFO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ringwise.server.shown import Shown

if TYPE_CHECKING:
    from ringwise.server.session import Session


@dataclass(slots=True)
class Clients:
    """Shared by all sessions of a node."""

    port: int = 0
    process_id: int = 0
    started_ms: int = 0  # wall clock
    sync: str = "periodic"  # when the log reaches the disk, for CONFIG GET
    partition: Callable[[str], None] | None = None  # RW.DEV, where it is served: "both", "in", "out", or ""
    cut_off: str = ""  # by it, in that direction
    multi: bool = True  # whether MULTI is served
    debug: bool = False  # whether DEBUG is served
    # Counters as they were at CONFIG RESETSTAT: connections, commands. The counters go on, connections are numbered by them.
    counted_from: tuple[int, int] = (0, 0)
    connections_total: int = 0
    commands_total: int = 0
    # CLUSTER SLOTS and its kin, encoded, while epoch and who is up stay the same: with 30 nodes one takes 20 ms and more, and
    # after a failure every cluster client asks at once.
    view: object = None
    topology_replies: dict[tuple[str, int], bytes] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)
    sessions: dict[int, Session] = field(default_factory=dict)  # by connection number, in order of arrival

    def enter(self, session: Session) -> int:
        """Takes a new connection in; its number is never used again."""
        self.connections_total += 1
        self.sessions[self.connections_total] = session
        return self.connections_total

    def leave(self, session: Session) -> None:
        self.sessions.pop(session.id, None)
