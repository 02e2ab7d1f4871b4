"""Sinks of commands that are more than one plain read or write: they collect, then answer once."""

from __future__ import annotations

from collections.abc import Callable

from ringwise.core import versions
from ringwise.core.errors import Failure, Refused, WrittenBeside, WrongType
from ringwise.server.call import Call


class Gather:
    """The results of the operations of one command, by index, whatever the order in which they come."""

    __slots__ = ("_done", "_left", "after", "call", "failures", "records", "sloppy")

    def __init__(self, call: Call, count: int, done: Callable[[Gather], None]) -> None:
        self.call = call
        self.records: list[bytes] = [b""] * count  # what was found, stored, or there before an update
        self.after: list[bytes] = [b""] * count  # what an update left
        self.failures: list[Failure] = []
        self.sloppy = False  # a stand-in counted (R2)
        self._left = count
        self._done = done

    def stood_in(self, index: int) -> None:
        self.sloppy = True

    def found(self, index: int, record: bytes) -> None:
        self.records[index] = record
        self._count()

    def stored(self, index: int, record: bytes) -> None:
        self.records[index] = record
        self._count()

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        self.records[index] = before
        self.after[index] = after
        self._count()

    def failed(self, index: int, error: Failure) -> None:
        self.failures.append(error)
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._done(self)


def value_after(gather: Gather) -> bytes | None:
    """The plain value that an update left, b"" for none; answers with an error, and is None, where another type is shown."""
    try:
        return versions.value_of(gather.after[0], gather.call.node.now.wall_ms) or b""
    except WrongType:
        gather.call.fail(WrittenBeside())
        return None


def refused(gather: Gather, *, writes: bool = False) -> bool:
    """Answers with an error if any of the operations failed; true where it did.

    One failure fails a command on several keys. A write that only some keys took is no refusal: its outcome is told.
    """
    failures = gather.failures
    if not failures:
        return False
    count = len(gather.records)
    told = next((failure for failure in failures if not isinstance(failure, Refused)), failures[0])
    if len(failures) == count or not writes:
        gather.call.fail(told)
    else:
        done = count - len(failures)
        gather.call.refuse(f"UNKNOWN outcome: {done} of {count} keys were written, of the others: {told.reply()}")
    return True


def refused_second(gather: Gather) -> bool:
    """As `refused`, for the write of a second key after a first one: that is done, so the command was not refused as a whole."""
    if gather.failures:
        gather.call.refuse(f"UNKNOWN outcome: 1 of 2 keys were written, of the others: {gather.failures[0].reply()}")
    return bool(gather.failures)
