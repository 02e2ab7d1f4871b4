"""How long a member stays suspect before it counts as dead (Lifeguard, arXiv 1707.00788, LHA-Suspicion).

It starts long and shrinks with the logarithm of independent confirmations: one accuser may be slow itself, several hardly.

    timeout = max - (max - min) * log(confirmed + 1) / log(needed + 1)

When it has run out, the suspect is pinged once more, which is Ringwise's own: the *last word*. So a process that came
back in time is never dead to a member that its refutation has not reached yet.

Invariants: each accuser counts once; the timeout never rises, save for the time in which this process itself was asleep.
"""

from __future__ import annotations

import math

from ringwise.core.topology import NodeId


class Suspicion:
    """One suspicion: of one member, in one incarnation."""

    def __init__(self, by: NodeId, needed: int, shortest_ms: float, longest_ms: float, now_ms: float) -> None:
        self.accusers = {by}
        self.last_word_ms: float | None = None  # until when the answer to the last ping is waited for
        self._needed = needed
        self._shortest_ms = shortest_ms
        self._longest_ms = longest_ms
        self._since_ms = now_ms
        self.expires_ms = self._expiry()

    @property
    def due_ms(self) -> float:
        return self.expires_ms if self.last_word_ms is None else self.last_word_ms

    def confirm(self, by: NodeId) -> bool:
        """Whether this accuser is named, new and still needed; only then is it worth passing on."""
        if not by or by in self.accusers or len(self.accusers) > self._needed:
            return False
        self.accusers.add(by)
        self.expires_ms = self._expiry()
        return True

    def postpone(self, milliseconds: float) -> None:
        """This process slept: what the suspect may have said meanwhile has not been heard yet."""
        self._since_ms += milliseconds
        self.expires_ms += milliseconds
        if self.last_word_ms is not None:
            self.last_word_ms += milliseconds

    def _expiry(self) -> float:
        if self._needed < 1:
            return self._since_ms + self._shortest_ms
        share = min(1.0, math.log(len(self.accusers)) / math.log(self._needed + 1))
        return self._since_ms + self._longest_ms - (self._longest_ms - self._shortest_ms) * share
