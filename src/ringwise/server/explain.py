"""RW.EXPLAIN key: where a key lives, what each owner holds, how the copies compare, and what a read would answer.

current      it has seen all that any answering owner has
behind       another owner has seen more; the next read repairs it
conflicting  it has seen something that another has not, and the other way round
absent       it holds nothing, though others do
"""

from __future__ import annotations

from itertools import combinations

from ringwise.core import hyperloglog, versions
from ringwise.core import record as records
from ringwise.core.context import Context
from ringwise.core.counters import COUNT, EXPIRY, amount_of
from ringwise.core.errors import Failure
from ringwise.core.explain import ANSWERED, Copy, Explanation
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG
from ringwise.core.maps import KINDS, told_of
from ringwise.core.record import Sibling
from ringwise.core.sets import MARK, MEMBER
from ringwise.core.space import bound
from ringwise.core.topology import Topology
from ringwise.server.arguments import check_key
from ringwise.server.call import Call
from ringwise.server.clock import Names
from ringwise.wire.replies import Value

LEVELS = (ONE, QUORUM, STRONG, EVERY)


def rw_explain(call: Call) -> None:
    key = call.arguments[1]
    check_key(call, key)

    def done(outcome: Explanation | Failure) -> None:
        if isinstance(outcome, Failure):
            call.fail(outcome)
        else:
            call.answer(_told(outcome, call.node.topology, call.node.now.wall_ms, call.node.space.number))

    call.node.explain(key, done)


def _told(found: Explanation, topology: Topology, wall_ms: int, bucket: int = 0) -> Value:
    held = [copy.record for copy in found.copies if copy.state == ANSWERED]
    kept = [copy.record for copy in found.stand_ins if copy.record]
    merged = b""
    for record in held + kept:
        merged = versions.merge(merged, record)
    state = records.unpack(merged) if merged else records.NOTHING
    seen = [actor for actor, _ in (*state.context, *state.cloud)]
    names = Names(topology, seen)
    return {
        "key": found.key,
        "slot": found.slot,
        "owners": [_copy(copy, found, held + kept, names, topology, wall_ms) for copy in found.copies],
        "stand_ins": [_copy(copy, found, held + kept, names, topology, wall_ms) for copy in found.stand_ins],
        "clock": names.clock(state.context, state.cloud),
        "siblings": [_sibling(sibling, names, wall_ms) for sibling in versions.siblings(merged, wall_ms)]
        if merged
        else [],
        "reads": {level.name: _reads(held, level.needed_reads(len(found.copies)), wall_ms) for level in LEVELS},
        "context": (versions.context_of(merged) if merged else Context()).token(bound(bucket, found.key)),
    }


def _copy(copy: Copy, found: Explanation, held: list[bytes], names: Names, topology: Topology, wall_ms: int) -> Value:
    state = records.unpack(copy.record) if copy.record else records.NOTHING
    names_of = {member: topology.members[member].name for member in topology.members}
    told: dict[bytes | str, Value] = {
        "node": topology.members[copy.owner].name,
        "id": copy.owner.hex(),
        "state": copy.state,
        "compared": _compared(copy.record, held) if copy.state == ANSWERED else "",
        "clock": names.clock(state.context, state.cloud),
        "versions": [
            _sibling(sibling, names, wall_ms)
            for sibling in sorted(state.siblings, key=lambda sibling: (sibling.stamp, sibling.actor), reverse=True)
        ],
        "hints": [names_of[other.owner] for other in (*found.copies, *found.stand_ins) if copy.owner in other.hinted],
    }
    return told


def _compared(record: bytes, held: list[bytes]) -> str:
    more = [other for other in held if not versions.covers(record, other)]
    if not more:
        return "current"
    if not record:
        return "absent"
    return "behind" if any(versions.covers(other, record) for other in more) else "conflicting"


_ROLES = {EXPIRY: "expiry", MEMBER: "member", MARK: "removals"}  # what is no value (V9)
_MAP_ROLES = {
    role: (state, kind)
    for kind in KINDS.values()
    for role, state in ((kind.entry, "field"), (kind.count, "increment"), (kind.gone, "removed"))
}


def _sibling(sibling: Sibling, names: Names, wall_ms: int) -> Value:
    state = "deleted" if sibling.tombstone else "live" if versions.is_live(sibling, wall_ms) else "expired"
    value, content_type = sibling.value, sibling.content_type
    if content_type == COUNT:  # V9
        state, value, content_type = "added", amount_of(sibling), ""
    elif content_type == hyperloglog.ESTIMATE:
        state, value, content_type = "elements", b"about %d" % hyperloglog.count(value), ""
    elif content_type in _ROLES:
        state, value, content_type = _ROLES[content_type], b"" if content_type == MARK else value, ""
    elif content_type in _MAP_ROLES:
        state, kind = _MAP_ROLES[content_type]
        value, content_type = told_of(kind, sibling), ""
    return {
        "value": value,
        "state": state,
        "dot": names.dot(sibling.actor, sibling.counter),
        "stamp": sibling.stamp,
        "ttl_ms": sibling.expiry_ms - wall_ms if sibling.expiry_ms else -1,
        "type": content_type,
        "flags": sibling.flags,
    }


def _reads(held: list[bytes], need: int, wall_ms: int) -> Value:
    """What a plain GET may answer, by which owners answer it first; none where too few answer at all."""
    answers: dict[bytes | None, None] = {}
    for chosen in combinations(held, need):
        merged = b""
        for record in chosen:
            merged = versions.merge(merged, record)
        live = versions.live(merged, wall_ms)
        if live is None or versions.is_plain(live):
            answers[None if live is None else live.value] = None
        else:
            answers[versions.siblings(merged, wall_ms)[0].value] = None  # refused by GET: as RW.GET shows it
    return list(answers)
