"""What requests say in paths, queries and headers, read strictly: what cannot be read is refused, never guessed at."""

from __future__ import annotations

import math
import re

from ringwise.core.config import NodeConfig
from ringwise.core.context import Context
from ringwise.core.errors import Failure
from ringwise.core.levels import ONE, Level
from ringwise.server.http.message import Refusal, Request, refusal_of

CONTEXT_HEADER = "X-Ringwise-Context"
FLAGS_HEADER = "X-Ringwise-Flags"
CONTENT_TYPE_BYTES_MAX = 255  # as RW.PUT
FLAGS_MAX = 2**32 - 1
TTL_S_MAX = 10_000_000_000  # some 300 years; what is longer is a mistake in the unit
TOKEN_PATTERN = "^[A-Za-z0-9_-]{20,}$"
LEVELS = "eventual, one, quorum, all or strong"

_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_COUNT = re.compile(r"[1-9][0-9]?")
_NATURAL = re.compile(r"[0-9]{1,20}")
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_TOKEN = re.compile(TOKEN_PATTERN)
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')

# What would compare and set. A leaderless store cannot: two nodes may say yes to two writers at once.
_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")


def percent_decoded(text: str) -> bytes:
    """The bytes that percent-encoding stands for."""
    raw = text.encode("utf-8", "surrogateescape")
    if _BROKEN.search(raw):
        raise Refusal(
            400, "bad_percent_encoding", "a % must be followed by two hexadecimal digits; write % itself as %25"
        )
    return _ENCODED.sub(lambda match: bytes((int(match[1], 16),)), raw)


def query_of(text: str) -> dict[str, bytes]:
    """The parameters of a query, each at most once; `+` is a space, as in forms."""
    found: dict[str, bytes] = {}
    for pair in text.split("&") if text else []:
        name, _, value = pair.replace("+", " ").partition("=")
        decoded = percent_decoded(name).decode("utf-8", "replace")
        if decoded in found:
            raise Refusal(400, "bad_parameter", f"the parameter {decoded!r} is there twice; send it once")
        found[decoded] = percent_decoded(value)
    return found


def key_of(text: str, config: NodeConfig) -> bytes:
    """The key in a path: everything after the prefix, slashes included."""
    return checked_key(percent_decoded(text), config)


def checked_key(key: bytes, config: NodeConfig) -> bytes:
    limit = config.key_bytes_max
    if not key:
        raise Refusal(400, "key_empty", f"the key is empty; a key has 1 to {limit} bytes", limit=limit)
    if len(key) > limit:
        message = f"the key has {len(key)} bytes, the limit is {limit}; use a shorter key"
        raise Refusal(400, "key_too_long", message, limit=limit)
    return key


def level_of(request: Request, config: NodeConfig, own: Level | None) -> Level:
    """The consistency that the headers `R` and `W`, or else `Consistency`, ask for; without them the bucket's own, if it has one,
    or the node's."""
    counts = {which: request.headers[which].strip() for which in ("R", "W") if which in request.headers}
    for which, count in counts.items():
        if not _COUNT.fullmatch(count):
            raise _bad_level(f"{which} is a number of owners, from 1 to as many as a key has")
    if own is not None and not counts and "Consistency" not in request.headers:
        return own
    name = request.headers.get("Consistency", config.default_level).strip().lower()
    if name == "linearizable":
        raise Refusal(
            501,
            "not_implemented",
            "linearizable operations are not there yet, and nothing weaker was done in their place; "
            "ask for strong, which reads and writes majorities",
        )
    level = ONE if name == "eventual" else _level(name)
    return _level(",".join(f"{which.lower()}={count}" for which, count in counts.items())) if counts else level


def _level(text: str) -> Level:
    try:
        return Level.parse(text.encode("utf-8", "replace"))
    except Failure as error:
        raise _bad_level(f"unknown consistency level; use {LEVELS}, or the headers R and W") from error


def _bad_level(message: str) -> Refusal:
    return Refusal(400, "bad_level", message)


def refuse_conditions(request: Request) -> None:
    """A conditional write is refused rather than done unconditionally."""
    for name in _CONDITIONS:
        if name in request.headers:
            raise Refusal(
                501,
                "not_implemented",
                f"{name}: a store without a leader cannot compare and set, so nothing was written; pass the context of "
                f"your read as {CONTEXT_HEADER} (or in the JSON body), and a concurrent write stays as a sibling",
            )


