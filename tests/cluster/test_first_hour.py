"""README.md and docs/first-hour.md, as their readers go through them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scripts.transcript import ROOT, run

from .conftest import free_base


@pytest.mark.parametrize(
    ("page", "commands"), [("README.md", 12), ("docs/first-hour.md", 26), ("docs/pictures.md", 30)]
)
def test_everything_goes_as_the_page_says(page: str, commands: int, tmp_path: Path) -> None:
    missing = [tool for tool in ("redis-cli", "curl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    assert run(ROOT / page, free_base(), tmp_path / "data") >= commands
