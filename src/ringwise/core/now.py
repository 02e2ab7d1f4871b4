"""The time of the present turn, told by the shell once and read by everyone: nobody in the core looks at a clock.

A wall clock may be set: by hand, by NTP, by the host of a virtual machine. Backwards that is harmless, since stamps never go
back. Forwards, a node that believed it would expire everything at once and issue stamps that all others refuse (V7). So a
step beyond what monotonic time explains is not believed: the node counts on from the time before, until a stamp of another
member shows that it is the others' time too, the machine's clock is set right, or the node is started again. A step back to a
time that was believed before one backwards is none of these.
"""

from __future__ import annotations

from math import inf


class Now:
    """`wall_ms`: milliseconds since 1970, for stamps and expiry. `now_ms`: monotonic, for deadlines."""

    __slots__ = ("_base_ms", "_latest_ms", "jump_max_ms", "jumped", "machine_ms", "now_ms", "wall_ms")

    def __init__(self, jump_max_ms: int = 30_000) -> None:
        self.wall_ms = 0
        self.now_ms = 0.0
        self.machine_ms = 0  # what the machine's clock says
        self.jump_max_ms = jump_max_ms
        self.jumped = False  # wall_ms is counted on from before a step that is not believed
        self._base_ms: float | None = None  # wall minus monotonic time when the wall clock was last believed
        self._latest_ms = -inf  # the greatest of those

    def begin(self, machine_ms: int, now_ms: float) -> None:
        """A turn begins."""
        self.machine_ms = machine_ms
        self.now_ms = now_ms
        base_ms = machine_ms - now_ms
        if self._base_ms is not None and base_ms > self._latest_ms + self.jump_max_ms:
            self.jumped = True
            self.wall_ms = int(self._base_ms + now_ms)
        else:
            self.jumped = False
            self._base_ms = base_ms
            self._latest_ms = max(self._latest_ms, base_ms)
            self.wall_ms = machine_ms

    def confirm(self, wall_ms: int, offset_max_ms: int) -> bool:
        """Another member's clock says `wall_ms`: believes this machine's clock if the two agree. Whether it does so now."""
        if not self.jumped or abs(self.machine_ms - wall_ms) > offset_max_ms:
            return False
        self._base_ms = None
        self.begin(self.machine_ms, self.now_ms)
        return True
