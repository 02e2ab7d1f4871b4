"""Virtual time: a heap of events, run in order, on one thread.

Everything the simulator does is an event here, and the only clock is the time of the event that runs.  Events of the
same instant run in the order in which they were made, so a history is a function of its seed.
"""

import heapq
from collections.abc import Callable
from typing import Any


class Scheduler:
    __slots__ = ("_heap", "_made", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, when_ms: float, call: Callable[..., None], *arguments: Any) -> None:
        """Run `call` at that time, or now if it has passed."""
        self._made += 1
        heapq.heappush(self._heap, (max(when_ms, self.now_ms), self._made, call, arguments))

    def after(self, delay_ms: float, call: Callable[..., None], *arguments: Any) -> None:
        self._made += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._made, call, arguments))

    def run(self, until_ms: float) -> None:
        """Run every event up to and including that time, those made meanwhile too."""
        heap = self._heap
        pop = heapq.heappop
        while heap and heap[0][0] <= until_ms:
            self.now_ms, _, call, arguments = pop(heap)
            call(*arguments)
        self.now_ms = until_ms

    @property
    def waiting(self) -> int:
        return len(self._heap)
