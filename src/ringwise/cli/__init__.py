"""The command line. Every command is a file; an error that a user can act on is one line on stderr and exit code 1."""

from __future__ import annotations

import sys

import click

from ringwise import __version__
from ringwise.cli.dev import dev
from ringwise.cli.explain import explain
from ringwise.cli.keys import delete, get, put
from ringwise.cli.repair import repair
from ringwise.cli.replace import replace
from ringwise.cli.ring import ring
from ringwise.cli.serve import serve
from ringwise.cli.status import status
from ringwise.runtime.settings import StartError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="ringwise %(version)s")
def cli() -> None:
    """A leaderless, replicated key-value store behind the Redis protocol."""


cli.add_command(serve)
cli.add_command(dev)
for _command in (status, ring, explain, repair, replace, get, put, delete):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    try:
        cli()
    except StartError as error:
        print(f"ringwise: {error}", file=sys.stderr)
        sys.exit(error.code)
