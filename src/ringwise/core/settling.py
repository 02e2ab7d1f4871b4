"""When everything that a node had under way at a moment has ended: what V8 must know before a tombstone goes.

A member that read an old value may write it back a while later: the repair of a read, a change worked out from what was read, a
hint that waits for its owner, a record that waits for the disk. So whoever reaps asks every member to say when it has *settled*:

    asked ─▶ all that was under way then has ended ─▶ what that began, too ─▶ and what that began ─▶ settled
             generation 1                             2                       3
             and at the end of each: no hints, no states in the hands of repair or of a merge function

One operation may begin another in the turn in which it ends (a read its repair, a lost Forward the second one), or hand what it
has read to the background, which begins another; and that one a third. No chain is longer. What is sent and never answered is
given up after two request timeouts, and by then it is a hint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringwise.core.cold import Cold
from ringwise.core.peers import Peers

GENERATIONS = 3


class Background(Protocol):
    """Something that brings states to other nodes by itself."""

    @property
    def settled(self) -> bool:
        """It holds no state, and keeps none for anybody."""
        ...


class _Question:
    """One who wants to know, and how far it has come."""

    __slots__ = ("generation", "last_load", "last_request", "then")

    def __init__(self, last_request: int, last_load: int, then: Callable[[], None]) -> None:
        self.last_request = last_request
        self.last_load = last_load
        self.generation = 1
        self.then = then


class Settling:
    """Of one node. Questions are few: each member asks one at a time."""

    def __init__(self, peers: Peers, cold: Cold) -> None:
        self._peers = peers
        self._cold = cold
        self.background: list[Background] = []  # set by the node: hints, repair, what owners refused as stale
        self._asked: list[Callable[[], None]] = []  # in this turn
        self._questions: list[_Question] = []

    def ask(self, then: Callable[[], None]) -> None:
        """Calls `then` at the end of a turn in which this node has settled since this one."""
        self._asked.append(then)

    def end_turn(self) -> None:
        """No group is open: what is under way is outstanding at a peer, or waits for the disk."""
        if self._asked:
            asked, self._asked = self._asked, []
            self._questions += [_Question(*self._now(), then) for then in asked]
        if self._questions:
            self._questions = [question for question in self._questions if not self._has_settled(question)]

    def _now(self) -> tuple[int, int]:
        return self._peers.last_id, self._cold.last

    def _has_settled(self, question: _Question) -> bool:
        if self._peers.owed(question.last_request) or self._cold.loads(question.last_load):
            return False
        if not all(each.settled for each in self.background):
            return False
        if question.generation < GENERATIONS:
            question.generation += 1
            question.last_request, question.last_load = self._now()
            return False
        question.then()
        return True
