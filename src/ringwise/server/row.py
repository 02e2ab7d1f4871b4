"""The reply slots of one batch of requests, and the sink of its plain reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringwise.core.errors import Failure
from ringwise.core.versions import value_of
from ringwise.wire.replies import BULK_HEADERS, CRLF, OK, bulk, error

if TYPE_CHECKING:
    from ringwise.server.session import Session

_HEADERS_READY = len(BULK_HEADERS)


class Row:
    """The reply slots of one batch of requests, and the sink of its plain reads and writes."""

    __slots__ = ("replies", "session")

    def __init__(self, session: Session, count: int) -> None:
        self.session = session
        self.replies: list[bytes | None] = [None] * count

    def stood_in(self, index: int) -> None:
        """Plain commands have no place to tell it; INFO counts it."""

    def stored(self, index: int, record: bytes) -> None:
        self.replies[index] = OK
        session = self.session
        if not session.is_dirty:
            session.is_dirty = True
            session.node.dirty.append(session)

    def found(self, index: int, record: bytes) -> None:
        session = self.session
        try:
            value = value_of(record, session.now.wall_ms) if record else None
        except Failure as wrong:
            self.fill(index, error(wrong.reply()))
            return
        if value is None:
            self.replies[index] = session.null
        else:
            length = len(value)
            self.replies[index] = BULK_HEADERS[length] + value + CRLF if length < _HEADERS_READY else bulk(value)
        if not session.is_dirty:
            session.is_dirty = True
            session.node.dirty.append(session)

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        raise AssertionError("a row never asks for an update")

    def failed(self, index: int, error_: Failure) -> None:
        self.fill(index, error(error_.reply()))

    def fill(self, index: int, reply: bytes) -> None:
        self.replies[index] = reply
        session = self.session
        if not session.is_dirty:
            session.is_dirty = True
            session.node.dirty.append(session)
