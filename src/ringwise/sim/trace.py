"""What happened, in order: always as a hash, so that two runs of one seed can be compared, and on request as lines to read."""

from collections.abc import Callable

from xxhash import xxh3_64

from ringwise.core.messages import Message

LINE_CHARACTERS_MAX = 400


class Trace:
    def __init__(self, now_ms: Callable[[], float], write: Callable[[str], None] | None = None) -> None:
        self._now_ms = now_ms
        self._hash = xxh3_64()
        self._write = write
        self.written = write is not None

    def event(self, where: str, what: str, data: bytes = b"") -> None:
        """Something happened; `data` are bytes that went over a wire, only hashed."""
        self._hash.update(f"{self._now_ms():.6f} {where} {what}\n".encode())
        if data:
            self._hash.update(data)
        if self._write is not None and what:
            self._write(f"{self._now_ms():11.3f} {where:10} {what}")

    def message(self, sender: str, receiver: str, message: Message) -> None:
        """For readers only: the bytes were hashed when they were sent."""
        if self._write is not None:
            text = repr(message)
            if len(text) > LINE_CHARACTERS_MAX:
                text = text[:LINE_CHARACTERS_MAX] + "…"
            self._write(f"{self._now_ms():11.3f} {sender + '>' + receiver:10} {text}")

    def digest(self) -> str:
        return self._hash.hexdigest()
