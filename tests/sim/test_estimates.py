"""The check of HyperLogLogs, on histories made up for it."""

from __future__ import annotations

import pytest
from tests.sim.test_merging import Story

from ringwise.core.hyperloglog import as_redis, of_elements


@pytest.mark.parametrize("kind", ["estimate", "inspect"])
def test_an_addition_that_a_read_misses(kind: str) -> None:
    story = Story()
    story.add("pfadd", b"a")
    story.add("pfadd", b"b", outcome="unknown")
    story.add("pfadd", b"c", level=1)

    def read(*elements: bytes) -> None:
        shown = as_redis(of_elements(elements))
        if kind == "estimate":
            story.add(kind, found=shown)
        else:
            story.add(kind, shown=(shown,))

    read(b"a", b"b", b"c")
    read(b"a")
    assert story.complaints() == [], "of an unknown outcome, and without R + W > N, either is right"
    read(b"b")
    assert story.complaints() == [("member", (0, 5))]
    story.add("estimate")
    assert story.complaints()[1:] == [("member", (0, 6))], "nothing at all is shown"
