"""A turn: everything that one iteration of the event loop brings, handled as one batch (design, section 2).

The first input of an iteration (client bytes, a peer's frame, a timer, a finished piece of disk work) opens the turn:
the node is told the time once, and the end of the turn is scheduled behind all the other inputs that are ready.
`end_turn` then does once what others do for each request: one append to the commit log, one write to each peer,
one write to each client, in that order ("stored before sent").

An error inside `end_turn` or `tick` means that the node's state can no longer be trusted, so the process stops
(`fail`) rather than answer. An error of a single input is dealt with by the connection that brought it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Stepped(Protocol):
    """What a turn needs of a node."""

    def begin(self, wall_ms: int, now_ms: float) -> None: ...
    def end_turn(self) -> None: ...
    def tick(self) -> None: ...


class Background(Protocol):
    """Work in slices that yields to requests (S5), in practice the store's flushes."""

    @property
    def pressure(self) -> float:
        """How urgent it is: 0 not at all, 1 due at the latest, 2 requests are refused for it."""
        ...

    def background(self, budget_ms: float) -> bool:
        """A slice; True where there is more to do."""
        ...


def _elapsed_ms() -> float:
    """Monotonic time; on Linux also while the machine slept, so that waking up is no jump of the wall clock."""
    return _clock() * 1000.0


_clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic

TICK_S = 0.010
SLICE_PAUSE_S = 0.002
SLICE_MS_MIN = 1.0
SLICE_MS_MAX = 10.0  # adds to the latency of what comes meanwhile, so only as long as the turns themselves are
SHARE_MIN = 0.5
# Below it there is time: short slices, and pauses in which requests that met one are through again.
CALM_PRESSURE = 0.15
CALM_SHARE = 0.12
CALM_PAUSE_S = 0.008


def slice_ms(since_ms: float, pressure: float) -> float:
    """How long the next slice may take, after so much time for requests.

    A slice is in proportion to the turns around it, since a loaded loop comes to its timers once a turn, however long
    that is. At first the work gets a ninth of the loop, and a third where that will not do; where writers are faster than it, its
    share grows with what is left to do, up to two thirds, rather than have them refused.
    """
    share = CALM_SHARE if pressure < CALM_PRESSURE else max(SHARE_MIN, pressure)
    return min(SLICE_MS_MAX, max(SLICE_MS_MIN, since_ms * share))


class Turn:
    """Opens and ends turns on one event loop, and runs the timers. `after` is called when a turn has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Stepped,
        background: Background,
        after: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._node = node
        self._background = background
        self._after = after
        self._fail = fail
        self._open = False
        self._stopped = False
        self._tick_handle: asyncio.TimerHandle | None = None
        self._slice_handle: asyncio.TimerHandle | None = None
        self._sliced_s = 0.0  # when the last slice ended

    def enter(self) -> None:
        """Open a turn unless one is open. Called before every input."""
        if not self._open:
            self._open = True
            self._node.begin(time.time_ns() // 1_000_000, _elapsed_ms())
            self._loop.call_soon(self._end)

    def start(self) -> None:
        """Start the timers."""
        self._tick_handle = self._loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """Stop the timers; a turn that is open still ends."""
        self._stopped = True
        for handle in (self._tick_handle, self._slice_handle):
            if handle is not None:
                handle.cancel()

    async def ended(self) -> None:
        """Return when no turn is open."""
        while self._open:
            await asyncio.sleep(0)

    def _end(self) -> None:
        self._open = False
        try:
            self._node.end_turn()
            self._after()
        except BaseException as error:
            self._fail(error)

    def _tick(self) -> None:
        try:
            self.enter()
            self._node.tick()
            if self._slice_handle is None:
                self._slice()
        except BaseException as error:
            self._fail(error)
        if not self._stopped:
            self._tick_handle = self._loop.call_later(TICK_S, self._tick)

    def _slice(self) -> None:
        self._slice_handle = None
        try:
            self.enter()
            since_ms = (time.monotonic() - self._sliced_s) * 1000.0
            pressure = self._background.pressure
            more = self._background.background(slice_ms(since_ms, pressure))
            self._sliced_s = time.monotonic()
        except BaseException as error:
            self._fail(error)
            return
        if more and not self._stopped:
            pause_s = CALM_PAUSE_S if pressure < CALM_PRESSURE else SLICE_PAUSE_S
            self._slice_handle = self._loop.call_later(pause_s, self._slice)
