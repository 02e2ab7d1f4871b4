"""The HTTP port: aiohttp's server protocol on the node's own loop, and what bounds it.

    aiohttp (parser, keep-alive, chunks) ─▶ App.match ─▶ body, within its limit and time ─▶ App.answer ─▶ sent, within its time

Every request is one task of the loop, and enters the turn like any other input, so requests that come together share it. The
limits keep clients that misbehave to themselves: who is slow loses the connection, and what all of them together hold in
memory is bounded (`Limits`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from ringwise.runtime import log
from ringwise.runtime.turn import Turn
from ringwise.server.http.app import App, body_too_large
from ringwise.server.http.ask import Ask, Node
from ringwise.server.http.message import RETRY_SOON_S, Answer, Refusal

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    connections_max: int = 1000  # some 20 KiB each; HTTP clients pool, and the Redis port is there for more
    head_bytes_max: int = 32 * 1024  # one request's line and headers; a context may take 8 KiB of it
    line_bytes_max: int = 8190  # as Apache and nginx
    headers_max: int = 64
    # Behind a request that is not answered yet a client may send so much; aiohttp stops reading at 32 requests, or when a body
    # is not taken, which is earlier for all that is no mischief.
    pipelined_bytes_max: int = 1024 * 1024
    # Bodies and answers of all connections together; past it requests are refused, not queued, unless there is a body to cut
    # off that has been coming for so long: slow senders must not keep the others out.
    held_bytes_max: int = 32 * 1024 * 1024
    body_yields_s: float = 2.0
    body_timeout_s: float = 20.0  # the largest body in that time is 100 KiB a second
    send_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0  # between requests, and until the head of the first is complete; as nginx
    # A client that was refused is still sending: reading on for a while lets it see the answer rather than a reset.
    linger_s: float = 2.0


LIMITS = Limits()


class _Connection(web.RequestHandler):
    """aiohttp's protocol, with JSON for what it refuses by itself, and bounds that it does not have."""

    __slots__ = ("_pending_bytes", "_server")

    def __init__(self, server: HttpServer, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._server = server
        self._pending_bytes = 0  # since the last time that nothing was left over

    # What goes wrong in these three must end this connection, and not reach the loop's handler, which would end the node.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        if len(self._server.connections) < self._server.limits.connections_max:
            self._server.connections.add(self)
            super().connection_made(wire)
        else:
            wire.write(_TOO_MANY)
            wire.close()

    def data_received(self, data: bytes) -> None:
        if self.transport is None:  # not let in
            return
        try:
            super().data_received(data)
            self._bound(len(data))
        except Exception as error:
            log.error("request_failed", error)
            self.force_close()

    async def start(self) -> None:
        try:
            await super().start()
        except Exception as error:
            log.error("request_failed", error)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.connections.discard(self)
        super().connection_lost(exc)

    def _bound(self, size: int) -> None:
        """Ends a connection that sends a head without end, or requests without waiting for answers."""
        waits = self._waiter is not None and not self._waiter.done()
        request = self._current_request
        busy = not waits and request is not None and request.content.is_eof()
        if self.transport is None or not (waits or busy):
            self._pending_bytes = 0
            return
        self._pending_bytes += size
        limits = self._server.limits
        if waits and self._pending_bytes > limits.head_bytes_max:
            self.transport.write(_HEAD_TOO_LARGE)
            self.force_close()
        elif busy and self._pending_bytes > limits.pipelined_bytes_max:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, and mistakes of this program. Always the end of the connection."""
        if isinstance(exc, HttpProcessingError):
            refusal = _malformed(exc)
        else:
            log.error("request_failed", exc, client=request.remote)
            refusal = Refusal(500, "internal_error", "a mistake in this program; its log says more")
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        return _response(refusal.answer(), close=True)


def _malformed(error: HttpProcessingError) -> Refusal:
    if isinstance(error, LineTooLong) or "many headers" in error.message.lower():
        return Refusal(431, "head_too_large", "the request line or a header is too long, or there are too many headers")
    first = error.message.strip().splitlines()[0] if error.message.strip() else "it cannot be read"
    return Refusal(400, "malformed_request", f"this is no HTTP request ({first.rstrip(':')})")


class _Server(web.Server):
    """Makes connections that know their bounds."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.handle, handler_cancellation=True)
        self._http = server

    def __call__(self) -> web.RequestHandler:
        limits = self._http.limits
        return _Connection(
            self._http,
            self,
            loop=self._http.loop,
            access_log=None,
            logger=logging.getLogger("ringwise.http"),
            keepalive_timeout=limits.idle_timeout_s,
            lingering_time=limits.linger_s,
            max_line_size=limits.line_bytes_max,
            max_field_size=limits.line_bytes_max,
            max_headers=limits.headers_max,
            auto_decompress=False,  # a value is what was sent
        )


class HttpServer:
    """Listens, answers, and lets go of its clients when the node stops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, node: Node, limits: Limits = LIMITS) -> None:
        self.loop = loop
        self.limits = limits
        self.connections: set[_Connection] = set()
        self.app = App(Ask(node, turn.enter, loop.create_future), self._why_not)
        self._held_bytes = 0
        self._coming: dict[_Held, None] = {}  # bodies, the oldest first
        self._stopping = False
        self._server = _Server(self)
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Opens the port; raises OSError."""
        self._listener = await self.loop.create_server(self._server, host, port, backlog=BACKLOG)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._listener is not None
        host, port = self._listener.sockets[0].getsockname()[:2]
        return host, port

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and wait until what was taken is answered, or has had its time."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(timeout_s)

    def _why_not(self) -> str | None:
        return "this node is stopping" if self._stopping else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its head to the last byte of its answer."""
        held = _Held(self)
        try:
            close = False
            try:
                match = self.app.match(request.method, request.raw_path, request.headers)
                if match.body_bytes_max is not None:
                    match.request.body = await self._body(request, match.body_bytes_max, held)
                answer = await self.app.answer(match)
                held.take(len(answer.body))
            except Refusal as refusal:
                answer = refusal.answer()
                close = not request.content.is_eof()  # what is still to come of it is nobody's
            response = _response(answer, close=close or self._stopping)
            async with asyncio.timeout(self.limits.send_timeout_s):
                await response.prepare(request)
                await response.write_eof()
            return response
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()  # it does not read: closing would wait for it
            raise ConnectionResetError("the client does not read") from error
        finally:
            held.release()

    async def _body(self, request: web.BaseRequest, limit: int, held: _Held) -> bytes:
        """The whole body; raises Refusal where it is too large or too slow."""
        expects = request.headers.get("Expect", "").strip().lower()
        if expects == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # that was not the answer yet
        elif expects:
            raise Refusal(417, "unknown_expectation", "100-continue is the only expectation that is met")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_timeout_s) as held.deadline:
                self._coming[held] = None
                while chunk := await request.content.readany():
                    size += len(chunk)
                    if size > limit:
                        raise body_too_large(limit)
                    held.take(len(chunk))
                    chunks.append(chunk)
        except TimeoutError as error:
            message = "the body did not end in time; send it faster, or in smaller pieces"
            raise Refusal(408, "body_timeout", message, limit_s=self.limits.body_timeout_s) from error
        except web.RequestPayloadError as error:
            raise Refusal(400, "malformed_body", "the body's chunks or length are wrong") from error
        finally:
            self._coming.pop(held, None)
        return b"".join(chunks)


class _Held:
    """What one request holds of the memory that all requests share."""

    __slots__ = ("_bytes", "_server", "_since_s", "deadline")

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._bytes = 0
        self._since_s = server.loop.time()
        self.deadline: asyncio.Timeout | None = None  # of the body

    def take(self, size: int) -> None:
        """Raises Refusal where there is no room."""
        server = self._server
        while server._held_bytes + size > server.limits.held_bytes_max:
            slowest = next(iter(server._coming), self)
            if slowest is not self and slowest._yield():
                continue
            message = "requests hold as much memory as they may; try again after a pause"
            raise Refusal(503, "overloaded", message, {"Retry-After": str(RETRY_SOON_S)})
        server._held_bytes += size
        self._bytes += size

    def _yield(self) -> bool:
        """Ends this body now, where it has had its time."""
        server = self._server
        now_s = server.loop.time()
        if self.deadline is None or now_s - self._since_s < server.limits.body_yields_s:
            return False
        del server._coming[self]
        self.release()
        self.deadline.reschedule(now_s)
        return True

    def release(self) -> None:
        self._server._held_bytes -= self._bytes
        self._bytes = 0


def _response(answer: Answer, *, close: bool = False) -> web.Response:
    headers = dict(answer.headers)
    if answer.status not in (204, 304):
        headers["Content-Type"] = answer.content_type
    headers["Server"] = "Ringwise"
    headers.setdefault("Cache-Control", "no-cache")  # ask again each time, with the ETag
    response = web.Response(status=answer.status, body=answer.body or None, headers=headers)
    if close:
        response.force_close()
    return response


def _bare(refusal: Refusal, reason: str) -> bytes:
    """An answer outside aiohttp, for who is not let in."""
    answer = refusal.answer()
    headers = {**answer.headers, "Content-Type": answer.content_type, "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"Content-Length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + answer.body


_TOO_MANY = _bare(
    Refusal(
        503,
        "overloaded",
        "this node has as many HTTP connections as it takes; keep fewer open, or use another node",
        {"Retry-After": str(RETRY_SOON_S)},
    ),
    "Service Unavailable",
)
_HEAD_TOO_LARGE = _bare(
    Refusal(431, "head_too_large", "the head of a request has at most 32 KiB"), "Request Header Fields Too Large"
)
