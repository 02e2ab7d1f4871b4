"""`ringwise dev`: a cluster on this machine, to try things and to develop against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from ringwise.cli.options import as_json, mending, tell_json
from ringwise.cli.plan import DIRECTORY, HOST, NODES_MAX, NodePlan, Plan
from ringwise.cli.supervisor import Supervisor, ask, data_dir_option, program, start_command
from ringwise.runtime.peers import DIRECTIONS
from ringwise.runtime.settings import CLIENT_PORT, MEMBERSHIPS, SYNC_MODES

_DIRECTORY = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the nodes keep everything.  [default: data]",
)


def _node_number(text: str) -> int:
    number = text.removeprefix("n")
    if not number.isdigit():
        raise click.BadParameter(f"{text!r} is no node: say 2 or n2")
    return int(number)


@click.group(invoke_without_command=True)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), help="How many nodes, for a new cluster.  [default: 3]")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the first node, for a new cluster.  [default: 7379]"
)
@_DIRECTORY
@click.option("--level", default="quorum", show_default=True, help="Consistency where a request names none.")
@click.option(
    "--sync", type=click.Choice(SYNC_MODES), default="periodic", show_default=True, help="See ringwise serve."
)
@mending
@click.option(
    "--membership",
    type=click.Choice(MEMBERSHIPS),
    default="local",
    show_default=True,
    help="How soon a silent node is suspected; see ringwise serve.",
)
@click.option(
    "--multi/--no-multi", default=True, show_default=True, help="Serve MULTI, as an ordered batch without isolation."
)
@click.option("--debug-commands", is_flag=True, help="Serve DEBUG SLEEP, for tests of clients.")
@as_json
@click.pass_context
def dev(
    ctx: click.Context,
    nodes: int | None,
    port: int | None,
    data_dir: Path | None,
    level: str,
    sync: str,
    hints_max: int,
    repair_interval_s: int,
    membership: str,
    multi: bool,
    debug_commands: bool,
    as_json: bool,
) -> None:
    """Run a cluster on this machine until Ctrl-C; the data stay.

    Ports count up from the first node's: Redis protocol 7379, HTTP 8379, peers 9379, cluster clients 10379.
    """
    if ctx.invoked_subcommand is not None:
        return
    plan = Plan.open(data_dir or DIRECTORY, nodes, port)
    options = [
        "--level",
        level,
        "--sync",
        sync,
        "--membership",
        membership,
        "--hints-max",
        str(hints_max),
        "--repair-interval-s",
        str(repair_interval_s),
        "--multi" if multi else "--no-multi",
    ]
    if debug_commands:
        options.append("--debug-commands")
    tell = _tell_line if as_json else _tell
    asyncio.run(_run(plan, options, tell, as_json))
    tell(f"Stopped. The data are in {plan.directory}")


@dev.command()
@click.argument("node", type=_node_number)
@_DIRECTORY
@as_json
@click.pass_context
def start(ctx: click.Context, node: int, data_dir: Path | None, as_json: bool) -> None:
    """Start a node that was killed or stopped, and wait until it is ready."""
    _answer(ctx, data_dir, "start", node, as_json)


@dev.command()
@click.argument("node", type=_node_number)
@_DIRECTORY
@as_json
@click.pass_context
def stop(ctx: click.Context, node: int, data_dir: Path | None, as_json: bool) -> None:
    """Stop a node cleanly; the others go on."""
    _answer(ctx, data_dir, "stop", node, as_json)


@dev.command()
@click.argument("node", type=_node_number)
@click.option(
    "--direction",
    type=click.Choice(DIRECTIONS),
    default="both",
    show_default=True,
    help="What is lost: what the others send it (in), what it sends (out), or both.",
)
@_DIRECTORY
@as_json
@click.pass_context
def partition(ctx: click.Context, node: int, direction: str, data_dir: Path | None, as_json: bool) -> None:
    """Cut a node off from the others; clients still reach it. A restart heals it.

    In both directions its connections to them end at once. In one, what is sent in that direction vanishes while they stand,
    and they end after ten seconds, as TCP gives them up; new ones cannot be made.
    """
    _answer(ctx, data_dir, "partition", node, as_json, direction)


@dev.command()
@click.argument("node", type=_node_number, required=False)
@_DIRECTORY
@as_json
@click.pass_context
def heal(ctx: click.Context, node: int | None, data_dir: Path | None, as_json: bool) -> None:
    """Join a node that was cut off to the others again; without NODE, all."""
    _answer(ctx, data_dir, "heal", node, as_json)


def _directory(ctx: click.Context, own: Path | None) -> Path:
    """--data-dir, written after `start` or before it."""
    outer: Path | None = ctx.parent.params["data_dir"] if ctx.parent is not None else None
    return own or outer or DIRECTORY


def _answer(
    ctx: click.Context, data_dir: Path | None, command: str, node: int | None, as_json: bool, direction: str = "both"
) -> None:
    """What the supervisor did, in its words, or with the state of all nodes."""
    reply = ask(_directory(ctx, data_dir), command, node, direction)
    if as_json or (ctx.parent is not None and ctx.parent.params["as_json"]):
        tell_json(reply)
    else:
        _tell(str(reply["text"]))


async def _run(plan: Plan, options: list[str], tell: Callable[[str], None], as_json: bool) -> None:
    supervisor = Supervisor(plan, options, tell)

    def welcome(running: list[tuple[NodePlan, int]], seconds: float) -> None:
        if as_json:
            _write_line({"seconds": round(seconds, 1), "nodes": supervisor.described()})
        else:
            _tell(_welcome(plan, running, seconds))

    await supervisor.run(welcome)


def _partition(plan: Plan, running: list[tuple[NodePlan, int]]) -> list[tuple[str, str]]:
    """A conflict, made and shown. Only the default directory and port need no options."""
    if len(running) < 2:
        return []
    cut, at, where = running[-1][0], running[0][0].port, data_dir_option(plan)
    port = "" if at == CLIENT_PORT else f" --port {at}"
    return [
        (
            f"{program()} dev partition {cut.number}{where}",
            f"cuts {cut.name} off; write on both sides with RW.AT one SET",
        ),
        (f"{program()} dev heal {cut.number}{where}", "joins it again"),
        (f"{program()} explain greeting{port}", "what every owner of a key holds; also: status, ring"),
    ]


def _tell(text: str) -> None:
    click.echo(text)


def _tell_line(text: str) -> None:
    _write_line({"text": text})


def _write_line(value: object) -> None:
    """JSON by the line, since a cluster that runs has more to say later."""
    click.echo(msgspec.json.encode(value).decode())


def _welcome(plan: Plan, running: list[tuple[NodePlan, int]], seconds: float) -> str:
    header = ("node", "pid", "redis", "http", "peers", "cluster", "data directory", "log")
    rows = [
        (
            node.name,
            str(pid),
            str(node.port),
            str(node.http_port),
            str(node.peer_port),
            str(node.cluster_port),
            str(node.data_dir),
            str(node.log),
        )
        for node, pid in running
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    first, last = running[0][0].port, running[-1][0].port
    other = running[1][0].port if len(running) > 1 else first
    victim, pid = running[min(1, len(running) - 1)]
    tries = [
        (f"redis-cli -p {first} SET greeting hello", ""),
        (f"redis-cli -p {other} GET greeting", "any node takes any request"),
        (f"redis-benchmark -p {first} -t set,get -n 100000 -r 1000000 -q", ""),
        (f"redis-benchmark -p {last} -t set,get -n 100000 -r 1000000 -P 16 -q", ""),
        (f"curl http://{HOST}:{running[0][0].http_port}/api/v1/kv/greeting", "the same over HTTP; / has the page"),
        (f"kill -9 {pid}", f"{victim.name} dies, the others go on"),
        (start_command(plan, victim), "and it comes back"),
        *_partition(plan, running),
    ]
    width = max(len(command) for command, _ in tries)
    return "\n".join(
        [
            f"Ringwise is ready: {len(running)} nodes on this machine, started in {seconds:.1f} s",
            "",
            *(f"  {line}" for line in lines),
            "",
            "Try, in another terminal:",
            "",
            *(f"  {command.ljust(width)}  {'# ' + remark if remark else ''}".rstrip() for command, remark in tries),
            "",
            f"Ctrl-C stops it cleanly, and the data stay: {program()} dev{data_dir_option(plan)} goes on with them.",
        ]
    )
