"""V5 and V6 where two nodes stamp alike: the actor decides equal stamps, so a later SET must not be content with a tie."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.levels import ONE, QUORUM


@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
def test_v5_a_later_set_is_not_shadowed_by_an_earlier_one_with_the_same_stamp(order: tuple[int, int]) -> None:
    cluster, heard = Cluster(), Heard()
    first, second = (cluster.nodes[index] for index in order)
    between = cluster.nodes[1]
    cluster.cut(first, second)
    first.put(b"k", b"first", QUORUM, heard, 0)
    cluster.run()
    cluster.cut(first, between)
    second.clock.last = versions.max_stamp(cluster.stores[1].records[next(iter(cluster.stores[1].records))]) - 1
    second.put(b"k", b"second", QUORUM, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "stored"
    between.get(b"k", ONE, heard, 2)
    cluster.run()
    record = heard.outcomes[2][1]
    assert isinstance(record, bytes)
    assert versions.value_of(record, cluster.wall_ms) == b"second"
