"""The Python in docs/client.md runs as it stands, against real nodes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ringwise import Client

from .conftest import Cluster
from .test_cluster import addresses, seeing_both

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]
PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_every_piece_of_python_runs_in_its_order(shared: Cluster) -> None:
    assert len(BLOCKS) >= 6
    with Client(addresses(shared)) as kv:
        seeing_both(kv, "cart:42")
        named = {"kv": kv, "merged": lambda siblings: b"+".join(sibling.value for sibling in siblings)}
        for block in reversed(BLOCKS[:2]):  # the first one ends with its own client
            text = block.replace("7379", str(shared.port)).replace("7380", str(shared.port + 1))
            exec(compile(text, str(PAGE), "exec"), dict(named))
        names: dict[str, object] = dict(named)
        for block in BLOCKS[2:]:
            exec(compile(block, str(PAGE), "exec"), names)
        assert kv.counter("views").value() == 6
        assert kv.counter("processed").value() == 50
        assert kv.set("tags").members() == {b"blue"}
        assert kv.map("profile:7").items() == {b"name": b"Ada", b"city": b"Turin", b"visits": b"1"}
        assert kv.leaderboard("game").top() == [(b"ben", 12.5), (b"ada", 10.0)]
        reply = kv.get("cart:42")
        assert reply is not None and reply.value == b"pears"
