"""How `ringwise explain` prints what a copy of a key is made of."""

from __future__ import annotations

import pytest

from ringwise.cli.explain import _version


@pytest.mark.parametrize(
    ("state", "value", "printed"),
    [
        ("live", "Red", "Red (n1:1)"),
        ("added", "5", "+5 (n1:1)"),
        ("added", "-5", "-5 (n1:1)"),
        ("member", "ann", "member ann (n1:1)"),
        ("field", "n = 5", "field n = 5 (n1:1)"),
        ("increment", "n: 2", "increment n: 2 (n1:1)"),
        ("removed", "n", "removed n (n1:1)"),
        ("increment", b"\xff: 2", "increment <binary> (n1:1)"),
        ("removals", "", "removals (n1:1)"),
    ],
)
def test_what_a_version_says(state: str, value: object, printed: str) -> None:
    assert _version({"state": state, "value": value, "dot": "n1:1", "ttl_ms": -1}) == printed
