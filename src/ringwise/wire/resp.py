"""Requests of the Redis protocol, bytes to arguments: a fast path in C, and an obvious parser that is also its model.

    request    *<count>\\r\\n then count times $<length>\\r\\n<bytes>\\r\\n    or, typed by hand, a line of words: inline

hiredis parses in C, but it was made for replies: it takes types that no request may hold, allocates whatever length a
header claims, knows no inline commands and no limits. So its result is believed only where it proves itself: a request
encoded again (`pack_command`, in C as well) must give the very bytes that were read. Both together cost a quarter of a
microsecond a request. Everything else (the part of a request at the end of a read, inline commands, garbage) goes to
`PureParser`, which does what Redis's `processMultibulkBuffer` and `processInlineBuffer` do, error texts included.

Invariants
* `RequestParser` and `PureParser` give the same requests and the same error for the same bytes, however they are split:
  canonical bytes have one reading, and other bytes are only ever read by `PureParser`.
* A value that arrives in pieces is joined once: nothing is parsed again before the bytes that are missing are there.
* Memory is bounded: nothing is allocated for what a header merely claims.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import hiredis

Request = list[bytes]

_pack: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub takes one

_length_of = [b"$%d" % length for length in range(16 * 1024)].__getitem__
_WIDTHS = {b"*%d" % count: 1 + 2 * count for count in range(1, 10)}  # lines of a request, by its header
_PARTS_MAX = 8 * 1024  # a value full of CRLFs is not worth more; nor could more be the requests of one window
_HEADER_BYTES_MAX = 32  # a type byte and a 64-bit number in decimal fit; a longer header is garbage
_ARGUMENT_OVERHEAD_BYTES = 48  # what an argument costs in memory beside its bytes
_NUMBER = re.compile(rb"-?[1-9][0-9]{0,18}|0")
# Headers of seven digits and more, for which hiredis would allocate at once. (A first byte that is fixed is searched for
# in C; a class of bytes costs four times as much.)
_HUGE_ARRAY = re.compile(rb"\*[0-9]{7}").search
_HUGE_PUSH = re.compile(rb">[0-9]{7}").search
_HUGE_SET = re.compile(rb"~[0-9]{7}").search

REDIS_BULK_BYTES_MAX = 512 * 1024 * 1024  # of which its users know


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for; past a limit the connection is closed, since what follows cannot be understood."""

    bulk_bytes_max: int = 2 * 1024 * 1024  # above the largest value, so that one just too long gets a clear error
    elements_max: int = 1024 * 1024  # as Redis
    inline_bytes_max: int = 64 * 1024  # as Redis
    request_bytes_max: int = 32 * 1024 * 1024  # one client may not hold more of the node's memory with one request


DEFAULT_LIMITS = Limits()


