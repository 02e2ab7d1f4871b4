"""HTTP on real nodes: with the standard library's client and bare sockets, beside Redis clients, through bad input."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import Cluster, until

KEY = "/api/v1/kv/"
MEBIBYTE = 1024 * 1024
# How much a node may grow under input that is meant to make it grow.
GROWTH_BYTES_MAX = 64 * MEBIBYTE


@contextlib.contextmanager
def connected(cluster: Cluster, node: int = 1) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", cluster.port + 1000 + node - 1, timeout=30)
    try:
        yield client
    finally:
        client.close()


def ask(
    cluster: Cluster, node: int, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """One request; bytes are sent raw, anything else as JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if body is not None and not isinstance(body, bytes):
        named.setdefault("Content-Type", "application/json")
    with connected(cluster, node) as client:
        client.request(method, path, data, named)
        response = client.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        json_told = found.get("content-type") == "application/json" and text
        return response.status, found, json.loads(text) if json_told else text


def rss_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_any_node_answers_and_redis_clients_see_the_same(shared: Cluster) -> None:
    assert ask(shared, 1, "PUT", KEY + "greeting", {"value": "hello"})[0] == 200
    assert ask(shared, 2, "GET", KEY + "greeting")[2]["value"] == "hello"
    with shared.client(3) as client:
        assert client.get("greeting") == "hello"
        client.set("from/redis", "grün", ex=100)
    status, _, found = ask(shared, 1, "GET", KEY + "from/redis", Consistency="strong")
    assert (status, found["value"], found["ttl"]) == (200, "grün", 100)
    assert ask(shared, 2, "PUT", KEY + "page", b"<h1>", Content_Type="text/html")[0] == 200
    with shared.client(1) as client:
        (sibling,) = _pairs(client.execute_command("RW.GET", "page"))["siblings"]
        assert (_pairs(sibling)["value"], _pairs(sibling)["type"]) == ("<h1>", "text/html")
    assert ask(shared, 3, "DELETE", KEY + "greeting")[0] == 204
    assert ask(shared, 1, "GET", KEY + "greeting")[0] == 404


def _pairs(value: Any) -> dict[str, Any]:
    """A map of RESP2, which is a flat list, or of RESP3."""
    return value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))


def test_siblings_of_redis_clients_are_resolved_over_http(shared: Cluster) -> None:
    with shared.client(1) as client:
        client.set("cart", "white")
        token = _pairs(client.execute_command("RW.GET", "cart"))["context"]
        for colour in ("red", "blue"):  # both have seen white only
            client.execute_command("RW.PUT", "cart", colour, "CONTEXT", token)
    status, headers, found = ask(shared, 2, "GET", KEY + "cart")
    assert status == 300
    assert sorted(each["value"] for each in found["siblings"]) == ["blue", "red"]
    assert ask(shared, 2, "GET", KEY + "cart", If_None_Match=headers["etag"])[0] == 304
    assert ask(shared, 3, "PUT", KEY + "cart", {"value": "purple", "context": found["context"]})[0] == 200
    assert ask(shared, 2, "GET", KEY + "cart")[2]["value"] == "purple"
    with shared.client(1) as client:
        assert client.get("cart") == "purple"
        assert len(_pairs(client.execute_command("RW.GET", "cart"))["siblings"]) == 1


def test_batches_and_listing(shared: Cluster) -> None:
    items = [{"key": f"list:{number}", "value": number} for number in range(60)]
    status, _, put = ask(shared, 1, "POST", "/api/v1/batch/put", {"items": items})
    assert status == 200
    assert {each["status"] for each in put["results"]} == {200}
    _, _, got = ask(shared, 2, "POST", "/api/v1/batch/get", {"keys": [item["key"] for item in items]})
    assert [each["value"] for each in got["results"]] == list(range(60))
    found: list[str] = []
    cursor: str | None = "0"
    while cursor is not None:
        _, _, page = ask(shared, 3, "GET", f"/api/v1/kv?prefix=list:&limit=25&cursor={cursor}")
        found += [each["key"] for each in page["keys"]]
        cursor = page["cursor"]
    assert sorted(found) == sorted(str(item["key"]) for item in items)


