"""Replies of the Redis protocol, values to bytes: RESP2, and RESP3 where a connection asked for it with `HELLO 3`.

| value          | RESP3              | RESP2                                     |
| -------------- | ------------------ | ----------------------------------------- |
| `bytes`, `str` | bulk string        | the same                                  |
| `int`          | integer            | the same                                  |
| `None`         | null `_`           | null bulk string `$-1`                    |
| `bool`         | boolean            | integer 1 or 0                            |
| `float`        | double             | bulk string                               |
| `list`         | array              | the same                                  |
| `dict`         | map                | flat array: key, value, key, value        |
| `set`          | set, sorted        | array, sorted                             |
| `Simple`       | simple string `+…` | the same                                  |
| `Verbatim`     | verbatim string    | bulk string                               |
| `Encoded`      | as it is           | as it is                                  |
"""

from typing import TypeAlias

CRLF = b"\r\n"
OK = b"+OK\r\n"
NULL = {2: b"$-1\r\n", 3: b"_\r\n"}

_READY = 4096  # values up to this long find their header ready
BULK_HEADERS = [b"$%d\r\n" % length for length in range(_READY)]


class Encoded(bytes):
    """Part of a reply that is encoded already, because it stands in it many times."""

    __slots__ = ()


class Verbatim(str):
    """Text for people, which a client shows as it is."""

    __slots__ = ()


class Simple(str):
    """A status such as OK, sent as a simple string."""

    __slots__ = ()


Value: TypeAlias = (
    "bytes | str | int | float | bool | list[Value] | dict[bytes | str, Value] | set[str] | set[bytes] | Simple | None"
)


def bulk(value: bytes) -> bytes:
    length = len(value)
    if length < _READY:
        return BULK_HEADERS[length] + value + CRLF
    return b"$%d\r\n%b\r\n" % (length, value)


def integer(number: int) -> bytes:
    return b":%d\r\n" % number


def error(text: str) -> bytes:
    """An error reply: a code word, then the message. It is one line, so line ends in it become blanks."""
    return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "backslashreplace")


def encode(value: Value, protocol: int) -> bytes:
    """Any reply that is not on the hot path."""
    parts: list[bytes] = []
    _append(parts, value, protocol)
    return b"".join(parts)


def _append(parts: list[bytes], value: Value, protocol: int) -> None:
    if isinstance(value, bytes):
        parts.append(value if isinstance(value, Encoded) else bulk(value))
    elif isinstance(value, Simple):
        parts.append(b"+%b\r\n" % value.encode())
    elif isinstance(value, Verbatim) and protocol == 3:
        text = value.encode()
        parts.append(b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text))
    elif isinstance(value, str):
        parts.append(bulk(value.encode()))
    elif value is None:
        parts.append(NULL[protocol])
    elif isinstance(value, bool):
        parts.append((b"#t\r\n" if value else b"#f\r\n") if protocol == 3 else integer(value))
    elif isinstance(value, int):
        parts.append(integer(value))
    elif isinstance(value, float):
        text = repr(value).encode()
        parts.append(b",%b\r\n" % text if protocol == 3 else bulk(text))
    elif isinstance(value, dict):
        parts.append(b"%%%d\r\n" % len(value) if protocol == 3 else b"*%d\r\n" % (2 * len(value)))
        for key, item in value.items():
            _append(parts, key, protocol)
            _append(parts, item, protocol)
    else:
        kind = b"~" if protocol == 3 and isinstance(value, set) else b"*"
        parts.append(b"%b%d\r\n" % (kind, len(value)))
        for element in _in_order(value) if isinstance(value, set) else value:
            _append(parts, element, protocol)


def _in_order(elements: set[str] | set[bytes]) -> list[Value]:
    return list[Value](sorted(elements, key=_bytes_of))


def _bytes_of(element: str | bytes) -> bytes:
    return element.encode() if isinstance(element, str) else element
