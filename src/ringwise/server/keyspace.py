"""Commands about all keys of a bucket: SCAN, KEYS, RANDOMKEY, DBSIZE. They ask the whole cluster, page by page (core/scan.py).

On a connection through the cluster port they speak for the slots of which this node is the first live owner (`first_only`), since
a cluster client asks every node and adds up.

A page is a turn's work; KEYS, DBSIZE and RANDOMKEY begin the next one in a turn of its own, so that other connections get theirs
between two pages, and end where their connection has gone. As in Redis, what was sent before them on the connection is done
first, and what was sent behind them waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from ringwise.core import versions
from ringwise.core.errors import Failure
from ringwise.core.keys import POSITION_BITS
from ringwise.core.ring import SLOTS, slot_of
from ringwise.core.scan import END, Page
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.glob import PATTERN_BYTES_MAX, Matches, matcher
from ringwise.server.values import type_of
from ringwise.wire.replies import bulk

COUNT = 10  # names of a page where none is given, as in Redis
PAGE_NAMES = 256  # of the other commands: about two milliseconds of a turn
# A reply is built in memory, and a client that waits for more than that had better take it in pages.
KEYS_MAX = 100_000

EVERYTHING = [b""]  # no key is empty: whatever comes next waits (B2)

_CURSOR = re.compile(rb"[0-9]{1,20}")
_CURSOR_MAX = 2**64 - 1


def scan(call: Call) -> None:
    cursor = _cursor_of(call.arguments[1])
    matches: Matches | None = None
    count, kind = COUNT, b""
    options = call.arguments[2:]
    for at in range(0, len(options), 2):
        option, values = options[at].upper(), options[at + 1 : at + 2]
        if not values or option not in (b"MATCH", b"COUNT", b"TYPE"):
            raise CommandError(SYNTAX)
        if option == b"MATCH":
            matches = _matcher_of(values[0])
        elif option == b"COUNT":
            count = integer_of(values[0])
            if count < 1:
                raise CommandError(SYNTAX)
        else:
            kind = values[0].lower()
    call.begin_update(EVERYTHING)
    _page(call, cursor, count, partial(_scanned, call, matches, kind), call.session.first_only)


def _cursor_of(text: bytes) -> int:
    if not _CURSOR.fullmatch(text) or int(text) > _CURSOR_MAX:
        raise CommandError("ERR invalid cursor")
    return int(text)


def _matcher_of(pattern: bytes) -> Matches | None:
    if pattern == b"*":
        return None
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR the pattern has {len(pattern)} bytes, the limit is {PATTERN_BYTES_MAX}")
    return matcher(pattern)


def _page(call: Call, cursor: int, count: int, done: Callable[[Page | Failure], None], first_only: bool) -> None:
    call.node.scan(cursor, count, call.level, done, first_only)


def _scanned(call: Call, matches: Matches | None, kind: bytes, page: Page | Failure) -> None:
    if isinstance(page, Failure):
        call.fail(page)
        return
    keys = [key for key, _ in page.found if matches is None or matches(key)]
    if kind:
        wall_ms = call.node.now.wall_ms
        held = dict(page.found)
        keys = [key for key in keys if type_of(versions.live(held[key], wall_ms)) == kind.decode("ascii", "replace")]
    call.answer([b"%d" % page.cursor, list(keys)])


class _Pages:
    """All pages from `start` to `end`, one after another, each in a turn of its own."""

    def __init__(
        self,
        call: Call,
        each: Callable[[Page], bool],
        done: Callable[[], None],
        start: int = 0,
        end: int = END,
        *,
        whole: bool = False,
    ) -> None:
        self._call = call
        self._first_only = call.session.first_only and not whole
        self._each = each  # what to do with a page; False: that is enough
        self._done = done
        self._cursor = start
        self._end = end

    def go_on(self) -> None:
        _page(self._call, self._cursor, PAGE_NAMES, self._came, self._first_only)

    def _came(self, page: Page | Failure) -> None:
        if isinstance(page, Failure):
            self._call.fail(page)
        elif self._each(page):
            self._cursor = page.cursor
            if not page.cursor or page.cursor >= self._end:
                self._done()
            else:
                self._call.session.soon(self.go_on)


def keys(call: Call) -> None:
    matches = _matcher_of(call.arguments[1])
    found: list[bytes] = []

    def each(page: Page) -> bool:
        found.extend(key for key, _ in page.found if matches is None or matches(key))
        if len(found) <= KEYS_MAX:
            return True
        call.refuse(f"ERR more than {KEYS_MAX} keys match; use SCAN, which gives them in pages")
        return False

    call.begin_update(EVERYTHING)
    _Pages(call, each, lambda: call.reply(b"*%d\r\n%b" % (len(found), b"".join(map(bulk, found))))).go_on()


def dbsize(call: Call) -> None:
    """How many keys are alive. Every one of them is looked at: what is held may be deleted, or one key on three nodes."""
    count = 0

    def each(page: Page) -> bool:
        nonlocal count
        count += len(page.found)
        return True

    call.begin_update(EVERYTHING)
    _Pages(call, each, lambda: call.answer(count)).go_on()


def randomkey(call: Call) -> None:
    """One of the first keys behind a random position, which are about as many for every position."""
    rng = call.node.rng
    start = rng.randrange(END)

    def each(page: Page) -> bool:
        if not page.found:
            return True
        call.answer(rng.choice(page.found)[0])
        return False

    def around() -> None:
        _Pages(call, each, lambda: call.answer(None), end=start).go_on()

    call.begin_update(EVERYTHING)
    _Pages(call, each, around, start=start).go_on()


def keys_in_slot(call: Call) -> None:
    """CLUSTER GETKEYSINSLOT: names of keys of a slot, as the cluster has them, whichever node is asked."""
    most = integer_of(call.arguments[3])
    if most < 0:
        raise CommandError("ERR Invalid number of keys")
    found: list[bytes] = []

    def each(keys: list[bytes]) -> bool:
        found.extend(keys)
        return len(found) < most

    _slot(call, each, lambda: call.answer(list(found[:most])))


def count_keys_in_slot(call: Call) -> None:
    count = 0

    def each(keys: list[bytes]) -> bool:
        nonlocal count
        count += len(keys)
        return True

    _slot(call, each, lambda: call.answer(count))


def _slot(call: Call, each: Callable[[list[bytes]], bool], done: Callable[[], None]) -> None:
    """Pages of one slot: `each` is given its live keys and says whether to go on."""
    slot = integer_of(call.arguments[2])
    if not 0 <= slot < SLOTS:
        raise CommandError("ERR Invalid slot")

    def of_slot(page: Page) -> bool:
        more = each([key for key, _ in page.found if slot_of(key) == slot])
        if not more:
            done()
        return more

    call.begin_update(EVERYTHING)
    _Pages(call, of_slot, done, slot << POSITION_BITS, (slot + 1) << POSITION_BITS, whole=True).go_on()
