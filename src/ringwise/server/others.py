"""The commands of Redis that are not served: which come later, and which never, with the reason. Error replies say it."""

from __future__ import annotations

from ringwise.server.call import shown
from ringwise.wire.resp import Request

_LINEARIZABLE = "comes with linearizable keys"

LATER: dict[str, str] = {
    **dict.fromkeys(("setnx", "msetnx", "renamenx", "hsetnx"), _LINEARIZABLE),
    "acl": "comes with users and passwords",
}  # fmt: skip

_ORDER = "needs one order of all changes of a key, which a store without a leader does not have"
_SUBSCRIBERS = "needs one place that knows all subscribers; use a message broker"
_SCRIPTS = "needs a node that has all keys to itself; send commands, or MULTI as an ordered batch"
_BITS = "changes parts of a value in place; read the value, change it, and write it with the context of RW.GET"
_REPLICATION = (
    "belongs to replication from a primary; here every node is a replica and `ringwise status` shows the cluster"
)
_DISK = "is the store's own business: the commit log is synced as `--sync` says"
_BLOCKING = "waits for a change that another node may have taken; poll instead"
_GEO = "sorts by place, which needs an index over keys"

NEVER: dict[str, str] = {
    **dict.fromkeys(
        (
            "lindex", "linsert", "llen", "lmove", "lmpop", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset",
            "ltrim", "rpop", "rpoplpush", "rpush", "rpushx", "sort", "sort_ro", "xack", "xadd", "xautoclaim", "xclaim",
            "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread", "xreadgroup", "xrevrange", "xsetid", "xtrim",
        ),
        _ORDER,
    ),
    **dict.fromkeys(
        ("blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "zmpop"), _BLOCKING
    ),
    **dict.fromkeys(
        ("psubscribe", "publish", "pubsub", "punsubscribe", "spublish", "ssubscribe", "subscribe", "sunsubscribe",
         "unsubscribe", "monitor"),
        _SUBSCRIBERS,
    ),
    **dict.fromkeys(("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "function", "script"), _SCRIPTS),
    **dict.fromkeys(
        ("bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "getbit", "setbit", "lcs", "pfdebug", "pfselftest"), _BITS
    ),
    **dict.fromkeys(
        ("geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember",
         "georadiusbymember_ro", "geosearch", "geosearchstore"),
        _GEO,
    ),
    **dict.fromkeys(
        ("failover", "psync", "replconf", "replicaof", "slaveof", "sync", "migrate", "move", "swapdb", "restore",
         "restore-asking", "dump"),
        _REPLICATION,
    ),
    **dict.fromkeys(("bgrewriteaof", "bgsave", "lastsave", "save"), _DISK),
    **dict.fromkeys(("latency", "slowlog"), "is not measured by the node; `ringwise status` and INFO show what is"),
    "module": "loads compiled code into the node, and Ringwise has none",
    "shutdown": "would let any client stop a node; send SIGTERM to its process, or `ringwise dev stop N`",
}  # fmt: skip

_AGREED = "would change who owns what, which the members decide among themselves; see `ringwise ring`"
_CAN_WAIT = "holds other clients up, and no command here waits for another client"

SUBCOMMANDS: dict[str, dict[str, str]] = {
    "client": {
        "caching": "belongs to tracking, and nothing is tracked",
        **dict.fromkeys(("pause", "unblock"), _CAN_WAIT),
    },
    "cluster": dict.fromkeys(
        ("addslots", "addslotsrange", "bumpepoch", "delslots", "delslotsrange", "failover", "flushslots", "forget", "meet",
         "replicate", "reset", "saveconfig", "set-config-epoch", "setslot"),
        _AGREED,
    ),
    "command": {"getkeysandflags": "tells how keys are locked, and nothing is locked"},
    "memory": dict.fromkeys(
        ("doctor", "malloc-stats", "purge", "stats"), "is about an allocator of Redis's; INFO memory shows what this node uses"
    ),
}  # fmt: skip


def unknown_subcommand(name: str, subcommand: bytes) -> str:
    """The error for a subcommand that is not served, with its reason where Redis has it."""
    reason = SUBCOMMANDS.get(name, {}).get(subcommand.lower().decode("ascii", "replace"))
    if reason is not None:
        return f"ERR {name.upper()} {subcommand.decode().upper()} is not served: it {reason}"
    return f"ERR unknown subcommand '{shown(subcommand)}'. Try {name.upper()} HELP."


def unknown_command(arguments: Request) -> str:
    """The error for a command that is not served: with its reason where Redis has it, in Redis's words where nobody does."""
    name = arguments[0][:128].decode("utf-8", "backslashreplace")
    known = name.lower()
    if known in LATER:
        return f"ERR {name.upper()} is not served yet: it {LATER[known]}"
    if known in NEVER:
        return f"ERR {name.upper()} is not served: it {NEVER[known]}"
    shown = ""
    for argument in arguments[1:]:
        if len(shown) >= 128:
            break
        shown += f"'{argument[: 128 - len(shown)].decode('utf-8', 'backslashreplace')}' "
    return f"ERR unknown command '{name}', with args beginning with: {shown}"
