"""Messages to bytes and back: `length u32 | xxh32 of the body u32 | body`, the body a tagged msgpack array.

The checksum is there for what TCP's sixteen bits let through; a damaged frame closes its link, and whatever it carried is sent
again or told as unknown.
"""

from __future__ import annotations

import struct

import msgspec
import xxhash

from ringwise.core.messages import Message

_HEADER = struct.Struct(">II")
FRAME_BYTES_MAX = 64 * 1024 * 1024  # far above what any node sends: past it the other side is no node, or mad

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class FrameDamaged(Exception):
    """A frame is too long, fails its checksum, or is no message of this protocol: the link must be closed."""


def encode(message: Message) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return _HEADER.pack(len(body), xxhash.xxh32_intdigest(body)) + body


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._parts: list[bytes] = []  # joined only when a whole frame is there: a large one in pieces costs one copy
        self._size = 0
        self._needed = _HEADER.size

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`, in order; raises FrameDamaged."""
        self._size += len(data)
        self._parts.append(data)
        if self._size < self._needed:
            return []
        buffer = data if len(self._parts) == 1 else b"".join(self._parts)
        view = memoryview(buffer)
        messages: list[Message] = []
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
                messages.append(_decoder.decode(body))
            except msgspec.MsgspecError as error:
                raise FrameDamaged(f"no message of this protocol: {error}") from error
            start = end
        self._parts = [buffer[start:]] if start < size else []
        self._size = size - start
        return messages
