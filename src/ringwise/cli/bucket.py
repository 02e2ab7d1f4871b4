"""`ringwise bucket`: namespaces with rules of their own: list, create, show, set, drop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from ringwise.cli.options import as_json, at_node, plain, refusal, tell_json
from ringwise.cli.resp import NodeError, UnreachableError, call_typed

F = TypeVar("F", bound=Callable[..., object])

TIMEOUT_S = 15.0  # an agreement may take several attempts
PLAIN = {"r": "default", "w": "default", "policy": "siblings", "ttl": 0, "flushes": 0}
COLUMNS = ("bucket", "n", "r", "w", "policy", "ttl", "engine", "flushes")


@click.group()
def bucket() -> None:
    """Namespaces, each with its own levels, policy and time to live."""


def _rules(command: F) -> F:
    """The rules of a bucket, as options."""
    for option in (
        click.option("--engine", help="Where its rows are kept: lsm."),
        click.option(
            "--ttl", type=click.IntRange(min=0), metavar="SECONDS", help="Of writes that say none; 0: for ever."
        ),
        click.option("--policy", help="What a read shows of concurrent writes: siblings; lww, the newest; merge:NAME."),
        click.option("--w", help="Of who says none: one, quorum, all, strong, a number of owners, or default."),
        click.option("--r", help="The same for reads."),
        click.option("--n", type=click.IntRange(min=1), help="Copies; as the cluster has them."),
    ):
        command = option(command)
    return command


@bucket.command("list")
@click.option("--all", "everything", is_flag=True, help="Numbers, too, of which nothing was ever changed.")
@at_node
@as_json
def list_(everything: bool, host: str, port: int, as_json: bool) -> None:
    """Show all buckets and their rules."""
    found = cast("list[dict[str, Any]]", _asked(host, port, "LIST"))
    if as_json:
        tell_json(found)
        return
    # A number of which nothing was ever changed or flushed is as all the others.
    shown = [
        each for each in found if everything or each["number"] not in range(1, 16) or not PLAIN.items() <= each.items()
    ]
    _print(shown)


@bucket.command()
@click.argument("name")
@at_node
@as_json
def show(name: str, host: str, port: int, as_json: bool) -> None:
    """Show the rules of bucket NAME."""
    _tell(_asked(host, port, "SHOW", name), as_json)


@bucket.command()
@click.argument("name")
@_rules
@at_node
@as_json
def create(name: str, host: str, port: int, as_json: bool, **rules: str | int | None) -> None:
    """Create bucket NAME; without effect where it is there with the same rules."""
    _tell(_asked(host, port, "CREATE", name, *_words(rules)), as_json)


@bucket.command("set")
@click.argument("name")
@_rules
@at_node
@as_json
def set_(name: str, host: str, port: int, as_json: bool, **rules: str | int | None) -> None:
    """Change rules of bucket NAME; all but N."""
    words = _words(rules)
    if not words:
        raise click.UsageError("give a rule to change: --r, --w, --policy or --ttl")
    _tell(_asked(host, port, "SET", name, *words), as_json)


@bucket.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@at_node
def drop(name: str, yes: bool, host: str, port: int) -> None:
    """Drop bucket NAME with all its keys, at once and for good."""
    if not yes:
        click.confirm(f"drop bucket {name} with all its keys?", abort=True, err=True)
    _asked(host, port, "DROP", name)


def _words(rules: dict[str, str | int | None]) -> list[str]:
    return [word for name, value in rules.items() if value is not None for word in (name.upper(), str(value))]


def _asked(host: str, port: int, *words: str) -> object:
    try:
        reply = call_typed(host, port, "RW.BUCKET", *words, timeout_s=TIMEOUT_S)
    except (UnreachableError, NodeError) as error:
        raise refusal(error) from error
    return plain(reply)


def _tell(rules: object, as_json: bool) -> None:
    if as_json:
        tell_json(rules)
    else:
        _print([cast("dict[str, Any]", rules)])


def _print(found: list[dict[str, Any]]) -> None:
    widths = {name: max(len(name), *(len(str(each[name])) for each in found)) for name in COLUMNS}
    for row in ({name: name for name in COLUMNS}, *found):
        click.echo("  ".join(str(row[name]).ljust(widths[name]) for name in COLUMNS).rstrip())
