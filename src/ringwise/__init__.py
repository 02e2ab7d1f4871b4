"""Ringwise: a leaderless, replicated key-value store behind the Redis protocol.

`from ringwise import Client, AsyncClient`: the Python client, loaded when it is first named; nothing of the server comes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ringwise.client import AsyncClient as AsyncClient
    from ringwise.client import Client as Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        from ringwise import client

        return getattr(client, name)
    raise AttributeError(f"module 'ringwise' has no attribute {name!r}")
