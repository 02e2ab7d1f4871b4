"""Connections that never leave the machine: what they are spared.

Nodes that reach one another over 127.0.0.0/8 talk through a Unix socket that is named after the peer address, at about half
the system time of TCP on loopback (`make bench`, pipelined). It is in Linux's abstract name space, which belongs to the network
name space: two nodes in different ones do not find each other there, and then TCP tells why.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress


def unpaced_on_loopback(sock: socket.socket) -> None:
    """Takes a connection within this machine off a congestion control that paces, such as BBR, where that is the system's.

    There is no path to probe on loopback, and pacing costs a timer for what could be sent at once. Over a network the
    system's choice stands.
    """
    if sock.family == socket.AF_INET and sock.getpeername()[0].startswith("127.") and hasattr(socket, "TCP_CONGESTION"):
        with suppress(OSError):  # a system without it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def local_name(host: str, port: int) -> str | None:
    """The Unix socket that stands for a peer address, or None where there is none."""
    return f"\0ringwise {host}:{port}" if sys.platform == "linux" and host.startswith("127.") else None


def connected_locally(name: str) -> socket.socket | None:
    """A connection to such a Unix socket, or None where nobody listens on this machine, or too many wait: TCP tells which.

    Made by hand, since the event loop's library takes a name that begins with a zero byte for an empty one and refuses it.
    A Unix socket connects at once or not at all.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(name)
    except OSError:
        sock.close()
        return None
    return sock
