"""A few commands to a node, one connection each: all that the command line needs of the Redis protocol."""

from __future__ import annotations

import socket
from typing import TypeAlias

import hiredis

Reply: TypeAlias = "bytes | str | int | float | bool | list[Reply] | dict[bytes, Reply] | None"


class UnreachableError(Exception):
    """Nobody answers there, or not in time, or not in this protocol."""

    sent = False  # the command may have reached a node: what it was to change may be changed


class NodeError(Exception):
    """The node's own error reply."""


def call(host: str, port: int, *arguments: str | bytes, timeout_s: float = 2.0) -> Reply:
    """The reply to one command; raises UnreachableError or NodeError."""
    return _exchange(host, port, [arguments], timeout_s)


def call_mapped(host: str, port: int, *arguments: str | bytes, timeout_s: float = 2.0) -> dict[bytes, Reply]:
    """The reply to a command that answers with a map (RESP3)."""
    reply = _exchange(host, port, [("HELLO", "3"), arguments], timeout_s)
    if not isinstance(reply, dict):
        raise UnreachableError(f"{host}:{port} does not speak this protocol; is it a Ringwise node?")
    return reply


def _exchange(host: str, port: int, commands: list[tuple[str | bytes, ...]], timeout_s: float) -> Reply:
    """The last reply, once all have come."""
    try:
        return _asked(host, port, commands, timeout_s)
    except hiredis.ProtocolError as error:
        raise UnreachableError(f"{host}:{port} does not speak the Redis protocol") from error


def _asked(host: str, port: int, commands: list[tuple[str | bytes, ...]], timeout_s: float) -> Reply:
    sent = False
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            sent = True
            connection.sendall(b"".join(map(_encoded, commands)))
            reader = hiredis.Reader(replyError=NodeError)
            left = len(commands)
            while True:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError(0, "closed the connection")
                reader.feed(data)
                while (reply := reader.gets()) is not False:
                    if isinstance(reply, NodeError):
                        raise reply
                    left -= 1
                    if not left:
                        return reply  # type: ignore[no-any-return]
    except OSError as error:
        unreachable = UnreachableError(f"{host}:{port}: {error.strerror or 'no answer in time'}")
        unreachable.sent = sent
        raise unreachable from error


def _encoded(words: tuple[str | bytes, ...]) -> bytes:
    # Bytes on the command line that are no UTF-8 are the bytes that are meant.
    parts = [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
