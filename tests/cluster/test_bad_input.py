"""Bad input to real nodes: a clear error or a closed connection for that client alone; memory bounded, others served."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.server.fake import request

from .conftest import Cluster, until

GROWN_MAX_BYTES = 64 * 1024 * 1024
IDLE = 2000
IDLE_BYTES_MAX = 16 * 1024  # of the node's memory for an idle connection; the kernel's buffers are not the node's


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class OtherClient(threading.Thread):
    """Writes and reads its keys all the while; what went wrong is in `error`."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        self._over = threading.Event()
        self.done = 0
        self.error = ""

    def run(self) -> None:
        with self._cluster.client(1) as client:
            try:
                while not self._over.is_set():
                    key = f"other:{self.done % 100}"
                    client.set(key, self.done)
                    if client.get(key) != str(self.done):
                        raise AssertionError(f"{key} is not {self.done}")
                    self.done += 1
            except Exception as error:
                self.error = repr(error)

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def watched(shared: Cluster) -> Iterator[Cluster]:
    """Memory of the node and another client's work, around a test."""
    with shared.client(1) as client:
        client.set("kept", "as it was")
        pid = int(client.info("server")["process_id"])
        other = OtherClient(shared)
        other.start()
        until(lambda: other.done > 20 or bool(other.error), "the other client to work")
        before = resident_bytes(pid)
        try:
            yield shared
            done = other.done
            until(lambda: other.done > done or bool(other.error), "the other client to go on")
        finally:
            other.end()
        assert not other.error
        grown = resident_bytes(pid) - before
        assert grown <= GROWN_MAX_BYTES, f"{grown / 2**20:.1f} MiB"
        assert client.get("kept") == "as it was"
        assert int(client.info("server")["process_id"]) == pid


@contextmanager
def connected(cluster: Cluster) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=30) as raw:
        yield raw


def everything(raw: socket.socket) -> bytes:
    """Until the node closes."""
    data = b""
    try:
        while chunk := raw.recv(1 << 16):
            data += chunk
    except ConnectionResetError:  # it closed with input unread
        pass
    return data


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*2\r\n$3\r\nGET\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$600000000\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"SET 'k\r\n", b"-ERR Protocol error: unbalanced quotes in request"),
        (bytes(range(128, 256)) * 1000, b"-ERR Protocol error: too big inline request"),
    ],
    ids=["type", "count", "elements", "600MB", "negative", "quotes", "noise"],
)
def test_garbage_is_named_and_closes_its_connection(watched: Cluster, data: bytes, error: bytes) -> None:
    for _ in range(20):
        with connected(watched) as raw:
            raw.sendall(request("PING") + data)
            assert everything(raw).startswith(b"+PONG\r\n" + error)


def test_an_endless_line_is_cut_off(watched: Cluster) -> None:
    with connected(watched) as raw:
        sent = 0
        try:
            while sent < 256 * 1024 * 1024:
                sent += raw.send(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 64 * 1024 * 1024


def test_an_endless_request_is_cut_off(watched: Cluster) -> None:
    """Each of its arguments is small, and so is their number by now: what they come to is limited as well."""
    argument = b"$65536\r\n%b\r\n" % (b"x" * 65536)
    with connected(watched) as raw:
        sent = 0
        try:
            raw.sendall(b"*1048576\r\n")
            while sent < 512 * 1024 * 1024:
                sent += raw.send(argument)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 128 * 1024 * 1024


def test_truncated_requests_are_forgotten(watched: Cluster) -> None:
    whole = request("SET", "truncated", "v" * 1000)
    for length in range(0, len(whole), 37):
        with connected(watched) as raw:
            raw.sendall(whole[:length])
    with watched.client(1) as client:
        assert client.get("truncated") is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["SET", "", "v"], b"-ERR the key is empty; a key has 1 to 256 bytes"),
        (["SET", "k" * 257, "v"], b"-ERR the key has 257 bytes, the limit is 256"),
        (["GET", "k" * 257], b"-ERR the key has 257 bytes, the limit is 256"),
        (["SET", "big", "v" * (1024 * 1024 + 1)], b"-ERR the value has 1048577 bytes, the limit is 1048576"),
        (["APPEND", "kept", "v" * 1024 * 1024], b"-ERR the value has 1048585 bytes, the limit is 1048576"),
        (["SETRANGE", "kept", "1048576", "v"], b"-ERR the value has 1048577 bytes, the limit is 1048576"),
        (["SETRANGE", "kept", "9223372036854775807", "v"], b"-ERR the value has"),
        (["GET"], b"-ERR wrong number of arguments for 'get' command"),
        (["GET", "a", "b"], b"-ERR wrong number of arguments for 'get' command"),
        (["NONSENSE", "a"], b"-ERR unknown command 'NONSENSE'"),
        (["N" * 100_000], b"-ERR unknown command 'NNN"),
        (["LPUSH", "a", "b"], b"-ERR LPUSH is not served: it needs one order"),
        (["GET", "k" * 1_000_000], b"-ERR the key has 1000000 bytes"),
    ],
    ids=lambda each: " ".join(each)[:24] if isinstance(each, list) else "",
)
def test_bad_commands_are_answered_and_the_connection_goes_on(
    watched: Cluster, command: list[str], error: bytes
) -> None:
    with connected(watched) as raw:
        raw.sendall(request(*command) + request("QUIT"))
        reply = everything(raw)
        assert reply.startswith(error) and reply.endswith(b"\r\n+OK\r\n")
        assert len(reply) < 1000
    with watched.client(2) as client:
        assert client.get("big") is None and client.get("kept") == "as it was"


def test_a_client_that_stops_reading_is_not_served_on(watched: Cluster) -> None:
    """A gigabyte is asked for, and what nobody reads is not built."""
    with connected(watched) as raw:
        raw.sendall(request("SET", "large", "v" * 1024 * 1024))
        assert raw.recv(5) == b"+OK\r\n"
        raw.setblocking(False)
        asked = 0
        try:
            for _ in range(1000):
                asked += raw.send(request("GET", "large"))
        except BlockingIOError:
            pass
        assert asked
        with watched.client(1) as client:
            (stuck,) = [each for each in client.client_list() if each["addr"] == "{}:{}".format(*raw.getsockname())]
            assert client.client_kill_filter(_id=stuck["id"]) == 1  # and it can be got rid of
            until(lambda: stuck["id"] not in [each["id"] for each in client.client_list()], "it to be gone")


def test_idle_connections_cost_little(watched: Cluster) -> None:
    with watched.client(1) as client, ExitStack() as stack:
        pid = int(client.info("server")["process_id"])
        before = resident_bytes(pid)
        known = int(client.info("clients")["connected_clients"])
        for _ in range(IDLE):
            stack.enter_context(connected(watched))
        until(lambda: int(client.info("clients")["connected_clients"]) >= known + IDLE, "all to be accepted")
        each = (resident_bytes(pid) - before) / IDLE
        print(f"{each:.0f} bytes for each idle connection")
        assert each <= IDLE_BYTES_MAX
        assert client.set("while:idle", "v") and client.get("while:idle") == "v"
    with watched.client(1) as client:
        until(lambda: int(client.info("clients")["connected_clients"]) < known + 10, "all to be gone")
