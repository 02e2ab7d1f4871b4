"""The time of the present turn, told by the shell once and read by everyone: nobody in the core looks at a clock."""

from __future__ import annotations


class Now:
    """`wall_ms`: milliseconds since 1970, for stamps and expiry; it may jump. `now_ms`: monotonic, for deadlines."""

    __slots__ = ("now_ms", "wall_ms")

    def __init__(self) -> None:
        self.wall_ms = 0
        self.now_ms = 0.0
