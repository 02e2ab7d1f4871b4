"""Buckets as clients see them: SELECT, RW.BUCKET, FLUSHDB and FLUSHALL, and what a bucket's rules say of who says nothing."""

from __future__ import annotations

import pytest
from tests.server.fake import FakeNode, request
from tests.server.test_commands import Client

from ringwise.core.buckets import NAMED_MAX


@pytest.fixture
def client() -> Client:
    return Client(FakeNode())


def test_numbered_buckets_are_there_and_apart(client: Client) -> None:
    client("SET k zero")
    assert client("SELECT 3") == b"OK"
    assert client("GET k") is None
    client("SET k three")
    assert (client("GET k"), client("DBSIZE")) == (b"three", 1)
    assert client("SELECT 0") == b"OK"
    assert client("GET k") == b"zero"
    assert b"db=0 " in client("CLIENT INFO")


def test_what_follows_select_in_one_pipeline_is_of_the_new_bucket(client: Client) -> None:
    line = request("SELECT", "7") + request("SET", "k", "v") + request("SELECT", "0") + request("GET", "k")
    output = client.connection.send(line)
    assert output.startswith(b"+OK\r\n+OK\r\n+OK\r\n")
    assert client("GET k") is None
    client("SELECT 7")
    assert client("GET k") == b"v"
    assert b"db=7 " in client("CLIENT INFO")


@pytest.mark.parametrize("name", ["16", "-1", "01", "", "Sessions", "a b"])
def test_what_is_no_bucket(client: Client, name: str) -> None:
    assert client("SELECT", name).startswith("ERR ")


def test_a_name_that_was_not_created(client: Client) -> None:
    assert client("SELECT", "sessions") == (
        "NOBUCKET there is no bucket sessions; create it with: ringwise bucket create sessions"
    )


