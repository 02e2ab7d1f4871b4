"""Changes of one turn to one key are one write for its owners, and each writer is answered with what it made itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cluster import Cluster, Heard
from tests.core.forms import both_forms as both_forms

from ringwise.core import messages, put, update, versions
from ringwise.core.changes import Change
from ringwise.core.keys import key_of
from ringwise.core.levels import EVERY, QUORUM, Level
from ringwise.core.maps import score_bytes
from ringwise.core.messages import NodeId
from ringwise.core.put import PutPath
from ringwise.core.writegroup import WriteGroup

LIMIT = 1 << 20
Asked = tuple[bytes, str, tuple[bytes | int, ...]]


def asked(what: str, key: bytes, number: int) -> Asked:
    member = b"%d" % (number % 3)
    every: dict[str, Asked] = {
        "incr": (b"n" + key, "increment", (b"1", 0)),
        "sadd": (b"s" + key, "set_add", (LIMIT, member)),
        "srem": (b"s" + key, "set_remove", (member,)),
        "hset": (b"h" + key, "hash_set", (LIMIT, member, b"%d" % number)),
        "hincr": (b"h" + key, "hash_increment", (LIMIT, member, b"2", 0)),
        "hdel": (b"h" + key, "hash_remove", (member,)),
        "zadd": (b"z" + key, "score_set", (LIMIT, 0, member, score_bytes(number))),
        "append": (b"a" + key, "append", (b"x", LIMIT)),
        "del": (b"s" + key, "delete", ()),
        "expire": (b"h" + key, "expire", (1 << 50, 0)),
    }
    return every[what]


WHAT = ["incr", "sadd", "srem", "hset", "hincr", "hdel", "zadd", "append", "del", "expire"]
TURNS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(WHAT), st.sampled_from([b"1", b"2"]), st.integers(0, 9)), min_size=1, max_size=12
    ),
    min_size=1,
    max_size=4,
)


def played(turns: Sequence[Sequence[tuple[str, bytes, int]]], together: bool = True) -> tuple[Cluster, Heard, int]:
    """All turns, and how many rows the owners were sent. Not together: as without coalescing."""
    cluster, heard = Cluster(), Heard()
    index = 0
    with pytest.MonkeyPatch.context() as patch:
        if not together:
            patch.setattr(put, "coalesced", lambda written, _size_max: written)
        for turn in turns:
            for each in turn:
                key, operation, arguments = asked(*each)
                cluster.nodes[0].update(key, operation, arguments, QUORUM, heard, index)
                index += 1
            cluster.run()
    sent = sum(len(messages.decode_chunk(chunk).rkeys) for chunk in cluster.stores[0].log)
    return cluster, heard, sent


def shown(cluster: Cluster, number: int) -> dict[bytes, object]:
    """What one node holds: members, fields, scores, values."""
    return {key_of(rkey): in_record(record, cluster.wall_ms) for rkey, record in cluster.stores[number].records.items()}


def in_record(record: bytes, now: int) -> object:
    """The members, fields, scores or value that it shows."""
    if members := versions.members(record, now):
        return sorted(members)
    if found := versions.fields(record, now) or versions.scores(record, now):
        return dict(found)
    present = versions.live(record, now)
    return versions.value_of(record, now) if present is not None and versions.is_plain(present) else None


def checksums(cluster: Cluster, number: int) -> dict[bytes, bytes]:
    return {key: record[:8] for key, record in cluster.stores[number].records.items()}


def replies(heard: Heard) -> list[tuple[str, str]]:
    return [(outcome[0], type(outcome[1]).__name__) for _, outcome in sorted(heard.outcomes.items())]


@settings(max_examples=200, deadline=None)
@given(TURNS)
def test_together_or_row_by_row_the_owners_hold_the_same(turns: list[list[tuple[str, bytes, int]]]) -> None:
    cluster, heard, sent = played(turns)
    alone, heard_alone, sent_alone = played(turns, False)
    assert sent <= sent_alone
    assert heard.outcomes == heard_alone.outcomes
    for number in range(3):
        assert shown(cluster, number) == shown(alone, number)
        assert checksums(cluster, number) == checksums(alone, 0)


@pytest.mark.parametrize("what", ["incr", "sadd", "hset", "hincr", "zadd", "append"])
def test_fifty_writers_of_one_key_are_one_row(what: str) -> None:
    _, heard, sent = played([[(what, b"1", 0)], [(what, b"1", number) for number in range(50)]])
    assert [outcome for outcome, _ in replies(heard)] == ["updated"] * 51
    assert sent == 2, "the first one, and the fifty"


@settings(max_examples=200, deadline=None)
@given(TURNS)
def test_as_one_change_or_one_after_another_the_same_is_shown(turns: list[list[tuple[str, bytes, int]]]) -> None:
    cluster, heard, _ = played(turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "JOINT_BYTES_MAX", -1)
        alone, heard_alone, _ = played(turns)
    assert replies(heard) == replies(heard_alone)
    assert before(heard, cluster) == before(heard_alone, alone)
    for number in range(3):
        assert shown(cluster, number) == shown(alone, number)


def before(heard: Heard, cluster: Cluster) -> list[object]:
    """What each update was told that it has read: by it the count is answered of what is new."""
    told = [outcome[1][0] for _, outcome in sorted(heard.outcomes.items()) if isinstance(outcome[1], tuple)]
    return [in_record(record, cluster.wall_ms) for record in told]


@pytest.mark.parametrize("what", ["sadd", "hset", "zadd"])
def test_members_that_fifty_writers_add_are_one_change(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[Change] = []
    plain = PutPath.change

    def change(self: PutPath, key: bytes, before: bytes, change: Change, *rest: Any) -> None:
        changes.append(change)
        plain(self, key, before, change, *rest)

    monkeypatch.setattr(PutPath, "change", change)
    played([[(what, b"1", number) for number in range(50)]])
    assert len(changes) == 1


def test_what_is_too_large_for_all_is_not_for_each() -> None:
    cluster, heard = Cluster(), Heard()
    for index, size in enumerate((10, 300, 20)):
        cluster.nodes[0].update(b"s", "set_add", (250, bytes([index]) * size), QUORUM, heard, index)
    cluster.run()
    assert replies(heard) == [("updated", "tuple"), ("failed", "CollectionTooLarge"), ("updated", "tuple")]
    for number in range(3):
        assert shown(cluster, number) == {b"s": [b"\0" * 10, b"\2" * 20]}


def test_each_writer_is_answered_with_what_it_made() -> None:
    cluster, heard, _ = played([[("incr", b"1", 0)] * 20])
    after = [heard.outcomes[index][1] for index in range(20)]
    assert [versions.value_of(pair[1], cluster.wall_ms) for pair in after if isinstance(pair, tuple)] == [
        b"%d" % (number + 1) for number in range(20)
    ]


def test_what_was_found_as_it_was_to_be_is_brought_to_all_owners() -> None:
    """A removal that comes too late is acknowledged for what removed before it, which not all owners may have."""
    cluster, heard = Cluster(), Heard()
    a, b, c = cluster.nodes
    a.update(b"s", "set_add", (LIMIT, *(b"m%05d" % number for number in range(400))), EVERY, heard, 0)
    cluster.run()
    a.update(b"s", "set_add", (LIMIT, b"x"), EVERY, heard, 1)
    a.update(b"s", "set_remove", (b"m00000",), EVERY, heard, 2)
    cluster.step(a)
    cluster.deliver()
    for node in (b, c):
        cluster.step(node)
    answers = {}
    for owner in (b, c):
        back = cluster.back[a.id, owner.id]
        answers[owner.id], back.wire = back.wire, []
    b.update(b"s", "set_remove", (b"m00000",), Level.parse(b"one"), heard, 3)
    cluster.step(b)
    cluster.step(b)
    cluster.links[b.id, c.id].wire.clear()  # c does not hear of it
    cluster.links[b.id, c.id].outbox.clear()
    cluster.deliver()
    for owner in (b, c):
        cluster.back[a.id, owner.id].wire[:0] = answers[owner.id]
    cluster.run()
    assert [outcome for outcome, _ in replies(heard)] == ["updated"] * 4
    for store in cluster.stores:
        (record,) = store.records.values()
        assert b"m00000" not in (versions.members(record, cluster.wall_ms) or ())


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the chunks that are sent."""
    sizes: list[int] = []
    frame = PutPath._frame

    def measured(path: PutPath, group: WriteGroup, peer: NodeId) -> bytes:
        sizes.append(len(group.chunk))
        return frame(path, group, peer)

    monkeypatch.setattr(PutPath, "_frame", measured)
    return sizes


