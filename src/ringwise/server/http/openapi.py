"""The OpenAPI document: what this interface takes and answers, every status of it.

`tests/cluster/test_http.py` holds a running node to it.
"""

from __future__ import annotations

from typing import Any

from ringwise import __version__
from ringwise.core.config import NodeConfig
from ringwise.server.http import batch, keys
from ringwise.server.http.message import JSON
from ringwise.server.http.parse import (
    CONTENT_TYPE_BYTES_MAX,
    CONTEXT_HEADER,
    FLAGS_MAX,
    TOKEN_PATTERN,
    TTL_S_MAX,
)

_Schema = dict[str, Any]

_STRING = {"type": "string"}
_CLOCK = {"type": "string", "description": "The vector clock of all that the context covers", "examples": ["n1:2 n3:1"]}
_TTL = {
    "type": "number",
    "minimum": 0.001,
    "maximum": TTL_S_MAX,
    "description": "Seconds to live; leave it out for a value that stays",
}
_FLAGS = {"type": "integer", "minimum": 0, "maximum": FLAGS_MAX, "description": "A number kept beside the value"}
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
_RAW = {"enum": [True, False, "true", "false", ""]}
_RAW_JSON = {"description": "With ?raw, a value that is JSON itself"}
_ANY = {"description": "Any JSON. A string is stored as its UTF-8 bytes, anything else as its JSON text"}
_CONTEXT = {
    "type": "string",
    "pattern": TOKEN_PATTERN,
    "description": "The context of your read: the put then replaces just what that read has shown",
}
_TYPE = {
    "type": "string",
    "pattern": f"^[ -~]{{0,{CONTENT_TYPE_BYTES_MAX}}}$",
    "description": "Media type, kept beside the value",
}
_VERSION = {"type": "string", "description": "The dot of a version: unique for ever"}

_ERRORS = {
    400: "The request is wrong, and the message says how",
    404: "There is no such key, or it has expired; or no such bucket",
    405: "The path does not take this method; Allow names those it takes",
    406: "The value is of another type than those that are accepted",
    408: "The body did not come in time",
    411: "There is no body and no length",
    413: "The body or value is too large; limit is in bytes",
    409: "The context belongs to another key, or was altered",
    415: "The body is of a type that is not taken",
    417: "An expectation other than 100-continue",
    431: "The head of the request is too large",
    500: "A mistake of this program, or a damaged record",
    501: "Linearizable operations and conditional writes are refused until they can be kept",
    503: "Refused, certainly not applied: overloaded, or too few owners reached. Retry-After says when to try again",
    504: "The outcome of the write is unknown: it may have been applied, so read before writing again",
}


def document(config: NodeConfig, owners_max: int) -> _Schema:
    """The document of a node with these limits, where keys have so many owners."""
    made = _document(config, owners_max)
    return {**made, "paths": _with_buckets(made["paths"])}


def _document(config: NodeConfig, owners_max: int) -> _Schema:
    key = {"$ref": "#/components/parameters/Key"}
    levels = [{"$ref": f"#/components/parameters/{name}"} for name in ("Consistency", "R", "W")]
    put_context = {"$ref": "#/components/parameters/Context"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ringwise",
            "version": __version__,
            "description": "Values under keys, on any node of the cluster. Consistency is chosen for each request; concurrent "
            "writes are kept as siblings until a client resolves them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/api/v1/kv/{key}": {
                "parameters": [key, *levels],
                "put": _put(config, put_context),
                "get": _get(),
                "head": _head(),
                "delete": {
                    "operationId": "delete",
                    "summary": "Delete a key",
                    "description": "Deletes what a read at this level shows, or what the context has seen. Deleting what is not "
                    "there is no error.",
                    "parameters": [put_context],
                    "responses": {
                        "204": {"description": "It is deleted, or was not there"},
                        **_errors(400, 409, 501, 503, 504),
                    },
                },
            },
            "/api/v1/kv": {
                "get": {
                    "operationId": "list",
                    "summary": "List keys, page by page",
                    "description": "In the order of the cursor, not of the keys. A page may be short or empty before the end; "
                    "only cursor null is the end. A key that is there throughout is never missed.",
                    "parameters": [*_listing_parameters(), *levels],
                    "responses": {"200": _json("A page of keys", _LISTING), **_errors(400, 501, 503)},
                },
            },
            "/api/v1/batch/get": {"post": _batch_get(config, levels)},
            "/api/v1/batch/put": {"post": _batch_put(levels)},
            "/api/v1/openapi.json": {
                "get": _plain("openapi", "This document", JSON, {"type": "object"}),
            },
            "/": {"get": _plain("page", "This document as a page to try things on", "text/html", _STRING)},
            "/health": {"get": _plain("health", "Whether the process is alive", JSON, _HEALTH)},
            "/ready": {
                "get": {
                    "operationId": "ready",
                    "summary": "Whether this node should get requests",
                    "description": "Ready is a member of a cluster that reaches a majority of the owners of every key.",
                    "responses": {"200": _json("Ready", _READY), **_errors(400, 503)},
                }
            },
        },
        "components": {
            "parameters": _parameters(config, owners_max),
            "schemas": _schemas(config),
            "responses": {f"E{status}": _error(status, text) for status, text in _ERRORS.items()},
        },
    }


