"""The Python client: `Client` for threads, `AsyncClient` for asyncio, over one core without sockets.

What a caller can do is in docs/client.md.
"""

from ringwise.client.async_handles import AsyncCounter, AsyncLeaderboard, AsyncMap, AsyncSet
from ringwise.client.asynchronous import AsyncClient
from ringwise.client.errors import (
    BadContext,
    ConnectionFailed,
    InvalidRequest,
    NoSuchBucket,
    NotReady,
    Overloaded,
    PartialFailure,
    QuorumNotReached,
    Refused,
    RingwiseError,
    StillConflicting,
    TimedOut,
    UnknownOutcome,
    WriteTimedOut,
)
from ringwise.client.handles import Counter, Leaderboard, Map, Set
from ringwise.client.results import Reply, Sibling, Written
from ringwise.client.sync import Client

__all__ = [
    "AsyncClient",
    "AsyncCounter",
    "AsyncLeaderboard",
    "AsyncMap",
    "AsyncSet",
    "BadContext",
    "Client",
    "ConnectionFailed",
    "Counter",
    "InvalidRequest",
    "Leaderboard",
    "Map",
    "NoSuchBucket",
    "NotReady",
    "Overloaded",
    "PartialFailure",
    "QuorumNotReached",
    "Refused",
    "Reply",
    "RingwiseError",
    "Set",
    "Sibling",
    "StillConflicting",
    "TimedOut",
    "UnknownOutcome",
    "WriteTimedOut",
    "Written",
]
