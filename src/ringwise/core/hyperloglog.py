"""HyperLogLog: about how many different elements were added, in 12 KiB, whatever their number.

Each element is hashed; 14 bits of that name one of 16,384 registers, and of the other 50 the length of the run of zeros at
their end, plus one, is kept where it is longer than what the register has. So adding is idempotent, and the union of two
counts is the greater of each pair of registers: commutative, associative, idempotent, as a merge has to be (V9).

    element ─▶ hash ─▶ …0110100|00000000000101     register 5, run 3: registers[5] = max(registers[5], 3)

Flajolet, Fusy, Gandouet, Meunier 2007; the estimator is that of Ertl 2017, unbiased over the whole range without the tables of
Heule, Nunkesser, Hall 2013. Hash, seed, registers and estimator are Redis's, so the counts are the very same.

    value    1 | entry…, sorted      entry = register u16 | run u8               up to 1,024 registers are set
             2 | 12,288 bytes        six bits a register, as Redis packs them    more are

Invariants
* *Canonical*: the same registers have one encoding, so equal values have equal bytes.
* A key's versions of this kind are never read one by one: what is shown is the maximum of all that have not expired. A write
  covers those that it has seen and holds their maximum, so nothing that was added is lost; a concurrent one stays beside it.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from functools import reduce
from math import floor, inf, sqrt
from struct import Struct

from ringwise.core.counters import EXPIRY, age, passed, register_of
from ringwise.core.record import Sibling
from ringwise.core.sets import MARK, hidden_up_to

ESTIMATE = "\0p"  # for Philippe Flajolet, as in PFADD

INDEX_BITS = 14
REGISTERS = 1 << INDEX_BITS
RUN_BITS = 64 - INDEX_BITS
COUNT_MAX = 2**63 - 1  # what a reply can hold
SPARSE_MAX = 1024  # registers: 3 KiB, where Redis changes over too; beyond it a dictionary is slower than all registers

_words = Struct("<Q")
_MASK = (1 << 64) - 1
_FACTOR = 0xC6A4A7935BD1E995
_SHIFT = 47
_SEED = 0xADC83B19
_ALPHA = 0.721347520444481703680  # 1 / (2 ln 2), as Redis writes it

_SPARSE, _DENSE = b"\1", b"\2"
_entries = Struct(">HB")
# Six bits a character is what base64 does, at C speed.
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_RUN = bytes.maketrans(_ALPHABET, bytes(range(64)))
_FROM_RUN = bytes.maketrans(bytes(range(64)), _ALPHABET)
_TOP_BITS = int.from_bytes(b"\x80" * REGISTERS, "big")
# Magic, dense encoding, three unused bytes, and a count kept from before that is marked as void.
_REDIS_HEAD = b"HYLL" + bytes(4) + bytes(7) + b"\x80"

NOTHING = _SPARSE  # to which nothing was added


def murmur64a(data: bytes) -> int:
    """MurmurHash64A (Appleby) with Redis's seed."""
    size = len(data)
    number = (_SEED ^ size * _FACTOR) & _MASK
    whole = size & ~7
    for (part,) in _words.iter_unpack(data[:whole]):
        part = part * _FACTOR & _MASK
        part = (part ^ part >> _SHIFT) * _FACTOR & _MASK
        number = (number ^ part) * _FACTOR & _MASK
    if size != whole:
        number = (number ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    number = (number ^ number >> _SHIFT) * _FACTOR & _MASK
    return number ^ number >> _SHIFT


def of_elements(elements: Iterable[bytes]) -> bytes:
    """The value to which just these were added."""
    runs: dict[int, int] = {}
    for element in elements:
        number = murmur64a(element)
        bits = number >> INDEX_BITS | 1 << RUN_BITS  # so that every run has an end
        run = (bits & -bits).bit_length()
        index = number & REGISTERS - 1
        if run > runs.get(index, 0):
            runs[index] = run
    return _of_runs(runs)


def union(values: Sequence[bytes]) -> bytes:
    """The value to which was added what was added to any of these."""
    if len(values) == 1:
        return values[0]
    runs: dict[int, int] = {}
    dense: list[bytes] = []
    for value in values:
        if value[:1] == _DENSE:
            dense.append(_registers_of(value))
            continue
        for index, run in _runs_of(value).items():
            if run > runs.get(index, 0):
                runs[index] = run
    if not dense:
        return _of_runs(runs)
    registers = bytearray(reduce(_greatest, dense))
    for index, run in runs.items():
        if run > registers[index]:
            registers[index] = run
    return _DENSE + _packed(bytes(registers))  # one of them was dense, and registers only grow: so is this one


def _greatest(some: bytes, others: bytes) -> bytes:
    """All registers of two at once, each a byte in one long number: its top bit stays where that of `some` is no less."""
    a, b = int.from_bytes(some, "big"), int.from_bytes(others, "big")
    not_less = ((a | _TOP_BITS) - b) & _TOP_BITS
    of_a = not_less - (not_less >> 7)  # 0x7f in those bytes
    return (a & of_a | b & ~of_a).to_bytes(REGISTERS, "big")


def count(value: bytes) -> int:
    """About how many different elements were added."""
    registers = _registers_of(value)
    having = [registers.count(run) for run in range(RUN_BITS + 2)]
    total = REGISTERS * _tau((REGISTERS - having[RUN_BITS + 1]) / REGISTERS)
    for run in range(RUN_BITS, 0, -1):
        total = (total + having[run]) * 0.5
    total += REGISTERS * _sigma(having[0] / REGISTERS)
    # Of elements that somebody has made up: the hash can be inverted.
    if total * COUNT_MAX <= _ALPHA * REGISTERS * REGISTERS:
        return COUNT_MAX
    estimate = _ALPHA * REGISTERS * REGISTERS / total
    below = floor(estimate)
    return below + (estimate - below >= 0.5)


def _sigma(x: float) -> float:
    """What registers that are still zero stand for."""
    if x == 1.0:
        return inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    """What registers at the longest run stand for."""
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3


def as_redis(value: bytes) -> bytes:
    """As `GET` shows it: the dense string of Redis, which a redis-server takes with SET."""
    return _REDIS_HEAD + _packed(_registers_of(value))


def covers(value: bytes, other: bytes) -> bool:
    """Whether all that was added to the other was added to this one: so it seems, and adding it changes nothing."""
    if other[:1] == _DENSE:
        return union([value, other]) == value
    added = _runs_of(other).items()
    if value[:1] == _SPARSE:
        runs = _runs_of(value)
        return all(runs.get(index, 0) >= run for index, run in added)
    registers = _registers_of(value)
    return all(registers[index] >= run for index, run in added)


def from_redis(shown: bytes) -> bytes:
    """What `GET` shows, as a value; not in its canonical form where few registers are set."""
    return _DENSE + shown[len(_REDIS_HEAD) :]


# -- encodings


def _of_runs(runs: dict[int, int]) -> bytes:
    if len(runs) > SPARSE_MAX:
        return _DENSE + _packed(_spread(runs))
    return _SPARSE + b"".join([_entries.pack(index, run) for index, run in sorted(runs.items())])


def _runs_of(value: bytes) -> dict[int, int]:
    """Of a sparse value."""
    return dict(_entries.iter_unpack(value[1:]))


def _spread(runs: dict[int, int]) -> bytes:
    registers = bytearray(REGISTERS)
    for index, run in runs.items():
        registers[index] = run
    return bytes(registers)


def _packed(registers: bytes) -> bytes:
    """Register 0 in the lowest bits of the first byte: from the end, that is the order of base64."""
    return a2b_base64(registers[::-1].translate(_FROM_RUN))[::-1]


def _registers_of(value: bytes) -> bytes:
    """A byte each."""
    if value[:1] == _SPARSE:
        return _spread(_runs_of(value))
    return b2a_base64(value[:0:-1], newline=False).translate(_TO_RUN)[::-1]


# -- as versions of a key


def shown(siblings: Sequence[Sibling], wall_ms: int) -> list[Sibling]:
    """The versions that count: those that have not expired."""
    added = [each for each in siblings if each.content_type == ESTIMATE]
    if not added:
        return added
    hidden = hidden_up_to(siblings, wall_ms)
    return [each for each in added if each.stamp >= hidden]


def as_version(siblings: Sequence[Sibling], wall_ms: int) -> Sibling | None:
    """All of them as one version, with what `GET` shows; None where there is none."""
    versions = shown(siblings, wall_ms)
    if not versions:
        return None
    newest = max(versions, key=age)
    register = register_of(siblings)
    expiry_ms = register.expiry_ms if register is not None and not passed(register.expiry_ms, wall_ms) else 0
    value = as_redis(union([each.value for each in versions]))
    return Sibling(newest.actor, newest.counter, newest.stamp, expiry_ms, 0, ESTIMATE, False, value)


def replaced(siblings: Sequence[Sibling], wall_ms: int) -> list[Sibling]:
    """What a write covers: all that is known, but an expiry in force, and marks, since other types keep a stamp in them."""
    return [
        each
        for each in siblings
        if not (each.content_type == MARK or (each.content_type == EXPIRY and not passed(each.expiry_ms, wall_ms)))
    ]
