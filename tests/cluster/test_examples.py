"""The examples, as a newcomer runs them: against real nodes, one of which is killed where the example asks for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PATIENCE_S, Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"

# What each says after the kill, and which library beside those that the tests need anyway it shows.
SAID: dict[str, tuple[list[str], str]] = {
    "cart": (
        [
            'the laptop sees {"apples": 3}',
            '\n  {"apples": 3, "a melon": 1}\n  {"apples": 3, "pears": 1}\n',
            'the phone sees {"a melon": 1, "apples": 3, "pears": 1}',
        ],
        "",
    ),
    "configuration": (
        ["banner was set twice", "somebody else has changed this group", "with two nodes of three: Open again True"],
        "",
    ),
    "django_cache": (
        ["incr: 3 decr: 1", "after delete: nothing 1", "add does not work: SET with NX", "get_or_set does not work: SET with NX"],
        "django",
    ),
    "leaderboard": (["of 600 points:", "after the second turn", "ada is at rank 0", "points counted"], ""),
    "page_cache": (["</h1>  rendered\n", "/: <h1>/</h1>  from the cache\n/about: <h1>/about</h1>  from the cache\n"], ""),
    "rate_limiter": (["25 requests one after another: 20 let in", "the next one is refused", "a window later: let in"], ""),
    "sessions": (
        ["ada, visit 2", "ada, visit 3", "ada, visit 4", "/logout: goodbye\nweb server 1, /: who are you?"],
        "flask_session",
    ),
}  # fmt: skip


def test_every_example_is_run_by_a_test() -> None:
    programs = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert programs == set(SAID)  # ten_lines.py: tests/client/test_cluster.py


@pytest.mark.parametrize("name", SAID)
def test_an_example_goes_on_when_the_node_it_talks_to_is_killed(name: str, cluster: Cluster) -> None:
    words, library = SAID[name]
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed; `make test` installs it")
    nodes = [f"127.0.0.1:{cluster.port + node}" for node in range(cluster.nodes)]
    program = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *nodes]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said = ""
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as example:
        try:
            assert example.stdin is not None and example.stdout is not None
            for line in example.stdout:
                said += line
                if "press Enter" in line:
                    break
            assert "press Enter" in said, said
            cluster.kill(1)
            rest, _ = example.communicate("\n", timeout=PATIENCE_S)
        finally:
            example.kill()
    said += rest
    assert example.returncode == 0, said
    for each in words:
        assert each in said.replace("'", '"') if '"' in each else each in said, said