def _with_buckets(paths: _Schema) -> _Schema:
    """Every path about keys once more, in a bucket."""
    bucket = {"$ref": "#/components/parameters/Bucket"}
    missing = {"404": {"$ref": "#/components/responses/E404"}}
    found = dict(paths)
    for path, item in paths.items():
        if not path.startswith(("/api/v1/kv", "/api/v1/batch")):
            continue
        inner: _Schema = {"parameters": [bucket, *item.get("parameters", [])]}
        for method, operation in item.items():
            if method != "parameters":
                inner[method] = {
                    **operation,
                    "operationId": operation["operationId"] + "_in_bucket",
                    "summary": operation["summary"] + ", in a bucket",
                    "responses": {**missing, **operation["responses"]},
                }
        found[path.replace("/api/v1/", "/api/v1/buckets/{bucket}/")] = inner
    return found


def _object(required: list[str], properties: _Schema, *, closed: bool = False, **more: Any) -> _Schema:
    made: _Schema = {"type": "object", "properties": properties, **more}
    if required:
        made["required"] = required
    if closed:
        made["additionalProperties"] = False
    return made


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _either(*names: str) -> list[_Schema]:
    return [{"required": [name]} for name in names]


_NULLABLE_CONTEXT = {
    "type": ["string", "null"],
    "description": "null where there are siblings the writer has not seen: read them",
}
_VERSIONED = {
    "value": _ANY,
    "value_base64": _BASE64,
    "version": _VERSION,
    "ttl": {"type": ["integer", "null"], "minimum": 0, "description": "Seconds left, null for what stays"},
    "content_type": {"type": ["string", "null"]},
    "flags": _FLAGS,
}
_VERSIONED_REQUIRED = ["version", "ttl", "content_type", "flags"]
_KEY_NAME = {"key": _STRING, "key_base64": _BASE64}
_HEALTH = _object(["status", "node"], {"status": {"const": "ok"}, "node": _STRING})
_READY = _object(
    ["status", "node", "members"], {"status": {"const": "ready"}, "node": _STRING, "members": {"type": "integer"}}
)
_LISTING = _object(
    ["keys", "cursor"],
    {
        "keys": {
            "type": "array",
            "items": _object(
                ["version", "siblings"],
                {**_KEY_NAME, "version": _VERSION, "siblings": {"type": "integer", "minimum": 1}},
                oneOf=_either("key", "key_base64"),
            ),
        },
        "cursor": {"type": ["string", "null"], "description": "Where the next page begins, null at the end"},
    },
)


def _schemas(config: NodeConfig) -> _Schema:
    body = {
        "value": _ANY,
        "value_base64": _BASE64,
        "ttl": _TTL,
        "context": _CONTEXT,
        "content_type": _TYPE,
        "flags": _FLAGS,
    }
    conflict = {
        "siblings": {"type": "array", "minItems": 2, "items": _ref("Version")},
        "context": _STRING,
        "clock": _CLOCK,
    }
    written = {"version": _VERSION, "siblings": {"type": "integer", "minimum": 0}, "context": _NULLABLE_CONTEXT}
    result = {**_KEY_NAME, "status": {"type": "integer"}}
    error = {"error": _STRING, "message": _STRING}
    either: _Schema = {"oneOf": _either("key", "key_base64")}
    return {
        "Put": _object([], body, closed=True, oneOf=_either("value", "value_base64")),
        "Item": _object(
            [],
            {**_named_key(config), **body},
            closed=True,
            allOf=[{"oneOf": _either("value", "value_base64")}, either],
        ),
        "Version": _object(_VERSIONED_REQUIRED, _VERSIONED, oneOf=_either("value", "value_base64")),
        "Found": _object(
            [*_VERSIONED_REQUIRED, "context", "clock"],
            {**_VERSIONED, "context": _STRING, "clock": _CLOCK},
            oneOf=_either("value", "value_base64"),
        ),
        "Conflict": _object(["siblings", "context", "clock"], conflict),
        "Written": _object(["version", "siblings", "context"], written),
        "Error": _object(
            ["error", "message"],
            {
                "error": {**_STRING, "description": "A word for programs"},
                "message": {**_STRING, "description": "What to do, for people"},
                "limit": {
                    "type": "integer",
                    "description": "The limit that was hit: bytes, entries, seconds of a ttl, a parameter's largest",
                },
                "limit_s": {"type": "number", "description": "The time, in seconds, in which a body has to come"},
                "outcome": {"enum": ["not_applied", "unknown"]},
                "item": {"type": "integer", "description": "Of a batch: the item that is wrong"},
            },
        ),
        "GetResult": _object(
            ["status"],
            {**result, **_VERSIONED, **conflict, **error},
            **either,
            description="As GET would have answered",
        ),
        "PutResult": _object(
            ["status"], {**result, **written, **error}, **either, description="As PUT would have answered"
        ),
    }


