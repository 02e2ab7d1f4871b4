"""Redis clients of other languages, unmodified: they connect, pipeline, use cluster mode and survive a kill (tests/clients/).

Their packages are installed into the user's cache, once. A language that is not on this machine, or a registry that cannot be
reached, is a skip that says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Cluster

CLIENTS = Path(__file__).parent.parent / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringwise-tests"
INSTALL_TIMEOUT_S = 240
STEPS = ["plain", "pipelined", "cluster mode"]


def _install(language: str, tool: str, *commands: list[str]) -> Path:
    """A copy of the language's folder, with everything it needs beside it."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    folder = CACHE / language
    shutil.copytree(CLIENTS / language, folder, dirs_exist_ok=True)
    for command in commands:
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{' '.join(command)} did not end within {INSTALL_TIMEOUT_S} s")
        if done.returncode:
            pytest.skip(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return folder


def _node() -> list[str]:
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    return ["node", str(_install("node", "npm", npm) / "check.js")]


def _go() -> list[str]:
    return [str(_install("go", "go", ["go", "build", "-o", "check", "."]) / "check")]


@pytest.mark.parametrize("client", [_node, _go], ids=["ioredis", "go-redis"])
def test_a_client_of_another_language_works_and_survives_a_kill(client: object, tmp_path: Path) -> None:
    assert callable(client)
    command = client()
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        ports = [str(cluster.port + node) for node in range(cluster.nodes)]
        with subprocess.Popen(
            [*command, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            try:
                told = []
                for line in process.stdout:
                    told.append(line.strip())
                    if told[-1] == "ready":
                        cluster.kill(2)
                        process.stdin.write("killed\n")
                        process.stdin.flush()
                complaint = process.stderr.read()
                assert process.wait(60) == 0, complaint
            finally:
                process.kill()
        assert told[:3] == STEPS and told[-1].startswith("survived"), told
    finally:
        cluster.abandon()
