"""Huge pages for the memtable and the cache: a fifth more pipelined writes a second (docs/benchmarks.md).

Every operation looks its key up among gigabytes of small objects, and each of the half dozen places it touches lies on another
page; with pages of 4 KiB the processor spends as long on translating addresses as on the look-up. Python's allocator asks for
memory by the megabyte, which the kernel never turns into pages of 2 MiB by itself where these must be asked for ("madvise",
as most distributions set it). So a thread asks for what is filled already: MADV_COLLAPSE (Linux 6.1) copies 2 MiB into one
page, in half a millisecond, outside the interpreter lock.

Only ranges that are nearly full are asked for, so that memory does not grow by what nobody uses. Nothing forks here, so the
usual cost of huge pages for databases (copies after a fork) does not arise. Where the kernel is older or huge pages are
switched off ("never"), nothing happens.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

HUGE_BYTES = 2 * 1024 * 1024
# Of its small pages so many must be in memory: collapsing the others would take memory that nobody needs.
RESIDENT_MIN = 0.9
# Looked for anew when the process has grown by so much; less is not worth a walk through the list of its mappings.
GROWTH_BYTES = 16 * HUGE_BYTES
PAUSE_S = 1.0
# After each page that was copied: a page fault elsewhere waits meanwhile, so it never waits for two.
BREATH_S = 0.001
COPIED_S = 0.0001  # what is huge already takes a microsecond

_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_MADV_COLLAPSE = 25
_SMALL_BYTES = os.sysconf("SC_PAGE_SIZE")


def available() -> bool:
    """Whether this machine has huge pages for who asks for them."""
    try:
        return "[never]" not in _ENABLED.read_text()
    except OSError:
        return False


def candidates(maps: str) -> Iterator[int]:
    """Addresses of 2 MiB that lie within private, writable memory of no file, by the text of /proc/self/maps."""
    start = end = 0
    for line in [*maps.splitlines(), ""]:
        fields = line.split()
        anonymous = len(fields) >= 5 and fields[1] == "rw-p" and fields[4] == "0" and fields[5:] in ([], ["[heap]"])
        first, last = (int(text, 16) for text in fields[0].split("-")) if anonymous else (0, 0)
        if anonymous and first == end:  # neighbours, which the kernel has not merged
            end = last
            continue
        yield from range(-(-start // HUGE_BYTES) * HUGE_BYTES, end - HUGE_BYTES + 1, HUGE_BYTES)
        start, end = first, last


class HugePages:
    """A thread that collapses what this process has filled, until it is stopped."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._present = (ctypes.c_ubyte * (HUGE_BYTES // _SMALL_BYTES))()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ringwise-hugepages", daemon=True)

    def start(self) -> None:
        if available():
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def collapse(self) -> int:
        """One walk through this process's memory; returns how many huge pages it found or made."""
        count = 0
        for address in candidates(Path("/proc/self/maps").read_text()):
            if self._stopped.is_set():
                break
            if self._resident(address) >= RESIDENT_MIN:
                began_s = time.perf_counter()
                # Refused where a mapping has changed meanwhile, or no such page is free: the next walk tries again.
                count += self._libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_BYTES), _MADV_COLLAPSE) == 0
                if time.perf_counter() - began_s > COPIED_S:
                    self._stopped.wait(BREATH_S)
        return count

    def _resident(self, address: int) -> float:
        """The share of its small pages that are in memory."""
        if self._libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_BYTES), self._present):
            return 0.0
        return bytes(self._present).count(1) / len(self._present)

    def _run(self) -> None:
        grown_from = 0
        while not self._stopped.wait(PAUSE_S):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * _SMALL_BYTES
            grown_from = min(grown_from, resident)  # memory was given back; what comes anew has small pages
            if resident >= grown_from + GROWTH_BYTES:
                grown_from = resident
                self.collapse()
