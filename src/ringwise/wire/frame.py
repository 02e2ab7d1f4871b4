"""Messages on a stream: `length u32 | xxh32 of the body u32 | body`. What a body means is the codec's business.

The checksum is there for what TCP's sixteen bits let through; a damaged frame closes its link, and whatever it carried is sent
again or told as unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
import xxhash

T = TypeVar("T")

_HEADER = struct.Struct(">II")
FRAME_BYTES_MAX = 64 * 1024 * 1024  # far above what any node sends: past it the other side is no node, or mad


class FrameDamaged(Exception):
    """A frame is too long, fails its checksum, or is no message of this protocol: the link must be closed."""


def frame(body: bytes) -> bytes:
    """A body with its header."""
    return _HEADER.pack(len(body), xxhash.xxh32_intdigest(body)) + body


class FrameReader(Generic[T]):
    """Cuts a stream of bytes into messages; `decode` raises msgspec.MsgspecError for a body that is none."""

    def __init__(self, decode: Callable[[memoryview], T], frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._decode = decode
        self._frame_bytes_max = frame_bytes_max
        self._parts: list[bytes] = []  # joined only when a whole frame is there: a large one in pieces costs one copy
        self._size = 0
        self._needed = _HEADER.size

    def feed(self, data: bytes) -> list[T]:
        """The messages completed by `data`, in order; raises FrameDamaged."""
        self._size += len(data)
        self._parts.append(data)
        if self._size < self._needed:
            return []
        buffer = data if len(self._parts) == 1 else b"".join(self._parts)
        view = memoryview(buffer)
        messages: list[T] = []
        start, size = 0, len(buffer)
        self._needed = _HEADER.size
        while size - start >= _HEADER.size:
            length, checksum = _HEADER.unpack_from(buffer, start)
            if length > self._frame_bytes_max:
                raise FrameDamaged(f"a frame of {length} bytes; the limit is {self._frame_bytes_max}")
            end = start + _HEADER.size + length
            if end > size:
                self._needed = _HEADER.size + length
                break
            body = view[start + _HEADER.size : end]
            if xxhash.xxh32_intdigest(body) != checksum:
                raise FrameDamaged("the checksum of a frame does not match")
            try:
                messages.append(self._decode(body))
            except msgspec.MsgspecError as error:
                raise FrameDamaged(f"no message of this protocol: {error}") from error
            start = end
        self._parts = [buffer[start:]] if start < size else []
        self._size = size - start
        return messages
