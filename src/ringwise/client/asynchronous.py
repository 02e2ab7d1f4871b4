"""`AsyncClient`: the same on asyncio, one protocol object a connection; no task, thread or stream of its own.

A connection serves one call at a time. Whatever ends a call before its last reply (a timeout, a cancellation, an exception)
leaves the connection unusable, and the pool closes it: a reply can only ever reach the call that is waiting on its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import hiredis

from ringwise.client import commands
from ringwise.client.async_handles import AsyncCounter, AsyncLeaderboard, AsyncMap, AsyncSet
from ringwise.client.commands import Command, Text
from ringwise.client.errors import RingwiseError, StillConflicting, TimedOut
from ringwise.client.exchange import Exchange
from ringwise.client.many import MERGES_MAX, batches, merged_reply, of_many, of_single
from ringwise.client.results import Reply, Sibling, Written
from ringwise.client.routing import Address, Routing

T = TypeVar("T")
K = TypeVar("K", str, bytes)


class _Link(asyncio.Protocol):
    """One connection. `usable` is False from a request's first byte until its last reply, and for ever once it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.replies: list[Any] = []
        self.sent = False
        self.usable = True
        self.entered = False  # its bucket is selected
        self._loop = loop
        self._reader = hiredis.Reader()
        self._count = 0
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.room: asyncio.Semaphore | None = None  # that of the pool, which a call gives back
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        waiter, replies, reader = self._waiter, self.replies, self._reader
        if waiter is None or waiter.done():  # nobody waits: an abandoned call's reply, or one too many
            self.close()
            return
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except hiredis.HiredisError as error:
            self._fail(error)
            return
        if len(replies) > self._count or (len(replies) == self._count and reader.has_data()):
            self._fail(ConnectionAbortedError("a reply that nobody had asked for"))
        elif len(replies) == self._count:
            self._waiter = None
            self.usable = True
            waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error if isinstance(error, OSError) else ConnectionResetError("the node closed the connection"))
        if not self.closed.done():
            self.closed.set_result(None)

    async def exchange(self, payload: bytes, count: int, deadline: float) -> list[Any]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the node closed the connection")
        self.usable = False
        self.sent = True
        self.replies = []
        self._count = count
        waiter = self._waiter = self._loop.create_future()
        self._transport.write(payload)
        timer = self._loop.call_later(left, self._expire, waiter)
        try:
            await waiter
            return self.replies
        finally:
            timer.cancel()

    def close(self) -> None:
        """At once: what is still to be sent is dropped, since nobody waits for its reply."""
        self.usable = False
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):  # its event loop was closed before it
                self._transport.abort()

    def _expire(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError("timed out"))

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


