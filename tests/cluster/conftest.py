"""Clusters of real processes, started as a user starts them: `ringwise dev` in a directory of its own, on free ports."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RINGWISE = str(Path(sys.executable).parent / "ringwise")
HERE = Path(__file__).parent
# Far above what any step takes on a machine that is busy with other tests; it only bounds a failure.
PATIENCE_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all of these, one after another: each has three processes of its own already."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.xdist_group("cluster"))


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; fail, saying for what, where it does not come."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for: {what}"
        time.sleep(0.02)


def free_base(nodes: int = 3) -> int:
    """A port P such that P, P+1000, P+2000 and P+3000 and the next of each are free; below those that the system hands out."""
    while True:
        base = random.randrange(10_000, 29_000, 10)
        with contextlib.ExitStack() as stack:
            try:
                for offset in (0, 1000, 2000, 3000):
                    for port in range(base + offset, base + offset + nodes):
                        listener = stack.enter_context(socket.socket())
                        listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base


class Cluster:
    """`ringwise dev` in a directory."""

    def __init__(self, directory: Path, *options: str, nodes: int = 3) -> None:
        self.directory = directory
        self.port = free_base(nodes)
        self.nodes = nodes
        self.output = directory / "dev.out"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [RINGWISE, "dev", "--nodes", str(self.nodes), "--port", str(self.port), *self._options],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        ready = '{"seconds":' if "--json" in self._options else "Ctrl-C stops it"
        until(lambda: ready in self.said() or self._process_ended(), "the cluster to be ready")
        assert not self._process_ended(), self.said()

    def said(self) -> str:
        return self.output.read_text()

    def stop(self) -> None:
        """A clean stop, as by Ctrl-C."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, self.said()
        self._process = None

    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def client(self, node: int) -> redis.Redis:
        """A plain client of one node, which tells every error instead of trying again."""
        return redis.Redis(
            port=self.port + node - 1, socket_timeout=30, retry=Retry(NoBackoff(), 0), decode_responses=True
        )

    def pid(self, node: int) -> int:
        with self.client(node) as client:
            return int(client.info("server")["process_id"])

    def kill(self, *nodes: int) -> None:
        """kill -9, all at once; returns when the supervisor knows."""
        pids = [self.pid(node) for node in nodes]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        notices = [f"n{node} (pid {pid}) was killed" for node, pid in zip(nodes, pids, strict=True)]
        until(lambda: all(notice in self.said() for notice in notices), "the kill to be noticed")

    def command(self, *arguments: str, code: int = 0) -> str:
        """`ringwise …` in the cluster's directory; what it printed."""
        done = subprocess.run(
            [RINGWISE, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    def abandon(self) -> None:
        """Whatever is left, after a test that may have failed anywhere."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.directory.glob("data/*.log"))
        )

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for tests that leave it as it was."""
    cluster = Cluster(tmp_path_factory.mktemp("shared"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.abandon()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, running."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
        problems = re.findall(r"^.* (?:error|critical) .*$", cluster.logs(), re.MULTILINE)
        assert not problems, cluster.logs()
    finally:
        cluster.abandon()
