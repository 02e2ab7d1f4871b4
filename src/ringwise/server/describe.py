"""What clients ask about the server before they trust it: COMMAND, CONFIG, INFO."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ringwise import __version__
from ringwise.core.topology import NUMBERED
from ringwise.core.versions import alarms
from ringwise.server.arguments import SYNTAX, integer_of
from ringwise.server.call import Call, CommandError, shown
from ringwise.server.connection import REDIS_VERSION
from ringwise.server.replace import name_of, under_replicated
from ringwise.server.table import Command, wrong_arity
from ringwise.wire.replies import OK, Simple, Value, Verbatim


def everything(call: Call) -> None:
    """COMMAND, without a subcommand."""
    call.answer([_info(each) for each in call.session.table.commands.values()])


def command_count(call: Call) -> None:
    call.answer(len(call.session.table.commands))


def command_info(call: Call) -> None:
    table = call.session.table
    if len(call.arguments) == 2:
        everything(call)
        return
    found = [table.find(name) for name in call.arguments[2:]]
    call.answer([None if each is None else _info(each) for each in found])


def command_docs(call: Call) -> None:
    table = call.session.table
    names = call.arguments[2:]
    found = [table.find(name) for name in names] if names else list(table.commands.values())
    call.answer({each.name: _docs(each) for each in found if each is not None})


def command_list(call: Call) -> None:
    """COMMAND LIST, or of them what FILTERBY MODULE, ACLCAT or PATTERN leaves."""
    commands = call.session.table.commands
    options = call.arguments[2:]
    if not options:
        call.answer(list(commands))
        return
    if len(options) != 3 or options[0].upper() != b"FILTERBY":
        raise CommandError(SYNTAX)
    wanted = options[2].decode("utf-8", "replace").lower()
    match options[1].upper():
        case b"MODULE":
            call.answer([])
        case b"ACLCAT":
            call.answer([each.name for each in commands.values() if each.group == wanted])
        case b"PATTERN":
            call.answer([name for name in commands if fnmatchcase(name, wanted)])
        case _:
            raise CommandError(SYNTAX)


def command_getkeys(call: Call) -> None:
    inner = call.arguments[2:]
    each = call.session.table.find(inner[0])
    if each is None:
        raise CommandError("ERR Invalid command specified")
    if not each.takes(len(inner)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    keys = each.keys_of(inner)
    if not keys:
        raise CommandError("ERR The command has no key arguments")
    call.answer(list(keys))


# How clients in cluster mode spread a command over nodes and put the replies together, in the words of Redis's command tips.
# FLUSHDB has none: any one node speaks for the whole cluster.
_SUM = ["request_policy:multi_shard", "response_policy:agg_sum"]
TIPS = {
    "dbsize": ["request_policy:all_shards", "response_policy:agg_sum"],
    "del": _SUM,
    "exists": _SUM,
    "keys": ["request_policy:all_shards"],
    "mget": ["request_policy:multi_shard"],
    "mset": ["request_policy:multi_shard", "response_policy:all_succeeded"],
    "ping": ["request_policy:all_shards", "response_policy:all_succeeded"],
    "randomkey": ["request_policy:all_shards", "response_policy:special"],
    "scan": ["request_policy:special", "response_policy:special"],
    "touch": _SUM,
    "unlink": _SUM,
    "wait": ["request_policy:all_shards", "response_policy:agg_min"],
}


def _info(each: Command, parent: str = "") -> Value:
    first, last, step = each.keys
    name = f"{parent}|{each.name}" if parent else each.name
    flags: list[Value] = [Simple(flag) for flag in each.flags.split()]
    categories: list[Value] = [Simple(f"@{each.group}")]
    subcommands: list[Value] = [_info(subcommand, each.name) for subcommand in each.subcommands]
    tips: list[Value] = list(TIPS.get(name, []))
    return [name, each.arity, flags, first, last, step, categories, tips, [], subcommands]


def _docs(each: Command) -> Value:
    docs: dict[bytes | str, Value] = {"summary": each.summary, "since": "0.1.0", "group": each.group}
    if each.subcommands:
        docs["subcommands"] = {f"{each.name}|{sub.name}": _docs(sub) for sub in each.subcommands}
    return docs


# Redis's words for the sync modes (S3).
APPENDFSYNC = {"periodic": "everysec", "batch": "always", "off": "no"}


def config_get(call: Call) -> None:
    """The settings that clients and tools look at."""
    patterns = [pattern.decode("utf-8", "replace").lower() for pattern in call.arguments[2:]]
    known = _settings(call)
    call.answer({name: value for name, value in known.items() if any(fnmatchcase(name, each) for each in patterns)})


def config_set(call: Call) -> None:
    """All of the settings or none. Most belong to the node's start: those may be set to what they are."""
    pairs = call.arguments[2:]
    if len(pairs) % 2:
        raise CommandError(wrong_arity("config|set"))
    known = _settings(call)
    changes: dict[str, str] = {}
    for name_, value_ in zip(pairs[::2], pairs[1::2], strict=True):
        name, value = name_.decode("utf-8", "replace").lower(), value_.decode("utf-8", "replace")
        if name not in known:
            raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{shown(name_)}'")
        failed = f"ERR CONFIG SET failed (possibly related to argument '{name}') - "
        if name in changes:
            raise CommandError(failed + "duplicate parameter")
        if name == "rw.multi":
            value = value.lower()
            if value not in ("yes", "no"):
                raise CommandError(failed + "argument must be 'yes' or 'no'")
        elif value != known[name]:
            raise CommandError(failed + "it is set when the node starts, by options of ringwise serve")
        changes[name] = value
    if "rw.multi" in changes:
        call.session.clients.multi = changes["rw.multi"] == "yes"
    call.reply(OK)