class _Pool:
    """Idle connections by address, and a bound on those in use; of one event loop, and anew where another one runs."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: dict[Address, list[_Link]] = {}
        self._open: set[_Link] = set()
        self._room = asyncio.Semaphore(size)
        self._closed = False

    async def acquire(self, address: Address, deadline: float, connect_deadline: float) -> _Link:
        if self._closed:
            raise ValueError("the client is closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._renew(loop)
        room = self._room
        if room.locked():
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await room.acquire()
            except TimeoutError:
                raise TimedOut(f"none of the {self._size} connections became free; nothing was sent") from None
        else:
            await room.acquire()
        try:
            idle = self._idle.get(address)
            while idle:
                link = idle.pop()
                if link.usable:
                    link.room = room
                    return link
                self._discard(link)
            link = await self._connect(loop, address, min(deadline, connect_deadline))
            link.room = room
            return link
        except BaseException:
            room.release()
            raise

    async def _connect(self, loop: asyncio.AbstractEventLoop, address: Address, deadline: float) -> _Link:
        link = _Link(loop)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await loop.create_connection(lambda: link, *address)
        except BaseException:
            link.close()
            raise
        self._open.add(link)
        return link

    def release(self, address: Address, link: _Link) -> None:
        if link.usable and not self._closed:
            self._idle.setdefault(address, []).append(link)
        else:
            self._discard(link)
        if link.room is not None:
            link.room.release()

    def drop(self, address: Address) -> None:
        for link in self._idle.pop(address, []):
            self._discard(link)

    def _discard(self, link: _Link) -> None:
        self._open.discard(link)
        link.close()

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        for link in self._open:
            link.close()
        self._open.clear()
        self._idle.clear()
        self._room = asyncio.Semaphore(self._size)
        self._loop = loop

    async def close(self) -> None:
        self._closed = True
        links = [link for links in self._idle.values() for link in links]
        self._idle.clear()
        for link in links:
            self._discard(link)
        here = asyncio.get_running_loop()
        await asyncio.gather(*(link.closed for link in links if link.closed.get_loop() is here))


class AsyncClient:
    """As `Client`, on asyncio: hundreds of tasks may share one; on whatever event loop is running.

    `timeout`: seconds for a whole call, tries on other nodes included. `level`: the default consistency level; None leaves
    it to the bucket, or the node. `bucket`: the name, or the number from 0 to 15, of that whose keys these are.
    """

    def __init__(
        self,
        addresses: str | Iterable[str] = ("127.0.0.1:7379",),
        *,
        timeout: float = 5.0,
        level: str | None = None,
        max_connections: int = 128,
        bucket: str | int = 0,
    ) -> None:
        self._timeout = commands.checked_timeout(timeout)
        self._level = level
        self._addresses = [addresses] if isinstance(addresses, str) else list(addresses)
        self._select = commands.select(bucket) if bucket != 0 else None
        self._routing = Routing(self._addresses, random.Random())
        self._max_connections = commands.checked_count(max_connections, "max_connections", 1)
        self._pool = _Pool(self._max_connections)

    def bucket(self, bucket: str | int) -> AsyncClient:
        """The same cluster and settings, for the keys of another bucket; with connections of its own, to be closed by itself."""
        return AsyncClient(
            self._addresses,
            timeout=self._timeout,
            level=self._level,
            max_connections=self._max_connections,
            bucket=bucket,
        )

    async def put(
        self,
        key: Text,
        value: Text,
        *,
        ttl: float | None = None,
        context: bytes | None = None,
        content_type: str = "",
        flags: int = 0,
        level: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Writes a value. With the `context` of a read it replaces exactly what that read showed. `ttl` in seconds."""
        options: dict[str, Any] = {"ttl": ttl, "context": context, "content_type": content_type, "flags": flags}
        return await self._one(commands.put(key, value, level or self._level, **options), timeout)

    async def get(
        self,
        key: Text,
        *,
        resolve: Callable[[tuple[Sibling, ...]], Text] | None = None,
        level: str | None = None,
        timeout: float | None = None,
    ) -> Reply | None:
        """The key with all its siblings, newest first; None where it does not exist.

        `resolve`: where there are siblings, it is called with them, and the value that it returns is written in their place.
        """
        deadline = self._deadline(timeout)
        command = commands.get(key, level or self._level)
        reply = of_single(await self._run([command], deadline))
        if resolve is None or reply is None or not reply.conflict:
            return reply
        for _ in range(MERGES_MAX):
            value = commands.as_bytes(resolve(reply.siblings), "merged value")
            newest = reply.siblings[0]
            merge = commands.merge(key, value, level or self._level, reply)
            written = of_single(await self._run([merge], deadline))
            if written.context is not None and written.version is not None:
                return merged_reply(newest, value, written)
            reply = of_single(await self._run([command], deadline))
            if reply is None or not reply.conflict:
                return reply
        raise StillConflicting(f"merged {MERGES_MAX} times, and each time somebody else had written meanwhile")

    async def delete(
        self, key: Text, *, context: bytes | None = None, level: str | None = None, timeout: float | None = None
    ) -> Written:
        """Deletes what `context` has seen; without one, all that a read shows now. No error where there is nothing."""
        return await self._one(commands.delete(key, level or self._level, context), timeout)

    async def exists(self, key: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return await self._one(commands.exists(key, level or self._level), timeout)

    async def ttl(self, key: Text, *, level: str | None = None, timeout: float | None = None) -> float | None:
        """Seconds that are left to the newest sibling; None: for ever. `KeyError` where the key does not exist."""
        reply = await self.get(key, level=level, timeout=timeout)
        if reply is None:
            raise KeyError(key)
        return reply.ttl

    async def get_many(
        self, keys: Iterable[K], *, level: str | None = None, timeout: float | None = None
    ) -> dict[K, Reply | None]:
        """Many keys, pipelined. Where some fail: `PartialFailure`, with the errors by key and the other results."""
        wanted = {key: commands.get(key, level or self._level) for key in keys}
        return await self._many(wanted, timeout)

    async def put_many(
        self,
        items: Mapping[K, Text],
        *,
        ttl: float | None = None,
        level: str | None = None,
        timeout: float | None = None,
    ) -> dict[K, Written]:
        """Many puts, pipelined, each by itself. Where some fail: `PartialFailure`."""
        wanted = {key: commands.put(key, value, level or self._level, ttl=ttl) for key, value in items.items()}
        return await self._many(wanted, timeout)

    async def scan(
        self, prefix: Text = b"", *, count: int = 500, level: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[bytes]:
        """The keys that begin with `prefix`, in no order; page by page, `timeout` for each. A node may die meanwhile."""
        cursor = 0
        while True:
            cursor, keys = await self._one(commands.scan(cursor, prefix, count, level or self._level), timeout)
            for found in keys:
                yield found
            if not cursor:
                return

    def counter(self, key: Text, *, session: Text | None = None) -> AsyncCounter:
        """A number that any node adds to. Make one handle and keep it: `increment_once` numbers by handle, unless it is named."""
        return AsyncCounter(self._one, key, self._level, session)

    def set(self, key: Text) -> AsyncSet:
        """A set that any node changes."""
        return AsyncSet(self._one, key, self._level)

    def map(self, key: Text) -> AsyncMap:
        """A hash that any node changes, each field by itself."""
        return AsyncMap(self._one, key, self._level)

    def leaderboard(self, key: Text) -> AsyncLeaderboard:
        """Members ranked by their scores."""
        return AsyncLeaderboard(self._one, key, self._level)

    async def close(self) -> None:
        """Closes the connections; those in use are closed when their calls end. Calls after it raise ValueError."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else commands.checked_timeout(timeout))

    async def _one(self, command: Command[T], timeout: float | None) -> T:
        return of_single(await self._run([command], self._deadline(timeout)))

    async def _many(self, wanted: dict[K, Command[T]], timeout: float | None) -> dict[K, T]:
        deadline = self._deadline(timeout)
        outcomes: list[T | RingwiseError] = []
        for batch in batches(list(wanted.values())):
            outcomes += (await self._run(batch, deadline)).outcomes
        return of_many(list(wanted), outcomes)

    async def _run(self, asked: list[Command[T]], deadline: float) -> Exchange[T]:
        exchange = Exchange(asked, self._routing, deadline)
        while exchange.pending:
            pause = exchange.begin(time.monotonic())
            if not exchange.pending:
                break
            if pause:
                await asyncio.sleep(pause)
            await self._attempt(exchange)
        return exchange

    async def _attempt(self, exchange: Exchange[T]) -> None:
        address, until = exchange.address, exchange.attempt_deadline
        link: _Link | None = None
        asked = False
        try:
            link = await self._pool.acquire(address, until, exchange.connect_deadline)
            await self._learn(link, until)
            await self._enter(link, until)
            link.replies = []
            link.sent = False
            asked = True
            replies = await link.exchange(exchange.payload(), len(exchange.pending), until)
        except RingwiseError as error:
            exchange.unsent(error)
        except (OSError, hiredis.HiredisError) as error:
            if not isinstance(error, TimeoutError):
                self._pool.drop(address)
            sent = asked and link is not None and link.sent
            exchange.lost(link.replies if link is not None and sent else [], error, time.monotonic(), sent=sent)
        else:
            exchange.answered(replies)
        finally:
            if link is not None:
                self._pool.release(address, link)

    async def _learn(self, link: _Link, deadline: float) -> None:
        """Now and then, before a request: who else is there to turn to."""
        if self._routing.wants_members(time.monotonic()):
            command = commands.members()
            outcome = command.outcome((await link.exchange(command.wire, 1, deadline))[0])
            if not isinstance(outcome, RingwiseError):
                self._routing.learn(outcome)
            link.replies = []

    async def _enter(self, link: _Link, deadline: float) -> None:
        """Once for each connection: the bucket that it is for. Raises RingwiseError where there is none; nothing else is sent."""
        if self._select is not None and not link.entered:
            outcome = self._select.outcome((await link.exchange(self._select.wire, 1, deadline))[0])
            link.replies = []
            if isinstance(outcome, RingwiseError):
                raise outcome
            link.entered = True
