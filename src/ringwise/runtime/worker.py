"""Slow work (disk syncs, cold reads, ingests) in a few threads; what it returns comes back as an input of a turn.

`done` always runs on the event loop, inside a turn, with the result or the exception. Nothing is dropped: `drain` waits
until all that was submitted has been delivered, which a clean stop needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ringwise.runtime.turn import Turn

T = TypeVar("T")

# One for the log's sync, one for an ingest, two for cold reads: neither waits behind the others. All of them spend
# their time in system calls and in RocksDB, outside the interpreter lock.
THREADS = 4


class ThreadWorker:
    """The `Worker` of storage, on a thread pool."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fail: Callable[[BaseException], None], threads: int = THREADS
    ) -> None:
        self._loop = loop
        self._fail = fail
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ringwise")
        self._turn: Turn | None = None
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def attach(self, turn: Turn) -> None:
        """Name the turn that results belong to (the node, and so the turn, is built after the worker)."""
        self._turn = turn

    def submit(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        self._pending += 1
        self._idle.clear()

        def run() -> None:
            result: T | BaseException
            try:
                result = work()
            except BaseException as error:
                result = error
            self._loop.call_soon_threadsafe(self._deliver, done, result)

        self._pool.submit(run)

    async def drain(self) -> None:
        """Return when nothing is submitted any more, what `done` submits in its turn included."""
        await self._idle.wait()

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _deliver(self, done: Callable[[T | BaseException], None], result: T | BaseException) -> None:
        try:
            if self._turn is not None:
                self._turn.enter()
            done(result)
        except BaseException as error:
            self._fail(error)
        self._pending -= 1
        if self._pending == 0:
            self._idle.set()
