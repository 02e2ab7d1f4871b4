"""docs/commands.md is what the tables say, and the tables have every command of Redis."""

from __future__ import annotations

from pathlib import Path

import hiredis
import pytest
from tests.server.compare_replies import Peer
from tests.server.fake import Connection, FakeNode
from tests.server.test_differential import redis as redis_fixture

from ringwise.server.commands import TABLE
from ringwise.server.others import LATER, NEVER
from ringwise.server.redis_commands import REDIS_COMMANDS
from ringwise.server.reference import CONCURRENCY, GROUPS, reference

redis = redis_fixture
DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == reference(), "run: python -m ringwise.server.reference > docs/commands.md"


def test_every_command_of_redis_is_served_or_comes_later_or_is_refused_and_only_one_of_these() -> None:
    for name in GROUPS:
        assert (name in TABLE.commands) + (name in LATER) + (name in NEVER) == 1, name
    assert set(LATER) | set(NEVER) <= set(GROUPS)
    assert {name for name in TABLE.commands if name not in GROUPS} == {
        name for name in TABLE.commands if name.startswith("rw.")
    }
    assert set(CONCURRENCY) <= set(TABLE.commands)


def test_the_list_is_that_of_a_real_redis_server(redis: Path) -> None:
    with Peer(str(redis)) as peer:
        (reply,) = peer.send([[b"COMMAND", b"LIST"]])
    reader = hiredis.Reader()
    reader.feed(reply)
    names = {name.decode() for name in reader.gets() if b"|" not in name}  # subcommands are their containers' business
    missing = names - set(GROUPS)
    assert not missing, f"{missing} of this version of Redis; {len(REDIS_COMMANDS)} groups are known"


@pytest.mark.parametrize("name", sorted(LATER | NEVER))
def test_a_command_that_is_not_served_says_why(name: str) -> None:
    reply = Connection(FakeNode()).run(name, "a", "b").decode()
    reason = LATER.get(name) or NEVER[name]
    assert reply == f"-ERR {name.upper()} is not served{' yet' if name in LATER else ''}: it {reason}\r\n"
