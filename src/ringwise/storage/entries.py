"""The entries of the commit log: how a chunk of final states is framed, found again, and told from a torn tail (S3).

    entry    RWL1 | length u32 | position u64 | synced u64 | checksum u64 | payload        (big endian)

`position` is where the entry starts in the endless log, of which the files (segments) are pieces; `synced` is up to
where the log was durable when the entry was written. The checksum covers all of it. So an entry proves by itself where
it belongs and what must be there, whatever happened to the bytes around it, and `holes` in a log can be judged:

* A hole that lies below the position which the engine holds is of no interest.
* A hole behind which no entry says `synced` beyond the hole's start is a *torn tail*: it was not durable when the power
  went, and neither was anything behind it. (Only a tail can be torn, but the tail may span two segments, because a new
  segment is begun before the sync of the old one has come back.) It is cut.
* Any other hole is *damage*: what was synced is gone. The start stops, naming file and offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64

from ringwise.storage.errors import FormatTooNew

MARK = b"RWL1"
HEADER_BYTES = 32
_MARK_STEM = MARK[:3]
_fields = Struct(">4sIQQ")
_checksum = Struct(">Q")


class Entry(NamedTuple):
    offset: int  # in its segment
    position: int
    synced: int
    payload: bytes

    @property
    def end(self) -> int:
        return self.position + HEADER_BYTES + len(self.payload)

    @property
    def end_offset(self) -> int:
        return self.offset + HEADER_BYTES + len(self.payload)


def header(payload: bytes, position: int, synced: int) -> bytes:
    fields = _fields.pack(MARK, len(payload), position, synced)
    sum_ = xxh3_64(fields)
    sum_.update(payload)
    return fields + sum_.digest()


def entries(data: bytes, name: str) -> Iterator[Entry]:
    """Every valid entry of a segment in order; what lies between two of them, or behind the last, is a hole."""
    if len(data) >= len(MARK) and data.startswith(_MARK_STEM) and data[3] > MARK[3]:
        raise FormatTooNew(f"commit log file {name}", data[3:4].decode("latin-1"), MARK[3:4].decode())
    view = memoryview(data)
    offset = 0
    while True:
        entry = _entry_at(data, view, offset)
        if entry is None:
            offset = data.find(MARK, offset + 1)
            if offset < 0:
                return
        else:
            yield entry
            offset = entry.end_offset


def _entry_at(data: bytes, view: memoryview, offset: int) -> Entry | None:
    start = offset + HEADER_BYTES
    if start > len(data) or not data.startswith(MARK, offset):
        return None
    _, length, position, synced = _fields.unpack_from(data, offset)
    if start + length > len(data):
        return None
    sum_ = xxh3_64(view[offset : offset + _fields.size])
    sum_.update(view[start : start + length])
    if sum_.digest() != view[offset + _fields.size : start]:
        return None
    return Entry(offset, position, synced, data[start : start + length])