class RequestParser:
    """Feed it bytes as they come; it returns the requests that are complete.

    `error` is what is wrong with the bytes behind the last request returned: "" while all is well. After an error nothing
    is parsed any more.
    """

    __slots__ = ("_bytes_max", "_fresh", "_pure", "_reader", "error")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.error = ""
        self._pure = PureParser(limits)
        self._reader = hiredis.Reader()
        self._fresh = True  # the next byte starts a new request
        # Up to here no limit but that of the elements is left to check: an argument has six bytes and more on the wire.
        self._bytes_max = min(limits.bulk_bytes_max, limits.request_bytes_max // (1 + _ARGUMENT_OVERHEAD_BYTES // 6))

    def feed(self, data: bytes) -> list[Request]:
        if self._fresh:
            request = _lone(data)
            if request is not None:
                return [request]
            requests = _alike(data) if len(data) <= self._bytes_max else None
            return requests if requests is not None else self._fast(data)
        requests = self._slow(data, 1)
        if requests and not self._fresh:
            self._fresh = True
            requests += self._fast(self._pure.take_rest())
        return requests

    def _slow(self, data: bytes, most: int = -1) -> list[Request]:
        pure = self._pure
        requests = pure.feed(data, most)
        self.error = pure.error
        self._fresh = pure.idle
        return requests

    def _fast(self, data: bytes) -> list[Request]:
        """All requests in `data`, which starts with a new one. Measured by bench/session.py."""
        if (
            data.find(b"\r", 1, 8) < 0  # inline, or a first header of more than six digits
            or (data.find(b"*", 1) >= 0 and _HUGE_ARRAY(data))
            or (data.find(b">") >= 0 and _HUGE_PUSH(data))
            or (data.find(b"~") >= 0 and _HUGE_SET(data))
            or len(data) > self._bytes_max
        ):
            return self._slow(data)
        reader = self._reader
        gets = reader.gets
        try:
            reader.feed(data)
            first = gets()
            request = gets()
            if request is False and first and _pack(tuple(first)) == data:
                return [first]
            requests: list[Request] = [] if first is False else [first]
            while request is not False:
                requests.append(request)
                request = gets()
            packed = b"".join(map(_pack, map(tuple, requests)))
            if packed == data:
                return requests if all(requests) else list(filter(None, requests))
        except (hiredis.HiredisError, TypeError, ValueError, ArithmeticError):
            packed = b""
            requests = []
        self._reader = hiredis.Reader()  # the old one is broken, or holds a part of a request
        if not data.startswith(packed):
            return self._slow(data)
        return list(filter(None, requests)) + self._slow(data[len(packed) :])


def _lone(data: bytes) -> Request | None:
    """The one request of two or three short arguments that is all of `data`, as clients that do not pipeline send them.

    Splitting at CRLF costs half of what parsing in C and encoding again does. It proves itself too: with as many parts as
    such a request has, and each length as its header says, no part can have been cut within an argument.
    """
    parts = data.split(b"\r\n", 8)
    count = len(parts)
    try:
        if count == 6:
            if parts[0] == b"*2" and parts[1] == _length_of(len(parts[2])) and parts[3] == _length_of(len(parts[4])):
                return None if parts[5] else [parts[2], parts[4]]
        elif (
            count == 8
            and parts[0] == b"*3"
            and parts[1] == _length_of(len(parts[2]))
            and parts[3] == _length_of(len(parts[4]))
            and parts[5] == _length_of(len(parts[6]))
        ):
            return None if parts[7] else [parts[2], parts[4], parts[6]]
    except IndexError:  # an argument longer than the table
        pass
    return None


def _alike(data: bytes) -> list[Request] | None:
    """All requests in `data`, if each has as many short arguments as the first: a pipeline that repeats a command.

    As `_lone`, for whole columns of requests at a time.
    """
    parts = data.split(b"\r\n", _PARTS_MAX)
    width = _WIDTHS.get(parts[0], 0)
    if not width or parts.pop() or len(parts) % width or parts[::width].count(parts[0]) * width != len(parts):
        return None
    columns: list[list[bytes]] = []
    try:
        for at in range(2, width, 2):
            column = parts[at::width]
            if list(map(_length_of, map(len, column))) != parts[at - 1 :: width]:
                return None
            columns.append(column)
    except IndexError:
        return None
    return list(map(list, zip(*columns, strict=True)))


class PureParser:
    """One request after another, in plain Python; keeps its place within a request between two feeds."""

    __slots__ = ("_arguments", "_chunks", "_held", "_length", "_limits", "_missing", "_need", "_request_bytes", "error")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.error = ""
        self._limits = limits
        self._chunks: list[bytes] = []
        self._held = 0  # bytes in chunks
        self._need = 1  # no use in trying with fewer
        self._arguments: Request = []
        self._missing = 0  # arguments still to come; 0 between two requests
        self._length = -1  # of the argument whose header has been read; -1: its header comes next
        self._request_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether the next byte starts a new request."""
        return not self._held and not self._missing and not self.error

    def take_rest(self) -> bytes:
        """The bytes behind the request just returned, which somebody else will parse."""
        rest = b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        self._need = 1
        return rest

    def feed(self, data: bytes, most: int = -1) -> list[Request]:
        """The requests that are now complete, at most `most` of them (-1: all)."""
        if self.error or not data:
            return []
        self._chunks.append(data)
        self._held += len(data)
        if self._held < self._need:
            return []
        buffer = b"".join(self._chunks)
        requests: list[Request] = []
        at = 0
        while len(requests) != most:
            self._need = 1
            step = self._element(buffer, at) if self._missing else self._start(buffer, at, requests)
            if not step:
                break
            at += step
            if self._arguments and not self._missing:
                requests.append(self._arguments)
                self._arguments = []
        rest = b"" if self.error else buffer[at:]
        self._chunks = [rest] if rest else []
        self._held = len(rest)
        return requests

    # Each step returns how many bytes it has used; 0 where there are too few (or none that make sense).

    def _start(self, buffer: bytes, at: int, requests: list[Request]) -> int:
        if at == len(buffer):
            return 0
        if buffer[at] != 0x2A:  # "*"
            return self._inline(buffer, at, requests)
        end = self._header(buffer, at, "invalid multibulk length")
        if not end:
            return 0
        count = _number(buffer[at + 1 : end])
        if count is None or count > self._limits.elements_max:
            return self._fail("invalid multibulk length")
        self._missing = max(0, count)
        self._request_bytes = 0
        return end + 2 - at

    def _element(self, buffer: bytes, at: int) -> int:
        if self._length >= 0:
            end = at + self._length
            if len(buffer) < end + 2:
                self._need = end + 2 - at
                return 0
            self._arguments.append(buffer[at:end])
            self._length = -1
            self._missing -= 1
            return end + 2 - at  # what stands where \r\n belongs is not looked at, as in Redis
        if at == len(buffer):
            return 0
        if buffer[at] != 0x24:  # "$"
            got = chr(buffer[at]) if 0x20 < buffer[at] < 0x7F else f"\\x{buffer[at]:02x}"
            return self._fail(f"expected '$', got '{got}'")
        end = self._header(buffer, at, "invalid bulk length")
        if not end:
            return 0
        length = _number(buffer[at + 1 : end])
        if length is None or not 0 <= length <= REDIS_BULK_BYTES_MAX:
            return self._fail("invalid bulk length")
        if length > self._limits.bulk_bytes_max:  # well within Redis's limit: who meets it must be told
            return self._fail(f"invalid bulk length, an argument has at most {self._limits.bulk_bytes_max} bytes")
        self._request_bytes += length + _ARGUMENT_OVERHEAD_BYTES
        if self._request_bytes > self._limits.request_bytes_max:
            return self._fail(f"a request of more than {self._limits.request_bytes_max} bytes")
        self._length = length
        return end + 2 - at

    def _header(self, buffer: bytes, at: int, trouble: str) -> int:
        """Where the header's number ends; 0 if it is not all there."""
        end = buffer.find(b"\r", at, at + _HEADER_BYTES_MAX)
        if end < 0 and len(buffer) - at >= _HEADER_BYTES_MAX:
            return self._fail(trouble)
        return end if 0 <= end < len(buffer) - 1 else 0

    def _inline(self, buffer: bytes, at: int, requests: list[Request]) -> int:
        end = buffer.find(b"\n", at)
        length = (end if end >= 0 else len(buffer)) - at
        if length > self._limits.inline_bytes_max:
            return self._fail("too big inline request")
        if end < 0:
            return 0
        words = split_words(buffer[at:end])
        if words is None:
            return self._fail("unbalanced quotes in request")
        if words:
            requests.append(words)
        return end + 1 - at

    def _fail(self, trouble: str) -> int:
        self.error = f"Protocol error: {trouble}"
        return 0


def _number(digits: bytes) -> int | None:
    return int(digits) if _NUMBER.fullmatch(digits) else None


_SPACE = b" \n\r\t\v\f\0"
_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}  # \n \r \t \b \a
_HEX = re.compile(rb"x[0-9a-fA-F]{2}")
_BACKSLASH, _DOUBLE, _SINGLE = b"\\\"'"


