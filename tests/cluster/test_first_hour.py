"""docs/first-hour.md, as its reader goes through it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scripts.transcript import ROOT, run

from .conftest import free_base


def test_the_first_hour_goes_as_its_page_says(tmp_path: Path) -> None:
    missing = [tool for tool in ("redis-cli", "curl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    assert run(ROOT / "docs" / "first-hour.md", free_base(), tmp_path / "data") > 20
