"""A request and its answer as handlers see them, and how a failure of the store is told over HTTP.

| status | what happened | may it be sent again? |
| ------ | ------------- | --------------------- |
| 4xx    | the request is wrong, and says how | not as it is |
| 503    | refused: certainly not applied, anywhere; `Retry-After` says when | yes |
| 504    | a write whose outcome is unknown (`"outcome": "unknown"`) | read first |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ringwise.core.errors import (
    BadContext,
    Failure,
    ImpossibleLevel,
    KeyTooLong,
    Refused,
    Relayed,
    UnknownLevel,
    UnknownOutcome,
    ValueTooLong,
)

JSON = "application/json"
RETRY_SOON_S = 1  # about as long as a failure takes to be noticed, or a queue to drain
RETRY_RESTART_S = 30  # what only a restart of this node mends


@dataclass(slots=True)
class Request:
    """`headers` ignore letter case. `body` is filled in once the route is known and its limit kept."""

    method: str
    path: str  # as sent, percent-encoded
    query: dict[str, bytes]  # decoded
    headers: Mapping[str, str]
    key: str = ""  # as sent, of the paths that name one
    bucket: str = ""  # of the paths that name one
    body: bytes = b""

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that is not served; `fields` go into the body beside `error` and `message`."""

    def __init__(
        self, status: int, error: str, message: str, headers: dict[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.headers = headers or {}
        self.fields = fields

    def body(self) -> dict[str, Any]:
        return {"error": self.error, "message": self.message, **self.fields}

    def answer(self) -> Answer:
        return json_answer(self.body(), self.status, self.headers)


def json_answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, msgspec.json.encode(value) + b"\n", JSON, headers or {})


# By the code of the Redis error, which is all that a relayed failure (R1) has: status, error, seconds until it is worth
# another try.
_BY_CODE = {
    "NOQUORUM": (503, "quorum_not_reached", RETRY_SOON_S),
    "TRYAGAIN": (503, "overloaded", RETRY_SOON_S),
    "CLUSTERDOWN": (503, "cluster_not_ready", RETRY_SOON_S),
    "READONLYNODE": (503, "writes_stopped", RETRY_RESTART_S),
    "CLOCKSKEW": (503, "clock_skew", RETRY_RESTART_S),
    "TOOLATE": (503, "too_late", RETRY_SOON_S),
    "BADCONTEXT": (409, "bad_context", 0),
    "NOBUCKET": (404, "no_such_bucket", 0),
    "DAMAGED": (500, "damaged_record", 0),
}
_BY_KIND: list[tuple[type[Failure], int, str]] = [
    (KeyTooLong, 400, "key_too_long"),
    (ValueTooLong, 413, "value_too_large"),
    (UnknownLevel, 400, "bad_level"),
    (ImpossibleLevel, 400, "bad_level"),
    (BadContext, 409, "bad_context"),
]


def refusal_of(failure: Failure) -> Refusal:
    """The answer to a request whose operation failed."""
    if isinstance(failure, UnknownOutcome) or (isinstance(failure, Relayed) and failure.unknown):
        return Refusal(504, "unknown_outcome", str(failure), outcome="unknown")
    for kind, status, error in _BY_KIND:
        if isinstance(failure, kind):
            return Refusal(status, error, str(failure))
    status, error, retry_s = _BY_CODE.get(failure.code, (400, "refused", 0))
    headers = {"Retry-After": str(retry_s)} if retry_s else {}
    fields = {"outcome": "not_applied"} if isinstance(failure, Refused | Relayed) else {}
    return Refusal(status, error, str(failure), headers, **fields)
