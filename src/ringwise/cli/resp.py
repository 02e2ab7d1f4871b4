"""A few commands to a node, one connection each: all that the command line needs of the Redis protocol."""

from __future__ import annotations

import socket
from typing import TypeAlias

import hiredis

Reply: TypeAlias = "bytes | str | int | float | bool | list[Reply] | None"


class UnreachableError(Exception):
    """Nobody answers there, or not in time, or not in this protocol."""


class NodeError(Exception):
    """The node's own error reply."""


def call(host: str, port: int, *arguments: str, timeout_s: float = 2.0) -> Reply:
    """The reply to one command; raises UnreachableError or NodeError."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            words = [word.encode() for word in arguments]
            parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
            connection.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
            reader = hiredis.Reader(protocolError=UnreachableError, replyError=NodeError)
            while True:
                data = connection.recv(65536)
                if not data:
                    raise UnreachableError(f"{host}:{port} closed the connection")
                reader.feed(data)
                reply = reader.gets()
                if isinstance(reply, NodeError):
                    raise reply
                if reply is not False:
                    return reply  # type: ignore[no-any-return]
    except OSError as error:
        raise UnreachableError(f"{host}:{port}: {error.strerror or 'no answer in time'}") from error
