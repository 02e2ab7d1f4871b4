"""Deliberate faults in reaping (V8): each is a shortcut that somebody has taken, and the simulator finds what it costs.

What is on its way for long, a read, a hint or a frame from before, has its scenes in tests/core/test_reaping.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.sim.planted import Fault, Patch, expect_caught

from ringwise.core import versions
from ringwise.core.dots import DotSource
from ringwise.core.keys import key_of
from ringwise.core.messages import NodeId
from ringwise.core.reapable import Look, Owner
from ringwise.core.reaping import Reaping
from ringwise.core.ring import slot_of
from ringwise.sim.network import Weather
from ringwise.sim.simulator import Scenario, run
from ringwise.sim.workload import REAPED

REAPS = Scenario(
    nodes=5,
    hints=True,
    reaps=True,
    repairs=True,
    mix=REAPED,
    faults=("partition", "one way", "break", "loss", "crash", "pause"),
)
# An owner that has missed a delete misses it until the end.
FORGETFUL = replace(
    REAPS,
    nodes=3,
    hints=False,
    repairs=False,
    faults=("loss", "break"),
    mix=replace(REAPED, kinds=(("set", 1), ("delete", 1)), levels=(("quorum", 1),), keys=40, stampede=0.0),
)
FAR = replace(REAPS, weather=Weather(50.0, 50.0))
BACK = {"siblings", "value", "lost", "stale", "blind", "shadowed"}


def reaped_after_a_while_without_asking(patch: Patch) -> None:
    """The grace period of Cassandra, scylladb/scylladb#9219: every owner drops what is old enough."""

    def begin(self: Reaping) -> None:
        records = list(self._found.values())
        self._found = {}
        self._owner.drop([each.rkey for each in records], [each.digest for each in records], 0, lambda: None)
        self._end(worked=True)

    patch.setattr(Reaping, "_begin", begin)
    patch.setattr(Reaping, "_mine", lambda _: lambda _: True)


def a_majority_is_enough(patch: Patch) -> None:
    """One owner may be away, and has not seen the delete."""
    told = Reaping._told

    def tell(self: Reaping, owner: NodeId, records: list[object], positions: Sequence[int]) -> None:
        for record in self._records.values():
            if len(record.waits_for) == 1:
                record.waits_for.clear()
        told(self, owner, records, positions)  # type: ignore[arg-type]

    patch.setattr(Reaping, "_told", tell)


def whatever_is_held_counts_as_the_tombstone(patch: Patch) -> None:
    """An owner says yes to a key that it has in another state."""

    def looking(self: Owner, rkeys: list[bytes], digests: list[bytes], then: Callable[[list[int]], None]) -> None:
        look(self, rkeys, digests, lambda _: then(list(range(len(rkeys)))))

    look = Owner.look
    patch.setattr(Owner, "look", looking)


def dropped_though_it_was_written_again(patch: Patch) -> None:
    """The digest is not compared when the record goes."""

    def drop(self: Owner, then: Callable[[], None], look: Look) -> None:
        for position in range(len(look.rkeys)):
            slot = slot_of(key_of(look.rkeys[position]))
            held = self._store.find(slot, look.rkeys[position])
            if held:
                look.digests[position] = held[:8]
                look.same = [*look.same, position]
        look.same = sorted(set(look.same))
        real(self, then, look)

    real = Owner._drop
    patch.setattr(Owner, "_drop", drop)


def alive_is_called_dead(patch: Patch) -> None:
    """Whatever has an expiry is taken for expired."""
    patch.setattr(Owner, "dead", lambda self, record: versions.dead(record, self._now.wall_ms + 10**12))


def actors_of_dropped_records_go_on(patch: Patch) -> None:
    """V2: basho/riak_kv#1094."""
    patch.setattr(DotSource, "retire", lambda *_: None)


FAULTS: list[Fault] = [
    (reaped_after_a_while_without_asking, FORGETFUL, BACK, 32),
    (a_majority_is_enough, FORGETFUL, BACK, 32),
    (whatever_is_held_counts_as_the_tombstone, FORGETFUL, BACK, 32),
    (dropped_though_it_was_written_again, REAPS, BACK, 8),
    (alive_is_called_dead, REAPS, BACK, 8),
    (actors_of_dropped_records_go_on, REAPS, {"dots"}, 8),
]


@pytest.mark.parametrize(("fault", "scenario", "checks", "seeds"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_deliberate_fault_is_caught(
    fault: Callable[[Patch], None], scenario: Scenario, checks: set[str], seeds: int, monkeypatch: Patch
) -> None:
    expect_caught(fault, scenario, checks, seeds, monkeypatch)


@pytest.mark.parametrize("scenario", [REAPS, FAR], ids=["near", "far"])
def test_nothing_comes_back(scenario: Scenario) -> None:
    """What the faults are planted in is right without them."""
    for seed in (1, 2, 3):
        assert run(seed, scenario).violations == []
