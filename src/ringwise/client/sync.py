"""`Client`: blocking sockets, a bounded pool, any number of threads. No thread of its own."""

from __future__ import annotations

import os
import random
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import hiredis

from ringwise.client import commands
from ringwise.client.commands import Command, Text
from ringwise.client.errors import RingwiseError, StillConflicting, TimedOut
from ringwise.client.exchange import Exchange
from ringwise.client.handles import Counter, Leaderboard, Map, Set
from ringwise.client.many import MERGES_MAX, batches, merged_reply, of_many, of_single
from ringwise.client.results import Reply, Sibling, Written
from ringwise.client.routing import Address, Routing

T = TypeVar("T")
K = TypeVar("K", str, bytes)

READ_BYTES = 64 * 1024


class _Link:
    """One connection. `usable` is False from a request's first byte until its last reply: an abandoned one is never pooled."""

    def __init__(self, address: Address, deadline: float) -> None:
        self.replies: list[Any] = []
        self.sent = False
        self.usable = True
        self.entered = False  # its bucket is selected
        self._reader = hiredis.Reader()
        self._socket = socket.create_connection(address, _left(deadline))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def idle(self) -> bool:
        """Whether it is still open, with nothing to read: neither an end nor a reply that nobody waits for."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, payload: bytes, count: int, deadline: float) -> list[Any]:
        self._socket.settimeout(_left(deadline))
        self.usable = False
        replies: list[Any] = []
        self.replies = replies
        self.sent = True
        self._socket.sendall(payload)
        reader = self._reader
        while len(replies) < count:
            self._socket.settimeout(_left(deadline))
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the node closed the connection")
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        if len(replies) > count or reader.has_data():
            raise ConnectionAbortedError("a reply that nobody had asked for")
        self.usable = True
        return replies

    def close(self) -> None:
        self.usable = False
        self._socket.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Pool:
    """Idle connections by address, and a bound on those in use."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Also what a forked child does: the connections belong to its parent, which goes on using them."""
        self._idle: dict[Address, list[_Link]] = {}
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(self._size)
        self._closed = False

    def acquire(self, address: Address, deadline: float, connect_deadline: float) -> _Link:
        if self._closed:
            raise ValueError("the client is closed")
        if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimedOut(f"none of the {self._size} connections became free; nothing was sent")
        try:
            while True:
                with self._lock:
                    idle = self._idle.get(address)
                    link = idle.pop() if idle else None
                if link is None:
                    return _Link(address, min(deadline, connect_deadline))
                if link.idle():
                    return link
                link.close()
        except BaseException:
            self._room.release()
            raise

    def release(self, address: Address, link: _Link) -> None:
        with self._lock:
            if link.usable and not self._closed:
                self._idle.setdefault(address, []).append(link)
            else:
                link.close()
        self._room.release()

    def drop(self, address: Address) -> None:
        """Forgets the idle connections to a node that has failed."""
        with self._lock:
            links = self._idle.pop(address, [])
        for link in links:
            link.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for links in idle.values():
            for link in links:
                link.close()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


