"""What all tests of deliberate faults share: a fault is planted, and the simulator has to tell it within some seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from ringwise.sim.simulator import Scenario, run

Patch: TypeAlias = pytest.MonkeyPatch
# The fault, where it is planted, the checks that tell it, and how many seeds it may take.
Fault: TypeAlias = tuple[Callable[[Patch], None], Scenario, set[str], int]


def expect_caught(
    fault: Callable[[Patch], None], scenario: Scenario, checks: set[str], seeds: int, patch: Patch, first: int = 1
) -> None:
    """Fails the test where none of the checks complains."""
    fault(patch)
    found: set[str] = set()
    for seed in range(first, first + seeds):
        found |= {violation.partition(":")[0] for violation in run(seed, scenario).violations}
        if found & checks:
            return
    pytest.fail(f"not caught in {seeds} seeds; other violations: {sorted(found) or 'none'}")
