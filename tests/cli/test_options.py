"""Options, the TOML file and the layout of a same-machine cluster, without starting anything."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ringwise.cli import cli
from ringwise.cli.plan import Plan
from ringwise.cli.resp import NodeError, UnreachableError, call
from ringwise.core.gossip.presets import PRESETS
from ringwise.runtime import serve as serve_module
from ringwise.runtime.settings import MEMBERSHIPS, Settings, StartError, machine_memory_mb


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `ringwise serve` would have run with."""
    runs: list[Settings] = []

    def run(settings: Settings) -> int:
        runs.append(settings)
        return 0

    monkeypatch.setattr(serve_module, "run", run)
    return runs


def serve(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["serve", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_serve_has_the_documented_defaults(served: list[Settings]) -> None:
    serve()
    (settings,) = served
    assert settings.memtable_mb <= 512 and settings.memtable_mb + settings.cache_mb < machine_memory_mb() // 4
    expected = Settings(data_dir=Path.cwd() / "data" / "n1", name="n1")
    assert replace(settings, memtable_mb=expected.memtable_mb, cache_mb=expected.cache_mb) == expected


def test_the_command_line_wins_over_the_file(served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'name = "n7"\ndata-dir = "/srv/ringwise"\nport = 7000\nsync = "batch"\njoin = "10.0.0.1:9379"\n'
        'membership = "wan"\n'
    )
    serve("--config", str(config), "--port", "7001")
    (settings,) = served
    assert (settings.name, settings.data_dir, settings.sync) == ("n7", Path("/srv/ringwise"), "batch")
    assert settings.membership == "wan"
    assert (settings.port, settings.join) == (7001, ("10.0.0.1", 9379))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("porte = 1\n", "unknown key 'porte'"),
        ("port = \n", "Invalid value"),
        ("port = 0\n", "0 is not in the range"),
        ('sync = "sometimes"\n', "sometimes"),
        ('membership = "moon"\n', "moon"),
        ('join = "nowhere"\n', "is not HOST:PORT"),
    ],
)
def test_mistakes_in_the_file_are_named(served: list[Settings], tmp_path: Path, text: str, complaint: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(text)
    assert complaint in serve("--config", str(config), code=2)
    assert not served


def test_the_port_of_cluster_clients_follows_the_port(served: list[Settings]) -> None:
    serve("--port", "7001")
    serve("--port", "7001", "--cluster-port", "7002")
    assert [settings.cluster_port for settings in served] == [10001, 7002]


def test_ports_that_cannot_be_are_refused(served: list[Settings]) -> None:
    for arguments, complaint in ((("--port", "65000"), "68000"), (("--cluster-port", "8379"), "must differ")):
        result = CliRunner().invoke(cli, ["serve", *arguments])
        assert isinstance(result.exception, StartError) and complaint in str(result.exception)
    assert not served


def test_addresses_may_be_ipv6(served: list[Settings]) -> None:
    serve("--join", "[::1]:9379")
    assert served[0].join == ("::1", 9379)


@pytest.mark.parametrize("name", ["", "two words", "two\nlines", "n" * 65])
def test_a_name_is_one_word(served: list[Settings], name: str) -> None:
    assert "a name has 1 to 64 letters" in serve("--name", name, code=2)
    assert not served


def test_ports_names_and_directories_count_up(tmp_path: Path) -> None:
    plan = Plan.open(tmp_path, 3, None)
    assert [(node.name, node.port, node.http_port, node.peer_port, node.cluster_port) for node in plan.nodes()] == [
        ("n1", 7379, 8379, 9379, 10379),
        ("n2", 7380, 8380, 9380, 10380),
        ("n3", 7381, 8381, 9381, 10381),
    ]
    assert plan.node(2).data_dir == tmp_path / "n2"


def test_a_plan_is_kept_with_the_data(tmp_path: Path) -> None:
    plan = Plan.open(tmp_path, 5, 7400)
    plan.save()
    assert Plan.open(tmp_path, None, None).state == plan.state
    with pytest.raises(StartError, match="made with --nodes 5"):
        Plan.open(tmp_path, 3, None)
    with pytest.raises(StartError, match="made with --port 7400"):
        Plan.open(tmp_path, None, 7379)


def test_only_the_first_node_of_a_new_cluster_founds_it(tmp_path: Path) -> None:
    plan = Plan.open(tmp_path, 3, None)
    assert [plan.join_address(node) for node in plan.nodes()] == [None, "127.0.0.1:9379", "127.0.0.1:9379"]
    plan.state.formed = True
    assert [plan.join_address(node) for node in plan.nodes()] == ["127.0.0.1:9380", "127.0.0.1:9379", "127.0.0.1:9379"]


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', '{"format": 1, "nodes": "many", "port": 1}'])
def test_a_damaged_plan_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "dev.json").write_text(content)
    with pytest.raises(StartError, match=r"dev\.json is damaged"):
        Plan.open(tmp_path, None, None)


def test_no_room_for_so_many_ports(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no room"):
        Plan.open(tmp_path, 3, 65000)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(b"+PONG\r\n", b"PONG"), (b"$4\r\nab\r\n\r\n", b"ab\r\n"), (b"*2\r\n:1\r\n$-1\r\n", [1, None])],
)
def test_a_call_reads_one_reply(reply: bytes, expected: object) -> None:
    assert call("127.0.0.1", _answering(reply), "PING") == expected


def test_a_call_tells_errors_from_silence() -> None:
    with pytest.raises(NodeError, match="ERR no"):
        call("127.0.0.1", _answering(b"-ERR no\r\n"), "PING")
    with pytest.raises(UnreachableError, match="closed the connection"):
        call("127.0.0.1", _answering(b"+PO"), "PING")
    with pytest.raises(UnreachableError):
        call("127.0.0.1", _answering(b"HTTP/1.1 200 OK\r\n"), "PING")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match="refused"):
        call("127.0.0.1", port, "PING")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("put", "k", "v"), "it may be written or not: read the key before trying again"),
        (("delete", "k"), "it may be written or not: read the key before trying again"),
        (("get", "k"), "is a node running there?"),
    ],
)
def test_a_write_that_was_not_answered_is_not_called_undone(words: tuple[str, ...], advice: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def vanish() -> None:
        with listener, listener.accept()[0] as connection:
            assert b"HELLO" in connection.recv(1000)

    threading.Thread(target=vanish, daemon=True).start()
    result = CliRunner().invoke(cli, [*words, "--port", str(listener.getsockname()[1])])
    assert isinstance(result.exception, StartError) and advice in str(result.exception)
    assert "closed the connection" in str(result.exception)


def test_a_write_that_was_never_sent_is_simply_unreachable() -> None:
    result = CliRunner().invoke(cli, ["put", "k", "v", "--port", "1"])
    assert isinstance(result.exception, StartError) and "is a node running there?" in str(result.exception)


def _answering(reply: bytes) -> int:
    """A server that reads one command, answers and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listener, listener.accept()[0] as connection:
            assert connection.recv(100) == b"*1\r\n$4\r\nPING\r\n"
            connection.sendall(reply)

    threading.Thread(target=answer, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_every_preset_of_membership_is_an_option_and_no_other() -> None:
    assert set(MEMBERSHIPS) == set(PRESETS)
