"""Pages of one collection: SSCAN, HSCAN, ZSCAN. They go by the hashes of names, so a cursor means the same on every node and
whatever changes meanwhile: what is there throughout is on a page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from xxhash import xxh3_64_intdigest

from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError
from ringwise.server.glob import PATTERN_BYTES_MAX, Matches, matcher
from ringwise.wire.replies import Value

SCAN_COUNT = 10
_CURSOR_MAX = 2**64 - 1


def cursor_of(text: bytes) -> int:
    if not text.isdigit() or int(text) > _CURSOR_MAX:
        raise CommandError("ERR invalid cursor")
    return int(text)


def scan_options(options: list[bytes]) -> tuple[int, Matches | None]:
    count, matches = SCAN_COUNT, None
    for at in range(0, len(options), 2):
        option, values = options[at].upper(), options[at + 1 : at + 2]
        if not values or option not in (b"MATCH", b"COUNT"):
            raise CommandError(SYNTAX)
        if option == b"COUNT":
            count = integer_of(values[0])
            if count < 1:
                raise CommandError(SYNTAX)
        elif len(values[0]) > PATTERN_BYTES_MAX:
            raise CommandError(f"ERR the pattern has {len(values[0])} bytes, the limit is {PATTERN_BYTES_MAX}")
        else:
            matches = matcher(values[0])
    return count, matches


def answer_page(
    call: Call, found: Collection[bytes], cursor: int, options: list[bytes], parts: Callable[[bytes], Sequence[Value]]
) -> None:
    """The next cursor, and for each name of the page its parts."""
    if not found:
        call.answer([b"0", []])  # as in Redis, of a key that is not there nobody looks at the options
        return
    try:
        count, matches = scan_options(options)
    except CommandError as error:
        call.refuse(str(error))
    else:
        following, page = page_of(found, cursor, count, matches)
        call.answer([following, [part for name in page for part in parts(name)]])


def page_of(names: Iterable[bytes], cursor: int, count: int, matches: Matches | None) -> tuple[bytes, list[bytes]]:
    """The next cursor, and the names of the page."""
    behind = sorted((xxh3_64_intdigest(name) | 1, name) for name in names)  # no hash is the cursor 0
    behind = [place for place in behind if place[0] >= cursor]
    page = behind[:count]
    while len(page) < len(behind) and behind[len(page)][0] == page[-1][0]:  # a cursor cannot part these
        page.append(behind[len(page)])
    following = behind[len(page)][0] if len(page) < len(behind) else 0
    return b"%d" % following, [name for _, name in page if matches is None or matches(name)]