def context_header(request: Request) -> str:
    """The token in X-Ringwise-Context, "" where there is none."""
    token = request.headers.get(CONTEXT_HEADER)
    if token is not None and not token.strip():
        raise Refusal(400, "bad_context", f"{CONTEXT_HEADER} is empty; leave it out, or pass the context of a read")
    return token.strip() if token is not None else ""


def context_of(token: str, key: bytes) -> Context | None:
    """The context in a token; None where there is no token."""
    if not token:
        return None
    if not _TOKEN.fullmatch(token):
        raise Refusal(
            400, "bad_context", "this is no context; pass back, unchanged, the context of a read of the same key"
        )
    try:
        return Context.parse(token.encode("ascii"), key)
    except Failure as error:
        raise refusal_of(error) from error


def content_type_of(text: str) -> str:
    """A media type that a value may be kept with, and handed back as a header."""
    if len(text) > CONTENT_TYPE_BYTES_MAX or not (text.isascii() and text.isprintable()):
        message = f"a content type has at most {CONTENT_TYPE_BYTES_MAX} printable ASCII characters"
        raise Refusal(400, "bad_content_type", message, limit=CONTENT_TYPE_BYTES_MAX)
    return text


def natural_of(text: str, name: str, most: int, least: int = 0) -> int:
    if not _NATURAL.fullmatch(text) or not least <= int(text) <= most:
        raise Refusal(400, "bad_parameter", f"{name} is a whole number from {least} to {most}", limit=most)
    return int(text)


def ttl_of(text: str) -> float:
    """Seconds, from a query."""
    if not _SECONDS.fullmatch(text):
        raise bad_ttl()
    return float(text)


def bad_ttl() -> Refusal:
    message = f"ttl is a number of seconds from 0.001 to {TTL_S_MAX}; leave it out for a value that stays"
    return Refusal(400, "bad_ttl", message, limit=TTL_S_MAX)


def expiry_ms(ttl_s: float | None, wall_ms: int) -> int:
    """The absolute expiry of a time to live, 0 for none."""
    if ttl_s is None:
        return 0
    if not 0.001 <= ttl_s <= TTL_S_MAX:
        raise bad_ttl()
    return wall_ms + math.ceil(ttl_s * 1000)


def text_of(request: Request, name: str, default: str = "") -> str:
    return request.query[name].decode("utf-8", "replace") if name in request.query else default


def flag_of(request: Request, name: str) -> bool:
    """`?name` and `?name=true` say yes."""
    value = request.query.get(name, b"false")
    if value in (b"", b"true", b"false"):
        return value != b"false"
    raise Refusal(400, "bad_parameter", f"{name} is true or false")


def check_parameters(request: Request, *known: str) -> None:
    """A misspelt parameter must not be ignored."""
    for name in request.query:
        if name not in known:
            knows = ", ".join(known) or "none"
            raise Refusal(400, "bad_parameter", f"unknown parameter {name[:64]!r}; this request knows: {knows}")


def accepts(header: str, media_type: str) -> bool:
    """Whether an Accept header takes a media type; none at all takes everything."""
    if not header.strip():
        return True
    wanted = media_type.partition(";")[0].strip().lower()
    family = wanted.partition("/")[0] + "/*"
    best = (-1, 0.0)
    for each in header.lower().split(","):
        name, _, rest = each.partition(";")
        rank = {wanted: 2, family: 1, "*/*": 0}.get(name.strip(), -1)
        if rank > best[0]:
            best = (rank, _quality(rest))
    return best[1] > 0


def _quality(parameters: str) -> float:
    match = re.search(r"(?:^|;)\s*q\s*=\s*([0-9.]{1,5})", parameters)
    try:
        return float(match[1]) if match else 1.0
    except ValueError:
        return 0.0


def none_match(header: str, etag: str) -> bool:
    """Whether If-None-Match says that the client has this already (weak comparison)."""
    if header.strip() == "*":
        return True
    own = _ETAG.fullmatch(etag)
    return own is not None and own[1] in _ETAG.findall(header)
