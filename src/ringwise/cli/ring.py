"""`ringwise ring`: who owns what, and how evenly; or where one key lives."""

from __future__ import annotations

from typing import Any, cast

import click

from ringwise.cli.options import as_json, at_node, plain, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call_mapped
from ringwise.core.ring import SLOTS, slot_of


@click.command()
@click.option("--key", help="Where this key lives.")
@click.option("--slot", type=click.IntRange(0, SLOTS - 1), help="Who owns this slot.")
@at_node
@as_json
def ring(key: str | None, slot: int | None, host: str, port: int, as_json: bool) -> None:
    """Show who owns what, and how evenly."""
    if key is not None and slot is not None:
        raise click.UsageError("--key and --slot exclude each other")
    if key is not None:
        slot = slot_of(key.encode("utf-8", "surrogateescape"))
    try:
        words = ("RW.RING",) if slot is None else ("RW.RING", "SLOT", str(slot))
        found = cast("dict[str, Any]", plain(call_mapped(host, port, *words)))
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    if as_json:
        tell_json(found)
    elif slot is not None:
        click.echo(f"slot {slot}: {', '.join(found['owners'])}")
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    # Imported here: it takes longer to load than the other commands take to run.
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    copies = sum(member["slots"] for member in found["members"]) / found["slots"]
    state = "formed" if found["formed"] else "forming"
    console.print(f"{found['slots']} slots, {copies:g} copies of each, epoch {found['epoch']}, {state}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("member", "rack", "weight", "slots", "of its fair share", "first owner of"):
        table.add_column(column, no_wrap=True)
    for member in sorted(found["members"], key=lambda each: each["node"]):
        share = f"{member['slots'] / member['fair']:.3f}" if member["fair"] else ""
        slots, first = str(member["slots"]), str(member["first"])
        table.add_row(member["node"], member["rack"], f"{member['weight']:g}", slots, share, first)
    console.print(table)
