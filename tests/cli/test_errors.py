"""Whatever is wrong on a command line is told in one line that says what to do, and leaves stdout empty."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ringwise.wire.resp import RequestParser

USAGE = 2


def run(*words: str | bytes, **variables: str) -> tuple[int, str]:
    """(exit code, the line)."""
    done = subprocess.run(
        [sys.executable, "-m", "ringwise.cli", *words],
        env={**os.environ, **variables},
        capture_output=True,
        timeout=60,
        check=False,
    )
    told = done.stderr.decode()
    assert not done.stdout and told.startswith("ringwise: ") and told.count("\n") == 1, done
    return done.returncode, told.rstrip("\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["get"], "missing argument 'KEY'; see: python -m ringwise.cli get --help"),
        (
            ["get", "k", "--json", "--port", "abc"],
            "invalid value for '--port': 'abc' is not a valid integer range; see: ",
        ),
        (["get", "k", "--prt", "1"], "--port"),
        (["put", "k", "v", "--ttl", "0"], "invalid value for '--ttl'"),
        (["ring", "--key", "a", "--slot", "3", "--json"], "--key and --slot exclude each other"),
        (["dev", "partition", "x"], "'x' is no node: say 2 or n2"),
        (["dev", "--nodes", "0"], "invalid value for '--nodes'"),
        (["serve", "--sync", "now"], "'periodic', 'batch', 'off'"),
        (["nope"], "no such command 'nope'"),
    ],
)
def test_wrong_usage_is_one_line_that_says_where_to_read_on(words: list[str], told: str) -> None:
    code, line = run(*words)
    assert code == USAGE and told in line and line.endswith(" --help")


def test_a_mistake_is_named_where_it_was_made(tmp_path: Path) -> None:
    code, line = run("get", "k", RINGWISE_PORT="abc")
    assert code == USAGE and "invalid value for RINGWISE_PORT: 'abc'" in line and "--port" not in line
    config = tmp_path / "node.toml"
    config.write_text("http-port = 0\n")
    code, line = run("serve", "--config", str(config))
    assert code == USAGE and "invalid value for 'http-port' in the file of --config: 0 is not" in line


def test_an_error_is_no_json() -> None:
    code, line = run("get", "k", "--json", "--port", "1")
    assert code == 1 and "is a node running there?" in line


def test_a_key_that_is_no_utf_8_is_asked_for_as_it_is() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[list[bytes]] = []

    def refuse() -> None:
        with listener, listener.accept()[0] as connection:
            asked.extend(RequestParser().feed(connection.recv(1000)))
            connection.sendall(b"%1\r\n+x\r\n+y\r\n-ERR not here\r\n")

    threading.Thread(target=refuse, daemon=True).start()
    assert run("get", b"caf\xe9", "--port", str(listener.getsockname()[1])) == (1, "ringwise: ERR not here")
    assert asked[1] == [b"RW.GET", b"caf\xe9"]
