"""Values on their way in and out: JSON, text or bytes on the wire, always bytes with a content type in the store.

    {"value": "text"}            the text's UTF-8 bytes, without a content type: what `SET key text` stores
    {"value": other JSON}        its JSON text as it was sent, as application/json
    {"value_base64": "…"}        those bytes, without a content type
    a raw body                   the body, with the content type of the request

So a string is the same for HTTP and Redis clients, and numbers and objects come back just as they were sent. Whoever names a
JSON content type gets JSON text stored, a string's quotes included.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from ringwise.core.config import NodeConfig
from ringwise.core.record import Sibling
from ringwise.core.versions import Write
from ringwise.server.http.message import JSON, Refusal, Request
from ringwise.server.http.parse import (
    CONTEXT_HEADER,
    FLAGS_MAX,
    checked_key,
    content_type_of,
    context_header,
    context_of,
    expiry_ms,
    flag_of,
    natural_of,
    text_of,
    ttl_of,
)
from ringwise.server.siblings import version_of

FORM = "application/x-www-form-urlencoded"  # what `curl -d` says unasked
_TEXT = re.compile(r"text/[^;]+(; *charset=\"?utf-8\"?)?", re.IGNORECASE)


class Put(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON body of a put, and with a key, an item of a batch."""

    value: Raw | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET
    ttl: float | UnsetType = UNSET  # seconds
    context: str | UnsetType = UNSET
    content_type: str | UnsetType = UNSET
    flags: Annotated[float, Meta(ge=0, le=FLAGS_MAX)] | UnsetType = UNSET  # 7.0 is a whole number in JSON, too


class Item(Put):
    key: str | UnsetType = UNSET
    key_base64: str | UnsetType = UNSET


class PutBatch(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]


class KeyBase64(msgspec.Struct, forbid_unknown_fields=True):
    key_base64: str


