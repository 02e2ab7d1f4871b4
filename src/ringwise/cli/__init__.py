"""The command line. Every command is a file; an error that a user can act on is one line on stderr.

Exit code 1: an error, 2: wrong usage. With --json an error leaves stdout empty, so that nobody takes it for an answer.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from ringwise import __version__
from ringwise.cli.bucket import bucket
from ringwise.cli.dev import dev
from ringwise.cli.explain import explain
from ringwise.cli.keys import delete, get, put
from ringwise.cli.repair import repair
from ringwise.cli.replace import replace
from ringwise.cli.ring import ring
from ringwise.cli.serve import serve
from ringwise.cli.status import status
from ringwise.runtime.settings import StartError

INTERRUPTED = 130  # as shells tell of Ctrl-C


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="ringwise %(version)s")
def cli() -> None:
    """A leaderless, replicated key-value store behind the Redis protocol."""


cli.add_command(serve)
cli.add_command(dev)
for _command in (status, ring, bucket, explain, repair, replace, get, put, delete):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        _fail(_misuse(error), error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except StartError as error:
        _fail(str(error), error.code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"ringwise: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _misuse(error: click.UsageError) -> str:
    """What was wrong, named as the user has written it, and where to read how it is right."""
    if isinstance(error, click.BadParameter) and error.ctx is not None and error.param is not None:
        source = error.ctx.get_parameter_source(error.param.name or "")
        if source is click.core.ParameterSource.ENVIRONMENT and isinstance(error.param.envvar, str):
            error.param_hint = error.param.envvar
        elif source is click.core.ParameterSource.DEFAULT_MAP:
            error.param_hint = f"'{(error.param.name or '').replace('_', '-')}' in the file of --config"
    message = error.format_message().rstrip(".")
    program = error.ctx.command_path if error.ctx is not None else "ringwise"
    return f"{message[:1].lower()}{message[1:]}; see: {program} --help"
