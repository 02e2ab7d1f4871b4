"""A node that was away gets what it missed by hint, and a full hint store refuses what it would have to promise (R2, R4)."""

from __future__ import annotations

import pytest
from bench import handoff


@pytest.mark.timeout(300)
def test_hints_bring_everything_and_a_full_store_of_them_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert handoff.main(["--keys", "6000"]) == 0, capsys.readouterr().out
