"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """A cluster in one process has hash trees of some MiB for each node, in cycles that the collector does not count: a hundred
    scenes without this take gigabytes."""
    yield
    gc.collect()
