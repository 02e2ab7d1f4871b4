"""SCAN, KEYS, RANDOMKEY, DBSIZE, as a client sees them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from tests.server.fake import FakeNode, request
from tests.server.test_commands import Client
from tests.server.test_differential import RealRedis
from tests.server.test_differential import redis as redis

from ringwise.core.errors import QuorumNotReached
from ringwise.core.ring import slot_of
from ringwise.server.glob import PATTERN_BYTES_MAX

KEYS = [b"user:%d" % n for n in range(40)] + [b"cart:%d" % n for n in range(20)]


@pytest.fixture
def client() -> Client:
    client = Client()
    for key in KEYS:
        client("SET", key, "v")
    client("DEL user:7 user:8")
    return client


ALIVE = sorted(key for key in KEYS if key not in (b"user:7", b"user:8"))


def scan_all(client: Client, *options: str) -> list[bytes]:
    keys: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, page = client("SCAN", cursor, *options)
        keys += page
        if cursor == b"0":
            return keys


class TestScan:
    def test_pages_make_up_the_whole(self, client: Client) -> None:
        cursor, page = client("SCAN 0")
        assert len(page) <= 10 and int(cursor) > 0
        assert sorted(scan_all(client)) == sorted(scan_all(client, "COUNT", "7")) == ALIVE

    def test_match_and_type_choose(self, client: Client) -> None:
        assert sorted(scan_all(client, "MATCH", "user:1?")) == [b"user:1%d" % n for n in range(10)]
        assert sorted(scan_all(client, "type", "String", "match", "*", "count", "100")) == ALIVE
        assert scan_all(client, "TYPE", "hash") == []

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("SCAN x", "ERR invalid cursor"),
            ("SCAN -1", "ERR invalid cursor"),
            ("SCAN 18446744073709551616", "ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "ERR syntax error"),
            ("SCAN 0 COUNT", "ERR syntax error"),
            ("SCAN 0 COUNT x", "ERR value is not an integer or out of range"),
            ("SCAN 0 LIMIT 5", "ERR syntax error"),
            ("SCAN", "ERR wrong number of arguments for 'scan' command"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, client: Client, line: str, error: str) -> None:
        assert client(line) == error

    def test_a_cursor_behind_everything_is_the_end(self, client: Client) -> None:
        assert client("SCAN 18446744073709551615") == [b"0", []]

    def test_the_level_of_the_connection_holds(self, client: Client) -> None:
        client("RW.AT one SCAN 0")
        assert client.node.log[-1] == ("scan", b"0", "one")

    def test_a_failure_is_told(self, client: Client) -> None:
        client.node.fail[b""] = QuorumNotReached(needed=2, acknowledged=1)
        for line in ("SCAN 0", "KEYS *", "DBSIZE", "RANDOMKEY"):
            assert client(line).startswith("NOQUORUM 1 of 2")
        assert client("PING") == b"PONG" or client("PING") == "PONG", "nothing waits for it any more"


class TestAllPages:
    def test_keys(self, client: Client) -> None:
        assert sorted(client("KEYS *")) == ALIVE
        assert sorted(client("KEYS cart:[0-2]")) == [b"cart:0", b"cart:1", b"cart:2"]
        assert client("KEYS nothing") == []

    def test_too_many_keys_are_refused_by_name(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.KEYS_MAX", 20)
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 7)
        assert client("KEYS *") == "ERR more than 20 keys match; use SCAN, which gives them in pages"
        assert len(client("KEYS cart:*")) == 20

    def test_a_pattern_has_a_limit(self, client: Client) -> None:
        assert client("KEYS", b"a" * PATTERN_BYTES_MAX) == []
        for words in (("KEYS",), ("SCAN", "0", "MATCH")):
            assert client(*words, b"a" * (PATTERN_BYTES_MAX + 1)) == "ERR the pattern has 4097 bytes, the limit is 4096"

    def test_dbsize_counts_what_is_alive(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 7)
        assert client("DBSIZE") == len(ALIVE)
        assert Client()("DBSIZE") == 0

    def test_randomkey_is_any(self, client: Client) -> None:
        drawn = Counter(client("RANDOMKEY") for _ in range(600))
        assert set(drawn) <= set(ALIVE) and len(drawn) > 40
        assert Client()("RANDOMKEY") is None
        lonely = Client()
        lonely("SET k v")
        assert [lonely("RANDOMKEY") for _ in range(5)] == [b"k"] * 5, "wherever it begins"

    def test_on_the_cluster_port_they_speak_for_this_nodes_share(self, client: Client) -> None:
        client.connection.session.first_only = True
        mine = [key for key in ALIVE if slot_of(key) % 3 == 0]
        assert sorted(scan_all(client)) == sorted(client("KEYS *")) == mine
        assert client("DBSIZE") == len(mine)
        assert client("RANDOMKEY") in mine


class TestOrder:
    def test_what_was_sent_before_is_done_and_what_comes_after_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 1)
        for command in ("DBSIZE", "KEYS *"):
            client = Client(FakeNode(delay=True), protocol=2)
            pipeline = [f"SET {key} v" for key in "abc"] + [command, "SET d v", "DBSIZE"]
            output = client.connection.send(b"".join(request(*line.split()) for line in pipeline))
            output += client.connection.finish()
            seen = b":3\r\n" if command == "DBSIZE" else b"*3\r\n"
            assert output.startswith(b"+OK\r\n" * 3 + seen) and output.endswith(b"+OK\r\n:4\r\n")

    def test_in_a_batch_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 1)
        client = Client(FakeNode(delay=True), protocol=2)
        pipeline = ["MULTI", "SET a v", "SET b v", "DBSIZE", "SET c v", "GET c", "DBSIZE", "EXEC", "DBSIZE"]
        output = client.connection.send(b"".join(request(*line.split()) for line in pipeline))
        output += client.connection.finish()
        replies = b"*6\r\n+OK\r\n+OK\r\n:2\r\n+OK\r\n$1\r\nv\r\n:3\r\n" + b":3\r\n"
        assert output == b"+OK\r\n" + b"+QUEUED\r\n" * 6 + replies

    def test_a_level_for_one_command_changes_nothing_about_that(self) -> None:
        client = Client(FakeNode(delay=True), protocol=2)
        pipeline = ["SET a v", "RW.AT one DBSIZE", "SET b v"]
        output = client.connection.send(b"".join(request(*line.split()) for line in pipeline))
        assert output + client.connection.finish() == b"+OK\r\n:1\r\n+OK\r\n"

    def test_a_connection_that_closes_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 1)
        client = Client(protocol=2)
        for key in "abcdefgh":
            client(f"SET {key} v")
        client.node.log.clear()
        client.node.delay = True
        client.connection.send(request("DBSIZE"))
        client.node.release()
        client.connection.settle()
        client.connection.session.closed()
        assert client.connection.finish() == b""
        assert 0 < len(client.node.log) < 8, "not all of its pages were asked for"

    def test_pages_come_in_turns_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringwise.server.keyspace.PAGE_NAMES", 1)
        client = Client(protocol=2)
        for key in "abc":
            client(f"SET {key} v")
        client.node.log.clear()
        client.connection.session.receive(request("DBSIZE"))
        assert len(client.node.log) == 1, "one page in the turn of the command"
        assert client.connection.settle() == b":3\r\n"


class TestBesideRedis:
    """The same keys in a real redis-server: the same keys match, and the same words refuse."""

    ELEMENTS = (b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\n", b"\xff", b"[a-b]", b"[^a]", b"x")

    def test_patterns(self, redis: Path) -> None:
        rng = random.Random(7)
        client, real = Client(protocol=2), RealRedis(redis)
        real.send(request("FLUSHALL"), 1)
        letters = (b"a", b"b", b"x", b"-", b"]", b"^", b"\\", b"\n", b"\xff")
        keys = {b"".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(300)}
        for key in sorted(keys):
            client("SET", key, "v")
            real.send(request("SET", key, "v"), 1)
        assert client("DBSIZE") == client.parse(real.send(request("DBSIZE"), 1)) == len(keys)
        for _ in range(1500):
            pattern = b"".join(rng.choices(self.ELEMENTS, k=rng.randint(0, 6)))
            expected = sorted(client.parse(real.send(request("KEYS", pattern), 1)))
            assert sorted(client("KEYS", pattern)) == expected, pattern
            assert sorted(client("SCAN", "0", "COUNT", "1000", "MATCH", pattern)[1]) == expected, pattern
        real.close()

    @pytest.mark.parametrize(
        "line",
        [
            "SCAN", "SCAN x", "SCAN 0 MATCH", "SCAN 0 COUNT", "SCAN 0 COUNT 0", "SCAN 0 COUNT -1", "SCAN 0 COUNT x", "SCAN 0 x y",
            "SCAN 0 COUNT 01", "SCAN 0 COUNT 9223372036854775808", "SCAN 18446744073709551616", "SCAN 1.5", "SCAN 0x",
            "KEYS", "KEYS a b", "DBSIZE a", "RANDOMKEY a", "RANDOMKEY", "KEYS *", "SCAN 0", "DBSIZE", "SCAN 0 TYPE string",
            "SCAN 0 MATCH a* MATCH b* COUNT 5 COUNT 7", "scan 00 count 5", "SCAN 0 TYPE nonsense",
        ],
    )  # fmt: skip
    def test_words(self, redis: Path, line: str) -> None:
        real = RealRedis(redis)
        for protocol in (2, 3):
            client = Client(protocol=protocol)
            real.send(request("HELLO", str(protocol)) + request("FLUSHALL"), 2)
            words = request(*line.split())
            assert client.connection.send(words) == real.send(words, 1)
        real.close()


class TestFlush:
    @pytest.mark.parametrize("line", ["FLUSHDB", "flushall", "FLUSHDB ASYNC", "FLUSHALL sync"])
    def test_everything_is_gone(self, client: Client, line: str) -> None:
        assert client(line) == b"OK"
        assert client("DBSIZE") == 0

    @pytest.mark.parametrize("line", ["FLUSHDB NOW", "FLUSHALL ASYNC SYNC"])
    def test_what_is_no_option(self, client: Client, line: str) -> None:
        assert client(line) == "ERR syntax error"
        assert client("DBSIZE") == len(ALIVE)

    def test_a_failure_is_told(self) -> None:
        client = Client()
        client.node.fail[b""] = QuorumNotReached(needed=2, acknowledged=1)
        assert client("FLUSHDB").startswith("NOQUORUM 1 of 2")

    def test_what_was_sent_before_is_done_and_what_comes_after_waits(self) -> None:
        node = FakeNode(delay=True)
        connection = Client(node, protocol=2).connection
        output = connection.send(request("SET", "a", "1") + request("FLUSHDB") + request("SET", "a", "2"))
        begun = []
        for _ in range(3):
            begun.append([operation for operation, _, _ in node.log])
            output += connection.send(request("GET", "a")) if len(begun) == 2 else b""
            node.release()
            output += connection.settle()
        assert begun == [["write"], ["write", "flush"], ["write", "flush", "write", "get"]]
        assert output == b"+OK\r\n+OK\r\n+OK\r\n$1\r\n2\r\n"
