"""Each check finds what it is there for, in histories written by hand, and nothing else in a correct one."""

from collections.abc import Callable

import pytest
from tests.core.forms import ALWAYS, NEVER, opening

from ringwise.core import versions
from ringwise.core.changes import AddMembers
from ringwise.core.dots import DotSource
from ringwise.core.errors import RecordDamaged
from ringwise.core.keys import Bucket
from ringwise.core.versions import Context, Write
from ringwise.sim.checker import Ending, check, stale_reads
from ringwise.sim.history import Dot, History, Operation, Scan
from ringwise.sim.model import Witness
from ringwise.sim.watched import WitnessedDots
from ringwise.sim.workload import LEVELS

KEY = b"k"
RKEY = Bucket(0, 1).row_key(KEY)


class Story:
    """A key's life, told step by step: each write lasts one millisecond, and so does the pause after it."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.history = History()
        self.witness = Witness(lambda: self.now_ms)
        self.nodes = {name: DotSource(name.encode() * 6, b"inc1") for name in "abc"}
        self.stamp = 1 << 20

    def operation(self, kind: str, level: str = "quorum", outcome: str = "ok", value: bytes = b"") -> Operation:
        r, w = LEVELS[level]
        number = len(self.history.operations)
        operation = Operation(number, 0, "a", kind, KEY, level, r, w, self.now_ms, value)
        operation.outcome = outcome  # type: ignore[assignment]
        operation.ended_ms = self.now_ms + 1
        self.history.operations.append(operation)
        self.now_ms += 2
        return operation

    def write(
        self,
        node: str,
        old: bytes,
        kind: str = "set",
        level: str = "quorum",
        outcome: str = "ok",
        context: Context | None = None,
        stamp: int = 0,
    ) -> bytes:
        """A write coordinated at `node`, which holds `old`; returns the record it makes."""
        self.stamp += 1 << 16
        stamp = stamp or self.stamp
        value = b"" if kind == "delete" else b"v%d" % len(self.history.operations)
        write = Write(value, tombstone=kind == "delete", context=context)
        new = self.nodes[node].write(old, write, stamp)
        self.witness.issued(node, node.encode() * 6, old, new, context)
        known = set(self.witness.key(KEY).issues)
        self.witness.stored(node, RKEY, new)
        operation = self.operation(kind, level, outcome, value)
        if kind == "delete":
            (operation.dot,) = set(self.witness.key(KEY).issues) - known
        return new

    def read(self, record: bytes, level: str = "quorum") -> Operation:
        reading = self.operation("inspect", level)
        reading.siblings = [sibling.value for sibling in versions.siblings(record, 0)]
        reading.token = versions.context_of(record).token(KEY) if record else b""
        return reading

    def get(self, record: bytes) -> None:
        self.operation("get").found = versions.value_of(record, 0)

    def scan(self, *keys: bytes, level: str = "quorum") -> Scan:
        scan = Scan(0, level, LEVELS[level][0], 10, self.now_ms, self.now_ms + 1, keys=set(keys))
        self.history.scans.append(scan)
        self.now_ms += 2
        return scan

    def end(self, *replicas: bytes) -> list[str]:
        state = b""
        for replica in replicas:
            state = versions.merge(state, replica)
        reading = self.read(state, "all")
        ending = Ending(KEY, reading, dict(zip("abc", replicas, strict=False)))
        return sorted({violation.check for violation in check(self.history, self.witness, [ending])})


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_correct_history_passes(story: Story) -> None:
    first = story.write("a", b"")
    story.get(first)
    seen = versions.context_of(first)
    second = story.write("b", first, "put", context=seen)
    third = versions.merge(second, story.write("c", first, "put", context=seen))  # concurrent: two siblings
    assert len(story.read(third).siblings) == 2
    gone = story.write("a", third, "delete")
    story.get(gone)
    last = story.write("b", gone)
    story.get(last)
    assert story.end(last, last, last) == []


def test_lost(story: Story) -> None:
    first = story.write("a", b"")
    story.write("b", b"")  # acknowledged, and nobody has it
    assert "lost" in story.end(first, first, first)


def test_an_unknown_outcome_may_be_lost(story: Story) -> None:
    first = story.write("a", b"")
    story.write("b", b"", outcome="unknown")
    assert story.end(first, first, first) == []


def test_ghost(story: Story) -> None:
    first = story.write("a", b"", outcome="refused")
    assert story.end(first, first, first) == ["ghost"]


def test_converged(story: Story) -> None:
    first = story.write("a", b"")
    second = story.write("a", first)
    assert story.end(second, second, first) == ["converged", "siblings"]


def test_siblings_a_concurrent_one_dropped(story: Story) -> None:
    first = story.write("a", b"", "put", context=Context())
    merged = versions.merge(first, story.write("b", b"", "put", context=Context()))
    # Somebody's put drops what its context had not seen, yet claims to know it.
    third = story.nodes["c"].write(merged, Write(b"v2"), story.stamp + (1 << 16))
    story.witness.issued("c", b"c" * 6, merged, third, versions.context_of(first))
    story.witness.stored("c", RKEY, third)
    story.operation("put", value=b"v2")
    assert story.end(third, third, third) == ["siblings"]


def test_siblings_a_superseded_one_kept(story: Story) -> None:
    first = story.write("a", b"")
    second = story.nodes["b"].write(first, Write(b"v1", context=Context()), story.stamp + (1 << 16))
    story.witness.issued("b", b"b" * 6, first, second, versions.context_of(first))
    story.witness.stored("b", RKEY, second)
    story.operation("put", value=b"v1")
    assert story.end(second, second, second) == ["siblings"]


def test_shadowed(story: Story) -> None:
    first = story.write("a", b"", stamp=9 << 20)
    second = story.write("b", b"", stamp=2 << 20)
    state = versions.merge(first, second)
    assert story.end(state, state, state) == ["shadowed"]


def test_below_w_plus_w_a_set_may_be_shadowed(story: Story) -> None:
    first = story.write("a", b"", level="one", stamp=9 << 20)
    second = story.write("b", b"", stamp=2 << 20)
    state = versions.merge(first, second)
    assert story.end(state, state, state) == []


def test_blind(story: Story) -> None:
    first = story.write("a", b"")
    second = story.write("b", b"", "delete", stamp=9 << 40)
    state = versions.merge(first, second)
    assert story.end(state, state, state) == ["blind"]


@pytest.mark.parametrize("level", sorted(level for level in LEVELS if level.startswith("r=")))
@pytest.mark.parametrize("writes", ["r=1,w=1", "r=1,w=2", "r=1,w=3"])
def test_stale_where_r_plus_w_exceeds_n(story: Story, level: str, writes: str) -> None:
    first = story.write("a", b"")
    second = story.write("a", first, level=writes)
    reading = story.read(first, level)
    assert story.end(second, second, second) == (["stale"] if LEVELS[level][0] + LEVELS[writes][1] > 3 else [])
    assert stale_reads(story.history, story.witness) == [reading]


def test_value(story: Story) -> None:
    first = story.write("a", b"")
    second = story.write("a", first)
    story.get(first)
    assert story.end(second, second, second) == ["value"]


def test_value_nothing_found(story: Story) -> None:
    first = story.write("a", b"")
    story.get(b"")
    assert story.end(first, first, first) == ["value"]


def test_missed(story: Story) -> None:
    first = story.write("a", b"")
    story.scan()
    assert story.end(first, first, first) == ["missed"]


@pytest.mark.parametrize("level", ["one", "quorum", "all"])
def test_missed_where_r_plus_w_exceeds_n(story: Story, level: str) -> None:
    first = story.write("a", b"", level="one")
    story.scan(level=level)
    assert story.end(first, first, first) == (["missed"] if level == "all" else [])


def test_a_scan_may_miss_what_is_new_or_deleted_and_shows_what_came_back(story: Story) -> None:
    story.scan()
    first = story.write("a", b"")
    story.scan(KEY)
    story.history.scans[0].ended_ms = story.now_ms  # while it ran, the key was written
    gone = story.write("a", first, "delete", outcome="unknown")
    story.scan()
    unfinished = story.scan()
    unfinished.ended_ms = float("inf")
    last = story.write("b", gone)
    assert story.end(last, last, last) == []
    story.scan()
    assert story.end(last, last, last) == ["missed"]


def test_backwards(story: Story) -> None:
    first = story.write("a", b"", level="one")
    second = story.write("a", first, level="one")
    story.read(second, "strong")
    story.read(first, "strong")
    assert story.end(second, second, second) == ["backwards"]


def test_dots_issued_twice(story: Story) -> None:
    first = story.write("a", b"")
    story.nodes["a"] = DotSource(b"a" * 6, b"inc1")  # an unclean restart that goes on under the old incarnation
    story.write("a", b"")
    assert "dots" in story.end(first, first, first)


def test_twice(story: Story) -> None:
    first = story.write("a", b"", "put", context=Context(stamp=1))
    operation = story.history.operations[-1]
    operation.context = b"some"
    again = story.nodes["b"].write(b"", Write(operation.value, context=Context()), story.stamp)
    story.witness.issued("b", b"b" * 6, b"", again, Context())
    story.witness.stored("b", RKEY, again)
    state = versions.merge(first, again)
    assert story.end(state, state, state) == ["twice"]
    operation.context = b""
    assert story.end(state, state, state) == [], "blind, and forwarded once more"


MISTAKES: dict[str, Callable[[list[Dot]], list[Dot]]] = {
    "the same twice": lambda dots: [dots[0]] * len(dots),
    "a gap": lambda dots: [dots[0], *((actor, counter + 1) for actor, counter in dots[1:])],
    "an old one first": lambda dots: [(dots[0][0], 1), *dots[1:]],
    "an old one last": lambda dots: [*dots[:-1], (dots[0][0], 1)],
}


@pytest.mark.parametrize("form", [ALWAYS, NEVER])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_witness_sees_what_is_wrong_with_the_dots_of_one_write(
    mistake: str, form: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B5, V2: of several members, each has a dot of its own, the next ones of their actor."""
    witness = Witness(lambda: 0.0)
    dots = WitnessedDots(witness, "a", b"a" * 6, b"inc1", 1)
    with opening(form):
        state = AddMembers((b"a" * 30, b"b" * 30), 1 << 20).apply(dots, b"", 1000, 0)
        witness.stored("a", RKEY, state)
        issue = DotSource._next_dots
        monkeypatch.setattr(
            DotSource,
            "_next_dots",
            lambda self, held, told, count: MISTAKES[mistake](issue(self, held, told, count)),
        )
        try:
            witness.stored("a", RKEY, AddMembers((b"c", b"d", b"e"), 1 << 20).apply(dots, state, 2000, 0))
        except (AssertionError, RecordDamaged):
            return
    assert witness.violations
