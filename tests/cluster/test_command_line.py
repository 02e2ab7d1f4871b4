"""The `ringwise` command against real nodes, as somebody types it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import RINGWISE, Cluster, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("command-line"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.abandon()


class Shell:
    """Runs commands in the cluster's directory, at one of its nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def run(self, *words: str, node: int = 1, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        at = () if words[0] == "dev" else ("--port", str(self._cluster.port + node - 1))
        return subprocess.run(
            [RINGWISE, *words, *at],
            cwd=self._cluster.directory,
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def json(self, *words: str, node: int = 1) -> Any:
        done = self.run(*words, "--json", node=node)
        assert done.returncode in (0, 3, 4), done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shell(cluster: Cluster) -> Shell:
    return Shell(cluster)


def test_a_value_goes_in_and_comes_out_byte_for_byte(shell: Shell) -> None:
    value = bytes(range(256)) * 10
    assert (
        shell.run("put", "blob", "-", "--type", "image/png", "--flags", "7", "--ttl", "3600", given=value).returncode
        == 0
    )
    assert shell.run("get", "blob", node=2).stdout == value
    told = shell.json("get", "blob", node=3)["siblings"][0]
    assert (told["type"], told["flags"], 3_000_000 < told["ttl_ms"] <= 3_600_000) == ("image/png", 7, True)
    assert shell.run("delete", "blob").returncode == 0
    gone = shell.run("get", "blob", node=2)
    assert (gone.returncode, gone.stdout, gone.stderr) == (3, b"", b"ringwise: no such key: blob\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("put", "k", "v", "--level", "most"), "unknown consistency level 'most'"),
        (("get", "k", "--level", "r=9"), "needs 9 owners"),
        (("put", "x" * 257, "v"), "the limit is 256"),
        (("put", "", "v"), "a key has 1 to 256 bytes"),
        (("put", "k", "v", "--context", "nonsense"), "pass back, unchanged, the context"),
        (("explain", ""), "a key has 1 to 256 bytes"),
        (("dev", "partition", "9"), "there is no n9"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(shell: Shell, words: tuple[str, ...], told: str) -> None:
    done = shell.run(*words)
    assert done.returncode == 1 and told in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"ringwise: ")


def test_a_port_of_another_protocol_is_told(shell: Shell, cluster: Cluster) -> None:
    done = shell.run("get", "k", node=1001)  # the HTTP port of n1
    address = f"127.0.0.1:{cluster.port + 1000}"
    told = f"ringwise: {address} does not speak the Redis protocol; is a node running there? (--host, --port)\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", told)


@pytest.mark.parametrize(
    "command", [("status",), ("ring",), ("get", "k"), ("put", "k", "v"), ("delete", "k"), ("explain", "k")]
)
def test_without_a_node_every_command_says_so(command: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [RINGWISE, *command, "--port", "1"], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1 and b"is a node running there? (--host, --port)" in done.stderr


def test_the_ring_is_even_and_knows_where_a_key_lives(shell: Shell) -> None:
    told = shell.json("ring")
    assert told["slots"] == 16384 and [member["slots"] for member in told["members"]] == [16384] * 3
    assert sum(member["first"] for member in told["members"]) == 16384
    owners = shell.json("ring", "--key", "paint")["owners"]
    assert owners == [owner["node"] for owner in shell.json("explain", "paint")["owners"]]
    assert owners == shell.json("ring", "--slot", "8492")["owners"]
    assert b"of its fair share" in shell.run("ring").stdout


def test_a_partition_is_explained_at_each_step(shell: Shell) -> None:
    def copies(node: int = 1) -> dict[str, tuple[str, str]]:
        owners = shell.json("explain", "paint", node=node)["owners"]
        return {owner["node"]: (owner["compared"] or owner["state"], owner["clock"]) for owner in owners}

    shell.run("put", "before", "v", "--level", "all")  # the first write anywhere has the topology formed, on all sides
    assert b"n3 is cut off" in shell.run("dev", "partition", "3").stdout
    until(lambda: copies()["n3"] == ("down", ""), "n1 to see that n3 is cut off")
    assert shell.run("put", "paint", "Red", "--level", "one").returncode == 0
    assert shell.run("put", "paint", "Blue", "--level", "one", node=3).returncode == 0
    until(lambda: copies()["n2"] == ("current", "n1:1"), "n2 to have the write of n1")
    assert copies() == {"n1": ("current", "n1:1"), "n2": ("current", "n1:1"), "n3": ("down", "")}
    assert copies(3) == {"n1": ("down", ""), "n2": ("down", ""), "n3": ("current", "n3:1")}
    assert shell.json("explain", "paint", node=3)["reads"]["quorum"] == []
    assert {owner["node"]: owner["hints"] for owner in shell.json("explain", "paint")["owners"]}["n3"] == ["n1"]
    attention = shell.json("status")["attention"]
    assert attention == ["n3 is cut off by 'ringwise dev partition'; join it again: ringwise dev heal"]
    assert shell.run("status").returncode == 3 and b"cut off" in shell.run("status").stdout
    beyond = shell.json("status", node=3)["attention"]
    assert sum("answers clients, but the node asked has no link to it" in line for line in beyond) == 2

    assert b"n3 is joined" in shell.run("dev", "heal", "3").stdout
    both_clocks = dict.fromkeys(("n1", "n2", "n3"), ("current", "n1:1 n3:1"))
    until(lambda: copies() == both_clocks, "each side to have handed over what the other missed")
    both = shell.json("get", "paint", "--level", "all")
    assert [sibling["value"] for sibling in both["siblings"]] == ["Blue", "Red"] and both["clock"] == "n1:1 n3:1"
    assert shell.run("get", "paint", "--level", "all").returncode == 4
    assert shell.run("put", "paint", "Purple", "--context", both["context"], "--level", "all", node=2).returncode == 0
    assert copies() == dict.fromkeys(("n1", "n2", "n3"), ("current", "n1:1 n2:1 n3:1"))
    assert shell.run("get", "paint", node=3).stdout == b"Purple"
    assert shell.json("status")["attention"] == []
    assert shell.run("status").returncode == 0


def test_a_partition_in_one_direction_loses_what_travels_in_it_alone(shell: Shell, cluster: Cluster) -> None:
    def copy(key: str, asked: int) -> tuple[str, str]:
        owner = next(owner for owner in shell.json("explain", key, node=asked)["owners"] if owner["node"] == "n3")
        return owner["state"], owner["compared"]

    shell.run("put", "before", "v", "--level", "all")
    told = shell.run("dev", "partition", "3", "--direction", "in").stdout
    assert b"n3 is cut off from the others (nothing sent to it arrives), and answers clients" in told
    assert shell.run("put", "unheard", "v").returncode == 0
    assert copy("unheard", 3) == ("answered", "current")  # as far as n3 knows, which hears of no other copy
    assert copy("unheard", 1)[0] in ("silent", "down")
    assert shell.run("put", "said", "v", "--level", "one", node=3).returncode == 0
    until(lambda: shell.run("get", "said", "--level", "one").stdout == b"v", "n1 to be told of a write of n3")
    assert b"n3 is joined" in shell.run("dev", "heal", "3").stdout

    told = shell.run("dev", "partition", "3", "--direction", "out").stdout
    assert b"n3 is cut off from the others (nothing it sends arrives), and answers clients" in told
    assert shell.run("put", "heard", "v").returncode == 0
    until(lambda: shell.run("get", "heard", "--level", "one", node=3).stdout == b"v", "n3 to be told of a write of n1")
    with cluster.client(1) as client:
        until(lambda: client.info("ringwise")["members_up"] == 2, "n1 to see that n3 does not answer")
        assert shell.run("dev", "heal", "3").returncode == 0
        until(lambda: client.info("ringwise")["members_up"] == 3, "n1 to see that n3 is back")
    done = shell.run("dev", "partition", "3", "--direction", "up")
    assert done.returncode == 2 and b"both" in done.stderr


def test_the_command_that_merges_works_as_it_is_told(shell: Shell, cluster: Cluster) -> None:
    key = "two words"
    seen = shell.json("get", key)["context"]
    for value in ("left", "right"):
        assert shell.run("put", key, value, "--context", seen).returncode == 0
    told = shell.run("get", key).stderr.decode().splitlines()[-1]
    command = told.removeprefix("merge them: ringwise ").replace("VALUE", "both")
    assert f"--port {cluster.port} " in command
    subprocess.run([RINGWISE, *shlex.split(command)], check=True, timeout=60)
    assert shell.run("get", key).stdout == b"both"


def test_heal_without_a_node_heals_all_and_disturbs_nobody_else(shell: Shell, cluster: Cluster) -> None:
    for node in ("2", "3"):
        assert shell.run("dev", "partition", node).returncode == 0
    assert b"no node is cut off" in shell.run("dev", "heal").stdout
    assert shell.json("status")["attention"] == []
    downs = cluster.logs().count(" link_down ")
    assert shell.run("dev", "heal").returncode == 0
    assert cluster.logs().count(" link_down ") == downs


def test_heal_of_a_node_that_is_not_cut_off_says_so(shell: Shell) -> None:
    assert shell.run("dev", "heal", "3").stdout == b"n3 was not cut off\n"
    assert shell.run("dev", "partition", "2").returncode == 0
    assert shell.run("dev", "heal", "3").stdout == b"n3 was not cut off, but n2 is\n"
    assert b"n2 is joined" in shell.run("dev", "heal", "2").stdout


def test_a_node_that_was_killed_while_cut_off_comes_back_healed(shell: Shell, cluster: Cluster) -> None:
    assert shell.run("dev", "partition", "2").returncode == 0
    cluster.kill(2)
    assert shell.run("dev", "start", "2").returncode == 0
    until(lambda: shell.json("status")["attention"] == [], "n2 to be linked to the others")


def test_the_json_of_each_command_keeps_its_shape(shell: Shell) -> None:
    """Programs read it: a field may be added, none goes or changes its type."""
    assert shape(shell.json("put", "shape", "v", "--ttl", "60")) == {
        "version": str, "siblings": int, "context": str
    }  # fmt: skip
    sibling = {"value": str, "version": str, "stamp": int, "ttl_ms": int, "type": str, "flags": int}
    assert shape(shell.json("get", "shape", "--level", "all")) == {
        "siblings": [sibling], "context": str, "clock": str
    }  # fmt: skip
    version = {"value": str, "state": str, "dot": str, "stamp": int, "ttl_ms": int, "type": str, "flags": int}
    owner = {
        "node": str, "id": str, "state": str, "compared": str, "clock": str, "versions": [version], "hints": []
    }  # fmt: skip
    assert shape(shell.json("explain", "shape")) == {
        "key": str, "slot": int, "owners": [owner], "stand_ins": [], "clock": str, "siblings": [version], "context": str,
        "reads": {"one": [str], "quorum": [str], "strong": [str], "all": [str]},
    }  # fmt: skip
    member = {
        "node": str, "id": str, "rack": str, "weight": float, "slots": int, "first": int, "fair": float
    }  # fmt: skip
    assert shape(shell.json("ring")) == {"epoch": int, "formed": int, "slots": int, "members": [member]}
    assert shape(shell.json("ring", "--key", "shape")) == {"slot": int, "owners": [str], "changed": int}
    told = shape(shell.json("status"))
    assert told.items() >= {"cluster": str, "epoch": int, "formed": bool, "replicas": int, "attention": []}.items()
    assert set(told["members"][0]) >= {"id", "name", "address", "peer_port", "linked", "answers", "cut_off", "epoch"}
    assert shell.json("delete", "shape")["siblings"] == 0
    assert shell.json("get", "shape")["siblings"] == []


def test_a_value_that_is_no_text_is_base64_in_json(shell: Shell) -> None:
    assert shell.run("put", "raw", "-", given=b"\xff\x00").returncode == 0
    assert shell.json("get", "raw")["siblings"][0]["value"] == {"base64": "/wA="}


def shape(value: Any) -> Any:
    """The types in a JSON value; a list by its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value)


def test_a_node_that_is_not_running_cannot_be_cut_off(shell: Shell) -> None:
    assert shell.run("dev", "stop", "3").returncode == 0
    assert b"n3 is not running" in shell.run("dev", "partition", "3").stderr
    assert shell.run("dev", "start", "3").returncode == 0


def test_repair_compares_and_tells(shell: Shell) -> None:
    shell.run("put", "fence", "green")
    done = shell.run("repair", "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"compared with 2 peers, equal at once: ")
    told = shell.json("repair", "--watch", "--slot", "77", node=2)
    assert (told["running"], told["comparisons"], told["unanswered"]) == (0, 2, 0)
    assert shell.run("repair").stdout.startswith(b"a round has begun")


def test_a_node_that_was_away_gets_what_it_missed_though_nobody_reads(shell: Shell) -> None:
    shell.run("dev", "start", "3")
    assert shell.run("dev", "stop", "3").returncode == 0
    for number in range(20):
        assert shell.run("put", f"missed:{number}", "value").returncode == 0
    assert shell.run("dev", "start", "3").returncode == 0

    def owners() -> list[str]:
        found = shell.json("explain", "missed:7")
        return [owner["compared"] for owner in found["owners"]]

    until(lambda: "" not in owners(), "all owners to answer")
    shell.run("repair", "--watch", node=3)
    until(lambda: owners() == ["current"] * 3, "n3 to have what it missed")
    told = shell.json("repair", "--watch", node=3)
    assert (told["ready"], told["differing"]) == (16384, 0)
