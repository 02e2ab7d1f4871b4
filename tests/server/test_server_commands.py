"""Commands about connections and the server: what clients send when they connect, and what people type."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from tests.server.fake import Connection, FakeNode, request

from ringwise.server.clients import Clients
from ringwise.server.commands import TABLE


def parsed(data: bytes) -> Any:
    reader = hiredis.Reader(replyError=str)  # type: ignore[arg-type]  # an error is just its text
    reader.feed(data)
    reply = reader.gets()
    assert reader.gets() is False
    return reply


class Two:
    """Two connections to one node."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.clients = Clients(port=7379)
        self.first, self.second = Connection(self.node, self.clients), Connection(self.node, self.clients)

    def __call__(self, line: str) -> Any:
        return parsed(self.first.run(*line.split()))


class TestKill:
    def test_by_number_and_by_other_filters(self) -> None:
        both = Two()
        assert both("CLIENT KILL ID 2") == 1
        both.second.settle()
        assert both.second.is_closed and not both.first.is_closed
        assert both("CLIENT KILL ID 99") == 0
        assert both("CLIENT KILL TYPE replica") == 0
        assert both("CLIENT KILL MAXAGE 1000") == 0
        assert both("CLIENT KILL USER default SKIPME yes TYPE pubsub") == 0

    def test_one_self_is_answered_first(self) -> None:
        both = Two()
        assert both("CLIENT KILL ID 1") == 0  # SKIPME yes unless told
        assert both("CLIENT KILL ID 1 SKIPME no") == 1
        assert both.first.is_closed and not both.second.is_closed

    def test_by_address(self) -> None:
        both = Two()
        both.second.session.address = "127.0.0.1:50001"
        assert both("CLIENT KILL 127.0.0.1:50001") == b"OK"
        both.second.settle()
        assert both.second.is_closed
        assert both("CLIENT KILL 127.0.0.1:9") == "ERR No such client"

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID", "ERR No such client"),
            ("CLIENT KILL ID 1 TYPE", "ERR syntax error"),
            ("CLIENT KILL COLOUR red", "ERR syntax error"),
            ("CLIENT KILL TYPE x", "ERR Unknown client type"),
            ("CLIENT KILL USER nobody", "ERR No such user"),
        ],
    )
    def test_mistakes(self, line: str, error: str) -> None:
        both = Two()
        assert both(line).startswith(error)
        assert not both.first.is_closed and not both.second.is_closed

    def test_what_is_under_way_is_answered_to_nobody(self) -> None:
        node = FakeNode(delay=True)
        clients = Clients()
        killer, victim = Connection(node, clients), Connection(node, clients)
        victim.send(request("SET", "k", "v") + request("GET", "k"))
        assert parsed(killer.run("CLIENT", "KILL", "ID", "2")) == 1
        victim.settle()
        assert victim.is_closed
        victim.session.closed()
        node.release()
        assert victim.settle() == b""
        assert b"k" in node.records


class TestConfig:
    def test_multi_is_switched(self) -> None:
        both = Two()
        assert both("CONFIG GET rw.multi") == [b"rw.multi", b"yes"]
        assert both("CONFIG SET rw.multi no") == b"OK"
        assert both("CONFIG GET rw.multi") == [b"rw.multi", b"no"]
        assert both("MULTI").startswith("ERR MULTI is switched off")
        assert both("CONFIG SET rw.multi YES") == b"OK"
        assert both("MULTI") == b"OK"

    def test_what_belongs_to_the_start_may_be_set_to_what_it_is(self) -> None:
        both = Two()
        assert both("CONFIG SET maxmemory 0 appendonly yes") == b"OK"
        assert "set when the node starts" in both("CONFIG SET maxmemory 100mb")

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (
                "CONFIG SET rw.multi no nonsense 1",
                "ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'",
            ),
            ("CONFIG SET rw.multi maybe", "ERR CONFIG SET failed (possibly related to argument 'rw.multi')"),
            ("CONFIG SET rw.multi no rw.multi no", "ERR CONFIG SET failed (possibly related to argument 'rw.multi')"),
            ("CONFIG SET rw.multi no port 1", "ERR CONFIG SET failed (possibly related to argument 'port')"),
            ("CONFIG SET rw.multi no port", "ERR wrong number of arguments for 'config|set' command"),
            ("CONFIG REWRITE", "ERR CONFIG REWRITE is not served"),
        ],
    )
    def test_all_or_nothing(self, line: str, error: str) -> None:
        both = Two()
        assert both(line).startswith(error)
        assert both.clients.multi

    def test_counters_start_anew_and_connections_keep_their_numbers(self) -> None:
        both = Two()
        both("PING")
        assert both("CONFIG RESETSTAT") == b"OK"
        assert b"total_connections_received:0\r\n" in both("INFO stats")
        assert parsed(Connection(both.node, both.clients).run("CLIENT", "ID")) == 3
        assert b"total_connections_received:1\r\n" in both("INFO stats")


