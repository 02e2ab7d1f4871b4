"""RW.REPAIR [SLOT n | STATUS]: a round of anti-entropy now, by the node asked with all its peers; how it goes (R5)."""

from __future__ import annotations

from ringwise.core.ring import SLOTS
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.wire.replies import OK, Value


def rw_repair(call: Call) -> None:
    node, words = call.node, call.arguments[1:]
    topology = node.topology
    if not topology.formed:
        raise CommandError("CLUSTERDOWN nothing was ever written to this cluster, so there is nothing to compare")
    match [word.upper() for word in words]:
        case []:
            node.repair.begin()
            call.reply(OK)
        case [b"STATUS"]:
            peer = node.repair.with_peer
            told: dict[bytes | str, Value] = {
                "running": int(node.repair.running),
                "with": topology.members[peer].name if peer in topology.members else "",
                "left": node.repair.left,
                "ready": node.repair.ready,
            }
            told.update(node.repair.tally.told())
            call.answer(told)
        case [b"SLOT", _]:
            slot = integer_of(words[1])
            if not 0 <= slot < SLOTS:
                raise CommandError(f"ERR a slot is a number from 0 to {SLOTS - 1}")
            if node.id not in topology.owners[slot]:
                owners = ", ".join(topology.members[owner].name for owner in topology.owners[slot])
                raise CommandError(f"ERR this node owns no copy of slot {slot}; ask one of {owners}")
            node.repair.begin(slot)
            call.reply(OK)
        case _:
            raise CommandError(SYNTAX)
