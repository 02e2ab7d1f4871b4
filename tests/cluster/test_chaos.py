"""`make chaos` in small: it finds nothing wrong with a node that nobody hears, and would find what is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.chaos_load import Key
from scripts.transcript import ROOT


def test_a_node_that_nobody_hears_costs_the_clients_of_the_others_nothing(tmp_path: Path) -> None:
    """Bounds of time are none here: it waits for what it looks for, and judges what is lost and who gets an error."""
    figures = tmp_path / "chaos.json"
    options = ["--scenarios", "out", "--seconds", "2", "--rate", "300", "--detect-max-s", "90", "--converge-max-s", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.chaos", *options, "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(figures.read_text())["results"]
    assert result["failures"] == result["lost"] == result["wrong_reads"] == []
    assert result["acknowledged"] > 100 and result["sample"] > 0
    assert result["detected_s"] is not None and result["back_s"] is not None
    assert all(set(result["latency"][role]) == {"before", "during", "after"} for role in ("plain", "rmw"))
    assert "nothing it sends" in done.stdout


def test_a_key_allows_what_was_acknowledged_and_what_may_have_come_after() -> None:
    key = Key()
    assert key.allows(None) and not key.allows("1")
    key.doubt("1", 1.0)
    assert key.allows(None) and key.allows("1")
    key.acknowledge("2", 2.0)
    assert key.allows("2") and not key.allows("1") and not key.allows(None)
    key.acknowledge(None, 3.0)
    assert key.allows(None) and not key.allows("2")


def test_an_appended_key_has_every_acknowledged_token_once_and_perhaps_those_in_doubt() -> None:
    key = Key(appended=True)
    key.acknowledge("1,", 1.0)
    key.doubt("2,", 2.0)
    key.acknowledge("3,", 3.0)
    assert key.allows("1,3,") and key.allows("1,2,3,") and key.allows("1,3,2,")
    for wrong in ("1,", "3,1,", "1,1,3,", "1,2,2,3,", "1,3,4,", None):
        assert not key.allows(wrong)
