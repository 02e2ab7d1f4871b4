"""Reads of one key, answered with what its record shows; those that ask the same get one reply (B5).

A page of a leaderboard, a configuration that everybody reads: fifty who ask in one turn, in the same words, are given the same
record (core/get.py), so the reply to the first of them is the reply to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ringwise.core.errors import Failure, WrongType
from ringwise.server.arguments import check_key
from ringwise.server.gather import Gather, refused
from ringwise.wire.replies import Value, encode

if TYPE_CHECKING:
    from ringwise.server.call import Call

KEPT_BYTES_MAX = 1024 * 1024

V = TypeVar("V")


class LastReply:
    """That of one node, and what it was made of."""

    __slots__ = ("_protocol", "_record", "_reply", "_wall_ms", "_words")

    def __init__(self) -> None:
        self._record: bytes | None = None
        self._words: list[bytes] = []
        self._protocol = self._wall_ms = 0
        self._reply = b""

    def of(self, call: Call, record: bytes) -> bytes | None:
        """The reply, where it is to the same."""
        if (
            self._record is record
            and self._words == call.arguments
            and self._protocol == call.session.protocol
            and self._wall_ms == call.node.now.wall_ms
        ):
            return self._reply
        return None

    def keep(self, call: Call, record: bytes, reply: bytes) -> None:
        """It is asked for in this turn, if at all."""
        if len(reply) <= KEPT_BYTES_MAX:
            self._record, self._words, self._reply = record, call.arguments, reply
            self._protocol, self._wall_ms = call.session.protocol, call.node.now.wall_ms


def show(call: Call, view: Callable[[bytes, int], V | None], of: Callable[[V], Value]) -> None:
    """As `show_encoded`, for a reply that is yet to be encoded."""
    show_encoded(call, view, lambda found: encode(of(found), call.session.protocol))


def show_encoded(call: Call, view: Callable[[bytes, int], V | None], reply_to: Callable[[V], bytes]) -> None:
    """Answers by what the command's key holds, seen as a type (`versions.fields` and its kin: None where it is of another).

    The reply must depend on the words of the command, the record and the moment alone: nothing by chance.
    """

    def came(gather: Gather) -> None:
        if refused(gather):
            return
        record, last = gather.records[0], call.session.clients.last_reply
        reply = last.of(call, record)
        if reply is None:
            found = view(record, call.node.now.wall_ms)
            if found is None:
                call.fail(WrongType())
                return
            try:
                reply = reply_to(found)
            except Failure as trouble:
                call.fail(trouble)
                return
            last.keep(call, record, reply)
        call.reply(reply)

    key = call.arguments[1]
    check_key(call, key)
    call.node.get(key, call.level, Gather(call, 1, came), 0)
