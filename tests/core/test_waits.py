"""Nobody waits for what cannot come (S3), or longer than it takes; and order holds while a record is fetched (S4, B1)."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard

from ringwise.core import versions
from ringwise.core.errors import UnknownOutcome
from ringwise.core.levels import EVERY, ONE, QUORUM, STRONG, Level

W3 = Level.parse(b"w=3")


def row(key: bytes) -> bytes:
    return b"\0\0\0\0\0\1" + len(key).to_bytes(2, "big") + key


@pytest.mark.parametrize("level", [STRONG, EVERY])
def test_s3_in_mode_batch_a_node_whose_log_has_failed_asks_and_answers_at_once(level: Level) -> None:
    cluster, heard = Cluster(), Heard()
    a, b, _ = cluster.nodes
    for store in cluster.stores:
        store.sync_mode = "batch"
    a.put(b"k", b"v", W3, heard, 0)
    cluster.run()
    for store in cluster.stores:
        store.sync()
    cluster.run()
    cluster.stores[0].fail_next_append = True
    a.put(b"other", b"v", ONE, heard, 1)
    cluster.run()
    a.get(b"k", level, heard, 2)
    b.get(b"k", EVERY, heard, 3)
    cluster.run()
    for store in cluster.stores[1:]:
        store.sync()
    cluster.run()
    assert heard.outcomes[2][0] == ("found" if level is STRONG else "failed"), "the others are enough, or they are not"
    assert heard.outcomes[3][0] == "failed"


def test_s3_what_waits_for_a_sync_is_told_when_an_append_fails() -> None:
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    for store in cluster.stores:
        store.sync_mode = "batch"
    cluster.links[a.id, b.id].up = cluster.links[a.id, c.id].up = False
    a.put(b"k", b"v", ONE, heard, 0)
    cluster.run()
    cluster.stores[0].fail_next_append = True
    b.put(b"k", b"w", ONE, heard, 1)
    cluster.run()
    failure = heard.outcomes[0][1]
    assert isinstance(failure, UnknownOutcome), "at once, not at the deadline"


def test_b1_order_holds_while_a_damaged_record_is_fetched() -> None:
    cluster, heard = Cluster(), Heard()
    a = cluster.nodes[0]
    store = cluster.stores[0]
    a.put(b"k", b"0", W3, heard, 0)
    cluster.run()
    store.damaged.add(row(b"k"))
    a.put(b"k", b"1", QUORUM, heard, 1)
    cluster.step(a)
    store.loaded()  # damaged: fetched from the others
    a.put(b"k", b"2", QUORUM, heard, 2)
    cluster.run()  # fetched
    a.put(b"k", b"3", QUORUM, heard, 3)
    store.loaded()
    cluster.run()
    assert [heard.outcomes[i][0] for i in (1, 2, 3)] == ["stored"] * 3
    assert versions.value_of(store.records[row(b"k")], cluster.wall_ms) == b"3"


@pytest.mark.parametrize("level", [QUORUM, STRONG])
def test_the_second_phase_of_an_update_belongs_to_the_turn_that_ends_the_first(level: Level) -> None:
    cluster, heard = Cluster(1), Heard()
    (a,) = cluster.nodes
    a.put(b"k", b"v", level, heard, 0)
    cluster.run()
    a.update(b"k", "delete", (), level, heard, 1)
    cluster.step(a)
    assert heard.outcomes[1][0] == "updated"
