"""RW.EXPLAIN's words: how copies compare, what a read may answer, and clocks as people read them."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from tests.server.fake import MEMBERS, Connection, FakeNode, formed_topology

from ringwise.core import versions
from ringwise.core.changes import AddMembers, RemoveMembers
from ringwise.core.dots import DotSource
from ringwise.core.explain import ANSWERED, DOWN, Copy, Explanation
from ringwise.core.map_changes import AddToField, AddToScore, RemoveFields, SetFields, SetScores
from ringwise.core.maps import HASH
from ringwise.core.versions import Write
from ringwise.server.clock import Names

A, B, C = (member.id for member in MEMBERS)
RED = DotSource(A, b"0000").put(b"", b"Red", 1 << 16)
BLUE = DotSource(B, b"0000").put(b"", b"Blue", 2 << 16)
BOTH = versions.merge(RED, BLUE)
PURPLE = DotSource(C, b"0000").write(BOTH, Write(value=b"Purple", context=versions.context_of(BOTH)), 3 << 16)
GONE = DotSource(A, b"1111").write(RED, Write(value=b"", tombstone=True), 4 << 16)


def explained(*copies: Copy) -> dict[str, Any]:
    node = FakeNode()
    node.explain = lambda key, done: done(Explanation(key, 7, list(copies), []))  # type: ignore[method-assign]
    connection = Connection(node)
    connection.run("HELLO", "3")
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(connection.run("RW.EXPLAIN", "paint"))
    reply = reader.gets()
    assert isinstance(reply, dict)
    return reply


@pytest.mark.parametrize(
    ("records", "compared", "clock", "reads"),
    [
        ((RED, BLUE, RED), ["conflicting"] * 3, "n0:1 n1:1", [["Red", "Blue"], ["Blue", "Red"], ["Blue"]]),
        ((PURPLE, BOTH, RED), ["current", "behind", "behind"], "n0:1 n1:1 n2:1",
         [["Purple", "Blue", "Red"], ["Purple", "Blue"], ["Purple"]]),
        ((RED, RED, b""), ["current", "current", "absent"], "n0:1", [["Red", None], ["Red"], ["Red"]]),
        ((GONE, RED, RED), ["current", "behind", "behind"], "n0.1:1 n0.2:1", [[None, "Red"], [None, "Red"], [None]]),
        ((b"", b"", b""), ["current"] * 3, "", [[None], [None], [None]]),
    ],
)  # fmt: skip
def test_copies_are_compared(
    records: tuple[bytes, ...], compared: list[str], clock: str, reads: list[list[str | None]]
) -> None:
    told = explained(*(Copy(node, ANSWERED, record) for node, record in zip((A, B, C), records, strict=True)))
    assert [owner["compared"] for owner in told["owners"]] == compared
    assert [owner["node"] for owner in told["owners"]] == ["n0", "n1", "n2"]
    assert (told["clock"], told["slot"], told["key"]) == (clock, 7, "paint")
    assert [told["reads"][level] for level in ("one", "quorum", "all")] == reads
    assert told["reads"]["strong"] == told["reads"]["quorum"]


def test_who_did_not_answer_holds_nothing_up_and_is_not_guessed_at() -> None:
    told = explained(Copy(A, ANSWERED, RED), Copy(B, DOWN, b""), Copy(C, DOWN, b""))
    assert [owner["state"] for owner in told["owners"]] == ["answered", "down", "down"]
    assert [owner["compared"] for owner in told["owners"]] == ["current", "", ""]
    assert told["reads"] == {"one": ["Red"], "quorum": [], "strong": [], "all": []}


def test_a_deleted_and_an_expired_version_are_shown_as_such() -> None:
    expired = DotSource(B, b"0000").write(b"", Write(value=b"old", expiry_ms=1), 5 << 16)
    told = explained(Copy(A, ANSWERED, GONE), Copy(B, ANSWERED, expired))
    assert [owner["versions"][0]["state"] for owner in told["owners"]] == ["deleted", "expired"]
    assert told["siblings"] == []


def test_clocks_name_nodes_gaps_and_those_who_left() -> None:
    first, second, gone = A + b"0000" + bytes(6), A + b"1111" + bytes(6), b"\xaa" * 6 + bytes(10)
    assert Names(formed_topology(), [first]).clock([(first, 3)], []) == "n0:3"
    names = Names(formed_topology(), [first, second, gone])
    assert names.clock([(first, 3), (gone, 1)], [(second, 4)]) == "aaaaaaaaaaaa:1 n0.1:3 n0.2:0+4"
    assert names.dot(second, 4) == "n0.2:4"


def test_a_set_is_explained_member_by_member() -> None:
    """A plain GET refuses it; what is read is shown as RW.GET shows it."""
    dots = DotSource(A, b"0000")
    both = AddMembers((b"x", b"y"), 1000).apply(dots, b"", 1 << 16, 0)
    one = RemoveMembers((b"x",)).apply(dots, both, 2 << 16, 0)
    told = explained(*(Copy(node, ANSWERED, record) for node, record in zip((A, B, C), (one, both, both), strict=True)))
    first, second = told["owners"][:2]
    assert [(each["state"], each["value"], each["type"]) for each in first["versions"]] == [
        ("removals", "", ""),
        ("member", "y", ""),
    ]
    assert sorted(each["value"] for each in second["versions"]) == ["x", "y"] and second["compared"] == "behind"
    assert told["reads"]["all"] == ['["y"]'] and sorted(told["reads"]["one"]) == ['["x","y"]', '["y"]']


def test_a_hash_is_explained_field_by_field() -> None:
    dots = DotSource(A, b"0000")
    state = SetFields(((b"n", b"5"), (b"x", b"y")), 1000).apply(dots, b"", 1 << 16, 0)
    added = AddToField(b"n", 2, 1000).apply(dots, state, 2 << 16, 0)
    removed = RemoveFields(HASH.entry, (b"n",)).apply(dots, added, 3 << 16, 0)
    told = explained(
        *(Copy(node, ANSWERED, record) for node, record in zip((A, B, C), (added, state, state), strict=True))
    )
    versions_of = [
        sorted((each["state"], each["value"], each["type"]) for each in owner["versions"]) for owner in told["owners"]
    ]
    assert versions_of[0] == [("field", "n = 5", ""), ("field", "x = y", ""), ("increment", "n: 2", "")]
    assert versions_of[1] == versions_of[0][:2]
    assert told["reads"]["all"] == ['{"n":"7","x":"y"}']
    told = explained(Copy(A, ANSWERED, removed))
    assert [(each["state"], each["value"]) for each in told["owners"][0]["versions"]] == [
        ("removed", "n"),
        ("field", "x = y"),
    ]


def test_a_sorted_set_is_explained_member_by_member() -> None:
    dots = DotSource(A, b"0000")
    state = SetScores(((b"m", 0.5),), 0, 1000).apply(dots, b"", 1 << 16, 0)
    state = AddToScore(b"m", 1.0, 0, 1000).apply(dots, state, 2 << 16, 0)
    told = explained(Copy(A, ANSWERED, state))
    assert [(each["state"], each["value"]) for each in told["owners"][0]["versions"]] == [
        ("increment", "m: 1.0"),
        ("field", "m = 0.5"),
    ]
    assert told["reads"]["one"] == ['[["m",1.5]]']
