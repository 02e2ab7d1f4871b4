"""V5: a SET that is issued once more. It keeps its place among the writes of its key, and its first dot is not forgotten."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.config import NodeConfig
from ringwise.core.errors import UnknownOutcome
from ringwise.core.levels import EVERY, QUORUM, Level
from ringwise.core.node import Node

W1 = Level.parse(b"w=1")
R3 = Level.parse(b"r=3")


def ahead(cluster: Cluster, node: Node, level: Level) -> None:
    """A SET that the first node has not heard of, stamped above what that issues."""
    node.clock.last += 2000 << 16
    cluster.links[node.id, cluster.nodes[0].id].up = False
    heard = Heard()
    node.put(b"k", b"ahead", level, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def value(cluster: Cluster, node: Node, level: Level = R3) -> bytes | None:
    heard = Heard()
    node.get(b"k", level, heard, 0)
    cluster.run()
    record = heard.outcomes[0][1]
    assert isinstance(record, bytes)
    return versions.value_of(record, cluster.wall_ms)


def test_writes_of_one_turn_at_different_levels_keep_their_order() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    for index, level in enumerate((EVERY, QUORUM, EVERY)):
        a.put(b"k", b"%d" % index, level, heard, index)
    cluster.run()
    assert [heard.outcomes[index][0] for index in range(3)] == ["stored"] * 3
    assert value(cluster, a) == value(cluster, b) == b"2"


def test_a_set_that_another_has_replaced_is_not_issued_again() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    slow = cluster.links[a.id, c.id]
    late, slow.wire = slow.wire, []
    cluster.deliver()  # b holds it
    b.put(b"k", b"2", QUORUM, heard, 2)
    cluster.step(b)
    cluster.back[a.id, b.id].wire.clear()  # its answer is lost
    cluster.run()
    assert heard.outcomes[2][0] == "stored" and 1 not in heard.outcomes
    slow.wire.extend(late)
    cluster.run()
    assert heard.outcomes[1][0] == "stored"
    assert value(cluster, a) == value(cluster, c) == b"2"


@pytest.mark.parametrize("first_answer", [1, 2])
def test_a_set_issued_again_does_not_shadow_a_later_one_of_its_coordinator(first_answer: int) -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.links[b.id, a.id].up = cluster.links[b.id, c.id].up = False
    b.clock.last += 5000 << 16
    b.put(b"k", b"ahead", W1, heard, 0)  # on b only, and stamped five seconds ahead
    cluster.run()
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    a.put(b"k", b"2", QUORUM, heard, 2)
    cluster.step(a)
    lagging = cluster.links[a.id, cluster.nodes[first_answer].id]
    held_back = lagging.wire[1:]  # the first SET is answered by one owner first, the second by the other
    del lagging.wire[1:]
    other = cluster.links[a.id, cluster.nodes[3 - first_answer].id]
    first = other.wire.pop(0)
    cluster.run()
    lagging.wire.extend(held_back)
    other.wire.append(first)
    cluster.run()
    assert heard.outcomes[1][0] == heard.outcomes[2][0] == "stored"
    assert value(cluster, a) == value(cluster, c) == b"2"


def test_what_was_acknowledged_is_not_raised_above_what_came_after_it() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    slow = cluster.links[a.id, c.id]
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    late, slow.wire = slow.wire, []
    cluster.links[a.id, b.id].wire.clear()  # so the first SET waits for c
    a.put(b"k", b"2", QUORUM, heard, 2)
    cluster.step(a)
    later, slow.wire = slow.wire, []
    cluster.run()
    assert heard.outcomes[2][0] == "stored" and 1 not in heard.outcomes
    c.clock.last += 1 << 16
    c.put(b"k", b"3", QUORUM, heard, 3)
    cluster.step(c)
    unheard, cluster.links[c.id, a.id].wire = cluster.links[c.id, a.id].wire, []
    cluster.run()
    assert heard.outcomes[3][0] == "stored"
    slow.wire.extend(late)
    cluster.run()  # c tells of the third SET, which a has not heard of
    assert heard.outcomes[1][0] == "stored"
    slow.wire.extend(later)
    cluster.links[c.id, a.id].wire.extend(unheard)
    cluster.run()
    assert value(cluster, a) == value(cluster, c) == b"3"


def test_a_set_replaced_by_one_that_few_have_is_still_not_shadowed() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    ahead(cluster, b, QUORUM)
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    a.put(b"k", b"2", W1, heard, 2)
    cluster.step(a)
    for owner in (b, c):
        cluster.links[a.id, owner.id].wire.pop()  # on its way
    cluster.run()
    assert heard.outcomes[1][0] == heard.outcomes[2][0] == "stored"
    assert value(cluster, a) == b"2"


def test_a_set_replaced_by_one_that_failed_is_still_not_shadowed() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    ahead(cluster, b, QUORUM)
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    a.put(b"k", b"2", EVERY, heard, 2)
    cluster.step(a)
    cluster.cut(a, c)
    cluster.links[a.id, b.id].wire.pop()
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and heard.outcomes[2][0] == "failed"
    assert value(cluster, b, QUORUM) == b"2"


def test_the_first_of_two_of_one_turn_is_answered_when_the_second_is_not_shadowed() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    ahead(cluster, b, QUORUM)
    a.put(b"k", b"1", QUORUM, heard, 1)
    a.put(b"k", b"2", QUORUM, heard, 2)
    cluster.run()
    first, second = (heard.outcomes[index][1] for index in (1, 2))
    assert isinstance(first, bytes) and isinstance(second, bytes)
    assert versions.max_stamp(first) >= versions.max_stamp(second) > b.clock.last - 1000


def test_a_write_on_enough_owners_is_not_told_as_refused() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    cluster.cut(a, c)
    ahead_ms = NodeConfig().max_clock_offset_ms + 5000
    b.begin(cluster.wall_ms + ahead_ms, cluster.now_ms + ahead_ms)
    cluster.links[b.id, a.id].up = cluster.links[b.id, c.id].up = False
    b.put(b"k", b"far ahead", W1, heard, 0)
    b.end_turn()
    a.put(b"k", b"v", QUORUM, heard, 1)
    cluster.run()
    kind, failure = heard.outcomes[1]
    assert kind == "failed" and isinstance(failure, UnknownOutcome), "it is stored on both, and may surface"