class TestDebugSleep:
    def test_only_where_the_node_was_told_so(self) -> None:
        assert Two()("DEBUG SLEEP 0").startswith("ERR DEBUG is served only by nodes")

    def test_only_this_connection_waits(self) -> None:
        both = Two()
        both.clients.debug = True
        assert both.first.send(request("DEBUG", "SLEEP", "0.5") + request("PING")) == b""
        assert both.second.run("PING") == b"+PONG\r\n"
        both.node.pass_time(499)
        assert both.first.settle() == b""
        both.node.pass_time(1)
        assert both.first.settle() == b"+OK\r\n+PONG\r\n"

    @pytest.mark.parametrize("seconds", ["-1", "61", "nan", "inf", "x"])
    def test_bad_times(self, seconds: str) -> None:
        both = Two()
        both.clients.debug = True
        assert both(f"DEBUG SLEEP {seconds}").startswith("ERR ")


def test_time_is_the_nodes_clock() -> None:
    both = Two()
    both.node.now.wall_ms = 1_700_000_000_123
    assert both("TIME") == [b"1700000000", b"123000"]


def test_role_and_what_cluster_clients_send() -> None:
    both = Two()
    assert both("ROLE") == [b"master", 0, []]
    assert [both(line) for line in ("ASKING", "READONLY", "READWRITE", "CLIENT UNPAUSE", "CLIENT REPLY ON")] == [
        b"OK"
    ] * 5
    assert both("CLIENT GETREDIR") == -1
    assert both("CLIENT TRACKINGINFO") == [b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
    assert "not served" in both("CLIENT REPLY OFF")


def test_info_has_what_clients_look_for() -> None:
    text = Two()("INFO")
    for line in (b"loading:0", b"role:master", b"cluster_enabled:1", b"redis_version:7"):
        assert line in text


def test_lolwut_names_the_version() -> None:
    assert b"Ringwise ver. " in Two()("LOLWUT") and b"Ringwise ver. " in Two()("LOLWUT VERSION 5")


def test_every_container_has_help_on_each_of_its_subcommands() -> None:
    both = Two()
    containers = [command for command in TABLE.commands.values() if command.subcommands]
    assert {"client", "cluster", "command", "config", "memory", "object"} <= {each.name for each in containers}
    for container in containers:
        lines = [line.decode() for line in both(f"{container.name} HELP")]
        assert lines[0].startswith(f"{container.name.upper()} <subcommand>")
        for subcommand in container.subcommands:
            assert subcommand.name.upper() in lines
        assert "wrong number" in both(f"{container.name} HELP me") or "unknown subcommand" in both(
            f"{container.name} HELP me"
        )


def test_command_list_is_filtered() -> None:
    both = Two()
    assert both("COMMAND LIST FILTERBY PATTERN rw.g*") == [b"rw.get"]
    assert b"getrange" in both("COMMAND LIST FILTERBY ACLCAT string")
    assert both("COMMAND LIST FILTERBY MODULE json") == []
    assert both("COMMAND LIST FILTERBY") == "ERR syntax error"


def test_subcommands_on_keys_take_a_level_and_tell_their_keys() -> None:
    both = Two()
    both("SET k v")
    assert both("RW.AT one OBJECT ENCODING k") == b"raw"
    assert both.node.log[-1] == ("get", b"k", "one")
    assert both("COMMAND GETKEYS MEMORY USAGE k") == [b"k"]
    assert both("RW.AT one OBJECT HELP").startswith("ERR RW.AT takes a command on keys")


class TestRepair:
    def test_a_round_of_all_or_of_a_slot(self) -> None:
        both = Two()
        assert both("RW.REPAIR") == both("RW.REPAIR SLOT 77") == b"OK"
        assert both.node.repair.begun == [None, 77]

    def test_how_it_goes(self) -> None:
        both = Two()
        both("RW.REPAIR")
        both.node.repair.with_peer, both.node.repair.left = both.node.topology.document.members[1].id, 3  # type: ignore[union-attr]
        both.node.repair.tally.sent = 5
        found = dict(zip(*[iter(both("RW.REPAIR STATUS"))] * 2, strict=True))
        assert (found[b"running"], found[b"with"], found[b"left"], found[b"sent"]) == (1, b"n1", 3, 5)
        assert b"repair_sent:5\r\n" in both("INFO ringwise")

    @pytest.mark.parametrize("words", ["SLOT", "SLOT x", "SLOT 16384", "SLOT -1", "NOW", "STATUS 1"])
    def test_what_is_wrong_begins_nothing(self, words: str) -> None:
        both = Two()
        assert both(f"RW.REPAIR {words}").startswith("ERR")
        assert not both.node.repair.begun


class TestReplace:
    def test_a_member_is_named_or_the_reason_told(self) -> None:
        both = Two()
        told = dict(zip(*[iter(both("RW.REPLACE n2"))] * 2, strict=True))
        assert (told[b"node"], told[b"epoch"]) == (b"n2", 7) and both.node.log[-1] == ("replace", b"n2", "")
        assert both("RW.REPLACE n9") == "ERR there is no member n9"
        assert both("RW.REPLACE n1 n2") == "ERR syntax error"

    def test_how_it_goes(self) -> None:
        both = Two()
        told = dict(zip(*[iter(both("RW.REPLACE STATUS"))] * 2, strict=True))
        assert (told[b"lost"], told[b"filling"], told[b"percent"], told[b"sources"]) == ([], [], 100, [])
        text = both("INFO ringwise")
        assert b"filling:0\r\n" in text and b"under_replicated_slots:" in text and b"lost_members:\r\n" in text
