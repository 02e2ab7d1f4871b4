"""Several buckets on the nodes of one cluster: apart for every path, flushed and dropped one by one (T2, T5)."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_node import error, value

from ringwise.core import buckets, topology, versions
from ringwise.core.agreement import Learn
from ringwise.core.buckets import Settings
from ringwise.core.errors import Failure, Flushed, NoSuchBucket, UnknownOutcome
from ringwise.core.keys import Bucket, key_of
from ringwise.core.levels import ALL, LEVELS, ONE, QUORUM, STRONG, Level
from ringwise.core.node import Node
from ringwise.core.record import decode
from ringwise.core.ring import slot_of
from ringwise.core.scan import Page
from ringwise.core.sets import MEMBER
from ringwise.core.topology import BucketRules, ChangeRefused, Document
from ringwise.core.versions import Write
from ringwise.core.view import View


def document(node: Node) -> Document:
    assert node.topology.document is not None
    return node.topology.document


def view(node: Node, label: str) -> View:
    selected = node.select(label)
    assert isinstance(selected, View)
    return selected


def changed(cluster: Cluster, change: object) -> Document | Failure:
    answers: list[Document | Failure] = []
    cluster.nodes[0].change_buckets(change, answers.append)  # type: ignore[arg-type]
    for _ in range(30):
        cluster.pass_time(50)
    (answer,) = answers
    return answer


def create(cluster: Cluster, name: str, settings: Settings = Settings()) -> None:  # noqa: B008
    assert isinstance(changed(cluster, lambda before: buckets.create(before, name, settings)), Document)


def flush(cluster: Cluster, at: Node | View) -> None:
    answers: list[Failure | None] = []
    at.flush(answers.append)
    for _ in range(30):
        if not answers:
            cluster.pass_time(50)
    assert answers == [None]


def put(cluster: Cluster, at: Node | View, key: bytes, text: bytes) -> None:
    heard = Heard()
    at.put(key, text, QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def get(cluster: Cluster, at: Node | View, key: bytes, level: Level = QUORUM) -> bytes | None:
    heard = Heard()
    at.get(key, level, heard, 0)
    cluster.run()
    return value(heard, 0)


def names(cluster: Cluster, at: Node | View) -> set[bytes]:
    pages: list[Page | Failure] = []
    at.scan(0, 1000, QUORUM, pages.append)
    cluster.run()
    (page,) = pages
    assert isinstance(page, Page) and not page.cursor
    return {key for key, _ in page.found}


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_same_key_in_several_buckets(count: int) -> None:
    cluster = Cluster(count)
    create(cluster, "sessions")
    for i, label in enumerate(("0", "1", "15", "sessions")):
        at = cluster.nodes[i % count].select(label)
        assert at is not None
        put(cluster, at, b"k", label.encode())
    for i, label in enumerate(("0", "1", "15", "sessions")):
        at = cluster.nodes[-1 - i % count].select(label)
        assert at is not None
        assert get(cluster, at, b"k", STRONG) == label.encode()
        assert names(cluster, at) == {b"k"}
    assert names(cluster, view(cluster.nodes[0], "7")) == set()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_flush_of_one_bucket_leaves_the_others(count: int) -> None:
    cluster = Cluster(count)
    first, last = cluster.nodes[0], cluster.nodes[-1]
    for n in range(20):
        put(cluster, first, b"k%d" % n, b"zero")
        put(cluster, view(last, "3"), b"k%d" % n, b"three")
    before = document(first).changed()
    flush(cluster, view(last, "3"))
    assert document(first).changed() == before, "owners change by moves only"
    assert names(cluster, first) == {b"k%d" % n for n in range(20)}
    assert names(cluster, view(first, "3")) == set()
    assert get(cluster, view(first, "3"), b"k1") is None
    put(cluster, view(first, "3"), b"k1", b"again")
    assert get(cluster, view(last, "3"), b"k1") == b"again"
    assert get(cluster, last, b"k1") == b"zero"


def test_flush_all_voids_every_bucket_in_one_document() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    create(cluster, "sessions")
    epoch = node.topology.epoch
    labels = ("0", "4", "sessions")
    for label in labels:
        at = node.select(label)
        assert at is not None
        put(cluster, at, b"k", b"v")
    answers: list[Failure | None] = []
    node.flush_all(answers.append)
    cluster.run()
    cluster.pass_time(100)
    assert answers == [None] and node.topology.epoch == epoch + 1
    for label in labels:
        at = cluster.nodes[1].select(label)
        assert at is not None
        assert get(cluster, at, b"k") is None


def test_writes_of_other_buckets_under_way_are_not_disturbed_by_a_flush() -> None:
    cluster, heard = Cluster(), Heard()
    node = cluster.nodes[0]
    three = view(node, "3")
    node.put(b"k", b"v", QUORUM, heard, 0)
    three.put(b"k", b"v", QUORUM, heard, 1)
    node.get(b"other", QUORUM, heard, 2)
    three.get(b"other", QUORUM, heard, 3)
    cluster.step(node)  # sent, and not answered yet
    assert not heard.outcomes
    node.receive(cluster.links[node.id, cluster.nodes[1].id], Learn(topology.flush(document(node), 3).encode()))
    assert isinstance(error(heard, 1), UnknownOutcome)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"
    assert [value(heard, index) for index in (2, 3)] == [None, None], "a read begins again"


def test_what_was_not_sent_yet_is_refused_and_the_rest_goes_on() -> None:
    cluster, heard = Cluster(), Heard()
    node = cluster.nodes[0]
    node.put(b"k", b"v", QUORUM, heard, 0)
    view(node, "3").put(b"k", b"v", QUORUM, heard, 1)
    node.receive(cluster.links[node.id, cluster.nodes[1].id], Learn(topology.flush(document(node), 3).encode()))
    assert isinstance(error(heard, 1), Flushed)
    cluster.run()
    assert heard.outcomes[0][0] == "stored"


def test_frames_are_of_one_incarnation() -> None:
    cluster, heard = Cluster(), Heard()
    node = cluster.nodes[0]
    for i in range(40):
        at = node.select(str(i % 4))
        assert at is not None
        at.put(b"k%d" % i, b"v", QUORUM, heard, i)
        at.get(b"g%d" % i, QUORUM, heard, 100 + i)
    opened = [*node._put._open.values()]
    assert {group.prefix for group in opened} == {space.prefix for space in node.spaces.all() if space.number < 4}
    for group in opened:
        assert {row[1][:6] for row in group.rows} == {group.prefix}
    for reads in node._get._open.values():
        assert len({rkey[:6] for rkey in reads.rkeys}) <= 1
    cluster.run()
    assert len(heard.outcomes) == 80


def test_a_node_that_has_not_heard_of_a_flush_is_refused_and_taught() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    put(cluster, view(first, "2"), b"k", b"old")
    learn = Learn(topology.flush(document(first), 2).encode())
    for node in (second, third):
        node.receive(cluster.links[node.id, first.id], learn)
    view(first, "2").put(b"k", b"late", QUORUM, heard, 0)
    first.put(b"k", b"v", QUORUM, heard, 1)
    for _ in range(40):
        cluster.pass_time(50)
    assert isinstance(error(heard, 0), UnknownOutcome) and heard.outcomes[1][0] == "stored"
    assert get(cluster, view(third, "2"), b"k", STRONG) is None


def test_a_dropped_bucket_is_gone_for_those_who_have_selected_it() -> None:
    cluster = Cluster(5)
    create(cluster, "a")
    views = [view(node, "a") for node in cluster.nodes]
    put(cluster, views[0], b"k", b"v")
    assert isinstance(changed(cluster, lambda before: buckets.drop(before, "a")), Document)
    create(cluster, "b")
    for at in views:
        heard = Heard()
        at.get(b"k", QUORUM, heard, 0)
        at.put(b"k", b"w", QUORUM, heard, 1)
        at.update(b"k", "append", (b"x", 100), QUORUM, heard, 2)
        pages: list[Page | Failure] = []
        at.scan(0, 10, QUORUM, pages.append)
        cluster.run()
        assert all(isinstance(error(heard, i), NoSuchBucket) for i in range(3))
        assert isinstance(pages[0], NoSuchBucket)
    assert get(cluster, view(cluster.nodes[0], "b"), b"k") is None


def test_updates_and_forwards_stay_in_their_bucket() -> None:
    cluster, heard = Cluster(5), Heard()
    create(cluster, "counts")
    for i, node in enumerate(cluster.nodes):
        view(node, "counts").update(b"n", "increment", (b"1", 0), QUORUM, heard, i)
        cluster.run()
        node.update(b"n", "increment", (b"10", 0), QUORUM, heard, 100 + i)
        cluster.run()
    assert get(cluster, view(cluster.nodes[1], "counts"), b"n") == b"5"
    assert get(cluster, cluster.nodes[1], b"n") == b"50"
    for at in (cluster.nodes[0], view(cluster.nodes[0], "counts")):
        at.write(b"n", Write(value=b"", tombstone=True), QUORUM, heard, 200 + (at is cluster.nodes[0]))
        cluster.run()
        assert get(cluster, at, b"n") is None


def test_repair_brings_rows_of_all_buckets() -> None:
    cluster = Cluster()
    first = cluster.nodes[0]
    for label in ("0", "5"):
        for n in range(10):
            at = first.select(label)
            assert at is not None
            put(cluster, at, b"k%d" % n, label.encode())
    store = cluster.stores[1]
    lost = [rkey for rkey in store.records if key_of(rkey) in (b"k3", b"k4") and rkey[:2] != b"\xff\xff"]
    assert len(lost) == 4
    for rkey in lost:
        store.tree.apply(slot_of(key_of(rkey)), rkey, store.records.pop(rkey)[:8], b"")
    first.repair.begin()
    for _ in range(60):
        cluster.pass_time(100)
    assert all(store.records.get(rkey) == cluster.stores[0].records[rkey] for rkey in lost)


def test_hints_of_a_flushed_bucket_are_void_and_the_others_arrive() -> None:
    cluster = Cluster()
    first, second, third = cluster.nodes
    cluster.cut(first, third)
    cluster.cut(second, third)
    for n in range(5):
        put(cluster, first, b"a%d" % n, b"v")
        put(cluster, view(first, "1"), b"b%d" % n, b"v")
    assert first.hints.waiting == 10
    flush(cluster, view(first, "1"))
    assert first.hints.waiting == 5
    for other in (first, second):
        cluster.connect(other, third)
        cluster.connect(third, other)
    for _ in range(100):
        cluster.pass_time(50)
    assert first.hints.waiting == 0
    held = {key_of(rkey) for rkey in cluster.stores[2].records if rkey[:2] != b"\xff\xff"}
    assert held == {b"a%d" % n for n in range(5)}


def test_a_bucket_s_time_to_live_is_of_writes_that_say_none() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    create(cluster, "short", Settings(ttl_s=10))
    at = view(node, "short")
    heard = Heard()
    at.put(b"plain", b"v", QUORUM, heard, 0)
    at.write(b"said", Write(value=b"v", expiry_ms=node.wall_ms + 60_000), QUORUM, heard, 1)
    node.put(b"plain", b"v", QUORUM, heard, 2)
    cluster.run()
    records = cluster.stores[1].records
    kept_ms = [
        decode(records[each.row_key(key)]).siblings[0].expiry_ms
        for each, key in ((at.space, b"plain"), (at.space, b"said"), (node.space, b"plain"))
    ]
    assert kept_ms == [node.wall_ms + 10_000, node.wall_ms + 60_000, 0]


def test_the_default_bucket_can_have_a_time_to_live() -> None:
    cluster = Cluster()
    node = cluster.nodes[0]
    assert isinstance(changed(cluster, lambda before: buckets.change(before, "0", Settings(ttl_s=10))), Document)
    put(cluster, node, b"k", b"v")
    (sibling,) = decode(cluster.stores[0].records[node.space.row_key(b"k")]).siblings
    assert sibling.expiry_ms == node.wall_ms + 10_000
    assert isinstance(changed(cluster, lambda before: buckets.change(before, "0", Settings(ttl_s=0))), Document)
    put(cluster, node, b"k", b"v")
    (sibling,) = decode(cluster.stores[0].records[node.space.row_key(b"k")]).siblings
    assert not sibling.expiry_ms


def test_a_document_without_other_buckets_is_what_an_older_version_reads() -> None:
    before = document(Cluster().nodes[0])
    assert topology.flush(before, 0).format == before.format
    assert topology.flush(before, 1).format == topology.FORMAT
    assert Document.decode(topology.flush(before, 1).encode()).bucket(1).incarnation == 2


def test_a_bucket_that_was_dropped_cannot_be_flushed() -> None:
    before = document(Cluster().nodes[0])
    created = buckets.create(before, "a", Settings())
    assert created is not None
    with pytest.raises(ChangeRefused, match="dropped meanwhile"):
        topology.flush(buckets.drop(created, "a"), 16)


def test_numbers_end() -> None:
    before = msgspec.structs.replace(document(Cluster().nodes[0]), named=buckets.NUMBER_LAST - 16)
    last = buckets.create(before, "a", Settings())
    assert last is not None and last.bucket(buckets.NUMBER_LAST).number == buckets.NUMBER_LAST
    with pytest.raises(ChangeRefused, match="were created so far"):
        buckets.create(last, "b", Settings())


@pytest.mark.parametrize(
    ("r", "w", "reads", "writes", "sloppy"),
    [
        ("one", "quorum", 1, 2, True),
        ("one", "all", 1, 3, False),
        ("2", "quorum", 2, 2, False),
        ("quorum", "1", 2, 1, False),
        ("quorum", "quorum", 2, 2, True),
        ("1", "3", 1, 3, False),
        ("", "one", 2, 1, True),
    ],
)
def test_levels_of_a_bucket(r: str, w: str, reads: int, writes: int, sloppy: bool) -> None:
    level = Level.of(r.encode() or b"quorum", w.encode() or b"quorum")
    assert (level.needed_reads(3), level.needed_writes(3), level.sloppy) == (reads, writes, sloppy)
    assert Level.parse(level.name.encode()) == level, "forwarded by its name"


def test_level_names_are_told_apart() -> None:
    words = [name.decode() for name in LEVELS] + ["1", "2", "3"]
    levels = {(r, w): Level.of(r.encode(), w.encode()) for r in words for w in words}
    for level in levels.values():
        again = Level.parse(level.name.encode())
        assert (again.r, again.w, again.repair, again.sloppy) == (level.r, level.w, level.repair, level.sloppy)
    assert levels["all", "one"].repair and levels["all", "one"].r == ALL
    assert levels["one", "one"] == ONE
    assert BucketRules().r == ""


def test_where_the_last_write_wins_a_context_covers_what_it_has_not_seen() -> None:
    cluster, heard = Cluster(), Heard()
    create(cluster, "last", Settings(policy="lww"))
    node = cluster.nodes[0]
    at = view(node, "last")
    put(cluster, at, b"k", b"one")
    record = cluster.stores[0].records[at.space.row_key(b"k")]
    seen = versions.context_of(record)
    put(cluster, at, b"k", b"two")
    at.write(b"k", Write(value=b"three", context=seen), QUORUM, heard, 0)
    node.write(b"k", Write(value=b"a", context=seen), QUORUM, heard, 1)
    node.write(b"k", Write(value=b"b", context=seen), QUORUM, heard, 2)
    cluster.run()
    left = [sibling.value for sibling in decode(cluster.stores[1].records[at.space.row_key(b"k")]).siblings]
    assert left == [b"three"]
    record = cluster.stores[1].records[node.space.row_key(b"k")]
    assert len(decode(record).siblings) == 2, "elsewhere they are siblings"
    assert [sibling.value for sibling in node.space.shown(record, node.wall_ms)] == [b"b", b"a"]
    assert [sibling.value for sibling in at.space.shown(record, node.wall_ms)] == [b"b"]


def test_where_the_last_write_wins_a_deletion_hides_what_is_older() -> None:
    cluster = Cluster()
    create(cluster, "last", Settings(policy="lww"))
    first, second = view(cluster.nodes[0], "last"), view(cluster.nodes[1], "last")
    cluster.cut(cluster.nodes[0], cluster.nodes[1])
    cluster.cut(cluster.nodes[0], cluster.nodes[2])
    heard = Heard()
    first.put(b"k", b"older", ONE, heard, 0)
    cluster.run()
    cluster.wall_ms += 1000
    for node in cluster.nodes:
        node.begin(cluster.wall_ms, cluster.now_ms)
    second.write(b"k", Write(value=b"", tombstone=True), ONE, heard, 1)
    cluster.run()
    rkey = first.space.row_key(b"k")
    merged = versions.merge(cluster.stores[0].records[rkey], cluster.stores[1].records[rkey])
    assert len(decode(merged).siblings) == 2
    assert first.space.shown(merged, cluster.wall_ms) == []
    assert len(versions.siblings(merged, cluster.wall_ms)) == 1


def ttl_ms(cluster: Cluster, at: View, key: bytes) -> int:
    """What is left to a key, 0: for ever."""
    heard = Heard()
    at.get(key, STRONG, heard, 0)
    cluster.run()
    _, found = heard.outcomes[0]
    assert isinstance(found, bytes)
    shown = versions.live(found, cluster.wall_ms)
    assert shown is not None
    return shown.expiry_ms - cluster.wall_ms if shown.expiry_ms else 0


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("append", (b"x", 100)),
        ("increment", (b"1", 0)),
        ("set_add", (1000, b"member")),
        ("set", (b"v", 0, 0, 1)),
        ("set", (b"v", 0, 1, 0)),
        ("set_store", (1000, b"member")),
    ],
)
def test_what_an_update_brings_about_lives_as_long(
    operation: str, arguments: tuple[bytes | int, ...], count: int
) -> None:
    cluster = Cluster(count)
    create(cluster, "short", Settings(ttl_s=10))
    at = view(cluster.nodes[-1], "short")
    heard = Heard()
    at.update(b"k", operation, arguments, QUORUM, heard, 0)
    cluster.run()
    assert heard.outcomes[0][0] == "updated"
    assert ttl_ms(cluster, at, b"k") == 10_000
    at.update(b"k", "expire", (0, 0), QUORUM, heard, 1)  # PERSIST
    cluster.run()
    assert ttl_ms(cluster, at, b"k") == 0
    at.update(b"k", operation, arguments, QUORUM, heard, 2)
    cluster.run()
    replaces = operation == "set" and not arguments[2]
    assert heard.outcomes[2][0] == "updated"
    assert ttl_ms(cluster, at, b"k") == (10_000 if replaces else 0), (
        "it keeps what it was given, unless it is a new value"
    )


@pytest.mark.parametrize("content_type", [b"", MEMBER.encode()])
def test_a_copy_brings_its_expiry_along(content_type: bytes) -> None:
    cluster = Cluster()
    create(cluster, "short", Settings(ttl_s=10))
    at, heard = view(cluster.nodes[0], "short"), Heard()
    for number, expiry_ms in ((0, cluster.wall_ms + 60_000), (1, 0)):
        at.update(b"%d" % number, "place", (1, 1000, expiry_ms, 0, content_type, b"v"), QUORUM, heard, number)
    cluster.run()
    assert (ttl_ms(cluster, at, b"0"), ttl_ms(cluster, at, b"1")) == (60_000, 10_000)


def test_what_is_void_is_never_where_something_may_come() -> None:
    cluster = Cluster(1)
    node = cluster.nodes[0]
    assert node.spaces.void() == []
    for name in ("a", "b", "c"):
        create(cluster, name)
    assert node.spaces.void() == [], "nothing was ever flushed or dropped"
    flush(cluster, view(node, "3"))
    assert isinstance(changed(cluster, lambda before: buckets.drop(before, "b")), Document)
    assert isinstance(changed(cluster, lambda before: buckets.drop(before, "c")), Document)
    flushed = Bucket(3, 0).prefix, Bucket(3, 2).prefix
    dropped = Bucket(17, 0).prefix, Bucket(19, 0).prefix
    assert node.spaces.void() == [flushed, dropped]
    for low, high in node.spaces.void():
        assert not any(low <= prefix < high for prefix in node.spaces.live)
    create(cluster, "d")
    assert view(node, "d").space.prefix >= dropped[1]
