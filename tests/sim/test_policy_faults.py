"""Deliberate faults in buckets with rules of their own (sim/policies.py): the simulator finds each within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.sim.planted import Fault, Patch, expect_caught
from tests.sim.test_faults import KILLS, NETWORK

from ringwise.core import update, versions
from ringwise.core.merging import Merging
from ringwise.core.put import PutPath
from ringwise.core.record import Sibling
from ringwise.core.space import Space
from ringwise.core.versions import Write
from ringwise.core.view import View
from ringwise.sim import machine
from ringwise.sim.history import BRIEF
from ringwise.sim.policies import union
from ringwise.sim.simulator import Scenario, run
from ringwise.sim.workload import POLICIES

PARTED = replace(NETWORK, mix=POLICIES)
KILLED = replace(KILLS, mix=POLICIES)


def siblings_shown_though_the_last_wins(patch: Patch) -> None:
    patch.setattr(Space, "shown", lambda _self, record, wall_ms: versions.siblings(record, wall_ms))


def the_oldest_wins(patch: Patch) -> None:
    def oldest(record: bytes, wall_ms: int) -> list[Sibling]:
        return versions.siblings(record, wall_ms)[-1:]

    patch.setattr(versions, "latest", oldest)


def no_expiry_for_what_is_read_before(patch: Patch) -> None:
    """An update, as `SET … GET`, is written without the bucket's time to live."""
    patch.setattr(update._Running, "_for_a_while", lambda _self, _before, write: write)


def no_expiry_behind_a_context(patch: Patch) -> None:
    """Of a put with a context the bucket's time to live is forgotten."""
    write = View.write

    def forgetful(self: View, key: bytes, spec: Write, *rest: Any, **named: Any) -> None:
        if spec.context is not None and self.space.number == BRIEF:
            spec = structs.replace(spec, expiry_ms=1 << 60)
        write(self, key, spec, *rest, **named)

    patch.setattr(View, "write", forgetful)


def merged_over_what_has_come_since(patch: Patch) -> None:
    """What a function made is written as a plain SET is: over all that its coordinator knows by then."""
    write = PutPath.write

    def blind(self: PutPath, key: bytes, spec: Write, *rest: Any, **named: Any) -> None:
        write(self, key, structs.replace(spec, context=None) if spec.derived else spec, *rest, **named)

    patch.setattr(PutPath, "write", blind)


def nothing_is_merged(patch: Patch) -> None:
    patch.setattr(Merging, "found", lambda _self, read, record: read.show(record))


def one_sibling_not_merged(patch: Patch) -> None:
    def without_the_first(values: Sequence[bytes]) -> bytes:
        return union(values[1:])

    patch.setattr(machine, "union", without_the_first)


FAULTS: list[Fault] = [
    (siblings_shown_though_the_last_wins, PARTED, {"policy"}, 4),
    (the_oldest_wins, PARTED, {"siblings", "value"}, 8),
    (no_expiry_for_what_is_read_before, KILLED, {"expired"}, 4),
    (no_expiry_behind_a_context, KILLED, {"expired"}, 4),
    (merged_over_what_has_come_since, PARTED, {"policy"}, 12),
    (nothing_is_merged, PARTED, {"siblings"}, 4),
    (one_sibling_not_merged, PARTED, {"policy"}, 4),
]


@pytest.mark.parametrize(("fault", "scenario", "checks", "seeds"), FAULTS, ids=[each[0].__name__ for each in FAULTS])
def test_a_deliberate_fault_is_caught(
    fault: Callable[[Patch], None], scenario: Scenario, checks: set[str], seeds: int, monkeypatch: Patch
) -> None:
    expect_caught(fault, scenario, checks, seeds, monkeypatch, first=0)


@pytest.mark.parametrize("scenario", [PARTED, KILLED], ids=["parted", "killed"])
def test_what_the_faults_are_planted_in_is_right(scenario: Scenario) -> None:
    for seed in range(3):
        assert run(seed, scenario).violations == []
