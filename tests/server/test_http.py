"""What HTTP requests mean and are answered, on a node of one dict: heads, bodies, values, siblings, failures."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from tests.server.fake import MEMBERS, Connection, FakeNode

from ringwise.core.buckets import Settings, change
from ringwise.core.context import Context
from ringwise.core.errors import (
    Failure,
    ImpossibleLevel,
    NotReady,
    Overloaded,
    QuorumNotReached,
    RecordDamaged,
    Relayed,
    UnknownOutcome,
    WritesStopped,
)
from ringwise.core.levels import Level
from ringwise.core.topology import Topology
from ringwise.core.versions import Write
from ringwise.server.http.app import App
from ringwise.server.http.ask import Ask
from ringwise.server.http.keys import LIST_LIMIT_MAX
from ringwise.server.http.message import Answer, Refusal
from ringwise.server.http.parse import accepts, none_match, percent_decoded, query_of
from ringwise.server.http.values import batch_key

KEY = "/api/v1/kv/"


class Headers(dict[str, str]):
    """Names without regard to case, as aiohttp has them."""

    def __init__(self, items: dict[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in items.items()})

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Http:
    """A client of one app."""

    def __init__(self, node: FakeNode | None = None) -> None:
        self.node = node or FakeNode()
        self.turns = 0
        self.stopping: str | None = None

    def __call__(self, method: str, target: str, body: bytes | object = None, **headers: str) -> Answer:
        named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            named.setdefault("content-type", "text/plain" if isinstance(body, bytes) else "application/json")
            named["content-length"] = str(len(data))
        return asyncio.run(self._run(method, target, named, data))

    async def _run(self, method: str, target: str, headers: Headers, body: bytes) -> Answer:
        ask = Ask(self.node, self._enter, asyncio.get_running_loop().create_future)
        app = App(ask, lambda: self.stopping)
        try:
            match = app.match(method, target, headers)
        except Refusal as refusal:
            return refusal.answer()
        match.request.body = body
        return await app.answer(match)

    def _enter(self) -> None:
        self.turns += 1


def told(answer: Answer) -> Any:
    assert answer.content_type == "application/json"
    return json.loads(answer.body)


@pytest.fixture
def http() -> Http:
    return Http()


# -- values


@pytest.mark.parametrize(
    ("value", "stored", "content_type"),
    [
        ("hello", b"hello", None),
        ("grün\u0000", "grün\u0000".encode(), None),
        ("", b"", None),
        ({"a": [1, 2.5, None]}, b'{"a": [1, 2.5, null]}', "application/json"),
        (17, b"17", "application/json"),
        (None, b"null", "application/json"),
        (False, b"false", "application/json"),
    ],
)
def test_any_json_comes_back_as_it_was_sent(http: Http, value: object, stored: bytes, content_type: str | None) -> None:
    written = http("PUT", KEY + "k", {"value": value})
    assert written.status == 200
    found = told(http("GET", KEY + "k"))
    assert found["value"] == value
    assert found["content_type"] == content_type
    assert found["version"] == told(written)["version"]
    raw = http("GET", KEY + "k?raw")
    assert raw.body == stored
    assert raw.content_type == (content_type or "application/octet-stream")


def test_numbers_keep_their_digits(http: Http) -> None:
    text = b'{"value": {"n": 12345678901234567890.10, "e": 1e999}}'
    assert http("PUT", KEY + "k", text, Content_Type="application/json").status == 200
    assert b'"value":{"n": 12345678901234567890.10, "e": 1e999}' in http("GET", KEY + "k").body


@pytest.mark.parametrize("kind", ["image/png", "text/html; charset=utf-8", "application/octet-stream"])
def test_a_raw_body_keeps_its_type(http: Http, kind: str) -> None:
    data = bytes(range(256))
    assert http("PUT", KEY + "k?flags=7", data, Content_Type=kind).status == 200
    found = told(http("GET", KEY + "k"))
    assert base64.b64decode(found["value_base64"]) == data
    assert (found["content_type"], found["flags"]) == (kind, 7)
    for answer in (http("GET", KEY + "k", Accept=kind), http("GET", KEY + "k", Accept="application/octet-stream")):
        assert (answer.status, answer.body, answer.content_type) == (200, data, kind)
        assert answer.headers["X-Ringwise-Flags"] == "7"
    assert http("GET", KEY + "k", Accept="audio/ogg").status == 406
    assert told(http("GET", KEY + "k", Accept="text/css, */*;q=0.1"))["content_type"] == kind


def test_what_redis_clients_store_is_a_value(http: Http) -> None:
    http.node.put(b"text", "grün".encode(), Level.parse(b"one"), _Nothing(), 0)
    http.node.put(b"bytes", b"\xff\xfe", Level.parse(b"one"), _Nothing(), 0)
    assert told(http("GET", KEY + "text"))["value"] == "grün"
    assert told(http("GET", KEY + "bytes"))["value_base64"] == "//4="


def test_base64_types_and_flags_in_json(http: Http) -> None:
    body = {"value_base64": "//4=", "content_type": "image/png", "flags": 4294967295}
    assert http("PUT", KEY + "k", body).status == 200
    found = told(http("GET", KEY + "k"))
    assert {name: found[name] for name in body} == body
    # A JSON type named by the client means JSON text, a string's quotes included.
    assert http("PUT", KEY + "j", {"value": "x", "content_type": "application/json"}).status == 200
    assert http("GET", KEY + "j?raw").body == b'"x"'
    assert told(http("GET", KEY + "j"))["value"] == "x"


def test_json_that_is_none_comes_as_bytes(http: Http) -> None:
    assert http("PUT", KEY + "k?raw", b"{", Content_Type="application/json").status == 200
    assert told(http("GET", KEY + "k"))["value_base64"] == "ew=="


def test_a_form_is_read_as_json_since_curl_says_so_unasked(http: Http) -> None:
    form = "application/x-www-form-urlencoded"
    assert http("PUT", KEY + "k", b'{"value": "v"}', Content_Type=form).status == 200
    assert told(http("GET", KEY + "k"))["value"] == "v"
    refused = http("PUT", KEY + "k", b"v", Content_Type=form)
    assert (refused.status, told(refused)["error"]) == (400, "malformed_json")
    assert "text/plain" in told(refused)["message"]


def test_time_to_live(http: Http) -> None:
    assert http("PUT", KEY + "j", {"value": 1, "ttl": 1.5}).status == 200
    assert http("PUT", KEY + "r?ttl=3600", b"x").status == 200
    assert told(http("GET", KEY + "j"))["ttl"] == 2
    assert told(http("GET", KEY + "r"))["ttl"] == 3600
    assert http("GET", KEY + "r?raw").headers["X-Ringwise-TTL"] == "3600"
    http.node.now.wall_ms += 1500
    assert http("GET", KEY + "j").status == 404
    http("PUT", KEY + "j", {"value": 1})
    assert told(http("GET", KEY + "j"))["ttl"] is None


# -- keys


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b//c", b"a/b//c"),
        ("%00%FF+", b"\x00\xff+"),
        ("gr%C3%BCn", "grün".encode()),
        ("..", b".."),
        ("%2525", b"%25"),
    ],
)
def test_keys_are_percent_decoded_bytes(http: Http, path: str, key: bytes) -> None:
    assert http("PUT", KEY + path, b"x").status == 200
    assert list(http.node.records) == [key]
    assert http("DELETE", KEY + path).status == 204
    assert http("GET", KEY + path).status == 404


def test_key_lengths(http: Http) -> None:
    assert http("PUT", KEY + "k" * 256, b"x").status == 200
    assert http("PUT", KEY + "%20" * 256, b"x").status == 200
    for path, error in (("k" * 257, "key_too_long"), ("", "key_empty")):
        refused = http("PUT", KEY + path, b"x")
        assert (refused.status, told(refused)["error"], told(refused)["limit" if path else "error"]) == (
            400,
            error,
            256 if path else error,
        )


# -- siblings and contexts


def conflict(http: Http) -> None:
    """Two writers who had seen nothing."""
    for value in (b"red", b"blue"):
        http.node.write(b"cart", Write(value=value, context=Context()), Level.parse(b"one"), _Nothing(), 0)


def test_siblings_are_shown_and_resolved(http: Http) -> None:
    conflict(http)
    answer = http("GET", KEY + "cart?raw")
    found = told(answer)
    assert answer.status == 300
    assert sorted(each["value"] for each in found["siblings"]) == ["blue", "red"]
    assert answer.headers["X-Ringwise-Context"] == found["context"]
    assert http("GET", KEY + "cart", If_None_Match=answer.headers["ETag"]).status == 304
    assert http("PUT", KEY + "cart", {"value": "purple", "context": found["context"]}).status == 200
    assert told(http("GET", KEY + "cart"))["value"] == "purple"
    # The same context again has not seen purple.
    assert told(http("PUT", KEY + "cart", b"green", X_Ringwise_Context=found["context"]))["siblings"] == 2
    assert http("GET", KEY + "cart").status == 300


def test_a_write_beside_others_names_its_own_version_and_hands_out_no_context(http: Http) -> None:
    conflict(http)
    token = told(http("GET", KEY + "cart"))["context"]
    first = told(http("PUT", KEY + "cart", b"purple", X_Ringwise_Context=token))
    second = told(http("PUT", KEY + "cart", b"green", X_Ringwise_Context=token))
    assert (first["siblings"], second["siblings"], second["context"]) == (1, 2, None)
    shown = {each["value"]: each["version"] for each in told(http("GET", KEY + "cart"))["siblings"]}
    assert shown == {"purple": first["version"], "green": second["version"]}


def test_delete_with_and_without_a_context(http: Http) -> None:
    conflict(http)
    token = told(http("GET", KEY + "cart"))["context"]
    http("PUT", KEY + "cart", b"green")
    assert http("DELETE", KEY + "cart", X_Ringwise_Context=token).status == 204
    assert told(http("GET", KEY + "cart"))["value"] == "green"  # unseen by the deletion
    assert http("DELETE", KEY + "cart").status == 204
    assert http("GET", KEY + "cart").status == 404
    assert http("DELETE", KEY + "cart").status == 204


def test_contexts_of_other_keys_and_broken_ones_are_refused(http: Http) -> None:
    http("PUT", KEY + "a", b"1")
    token = told(http("GET", KEY + "a"))["context"]
    assert http("PUT", KEY + "b", b"1", X_Ringwise_Context=token).status == 409
    assert http("PUT", KEY + "a", b"1", X_Ringwise_Context="?").status == 400
    assert http("PUT", KEY + "a", b"1", X_Ringwise_Context="").status == 400
    assert http("PUT", KEY + "a", {"value": 1, "context": ""}).status == 400
    assert http("PUT", KEY + "a", {"value": 1, "context": token[:-4] + "AAAA"}).status == 409
    assert list(http.node.records) == [b"a"]


def test_conditional_writes_are_refused_and_etags_are_weak(http: Http) -> None:
    etag = http("PUT", KEY + "k", b"1").headers["ETag"]
    assert etag.startswith('W/"')
    assert http("GET", KEY + "k").headers["ETag"] == etag
    assert http("GET", KEY + "k", If_None_Match=f'"x", {etag}').status == 304
    assert http("GET", KEY + "k", If_None_Match='"x"').status == 200
    for method, condition in (("PUT", "If_Match"), ("DELETE", "If_Match"), ("PUT", "If_None_Match")):
        refused = http(method, KEY + "k", b"2" if method == "PUT" else None, **{condition: etag})
        assert refused.status == 501
        assert "compare and set" in told(refused)["message"]
    assert http("GET", KEY + "k?raw").body == b"1"


# -- levels and failures


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, "quorum"),
        ({"Consistency": "eventual"}, "one"),
        ({"Consistency": "Strong"}, "strong"),
        ({"R": "1"}, "r=1"),
        ({"R": "3", "W": "2", "Consistency": "eventual"}, "r=3,w=2"),
    ],
)
def test_levels(http: Http, headers: dict[str, str], name: str) -> None:
    http("GET", KEY + "k", **headers)
    assert http.node.log == [("get", b"k", name)]


@pytest.mark.parametrize("headers", [{"Consistency": "much"}, {"R": "0"}, {"W": "two"}, {"R": "1", "Consistency": "?"}])
def test_levels_that_are_none(http: Http, headers: dict[str, str]) -> None:
    refused = http("PUT", KEY + "k", b"1", **headers)
    assert (refused.status, told(refused)["error"]) == (400, "bad_level")
    assert not http.node.log


def test_linearizable_is_refused_rather_than_weakened(http: Http) -> None:
    assert http("PUT", KEY + "k", b"1", Consistency="linearizable").status == 501
    assert not http.node.log


@pytest.mark.parametrize(
    ("failure", "status", "error", "outcome"),
    [
        (QuorumNotReached(2, 1), 503, "quorum_not_reached", "not_applied"),
        (Overloaded("forming", 10), 503, "overloaded", "not_applied"),
        (NotReady("no cluster"), 503, "cluster_not_ready", "not_applied"),
        (WritesStopped("disk full"), 503, "writes_stopped", "not_applied"),
        (UnknownOutcome(2, 1), 504, "unknown_outcome", "unknown"),
        (Relayed("UNKNOWN", "outcome: …", unknown=True), 504, "unknown_outcome", "unknown"),
        (Relayed("NOQUORUM", "1 of 2", unknown=False), 503, "quorum_not_reached", "not_applied"),
        (ImpossibleLevel("w=9", 9, 3), 400, "bad_level", None),
        (RecordDamaged("its checksum"), 500, "damaged_record", None),
    ],
)
def test_failures_have_statuses(http: Http, failure: Failure, status: int, error: str, outcome: str | None) -> None:
    http.node.fail[b"k"] = failure
    answer = http("PUT", KEY + "k", b"1")
    assert (answer.status, told(answer)["error"], told(answer).get("outcome")) == (status, error, outcome)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert told(answer)["message"]


# -- bodies and heads


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"value": 1', "malformed_json"),
        (b'{"value": 1,}', "malformed_json"),
        (b'{"value": "\xff"}', "malformed_json"),
        (b'{"value": "\\ud800"}', "malformed_json"),
        (b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed_json"),
        (b"", "malformed_json"),
        (b"[]", "bad_body"),
        (b"{}", "bad_body"),
        (b'{"value": 1, "value_base64": ""}', "bad_body"),
        (b'{"value": 1, "tll": 5}', "bad_body"),
        (b'{"value": 1, "flags": -1}', "bad_body"),
        (b'{"value": 1, "flags": 1.5}', "bad_body"),
        (b'{"value": 1, "ttl": "5"}', "bad_body"),
        (b'{"value": 1, "ttl": 0}', "bad_ttl"),
        (b'{"value": 1, "ttl": 1e300}', "bad_ttl"),
        (b'{"value_base64": "x"}', "bad_base64"),
        (b'{"value": "x", "content_type": "a\\r\\nb"}', "bad_content_type"),
    ],
)
def test_json_that_will_not_do(http: Http, body: bytes, error: str) -> None:
    refused = http("PUT", KEY + "k", body, Content_Type="application/json")
    assert (refused.status, told(refused)["error"]) == (400, error)
    assert not http.node.records


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (KEY + "a%", "bad_percent_encoding"),
        (KEY + "a%zz", "bad_percent_encoding"),
        (KEY + "a?raw=%f", "bad_percent_encoding"),
        (KEY + "a?raw=maybe", "bad_parameter"),
        (KEY + "a?tll=5", "bad_parameter"),
        (KEY + "a?ttl=5&ttl=6", "bad_parameter"),
        (KEY + "a?ttl=-1", "bad_ttl"),
        (KEY + "a?flags=4294967296", "bad_parameter"),
    ],
)
def test_targets_that_will_not_do(http: Http, target: str, error: str) -> None:
    refused = http("PUT", target, b"1")
    assert (refused.status, told(refused)["error"]) == (400, error)
    assert not http.node.records


def test_sizes_are_refused_before_a_body_is_read(http: Http) -> None:
    limit = http.node.config.value_bytes_max
    assert http("PUT", KEY + "k", b"", Content_Length="0").status == 200
    refused = http("PUT", KEY + "k", b"x" * (limit + 1))
    assert (refused.status, told(refused)["limit"]) == (413, limit)
    # In JSON, what counts is the value.
    assert http("PUT", KEY + "k", {"value": "\u0001" * (limit // 6 * 3)}).status == 413
    assert http("PUT", KEY + "k", {"value": "x" * limit}).status == 200
    assert told(http("PUT", KEY + "k", {"value": "x" * (limit + 1)}))["error"] == "value_too_large"
    assert http("PUT", KEY + "k").status == 411
    assert http("PUT", KEY + "k", b"x", Content_Encoding="gzip").status == 415


def test_paths_and_methods(http: Http) -> None:
    assert told(http("GET", "/api/v2"))["error"] == "no_such_path"
    refused = http("POST", KEY + "k", {})
    assert (refused.status, refused.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")
    refused = http("GET", "/api/v1/batch/get")
    assert (refused.status, refused.headers["Allow"]) == (405, "POST")
    assert http("PUT", "http://node:8379" + KEY + "k", b"1").status == 200
    assert list(http.node.records) == [b"k"]


# -- batches and listing


def test_batches(http: Http) -> None:
    items = [
        {"key": "a", "value": {"n": 1}},
        {"key_base64": "/w==", "value": "x", "ttl": 9},
        {"key": "c", "value": "y"},
    ]
    http.node.fail[b"c"] = UnknownOutcome(2, 1)
    put = told(http("POST", "/api/v1/batch/put", {"items": items}))["results"]
    assert [(each["status"], each.get("error")) for each in put] == [(200, None), (200, None), (504, "unknown_outcome")]
    assert put[1]["key_base64"] == "/w=="
    assert http.turns == 1  # together
    conflict(http)
    asked = {"keys": ["a", {"key_base64": "/w=="}, "b", "c", "cart", "a"]}
    got = told(http("POST", "/api/v1/batch/get", asked, Consistency="eventual"))["results"]
    assert [each["status"] for each in got] == [200, 200, 404, 504, 300, 200]
    assert (got[0]["key"], got[0]["value"], got[1]["ttl"], len(got[4]["siblings"])) == ("a", {"n": 1}, 9, 2)
    assert ("get", b"a", "one") in http.node.log


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("get", {"keys": []}, "bad_batch_size"),
        ("get", {"keys": ["k"] * 257}, "bad_batch_size"),
        ("get", {"keys": [""]}, "key_empty"),
        ("get", {"keys": ["k" * 257]}, "key_too_long"),
        ("get", {"keys": [7]}, "bad_body"),
        ("put", {"items": [{"key": "a", "value": 1}, {"key": "b"}]}, "bad_body"),
        ("put", {"items": [{"value": 1}]}, "bad_body"),
        ("put", {"items": [{"key": "a", "key_base64": "YQ==", "value": 1}]}, "bad_body"),
    ],
)
def test_batches_that_will_not_do(http: Http, path: str, body: object, error: str) -> None:
    refused = http("POST", f"/api/v1/batch/{path}", body)
    assert (refused.status, told(refused)["error"]) == (400, error)
    assert not http.node.log


def test_a_batch_is_no_request_that_a_page_elsewhere_can_send(http: Http) -> None:
    assert http("POST", "/api/v1/batch/put", b'{"items": []}', Content_Type="text/plain").status == 415


def test_listing_in_pages(http: Http) -> None:
    names = [f"user:{number}" for number in range(150)] + [f"cart:{number}" for number in range(50)]
    for name in names:
        http("PUT", KEY + name, b"x")
    http("PUT", KEY + "%FF", b"x")
    http("DELETE", KEY + "cart:7")
    names.remove("cart:7")
    for prefix, limit in (("", 20), ("", LIST_LIMIT_MAX), ("user:", 7), ("user:1", 100), ("none", 5)):
        found: list[str] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = told(http("GET", f"/api/v1/kv?prefix={prefix}&limit={limit}&cursor={cursor}"))
            assert len(page["keys"]) <= limit
            found += [each["key"] for each in page["keys"] if "key" in each]
            cursor = page["cursor"]
        assert sorted(found) == sorted(name for name in names if name.startswith(prefix))
    for bad in ("limit=0", "limit=1001", "cursor=x", "cursor=-1"):
        assert http("GET", f"/api/v1/kv?{bad}").status == 400


# -- the node


def test_health_and_readiness(http: Http) -> None:
    assert http("GET", "/health").status == 200
    assert told(http("GET", "/ready")) == {"status": "ready", "node": "n0", "members": 3}
    http.node.down = {MEMBERS[1].id}
    assert http("GET", "/ready").status == 200
    http.node.down = {MEMBERS[1].id, MEMBERS[2].id}
    refused = http("GET", "/ready")
    assert (refused.status, told(refused)["error"]) == (503, "not_ready")
    http.node.down = set()
    http.stopping = "this node is stopping"
    assert http("GET", "/ready").status == 503
    assert http("GET", "/health").status == 200
    assert Http(FakeNode(topology=Topology()))("GET", "/ready").status == 503


def test_the_document_and_the_page(http: Http) -> None:
    document = told(http("GET", "/api/v1/openapi.json"))
    assert document["openapi"].startswith("3.1")
    page = http("GET", "/")
    assert page.content_type.startswith("text/html")
    assert b"http://" not in page.body and b"https://" not in page.body  # nothing from elsewhere
    assert page.headers["Content-Security-Policy"].count("sha256-") == 2


# -- reading heads


def test_the_documentation_names_every_status_and_field(http: Http) -> None:
    document = told(http("GET", "/api/v1/openapi.json"))
    written = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("|")]
    for status in (name[1:] for name in document["components"]["responses"]):
        assert any(status in row.split("|")[1] for row in rows), status
    row = next(row for row in rows if "GET /api/v1/kv/{key}" in row)
    for field in document["components"]["schemas"]["Found"]["properties"]:
        assert f'"{field}"' in row, field
    for field in document["components"]["schemas"]["Error"]["properties"]:
        assert f"`{field}`" in written or f'"{field}"' in written, field


def test_percent_decoding() -> None:
    assert percent_decoded("%41%2f\udcff") == b"A/\xff"
    assert query_of("a=1+2&b&c=%26") == {"a": b"1 2", "b": b"", "c": b"&"}


@pytest.mark.parametrize(
    ("header", "kind", "yes"),
    [
        ("", "a/b", True),
        ("*/*", "a/b", True),
        ("a/*;q=0.5", "a/b; charset=x", True),
        ("a/b;q=0, */*", "a/b", False),
        ("text/html, x/y", "a/b", False),
        ("A/B; q=1.0", "a/b", True),
        ("a/b;q=..", "a/b", False),
    ],
)
def test_accept(header: str, kind: str, yes: bool) -> None:
    assert accepts(header, kind) is yes


def test_none_match() -> None:
    assert none_match("*", 'W/"1"')
    assert none_match('"0", W/"1"', 'W/"1"')
    assert not none_match('"11"', 'W/"1"')


def test_an_item_names_one_key() -> None:
    with pytest.raises(Refusal):
        batch_key(UNSET, UNSET, FakeNode().config)


class _Nothing:
    def stood_in(self, index: int) -> None: ...
    def stored(self, index: int, record: bytes) -> None: ...
    def found(self, index: int, record: bytes) -> None: ...
    def updated(self, index: int, before: bytes, after: bytes) -> None: ...
    def failed(self, index: int, error: Failure) -> None: ...


def test_that_a_stand_in_counted_is_told_in_a_header() -> None:
    http = Http()
    assert "X-Ringwise-Stand-In" not in http("PUT", "/api/v1/kv/k", b"v").headers
    http.node.sloppy = True
    for method, body in (("PUT", b"v"), ("GET", None), ("DELETE", None)):
        assert http(method, "/api/v1/kv/k", body).headers["X-Ringwise-Stand-In"] == "1"
    http.node.sloppy = False
    assert "X-Ringwise-Stand-In" not in http("GET", "/api/v1/kv/k").headers


# -- collections


def test_a_hash_and_a_sorted_set_are_shown_as_json_with_types_of_their_own(http: Http) -> None:
    redis = Connection(http.node)
    redis.run("HSET", "h", "name", "Ann", "raw", b"\xff")
    redis.run("ZADD", "z", "2", "b", "-inf", "a")
    shown = told(http("GET", KEY + "h"))
    assert shown["value"] == {"name": "Ann", "raw": {"base64": "/w=="}}
    assert shown["content_type"] == "application/vnd.ringwise.hash+json"
    shown = told(http("GET", KEY + "z"))
    assert shown["value"] == [["a", "-inf"], ["b", 2.0]]
    assert shown["content_type"] == "application/vnd.ringwise.sorted-set+json"


@pytest.mark.parametrize(
    ("add", "remove"), [("SADD k a b", "SREM k a"), ("HSET k a 1 b 2", "HDEL k a"), ("ZADD k 1 a 2 b", "ZREM k a")]
)
def test_a_collection_that_loses_a_member_is_another_one(http: Http, add: str, remove: str) -> None:
    redis = Connection(http.node)
    redis.run(*add.split())
    tag = http("GET", KEY + "k").headers["ETag"]
    assert http("GET", KEY + "k", If_None_Match=tag).status == 304
    redis.run(*remove.split())
    assert http("GET", KEY + "k", If_None_Match=tag).status == 200


class TestBuckets:
    """The same paths with a bucket before them."""

    def test_keys_of_a_bucket_are_apart(self) -> None:
        http = Http()
        assert http("PUT", "/api/v1/buckets/3/kv/k", b"three").status == 200
        assert told(http("GET", "/api/v1/buckets/3/kv/k"))["value"] == "three"
        assert http("GET", KEY + "k").status == 404
        assert [each["key"] for each in told(http("GET", "/api/v1/buckets/3/kv"))["keys"]] == ["k"]
        assert http("PUT", "/api/v1/buckets/0/kv/zero", b"0").status == 200
        assert told(http("GET", KEY + "zero"))["value"] == "0"

    def test_batches_of_a_bucket(self) -> None:
        http = Http()
        put = http("POST", "/api/v1/buckets/7/batch/put", {"items": [{"key": "a", "value": "1"}]})
        assert told(put)["results"][0]["status"] == 200
        assert told(http("POST", "/api/v1/buckets/7/batch/get", {"keys": ["a"]}))["results"][0]["value"] == "1"
        assert told(http("POST", "/api/v1/batch/get", {"keys": ["a"]}))["results"][0]["status"] == 404

    @pytest.mark.parametrize("bucket", ["none", "16", "%20", "%ff"])
    def test_what_is_no_bucket(self, bucket: str) -> None:
        answer = Http()("GET", f"/api/v1/buckets/{bucket}/kv/k")
        assert answer.status == 404 and told(answer)["error"] == "no_such_bucket"

    @pytest.mark.parametrize(
        "path", ["", "/", "/3", "/3/", "/3/health", "/3/openapi.json", "/3/buckets/3/kv/k", "//kv/k"]
    )
    def test_paths_that_are_none(self, path: str) -> None:
        assert told(Http()("GET", "/api/v1/buckets" + path))["error"] == "no_such_path"

    def test_a_bucket_s_level_holds_where_the_request_names_none(self) -> None:
        http = Http()
        document = http.node.topology.document
        assert document is not None
        http.node.change_buckets(lambda before: change(before, "4", Settings(r="one", w="all")), lambda _: None)
        http("GET", "/api/v1/buckets/4/kv/k")
        assert http.node.log[-1][2] == "r=one,w=all"
        http("GET", "/api/v1/buckets/4/kv/k", Consistency="strong")
        assert http.node.log[-1][2] == "strong"
        http("GET", "/api/v1/buckets/4/kv/k", R="2")
        assert http.node.log[-1][2] == "r=2"

    def test_every_path_about_keys_is_described_in_a_bucket_too(self) -> None:
        paths = told(Http()("GET", "/api/v1/openapi.json"))["paths"]
        about_keys = {path for path in paths if path.startswith(("/api/v1/kv", "/api/v1/batch"))}
        assert {path.replace("/api/v1/", "/api/v1/buckets/{bucket}/") for path in about_keys} == {
            path for path in paths if path.startswith("/api/v1/buckets")
        }
        names = [each["operationId"] for item in paths.values() for key, each in item.items() if key != "parameters"]
        assert len(set(names)) == len(names)

    def test_a_context_is_of_the_key_in_one_bucket(self) -> None:
        http = Http()
        context = told(http("PUT", KEY + "k", {"value": "v"}))["context"]
        other = "/api/v1/buckets/3/kv/k"
        assert http("PUT", other, {"value": "w", "context": context}).status == 409
        assert http("DELETE", other, X_Ringwise_Context=context).status == 409
        own = told(http("PUT", other, {"value": "v"}))["context"]
        assert told(http("PUT", other, {"value": "w", "context": own}))["siblings"] == 1
        assert told(http("GET", other))["context"] != context
