"""`ringwise bucket`, and `--bucket` of the commands on keys: what is sent, and when."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from tests.server.fake import Connection, FakeNode

from ringwise.cli import cli


class Served:
    """A fake node behind a socket; every connection is a session of its own."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = str(self.listener.getsockname()[1])
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                accepted = self.listener.accept()[0]
            except OSError:
                return
            connection = Connection(self.node)
            with accepted:
                while data := accepted.recv(10_000):
                    self.received.append(data)
                    accepted.sendall(connection.send(data))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--port", self.port])


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def test_a_bucket_from_its_beginning_to_its_end(served: Served) -> None:
    created = served.run("bucket", "create", "sessions", "--ttl", "60", "--r", "one", "--json")
    assert json.loads(created.output)["ttl"] == 60
    assert served.run("put", "k", "v", "--bucket", "sessions").exit_code == 0
    assert served.run("get", "k", "--bucket", "sessions").output.strip() == "v"
    assert served.run("get", "k").exit_code == 3
    assert json.loads(served.run("bucket", "set", "sessions", "--ttl", "0", "--json").output)["ttl"] == 0
    listed = [line.split()[0] for line in served.run("bucket", "list").output.splitlines()]
    assert listed == ["bucket", "0", "sessions"]
    everything = json.loads(served.run("bucket", "list", "--json").output)
    assert [each["number"] for each in everything] == list(range(17))
    assert served.run("bucket", "drop", "sessions", "--yes").exit_code == 0
    assert "NOBUCKET" in str(served.run("bucket", "show", "sessions").exception)


def test_a_number_that_was_used_is_listed(served: Served) -> None:
    served.run("bucket", "set", "7", "--w", "all")
    assert [line.split()[0] for line in served.run("bucket", "list").output.splitlines()] == ["bucket", "0", "7"]
    assert len(served.run("bucket", "list", "--all").output.splitlines()) == 17


def test_a_write_is_not_sent_before_its_bucket_is_selected(served: Served) -> None:
    result = served.run("put", "k", "v", "--bucket", "nowhere")
    assert "there is no bucket nowhere" in str(result.exception)
    assert b"RW.PUT" not in b"".join(served.received)
    assert not served.node.records


def test_a_drop_is_asked_about(served: Served) -> None:
    served.run("bucket", "create", "a")
    assert served.run("bucket", "drop", "a").exit_code == 1  # nobody answers
    assert served.run("bucket", "show", "a").exit_code == 0


def test_nothing_to_change_is_wrong_usage(served: Served) -> None:
    assert served.run("bucket", "set", "0").exit_code == 2
