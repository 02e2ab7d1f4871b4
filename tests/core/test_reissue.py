"""V5: a SET that is issued once more. It keeps its place among the writes of its key, and its first dot is not forgotten."""

from __future__ import annotations

import pytest
from tests.core import cluster as cluster_module
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import UnknownOutcome
from ringwise.core.levels import EVERY, QUORUM, Level
from ringwise.core.node import Node
from ringwise.core.succession import Made, dot_of, successor
from ringwise.core.topology import BucketRules, found
from ringwise.core.versions import Write

W1 = Level.parse(b"w=1")
R3 = Level.parse(b"r=3")
ONE = Level.parse(b"one")


def ahead(cluster: Cluster, node: Node, level: Level) -> None:
    """A SET that the first node has not heard of, stamped above what that issues."""
    node.clock.last += 2000 << 16
    cluster.links[node.id, cluster.nodes[0].id].up = False
    heard = Heard()
    node.put(b"k", b"ahead", level, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def one_under_way() -> tuple[Cluster, Heard]:
    """A SET of the first node, numbered 1, is on its way to owners that hold one stamped above it."""
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    ahead(cluster, b, QUORUM)
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    return cluster, heard


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
    cluster, heard = one_under_way()
    a, b, c = cluster.nodes
    a.put(b"k", b"2", W1, heard, 2)
    cluster.step(a)
    for owner in (b, c):
        cluster.links[a.id, owner.id].wire.pop()  # on its way
    cluster.run()
    assert heard.outcomes[1][0] == heard.outcomes[2][0] == "stored"
    assert value(cluster, a) == b"2"


def test_a_set_replaced_by_one_that_failed_is_still_not_shadowed() -> None:
    cluster, heard = one_under_way()
    a, b, c = cluster.nodes
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


@pytest.mark.parametrize(("operation", "arguments", "left"), [("delete", (), None), ("append", (b"x", 1000), b"1x")])
def test_a_set_replaced_by_an_update_that_has_read_one_owner_is_still_not_shadowed(
    operation: str, arguments: tuple[bytes | int, ...], left: bytes | None
) -> None:
    cluster, heard = one_under_way()
    a, _, _ = cluster.nodes
    a.update(b"k", operation, arguments, ONE, heard, 2)
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and heard.outcomes[2][0] == "updated"
    assert value(cluster, a) == left


def test_a_set_replaced_by_such_an_update_that_is_under_way_is_still_not_shadowed() -> None:
    cluster, heard = one_under_way()
    a, b, c = cluster.nodes
    a.update(b"k", "append", (b"x", 1000), Level.parse(b"r=1,w=3"), heard, 2)
    cluster.step(a)
    for owner in (b, c):
        cluster.links[a.id, owner.id].wire.pop()
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and 2 not in heard.outcomes
    assert value(cluster, a, QUORUM) == value(cluster, c, QUORUM) == b"1x"


def test_what_is_beside_the_successor_is_not_taken_for_it() -> None:
    """A merge function's version, or one put with an old context: which of them came in a SET's place is known of SETs only."""
    dots = DotSource(b"node-a", b"inca")
    first = dots.put(b"", b"1", 10)
    replaced = versions.newest(first)
    second = dots.put(first, b"2", 12)
    beside = dots.write(second, Write(b"beside", context=versions.Context()), 14)
    newest = versions.newest(beside)
    assert replaced is not None and newest is not None and newest.value == b"beside"

    def of(*made: Made) -> bytes | None:
        by_dot = {dot_of(each.record, dots.prefix): each for each in made}
        found = successor(beside, replaced, by_dot.get)
        return found.value if found is not None else None

    assert of(Made(second, True), Made(beside, False)) == b"2"
    assert of(Made(beside, False)) is None, "the SET has met what owners know, and may be the one"
    assert of() is None


def test_a_set_is_not_shadowed_by_an_older_collection() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    b.clock.last += 2000 << 16
    cluster.links[b.id, a.id].up = False
    b.update(b"k", "set_add", (1 << 20, b"m"), Level.parse(b"r=1,w=2"), heard, 0)
    cluster.run()
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.run()
    assert heard.outcomes[0][0] == "updated" and heard.outcomes[1][0] == "stored"
    assert value(cluster, a) == b"1"


def test_an_older_expiry_is_not_that_of_a_set() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    cluster.links[b.id, a.id].up = False
    b.put(b"k", b"0", QUORUM, heard, 0)
    cluster.run()
    a.clock.last = max(a.clock.last, b.clock.last + 100)
    b.clock.last += 2000 << 16
    b.update(b"k", "expire", (cluster.wall_ms + 5000, 0), Level.parse(b"r=1,w=2"), heard, 1)
    cluster.run()
    a.put(b"k", b"1", QUORUM, heard, 2)
    cluster.run()
    assert heard.outcomes[1][0] == "updated" and heard.outcomes[2][0] == "stored"
    cluster.wall_ms += 6000
    assert value(cluster, a) == b"1"


def test_what_lives_beside_a_version_is_not_covered_when_that_is_issued_again() -> None:
    dots, others = DotSource(b"node-a", b"inca"), DotSource(b"node-b", b"incb")
    first = dots.put(b"", b"1", 10)
    beside = others.write(first, Write(b"beside", context=versions.Context()), 12)
    beside = others.write(beside, Write(b"beside, too", context=versions.Context()), 13)
    mine = dots.write(beside, Write(b"2", context=versions.context_of(first)), 14)
    newest = versions.newest(mine)
    assert newest is not None and newest.value == b"2"
    context = versions.context_without(mine, newest)
    again = dots.write(mine, Write(b"2", context=context), 20)
    assert {each.value for each in versions.values(again)} == {b"2", b"beside", b"beside, too"}
    alone = dots.put(mine, b"3", 30)
    only = versions.newest(alone)
    assert only is not None and versions.context_without(alone, only) == versions.context_of(alone)


def test_a_set_is_not_acknowledged_where_its_successor_cannot_be_issued_again() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    ahead_ms = NodeConfig().max_clock_offset_ms + 5000
    cluster.links[b.id, a.id].up = False
    for node in (b, c):
        node.begin(cluster.wall_ms + ahead_ms, cluster.now_ms + ahead_ms)
    b.put(b"k", b"far ahead", QUORUM, heard, 0)
    b.end_turn()
    c.begin(cluster.wall_ms + ahead_ms, cluster.now_ms + ahead_ms)
    cluster.deliver()
    c.end_turn()
    cluster.deliver()
    assert heard.outcomes[0][0] == "stored"
    a.put(b"k", b"1", QUORUM, heard, 1)
    a.put(b"k", b"2", QUORUM, heard, 2)
    cluster.run()
    assert heard.outcomes[1][0] == heard.outcomes[2][0] == "failed", "what is shown is older than both"


def test_a_set_replaced_under_another_actor_is_still_not_shadowed() -> None:
    cluster, heard = one_under_way()
    a, b, c = cluster.nodes
    a.dots.renew(b"newi")
    a.put(b"k", b"2", EVERY, heard, 2)
    cluster.step(a)
    for owner in (b, c):
        cluster.links[a.id, owner.id].wire.pop()
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and value(cluster, c, QUORUM) == b"2"


def test_a_successor_with_the_same_stamp_is_raised() -> None:
    """V6: the greater actor is shown of two with one stamp."""
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    first = list(cluster.links[a.id, b.id].wire)
    for owner in (b, c):
        cluster.links[a.id, owner.id].wire.clear()
    second = a.clock.last + 2
    b.clock.last = second - 2
    cluster.links[b.id, a.id].up = False
    b.put(b"k", b"tie", QUORUM, heard, 0)
    cluster.step(b)
    cluster.deliver()
    cluster.step(c)
    cluster.deliver()
    cluster.step(b)
    a.put(b"k", b"2", EVERY, heard, 2)
    assert heard.outcomes[0][0] == "stored" and a.clock.last == b.clock.last == second
    cluster.step(a)
    cluster.cut(a, c)
    cluster.links[a.id, b.id].wire[:] = first
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and value(cluster, b, QUORUM) == b"2"


def test_a_set_replaced_by_a_failed_one_with_few_owners_is_still_not_shadowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five owners two are fewer than the half, and three can fail."""
    rules = (BucketRules(0, n=5),)
    monkeypatch.setattr("tests.core.cluster.found", lambda identity, member: found(identity, member, rules))
    cluster_module._document.cache_clear()
    try:
        cluster, heard = Cluster(5), Heard()
    finally:
        cluster_module._document.cache_clear()
    a, b, *others = cluster.nodes
    ahead(cluster, b, QUORUM)
    a.put(b"k", b"1", Level.parse(b"w=4"), heard, 1)
    cluster.step(a)
    links = [cluster.links[a.id, owner.id] for owner in (b, *others)]
    first = [list(link.wire) for link in links]
    a.put(b"k", b"2", Level.parse(b"w=2"), heard, 2)
    cluster.step(a)
    for link in links:
        link.wire.clear()
    path = a._put
    for peer in list(path._groups[max(path._groups)].pending):
        path._groups[max(path._groups)].lost(peer)
    assert heard.outcomes[2][0] == "failed"
    for link, frames in zip(links, first, strict=True):
        link.wire.extend(frames)
    cluster.run()
    assert heard.outcomes[1][0] == "stored" and value(cluster, a, QUORUM) == b"2"


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
