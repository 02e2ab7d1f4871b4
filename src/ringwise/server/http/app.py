"""Which request means what: the routes, their limits, and how every failure becomes an answer.

runtime/http.py ─ head ─▶ match: 404, 405, 411, 413, 415, before a byte of the body is read ─▶ Match
                ─ body ─▶ answer: the handler awaits the node (ask.py) ─▶ Answer
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.server.http import batch, keys
from ringwise.server.http.ask import Ask
from ringwise.server.http.message import JSON, RETRY_SOON_S, Answer, Refusal, Request, json_answer, refusal_of
from ringwise.server.http.openapi import document
from ringwise.server.http.page import HEADERS as PAGE_HEADERS
from ringwise.server.http.page import PAGE
from ringwise.server.http.parse import check_parameters, flag_of, percent_decoded, query_of
from ringwise.server.http.values import FORM

KEYS = "/api/v1/kv"
BUCKETS = "/api/v1/buckets"  # before a bucket's name, and then /kv and /batch as without it

Handler: TypeAlias = Callable[[Ask, Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Match:
    """A request whose head is in order. `body_bytes_max` is None where a body is not looked at."""

    request: Request
    handler: Handler
    body_bytes_max: int | None


class App:
    """The routes of one node. `why_not` tells why the node should get no requests now, None where it should."""

    def __init__(self, ask: Ask, why_not: Callable[[], str | None]) -> None:
        self._ask = ask
        self._why_not = why_not
        page = Answer(200, PAGE, "text/html; charset=utf-8", PAGE_HEADERS)
        self._routes: dict[str, dict[str, Handler]] = {
            KEYS: _read(keys.listing),
            "/api/v1/batch/get": {"POST": batch.batch_get},
            "/api/v1/batch/put": {"POST": batch.batch_put},
            "/api/v1/openapi.json": _read(self._openapi),
            "/": _read(_fixed(page)),
            "/health": _read(_fixed(json_answer({"status": "ok", "node": ask.node.name}))),
            "/ready": _read(self._ready),
        }
        self._one_key = {**_read(keys.get), "PUT": keys.put, "DELETE": keys.delete}

    def match(self, method: str, target: str, headers: Mapping[str, str]) -> Match:
        """What the head of a request asks for; raises Refusal."""
        path, _, query = _origin_form(target).partition("#")[0].partition("?")
        bucket, inner = _bucket_of(path)
        if inner.startswith(KEYS + "/"):
            handlers, key = self._one_key, inner[len(KEYS) + 1 :]
        else:
            named = percent_decoded(inner).decode("utf-8", "replace")
            found = self._routes.get(named)
            if found is None or (bucket and named not in _IN_BUCKETS):
                message = f"there is nothing at this path; keys are at {KEYS}/{{key}}, GET / describes everything"
                raise Refusal(404, "no_such_path", message)
            handlers, key = found, ""
        handler = handlers.get(method)
        if handler is None:
            allow = ", ".join(sorted(handlers))
            raise Refusal(405, "method_not_allowed", f"this path takes {allow}", {"Allow": allow})
        request = Request(method, path, query_of(query), headers, key, bucket)
        return Match(request, handler, _body_limit(request, self._ask.node.config))

    async def answer(self, match: Match) -> Answer:
        """The answer to a request whose body, if it has one, is there."""
        try:
            ask = self._ask.for_request(match.request.bucket)
            answer = await match.handler(ask, match.request)
            if ask.sloppy:
                answer.headers[STAND_IN_HEADER] = "1"
            return answer
        except Refusal as refusal:
            return refusal.answer()
        except Failure as failure:
            return refusal_of(failure).answer()

    async def _openapi(self, ask: Ask, request: Request) -> Answer:
        check_parameters(request)
        owners_max = max(map(len, ask.node.topology.sets)) or ask.node.config.replicas
        return json_answer(document(ask.node.config, owners_max))

    async def _ready(self, ask: Ask, request: Request) -> Answer:
        check_parameters(request)
        reason = self._why_not() or why_not_ready(ask)
        if reason is not None:
            raise Refusal(503, "not_ready", reason, {"Retry-After": str(RETRY_SOON_S)})
        return json_answer({"status": "ready", "node": ask.node.name, "members": len(ask.node.topology.members)})


STAND_IN_HEADER = "X-Ringwise-Stand-In"  # "1": a stand-in counted towards the level (R2)


def why_not_ready(ask: Ask) -> str | None:
    """Why this node cannot serve quorums now: no cluster, not all expected members yet, or too few owners up."""
    node = ask.node
    topology = node.topology
    if node.id not in topology.members:
        return "this node is a member of no cluster yet"
    expected = node.config.members_expected
    if not topology.formed and len(topology.members) < expected:
        return f"{len(topology.members)} of {expected} expected members are there"
    up = {member for member in topology.members if member == node.id or node.is_up(member)}
    for owners, serving in zip(topology.sets, topology.serving_sets, strict=True):
        there = len(up.intersection(serving))
        if there <= len(owners) // 2:
            return f"of the {len(owners)} owners of some keys {there} can be reached, no majority"
    return None


_IN_BUCKETS = frozenset((KEYS, "/api/v1/batch/get", "/api/v1/batch/put"))


def _bucket_of(path: str) -> tuple[str, str]:
    """The bucket that a path names, and the path without it: /api/v1/buckets/{bucket}/kv/… is /api/v1/kv/…"""
    if not path.startswith(BUCKETS + "/"):
        return "", path
    name, _, rest = path[len(BUCKETS) + 1 :].partition("/")
    bucket = percent_decoded(name).decode("utf-8", "replace")
    return (bucket, "/api/v1/" + rest) if bucket else ("", path)


def _read(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _fixed(answer: Answer) -> Handler:
    async def handler(_ask: Ask, request: Request) -> Answer:
        check_parameters(request)
        return answer

    return handler


def _origin_form(target: str) -> str:
    """A proxy's client names the whole URL; what counts is its path."""
    if target.startswith("/") or "://" not in target:
        return target
    _, _, behind = target.partition("://")
    return "/" + behind.partition("/")[2]


def _body_limit(request: Request, config: NodeConfig) -> int | None:
    """How many bytes of body the route takes; raises Refusal where the head says already that it will not do."""
    if request.method not in ("PUT", "POST"):
        return None
    name = request.header("Content-Type").partition(";")[0].strip().lower()
    if request.header("Content-Encoding").strip().lower() not in ("", "identity"):
        raise Refusal(415, "unsupported_encoding", "bodies are taken as they are; send it without Content-Encoding")
    if request.method == "POST":
        # No other type: a page of another origin could send that to this port from somebody's browser.
        if name != JSON:
            raise Refusal(415, "unsupported_type", f"a batch is JSON; send Content-Type: {JSON}")
        limit = batch.BODY_BYTES_MAX
    elif name in (JSON, FORM) and not flag_of(request, "raw"):
        # Base64 or escapes make a value longer, and a context may stand beside it.
        limit = 2 * config.value_bytes_max + 128 * 1024
    else:
        limit = config.value_bytes_max
    length = request.headers.get("Content-Length")
    if length is None and "Transfer-Encoding" not in request.headers:
        raise Refusal(411, "length_required", "there is no body; send one, with Content-Length (0 for an empty value)")
    if length is not None and length.isdigit() and int(length) > limit:
        raise body_too_large(limit)
    return limit


def body_too_large(limit: int) -> Refusal:
    message = f"the body has more than {limit} bytes, the limit of this request; split it over several keys or requests"
    return Refusal(413, "body_too_large", message, limit=limit)
