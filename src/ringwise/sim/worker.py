"""Threads that are none: blocking work of the storage (syncs, cold reads, flushes), done at virtual times.

The work runs some time after it was submitted and its result is delivered some time after that, so that whatever the
loop did in between is seen to be in between: a sync covers what was written when it ran, not what was written when
its answer came.  Like jobs on real threads, they may finish in any order, and those past `THREADS` wait.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 4  # as many as runtime.worker has


class VirtualWorker:
    """`storage`'s Worker for one life of one simulated process."""

    def __init__(
        self,
        later: Callable[..., None],
        rng: random.Random,
        delay_ms: Callable[[], float],
        entered: Callable[[], None],
    ) -> None:
        self._later = later  # runs a call after a delay, unless the process has died by then
        self._rng = rng
        self._delay_ms = delay_ms
        self._entered = entered  # told before `done` runs: it is an input of the loop like any other
        self._queue: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._running = 0

    @property
    def idle(self) -> bool:
        return not self._running and not self._queue

    def submit(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        if self._running < THREADS:
            self._start(work, done)
        else:
            self._queue.append((work, done))

    def _start(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._running += 1
        self._later(self._delay_ms() * self._rng.random(), self._run, work, done)

    def _run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        try:
            result = work()
        except Exception as error:  # as a thread hands it over; a Crash is no Exception and ends the process here
            result = error
        self._later(self._delay_ms(), self._finish, done, result)

    def _finish(self, done: Callable[[Any], None], result: object) -> None:
        self._running -= 1
        self._entered()
        done(result)
        while self._queue and self._running < THREADS:
            self._start(*self._queue.popleft())