def _parameters(config: NodeConfig, owners_max: int) -> _Schema:
    count = {"enum": [str(number) for number in range(1, owners_max + 1)]}
    limit = config.key_bytes_max
    return {
        "Key": {
            "name": "key",
            "in": "path",
            "required": True,
            "description": f"1 to {limit} bytes, percent-encoded; slashes may stand as they are",
            "schema": _key_text(limit),
            "example": "greeting",
        },
        "Bucket": {
            "name": "bucket",
            "in": "path",
            "required": True,
            "description": "The bucket's name, or a number from 0 to 15; 0 is the one of the paths without a bucket",
            "schema": {"type": "string", "pattern": "^([a-z][a-z0-9_.-]{0,63}|[0-9]|1[0-5])$"},
            "example": "3",
        },
        "Consistency": {
            "name": "Consistency",
            "in": "header",
            "description": "eventual (which is one), quorum, strong, all; linearizable is refused until it is there (501)",
            "schema": {"enum": ["eventual", "one", "quorum", "all", "strong"]},
        },
        "R": {
            "name": "R",
            "in": "header",
            "description": "Owners that must answer a read; before Consistency",
            "schema": count,
        },
        "W": {
            "name": "W",
            "in": "header",
            "description": "Owners that must take a write; before Consistency",
            "schema": count,
        },
        "Context": {"name": CONTEXT_HEADER, "in": "header", "description": _CONTEXT["description"], "schema": _CONTEXT},
    }


def _put(config: NodeConfig, context: _Schema) -> _Schema:
    limit = config.value_bytes_max
    return {
        "operationId": "put",
        "summary": "Write a value",
        "description": f"As JSON, or as a raw body of any other type (ttl and flags are then parameters). Values have up "
        f"to {limit} bytes. Without a context the value replaces what its coordinator knows, as SET does. With ?raw a JSON body "
        "is the value.",
        "parameters": [
            context,
            {
                "name": "ttl",
                "in": "query",
                "description": "Seconds to live, where the body does not say",
                "schema": _TTL,
            },
            {
                "name": "flags",
                "in": "query",
                "description": "A number kept beside the value, where the body does not say",
                "schema": _FLAGS,
            },
            {
                "name": "raw",
                "in": "query",
                "description": "The body is the value, though it is JSON",
                "schema": _RAW,
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _ref("Put"), "example": {"value": "hello", "ttl": 3600}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "text/plain": {"schema": _STRING},
            },
        },
        "responses": {
            "200": {**_json("Written", _ref("Written")), "headers": {"ETag": {"schema": _STRING}}},
            **_errors(400, 408, 409, 411, 413, 415, 417, 501, 503, 504),
        },
    }


def _reading() -> tuple[list[_Schema], _Schema]:
    parameters: list[_Schema] = [
        {
            "name": "raw",
            "in": "query",
            "description": "The value itself, with its content type",
            "schema": _RAW,
        },
        {
            "name": "If-None-Match",
            "in": "header",
            "description": "An ETag you have: 304 if it still holds",
            "schema": _STRING,
        },
    ]
    headers = {
        "ETag": {"schema": _STRING, "description": "The version, or all of them"},
        CONTEXT_HEADER: {
            "schema": _STRING,
            "description": "As context in the body, where it is not too long for a header",
        },
    }
    return parameters, headers


def _get() -> _Schema:
    parameters, headers = _reading()
    return {
        "operationId": "get",
        "summary": "Read a value",
        "description": "JSON, or the value itself with ?raw or an Accept that takes its type and no JSON.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The value",
                "headers": headers,
                "content": {JSON: {"schema": {"anyOf": [_ref("Found"), _RAW_JSON]}}, "*/*": {"schema": {}}},
            },
            "300": {
                **_json("Concurrent versions: merge them, and put the result with this context", _ref("Conflict")),
                "headers": headers,
            },
            "304": {"description": "It is still the version that you have", "headers": headers},
            **_errors(400, 404, 406, 501, 503),
        },
    }


