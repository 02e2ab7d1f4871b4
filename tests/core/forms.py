"""The forms in which a record of a collection is held: as bytes, and as rows (core/rows.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ringwise.core import rows

NEVER = 1 << 60
ALWAYS = 20  # bytes: less than any record of a collection has


@contextmanager
def opening(from_bytes: int) -> Iterator[None]:
    """Records of this size are held as rows."""
    before = rows.OPEN_BYTES
    rows.OPEN_BYTES = from_bytes
    try:
        yield
    finally:
        rows.OPEN_BYTES = before


@pytest.fixture(autouse=True, scope="module", params=[NEVER, ALWAYS], ids=["bytes", "rows"])
def both_forms(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of a module that imports this, in both."""
    with opening(request.param):
        yield