def bears(cluster: Cluster, chunks: list[int]) -> bool:
    """B3: a frame is not outgrown; but a record that is sent as a whole may be larger."""
    largest = max(len(record) for record in cluster.stores[0].records.values())
    return max(chunks) <= max(cluster.nodes[0].config.frame_bytes_max, largest) + 1000


def test_what_does_not_fit_into_one_frame_is_not_made_one_row(chunks: list[int]) -> None:
    cluster, heard = Cluster(), Heard()
    big = cluster.nodes[0].config.frame_bytes_max // 5
    for index in range(12):
        member = b"%d" % index + bytes(big)
        cluster.nodes[0].update(b"s", "set_add", (1 << 30, member), QUORUM, heard, index)
    cluster.run()
    assert [outcome for outcome, _ in replies(heard)] == ["updated"] * 12
    assert checksums(cluster, 0) == checksums(cluster, 1) == checksums(cluster, 2)
    assert bears(cluster, chunks)


def test_one_change_takes_in_no_more_than_a_frame_bears(chunks: list[int]) -> None:
    cluster, heard = Cluster(), Heard()
    cluster.nodes[0].update(b"s", "set_add", (1 << 30, *(b"%05d" % number for number in range(500))), QUORUM, heard, 0)
    cluster.run()
    for index in range(128):
        members = [b"%02x%03d" % (index, number) for number in range(100)]
        cluster.nodes[0].update(b"s", "set_add", (1 << 30, *members), QUORUM, heard, 1 + index)
    cluster.run()
    assert [outcome for outcome, _ in replies(heard)] == ["updated"] * 129
    assert bears(cluster, chunks)
