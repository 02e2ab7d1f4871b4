"""Deliberate faults in collections held as rows (core/rows.py): the simulator finds each within a few seeds.

In these seeds every collection is held so (sim/simulator.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.sim.planted import Fault, Patch, expect_caught
from tests.sim.test_faults import ADDING, ADDING_MEMBERS, FIELDS, KILLS, NETWORK, SCORED

from ringwise.core import deltas, rows, versions
from ringwise.core.changes import AddMembers
from ringwise.core.deltas import Delta
from ringwise.core.rows import Covered, Rows
from ringwise.sim.simulator import FLUSHED_EVERY, LONG_TURN_MS, Scenario, run
from ringwise.storage.store import Store

FIRST = FLUSHED_EVERY  # the seeds before are those in which records are bytes

MEMBERS = replace(ADDING, mix=ADDING_MEMBERS)
CROWDED = replace(MEMBERS, turn_ms=LONG_TURN_MS)  # several writers in one turn
PARTED = replace(NETWORK, mix=ADDING_MEMBERS)
RESTARTS = replace(KILLS, mix=ADDING_MEMBERS, memtable_bytes=20_000, segment_bytes=4_000)


def gap_taken_for_seen(patch: Patch) -> None:
    """V3: the delta advances the vector to its dots, and with it past what has not come."""
    delta_of = deltas.delta_of

    def advanced(record: bytes) -> Delta:
        delta = delta_of(record)
        vector = dict(delta.context)
        for actor, counter in delta.cloud:
            vector[actor] = max(counter, vector.get(actor, 0))
        return structs.replace(delta, context=sorted(vector.items()), cloud=[])

    patch.setattr(deltas, "delta_of", advanced)


def names_of_what_goes_left_out(patch: Patch) -> None:
    """A removal finds nothing to remove where it arrives."""
    written = rows.written

    def nameless(state: Rows, made: Any, covered: Covered, generic: Any) -> bytes:
        return written(state, made, structs.replace(covered, names=()), generic)

    patch.setattr(rows, "written", nameless)


def what_is_new_not_told(patch: Patch) -> None:
    """A reader that has seen other states is told that there is nothing new."""
    patch.setattr(versions, "news", lambda record, digest: record if len(digest) == 8 else None)


def only_the_last_step_told(patch: Patch) -> None:
    """Of several steps since the state that both have been in."""
    since = rows.steps_since
    patch.setattr(rows, "steps_since", lambda checksums, state: (since(checksums, state) or ())[-1:] or None)


def replay_without_the_base(patch: Patch) -> None:
    """A start takes the delta in its log for all there is."""
    patch.setattr(Store, "_read_now", lambda _self, _slot, _rkey: b"")


def rows_not_found_after_a_merge(patch: Patch) -> None:
    """Two states that have gone apart: the steps of the other side are taken for known."""
    patch.setattr(rows, "_caught_up", lambda mine, _theirs: mine)


def second_writer_left_out(patch: Patch) -> None:
    """B5: of several who add in one turn only the first one's members are written."""
    patch.setattr(AddMembers, "then", lambda self, _later: self)


FAULTS: list[Fault] = [
    (gap_taken_for_seen, PARTED, {"member", "siblings", "converged", "stale"}, 8),
    (names_of_what_goes_left_out, MEMBERS, {"member", "siblings", "converged"}, 4),
    (names_of_what_goes_left_out, replace(ADDING, mix=FIELDS), {"member", "siblings", "converged"}, 4),
    (what_is_new_not_told, MEMBERS, {"member", "stale"}, 8),
    (only_the_last_step_told, MEMBERS, {"member", "stale"}, 12),
    (replay_without_the_base, RESTARTS, {"member", "stale", "lost", "dots", "converged"}, 8),
    (rows_not_found_after_a_merge, MEMBERS, {"member", "stale"}, 12),
    (second_writer_left_out, CROWDED, {"member"}, 4),
]
NAMES = [f"{fault.__name__}-{number}" for number, (fault, *_) in enumerate(FAULTS)]


@pytest.mark.parametrize(("fault", "scenario", "checks", "seeds"), FAULTS, ids=NAMES)
def test_a_deliberate_fault_is_caught(
    fault: Callable[[Patch], None], scenario: Scenario, checks: set[str], seeds: int, monkeypatch: Patch
) -> None:
    expect_caught(fault, scenario, checks, seeds, monkeypatch, first=FIRST)


@pytest.mark.parametrize(
    "scenario", [MEMBERS, CROWDED, PARTED, RESTARTS, *(replace(ADDING, mix=mix) for mix in (FIELDS, SCORED))]
)
def test_what_the_faults_are_planted_in_is_right(scenario: Scenario) -> None:
    for seed in (FIRST, FIRST + 1):
        assert run(seed, scenario).violations == []
    assert rows.OPEN_BYTES < rows.BYTES_MIN, "as rows"
