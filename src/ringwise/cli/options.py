"""Options that commands share: which node to ask, and the form of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click
import msgspec

from ringwise.cli.resp import NodeError, Reply, UnreachableError
from ringwise.runtime.settings import CLIENT_PORT, StartError

F = TypeVar("F", bound=Callable[..., object])

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


in_bucket = click.option(
    "--bucket",
    default="",
    metavar="BUCKET",
    envvar="RINGWISE_BUCKET",
    help="A bucket's name, or a number from 0 to 15.",
)


def at_node(command: F) -> F:
    """--host and --port of any node."""
    host = click.option("--host", default="127.0.0.1", show_default=True, envvar="RINGWISE_HOST", help="Any node.")
    port = click.option(
        "--port",
        type=click.IntRange(1, 65535),
        default=CLIENT_PORT,
        show_default=True,
        envvar="RINGWISE_PORT",
        help="Its client port.",
    )
    return host(port(command))


def mending(command: F) -> F:
    """--hints-max and --repair-interval-s of every node that is started."""
    hints_max = click.option(
        "--hints-max",
        type=click.IntRange(0, 1 << 30),
        default=1_000_000,
        show_default=True,
        help="Keys that a node keeps for others that are away, some 300 bytes of memory each.",
    )
    repair_interval_s = click.option(
        "--repair-interval-s",
        type=click.IntRange(0, 86_400),
        default=10,
        show_default=True,
        help="Seconds between two comparisons with all peers; 0: none but those of 'ringwise repair'.",
    )
    return hints_max(repair_interval_s(command))


def refusal(error: UnreachableError | NodeError) -> StartError:
    """The one line for an error of a node, or of the way to it."""
    if isinstance(error, UnreachableError):
        return StartError(f"{error}; is a node running there? (--host, --port)")
    return StartError(str(error))


def tell_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def readable(value: bytes) -> str:
    """A value for the terminal: text where it is text, else as Python would write it."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return text if text.isprintable() else repr(text)


def plain(reply: Reply) -> object:
    """A reply as JSON has it; bytes that are no text become {"base64": …} by way of `msgspec`."""
    if isinstance(reply, bytes):
        try:
            return reply.decode()
        except UnicodeDecodeError:
            return {"base64": reply}
    if isinstance(reply, list):
        return [plain(item) for item in reply]
    if isinstance(reply, dict):
        return {key.decode(): plain(item) for key, item in reply.items()}
    return reply
