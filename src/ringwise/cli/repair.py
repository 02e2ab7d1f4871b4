"""`ringwise repair`: compare a node's copies with those of all its peers, now, and exchange what differs."""

from __future__ import annotations

import sys
import time
from typing import Any, cast

import click

from ringwise.cli.options import as_json, at_node, plain, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call, call_mapped
from ringwise.core.ring import SLOTS

LOOK_S = 0.2
COUNTED = ("comparisons", "equal", "unanswered", "differing", "received", "sent", "hash_bytes")


@click.command()
@click.option("--slot", type=click.IntRange(0, SLOTS - 1), help="Only this slot, of which the node must own a copy.")
@click.option("--watch", is_flag=True, help="Wait for the end of the round.")
@at_node
@as_json
def repair(slot: int | None, watch: bool, host: str, port: int, as_json: bool) -> None:
    """Compare a node's copies with those of all its peers, and bring both up to date."""
    try:
        before = _status(host, port)
        call(host, port, *(("RW.REPAIR",) if slot is None else ("RW.REPAIR", "SLOT", str(slot))))
        found = _status(host, port)
        while watch and found["running"]:
            if sys.stderr.isatty():
                click.echo(f"\rwith {found['with']}, {found['left']:,} keys to look at again   ", nl=False, err=True)
            time.sleep(LOOK_S)
            found = _status(host, port)
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    if sys.stderr.isatty() and watch:
        click.echo("\r\033[K", nl=False, err=True)
    # Of this round: what the node has counted since it was asked.
    told = {**found, **{name: found[name] - before[name] for name in COUNTED}}
    if as_json:
        tell_json(told)
    elif not watch:
        click.echo("a round has begun; --watch waits for its end")
    else:
        _print(told)
    if watch and told["unanswered"]:
        sys.exit(1)


def _status(host: str, port: int) -> dict[str, Any]:
    return cast("dict[str, Any]", plain(call_mapped(host, port, "RW.REPAIR", "STATUS")))


def _print(told: dict[str, Any]) -> None:
    compared, unanswered = told["comparisons"], told["unanswered"]
    click.echo(
        f"compared with {compared} {'peer' if compared == 1 else 'peers'}, equal at once: {told['equal']}; "
        f"keys that differed: {told['differing']:,}, brought up to date here {told['received']:,}, there {told['sent']:,}; "
        f"{told['hash_bytes']:,} bytes of hashes"
    )
    if unanswered:
        click.echo(f"not finished with {unanswered}: no answer, or the topology changed; try again", err=True)