def _head() -> _Schema:
    parameters, headers = _reading()
    answers = {
        200: "It is there",
        300: "Concurrent versions",
        304: "Still the version that you have",
        404: _ERRORS[404],
    }
    errors = {status: _ERRORS[status] for status in (400, 406, 501, 503)}
    return {
        "operationId": "head",
        "summary": "As GET, without the body",
        "parameters": parameters,
        "responses": {
            str(status): {"description": text, **({"headers": headers} if status < 400 else {})}
            for status, text in {**answers, **errors}.items()
        },
    }


def _listing_parameters() -> list[_Schema]:
    limit = {"type": "integer", "minimum": 1, "maximum": keys.LIST_LIMIT_MAX, "default": keys.LIST_LIMIT}
    return [
        {"name": "prefix", "in": "query", "description": "Only keys that begin with it", "schema": _STRING},
        {
            "name": "cursor",
            "in": "query",
            "description": "Of the page before",
            "schema": {"type": "integer", "minimum": 0, "maximum": keys.CURSOR_MAX},
        },
        {"name": "limit", "in": "query", "description": "About so many keys", "schema": limit},
    ]


def _key_text(limit: int) -> _Schema:
    """The limit is in bytes of UTF-8, which a schema cannot tell: it says what no key can pass."""
    return {"type": "string", "minLength": 1, "maxLength": limit}


def _named_key(config: NodeConfig) -> _Schema:
    """A key as a batch names it; as base64 it has a length in bytes that a pattern can tell."""
    limit = config.key_bytes_max
    whole, over = divmod(limit, 3)
    quad = "[A-Za-z0-9+/]{4}"
    one = whole if over >= 1 else whole - 1
    two = whole if over >= 2 else whole - 1
    pattern = (
        f"^(({quad}){{1,{whole}}}|({quad}){{0,{one}}}[A-Za-z0-9+/]{{2}}==|({quad}){{0,{two}}}[A-Za-z0-9+/]{{3}}=)$"
    )
    return {
        "key": _key_text(limit),
        "key_base64": {"type": "string", "contentEncoding": "base64", "pattern": pattern},
    }


def _batch_get(config: NodeConfig, levels: list[_Schema]) -> _Schema:
    named = _named_key(config)
    name = {"anyOf": [named["key"], _object(["key_base64"], {"key_base64": named["key_base64"]}, closed=True)]}
    asked = {"keys": {"type": "array", "minItems": 1, "maxItems": batch.ITEMS_MAX, "items": name}}
    return {
        "operationId": "batch_get",
        "summary": "Read many keys, each with a result of its own",
        "parameters": levels,
        "requestBody": _body(_object(["keys"], asked, closed=True), {"keys": ["greeting", "farewell"]}),
        "responses": {"200": _json("In the order asked", _results("GetResult")), **_errors(*_BATCH_ERRORS)},
    }


def _batch_put(levels: list[_Schema]) -> _Schema:
    items = {"type": "array", "minItems": 1, "maxItems": batch.ITEMS_MAX, "items": _ref("Item")}
    example = {"items": [{"key": "greeting", "value": "hello"}, {"key": "farewell", "value": "bye", "ttl": 3600}]}
    return {
        "operationId": "batch_put",
        "summary": "Write many keys, each with a result of its own",
        "description": "No transaction: some may be written and others refused. An item that cannot be read refuses them all.",
        "parameters": levels,
        "requestBody": _body(_object(["items"], {"items": items}, closed=True), example),
        "responses": {"200": _json("In the order sent", _results("PutResult")), **_errors(*_BATCH_ERRORS)},
    }


_BATCH_ERRORS = (400, 408, 409, 411, 413, 415, 417, 501, 503)


def _results(name: str) -> _Schema:
    return _object(["results"], {"results": {"type": "array", "items": _ref(name)}})


def _body(schema: _Schema, example: object) -> _Schema:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _json(description: str, schema: _Schema) -> _Schema:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _plain(name: str, summary: str, content_type: str, schema: _Schema) -> _Schema:
    answer = {"description": summary, "content": {content_type: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **_errors(400)}}


def _errors(*statuses: int) -> _Schema:
    return {str(status): {"$ref": f"#/components/responses/E{status}"} for status in (*statuses, 405, 431, 500)}


def _error(status: int, text: str) -> _Schema:
    answer = _json(text, _ref("Error"))
    if status == 503:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    if status == 405:
        answer["headers"] = {"Allow": {"schema": _STRING}}
    return answer
