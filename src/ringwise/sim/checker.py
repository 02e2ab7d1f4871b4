"""What a history must satisfy, whatever happened in it.

    lost       an acknowledged write is covered by what `all` reads at the end, and shown unless something that had seen
               it is (V1)
    ghost      what was refused is nowhere: a refusal means certainly not applied
    twice      an operation is coordinated once: two of its dots are one after the other (V5), unless it was blind and was
               forwarded once more to another owner (R1)
    siblings   what is shown are exactly the concurrent versions, against the model (V1)
    converged  after one read of each key at `all`, its owners hold the same bytes
    shadowed   a SET is newer (V6: by stamp, then actor) than every write acknowledged before it began, where W + W > N
               (V5); of one session or of two
    blind      a DEL or SET … GET has seen every write acknowledged before it began, where R + W > N (V5)
    stale      a read's context covers every write acknowledged before it began, where R + W > N
    value      a plain GET shows no value that was overwritten for good before it began, where W + W > N and R + W > N
               (V6)
    order      on one connection, a read sees the writes sent before it on that key though all are under way together (B1),
               where R + W > N, every node is an owner, and links keep the order of their frames
    backwards  a read at `strong` covers what an earlier one at `strong` covered (R3)
    missed     a scan that came to its end has shown every key that was there throughout: written and acknowledged before it
               began, and not deleted by anything newer until it ended, where R + W > N
    flushed    a read of a majority that began after a flush was acknowledged shows no value acknowledged before the flush began
    counted, member   of types that merge by themselves: sim/merging.py
    policy, expired   of buckets with rules of their own: sim/policies.py
    epoch      no two documents for one epoch (T3); noted while the history runs

Each check is a function from what was recorded to violations, and believes nothing but the history, the witness of
issued dots and the records left at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import inf

from ringwise.core import record
from ringwise.core.counters import is_session
from ringwise.core.space import bound
from ringwise.core.versions import Context
from ringwise.sim.history import BUCKETS, READS, History, Operation, Vector, bucket_of
from ringwise.sim.merging import check_merging, is_merging
from ringwise.sim.model import Issue, Key, Witness, show_dot
from ringwise.sim.policies import check_policy, lives, shown_at_the_end

N = 3


@dataclass(frozen=True)
class Violation:
    check: str
    key: bytes
    what: str
    operations: tuple[int, ...] = ()  # those to look at first

    def __str__(self) -> str:
        return f"{self.check}: {self.key.decode()}: {self.what}" if self.key else f"{self.check}: {self.what}"


@dataclass(frozen=True)
class Ending:
    """One key when all is healed and it was read once at `all`."""

    key: bytes
    reading: Operation
    replicas: dict[str, bytes]  # by owner: the record it holds


def check(history: History, witness: Witness, endings: list[Ending]) -> list[Violation]:
    """Every violation, in the order of the list above."""
    by_key: dict[bytes, list[Operation]] = {}
    for operation in history.operations:
        by_key.setdefault(operation.key, []).append(operation)
    by_bucket = flushes_of(history)
    violations = [Violation("dots", key, what) for key, what in witness.violations]
    for ending in endings:
        versions = witness.key(ending.key)
        flushes = by_bucket[bucket_of(ending.key)]
        violations += check_ending(ending, by_key.get(ending.key, []), versions, flushes, history)
    for key, operations in by_key.items():
        flushes = by_bucket[bucket_of(key)]
        violations += check_order(key, operations, witness.key(key), flushes, history)
        violations += check_flushes(key, operations, flushes)
        violations += check_pipelines(key, operations, witness.key(key), history)
        violations += check_scans(key, operations, witness.key(key), history)
        complaints = [*check_merging(operations, N), *check_policy(key, operations, witness.key(key), history)]
        violations += [Violation(name, key, what, at) for name, what, at in complaints]
    return violations


class Flushes:
    """When the database was flushed, as far as clients can tell."""

    def __init__(self, spans: list[tuple[float, float, bool]]) -> None:
        self.spans = spans

    def between(self, write: Operation, later: Operation) -> bool:
        """Whether a flush may have taken what was written before the other ended; below a majority a write may be void already,
        on a node that has not heard of it (T5)."""
        return any(
            began_ms < later.ended_ms and (ended_ms > write.began_ms or write.w <= N // 2)
            for began_ms, ended_ms, _ in self.spans
        )

    def parted(self, write: Operation, later: Operation) -> bool:
        """Whether a flush was acknowledged that began after the one was answered and ended before the other began."""
        return any(
            whole and write.ended_ms < began_ms and ended_ms < later.began_ms
            for began_ms, ended_ms, whole in self.spans
        )


def flushes_of(history: History) -> dict[int, Flushes]:
    """By bucket."""
    return {bucket: Flushes(history.flushed(bucket)) for bucket in (0, *BUCKETS.values())}


def check_flushes(key: bytes, operations: list[Operation], flushes: Flushes) -> Iterator[Violation]:
    """flushed: what a flush took is not shown again."""
    writes = {operation.value: operation for operation in operations if operation.value and operation.outcome == "ok"}
    for reading in operations if flushes.spans else []:
        if reading.outcome == "ok" and reading.r > N // 2:
            shown = [*reading.siblings, *([reading.found] if reading.found is not None else [])]
            for write in (writes[value] for value in shown if value in writes):
                if flushes.parted(write, reading):
                    text = f"{reading} shows {write}, from before a flush"
                    yield Violation("flushed", key, text, (write.number, reading.number))


def check_ending(
    ending: Ending,
    operations: list[Operation],
    versions: Key,
    flushes: Flushes,
    history: History,
) -> Iterator[Violation]:
    """lost, ghost, siblings, converged."""
    key, reading = ending.key, ending.reading
    if reading.outcome != "ok":
        yield Violation("lost", key, f"cannot be read at `all` after healing: {reading.error}", (reading.number,))
        return
    held = set(ending.replicas.values())
    if len(held) > 1:
        states = ", ".join(f"{name} {show_record(replica)}" for name, replica in sorted(ending.replicas.items()))
        yield Violation("converged", key, f"its owners differ: {states}", (reading.number,))
    covered = vector_of(reading)
    for replica in sorted(held):
        if replica and dict(record.decode(replica).context) != covered:
            yield Violation("converged", key, f"an owner holds {show_record(replica)}, read was {show_vector(covered)}")
    covered = versions.with_reaped(covered)
    for operation in operations:
        issues = issues_of(operation, versions)
        applied = [issue for issue in issues if covers(covered, issue)]
        lost = operation.outcome == "ok" and operation.writes and not applied and (issues or operation.kind != "delete")
        if lost and not flushes.between(operation, reading):
            yield Violation("lost", key, f"acknowledged and gone: {operation}", (operation.number,))
        if operation.outcome == "refused" and applied:
            yield Violation("ghost", key, f"refused and yet applied: {operation}", (operation.number,))
        yield from _twice(key, operation, issues)
    must, may = shown_at_the_end(key, versions.visible(covered), reading, history)
    if not must <= set(reading.siblings) <= may and not is_merging(operations):
        text = f"shown {sorted(reading.siblings)}, while the concurrent ones are {sorted(may)}"
        yield Violation("siblings", key, text, (reading.number,))
    for replica in sorted(held):
        siblings = record.decode(replica).siblings if replica else []
        dots = {
            (each.actor, each.counter) for each in siblings if not is_session(each.actor)
        }  # no node has issued those
        concurrent = {issue.dot for issue in versions.visible(covered)}
        surplus, missing = (
            [dot for dot in sorted(different) if not versions.may_go(dot)]
            for different in (dots - concurrent, concurrent - dots)
        )
        if surplus or missing:
            text = f"held but superseded: {[*map(show_dot, surplus)]}, concurrent but gone: {[*map(show_dot, missing)]}"
            yield Violation("siblings", key, text, (reading.number,))


def check_order(
    key: bytes,
    operations: list[Operation],
    versions: Key,
    flushes: Flushes,
    history: History,
) -> Iterator[Violation]:
    """shadowed, blind, stale, value, backwards: what began after an acknowledged write had ended."""
    writes = [(operation, issues_of(operation, versions)) for operation in operations if operation.writes]
    writes = [(write, issues) for write, issues in writes if write.outcome == "ok" and issues]
    strong: list[tuple[Operation, Vector]] = []
    for operation in operations:
        if operation.outcome != "ok":
            continue
        earlier = [
            (write, issues)
            for write, issues in writes
            if write.before(operation) and not flushes.between(write, operation)
        ]
        if operation.kind == "set":
            yield from _shadowed(key, operation, earlier, versions)
        elif operation.kind in ("update", "delete"):
            yield from _blind(key, operation, earlier, versions)
        elif operation.kind == "inspect":
            covered = versions.with_reaped(vector_of(operation), operation.ended_ms)
            yield from _stale(key, operation, earlier, covered)
            if operation.level == "strong":
                for other, before in strong:
                    kept = other.before(operation) and not flushes.between(other, operation)
                    if kept and any(covered.get(actor, 0) < n for actor, n in before.items()):
                        text = f"{operation} covers {show_vector(covered)}, an earlier one {show_vector(before)}"
                        yield Violation("backwards", key, text, (other.number, operation.number))
                strong.append((operation, covered))
        if operation.kind == "get" or (operation.kind == "update" and operation.found is not None):
            lasting = [each for each in earlier if lives(each[0], operation.ended_ms, history)]
            yield from _value(key, operation, lasting, operations, versions)


def check_pipelines(key: bytes, operations: list[Operation], versions: Key, history: History) -> Iterator[Violation]:
    """order: among operations of one client that were under way together."""
    flushes = Flushes(history.flushed(bucket_of(key)))
    for reading in operations:
        orderly = reading.began_ms >= history.pipelines_from_ms and history.orderly(reading.began_ms, reading.ended_ms)
        if reading.kind != "inspect" or reading.outcome != "ok" or not orderly:
            continue
        covered = versions.with_reaped(vector_of(reading), reading.ended_ms)
        for write in operations:
            together = write.client == reading.client and write.began_ms == reading.began_ms
            if together and write.writes and write.number < reading.number and write.outcome == "ok":
                issues = issues_of(write, versions)
                void = flushes.between(write, reading)
                if (
                    reading.r + write.w > N
                    and issues
                    and not void
                    and not any(covers(covered, each) for each in issues)
                ):
                    text = f"{reading} misses {write}, sent before it"
                    yield Violation("order", key, text, (write.number, reading.number))


def check_scans(key: bytes, operations: list[Operation], versions: Key, history: History) -> Iterator[Violation]:
    """missed: whatever a read meets has been written above the write in question, and shows a value unless that is deleted."""
    tombstones = [issue for issue in versions.issues.values() if issue.tombstone]
    for scan in history.scans if bucket_of(key) == 0 else []:  # they are of the default bucket
        if key in scan.keys or scan.ended_ms == inf:
            continue
        for write in operations:
            kept = write.writes and write.kind != "delete" and write.outcome == "ok" and write.ended_ms < scan.began_ms
            if not kept or scan.r + write.w <= N:
                continue
            stamp = min((issue.stamp for issue in issues_of(write, versions)), default=inf)
            if not any(issue.stamp >= stamp and issue.at_ms <= scan.ended_ms for issue in tombstones) and stamp < inf:
                yield Violation("missed", key, f"{scan} does not show {write}", (write.number,))
                break


def stale_reads(history: History, witness: Witness) -> list[Operation]:
    """Reads, at whatever level, that miss an acknowledged write that had ended before they began."""
    writes = [operation for operation in history.operations if operation.writes and operation.outcome == "ok"]
    found = []
    for reading in history.operations:
        if reading.kind == "inspect" and reading.outcome == "ok":
            covered = vector_of(reading)
            versions = witness.key(reading.key)
            for write in writes:
                if write.key == reading.key and write.before(reading):
                    issues = issues_of(write, versions)
                    if issues and not any(covers(covered, issue) for issue in issues):
                        found.append(reading)
                        break
    return found


def _twice(key: bytes, operation: Operation, issues: list[Issue]) -> Iterator[Violation]:
    blind = operation.kind == "set" or (operation.kind == "put" and not operation.context)
    for first, second in combinations(issues, 2):
        apart = not first.saw(second.dot) and not second.saw(first.dot)
        if apart and (first.node == second.node or not blind):
            text = f"{show_dot(first.dot)} and {show_dot(second.dot)} were both issued for {operation}"
            yield Violation("twice", key, text, (operation.number,))


def _shadowed(
    key: bytes, operation: Operation, earlier: list[tuple[Operation, list[Issue]]], versions: Key
) -> Iterator[Violation]:
    issues = issues_of(operation, versions)
    if not issues:
        return
    # What had replaced it, having seen it, before it was answered stands in its place.
    after = [
        issue
        for issue in versions.issues.values()
        if issue.at_ms <= operation.ended_ms and any(issue.saw(each.dot) for each in issues)
    ]
    newest = max((issue.stamp, issue.dot) for issue in [*issues, *after])
    for write, written in earlier:
        if write.w + operation.w > N and min((issue.stamp, issue.dot) for issue in written) >= newest:
            yield Violation("shadowed", key, f"{operation} is shadowed by {write}", (write.number, operation.number))


def _blind(
    key: bytes, operation: Operation, earlier: list[tuple[Operation, list[Issue]]], versions: Key
) -> Iterator[Violation]:
    for issue in issues_of(operation, versions):
        for write, written in earlier:
            if operation.r + write.w > N and not any(issue.saw(each.dot) for each in written):
                text = f"{operation} did not take in {write}"
                yield Violation("blind", key, text, (write.number, operation.number))


def _stale(
    key: bytes, operation: Operation, earlier: list[tuple[Operation, list[Issue]]], covered: Vector
) -> Iterator[Violation]:
    for write, issues in earlier:
        if operation.r + write.w > N and not any(covers(covered, issue) for issue in issues):
            yield Violation("stale", key, f"{operation} misses {write}", (write.number, operation.number))


def _value(
    key: bytes,
    reading: Operation,
    earlier: list[tuple[Operation, list[Issue]]],
    operations: list[Operation],
    versions: Key,
) -> Iterator[Violation]:
    """The newest version (V6) of what must be known: what was answered is that, or stamped above it."""
    known = [
        # What is issued once more after the answer, in the place of a write that it has replaced (V5), no read need know yet.
        (max((issue.stamp for issue in issues if issue.at_ms <= write.ended_ms), default=0), write)
        for write, issues in earlier
        if reading.r + write.w > N
    ]
    if not known:
        return
    stamp, newest = max(known, key=lambda pair: pair[0])
    if reading.found is None:
        tombstones = [issue for issue in versions.issues.values() if issue.tombstone and issue.stamp >= stamp]
        if not tombstones and newest.kind != "delete":
            yield Violation("value", key, f"{reading} found nothing after {newest}", (newest.number, reading.number))
        return
    shown = versions.of_value(reading.found)
    if not shown:
        yield Violation("value", key, f"{reading} shows what nobody wrote", (reading.number,))
    elif max(issue.stamp for issue in shown) < stamp:
        by = next((operation for operation in operations if operation.value == reading.found), None)
        text = f"{reading} shows {by or 'what was merged'}, which {newest} is stamped above"
        yield Violation("value", key, text, (*([by.number] if by else []), newest.number, reading.number))


def issues_of(operation: Operation, versions: Key) -> list[Issue]:
    """The dots under which a write is known: several, if it was issued once more (V5) or forwarded once more (R1)."""
    if operation.kind in READS:
        return []
    if operation.kind == "delete":
        return [versions.issues[operation.dot]] if operation.dot is not None else []
    return versions.of_value(operation.value)


def covers(covered: Vector, issue: Issue) -> bool:
    return covered.get(issue.dot[0], 0) >= issue.dot[1]


def vector_of(operation: Operation) -> Vector:
    """What the reply's context covers."""
    return (
        dict(Context.parse(operation.token, bound(bucket_of(operation.key), operation.key)).vector)
        if operation.token
        else {}
    )


def show_vector(vector: Vector) -> str:
    return "{" + ", ".join(show_dot(dot) for dot in sorted(vector.items())) + "}"


def show_record(held: bytes) -> str:
    if not held:
        return "nothing"
    state = record.decode(held)
    dots = ", ".join(show_dot((sibling.actor, sibling.counter)) for sibling in state.siblings)
    return f"{show_vector(dict(state.context))} with [{dots}]"
