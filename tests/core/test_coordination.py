"""R1: one client's operation is one request and one dot, whatever freezes, dies or is delivered twice on its way."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_hints import isolate, settle
from tests.core.test_node import error, value

from ringwise.core import messages, record, versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import UnknownOutcome
from ringwise.core.keys import Bucket
from ringwise.core.levels import ONE, QUORUM
from ringwise.core.node import Node
from ringwise.core.ring import slot_of
from ringwise.core.versions import Write

ROW = Bucket(0, 1).row_key(b"k")
SEEN_NOTHING = Write(value=b"v", context=versions.context_of(b""))


def parts(cluster: Cluster) -> tuple[Node, list[Node]]:
    """A node that owns no copy of `k`, and the owners, the coordinator of what it forwards first."""
    owners = [cluster.by_id[owner] for owner in cluster.nodes[0].topology.owners[slot_of(b"k")]]
    return next(node for node in cluster.nodes if node not in owners), owners


def versions_held(cluster: Cluster) -> set[tuple[bytes, int, bytes]]:
    """Every version of `k` on any node, with its dot."""
    held = [store.records[ROW] for store in cluster.stores if store.records.get(ROW)]
    return {(one.actor, one.counter, one.value) for state in held for one in record.decode(state).siblings}


def freeze(cluster: Cluster, frozen: Node, ms: float) -> None:
    """The process stands still while its links stand; what is sent to it waits in its sockets."""
    stopped = [link for (_, to), link in cluster.links.items() if to == frozen.id]
    late: list[list[bytes]] = [[] for _ in stopped]
    for _ in range(int(ms / 50)):
        cluster.now_ms += 50
        cluster.wall_ms += 50
        for node in cluster.nodes:
            if node is not frozen:
                node.begin(cluster.wall_ms, cluster.now_ms)
                node.tick()
        for _ in range(4):
            for node in cluster.nodes:
                if node is not frozen:
                    node.end_turn()
                    node.begin(cluster.wall_ms, cluster.now_ms)
            for link, frames in zip(stopped, late, strict=True):
                frames.extend(link.wire)
                link.wire.clear()
            cluster.deliver()
    for link, frames in zip(stopped, late, strict=True):
        link.wire.extend(frames)
    cluster.pass_time(10)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_one_put_is_one_version_whichever_owner_freezes(frozen: int) -> None:
    """Deadlines pass, stand-ins are asked and hints are kept meanwhile; none of that coordinates the PUT again."""
    config = NodeConfig(request_timeout_ms=200, hint_pause_ms=50)
    cluster, heard = Cluster(5, config), Heard()
    outsider, owners = parts(cluster)
    outsider.write(b"k", SEEN_NOTHING, QUORUM, heard, 0)
    outsider.end_turn()
    freeze(cluster, owners[frozen], 5 * config.request_timeout_ms)
    settle(cluster)
    assert 0 in heard.outcomes, "it is answered, if only with an unknown outcome"
    assert len(versions_held(cluster)) == 1


def test_a_forward_that_arrives_twice_is_coordinated_once() -> None:
    cluster, heard = Cluster(5), Heard()
    outsider, owners = parts(cluster)
    outsider.write(b"k", SEEN_NOTHING, QUORUM, heard, 0)
    cluster.step(outsider)
    wire = cluster.links[outsider.id, owners[0].id].wire
    wire.extend(list(wire))
    cluster.run()
    assert heard.outcomes[0][0] == "stored" and len(versions_held(cluster)) == 1


def test_what_was_forwarded_to_no_owner_is_not_forwarded_again() -> None:
    """Two nodes that differ about who owns a key would hand it to and fro, and each could leave a dot."""
    cluster = Cluster(5)
    outsider, owners = parts(cluster)
    other = next(node for node in cluster.nodes if node is not outsider and node not in owners)
    operation = messages.ForwardedWrite(b"k", b"quorum", outsider.clock.last + 1, SEEN_NOTHING, False)
    back = cluster.back[outsider.id, other.id]
    other.receive(back, messages.Forward(77, other.topology.epoch, [operation]))
    other.end_turn()
    (answer,) = [messages.decode(memoryview(frame)[8:]) for frame in back.wire]
    assert isinstance(answer, messages.Forwarded) and answer.outcomes[0].code == "NOQUORUM"
    cluster.run()
    assert not versions_held(cluster)


def test_an_update_whose_coordinator_dies_is_not_made_twice() -> None:
    """An APPEND that was applied, and whose answer is lost: once more would append once more."""
    cluster, heard = Cluster(5), Heard()
    outsider, owners = parts(cluster)
    outsider.update(b"k", "append", (b"x", 100), QUORUM, heard, 0)
    answer = cluster.back[outsider.id, owners[0].id].wire
    for _ in range(20):
        for node in cluster.nodes:
            cluster.step(node)
        if answer:
            break  # so it is stored
        cluster.deliver()
        answer = cluster.back[outsider.id, owners[0].id].wire
    assert answer
    isolate(cluster, owners[0])
    cluster.run()
    assert isinstance(error(heard, 0), UnknownOutcome)
    owners[1].get(b"k", ONE, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"x"
