"""One key: PUT, GET (HEAD), DELETE; and the listing of keys by prefix.

A GET shows what RW.GET shows: one version (200), or all siblings where they conflict (300) with the context that covers them; a
PUT that passes it back replaces just those.
"""

from __future__ import annotations

from typing import Any

from xxhash import xxh3_64_hexdigest

from ringwise.core import versions
from ringwise.core.keys import position_of
from ringwise.core.levels import Level
from ringwise.core.record import Sibling
from ringwise.core.ring import slot_of
from ringwise.core.told import COLLECTION_TYPES
from ringwise.core.topology import Topology
from ringwise.core.versions import Write
from ringwise.server.clock import clock_of
from ringwise.server.http.ask import Ask
from ringwise.server.http.message import JSON, Answer, Refusal, Request, json_answer
from ringwise.server.http.parse import (
    CONTEXT_HEADER,
    FLAGS_HEADER,
    accepts,
    check_parameters,
    context_header,
    context_of,
    flag_of,
    key_of,
    level_of,
    natural_of,
    none_match,
    refuse_conditions,
    text_of,
)
from ringwise.server.http.values import shown, shown_key, ttl_s, write_of
from ringwise.server.siblings import version_of

TTL_HEADER = "X-Ringwise-TTL"
VERSION_HEADER = "X-Ringwise-Version"
OCTETS = "application/octet-stream"
# Longer than most clients take as a header line; such a context (some 180 dots) is in the JSON answer only.
CONTEXT_HEADER_BYTES_MAX = 4096
LIST_LIMIT = 100
LIST_LIMIT_MAX = 1000
# A request looks at so many pages of so many keys for those that begin with the prefix, and then hands out its cursor, found
# or not: a second or so of the cluster's time in the worst case.
SCAN_COUNT = 500
SCANS_MAX = 8
CURSOR_MAX = 2**63 - 1


async def put(ask: Ask, request: Request) -> Answer:
    check_parameters(request, "raw", "ttl", "flags")
    config = ask.node.config
    key, level = key_of(request.key, config), level_of(request, config, ask.node.space.level)
    refuse_conditions(request)
    write = write_of(request, ask.node.space.bound(key), config, ask.node.now.wall_ms)
    record = await ask.write(key, write, level)
    left = put_result(ask, record, key, write)
    return json_answer(left, headers={"ETag": f'W/"{left["version"]}"'})


def put_result(ask: Ask, record: bytes, key: bytes, write: Write) -> dict[str, Any]:
    """What a write left. A context is given only where there are no siblings: it would cover versions the client has not seen."""
    found = ask.node.space.shown(record, ask.node.now.wall_ms)
    own = next((each for each in found if _same(each, write)), versions.newest(record))
    assert own is not None, "a write leaves a version"
    return {
        "version": version_of(own),
        "siblings": len(found),
        "context": versions.context_of(record).token(ask.node.space.bound(key)).decode("ascii")
        if len(found) <= 1
        else None,
    }


def _same(sibling: Sibling, write: Write) -> bool:
    return (sibling.value, sibling.content_type, sibling.flags, sibling.expiry_ms) == (
        write.value,
        write.content_type,
        write.flags,
        write.expiry_ms,
    )


async def get(ask: Ask, request: Request) -> Answer:
    check_parameters(request, "raw")
    config = ask.node.config
    key, level, raw = (
        key_of(request.key, config),
        level_of(request, config, ask.node.space.level),
        flag_of(request, "raw"),
    )
    record = await ask.get(key, level)
    wall_ms = ask.node.now.wall_ms
    found = ask.node.space.shown(record, wall_ms)
    if not found:
        raise not_found()
    seen = seen_of(record, ask.node.space.bound(key), ask.node.topology)
    token = seen["context"]
    headers = {"ETag": etag_of(found), "Vary": "Accept"}
    if len(token) <= CONTEXT_HEADER_BYTES_MAX:
        headers[CONTEXT_HEADER] = token
    if none_match(request.header("If-None-Match"), headers["ETag"]):
        return Answer(304, headers=headers)
    if len(found) > 1:
        return json_answer(conflict(found, seen, wall_ms), 300, headers)
    if raw or not accepts(request.header("Accept"), JSON):
        return _raw(found[0], request, headers, wall_ms, asked=raw)
    return json_answer({**shown(found[0], wall_ms), **seen}, headers=headers)


