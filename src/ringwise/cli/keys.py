"""`ringwise get|put|delete`: single keys from a shell.

`get` writes the value as it is, so it can be redirected; what it says beside that goes to stderr. Exit codes: 0 found or done,
1 an error, 2 wrong usage, 3 no such key, 4 siblings (all are shown; `put --context` merges them).
"""

from __future__ import annotations

import shlex
import sys

import click

from ringwise.cli.options import as_json, at_node, in_bucket, plain, readable, refusal, tell_json
from ringwise.cli.resp import NodeError, Reply, UnreachableError, call_mapped
from ringwise.runtime.settings import StartError

NOT_FOUND = 3
SIBLINGS = 4

_level = click.option("--level", default="", metavar="LEVEL", help="one, quorum, all, strong, or r=<n>,w=<n>.")


@click.command()
@click.argument("key")
@_level
@in_bucket
@at_node
@as_json
def get(key: str, level: str, bucket: str, host: str, port: int, as_json: bool) -> None:
    """Print the value of KEY."""
    found = _run(host, port, bucket, level, "RW.GET", key)
    siblings = found[b"siblings"]
    assert isinstance(siblings, list)
    if as_json:
        tell_json(plain(found))
    elif len(siblings) == 1:
        sys.stdout.buffer.write(_value(siblings[0]))
        sys.stdout.buffer.flush()
        if sys.stdout.isatty():
            click.echo()
    elif siblings:
        click.echo(f"{len(siblings)} siblings, clock {_text(found[b'clock'])}:", err=True)
        for sibling in siblings:
            click.echo(readable(_value(sibling)))
        at = "".join(f" {option}" for option in _given(host=host, port=port, bucket=bucket))
        words = f"{shlex.quote(key)} VALUE{at} --context {_text(found[b'context'])}"
        click.echo(f"merge them: ringwise put {words}", err=True)
    if not siblings:
        if not as_json:
            click.echo(f"ringwise: no such key: {key}", err=True)
        sys.exit(NOT_FOUND)
    if len(siblings) > 1:
        sys.exit(SIBLINGS)


@click.command()
@click.argument("key")
@click.argument("value")
@click.option("--context", default="", help="What get has shown: the put replaces exactly that.")
@click.option("--ttl", type=click.IntRange(min=1), metavar="SECONDS", help="It expires after so long.")
@click.option("--type", "content_type", default="", metavar="MIME", help="Its content type.")
@click.option("--flags", type=click.IntRange(0, 2**32 - 1), help="A number to keep with it.")
@_level
@in_bucket
@at_node
@as_json
def put(
    key: str,
    value: str,
    context: str,
    ttl: int | None,
    content_type: str,
    flags: int | None,
    level: str,
    bucket: str,
    host: str,
    port: int,
    as_json: bool,
) -> None:
    """Store VALUE under KEY; `-` reads it from stdin."""
    given = sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape")
    options: list[str] = []
    for name, option in (("CONTEXT", context), ("TYPE", content_type), ("FLAGS", flags), ("EX", ttl)):
        if option not in ("", None):
            options += [name, str(option)]
    done = _run(host, port, bucket, level, "RW.PUT", key, given, *options)
    if as_json:
        tell_json(plain(done))
    elif done[b"siblings"] != 1:
        click.echo(f"stored beside {int(str(done[b'siblings'])) - 1} sibling(s): read and merge them", err=True)


@click.command()
@click.argument("key")
@click.option("--context", default="", help="What get has shown: exactly that is deleted.")
@_level
@in_bucket
@at_node
@as_json
def delete(key: str, context: str, level: str, bucket: str, host: str, port: int, as_json: bool) -> None:
    """Delete KEY."""
    done = _run(host, port, bucket, level, "RW.DEL", key, *(("CONTEXT", context) if context else ()))
    if as_json:
        tell_json(plain(done))


def _run(host: str, port: int, bucket: str, level: str, *command: str | bytes) -> dict[bytes, Reply]:
    words = ("RW.AT", level, *command) if level else command
    try:
        return call_mapped(host, port, *words, bucket=bucket)
    except (UnreachableError, NodeError) as error:
        if isinstance(error, UnreachableError) and error.sent and command[0] != "RW.GET":
            raise StartError(f"{error}; it may be written or not: read the key before trying again") from error
        raise refusal(error) from error


def _given(**options: object) -> list[str]:
    """Those of the options that stood on the command line, as the next command needs them; variables hold for that as well."""
    source = click.get_current_context().get_parameter_source
    typed = [name for name in options if source(name) is click.core.ParameterSource.COMMANDLINE]
    return [f"--{name} {shlex.quote(str(options[name]))}" for name in typed]


def _value(sibling: Reply) -> bytes:
    assert isinstance(sibling, dict) and isinstance(sibling[b"value"], bytes)
    return sibling[b"value"]


def _text(reply: Reply) -> str:
    assert isinstance(reply, bytes)
    return reply.decode()