def test_a_bucket_is_created_used_changed_and_dropped(client: Client) -> None:
    rules = client("RW.BUCKET", "CREATE", "sessions", "R", "one", "W", "2", "TTL", "60")
    assert rules == {
        b"bucket": b"sessions",
        b"number": 16,
        b"n": 3,
        b"r": b"one",
        b"w": b"2",
        b"policy": b"siblings",
        b"ttl": 60,
        b"engine": b"lsm",
        b"flushes": 0,
    }
    assert client("SELECT sessions") == b"OK"
    client("SET k v")
    assert client("RW.BUCKET", "SET", "sessions", "TTL", "0", "R", "default", "W", "default")[b"ttl"] == 0
    assert client("RW.BUCKET SHOW sessions")[b"r"] == b"default"
    assert [each[b"bucket"] for each in client("RW.BUCKET LIST")][-2:] == [b"15", b"sessions"]
    assert client("RW.BUCKET DROP sessions") == b"OK"
    assert client("RW.BUCKET SHOW sessions").startswith("NOBUCKET")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("CREATE", "9lives"), "begins with a letter"),
        (("CREATE", "a", "N", "2"), "N is 3 for every bucket"),
        (("CREATE", "a", "W", "4"), "W = 4 owners of each key can never be had: there are N = 3"),
        (("CREATE", "a", "R", "most"), "R and W are one, quorum, all, strong, or a number"),
        (("CREATE", "a", "POLICY", "oldest"), "there is no policy 'oldest'"),
        (("CREATE", "a", "ENGINE", "btree"), "there is no engine 'btree'"),
        (("CREATE", "a", "TTL", "-1"), "a time to live is 0"),
        (("SET", "nowhere", "TTL", "1"), "there is no bucket 'nowhere'"),
        (("DROP", "3"), "bucket 3 is always there"),
        (("DROP",), "syntax error"),
        (("CREATE", "a", "TTL"), "syntax error"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(client: Client, words: tuple[str, ...], reason: str) -> None:
    answer = client("RW.BUCKET", *words)
    assert answer.startswith("ERR ") and reason in answer


def test_a_number_is_never_used_again(client: Client) -> None:
    first = client("RW.BUCKET CREATE a")
    client("RW.BUCKET DROP a")
    assert client("RW.BUCKET CREATE a")[b"number"] == first[b"number"] + 1


def test_to_create_it_once_more_with_the_same_rules_changes_nothing(client: Client) -> None:
    first = client("RW.BUCKET CREATE a TTL 5")
    assert client("RW.BUCKET CREATE a TTL 5") == first
    assert "with other rules" in client("RW.BUCKET CREATE a TTL 6")


def test_there_is_a_bound(client: Client) -> None:
    for number in range(NAMED_MAX):
        assert client("RW.BUCKET", "CREATE", f"b{number}")[b"number"] == 16 + number
    assert "there are 1,000 buckets" in client("RW.BUCKET CREATE one-more")


def test_flushdb_is_of_one_bucket_and_flushall_of_all(client: Client) -> None:
    for number in (0, 1, 2):
        client(f"SELECT {number}")
        client("SET k v")
    assert client("FLUSHDB") == b"OK"
    assert client("DBSIZE") == 0
    client("SELECT 1")
    assert client("DBSIZE") == 1
    assert client("FLUSHALL") == b"OK"
    for number in (0, 1, 2):
        client(f"SELECT {number}")
        assert client("DBSIZE") == 0


def test_levels_request_over_connection_over_bucket_over_default(client: Client) -> None:
    node = client.node
    client("RW.BUCKET SET 4 R all W one")
    client("SELECT 4")
    client("GET k")
    assert node.log[-1][2] == "r=all,w=one"
    client("RW.CONSISTENCY strong")
    client("GET k")
    assert node.log[-1][2] == "strong"
    client("RW.AT one GET k")
    assert node.log[-1][2] == "one"
    client("RESET")
    client("GET k")
    assert node.log[-1][2] == "quorum"


def test_a_change_of_rules_holds_for_connections_that_are_there(client: Client) -> None:
    client("SELECT 4")
    client("RW.BUCKET SET 4 R all W all")
    client("GET k")
    assert client.node.log[-1][2] == "all"


def test_wait_after_another_bucket_was_selected_says_what_replies_said(client: Client) -> None:
    client("SET k v")
    client("SELECT 5")
    client("SET l v")
    assert client("WAIT 2 0") == 1, "W - 1: the write to bucket 0 is not read again"


def test_where_the_last_write_wins_nobody_is_shown_siblings(client: Client) -> None:
    client("SELECT 2")
    nothing = client("RW.GET k")[b"context"]
    for value in ("a", "b"):
        client("RW.PUT", "k", value, "CONTEXT", nothing)
    shown = client("RW.GET k")
    assert [each[b"value"] for each in shown[b"siblings"]] == [b"b", b"a"]
    client("RW.BUCKET SET 2 POLICY lww")
    assert [each[b"value"] for each in client("RW.GET k")[b"siblings"]] == [b"b"]
    assert client("RW.PUT", "k", "c", "CONTEXT", shown[b"context"])[b"siblings"] == 1
    assert client("GET k") == b"c"


def test_a_merge_function_that_is_not_there_is_refused_with_the_reason(client: Client) -> None:
    answer = client("RW.BUCKET CREATE carts POLICY merge:union")
    assert answer.startswith("ERR this node has no merge function union: install a package with an entry point")
    assert answer.endswith("there are: longest")
    assert client("RW.BUCKET CREATE carts POLICY merge:longest")[b"policy"] == b"merge:longest"


def test_siblings_that_a_function_should_have_merged_say_why_they_stand(client: Client) -> None:
    client("RW.BUCKET CREATE carts POLICY merge:longest")
    client("SELECT carts")
    nothing = client("RW.GET k")[b"context"]
    for value in ("a", "b"):
        client("RW.PUT", "k", value, "CONTEXT", nothing)
    client.connection.session.node.space.merge_failure = "it raised KeyError"
    shown = client("RW.GET k")
    assert len(shown[b"siblings"]) == 2 and shown[b"merge"] == b"failed: it raised KeyError"
    client("SET k one")
    assert b"merge" not in client("RW.GET k")


def test_select_in_a_batch_holds_from_there_on(client: Client) -> None:
    for line in ("MULTI", "SET k zero", "SELECT 6", "SET k six", "GET k"):
        client(line)
    assert client("EXEC") == [b"OK", b"OK", b"OK", b"six"]
    assert client("GET k") == b"six"
    client("RESET")
    assert client("GET k") == b"zero"


def test_a_context_is_of_the_key_in_one_bucket(client: Client) -> None:
    client("SET k v")
    context = client("RW.GET k")[b"context"]
    client("SELECT 2")
    client("SET k v")
    assert client("RW.PUT", "k", "w", "CONTEXT", context).startswith("BADCONTEXT")
    assert client("RW.DEL", "k", "CONTEXT", context).startswith("BADCONTEXT")
    assert client("RW.PUT", "k", "w", "CONTEXT", client("RW.GET k")[b"context"])[b"siblings"] == 1
