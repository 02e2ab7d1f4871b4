"""Buckets (T2): namespaces with rules that every owner shares, so what changes them is the next document.

    name or number ─▶ create, set, drop, flush, flush all: pure functions of the document in force ─▶ agreement ─▶ core/space.py

Numbers 0 to 15 are there from the start, as Redis clients select them: there is nothing to agree upon before the first write,
and nothing that a partition could withhold. A bucket with a name is created; its number is one that no bucket ever had, so
whoever has not heard that another was dropped cannot take one for the other.

Rules: N, how a read shows what was written at once (*policy*), R and W of those who do not say, the time to live of what is
written without one. All of them can be changed but N, which would move data.
"""

from __future__ import annotations

import re

import msgspec

from ringwise.core.errors import Failure
from ringwise.core.levels import Level
from ringwise.core.topology import NUMBERED, BucketRules, ChangeRefused, Document, next_incarnation, with_rules

SIBLINGS = "siblings"
LWW = "lww"
POLICIES = (SIBLINGS, LWW)
MERGE = "merge:"  # and the name of a function (core/merging.py)
ENGINES = ("lsm",)
NAMED_MAX = 1000  # each costs a node some kilobytes, and every listing of a slot looks past it
NUMBER_LAST = 0xFFFE  # the field has two bytes, and the last number is that of the hints
TTL_S_MAX = 10 * 365 * 86_400  # ten years: a longer one is a mistake in the unit

_MERGED = re.compile(MERGE + r"[A-Za-z0-9_.-]{1,64}")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class Settings(msgspec.Struct, frozen=True):
    """What somebody wants of a bucket; None: as it is, or as it is by default."""

    n: int | None = None
    r: str | None = None
    w: str | None = None
    policy: str | None = None
    ttl_s: int | None = None
    engine: str | None = None


def label_of(rules: BucketRules) -> str:
    """How people call it."""
    return rules.name or str(rules.number)


def find(document: Document, label: str) -> BucketRules | None:
    """The bucket of that name or number."""
    if label.isascii() and label.isdigit():
        return document.rules(int(label)) if len(label) <= 2 and int(label) < NUMBERED else None
    return next((rules for rules in document.buckets if rules.name == label and label), None)


def is_name(label: str) -> bool:
    """Whether a bucket could be called so; numbers cannot be mistaken for it."""
    return _NAME.fullmatch(label) is not None


def check_name(name: str) -> None:
    """Raises ChangeRefused."""
    if not is_name(name):
        raise ChangeRefused(
            "a bucket's name has 1 to 64 of a-z, 0-9, '_', '-', '.', and begins with a letter; "
            f"the numbers 0 to {NUMBERED - 1} are there already"
        )


def create(document: Document, name: str, settings: Settings) -> Document | None:
    """A new bucket; None where there is one of that name with just these rules."""
    check_name(name)
    there = find(document, name)
    if there is not None:
        if _with(document, there, settings) == there:
            return None
        raise ChangeRefused(f"there is a bucket {name} already, with other rules: ringwise bucket show {name}")
    if sum(bool(rules.name) for rules in document.buckets) >= NAMED_MAX:
        raise ChangeRefused(f"there are {NAMED_MAX:,} buckets, the most there can be")
    number = NUMBERED + document.named
    if number > NUMBER_LAST:
        raise ChangeRefused(
            f"{document.named:,} buckets were created so far, the most there can be; flush one instead of dropping it"
        )
    rules = _with(document, BucketRules(number, name, document.replicas), settings)
    return msgspec.structs.replace(with_rules(document, [rules]), named=document.named + 1)


def change(document: Document, label: str, settings: Settings) -> Document | None:
    """Other rules for a bucket; None where they are so already."""
    rules = existing(document, label)
    changed = _with(document, rules, settings)
    return None if changed == rules else with_rules(document, [changed])


def drop(document: Document, label: str) -> Document:
    """The bucket is no more, and its rows are void (T5)."""
    rules = existing(document, label)
    if not rules.name:
        raise ChangeRefused(f"bucket {label} is always there; FLUSHDB empties it")
    buckets = [each for each in document.buckets if each.number != rules.number]
    return msgspec.structs.replace(document, epoch=document.epoch + 1, buckets=buckets)


def flush_all(document: Document) -> Document:
    """A new incarnation of every bucket, all at once."""
    return with_rules(document, [next_incarnation(rules) for rules in document.in_force()])


def existing(document: Document, label: str) -> BucketRules:
    """Raises ChangeRefused where there is no such bucket."""
    rules = find(document, label)
    if rules is None:
        raise ChangeRefused(f"there is no bucket {label!r}; `ringwise bucket list` shows all")
    return rules


def _with(document: Document, rules: BucketRules, settings: Settings) -> BucketRules:
    """The rules with these settings; raises ChangeRefused with the reason where that cannot be."""
    wanted = {name: value for name, value in msgspec.structs.asdict(settings).items() if value is not None}
    changed = msgspec.structs.replace(rules, **wanted)
    n, engine, policy = changed.n, changed.engine, changed.policy
    if n != document.replicas:
        raise ChangeRefused(
            f"N is {document.replicas} for every bucket of this cluster: one hash tree a slot compares the owners, and another N "
            "would move data; leave it out"
        )
    for which, text in (("R", changed.r), ("W", changed.w)):
        if text.isdigit() and int(text) > n:
            raise ChangeRefused(f"{which} = {text} owners of each key can never be had: there are N = {n}")
    try:
        Level.of(changed.r.encode() or b"quorum", changed.w.encode() or b"quorum").check(n)
    except Failure as error:
        raise ChangeRefused(f"R and W are one, quorum, all, strong, or a number up to N: {error}") from error
    if policy not in POLICIES and not _MERGED.fullmatch(policy):
        raise ChangeRefused(f"there is no policy {policy!r}; there are {', '.join(POLICIES)}, {MERGE}NAME")
    if engine not in ENGINES:
        raise ChangeRefused(f"there is no engine {engine!r}; there is {', '.join(ENGINES)}")
    if not 0 <= changed.ttl_s <= TTL_S_MAX:
        raise ChangeRefused(f"a time to live is 0 (for ever) to {TTL_S_MAX:,} seconds")
    return changed
