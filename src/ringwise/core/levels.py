"""Consistency levels: how many owners must answer a read (R) and acknowledge a write (W), chosen per request (R2).

| level    | R        | W        | reads repair before they answer |
| -------- | -------- | -------- | ------------------------------- |
| `one`    | 1        | 1        | no                              |
| `quorum` | majority | majority | no                              |
| `all`    | N        | N        | yes                             |
| `strong` | majority | majority | yes: reads never go back (R3)   |
| `r=,w=`  | number   | number   | no; the one left out is `quorum`'s |

`one` and `quorum` are sloppy: where an owner cannot be reached, the next node on the ring stands in, and counts (standins.py).
All others count owners only.

R + W > N makes every read meet every acknowledged write; W + W > N makes a later `SET` win over an earlier one (V5).
"""

import re

import msgspec

from ringwise.core.errors import ImpossibleLevel, UnknownLevel

MAJORITY = 0
ALL = -1

_NUMBERS = re.compile(
    rb"(?:r=(?P<r>[1-9][0-9]?)(?:,w=(?P<rw>[1-9][0-9]?))?|w=(?P<w>[1-9][0-9]?)"
    rb"(?:,r=(?P<wr>[1-9][0-9]?))?)"
)
# What a bucket's R and W may come to, where they are not the same (Level.of): a name in one of them at least.
_WORD = rb"one|quorum|all|strong"
_NAMED = re.compile(
    rb"r=(?P<r>(?:%(word)b)|[1-9][0-9]?(?=,w=[a-z])),w=(?P<w>%(word)b|[1-9][0-9]?)" % {b"word": _WORD},
)


def needed(count: int, n: int) -> int:
    """How many of n owners `count` (a number, MAJORITY or ALL) stands for."""
    if count == MAJORITY:
        return n // 2 + 1
    return n if count == ALL else count


class Level(msgspec.Struct, frozen=True):
    """R and W as a number of owners, MAJORITY or ALL; what they come to is known once N is."""

    r: int
    w: int
    repair: bool
    name: str
    sloppy: bool = False  # stand-ins count, where owners cannot be reached
    code: int = 0  # a small number, different for different levels: the hot path groups operations by it

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(
            self, "code", self.sloppy << 17 | (self.r & 0xFF) << 9 | (self.w & 0xFF) << 1 | self.repair
        )

    @classmethod
    def parse(cls, text: bytes) -> "Level":
        """The level a client named, in any letter case; raises UnknownLevel."""
        text = text.lower()
        level = LEVELS.get(text)
        if level is not None:
            return level
        mixed = _NAMED.fullmatch(text)
        if mixed is not None:
            return cls.of(mixed["r"], mixed["w"])
        match = _NUMBERS.fullmatch(text)
        if match is None:
            raise UnknownLevel(text.decode("utf-8", "replace"))
        r = int(match["r"] or match["wr"] or MAJORITY)
        w = int(match["w"] or match["rw"] or MAJORITY)
        name = ",".join(f"{which}={count}" for which, count in (("r", r), ("w", w)) if count != MAJORITY)
        return cls(r=r, w=w, repair=False, name=name)

    @classmethod
    def of(cls, r: bytes, w: bytes) -> "Level":
        """What a bucket asks for: each of the two a level's name or a number, or empty, which is `quorum`; raises UnknownLevel.

        It is sloppy only where both are: a number, or a level that counts owners only, holds for the whole.
        """
        reads, writes = (cls.parse(text if not text.isdigit() else b"r=%b,w=%b" % (text, text)) for text in (r, w))
        if reads == writes:
            return reads
        return cls(
            r=reads.r,
            w=writes.w,
            repair=reads.repair,
            name=f"r={r.decode()},w={w.decode()}".lower(),
            sloppy=reads.sloppy and writes.sloppy,
        )

    def needed_reads(self, n: int) -> int:
        return needed(self.r, n)

    def needed_writes(self, n: int) -> int:
        return needed(self.w, n)

    def check(self, n: int) -> None:
        """Raises ImpossibleLevel when more owners are asked for than there are."""
        asked = max(self.r, self.w)
        if asked > n:
            raise ImpossibleLevel(self.name, asked, n)


ONE = Level(r=1, w=1, repair=False, name="one", sloppy=True)
QUORUM = Level(r=MAJORITY, w=MAJORITY, repair=False, name="quorum", sloppy=True)
EVERY = Level(r=ALL, w=ALL, repair=True, name="all")
STRONG = Level(r=MAJORITY, w=MAJORITY, repair=True, name="strong")

LEVELS = {level.name.encode(): level for level in (ONE, QUORUM, EVERY, STRONG)}
