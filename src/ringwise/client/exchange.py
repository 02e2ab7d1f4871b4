"""One call, from its requests to their outcomes, whatever node answers them. Pure: the shells own sockets and clocks.

    exchange = Exchange(commands, routing, deadline)
    while exchange.pending:
        pause = exchange.begin(now)       # chooses a node: exchange.address, exchange.attempt_deadline
        ... send exchange.payload() to it, then exactly one of
        exchange.answered(replies)        # all are there
        exchange.lost(replies, error, now, sent=...)     # the connection failed, or the time of the attempt is over
        exchange.unsent(error)            # there was no connection to send it on, to any node

Rules
* A read is asked again elsewhere. A write is, only where it is certain not to have been applied: it was never sent, or it was
  refused. A write that was sent and not answered has an unknown outcome, and is not sent again; but for one that counts once
  however often it is sent (`Command.again`): that is, and where no answer comes in time, its outcome is unknown still.
* Each node is asked once a round, for at most `ROUNDS` rounds with a pause between them, within the deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from ringwise.client import errors
from ringwise.client.commands import Command
from ringwise.client.errors import RingwiseError
from ringwise.client.routing import Address, Routing

T = TypeVar("T")

ROUNDS = 3
# A node that has said nothing for so long is taken for dead by the next calls; a caller's tiny timeout proves nothing.
SILENT_S = 0.5


class Exchange(Generic[T]):
    def __init__(self, commands: Sequence[Command[T]], routing: Routing, deadline: float) -> None:
        self.pending = list(range(len(commands)))
        self.outcomes: list[T | RingwiseError] = [RingwiseError("not asked")] * len(commands)
        self.address: Address = ("", 0)
        self.attempt_deadline = deadline
        self._commands = commands
        self._routing = routing
        self._deadline = deadline
        self._tried: set[Address] = set()
        self._rounds = 0
        self._last: dict[int, RingwiseError] = {}  # why a command that is pending was not done
        self._begun = 0.0

    def begin(self, now: float) -> float:
        """Chooses the node to ask; seconds to wait before. Nothing is pending any more where no attempt is left."""
        pause = 0.0
        address = self._routing.pick(now, self._tried)
        if address is None:
            self._rounds += 1
            pause = self._routing.pause(self._rounds)
            self._tried.clear()
            address = self._routing.pick(now, self._tried)
        if address is None or self._rounds == ROUNDS or now + pause >= self._deadline:
            self._give_up(now)
            return 0.0
        self._tried.add(address)
        self.address = address
        self._begun = now + pause
        # A read leaves time to ask another node, should this one be silent; a write is asked once.
        first = self._commands[self.pending[0]]
        reads = not first.write or first.again
        others = len(self._tried) < len(self._routing.addresses)
        left = self._deadline - self._begun
        self.attempt_deadline = self._begun + left / 2 if reads and others else self._deadline
        return pause

    @property
    def connect_deadline(self) -> float:
        """Connecting is safe to try elsewhere, so no node gets more than half of the time for it."""
        return self._begun + (self._deadline - self._begun) / 2

    def payload(self) -> bytes:
        if len(self.pending) == 1:
            return self._commands[self.pending[0]].wire
        return b"".join([self._commands[index].wire for index in self.pending])

    def answered(self, replies: Sequence[Any]) -> None:
        self._routing.answered(self.address)
        self.pending = self._settle(replies)

    def lost(self, replies: Sequence[Any], trouble: BaseException, now: float, *, sent: bool) -> None:
        """The connection failed, or could not be made. `replies` are those that came before; `sent`: any byte was."""
        timed_out = isinstance(trouble, TimeoutError)
        if not timed_out or now - self._begun >= SILENT_S:
            self._routing.failed(self.address, now)
        unanswered = self.pending[len(replies) :]
        again = self._settle(replies)
        where = f"{self.address[0]}:{self.address[1]}"
        what = f"no answer in {now - self._begun:.3g} s" if timed_out else str(trouble) or type(trouble).__name__
        for index in unanswered:
            if sent and self._commands[index].write:
                unknown = errors.WriteTimedOut if timed_out else errors.UnknownOutcome
                error = unknown(
                    f"{where}: {what}; the write had been sent and may have been applied: read before writing again"
                )
                if not self._commands[index].again:
                    self.outcomes[index] = error
                    continue
                self._last[index] = error
            # A node's reason says more than a dead node; and what may have been applied remains so.
            elif not isinstance(self._last.get(index), (errors.Refused, errors.UnknownOutcome)):
                kind = errors.TimedOut if timed_out else errors.ConnectionFailed
                self._last[index] = kind(f"{where}: {what}")
            again.append(index)
        self.pending = again

    def unsent(self, error: RingwiseError) -> None:
        """Nothing can be sent. An outcome like any other: batches before this one may have been applied."""
        for index in self.pending:
            self.outcomes[index] = self._last.get(index, error)
        self.pending = []

    def _settle(self, replies: Sequence[Any]) -> list[int]:
        """Takes the replies to the first commands that are pending; those that another node is to be asked."""
        again: list[int] = []
        for index, reply in zip(self.pending, replies, strict=False):
            command = self._commands[index]
            outcome = command.outcome(reply)
            before = self._last.get(index)
            unsettled = (
                before if isinstance(before, errors.UnknownOutcome) else None
            )  # an earlier try may have been applied
            if not isinstance(outcome, RingwiseError):
                self.outcomes[index] = outcome
            elif errors.elsewhere_may_help(outcome) or (command.again and isinstance(outcome, errors.UnknownOutcome)):
                self._last[index] = unsettled or outcome
                again.append(index)
            else:
                self.outcomes[index] = unsettled or outcome
        return again

    def _give_up(self, now: float) -> None:
        for index in self.pending:
            error = self._last.get(index)
            if error is None:
                error = errors.TimedOut("the time was over before a node could be asked; nothing was sent")
            self.outcomes[index] = error
        self.pending = []
