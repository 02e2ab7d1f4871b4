"""The obvious model of versions: every dot that was ever issued, with what its writer had seen. Sets, no merging.

A `Witness` stands where nodes issue dots and where they store records.  From what it noted, `Key.visible` says which
versions of a key must be shown by whoever knows a given set of dots: those that no other known version had seen
(Almeida et al. 2014, causal histories).  The store computes the same from clocks, merges and repairs; the checker
compares the two.

Noticed at once, since they can never be right:
- V2  the same dot for two different writes;
- V2  a counter that leaves a gap, so that a vector would cover a dot that does not exist;
- V1  a version whose stamp is not above everything that it covers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from ringwise.core import keys, record, versions
from ringwise.core.counters import is_session, is_value
from ringwise.core.hints import BUCKET as HINTS
from ringwise.core.versions import Context
from ringwise.sim.history import Dot, Vector


@dataclass(slots=True)
class Issue:
    """One dot, as it was issued."""

    dot: Dot
    node: str
    at_ms: float
    stamp: int
    tombstone: bool
    value: bytes
    seen: Vector  # what the write superseded
    exact: frozenset[Dot] = frozenset()  # single dots beside that
    role: str = ""  # not of a value: of an expiry, of a contribution (core/counters.py)
    forgotten: Vector = field(default_factory=dict)  # what had been reaped before (V8)

    def saw(self, dot: Dot) -> bool:
        actor, counter = dot
        return self.seen.get(actor, 0) >= counter or self.forgotten.get(actor, 0) >= counter or dot in self.exact

    def __str__(self) -> str:
        what = "a tombstone" if self.tombstone else self.value.decode("ascii", "backslashreplace")
        seen = ", ".join(show_dot(dot) for dot in sorted(self.seen.items()))
        stamp = f"{self.stamp >> 16}.{self.stamp & 0xFFFF}"
        issued = f"{self.at_ms:9.1f} {self.node} issues {show_dot(self.dot)} stamp {stamp}"
        return f"{issued} for {what}, seen: {seen or 'nothing'}"


@dataclass(slots=True)
class Key:
    issues: dict[Dot, Issue] = field(default_factory=dict)
    reaped: Vector = field(default_factory=dict)  # what dead records that were dropped had seen (V8)
    drops: list[tuple[float, Vector]] = field(default_factory=list)  # the same, as it came to be

    def known(self, covered: Vector) -> list[Issue]:
        return [issue for dot, issue in self.issues.items() if covered.get(dot[0], 0) >= dot[1]]

    def visible(self, covered: Vector) -> list[Issue]:
        """The versions that nothing else among the covered ones has seen, of whatever role."""
        known = self.known(covered)
        return [issue for issue in known if not any(other.saw(issue.dot) for other in known if other is not issue)]

    def may_go(self, dot: Dot) -> bool:
        """A tombstone that one of the owners has dropped, as all may: another may hold it still (V8)."""
        issue = self.issues.get(dot)
        return issue is not None and self.reaped.get(dot[0], 0) >= dot[1] and (issue.tombstone or bool(issue.role))

    def with_reaped(self, covered: Vector, at_ms: float = inf) -> Vector:
        """What counts as known at a time, since records were dropped that all owners had."""
        reaped: Vector = next((vector for since_ms, vector in reversed(self.drops) if since_ms <= at_ms), {})
        return {actor: max(covered.get(actor, 0), reaped.get(actor, 0)) for actor in covered | reaped}

    def of_value(self, value: bytes) -> list[Issue]:
        return [
            issue for issue in self.issues.values() if issue.value == value and not issue.tombstone and not issue.role
        ]


class Witness:
    def __init__(self, now_ms: Callable[[], float], *, reaps: bool = False) -> None:
        self._now_ms = now_ms
        self._reaps = reaps  # without, a record is dropped only by who stood in for an owner that has it
        self.keys: dict[bytes, Key] = {}
        self.violations: list[tuple[bytes, str]] = []  # (key, what)
        self._fresh: dict[bytes, list[Issue]] = {}  # issued and not yet stored anywhere: the key is not known before
        self._known: dict[bytes, set[bytes]] = {}  # records that were looked at, by row key

    def key(self, key: bytes) -> Key:
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = Key()
        return found

    def issued(
        self, node: str, node_id: bytes, old: bytes, new: bytes, context: Context | None, count: int = 1
    ) -> None:
        """A node made `new` of `old`, for a write that had seen `context` (None: all of `old`); or `count` as one (B5)."""
        held = versions.seen_by(old)
        seen = held.vector if context is None else dict(context.vector)
        exact = frozenset() if context is None else frozenset(context.cloud)
        fresh = [
            sibling
            for sibling in record.decode(new).siblings
            if sibling.actor.startswith(node_id) and not held.has(sibling.actor, sibling.counter)
        ]
        if len(fresh) != count:
            raise AssertionError(f"{node} made a write of {count} with {len(fresh)} new dots of its own")
        self._fresh[new] = [
            Issue(
                (each.actor, each.counter),
                node,
                self._now_ms(),
                each.stamp,
                each.tombstone,
                each.value,
                seen,
                exact,
                "" if is_value(each) else each.content_type,
            )
            for each in sorted(fresh, key=lambda each: (each.actor, each.counter))
        ]

    def stored(self, node: str, rkey: bytes, new: bytes) -> None:
        """A node put a record into its memtable: what was issued for it counts from now on."""
        if rkey.startswith(HINTS.prefix):
            return
        known = self._known.get(rkey)
        if known is None:
            known = self._known[rkey] = set()
        if new in known:
            return
        known.add(new)
        key = keys.key_of(rkey)
        history = self.key(key)
        for issue in self._fresh.pop(new, ()):
            self._enter(key, history, issue)
        for sibling in record.decode(new).siblings:
            dot = sibling.actor, sibling.counter
            first = history.issues.get(dot)
            if is_session(sibling.actor):
                continue  # numbered by a client; sent again, it may be written by two nodes, at different times
            if first is None:
                self._violated(key, f"{node} stores {show_dot(dot)}, which nobody issued")
            elif (first.stamp, first.value, first.tombstone) != (sibling.stamp, sibling.value, sibling.tombstone):
                self._violated(key, f"{show_dot(dot)} names two writes: {first.value!r} and {sibling.value!r} (V2)")

    def dropped(self, rkey: bytes, old: bytes, wall_ms: int) -> None:
        """A node dropped a record. What was dead is as good as known from now on (V8); what was alive is missed by the checks."""
        if self._reaps and versions.dead(old, wall_ms) and not rkey.startswith(HINTS.prefix):
            reaped = self.key(keys.key_of(rkey)).reaped
            for actor, counter in record.decode(old).context:
                reaped[actor] = max(counter, reaped.get(actor, 0))
            self.key(keys.key_of(rkey)).drops.append((self._now_ms(), dict(reaped)))

    def _enter(self, key: bytes, history: Key, issue: Issue) -> None:
        dot = issue.dot
        issue.forgotten = dict(history.reaped)
        if dot in history.issues:
            first = history.issues[dot]
            self._violated(key, f"{show_dot(dot)} was issued twice, for {first.value!r} and {issue.value!r} (V2)")
            return
        if dot[1] > 1 and (dot[0], dot[1] - 1) not in history.issues:
            self._violated(key, f"{show_dot(dot)} was issued before its predecessor (V2)")
        for other in history.issues.values():
            if issue.saw(other.dot) and other.stamp >= issue.stamp:
                self._violated(key, f"{show_dot(dot)} covers {show_dot(other.dot)} but is not stamped above it (V1)")
        history.issues[dot] = issue

    def _violated(self, key: bytes, what: str) -> None:
        self.violations.append((key, what))


def show_dot(dot: Dot) -> str:
    """Node, incarnation and key epoch of the actor, shortened, and the counter."""
    actor = dot[0]
    return f"{actor[:2].hex()}/{actor[6:8].hex()}/{int.from_bytes(actor[10:], 'big')}:{dot[1]}"
