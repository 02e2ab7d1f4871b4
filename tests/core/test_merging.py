"""Merge functions as the core sees them: when one is asked for, what becomes of its value, and of its failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_buckets import changed, create, document, get, put, view
from tests.core.test_node import value

from ringwise.core import buckets, versions
from ringwise.core.buckets import Settings
from ringwise.core.context import Context
from ringwise.core.levels import QUORUM, STRONG
from ringwise.core.merging import AGAIN_MS, WAITING_MAX, Outcome
from ringwise.core.node import Node
from ringwise.core.record import decode
from ringwise.core.topology import ChangeRefused, Document
from ringwise.core.versions import Write
from ringwise.core.view import View

Asked = list[tuple[str, list[bytes], Callable[[Outcome], None]]]


def joining(node: Node) -> Asked:
    """Merges are noted, and answered by the test."""
    asked: Asked = []

    def run(name: str, values: Sequence[bytes], done: Callable[[Outcome], None]) -> None:
        asked.append((name, list(values), done))

    node.merging.run = run
    return asked


def scene(count: int = 3) -> tuple[Cluster, list[View], list[Asked]]:
    cluster = Cluster(count)
    create(cluster, "carts", Settings(policy="merge:union"))
    return cluster, [view(node, "carts") for node in cluster.nodes], [joining(node) for node in cluster.nodes]


def siblings(cluster: Cluster, at: View, key: bytes, *values: bytes) -> None:
    heard = Heard()
    for index, each in enumerate(values):
        at.write(key, Write(value=each, context=Context([], [])), QUORUM, heard, index)
    cluster.run()
    assert all(outcome[0] == "stored" for outcome in heard.outcomes.values())


def held(cluster: Cluster, at: View, key: bytes) -> list[list[bytes]]:
    found = [store.records.get(at.space.row_key(key), b"") for store in cluster.stores]
    return [sorted(each.value for each in decode(record).siblings) for record in found if record]


def test_a_read_that_finds_siblings_merges_them_and_writes_the_value_back() -> None:
    cluster, (first, second, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b", b"c")
    heard = Heard()
    second.get(b"k", QUORUM, heard, 7)
    cluster.run()
    assert not heard.outcomes, "it waits for the function"
    ((name, values, done),) = asked[1]
    assert (name, values) == ("union", [b"a", b"b", b"c"]), "the oldest first"
    done(b"abc")
    cluster.run()
    assert value(heard, 7) == b"abc"
    assert held(cluster, first, b"k") == [[b"abc"]] * 3
    assert get(cluster, first, b"k", STRONG) == b"abc" and not asked[0]
    assert cluster.nodes[1].merging.merged == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_deleted_while_the_function_runs_stays_deleted(number: int) -> None:
    """Whoever reads, merges and writes back: the delete had not been seen, and came later."""
    cluster, views, asked = scene()
    siblings(cluster, views[0], b"k", b"a", b"b")
    heard = Heard()
    views[number].get(b"k", QUORUM, heard, 0)
    cluster.run()
    ((_, _, done),) = asked[number]
    views[1].update(b"k", "delete", (), STRONG, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "updated"
    done(b"ab")
    cluster.run()
    assert heard.outcomes[0][0] == "found"
    assert [get(cluster, each, b"k") for each in views] == [None] * 3


def test_a_member_whose_function_runs_has_not_settled() -> None:
    """V8: what it makes would be written over what has been reaped."""
    cluster, (first, *_), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard, settled = Heard(), []
    first.get(b"k", QUORUM, heard, 0)
    cluster.run()
    cluster.nodes[0]._settling.ask(lambda: settled.append(True))
    for _ in range(400):
        cluster.pass_time(10)
    assert not settled
    asked[0][0][2](b"ab")
    for _ in range(10):
        cluster.pass_time(10)
    assert settled and value(heard, 0) == b"ab"


def test_one_version_asks_for_no_function() -> None:
    cluster, (first, second, _), asked = scene()
    put(cluster, first, b"k", b"v")
    assert get(cluster, second, b"k") == b"v"
    assert get(cluster, second, b"nothing") is None
    siblings(cluster, first, b"same", b"v", b"v")
    assert get(cluster, second, b"same") == b"v", "equal values are shown once"
    assert not any(asked)


def test_what_was_written_meanwhile_is_a_sibling_of_what_was_merged() -> None:
    cluster, (first, _, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard = Heard()
    first.get(b"k", QUORUM, heard, 0)
    cluster.run()
    siblings(cluster, first, b"k", b"c")
    asked[0][0][2](b"ab")
    cluster.run()
    assert held(cluster, first, b"k") == [[b"ab", b"c"]] * 3, "nobody has seen c"


def test_a_failure_keeps_the_siblings_and_is_told() -> None:
    cluster, (first, _, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard = Heard()
    first.get(b"k", QUORUM, heard, 0)
    cluster.run()
    asked[0][0][2]("it raised KeyError")
    cluster.run()
    _, record = heard.outcomes[0]
    assert isinstance(record, bytes)
    assert [each.value for each in first.space.shown(record, cluster.wall_ms)] == [b"b", b"a"]
    merging = cluster.nodes[0].merging
    assert (merging.failed, merging.failure) == (1, "union in bucket carts: it raised KeyError")
    assert first.space.merge_failure == "it raised KeyError"
    assert get(cluster, first, b"k") == b"b", "the newest, as anywhere"
    assert len(asked[0]) == 1, "it is not tried again at once"
    cluster.pass_time(AGAIN_MS)
    first.get(b"k", QUORUM, heard, 1)
    cluster.run()
    assert len(asked[0]) == 2, "but later"


def test_readers_of_the_same_siblings_share_a_run() -> None:
    cluster, (first, _, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard = Heard()
    for index in range(5):
        first.get(b"k", QUORUM, heard, index)
    cluster.run()
    ((_, _, done),) = asked[0]
    done(b"ab")
    cluster.run()
    assert [value(heard, index) for index in range(5)] == [b"ab"] * 5


def test_two_nodes_that_merge_at_once_show_one_value() -> None:
    cluster, (first, second, third), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard = Heard()
    first.get(b"k", QUORUM, heard, 0)
    second.get(b"k", QUORUM, heard, 1)
    cluster.run()
    for mine in asked[:2]:
        mine[0][2](b"ab")
    cluster.run()
    assert [value(heard, index) for index in (0, 1)] == [b"ab", b"ab"]
    assert get(cluster, third, b"k", STRONG) == b"ab" and not asked[2]


def test_a_value_that_is_too_long_is_a_failure() -> None:
    cluster, (first, _, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    first.get(b"k", QUORUM, Heard(), 0)
    cluster.run()
    asked[0][0][2](b"x" * (cluster.config.value_bytes_max + 1))
    assert "the limit is" in first.space.merge_failure
    assert held(cluster, first, b"k") == [[b"a", b"b"]] * 3


def test_there_is_a_bound_on_what_waits() -> None:
    cluster, (first, _, _), asked = scene()
    heard = Heard()
    for n in range(WAITING_MAX + 1):
        siblings(cluster, first, b"k%d" % n, b"a", b"b")
        first.get(b"k%d" % n, QUORUM, heard, n)
    cluster.run()
    assert len(asked[0]) == WAITING_MAX and list(heard.outcomes) == [WAITING_MAX]


def test_a_write_that_fails_shows_the_siblings() -> None:
    cluster, (first, _, _), asked = scene()
    siblings(cluster, first, b"k", b"a", b"b")
    heard = Heard()
    first.get(b"k", QUORUM, heard, 0)
    cluster.run()
    cluster.stores[0].overloaded = True
    asked[0][0][2](b"ab")
    cluster.run()
    assert value(heard, 0) == b"b"


def test_sets_are_not_merged() -> None:
    cluster, (first, _, _), asked = scene()
    heard = Heard()
    siblings(cluster, first, b"k", b"a")
    cluster.stores[0].records[first.space.row_key(b"k")]
    first.update(b"s", "set_add", (1000, b"m"), QUORUM, heard, 0)
    cluster.run()
    siblings(cluster, first, b"s", b"a")
    first.get(b"s", QUORUM, heard, 1)
    cluster.run()
    assert heard.outcomes[1][0] == "found" and not asked[0]


def test_the_default_bucket_can_have_a_function() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    asked = joining(node)
    settings = Settings(policy="merge:union")
    assert isinstance(changed(cluster, lambda before: buckets.change(before, "0", settings)), Document)
    siblings(cluster, node.view(node.space), b"k", b"a", b"b")
    heard = Heard()
    node.get(b"k", QUORUM, heard, 0)
    cluster.run()
    asked[0][2](b"ab")
    cluster.run()
    assert value(heard, 0) == b"ab"
    assert isinstance(
        changed(cluster, lambda before: buckets.change(before, "0", Settings(policy="siblings"))), Document
    )
    siblings(cluster, node.view(node.space), b"l", b"a", b"b")
    node.get(b"l", QUORUM, heard, 1)
    cluster.run()
    assert value(heard, 1) == b"b" and len(asked) == 1


def test_without_a_shell_there_are_no_functions() -> None:
    cluster = Cluster()
    create(cluster, "carts", Settings(policy="merge:union"))
    at = view(cluster.nodes[0], "carts")
    siblings(cluster, at, b"k", b"a", b"b")
    assert get(cluster, at, b"k") == b"b"
    assert at.space.merge_failure == "this node runs no merge functions"


@pytest.mark.parametrize("policy", ["merge", "merge:", "merge:a b", "merge:" + "x" * 65, "lww:x"])
def test_what_is_no_policy(policy: str) -> None:
    with pytest.raises(ChangeRefused, match="there is no policy"):
        buckets.create(document(Cluster().nodes[0]), "a", Settings(policy=policy))
    assert versions.siblings(b"", 0) == []
