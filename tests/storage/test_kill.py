"""A short form of `python -m bench.killloop`: nothing that was appended is missing after kill -9 (S2, S3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.killloop import run


@pytest.mark.cluster
def test_nothing_appended_is_missing_after_kill_9(tmp_path: Path) -> None:
    stages = run(tmp_path, rounds=8, seed=7)
    assert stages.total() == 8