def not_found() -> Refusal:
    return Refusal(404, "not_found", "there is no such key, or it has expired")


def conflict(found: list[Sibling], seen: dict[str, str], wall_ms: int) -> dict[str, Any]:
    return {"siblings": [shown(sibling, wall_ms) for sibling in found], **seen}


def seen_of(record: bytes, key: bytes, topology: Topology) -> dict[str, str]:
    """What a reader of this record has seen: for the next put, and for people."""
    context = versions.context_of(record)
    return {"context": context.token(key).decode("ascii"), "clock": clock_of(topology, context)}


def etag_of(found: list[Sibling]) -> str:
    """Weak, since JSON and raw answers share it, and since the time left to live is part of neither's version."""
    names = ",".join(_named(sibling) for sibling in found)
    return f'W/"{names if len(found) == 1 else xxh3_64_hexdigest(names.encode())}"'


def _named(sibling: Sibling) -> str:
    """A collection that loses a member keeps its newest version, so what is in it belongs to its name."""
    name = version_of(sibling)
    return f"{name}-{xxh3_64_hexdigest(sibling.value)}" if sibling.content_type in COLLECTION_TYPES else name


def _raw(sibling: Sibling, request: Request, headers: dict[str, str], wall_ms: int, *, asked: bool) -> Answer:
    kind = sibling.content_type or OCTETS
    accept = request.header("Accept")
    if not (asked or accepts(accept, kind) or accepts(accept, OCTETS)):
        message = f"the value is of type {kind}; accept that, {JSON} or {OCTETS}, or ask with ?raw"
        raise Refusal(406, "not_acceptable", message)
    headers[VERSION_HEADER] = version_of(sibling)
    headers[FLAGS_HEADER] = str(sibling.flags)
    left = ttl_s(sibling, wall_ms)
    if left is not None:
        headers[TTL_HEADER] = str(left)
    # A value that somebody stored must not act as a page of this origin in somebody else's browser.
    headers["Content-Security-Policy"] = "sandbox"
    headers["X-Content-Type-Options"] = "nosniff"
    return Answer(200, sibling.value, kind, headers)


async def delete(ask: Ask, request: Request) -> Answer:
    """As RW.DEL: without a context, what a read at this level shows is what is deleted."""
    check_parameters(request)
    config = ask.node.config
    key, level = key_of(request.key, config), level_of(request, config, ask.node.space.level)
    refuse_conditions(request)
    context = context_of(context_header(request), ask.node.space.bound(key))
    if context is None:
        record = await ask.get(key, level)
        if not ask.node.space.shown(record, ask.node.now.wall_ms):
            return Answer(204)
        context = versions.context_of(record)
    await ask.write(key, Write(value=b"", tombstone=True, context=context), level)
    return Answer(204)


async def listing(ask: Ask, request: Request) -> Answer:
    """Keys in the order of the cursor, which is a position in the key space and holds no state on any node."""
    check_parameters(request, "prefix", "cursor", "limit")
    level = level_of(request, ask.node.config, ask.node.space.level)
    cursor = natural_of(text_of(request, "cursor", "0"), "cursor", CURSOR_MAX)
    limit = natural_of(text_of(request, "limit", str(LIST_LIMIT)), "limit", LIST_LIMIT_MAX, 1)
    prefix = request.query.get("prefix", b"")
    keys, cursor = await _keys(ask, cursor, limit, prefix, level)
    return json_answer({"keys": keys, "cursor": str(cursor) if cursor else None})


async def _keys(ask: Ask, cursor: int, limit: int, prefix: bytes, level: Level) -> tuple[list[dict[str, Any]], int]:
    """A page may come short, or pass the limit by keys of one position, which no cursor parts."""
    keys: list[dict[str, Any]] = []
    reached = -1
    for _ in range(SCANS_MAX):
        count = limit - len(keys)
        page = await ask.scan(cursor, max(count, SCAN_COUNT) if prefix else count, level)
        wall_ms = ask.node.now.wall_ms
        for key, record in page.found:
            found = ask.node.space.shown(record, wall_ms)
            if not (found and key.startswith(prefix)):
                continue
            position = position_of(slot_of(key), key)
            if len(keys) >= limit and position > reached:
                return keys, position
            reached = position
            keys.append({**shown_key(key), "version": version_of(found[0]), "siblings": len(found)})
        cursor = page.cursor
        if not cursor or len(keys) >= limit:
            break
    return keys, cursor
