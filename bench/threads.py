"""A worker on threads for programs without an event loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any


class Worker:
    """Threads; results wait until `pump` hands them to the loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4)
        self._results: SimpleQueue[tuple[Callable[[Any], None], Any]] = SimpleQueue()
        self.pending = 0

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.pending += 1

        def run() -> None:
            try:
                result = work()
            except Exception as error:
                result = error
            self._results.put((done, result))

        self._pool.submit(run)

    def pump(self, wait: bool = False) -> None:
        while self.pending and (wait or not self._results.empty()):
            done, result = self._results.get()
            self.pending -= 1
            done(result)

    def close(self) -> None:
        """Let everything finish."""
        self.pump(wait=True)
        self._pool.shutdown()
