"""Histories of one key on three replicas, against the obvious model (V1, V2).

The model knows no vectors and no counters. Every write is a number; its *past* is the set of the numbers of all writes
its writer had seen, spelled out. A replica has seen a set of writes, and those of them live that are in nobody's past.

Histories mix puts with, without and with stale contexts, deletes, merges of present and of old states (late frames),
clean restarts, crashes that lose a tail, and empty disks, under clocks that are apart. After every step:
  nothing seen comes back and nothing unseen is dropped (the living are the model's), no dot was issued twice,
  no two contents share a dot, and each version is stamped above everything in its past.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwise.core import context, versions
from ringwise.core.clock import Clock
from ringwise.core.dots import DotSource
from ringwise.core.record import Record, Sibling, decode
from ringwise.core.versions import Context, Write

REPLICAS = 3
CLIENTS = 2
WALL_MS = 1_000_000
Numbers = frozenset[int]


class Replica:
    def __init__(self, number: int) -> None:
        self.node_id = b"node-%d" % number
        self.starts = 0
        self.wall_ms = WALL_MS - 300 * number  # its clock is apart from the others'
        self.kept: list[tuple[bytes, Numbers]] = [
            (b"", frozenset())
        ]  # every state its disk ever held, the last in force
        self.fresh_start()

    def fresh_start(self, next_epoch: int = 1) -> None:
        self.starts += 1
        self.clock = Clock(max_offset_ms=1000)
        self.dots = DotSource(self.node_id, self.starts.to_bytes(4, "big"), next_epoch)

    @property
    def record(self) -> bytes:
        return self.kept[-1][0]

    @property
    def seen(self) -> Numbers:
        return self.kept[-1][1]


class History:
    """Runs the real thing and the model side by side."""

    def __init__(self) -> None:
        self.replicas = [Replica(number) for number in range(REPLICAS)]
        self.held: list[tuple[Context, Numbers]] = [(Context(), frozenset())] * CLIENTS
        self.past: list[Numbers] = []
        self.stamps: list[int] = []
        self.dots: dict[tuple[bytes, int], int] = {}
        self.alarms = versions.alarms["dot_collision"]

    def step(self, what: str, at: int, other: int, client: int, back: int) -> None:
        getattr(self, what)(self.replicas[at], self.replicas[other], client, back)
        self.check(self.replicas[at])

    def plain(self, at: Replica, _other: Replica, _client: int, _back: int) -> None:
        self._issue(at, at.seen, lambda value, stamp: at.dots.put(at.record, value, stamp))

    def put(self, at: Replica, _other: Replica, client: int, _back: int) -> None:
        told, seen = self.held[client]
        self._issue(at, seen, lambda value, stamp: at.dots.write(at.record, Write(value, context=told), stamp))

    def expiring(self, at: Replica, _other: Replica, _client: int, _back: int) -> None:
        def put(value: bytes, stamp: int) -> bytes:
            return at.dots.write(at.record, Write(value, expiry_ms=2 * WALL_MS), stamp)

        self._issue(at, at.seen, put)

    def delete(self, at: Replica, _other: Replica, client: int, _back: int) -> None:
        told, seen = self.held[client]
        gone = Write(b"", tombstone=True, context=told)
        self._issue(at, seen, lambda _value, stamp: at.dots.write(at.record, gone, stamp))

    def read(self, at: Replica, _other: Replica, client: int, _back: int) -> None:
        token = versions.context_of(at.record).token(b"key")
        self.held[client] = Context.parse(token, b"key"), at.seen

    def merge(self, at: Replica, other: Replica, _client: int, back: int) -> None:
        """A state arrives, perhaps one that was sent long ago."""
        record, seen = other.kept[-1 - back % len(other.kept)]
        at.kept.append((versions.merge(at.record, record), at.seen | seen))
        at.clock.last = max(at.clock.last, versions.max_stamp(at.record))

    def restart(self, at: Replica, _other: Replica, _client: int, _back: int) -> None:
        """A clean stop: the same incarnation, its epochs go on; the clock does not remember."""
        at.clock = Clock(max_offset_ms=1000)
        at.dots = DotSource(at.dots.prefix[:6], at.dots.prefix[6:], at.dots.next_epoch)

    def crash(self, at: Replica, _other: Replica, _client: int, back: int) -> None:
        """The last writes were not synced: the disk holds an earlier state, and the incarnation is renewed."""
        at.kept.append(at.kept[-1 - back % len(at.kept)])
        at.fresh_start()

    def wipe(self, at: Replica, _other: Replica, _client: int, _back: int) -> None:
        """An empty disk."""
        at.kept.append((b"", frozenset()))
        at.fresh_start()

    def _issue(self, at: Replica, past: Numbers, put: Callable[[bytes, int], bytes]) -> None:
        number = len(self.past)
        at.wall_ms += 1
        before = {(one.actor, one.counter) for one in decode(at.record).siblings}
        record = put(b"%d" % number, at.clock.next(at.wall_ms))
        (new,) = [one for one in decode(record).siblings if (one.actor, one.counter) not in before]
        assert (new.actor, new.counter) not in self.dots, "a dot was issued twice"
        self.dots[new.actor, new.counter] = number
        # Of what its writer saw, all is past; a plain SET saw what its coordinator held.
        assert all(self.stamps[earlier] < new.stamp for earlier in past), "a version is stamped below its past"
        self.past.append(past)
        self.stamps.append(new.stamp)
        at.kept.append((record, at.seen | past | {number}))

    def living(self, seen: Numbers) -> set[int]:
        return set(seen).difference(*[self.past[number] for number in seen])

    def check(self, at: Replica) -> None:
        state = decode(at.record)
        found = {self.dots[one.actor, one.counter] for one in state.siblings}
        assert found == self.living(at.seen)
        assert len(found) == len(state.siblings)
        for one in state.siblings:
            assert one.tombstone or one.value == b"%d" % self.dots[one.actor, one.counter]
        covered = context.Seen(state)
        assert {number for dot, number in self.dots.items() if covered.has(*dot)} == at.seen
        assert versions.max_stamp(at.record) == max([self.stamps[number] for number in at.seen], default=0)
        shown = [one for one in state.siblings if not one.tombstone]
        assert versions.siblings(at.record, WALL_MS) == sorted(shown, key=newest_first)
        assert versions.alarms["dot_collision"] == self.alarms

    def end(self) -> None:
        """In whatever order states meet, the replicas end up equal."""
        records = [replica.record for replica in self.replicas]
        ends = set()
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)):
            merged = b""
            for number in order:
                merged = versions.merge(merged, records[number])
            ends.add(merged)
        (end,) = ends
        assert all(versions.covers(end, record) for record in records)
        seen = frozenset[int]().union(*[replica.seen for replica in self.replicas])
        assert {self.dots[one.actor, one.counter] for one in decode(end).siblings} == self.living(seen)


def newest_first(one: Sibling) -> tuple[int, ...]:
    return (-one.stamp, *[-byte for byte in one.actor], -one.counter)


STEPS = ["plain", "plain", "put", "put", "expiring", "delete", "read", "read", "merge", "merge", "merge"]
FAULTS = ["restart", "crash", "wipe"]
steps = st.tuples(
    st.sampled_from(STEPS + FAULTS),
    st.integers(0, REPLICAS - 1),
    st.integers(0, REPLICAS - 1),
    st.integers(0, CLIENTS - 1),
    st.integers(0, 3),
)


@given(st.lists(steps, max_size=40))
def test_every_history_is_what_the_model_says(history: list[tuple[str, int, int, int, int]]) -> None:
    run = History()
    for step in history:
        run.step(*step)
    run.end()


def random_histories(count: int) -> None:
    """The same, longer, from fixed seeds: these are what the deliberate faults below must not survive."""
    for seed in range(count):
        rng = random.Random(seed)
        run = History()
        for _ in range(60):
            what = rng.choice(STEPS if rng.random() < 0.9 else FAULTS)
            run.step(what, rng.randrange(3), rng.randrange(3), rng.randrange(2), rng.choice([0, 0, 0, 1, 2, 5]))
        run.end()


def test_long_histories_are_what_the_model_says() -> None:
    random_histories(15)


# --- deliberate faults: each is one that a store of this kind really had, and the histories notice it


def keeps_all(held: list[Sibling], _client: context.Seen) -> list[Sibling]:
    """A put that replaces nothing: siblings explode."""
    return list(held)


def keeps_none(_held: list[Sibling], _client: context.Seen) -> list[Sibling]:
    """A put that replaces what its writer never saw: acknowledged writes vanish."""
    return []


def survive_all(mine: Record, _other: Record, _seen: context.Seen) -> set[Sibling]:
    """A merge that brings back what was replaced."""
    return set(mine.siblings)


def survive_if_shared(mine: Record, other: Record, _seen: context.Seen) -> set[Sibling]:
    """A merge that drops what the other side has not seen yet."""
    return {sibling for sibling in mine.siblings if sibling in other.siblings}


def newest_wins(a: bytes, b: bytes) -> bytes:
    """Last writer wins by the wall clock."""
    return max(a, b, key=lambda record: (versions.max_stamp(record), record))


def more_writes_wins(a: bytes, b: bytes) -> bool:
    """A shortcut that takes the longer history for the later one."""
    return sum(counter for _, counter in decode(a).context) > sum(counter for _, counter in decode(b).context)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("unseen", keeps_all),
        ("unseen", keeps_none),
        ("survivors", survive_all),
        ("survivors", survive_if_shared),
        ("merge", newest_wins),
        ("supersedes", more_writes_wins),
    ],
)
def test_a_fault_in_put_or_merge_is_noticed(
    monkeypatch: pytest.MonkeyPatch, function: str, fault: Callable[..., object]
) -> None:
    monkeypatch.setattr(versions, function, fault)
    with pytest.raises(AssertionError):
        random_histories(15)


def test_an_incarnation_that_is_not_renewed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """V2; basho/riak_kv#679, #1040: a replica that lost its tail issues the same dots again."""

    def same_again(at: Replica, next_epoch: int = 1) -> None:
        at.starts = 1
        at.clock = Clock(max_offset_ms=1000)
        at.dots = DotSource(at.node_id, b"same", next_epoch)

    monkeypatch.setattr(Replica, "fresh_start", same_again)
    with pytest.raises(AssertionError, match="a dot was issued twice"):
        random_histories(15)


def test_a_stand_in_that_hands_over_and_forgets_takes_a_new_epoch() -> None:
    """V2; basho/riak_kv#1094. The second write must not look like the first, which was replaced meanwhile."""
    stand_in, owner = DotSource(b"standi", b"inca"), DotSource(b"owner1", b"inca")
    first = stand_in.put(b"", b"first", 1)
    replaced = owner.put(first, b"replaced", 2)
    second = stand_in.put(b"", b"second", 3)  # it holds nothing any more
    merged = versions.merge(replaced, second)
    assert [one.value for one in versions.siblings(merged, WALL_MS)] == [b"second", b"replaced"]
    third = stand_in.put(merged, b"third", 4)
    assert decode(third).siblings[0].counter == 2, "and counts on in the epoch it took last"
    assert dict(decode(third).context)[stand_in.prefix + (1).to_bytes(6, "big")] == 1
