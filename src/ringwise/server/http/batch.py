"""Many keys in one request, each with a result of its own, in the order they were named.

Neither is a transaction: some keys may be written and others refused, and each says which.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.versions import Write
from ringwise.server.http.ask import Ask
from ringwise.server.http.keys import conflict, not_found, put_result, seen_of
from ringwise.server.http.message import Answer, Refusal, Request, json_answer, refusal_of
from ringwise.server.http.parse import check_parameters, level_of
from ringwise.server.http.values import (
    Item,
    KeyBase64,
    batch_key,
    get_batch,
    json_write,
    put_batch,
    shown,
    shown_key,
)

ITEMS_MAX = 256  # as many as a turn answers without holding up everybody else
BODY_BYTES_MAX = 4 * 1024 * 1024  # parsed in one piece, in some ten milliseconds
# Values are encoded in one piece, too; what does not fit is told to be asked for by itself.
ANSWER_BYTES_MAX = 8 * 1024 * 1024


async def batch_get(ask: Ask, request: Request) -> Answer:
    check_parameters(request)
    config = ask.node.config
    level = level_of(request, config, ask.node.space.level)
    named = get_batch(request.body)
    _check_count(len(named), "keys")
    keys = [_key_of(each, config) for each in named]
    outcomes = await ask.get_many(keys, level)
    results: list[dict[str, Any]] = []
    room = ANSWER_BYTES_MAX
    for key, outcome in zip(keys, outcomes, strict=True):
        result: dict[str, Any]
        if isinstance(outcome, Failure):
            result = _refused(refusal_of(outcome))
        elif room < len(outcome):
            message = f"the values of this batch have more than {ANSWER_BYTES_MAX} bytes; ask for this key again"
            result = _refused(Refusal(413, "batch_too_large", message, limit=ANSWER_BYTES_MAX))
        else:
            room -= len(outcome)
            result = _found(ask, outcome, key)
        results.append({**shown_key(key), **result})
    return json_answer({"results": results})


def _key_of(named: str | KeyBase64, config: NodeConfig) -> bytes:
    return batch_key(named, UNSET, config) if isinstance(named, str) else batch_key(UNSET, named.key_base64, config)


def _found(ask: Ask, record: bytes, key: bytes) -> dict[str, Any]:
    wall_ms = ask.node.now.wall_ms
    found = ask.node.space.shown(record, wall_ms)
    if not found:
        return _refused(not_found())
    seen = seen_of(record, ask.node.space.bound(key), ask.node.topology)
    if len(found) > 1:
        return {"status": 300, **conflict(found, seen, wall_ms)}
    return {"status": 200, **shown(found[0], wall_ms), **seen}


async def batch_put(ask: Ask, request: Request) -> Answer:
    """An item that cannot be read refuses the whole batch, before anything is written."""
    check_parameters(request)
    level = level_of(request, ask.node.config, ask.node.space.level)
    items = put_batch(request.body)
    _check_count(len(items), "items")
    writes = [_write(ask, index, item) for index, item in enumerate(items)]
    outcomes = await ask.write_many(writes, level)
    results = []
    for (key, write), outcome in zip(writes, outcomes, strict=True):
        if isinstance(outcome, Failure):
            result = _refused(refusal_of(outcome))
        else:
            result = {"status": 200, **put_result(ask, outcome, key, write)}
        results.append({**shown_key(key), **result})
    return json_answer({"results": results})


def _write(ask: Ask, index: int, item: Item) -> tuple[bytes, Write]:
    config = ask.node.config
    try:
        key = batch_key(item.key, item.key_base64, config)
        return key, json_write(item, ask.node.space.bound(key), config, ask.node.now.wall_ms)
    except Refusal as refusal:
        message = f"item {index}: {refusal.message}; nothing of this batch was written"
        raise Refusal(
            refusal.status, refusal.error, message, refusal.headers, item=index, **refusal.fields
        ) from refusal


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {"status": refusal.status, **refusal.body()}


def _check_count(count: int, what: str) -> None:
    if not 1 <= count <= ITEMS_MAX:
        raise Refusal(400, "bad_batch_size", f"{what} has {count} entries; send 1 to {ITEMS_MAX}", limit=ITEMS_MAX)
