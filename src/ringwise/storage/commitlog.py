"""The commit log: what a turn wrote is in it before anybody is answered (design, S2 and S3).

The log is endless and append-only; a *position* counts its bytes from the first start on and never goes back, not even
over a torn tail (then it goes on from where the engine is). Segments are its pieces, files `commit-<number>.log`.

    |- cut -|------ in the engine ------|------ memtable ------|
            segment 7        segment 8  ^ flushed    segment 9 ^ position          segment 10: empty, ready
                                                           ^ synced

Invariants
* One `append` a turn is one write to one file; it returns only when the system has all of it.
* A failed write or sync ends writing for good (S3): `failed` says why, and nothing is tried again.
* `synced` never claims what a finished sync did not cover: it takes the position when the sync *began*.
* The log is cut as a prefix only, whole segments, below the position that the engine holds.
* Nothing but `append` touches a file on the loop: segments are made, synced and removed in the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from ringwise.storage.disk import Disk, File
from ringwise.storage.engine import Worker
from ringwise.storage.entries import HEADER_BYTES, Entry, entries, header
from ringwise.storage.errors import LogDamaged, WritingEnded

SyncMode = Literal["periodic", "batch", "off"]

_PREFIX = "commit-"
_SUFFIX = ".log"


class Recovered(NamedTuple):
    """What a start found."""

    entries: int  # replayed
    end: int  # where the log goes on
    torn_bytes: int  # cut off its end: bytes that were never durable


class CommitLog:
    """The open log of one data directory."""

    def __init__(
        self, disk: Disk, worker: Worker, flushed: int, replay: Callable[[bytes], None], segment_bytes: int
    ) -> None:
        """Replays what lies at or above position `flushed`, in order, cuts a torn tail, and opens a new segment."""
        self._disk = disk
        self._worker = worker
        self._segment_bytes = segment_bytes
        self.failed: BaseException | None = None
        self.on_synced: Callable[[int], None] = _ignore_position
        self.on_failed: Callable[[BaseException], None] = _ignore_failure
        names = [name for name in disk.names() if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
        self.recovered, self._segments = _recover(disk, names, flushed, replay)
        self.position = self.synced = self.recovered.end
        self._number = _number(names[-1]) if names else 0
        self._rotated: list[File] = []  # full segments whose sync has not come back
        self._syncing = False
        self._closed = False
        self._next: tuple[str, File] | None = self._new_segment()
        self._begin_segment()

    def append(self, chunks: Sequence[bytes]) -> int:
        """Write the chunks of a turn; returns the position behind them."""
        if self.failed is not None:
            raise WritingEnded(f"the commit log takes no writes since: {self.failed}")
        if not chunks:
            return self.position
        position, synced = self.position, self.synced
        parts: list[bytes] = []
        for chunk in chunks:
            parts.append(header(chunk, position, synced))
            parts.append(chunk)
            position += HEADER_BYTES + len(chunk)
        try:
            self._file.append(parts)
        except OSError as error:
            self._end(error)
            raise WritingEnded(f"writing to the commit log failed: {error}") from error
        self.position = position
        if position - self._segment_start >= self._segment_bytes and self._next is not None:
            self._rotated.append(self._file)
            self._begin_segment()
            self.sync()
        return position

    def sync(self) -> None:
        """Start to make durable what is written by now, unless that is under way already."""
        if self._syncing or self.failed is not None or self.synced == self.position:
            return
        self._syncing = True
        rotated, self._rotated = self._rotated, []
        self._worker.submit(
            partial(_sync_all, [*rotated, self._file]), partial(self._sync_done, self.position, rotated)
        )

    def cut(self, flushed: int) -> None:
        """Remove the segments that lie wholly below what the engine holds, oldest first."""
        names = []
        while len(self._segments) > 1 and self._segments[1][1] <= flushed:
            names.append(self._segments.pop(0)[0])
        if names:
            self._worker.submit(partial(_remove_all, self._disk, names), self._removed)

    def fail(self, error: BaseException) -> None:
        """End writing for good (S3), and wake up who waits for a sync that will not come."""
        self._end(error)
        self.on_synced(self.synced)

    def close(self) -> int:
        """Sync and close; the log's end. The worker must be idle. Raises where the log is not whole."""
        self._closed = True
        files = [*self._rotated, self._file]
        try:
            if self.failed is not None:
                raise WritingEnded(f"the commit log is incomplete since: {self.failed}")
            _sync_all(files)
            self.synced = self.position
        finally:
            if self._next is not None:
                files.append(self._next[1])
            for file in files:
                file.close()
        return self.position

    def _end(self, error: BaseException) -> None:
        if self.failed is None:
            self.failed = error
            self.on_failed(error)

    def _new_segment(self) -> tuple[str, File]:
        name = f"{_PREFIX}{self._number + 1:010d}{_SUFFIX}"
        return name, self._disk.open_append(name)

    def _begin_segment(self) -> None:
        """Go on in the segment that stands ready, and have the next one made."""
        assert self._next is not None
        name, self._file = self._next
        self._number += 1
        self._segments.append((name, self.position))
        self._segment_start = self.position
        self._next = None
        self._worker.submit(self._new_segment, self._segment_ready)

    def _segment_ready(self, result: tuple[str, File] | BaseException) -> None:
        if isinstance(result, BaseException):
            self.fail(result)
        elif self._closed:
            result[1].close()
        else:
            self._next = result

    def _sync_done(self, position: int, rotated: list[File], result: BaseException | None) -> None:
        self._syncing = False
        if result is not None:
            self.fail(result)
            return
        for file in rotated:
            file.close()
        self.synced = position
        self.on_synced(position)
        if self._rotated:
            self.sync()

    def _removed(self, result: BaseException | None) -> None:
        if result is not None:
            self.fail(result)


