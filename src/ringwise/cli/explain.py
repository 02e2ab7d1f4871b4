"""`ringwise explain KEY`: every replica's versions, clocks and hints, live."""

from __future__ import annotations

from typing import Any, cast

import click

from ringwise.cli.options import as_json, at_node, in_bucket, plain, readable, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call_mapped

# What an owner's answer means, in a few words.
STATES = {
    "current": "current",
    "behind": "behind: the next read repairs it",
    "conflicting": "conflicting: written concurrently",
    "absent": "absent: the next read repairs it",
    "down": "down: not asked",
    "silent": "silent: no answer in time",
    "refused": "refused: cannot read its copy now",
}


@click.command()
@click.argument("key")
@in_bucket
@at_node
@as_json
def explain(key: str, bucket: str, host: str, port: int, as_json: bool) -> None:
    """Show what each owner of KEY holds, how the copies compare, and what a read would answer."""
    try:
        # Longer than the node's own deadline, after which it tells who was silent.
        reply = call_mapped(host, port, "RW.EXPLAIN", key, timeout_s=5.0, bucket=bucket)
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    found = cast("dict[str, Any]", plain(reply))
    if as_json:
        tell_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    # Imported here: it takes longer to load than the other commands take to run.
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    owners = found["owners"]
    preference = ", ".join(owner["node"] for owner in owners)
    console.print(f"key {found['key']!r}: slot {found['slot']}, preference list {preference}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("owner", "clock", "versions", "hints", "state"):
        table.add_column(column)
    for owner in (*owners, *found["stand_ins"]):
        answered = owner["state"] == "answered"
        versions = ", ".join(_version(version) for version in owner["versions"]) or ("nothing" if answered else "")
        state = STATES[owner["compared"] if answered else owner["state"]] if owner in owners else "stands in"
        hints = f"at {', '.join(owner['hints'])}" if owner["hints"] else "none" if answered else ""
        table.add_row(owner["node"], owner["clock"], versions, hints, state)
    console.print(table)
    siblings = found["siblings"]
    together = ", ".join(_shown(sibling["value"]) for sibling in siblings) or "no value"
    kind = "siblings" if len(siblings) > 1 else "together"
    console.print(f"{kind}: {together}   clock {found['clock'] or 'empty'}", soft_wrap=True)
    for level, answers in found["reads"].items():
        shown = " or ".join("nothing" if answer is None else _shown(answer) for answer in answers)
        console.print(f"GET at {level}: {shown or 'refused, too few owners answer'}", soft_wrap=True)


def _version(version: dict[str, Any]) -> str:
    life = (
        f", {version['ttl_ms'] / 1000:.0f} s left" if version["state"] != "expired" and version["ttl_ms"] >= 0 else ""
    )
    shown = _shown(version["value"]) if version["state"] == "live" else version["state"]
    if version["state"] in ("member", "field", "increment", "removed"):  # parts of a collection
        shown = f"{version['state']} {_shown(version['value'])}"
    if version["state"] == "added":  # to a counter (V9)
        amount = version["value"]
        shown = amount if amount.startswith("-") else f"+{amount}"
    return f"{shown} ({version['dot']}{life})"


def _shown(value: object) -> str:
    """At most so much of a value as fits a table."""
    text = readable(value.encode()) if isinstance(value, str) else "<binary>"
    return text if len(text) <= 40 else f"{text[:37]}... ({len(text)} characters)"