class GetBatch(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[str | KeyBase64]


_put_decoder = msgspec.json.Decoder(Put)
_put_batch_decoder = msgspec.json.Decoder(PutBatch)
_get_batch_decoder = msgspec.json.Decoder(GetBatch)


def put_batch(body: bytes) -> list[Item]:
    batch: PutBatch = _decoded(_put_batch_decoder, body)
    return batch.items


def get_batch(body: bytes) -> list[str | KeyBase64]:
    batch: GetBatch = _decoded(_get_batch_decoder, body)
    return batch.keys


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        body.decode("utf-8")  # the decoder passes over what it does not look into
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(400, "bad_body", f"{error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(
            400,
            "malformed_json",
            f"the body is no JSON ({error}); to store it as it is, name its type: Content-Type: text/plain",
        ) from error
    except RecursionError as error:
        raise Refusal(400, "malformed_json", "the JSON is nested too deeply; store it as a raw body") from error


def write_of(request: Request, key: bytes, config: NodeConfig, wall_ms: int) -> Write:
    """What a PUT asks to write."""
    kind = request.header("Content-Type").strip()
    name = kind.partition(";")[0].strip().lower()
    raw = flag_of(request, "raw")
    if raw or name not in (JSON, FORM):
        return _raw_write(request, kind, key, config, wall_ms)
    put: Put = _decoded(_put_decoder, request.body)
    header = context_header(request)
    if header and put.context is not UNSET and put.context != header:
        raise Refusal(409, "bad_context", f"{CONTEXT_HEADER} and the body have different contexts; send one of them")
    flags, ttl = _parameters(request)
    if put.flags is UNSET:
        put.flags = flags
    if put.ttl is UNSET and ttl is not None:
        put.ttl = ttl
    return json_write(put, key, config, wall_ms, header)


def _raw_write(request: Request, kind: str, key: bytes, config: NodeConfig, wall_ms: int) -> Write:
    flags, ttl = _parameters(request)
    return Write(
        value=_checked(request.body, config),
        content_type=content_type_of(kind),
        flags=flags,
        expiry_ms=expiry_ms(ttl, wall_ms),
        context=context_of(context_header(request), key),
    )


def _parameters(request: Request) -> tuple[int, float | None]:
    """Flags and time to live that stand beside the body."""
    flags = natural_of(text_of(request, "flags", "0"), "flags", FLAGS_MAX)
    return flags, ttl_of(text_of(request, "ttl")) if "ttl" in request.query else None


def json_write(put: Put, key: bytes, config: NodeConfig, wall_ms: int, token: str = "") -> Write:
    """What the JSON form of a put asks to write."""
    value, content_type = _value(put)
    if put.context == "":
        raise Refusal(400, "bad_context", "the context is empty; leave it out, or pass the context of a read")
    return Write(
        value=_checked(value, config),
        content_type=content_type_of(content_type),
        flags=_whole(put.flags),
        expiry_ms=expiry_ms(None if put.ttl is UNSET else put.ttl, wall_ms),
        context=context_of(token if put.context is UNSET else put.context, key),
    )


def _whole(flags: float | UnsetType) -> int:
    if flags is UNSET:
        return 0
    if not float(flags).is_integer():
        raise Refusal(400, "bad_body", f"flags are a whole number from 0 to {FLAGS_MAX}")
    return int(flags)


def _value(put: Put) -> tuple[bytes, str]:
    """The bytes to store and their content type."""
    named = "" if put.content_type is UNSET else put.content_type
    if (put.value is UNSET) == (put.value_base64 is UNSET):
        raise Refusal(400, "bad_body", 'give either "value" (any JSON) or "value_base64" (bytes)')
    if put.value_base64 is not UNSET:
        return unbased(put.value_base64, "value_base64"), named
    assert put.value is not UNSET
    text = bytes(put.value).strip()
    if text.startswith(b'"') and not is_json(named):
        return msgspec.json.decode(text, type=str).encode(), named
    return text, named or JSON


def unbased(text: str, name: str) -> bytes:
    try:
        return b64decode(text.encode("ascii"), validate=True)
    except ValueError as error:
        raise Refusal(400, "bad_base64", f"{name} is no base64 (standard alphabet, padded)") from error


def _checked(value: bytes, config: NodeConfig) -> bytes:
    limit = config.value_bytes_max
    if len(value) > limit:
        message = f"the value has {len(value)} bytes, the limit is {limit}; split it over several keys"
        raise Refusal(413, "value_too_large", message, limit=limit)
    return value


def batch_key(key: str | UnsetType, key_base64: str | UnsetType, config: NodeConfig) -> bytes:
    if key is not UNSET and key_base64 is UNSET:
        return checked_key(key.encode(), config)
    if key_base64 is not UNSET and key is UNSET:
        return checked_key(unbased(key_base64, "key_base64"), config)
    raise Refusal(400, "bad_body", 'each item needs either "key" or "key_base64"')


def is_json(content_type: str) -> bool:
    name = content_type.partition(";")[0].strip().lower()
    return name == JSON or name.endswith("+json")


def shown(sibling: Sibling, wall_ms: int) -> dict[str, Any]:
    """A version as JSON answers have it."""
    return {
        **_shown_value(sibling.value, sibling.content_type),
        "version": version_of(sibling),
        "ttl": ttl_s(sibling, wall_ms),
        "content_type": sibling.content_type or None,
        "flags": sibling.flags,
    }


def _shown_value(value: bytes, content_type: str) -> dict[str, Any]:
    try:
        text = value.decode("utf-8")
        if is_json(content_type):
            return {"value": msgspec.json.decode(value, type=Raw)}
        if not content_type or _TEXT.fullmatch(content_type):
            return {"value": text}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # it is not what it is said to be
    return {"value_base64": b64encode(value).decode("ascii")}


def shown_key(key: bytes) -> dict[str, str]:
    try:
        return {"key": key.decode("utf-8")}
    except UnicodeDecodeError:
        return {"key_base64": b64encode(key).decode("ascii")}


def ttl_s(sibling: Sibling, wall_ms: int) -> int | None:
    """Whole seconds left, rounded up, so that what is there never says 0; None for what stays."""
    return -((wall_ms - sibling.expiry_ms) // 1000) if sibling.expiry_ms else None
