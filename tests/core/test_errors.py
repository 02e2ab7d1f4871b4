"""What a refusal says fits what was asked: whoever reads has nothing to fear for, and a flush has no level."""

from __future__ import annotations

from tests.core.cluster import Cluster, Heard
from tests.core.test_node import error

from ringwise.core.errors import Failure, QuorumNotReached
from ringwise.core.levels import QUORUM
from ringwise.core.scan import Page


def test_the_words_for_too_few_owners_fit_what_was_asked() -> None:
    cluster, heard = Cluster(), Heard()
    first, second, third = cluster.nodes
    first.put(b"k", b"v", QUORUM, heard, 0)
    cluster.run()
    cluster.cut(first, second)
    cluster.cut(first, third)
    first.put(b"k", b"w", QUORUM, heard, 1)
    first.get(b"k", QUORUM, heard, 2)
    told: list[Page | Failure | None] = []
    first.scan(0, 10, QUORUM, told.append)
    first.flush(told.append)
    for _ in range(12):
        cluster.pass_time(500)
    page, flushed = told
    write, read = error(heard, 1), error(heard, 2)
    assert (
        str(write)
        == "1 of 2 needed owners answered, nothing was changed; try again, or ask for a lower consistency level"
    )
    assert str(read) == str(page) == "1 of 2 needed owners answered; try again, or ask for a lower consistency level"
    assert str(flushed).startswith("no majority agreed in time, nothing was flushed (1 of the voters up, 2 needed); ")
    assert "level" not in str(flushed)
    for failure in (write, read, page, flushed):
        assert isinstance(failure, QuorumNotReached) and failure.reply().startswith("NOQUORUM ")
    assert str(QuorumNotReached(needed=1, acknowledged=0)).endswith("; try again"), "there is no level below one owner"