class Client:
    """A cluster, through any of its nodes. Threads may share one; see docs/client.md.

    `timeout`: seconds for a whole call, tries on other nodes included. `level`: the default consistency level; None leaves
    it to the bucket, or the node. `bucket`: the name, or the number from 0 to 15, of that whose keys these are.
    """

    def __init__(
        self,
        addresses: str | Iterable[str] = ("127.0.0.1:7379",),
        *,
        timeout: float = 5.0,
        level: str | None = None,
        max_connections: int = 64,
        bucket: str | int = 0,
    ) -> None:
        self._timeout = commands.checked_timeout(timeout)
        self._level = level
        self._addresses = [addresses] if isinstance(addresses, str) else list(addresses)
        self._select = commands.select(bucket) if bucket != 0 else None
        self._routing = Routing(self._addresses, random.Random())
        self._max_connections = commands.checked_count(max_connections, "max_connections", 1)
        self._pool = _Pool(self._max_connections)
        _clients.add(self)

    def bucket(self, bucket: str | int) -> Client:
        """The same cluster and settings, for the keys of another bucket; with connections of its own, to be closed by itself."""
        return Client(
            self._addresses,
            timeout=self._timeout,
            level=self._level,
            max_connections=self._max_connections,
            bucket=bucket,
        )

    def put(
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
        return self._one(commands.put(key, value, level or self._level, **options), timeout)

    def get(
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
        reply = of_single(self._run([command], deadline))
        if resolve is None or reply is None or not reply.conflict:
            return reply
        for _ in range(MERGES_MAX):
            value = commands.as_bytes(resolve(reply.siblings), "merged value")
            newest = reply.siblings[0]
            merge = commands.merge(key, value, level or self._level, reply)
            written = of_single(self._run([merge], deadline))
            if written.context is not None and written.version is not None:
                return merged_reply(newest, value, written)
            reply = of_single(self._run([command], deadline))
            if reply is None or not reply.conflict:
                return reply
        raise StillConflicting(f"merged {MERGES_MAX} times, and each time somebody else had written meanwhile")

    def delete(
        self, key: Text, *, context: bytes | None = None, level: str | None = None, timeout: float | None = None
    ) -> Written:
        """Deletes what `context` has seen; without one, all that a read shows now. No error where there is nothing."""
        return self._one(commands.delete(key, level or self._level, context), timeout)

    def exists(self, key: Text, *, level: str | None = None, timeout: float | None = None) -> bool:
        return self._one(commands.exists(key, level or self._level), timeout)

    def ttl(self, key: Text, *, level: str | None = None, timeout: float | None = None) -> float | None:
        """Seconds that are left to the newest sibling; None: for ever. `KeyError` where the key does not exist."""
        reply = self.get(key, level=level, timeout=timeout)
        if reply is None:
            raise KeyError(key)
        return reply.ttl

    def get_many(
        self, keys: Iterable[K], *, level: str | None = None, timeout: float | None = None
    ) -> dict[K, Reply | None]:
        """Many keys, pipelined. Where some fail: `PartialFailure`, with the errors by key and the other results."""
        wanted = {key: commands.get(key, level or self._level) for key in keys}
        return self._many(wanted, timeout)

    def put_many(
        self,
        items: Mapping[K, Text],
        *,
        ttl: float | None = None,
        level: str | None = None,
        timeout: float | None = None,
    ) -> dict[K, Written]:
        """Many puts, pipelined, each by itself. Where some fail: `PartialFailure`."""
        wanted = {key: commands.put(key, value, level or self._level, ttl=ttl) for key, value in items.items()}
        return self._many(wanted, timeout)

    def scan(
        self, prefix: Text = b"", *, count: int = 500, level: str | None = None, timeout: float | None = None
    ) -> Iterator[bytes]:
        """The keys that begin with `prefix`, in no order; page by page, `timeout` for each. A node may die meanwhile."""
        cursor = 0
        while True:
            cursor, keys = self._one(commands.scan(cursor, prefix, count, level or self._level), timeout)
            yield from keys
            if not cursor:
                return

    def counter(self, key: Text, *, session: Text | None = None) -> Counter:
        """A number that any node adds to. Make one handle and keep it: `increment_once` numbers by handle, unless it is named."""
        return Counter(self._one, key, self._level, session)

    def set(self, key: Text) -> Set:
        """A set that any node changes."""
        return Set(self._one, key, self._level)

    def map(self, key: Text) -> Map:
        """A hash that any node changes, each field by itself."""
        return Map(self._one, key, self._level)

    def leaderboard(self, key: Text) -> Leaderboard:
        """Members ranked by their scores."""
        return Leaderboard(self._one, key, self._level)

    def close(self) -> None:
        """Closes the connections; those in use are closed when their calls end. Calls after it raise ValueError."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else commands.checked_timeout(timeout))

    def _one(self, command: Command[T], timeout: float | None) -> T:
        return of_single(self._run([command], self._deadline(timeout)))

    def _many(self, wanted: dict[K, Command[T]], timeout: float | None) -> dict[K, T]:
        deadline = self._deadline(timeout)
        outcomes: list[T | RingwiseError] = []
        for batch in batches(list(wanted.values())):
            outcomes += self._run(batch, deadline).outcomes
        return of_many(list(wanted), outcomes)

    def _run(self, asked: list[Command[T]], deadline: float) -> Exchange[T]:
        exchange = Exchange(asked, self._routing, deadline)
        while exchange.pending:
            pause = exchange.begin(time.monotonic())
            if not exchange.pending:
                break
            if pause:
                time.sleep(pause)
            self._attempt(exchange)
        return exchange

    def _attempt(self, exchange: Exchange[T]) -> None:
        address, until = exchange.address, exchange.attempt_deadline
        link: _Link | None = None
        asked = False
        try:
            link = self._pool.acquire(address, until, exchange.connect_deadline)
            self._learn(link, until)
            self._enter(link, until)
            link.replies = []
            link.sent = False
            asked = True
            replies = link.exchange(exchange.payload(), len(exchange.pending), until)
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

    def _learn(self, link: _Link, deadline: float) -> None:
        """Now and then, before a request: who else is there to turn to."""
        if self._routing.wants_members(time.monotonic()):
            command = commands.members()
            outcome = command.outcome(link.exchange(command.wire, 1, deadline)[0])
            if not isinstance(outcome, RingwiseError):
                self._routing.learn(outcome)
            link.replies = []

    def _enter(self, link: _Link, deadline: float) -> None:
        """Once for each connection: the bucket that it is for. Raises RingwiseError where there is none; nothing else is sent."""
        if self._select is not None and not link.entered:
            outcome = self._select.outcome(link.exchange(self._select.wire, 1, deadline)[0])
            link.replies = []
            if isinstance(outcome, RingwiseError):
                raise outcome
            link.entered = True


def _after_fork() -> None:
    for client in list(_clients):
        client._pool.reset()


os.register_at_fork(after_in_child=_after_fork)
