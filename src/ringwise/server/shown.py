"""Reads of one key, answered with what its record shows; those that ask the same get one reply (B5).

A page of a leaderboard, a configuration that everybody reads: those who ask in one turn, in the same words and one after another,
are given the same record (core/get.py), so the reply to the first of them is the reply to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ringwise.core.errors import Failure, WrongType
from ringwise.server.arguments import check_key
from ringwise.server.gather import Gather, refused
from ringwise.wire.replies import Value, encode

if TYPE_CHECKING:
    from ringwise.server.call import Call

V = TypeVar("V")
View = Callable[[bytes, int], V | None]


class Shown:
    """What the last record that was looked at in this turn shows, and the last reply that was made of one; of one node.

    Kept for the turn only, as a session that is flushed at its end: a state of a sorted set that is kept keeps what has changed
    since (core/order.py).
    """

    __slots__ = ("_answered", "_found", "_looked", "_protocol", "_reply", "_view", "_wall_ms", "_words", "used")

    def __init__(self) -> None:
        self._protocol = self._wall_ms = 0
        self.flush()

    def flush(self) -> None:
        """The turn ends."""
        self.used = False  # in node.dirty
        self._looked: bytes | None = None
        self._view: object = None
        self._found: Any = None
        self._answered: bytes | None = None
        self._words: list[bytes] = []
        self._reply = b""

    def of(self, record: bytes, view: View[V], wall_ms: int) -> V | None:
        """The record, seen as a type; None where it is of another."""
        if self._looked is not record or self._view is not view or self._wall_ms != wall_ms:
            self._looked, self._view, self._found = record, view, view(record, wall_ms)
            self._answered, self._wall_ms = None, wall_ms
        found: V | None = self._found
        return found

    def reply(self, call: Call, record: bytes) -> bytes | None:
        """The last one, where it was to the same, in the same moment."""
        same = self._answered is record and self._words == call.arguments
        if same and self._protocol == call.session.protocol and self._wall_ms == call.node.now.wall_ms:
            return self._reply
        return None

    def keep(self, call: Call, record: bytes, reply: bytes) -> None:
        self._answered, self._words, self._reply = record, call.arguments, reply
        self._protocol = call.session.protocol


def _of_turn(call: Call) -> Shown:
    found = call.session.clients.shown
    if not found.used:
        found.used = True
        call.node.dirty.append(found)
    return found


def view_of(call: Call, view: View[V], record: bytes) -> V | None:
    """What a record that a command has met shows, seen as a type; None where it is of another."""
    return _of_turn(call).of(record, view, call.node.now.wall_ms)


def show(call: Call, view: View[V], of: Callable[[V], Value]) -> None:
    """As `show_encoded`, for a reply that is yet to be encoded."""
    show_encoded(call, view, lambda found: encode(of(found), call.session.protocol))


def show_encoded(call: Call, view: View[V], reply_to: Callable[[V], bytes]) -> None:
    """Answers by what the command's key holds, seen as a type (`versions.fields` and its kin).

    The reply must depend on the words of the command, the record and the moment alone: nothing by chance.
    """

    def came(gather: Gather) -> None:
        if refused(gather):
            return
        record, last = gather.records[0], _of_turn(call)
        reply = last.reply(call, record)
        if reply is None:
            found = view_of(call, view, record)
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
