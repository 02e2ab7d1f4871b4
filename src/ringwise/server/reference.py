"""docs/commands.md, from the command table and the tables of what is not served.

python -m ringwise.server.reference            prints it
"""

from __future__ import annotations

from collections.abc import Iterator

from ringwise.server.commands import TABLE
from ringwise.server.others import LATER, NEVER, SUBCOMMANDS
from ringwise.server.redis_commands import REDIS_COMMANDS
from ringwise.server.table import Command

# What two clients at once get; where nothing is said, the command changes nothing.
CONCURRENCY = {
    "append": "Two at once on different nodes make siblings: GET shows the newest, RW.GET both.",
    "decr": "As INCR.",
    "decrby": "As INCR.",
    "del": "What it has read is deleted; a write at the same time survives it.",
    "exec": "Commands of others may come between those of the batch, and one that fails undoes none.",
    "expire": "Of two at once the newest wins; a SET at the same time keeps its value.",
    "expireat": "As EXPIRE.",
    "flushdb": "Writes at the same time are before it or after it, each key by itself.",
    "getdel": "What it has read is deleted; two at once may both answer with the value.",
    "getex": "As EXPIRE.",
    "getset": "Two at once may both answer with the same old value.",
    "hdel": "Removes what it has read of the fields; one that another sets at the same time stays, an increment at the same time "
    "counts as before it. Two at once may both count a field.",
    "hincrby": "All that are acknowledged count, once each; two at once on different nodes may be told the same number, and one "
    "at the same time as a HSET of the field counts as before it.",
    "hincrbyfloat": "As HINCRBY.",
    "hmset": "As HSET.",
    "hset": "Each field by itself: of two at once the newest is shown. A field that another removes at the same time stays.",
    "incr": "All that are acknowledged count, once each; two at once on different nodes may be told the same number, and one "
    "at the same time as a SET counts as before it.",
    "incrby": "As INCR.",
    "incrbyfloat": "As INCR.",
    "mset": "Each key by itself: another client may see some of them set.",
    "persist": "As EXPIRE.",
    "pexpire": "As EXPIRE.",
    "pexpireat": "As EXPIRE.",
    "rw.del": "Deletes exactly what its context has seen; what was written meanwhile stays.",
    "rw.get": "Shows every sibling, and the context with which to replace exactly these.",
    "rw.incr": "Sent again with the same SEQ, also to another node, it counts once; at `quorum` and above.",
    "rw.put": "Replaces exactly what its context has seen; what was written meanwhile stays as a sibling.",
    "sadd": "A member that another removes at the same time stays.",
    "sdiffstore": "As SUNIONSTORE.",
    "sinterstore": "As SUNIONSTORE.",
    "smove": "Two steps: in between it is in neither set, and if the node dies it may be in neither or, with `UNKNOWN`, in one.",
    "spop": "Two at once may hand out the same member.",
    "srem": "Removes what it has read; a member that another adds at the same time stays. Two at once may both count it.",
    "sunionstore": "Each set is read by itself; the result replaces what was read of the first key.",
    "zadd": "Each member by itself: of two at once the newest is shown. Conditions are judged by what the coordinator knows; "
    "with INCR as ZINCRBY.",
    "zdiffstore": "As ZUNIONSTORE.",
    "zincrby": "All that are acknowledged count, once each; two at once on different nodes may be told the same number, and one "
    "at the same time as a ZADD of the member counts as before it.",
    "zinterstore": "As ZUNIONSTORE.",
    "zpopmax": "As ZPOPMIN.",
    "zpopmin": "Two at once may hand out the same member.",
    "zrangestore": "As ZUNIONSTORE.",
    "zrem": "Removes what it has read of the members; one that another adds at the same time stays, an increment at the same "
    "time counts as before it. Two at once may both count a member.",
    "zremrangebylex": "As ZREM, of the members that it has read.",
    "zremrangebyrank": "As ZREMRANGEBYLEX.",
    "zremrangebyscore": "As ZREMRANGEBYLEX.",
    "zunionstore": "Each key is read by itself; the result replaces what was read of the first one.",
    "set": "Of two at once the newest wins; with GET or KEEPTTL it reads first, and replaces what it has read.",
    "setrange": "Two at once on different nodes make siblings: GET shows the newest, RW.GET both.",
}
GROUPS = {command: group for group, names in REDIS_COMMANDS.items() for command in names.split()}


def reference() -> str:
    """The whole document."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "Made by `python -m ringwise.server.reference` from the tables that the node itself uses. Every command of Redis 7.0"
    yield "is here: served, coming later, or refused with its reason, which is also the error that a client gets."
    yield ""
    yield "## Served"
    yield ""
    for group in sorted({command.group for command in TABLE.commands.values()}):
        yield f"### {group}"
        yield ""
        yield "| command | what it does |"
        yield "| --- | --- |"
        for command in sorted(TABLE.commands.values(), key=lambda each: each.name):
            if command.group == group:
                yield from _rows(command)
        yield ""
    yield from _table("Coming later", LATER)
    yield ""
    refused = {f"{name} {each}": why for name, inner in SUBCOMMANDS.items() for each, why in inner.items()}
    yield from _table("Refused", NEVER | refused)


def _rows(command: Command) -> Iterator[str]:
    first = CONCURRENCY.get(command.name, "")
    yield f"| `{command.name.upper()}` | {first + ' ' if first else ''}{_cell(command.summary)}. |"
    for subcommand in sorted(command.subcommands, key=lambda each: each.name):
        yield f"| `{command.name.upper()} {subcommand.name.upper()}` | {_cell(subcommand.summary)}. |"


def _table(title: str, commands: dict[str, str]) -> Iterator[str]:
    """Commands with the same reason in one row."""
    yield f"## {title}"
    yield ""
    yield "| group | commands | reason |"
    yield "| --- | --- | --- |"
    alike: dict[tuple[str, str], list[str]] = {}
    for name in sorted(commands):
        alike.setdefault((GROUPS.get(name.split()[0], "other"), commands[name]), []).append(f"`{name.upper()}`")
    for (group, reason), names in sorted(alike.items()):
        yield f"| {group} | {' '.join(names)} | {_cell(reason)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