def config_resetstat(call: Call) -> None:
    clients = call.session.clients
    clients.counted_from = (clients.connections_total, clients.commands_total)
    call.reply(OK)


def config_rewrite(_call: Call) -> None:
    raise CommandError("ERR CONFIG REWRITE is not served: a node keeps no settings, they are options of ringwise serve")


def role(call: Call) -> None:
    """Every node takes writes; replicas of a primary there are none."""
    call.answer(["master", 0, []])


def time_(call: Call) -> None:
    wall_ms = call.node.now.wall_ms
    call.answer([str(wall_ms // 1000), str(wall_ms % 1000 * 1000)])


def lolwut(call: Call) -> None:
    """The ring, with as many places as there are members up to twelve."""
    if len(call.arguments) > 1 and call.arguments[1].upper() == b"VERSION" and len(call.arguments) > 2:
        integer_of(call.arguments[2])
    count = len(call.node.topology.members)
    places = [(0, 7), (0, 11), (1, 14), (3, 15), (5, 14), (6, 11), (6, 7), (6, 3), (5, 0), (3, -1), (1, 0), (0, 3)]
    rows = [[" "] * 17 for _ in range(7)]
    for number, (row, column) in enumerate(places):
        taken = number * count // len(places) != (number - 1) * count // len(places) or count >= len(places)
        rows[row][column + 1] = "o" if taken else "."
    drawn = "\n".join("".join(row).rstrip() for row in rows)
    call.answer(Verbatim(f"{drawn}\n\nEvery place on the ring is the first. Ringwise ver. {__version__}\n"))


SLEEP_S_MAX = 60.0  # longer than any test waits


def debug_sleep(call: Call) -> None:
    """Answers later: this connection waits, and nobody else."""
    if not call.session.clients.debug:
        raise CommandError("ERR DEBUG is served only by nodes that were started with --debug-commands")
    try:
        seconds = float(call.arguments[2])
    except ValueError:
        raise CommandError("ERR value is not a valid float") from None
    if not 0 <= seconds <= SLEEP_S_MAX:
        raise CommandError(f"ERR DEBUG SLEEP takes 0 to {SLEEP_S_MAX:.0f} seconds")
    call.begin_update([b""])  # no key is empty: whatever comes next waits
    call.node.after(seconds * 1000, lambda: call.reply(OK))


def _settings(call: Call) -> dict[str, str]:
    config = call.node.config
    return {
        "save": "",
        "appendonly": "yes",
        "appendfsync": APPENDFSYNC[call.session.clients.sync],
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "databases": str(NUMBERED),
        "timeout": "0",
        "tcp-keepalive": "300",
        "maxclients": "10000",
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(config.request_timeout_ms),
        "proto-max-bulk-len": str(config.value_bytes_max),
        "port": str(call.session.clients.port),
        "notify-keyspace-events": "",
        "lazyfree-lazy-user-del": "no",
        "rw.default-level": config.default_level,
        "rw.replicas": str(config.replicas),
        "rw.request-timeout-ms": str(config.request_timeout_ms),
        "rw.key-bytes-max": str(config.key_bytes_max),
        "rw.value-bytes-max": str(config.value_bytes_max),
        "rw.collection-bytes-max": str(config.collection_bytes_max),
        "rw.multi": "yes" if call.session.clients.multi else "no",
    }


def info(call: Call) -> None:
    """Sections as in Redis; only what is true here, or what clients rely on."""
    sections = _sections(call)
    wanted = {name.decode("utf-8", "replace").lower() for name in call.arguments[1:]}
    if not wanted or wanted & {"all", "default", "everything"}:
        wanted = set(sections)
    parts = [
        f"# {name.capitalize()}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for name, fields in sections.items()
        if name in wanted
    ]
    call.answer(Verbatim("\r\n".join(parts)))


def _sections(call: Call) -> dict[str, dict[str, object]]:
    node, clients = call.node, call.session.clients
    topology = node.topology
    up_s = max(0, node.now.wall_ms - clients.started_ms) // 1000
    members = topology.members.values()
    return {
        "server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "cluster",
            "ringwise_version": __version__,
            "process_id": clients.process_id,
            "run_id": node.id.hex().ljust(40, "0"),
            "tcp_port": clients.port,
            "uptime_in_seconds": up_s,
            "uptime_in_days": up_s // 86400,
        },
        "clients": {"connected_clients": len(clients.sessions), "maxclients": 10000, "blocked_clients": 0},
        "memory": {"maxmemory": 0, "maxmemory_policy": "noeviction"},
        "persistence": {"loading": 0, "aof_enabled": 1},
        "stats": {
            "total_connections_received": clients.connections_total - clients.counted_from[0],
            "total_commands_processed": clients.commands_total - clients.counted_from[1],
        },
        "replication": {"role": "master", "connected_slaves": 0},
        "cluster": {"cluster_enabled": 1},
        "ringwise": {
            "node": node.name,
            "node_id": node.id.hex(),
            "cluster_id": topology.document.cluster.hex() if topology.document is not None else "",
            "epoch": topology.epoch,
            "formed": int(topology.formed),
            "members": len(topology.members),
            "members_up": sum(member.id == node.id or node.is_up(member.id) for member in members),
            "cut_off": int(bool(clients.cut_off)),  # by RW.DEV PARTITION
            "cut_off_direction": clients.cut_off,
            "default_level": node.config.default_level,
            "hints_waiting": node.hints.waiting,
            "hints_kept": node.hints.kept,
            "hints_handed_over": node.hints.handed_over,
            "hints_sent_again": node.hints.sent_again,
            "hints_dropped": node.hints.dropped,
            "hints_unreadable": node.hints.unreadable,
            "hints_bytes": node.hints.bytes,
            "stand_in_writes": node.stand_ins.writes,
            "stand_in_reads": node.stand_ins.reads,
            **{f"hints_for_{member.hex()}": count for member, count in node.hints.waiting_for().items()},
            "named_buckets": sum(bool(rules.name) for rules in topology.document.buckets) if topology.document else 0,
            "merges": node.merging.merged,
            "merges_failed": node.merging.failed,
            "merge_last_failure": shown(node.merging.failure.encode()),
            "under_replicated_slots": under_replicated(node),
            "lost_members": ",".join(name_of(topology, each) for each in topology.document.lost)
            if topology.document
            else "",
            "filling_members": ",".join(name_of(topology, each) for each in sorted(topology.filling)),
            "filling": int(node.filling.active),
            "fill_percent": int(100 * node.filling.share),
            "fill_received": node.filling.received,
            "fill_unreadable": node.filling.unreadable,
            "fill_waits_for": ",".join(name_of(topology, each) for each in node.filling.waits_for),
            "reap_waiting": node.reaping.waiting,
            "reap_waits_for": ",".join(name_of(topology, each) for each in node.reaping.waits_for),
            "reap_rounds": node.reaping.rounds,
            "reap_failed": node.reaping.failed,
            "reaped": node.reaping.reaped,
            "dot_collisions": alarms["dot_collision"],
            "repair_ready": node.repair.ready,
            **{f"gossip_{name}": value for name, value in node.liveness.told().items()},
            **{f"repair_{name}": value for name, value in node.repair.tally.told().items()},
            **{f"member_{member.id.hex()}": member.name for member in members},
            **{f"address_{member.id.hex()}": f"{member.host}:{member.port}" for member in members},
            **{f"state_{member.id.hex()}": node.liveness.state(member.id).name.lower() for member in members},
            **{f"incarnation_{member.id.hex()}": node.liveness.incarnation(member.id) for member in members},
        },
    }