def test_schemathesis_finds_nothing(shared: Cluster) -> None:
    """A bounded run; docs/http.md has the command for a longer one."""
    tool = str(Path(sys.executable).parent / "schemathesis")
    url = f"http://127.0.0.1:{shared.port + 1000}/api/v1/openapi.json"
    done = subprocess.run(
        [tool, "run", url, "--checks", "all", "-n", "15", "--seed", "1", "--no-color"],
        cwd=shared.directory,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_bad_input_costs_the_client_that_sends_it_and_nobody_else(cluster: Cluster) -> None:
    port = cluster.port + 1000
    put = b"PUT /api/v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    assert ask(cluster, 1, "PUT", KEY + "kept", b"x" * 1000)[0] == 200
    pid = cluster.pid(1)
    before = rss_bytes(pid)
    slowest_s = 0.0
    done = threading.Event()

    def others() -> None:
        nonlocal slowest_s
        with cluster.client(1) as client:
            while not done.is_set():
                began = time.monotonic()
                assert client.get("kept") == "x" * 1000
                slowest_s = max(slowest_s, time.monotonic() - began)
                time.sleep(0.005)

    watching = threading.Thread(target=others)
    watching.start()
    try:
        with contextlib.ExitStack() as stack:

            def dial(sent: bytes) -> socket.socket:
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                with contextlib.suppress(OSError):  # refused in the middle of it
                    sock.sendall(sent)
                return sock

            halves = [dial(put + b"Content-Length: 1000000\r\n\r\n" + b"x" * 900_000) for _ in range(60)]
            huge = dial(put + b"Content-Length: 600000000\r\n\r\n" + b"x" * 1_000_000)
            assert b" 413 " in huge.recv(200)
            garbage = dial(b"\x00\xff garbage\r\n" * 10_000)
            assert b" 400 " in garbage.recv(200)
            heads = dial(b"GET / HTTP/1.1\r\nX: " + b"x" * 500_000)
            assert b" 431 " in heads.recv(200)
            pipelined = dial(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000 + b"garbage\r\n\r\n")
            # Bodies that are slow have taken all the room there is, and give way to others soon.
            until(lambda: ask(cluster, 1, "PUT", KEY + "other", b"x" * 1_000_000)[0] == 200, "room for a body")
            for bad in (b'{"value": ', b"[" * 1_000_000, b"\xff"):
                assert ask(cluster, 1, "PUT", KEY + "k", bad, Content_Type="application/json")[0] == 400
            assert ask(cluster, 1, "GET", KEY + "%zz")[0] == 400
            # Those that never end are told so, or were refused for want of room.
            told = [sock.recv(200)[9:12] for sock in halves]
            assert set(told) == {b"408", b"503"}
            assert ask(cluster, 1, "GET", KEY + "kept")[0] == 200
            del pipelined
            grown = rss_bytes(pid) - before
    finally:
        done.set()
        watching.join()
    assert grown <= GROWTH_BYTES_MAX
    assert slowest_s < 1.0
    assert cluster.pid(1) == pid
    assert ask(cluster, 1, "GET", KEY + "k")[0] == 404


def test_with_two_nodes_dead_quorums_are_refused_and_one_is_served(cluster: Cluster) -> None:
    assert ask(cluster, 1, "PUT", KEY + "k", {"value": 1})[0] == 200
    assert ask(cluster, 1, "GET", "/ready")[0] == 200
    cluster.kill(2, 3)
    until(lambda: ask(cluster, 1, "GET", "/ready")[0] == 503, "the node to be not ready")
    assert ask(cluster, 1, "GET", "/health")[0] == 200
    status, headers, told = ask(cluster, 1, "PUT", KEY + "k", {"value": 2})
    assert (status, told["outcome"], "retry-after" in headers) == (503, "not_applied", True)
    assert ask(cluster, 1, "GET", KEY + "k")[0] == 503
    assert ask(cluster, 1, "PUT", KEY + "k", {"value": 3}, Consistency="eventual")[0] == 200
    assert ask(cluster, 1, "GET", KEY + "k", Consistency="eventual")[2]["value"] == 3


def test_an_unknown_outcome_is_told_as_such(cluster: Cluster) -> None:
    assert ask(cluster, 1, "PUT", KEY + "k", {"value": 1})[0] == 200
    frozen = cluster.pid(3)
    os.kill(frozen, signal.SIGSTOP)
    try:
        status, _, told = ask(cluster, 1, "PUT", KEY + "k", {"value": 2}, W="3")
        assert (status, told["error"], told["outcome"]) == (504, "unknown_outcome", "unknown")
    finally:
        os.kill(frozen, signal.SIGCONT)
