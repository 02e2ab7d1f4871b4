"""All keys of a cluster of real processes, through redis-py: some in memory, most flushed, and a node that dies meanwhile."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .conftest import PATIENCE_S, free_base, until
from .test_start_errors import Served

KEYS = 20_000
DELETED = 1_000


@contextlib.contextmanager
def three_small_nodes(directory: Path) -> Iterator[list[Served]]:
    """A memtable and a cache of a megabyte each, so that most of the keys are on disk only."""
    base = free_base()
    nodes: list[Served] = []
    try:
        for number in range(3):
            name = f"n{number + 1}"
            join = ["--join", f"127.0.0.1:{base + 2000}"] if number else []
            options = ["--name", name, "--memtable-mb", "1", "--cache-mb", "1", "--expect", "3", *join]
            nodes.append(Served(directory, base + number, *options))
        yield nodes
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                node.process.kill()
            node.process.wait(PATIENCE_S)


def client_of(node: Served) -> redis.Redis:
    return redis.Redis(port=node.base, socket_timeout=60, retry=Retry(NoBackoff(), 0), decode_responses=True)


@pytest.mark.timeout(300)
def test_every_key_is_found_while_a_node_dies(tmp_path: Path) -> None:
    with three_small_nodes(tmp_path) as nodes, client_of(nodes[0]) as first, client_of(nodes[1]) as second:
        written = [f"key:{number}" for number in range(KEYS)]
        for start in range(0, KEYS, 1000):
            with first.pipeline(transaction=False) as pipe:
                for key in written[start : start + 1000]:
                    pipe.set(key, "v" * 100)
                assert all(pipe.execute())
        for start in range(0, DELETED, 100):
            assert second.delete(*written[start : start + 100]) == 100
        alive = set(written[DELETED:])
        until(lambda: any(tmp_path.glob("data/n2/engine/*.sst")), "a flush")

        for client in (first, second):
            assert client.dbsize() == len(alive)
        assert set(first.keys("key:1999?")) == {f"key:1999{digit}" for digit in range(10)}
        assert first.randomkey() in alive
        assert set(first.scan_iter(count=1000)) == alive

        scan = second.scan_iter(count=50)
        seen = [next(scan) for _ in range(3_000)]
        nodes[2].process.send_signal(signal.SIGKILL)
        nodes[2].process.wait(PATIENCE_S)
        seen += [next(scan) for _ in range(3_000)]
        first.set("new", "v")
        seen += list(scan)
        assert alive <= set(seen) <= alive | {"new"}
        assert len(seen) == len(set(seen)), "no key twice"
        assert first.dbsize() == second.dbsize() == len(alive) + 1

        nodes[1].process.send_signal(signal.SIGKILL)
        nodes[1].process.wait(PATIENCE_S)

        def refused() -> bool:
            try:
                first.scan()
            except redis.ResponseError as error:
                return str(error).startswith("NOQUORUM")
            return False

        until(refused, "a scan without a quorum to be refused")
        assert first.execute_command("RW.AT", "one", "DBSIZE") == len(alive) + 1
