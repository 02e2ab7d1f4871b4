"""WAIT: how many other replicas hold what this connection has written.

A reply to a write says that W owners hold it. For more than that nothing is guessed: the keys are read again from as many
owners as were asked for, at a level that repairs before it answers; so once it has answered, that many owners do hold them.

    R = max(replicas + 1, N - W + 1)      the second, so that every acknowledged write is among what is read: R + W > N

Its timeout is kept: when that has passed, it answers what is certain by then, W - 1, and those writes stay to be accounted for. A
timeout of 0 leaves it to the node's own deadline for reads, after which it says what is certain too.

It counts the writes since the last WAIT, and the last one before. More than 64 are not remembered: of those it says what
their own replies said, W - 1, and says so again until something is written anew. So it does where another bucket was selected
meanwhile.
"""

from __future__ import annotations

from functools import partial

from ringwise.core.errors import QuorumNotReached
from ringwise.core.levels import MAJORITY, Level
from ringwise.core.ring import slot_of
from ringwise.server.arguments import integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.gather import Gather


def wait(call: Call) -> None:
    asked = integer_of(call.arguments[1])
    timeout_ms = integer_of(call.arguments[2], "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    session, topology = call.session, call.node.topology
    written = session.written
    keys = list(dict.fromkeys(filter(None, written)))
    if not (written or session.moved):
        others = [member for member in topology.members if member != call.node.id and call.node.is_up(member)]
        call.answer(min(len(others), max(0, max(map(len, topology.owners)) - 1)))
        return
    copies = min(len(topology.owners[slot_of(key)]) for key in keys or [b""])
    w = max(1, min([level.needed_writes(copies) for level in session.write_levels], default=1))
    moved, session.moved = session.moved, False
    if asked < w or copies <= w or moved:
        call.answer(min(w, copies) - 1)
        return
    if len(written) == written.maxlen and (written[0] or not keys):
        written.extend([b""] * len(written))  # no key is empty: what is written from here on pushes these out
        call.answer(w - 1)
        return
    answer = _Answer(call)
    if timeout_ms:
        call.node.after(timeout_ms, partial(answer.give, w - 1))
    _confirm(answer, keys, max(min(asked + 1, copies), copies - w + 1), w, copies)


class _Answer:
    """The reply, by whoever is first: the owners, or the time."""

    __slots__ = ("call", "given")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.given = False

    def give(self, count: int) -> None:
        if not self.given:
            self.given = True
            self.call.answer(count)


def _confirm(answer: _Answer, keys: list[bytes], r: int, w: int, copies: int) -> None:
    call = answer.call
    level = Level(r=r, w=MAJORITY, repair=True, name="wait")
    gather = Gather(call, len(keys), partial(_confirmed, answer, keys, r, w, copies))
    for index, key in enumerate(keys):
        call.node.get(key, level, gather, index)


def _confirmed(answer: _Answer, keys: list[bytes], r: int, w: int, copies: int, gather: Gather) -> None:
    if answer.given:
        return
    session = gather.call.session
    if not gather.failures:
        session.written.clear()
        session.written.append(keys[-1])
        session.write_levels[:] = [session.level]
        answer.give(r - 1)
        return
    reached = [failure.acknowledged for failure in gather.failures if isinstance(failure, QuorumNotReached)]
    fewer = min(reached) if len(reached) == len(gather.failures) else 0
    if max(w, copies - w) < fewer < r:
        _confirm(answer, keys, fewer, w, copies)  # fewer owners are up than were asked for: do those hold it?
    else:
        answer.give(w - 1)
