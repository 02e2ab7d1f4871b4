"""What can be wrong at the start: one clear line on stderr, a non-zero exit, nothing left running."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from .conftest import PATIENCE_S, RINGWISE, free_base, until


def refused(*arguments: str, cwd: Path) -> str:
    """The one line of a command that must fail."""
    done = subprocess.run(
        [RINGWISE, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("ringwise: ")]
    assert done.returncode == 1, done
    assert len(lines) == 1 and lines[0] == done.stderr.splitlines()[-1], done
    assert "Traceback" not in done.stderr
    return lines[0]


def ports(base: int) -> list[str]:
    return ["--port", str(base), "--http-port", str(base + 1000), "--peer-port", str(base + 2000)]


def serve(cwd: Path, *arguments: str, base: int | None = None) -> str:
    return refused("serve", *ports(base or free_base()), *arguments, cwd=cwd)


class Served:
    """A node that runs while a test does."""

    def __init__(self, cwd: Path, base: int, *arguments: str) -> None:
        self.base = base
        self.log = cwd / f"{base}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([RINGWISE, "serve", *ports(base), *arguments], cwd=cwd, stderr=log)
        until(lambda: " ready " in self.log.read_text() or self.process.poll() is not None, "a node to be ready")
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Served]:
    """A cluster of one, in tmp_path/data/n1."""
    served = Served(tmp_path, free_base())
    try:
        yield served
    finally:
        served.stop()


@pytest.mark.parametrize(
    ("offset", "option"), [(0, "--port"), (1000, "--http-port"), (2000, "--peer-port"), (3000, "--cluster-port")]
)
def test_a_taken_port(tmp_path: Path, offset: int, option: str) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + offset)):
        line = serve(tmp_path, base=base)
        assert f"127.0.0.1:{base + offset}" in line and f"another {option}" in line
        assert not (tmp_path / "data").exists()
        line = refused("dev", "--port", str(base), cwd=tmp_path)
        assert f"port {base + offset}, for n1" in line
        assert not list(tmp_path.glob("data/n*"))


def test_a_peer_port_that_is_taken_for_datagrams(tmp_path: Path) -> None:
    base = free_base()
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", base + 2000))
        line = serve(tmp_path, base=base)
        assert f"127.0.0.1:{base + 2000} for datagrams" in line and "another --peer-port" in line
        assert f"port {base + 2000}, for n1" in refused("dev", "--port", str(base), cwd=tmp_path)


def test_a_host_that_others_could_not_be_told(tmp_path: Path) -> None:
    assert "no address, nor a name in ASCII" in serve(tmp_path, "--host", "b\u00fccher.example")


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file/data cannot be used" in serve(tmp_path, "--data-dir", "file/data")
    assert "file/data: Not a directory" in refused("dev", "--data-dir", "file/data", cwd=tmp_path)


def test_a_directory_that_another_process_uses(tmp_path: Path, alone: Served) -> None:
    assert alone.process.poll() is None
    assert "in use by another process" in serve(tmp_path)


def test_a_directory_of_another_node_or_of_something_else(tmp_path: Path) -> None:
    Served(tmp_path, free_base()).stop()
    assert "belongs to node n1, not to n2" in serve(tmp_path, "--name", "n2", "--data-dir", "data/n1")
    assert "is the directory of a single node" in refused("dev", "--data-dir", "data/n1", cwd=tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    assert "cat.jpg" in serve(tmp_path, "--data-dir", "photos")


@pytest.mark.parametrize("file", ["identity", "dev"])
def test_a_directory_of_a_newer_format(tmp_path: Path, file: str) -> None:
    if file == "dev":
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "dev.json").write_text('{"format": 99, "nodes": 3, "port": 7379}')
        assert "newer version" in refused("dev", cwd=tmp_path)
        return
    Served(tmp_path, free_base()).stop()
    path = tmp_path / "data" / "n1" / "identity"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    assert "format 99" in serve(tmp_path)


def test_a_directory_of_another_cluster(tmp_path: Path, alone: Served) -> None:
    Served(tmp_path, free_base(), "--name", "n2").stop()
    line = serve(tmp_path, "--name", "n2", "--join", f"127.0.0.1:{alone.base + 2000}")
    assert "another cluster" in line


def test_a_name_that_is_taken(tmp_path: Path, alone: Served) -> None:
    line = serve(tmp_path, "--name", "n1", "--data-dir", "other", "--join", f"127.0.0.1:{alone.base + 2000}")
    assert "the name n1 belongs to another data directory" in line


def test_joining_nobody_ends_after_a_while(tmp_path: Path) -> None:
    base = free_base()
    line = serve(tmp_path, "--name", "n2", "--join", f"127.0.0.1:{base}")
    assert f"cannot join the cluster at 127.0.0.1:{base}" in line and "refused" in line
    # It is still nobody's: it founds nothing by itself, and may join later.
    assert json.loads((tmp_path / "data" / "n2" / "identity").read_text())["cluster"] == ""


def test_the_first_write_waits_for_the_members_that_are_expected(tmp_path: Path) -> None:
    """Or an eager client would form a cluster of one, which nobody could join any more (T3)."""
    first = Served(tmp_path, free_base(), "--expect", "2")
    try:
        with redis.Redis(port=first.base) as client:
            assert client.ping()
            with pytest.raises(redis.RedisError, match="1 of 2 expected members"):
                client.set("k", "v")
            assert client.get("k") is None
            second = Served(tmp_path, free_base(), "--name", "n2", "--join", f"127.0.0.1:{first.base + 2000}")
            try:
                until(lambda: client.info("ringwise")["members_up"] == 2, "both to be up")
                assert client.set("k", "v")
            finally:
                second.stop()
    finally:
        first.stop()


def test_a_level_or_port_that_makes_no_sense(tmp_path: Path) -> None:
    assert "unknown consistency level" in serve(tmp_path, "--level", "most")
    assert "unknown consistency level" in refused("dev", "--port", str(free_base()), "--level", "most", cwd=tmp_path)
    base = str(free_base())
    assert "must differ" in refused("serve", "--port", base, "--http-port", base, cwd=tmp_path)


def test_another_number_of_nodes_than_the_directory_holds(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dev.json").write_text('{"format": 1, "nodes": 3, "port": 7379}')
    assert "made with --nodes 3" in refused("dev", "--nodes", "5", cwd=tmp_path)
    assert "made with --port 7379" in refused("dev", "--port", "7400", cwd=tmp_path)


def test_commands_to_a_cluster_that_does_not_run(tmp_path: Path) -> None:
    assert "no cluster is running on data" in refused("dev", "start", "2", cwd=tmp_path)
