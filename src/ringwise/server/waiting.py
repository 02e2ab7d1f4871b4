"""WAIT: how many other replicas hold what this connection has written.

A reply to a write says that W owners hold it. For more than that nothing is guessed: the keys are read again from as many
owners as were asked for, at a level that repairs before it answers; so once it has answered, that many owners do hold them.

    R = max(replicas + 1, N - W + 1)      the second, so that every acknowledged write is among what is read: R + W > N

It counts the writes since the last WAIT, and the last one before. More than 64 are not remembered: of those it says what
their own replies said, W - 1, and says so again until something is written anew. It ends at the node's own deadline, and
says then what is certain.
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
    if integer_of(call.arguments[2], "ERR timeout is not an integer or out of range") < 0:
        raise CommandError("ERR timeout is negative")
    session, topology = call.session, call.node.topology
    written = session.written
    keys = list(dict.fromkeys(filter(None, written)))
    if not written:
        others = [member for member in topology.members if member != call.node.id and call.node.is_up(member)]
        call.answer(min(len(others), max(0, max(map(len, topology.owners)) - 1)))
        return
    copies = min(len(topology.owners[slot_of(key)]) for key in keys or [b""])
    w = max(1, min([level.needed_writes(copies) for level in session.write_levels], default=1))
    if asked < w or copies <= w:
        call.answer(min(w, copies) - 1)
        return
    if len(written) == written.maxlen and (written[0] or not keys):
        written.extend([b""] * len(written))  # no key is empty: what is written from here on pushes these out
        call.answer(w - 1)
        return
    _confirm(call, keys, max(min(asked + 1, copies), copies - w + 1), w, copies)


def _confirm(call: Call, keys: list[bytes], r: int, w: int, copies: int) -> None:
    level = Level(r=r, w=MAJORITY, repair=True, name="wait")
    gather = Gather(call, len(keys), partial(_confirmed, keys, r, w, copies))
    for index, key in enumerate(keys):
        call.node.get(key, level, gather, index)


def _confirmed(keys: list[bytes], r: int, w: int, copies: int, gather: Gather) -> None:
    call, session = gather.call, gather.call.session
    if not gather.failures:
        session.written.clear()
        session.written.append(keys[-1])
        session.write_levels[:] = [session.level]
        call.answer(r - 1)
        return
    reached = [failure.acknowledged for failure in gather.failures if isinstance(failure, QuorumNotReached)]
    fewer = min(reached) if len(reached) == len(gather.failures) else 0
    if max(w, copies - w) < fewer < r:
        _confirm(call, keys, fewer, w, copies)  # fewer owners are up than were asked for: do those hold it?
    else:
        call.answer(w - 1)
