"""The HTTP port: what a socket may do to it, and what it does to other sockets and to the node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import uvloop
from tests.server.fake import FakeNode

from ringwise.core.levels import Level
from ringwise.core.sink import Sink
from ringwise.runtime.http import LIMITS, HttpServer, Limits
from ringwise.runtime.turn import Turn

PATIENCE_S = 30.0


class Node(FakeNode):
    """A node that a turn can step."""

    pressure = 0.0
    broken = False

    def begin(self, wall_ms: int, now_ms: float) -> None: ...
    def tick(self) -> None: ...

    def background(self, budget_ms: float) -> bool:
        return budget_ms < 0

    def get(self, key: bytes, level: Level, sink: Sink, index: int) -> None:
        if self.broken:
            raise RuntimeError("as a mistake in the program would")
        super().get(key, level, sink, index)


class Port:
    """A listening server, and bare sockets to it."""

    def __init__(self, server: HttpServer, node: Node) -> None:
        self.server = server
        self.node = node
        self.address = server.address
        self.writers: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        self.writers.append(writer)
        return reader, writer

    async def says(self, sent: bytes) -> tuple[int, dict[str, str], Any]:
        """What one connection is answered first, to these bytes."""
        reader, writer = await self.open()
        try:
            writer.write(sent)
            return await answer(reader)
        finally:
            writer.close()

    async def works(self) -> None:
        """Others are served."""
        status, _, _ = await self.says(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 200


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, json.loads(body) if body else None


def run(test: Callable[[Port], Awaitable[None]], limits: Limits = LIMITS, *, delay: bool = False) -> None:
    async def main() -> None:
        async with opened(limits, delay=delay) as port:
            await asyncio.wait_for(test(port), PATIENCE_S)

    uvloop.run(main())


@asynccontextmanager
async def opened(limits: Limits, *, delay: bool) -> AsyncIterator[Port]:
    loop = asyncio.get_running_loop()
    unexpected: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unexpected.append(context))
    node = Node(delay=delay)

    def fail(error: BaseException) -> None:
        unexpected.append({"exception": error})

    server = HttpServer(loop, Turn(loop, node, node, lambda: None, fail), node, limits)
    await server.listen("127.0.0.1", 0)
    port = Port(server, node)
    try:
        yield port
    finally:
        for writer in port.writers:
            writer.transport.abort()
        await server.drain(1.0)
    await until(lambda: not server.connections)
    assert server._held_bytes == 0
    assert not unexpected  # a node would end of it


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


PUT = b"PUT /api/v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
GET = b"GET /api/v1/kv/k HTTP/1.1\r\nHost: x\r\n\r\n"


def test_keep_alive_pipelining_and_chunks() -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.open()
        writer.write(PUT + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" + GET + GET)
        statuses = [await answer(reader) for _ in range(3)]
        assert [status for status, _, _ in statuses] == [200, 200, 200]
        assert statuses[2][2]["value"] == "abc"
        writer.write(b"HEAD /api/v1/kv/k HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        writer.write(PUT + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await answer(reader))[0] == 100
        writer.write(b"xyz")
        assert (await answer(reader))[0] == 200
        writer.close()

    run(test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\xff\x16\x03 garbage\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n", 400),
        (PUT + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (PUT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (PUT + b"Content-Length: x\r\n\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (PUT + b"Content-Length: 600000000\r\n\r\nabc", 413),
        (PUT + b"Content-Length: 600000000\r\nExpect: 100-continue\r\n\r\n", 413),
        (PUT + b"Content-Length: 3\r\nExpect: miracles\r\n\r\n", 417),
        (PUT + b"\r\n", 411),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"y" * 4000) for n in range(20)), 431),
    ],
)
def test_what_is_no_request_is_told_in_json_and_ends_its_connection(sent: bytes, status: int) -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.open()
        writer.write(sent)
        told, headers, body = await answer(reader)
        assert told == status
        assert body["error"] and body["message"]
        assert headers["content-type"] == "application/json"
        if status not in (411, 417):
            assert await reader.read() == b""
        writer.close()
        await port.works()

    run(test, replace(LIMITS, linger_s=0.1))


def test_a_body_that_does_not_end() -> None:
    async def test(port: Port) -> None:
        status, headers, body = await port.says(PUT + b"Content-Length: 10\r\n\r\nabc")
        assert (status, headers["connection"], body["error"]) == (408, "close", "body_timeout")
        assert not port.node.records

    run(test, replace(LIMITS, body_timeout_s=0.1, linger_s=0.1))


def test_a_chunked_body_without_end_is_cut_at_the_limit() -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.open()
        writer.write(PUT + b"Transfer-Encoding: chunked\r\n\r\n")

        async def flood() -> None:
            try:
                while True:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
            except OSError:
                return

        flooding = asyncio.create_task(flood())
        status, _, body = await answer(reader)
        assert (status, body["limit"]) == (413, port.node.config.value_bytes_max)
        await until(lambda: not port.server.connections)
        await flooding
        await port.works()

    run(test, replace(LIMITS, linger_s=0.1))


def test_bodies_together_have_a_limit() -> None:
    async def test(port: Port) -> None:
        first = await port.open()
        first[1].write(PUT + b"Content-Length: 90000\r\n\r\n" + b"x" * 80_000)
        await until(lambda: port.server._held_bytes == 80_000)
        status, headers, body = await port.says(PUT + b"Content-Length: 30000\r\n\r\n" + b"y" * 30_000)
        assert (status, headers["retry-after"], body["error"]) == (503, "1", "overloaded")
        first[1].write(b"x" * 10_000)
        assert (await answer(first[0]))[0] == 200
        first[1].close()

    run(test, replace(LIMITS, held_bytes_max=100_000))


def test_a_slow_body_gives_way_to_others() -> None:
    async def test(port: Port) -> None:
        slow, slow_writer = await port.open()
        slow_writer.write(PUT + b"Content-Length: 90000\r\n\r\n" + b"x" * 80_000)
        await until(lambda: port.server._held_bytes == 80_000)
        status, _, _ = await port.says(PUT + b"Content-Length: 30000\r\n\r\n" + b"y" * 30_000)
        assert status == 200
        assert (await answer(slow))[0] == 408

    run(test, replace(LIMITS, held_bytes_max=100_000, body_yields_s=0.0, linger_s=0.1))


def test_connections_have_a_limit() -> None:
    async def test(port: Port) -> None:
        held = [await port.open() for _ in range(3)]
        await until(lambda: len(port.server.connections) == 3)
        status, headers, body = await port.says(b"")
        assert (status, headers["retry-after"], body["error"]) == (503, "1", "overloaded")
        held[0][1].close()
        await until(lambda: len(port.server.connections) == 2)
        await port.works()
        for _, writer in held:
            writer.close()

    run(test, replace(LIMITS, connections_max=3))


def test_who_says_nothing_is_let_go() -> None:
    async def test(port: Port) -> None:
        silent, halting = await port.open(), await port.open()
        halting[1].write(b"GET /health HT")
        for reader, writer in (silent, halting):
            assert await reader.read() == b""
            writer.close()

    run(test, replace(LIMITS, idle_timeout_s=0.2))


def test_who_does_not_read_is_let_go() -> None:
    async def test(port: Port) -> None:
        port.node.put(b"k", b"x" * 1_000_000, Level.parse(b"one"), cast(Sink, _Nobody()), 0)
        reader, writer = await port.open()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET.replace(b"/k ", b"/k?raw ") * 30)
        await until(lambda: bool(port.server._held_bytes))
        await until(lambda: not port.server.connections)
        await port.works()
        writer.close()
        del reader

    run(test, replace(LIMITS, send_timeout_s=0.1))


def test_who_sends_on_and_on_without_waiting_is_let_go() -> None:
    async def test(port: Port) -> None:
        _, writer = await port.open()
        writer.write(GET)
        await until(lambda: bool(port.node.waiting))
        writer.write((b"GET / HTTP/1.1\r\nX: " + b"x" * 4000 + b"\r\n\r\n") * 31)
        await until(lambda: not port.server.connections)
        port.node.release()
        writer.close()
        await port.works()

    run(test, replace(LIMITS, pipelined_bytes_max=50_000), delay=True)


def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async def test(port: Port) -> None:
        for sent in (GET, PUT + b"Content-Length: 3\r\n\r\nabc"):
            _, writer = await port.open()
            writer.write(sent)
            await until(lambda: bool(port.node.waiting))
            writer.close()
            await until(lambda: not port.server.connections)
            port.node.release()  # what it asked for is done, and told to nobody
        assert b"k" in port.node.records
        await port.works()

    run(test, delay=True)


def test_requests_in_flight_are_answered_before_the_end() -> None:
    async def test(port: Port) -> None:
        reader, writer = await port.open()
        idle, idle_writer = await port.open()
        writer.write(PUT + b"Content-Length: 3\r\n\r\nabc")
        await until(lambda: bool(port.node.waiting))
        draining = asyncio.create_task(port.server.drain(5.0))
        assert await idle.read() == b""
        idle_writer.close()
        with pytest.raises(OSError):
            await port.open()
        port.node.release()
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        await draining
        writer.close()

    run(test, delay=True)


def test_a_mistake_in_a_handler_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: Port) -> None:
        port.node.broken = True
        status, _, body = await port.says(GET)
        assert (status, body["error"]) == (500, "internal_error")
        port.node.broken = False
        await port.works()

    run(test)
    assert "request_failed" in caplog.text


def test_requests_that_come_together_share_a_turn() -> None:
    async def test(port: Port) -> None:
        turns = 0
        loop = asyncio.get_running_loop()

        class Counted(Turn):
            def _end(self) -> None:
                nonlocal turns
                turns += 1
                super()._end()

        server = HttpServer(loop, Counted(loop, port.node, port.node, lambda: None, lambda _: None), port.node)
        await server.listen("127.0.0.1", 0)
        open_ = [await asyncio.open_connection(*server.address) for _ in range(20)]
        await until(lambda: len(server.connections) == 20)
        for _, writer in open_:
            writer.write(GET)
        for reader, writer in open_:
            assert (await answer(reader))[0] == 404
            writer.close()
        assert turns < 20
        await server.drain(1.0)

    run(test)


class _Nobody:
    def stood_in(self, index: int) -> None: ...
    def stored(self, index: int, record: bytes) -> None: ...
