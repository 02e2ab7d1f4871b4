"""A short form of `python -m bench.refill`: under load, an empty node gets every key, and no request fails meanwhile (T4)."""

from __future__ import annotations

from pathlib import Path

from bench import report
from bench.refill import run


def test_an_empty_node_is_filled_under_load(tmp_path: Path) -> None:
    found = run(tmp_path, keys=5_000, share=1.0, capacity=300, before_s=2.0, say=report.say)
    assert not found.before.failures and not found.filling.failures
    assert found.received >= 4_000  # the rest came by writes
