"""`ringwise replace`: a member's data are lost for good; an empty node may take its place."""

from __future__ import annotations

from typing import Any, cast

import click

from ringwise.cli.options import as_json, at_node, plain, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call_mapped


@click.command()
@click.argument("old")
@at_node
@as_json
def replace(old: str, host: str, port: int, as_json: bool) -> None:
    """Give the data of member OLD up for lost, so that an empty node named OLD takes its place.

    OLD must be down. What was acknowledged by fewer than a majority may be lost with it.
    """
    try:
        told = cast("dict[str, Any]", plain(call_mapped(host, port, "RW.REPLACE", old)))
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    if as_json:
        tell_json(told)
        return
    click.echo(
        f"the place of {old} is free, from epoch {told['epoch']} of the topology on; start {old} on an empty directory "
        "(ringwise serve --join, or ringwise dev start), and it is filled from the other owners: ringwise status"
    )
