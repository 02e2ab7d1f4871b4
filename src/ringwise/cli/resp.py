"""A few commands to a node, one connection each: all that the command line needs of the Redis protocol."""

from __future__ import annotations

import socket
from typing import TypeAlias

import hiredis

Reply: TypeAlias = "bytes | str | int | float | bool | list[Reply] | dict[bytes, Reply] | None"

Commands: TypeAlias = list[tuple[str | bytes, ...]]


class UnreachableError(Exception):
    """Nobody answers there, or not in time, or not in this protocol."""

    sent = False  # the command may have reached a node: what it was to change may be changed


class NodeError(Exception):
    """The node's own error reply."""


def call(host: str, port: int, *arguments: str | bytes, timeout_s: float = 2.0) -> Reply:
    """The reply to one command; raises UnreachableError or NodeError."""
    return _exchange(host, port, [[arguments]], timeout_s)


def call_typed(host: str, port: int, *arguments: str | bytes, timeout_s: float = 2.0) -> Reply:
    """The reply to a command whose answer has maps in it (RESP3)."""
    return _exchange(host, port, [[("HELLO", "3"), arguments]], timeout_s)


def call_mapped(
    host: str, port: int, *arguments: str | bytes, timeout_s: float = 2.0, bucket: str = ""
) -> dict[bytes, Reply]:
    """The reply to a command that answers with a map (RESP3), in a bucket."""
    hello = ("HELLO", "3")
    stages: list[Commands] = [[hello, ("SELECT", bucket)], [arguments]] if bucket else [[hello, arguments]]
    reply = _exchange(host, port, stages, timeout_s)
    if not isinstance(reply, dict):
        raise UnreachableError(f"{host}:{port} does not speak this protocol; is it a Ringwise node?")
    return reply


def _exchange(host: str, port: int, stages: list[Commands], timeout_s: float) -> Reply:
    """The last reply. A stage is sent when the one before it was answered, and only if that went well."""
    try:
        return _asked(host, port, stages, timeout_s)
    except hiredis.ProtocolError as error:
        raise UnreachableError(f"{host}:{port} does not speak the Redis protocol") from error


def _asked(host: str, port: int, stages: list[Commands], timeout_s: float) -> Reply:
    sent = False
    reply: Reply = None
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            reader = hiredis.Reader(replyError=NodeError)
            for commands in stages:
                sent = commands is stages[-1]
                connection.sendall(b"".join(map(_encoded, commands)))
                for _ in commands:
                    reply = _next(connection, reader)
            return reply
    except OSError as error:
        unreachable = UnreachableError(f"{host}:{port}: {error.strerror or 'no answer in time'}")
        unreachable.sent = sent
        raise unreachable from error


def _next(connection: socket.socket, reader: hiredis.Reader) -> Reply:
    while (reply := reader.gets()) is False:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError(0, "closed the connection")
        reader.feed(data)
    if isinstance(reply, NodeError):
        raise reply
    return reply  # type: ignore[no-any-return]


def _encoded(words: tuple[str | bytes, ...]) -> bytes:
    # Bytes on the command line that are no UTF-8 are the bytes that are meant.
    parts = [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
