"""Replies of the Redis protocol, values to bytes: RESP2, and RESP3 where a connection asked for it with `HELLO 3`.

| value          | RESP3              | RESP2                                     |
| -------------- | ------------------ | ----------------------------------------- |
| `bytes`, `str` | bulk string        | the same                                  |
| `int`          | integer            | the same                                  |
| `None`         | null `_`           | null bulk string `$-1`                    |
| `bool`         | boolean            | integer 1 or 0                            |
| `float`        | double             | bulk string                               |
| `Double`       | double, as Redis writes scores | the same as a bulk string     |
| `list`         | array              | the same                                  |
| `dict`         | map                | flat array: key, value, key, value        |
| `set`          | set, sorted        | array, sorted                             |
| `Simple`       | simple string `+…` | the same                                  |
| `Verbatim`     | verbatim string    | bulk string                               |
| `Encoded`      | as it is           | as it is                                  |
"""

from math import copysign, inf
from typing import TypeAlias

CRLF = b"\r\n"
OK = b"+OK\r\n"
NULL = {2: b"$-1\r\n", 3: b"_\r\n"}

_WHOLE_BELOW = 2**52  # whole scores are written in full up to there
_READY = 4096  # values up to this long find their header ready
BULK_HEADERS = [b"$%d\r\n" % length for length in range(_READY)]


class Encoded(bytes):
    """Part of a reply that is encoded already, because it stands in it many times."""

    __slots__ = ()


class Double(float):
    """A score: the shortest text that reads as the same number, without a point where it is whole, as Redis 7.2 writes it."""

    __slots__ = ()

    @property
    def text(self) -> bytes:
        if self in (inf, -inf):
            return b"inf" if self > 0 else b"-inf"
        if self and self.is_integer() and abs(self) < _WHOLE_BELOW:
            return b"%d" % int(self)
        digits, _, power = repr(float(self)).removeprefix("-").partition("e")
        sign = "-" if copysign(1, self) < 0 else ""
        whole, _, rest = digits.partition(".")
        shift = int(power or 0) - len(rest)
        significant = (whole + rest).lstrip("0") or "0"
        shift += len(significant) - len(significant.rstrip("0") or "0")
        significant = significant.rstrip("0") or "0"
        return (sign + _laid_out(significant, shift if significant != "0" else 0)).encode()


def _laid_out(digits: str, shift: int) -> str:
    """Digits times ten to the power `shift`: with an exponent only where many zeros would stand instead."""
    power = shift + len(digits) - 1
    if shift >= 0 and abs(power) < len(digits) + 7:
        return digits + "0" * shift
    if shift < 0 and (shift > -7 or abs(power) < 4):
        point = len(digits) + shift
        return f"{digits[:point]}.{digits[point:]}" if point > 0 else "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power)}"


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
        text = value.text if isinstance(value, Double) else repr(value).encode()
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
            if type(element) is bytes:  # nearly all that are many
                parts.append(bulk(element))
            else:
                _append(parts, element, protocol)


def _in_order(elements: set[str] | set[bytes]) -> list[Value]:
    return list[Value](sorted(elements, key=_bytes_of))


def _bytes_of(element: str | bytes) -> bytes:
    return element.encode() if isinstance(element, str) else element