def split_words(line: bytes) -> Request | None:
    """The words of an inline command, quoted as redis-cli quotes them; None where a quote is not closed properly."""
    words: Request = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at == end:
            return words
        word = bytearray()
        while at < end and line[at] not in _SPACE:
            if line[at] in (_DOUBLE, _SINGLE):
                closed = _quoted(line, at, word)
                if closed < 0 or (closed < end and line[closed] not in _SPACE):
                    return None
                at = closed
            else:
                word.append(line[at])
                at += 1
        words.append(bytes(word))


def _quoted(line: bytes, start: int, word: bytearray) -> int:
    """Appends what stands between quotes; returns where it goes on behind them, -1 if they are never closed."""
    quote = line[start]
    at = start + 1
    while at < len(line):
        byte = line[at]
        if byte == quote:
            return at + 1
        if byte == _BACKSLASH and at + 1 < len(line) and (quote == _DOUBLE or line[at + 1] == _SINGLE):
            if quote == _DOUBLE and _HEX.match(line, at + 1):
                word.append(int(line[at + 2 : at + 4], 16))
                at += 4
                continue
            byte = line[at + 1] if quote == _SINGLE else _ESCAPES.get(line[at + 1], line[at + 1])
            at += 1
        word.append(byte)
        at += 1
    return -1
