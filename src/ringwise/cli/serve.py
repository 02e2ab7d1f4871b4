"""`ringwise serve`: one node in this process."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Literal

import click

from ringwise.cli.options import mending
from ringwise.core.topology import WEIGHT_MAX
from ringwise.runtime.settings import (
    CLIENT_PORT,
    CLUSTER_PORT,
    HTTP_PORT,
    MEMBERSHIPS,
    PEER_PORT,
    SYNC_MODES,
    Settings,
    StartError,
    default_cache_mb,
    default_memtable_mb,
)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _member_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise click.BadParameter(f"{text!r}: a name has 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Keys of the file become defaults, so options given on the command line win."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", ctx, param) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", ctx, param) from error
    known = {option.name for option in ctx.command.params} - {"config"}
    values = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise click.BadParameter(f"{path}: unknown key {unknown[0]!r}", ctx, param)
    ctx.default_map = values
    return path


PORT = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file with any of these options as keys.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where this node keeps everything.  [default: data/NAME]",
)
@click.option(
    "--name",
    default="n1",
    show_default=True,
    type=_member_name,
    metavar="NAME",
    help="Name of this member, kept when its directory is replaced.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, and that others reach.")
@click.option("--port", type=PORT, default=CLIENT_PORT, show_default=True, help="Redis protocol.")
@click.option("--http-port", type=PORT, default=HTTP_PORT, show_default=True, help="HTTP.")
@click.option("--peer-port", type=PORT, default=PEER_PORT, show_default=True, help="Other nodes.")
@click.option(
    "--cluster-port",
    type=PORT,
    show_default=f"--port + {CLUSTER_PORT - CLIENT_PORT}",
    help="Redis protocol for clients in cluster mode, which ask every node and add up.",
)
@click.option(
    "--join", type=_host_port, metavar="HOST:PORT", help="Join the cluster of the node with this peer address."
)
@click.option(
    "--sync",
    type=click.Choice(SYNC_MODES),
    default="periodic",
    show_default=True,
    help="When the log reaches the disk: every second, before each answer, or when the system likes.",
)
@click.option("--level", default="quorum", show_default=True, help="Consistency where a request names none.")
@click.option(
    "--replicas",
    type=click.IntRange(1, 7),
    default=3,
    show_default=True,
    help="Copies of each key, for a cluster that this node founds.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, WEIGHT_MAX, min_open=True),
    default=1.0,
    show_default=True,
    help="Capacity of this node beside the others': its virtual nodes, and so its share of the keys.",
)
@click.option(
    "--rack", default="", metavar="RACK", help="Copies of a key stay in different racks while there are enough."
)
@click.option(
    "--expect",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="The first write waits for so many members.",
)
@click.option(
    "--membership",
    type=click.Choice(MEMBERSHIPS),
    default="lan",
    show_default=True,
    help="How soon a silent member is suspected: for one machine, one data centre, or several.",
)
@click.option(
    "--memtable-mb",
    type=click.IntRange(1, 4096),
    default=default_memtable_mb,
    show_default="a 32nd of the machine's memory, at most 512",
    help="Writes held in memory before they are flushed.",
)
@click.option(
    "--cache-mb",
    type=click.IntRange(1, 1 << 20),
    default=default_cache_mb,
    show_default="a 16th of the machine's memory",
    help="Records kept in memory.",
)
@mending
@click.option("--key-bytes-max", type=click.IntRange(1, 16384), default=256, show_default=True, help="Longest key.")
@click.option(
    "--value-bytes-max", type=click.IntRange(1, 64 << 20), default=1 << 20, show_default=True, help="Longest value."
)
@click.option(
    "--collection-bytes-max",
    type=click.IntRange(1, 60 << 20),
    default=32 << 20,
    show_default=True,
    help="Largest set, hash or sorted set.",
)
@click.option(
    "--multi/--no-multi", default=True, show_default=True, help="Serve MULTI, as an ordered batch without isolation."
)
@click.option("--debug-commands", is_flag=True, help="Serve DEBUG SLEEP, for tests of clients.")
@click.option("--stop-with-stdin", is_flag=True, hidden=True)
def serve(
    data_dir: Path | None,
    name: str,
    host: str,
    port: int,
    http_port: int,
    peer_port: int,
    cluster_port: int | None,
    join: tuple[str, int] | None,
    sync: Literal["periodic", "batch", "off"],
    level: str,
    replicas: int,
    weight: float,
    rack: str,
    expect: int,
    membership: Literal["local", "lan", "wan"],
    memtable_mb: int,
    cache_mb: int,
    hints_max: int,
    repair_interval_s: int,
    key_bytes_max: int,
    value_bytes_max: int,
    collection_bytes_max: int,
    multi: bool,
    debug_commands: bool,
    stop_with_stdin: bool,
) -> None:
    """Run one node.

    On an empty directory it founds a cluster of its own, or, with --join, becomes a member of another. A directory that
    belongs to a cluster already goes on there.
    """
    cluster_port = cluster_port or port + CLUSTER_PORT - CLIENT_PORT
    if cluster_port > 65535:
        raise StartError(f"there is no port {cluster_port} for clients in cluster mode: choose one with --cluster-port")
    if len({port, http_port, peer_port, cluster_port}) < 4:
        raise StartError(f"the four ports must differ: {port}, {http_port}, {peer_port}, {cluster_port}")
    # Imported here: what a node needs takes longer to load than the other commands take to run.
    from ringwise.runtime.serve import run

    settings = Settings(
        data_dir=(data_dir or Path("data") / name).absolute(),
        name=name,
        host=host,
        port=port,
        http_port=http_port,
        peer_port=peer_port,
        cluster_port=cluster_port,
        join=join,
        sync=sync,
        level=level,
        replicas=replicas,
        weight=weight,
        rack=rack,
        expect=expect,
        membership=membership,
        memtable_mb=memtable_mb,
        cache_mb=cache_mb,
        hints_max=hints_max,
        repair_interval_s=repair_interval_s,
        key_bytes_max=key_bytes_max,
        value_bytes_max=value_bytes_max,
        collection_bytes_max=collection_bytes_max,
        multi=multi,
        debug_commands=debug_commands,
        stop_with_stdin=stop_with_stdin,
    )
    sys.exit(run(settings))