def _recover(
    disk: Disk, names: list[str], flushed: int, replay: Callable[[bytes], None]
) -> tuple[Recovered, list[tuple[str, int]]]:
    """Replay the log; returns what was found and the segments that are kept, as (name, first position)."""
    kept: list[tuple[str, int, int]] = []  # name, first position, end of the last good entry in the file
    sizes: dict[str, int] = {}
    replayed = 0
    end = 0  # behind the last good entry
    tear: tuple[str, int, int] | None = None  # file, offset, position
    for name in names:
        data = disk.read(name)
        sizes[name] = len(data)
        offset = 0  # behind the last good entry of this file
        for entry in entries(data, name):
            if tear is None and entry.position > flushed and entry.position != max(end, flushed):
                tear = (name, offset, max(end, flushed))
            if tear is not None:
                if entry.synced > tear[2]:
                    raise LogDamaged(*tear)
                continue
            if entry.end > flushed:
                _check_order(entry, name, flushed)
                replay(entry.payload)
                replayed += 1
            if offset == 0:
                kept.append((name, entry.position, 0))
            end, offset = entry.end, entry.end_offset
            kept[-1] = (*kept[-1][:2], offset)
    good = {name: size for name, _, size in kept}
    for name in reversed(names):  # from the end, so that a crash meanwhile leaves a tear and not a hole
        if name not in good:
            disk.remove(name)
        elif good[name] < sizes[name]:
            disk.truncate(name, good[name])
    for name in good:  # a process that was killed leaves them in the page cache only; from here on they count as synced
        file = disk.open_append(name)
        file.sync()
        file.close()
    torn = sum(sizes.values()) - sum(good.values())
    return Recovered(replayed, max(end, flushed), torn), [(name, first) for name, first, _ in kept]


def _check_order(entry: Entry, name: str, flushed: int) -> None:
    """An entry is either wholly in the engine or not at all: flushes end between entries."""
    if entry.position < flushed:
        raise LogDamaged(name, entry.offset, entry.position)


def _number(name: str) -> int:
    return int(name[len(_PREFIX) : -len(_SUFFIX)])


def _sync_all(files: Sequence[File]) -> None:
    for file in files:
        file.sync()


def _remove_all(disk: Disk, names: Sequence[str]) -> None:
    for name in names:
        disk.remove(name)


def _ignore_position(_position: int) -> None:
    """Nobody waits for syncs."""


def _ignore_failure(_error: BaseException) -> None:
    """Nobody asked to be told; `failed` keeps it."""
