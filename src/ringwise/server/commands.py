"""The command table: every command that is served, on one line each. COMMAND and its kin are generated from it."""

from __future__ import annotations

from ringwise.server import (
    buckets,
    cluster,
    connection,
    counters,
    describe,
    expiry,
    explain,
    keyspace,
    repair,
    replace,
    ring,
    sets,
    siblings,
    strings,
    transaction,
    values,
    waiting,
)
from ringwise.server.call import Call
from ringwise.server.table import Command, CommandTable, with_subcommands

NO_KEYS = (0, 0, 0)
ONE_KEY = (1, 1, 1)
ALL_KEYS = (1, -1, 1)
PAIRS = (1, -1, 2)

# Flags of commands that never ask the cluster.
FREE = "loading stale fast"
ABOUT = "loading stale"
HANDSHAKE = "noscript loading stale fast no_auth"

CONNECTION = "connection"

# fmt: off
CLIENT = (
    Command("id", 2, FREE, NO_KEYS, connection.client_id, CONNECTION, "The number of this connection"),
    Command("getname", 2, FREE, NO_KEYS, connection.client_getname, CONNECTION, "Its name"),
    Command("setname", 3, FREE, NO_KEYS, connection.client_setname, CONNECTION, "Names it"),
    Command("setinfo", 4, FREE, NO_KEYS, connection.client_setinfo, CONNECTION, "Names the client's library"),
    Command("info", 2, FREE, NO_KEYS, connection.client_info, CONNECTION, "This connection, in one line"),
    Command("list", -2, ABOUT, NO_KEYS, connection.client_list, CONNECTION, "All connections to this node"),
    Command("no-evict", 3, ABOUT, NO_KEYS, connection.client_switch, CONNECTION, "Accepted; nobody is evicted"),
    Command("no-touch", 3, ABOUT, NO_KEYS, connection.client_switch, CONNECTION, "Accepted; reads touch nothing"),
    Command("kill", -3, "admin noscript", NO_KEYS, connection.client_kill, CONNECTION, "Closes connections to this node"),
    Command("tracking", -3, ABOUT, NO_KEYS, connection.client_tracking, CONNECTION, "Only OFF is accepted"),
    Command("trackinginfo", 2, ABOUT, NO_KEYS, connection.client_trackinginfo, CONNECTION, "Off"),
    Command("getredir", 2, ABOUT, NO_KEYS, connection.client_getredir, CONNECTION, "-1: nothing is tracked"),
    Command("reply", 3, ABOUT, NO_KEYS, connection.client_reply, CONNECTION, "Only ON is accepted"),
    Command("unpause", 2, ABOUT, NO_KEYS, connection.client_unpause, CONNECTION, "Accepted; nobody is paused"),
)
COMMAND = (
    Command("count", 2, ABOUT, NO_KEYS, describe.command_count, "server", "How many commands there are"),
    Command("docs", -2, ABOUT, NO_KEYS, describe.command_docs, "server", "What commands do"),
    Command("getkeys", -3, ABOUT, NO_KEYS, describe.command_getkeys, "server", "The keys of a command line"),
    Command("info", -2, ABOUT, NO_KEYS, describe.command_info, "server", "Arity, flags and keys of commands"),
    Command("list", -2, ABOUT, NO_KEYS, describe.command_list, "server", "The names of commands"),
)
CONFIG = (
    Command("get", -3, "admin loading stale", NO_KEYS, describe.config_get, "server", "Settings whose names match patterns"),
    Command("resetstat", 2, "admin loading stale", NO_KEYS, describe.config_resetstat, "server", "Counts anew"),
    Command("rewrite", 2, "admin loading stale", NO_KEYS, describe.config_rewrite, "server", "Refused: nothing is kept"),
    Command("set", -4, "admin loading stale", NO_KEYS, describe.config_set, "server", "rw.multi yes or no"),
)
DEBUG = (
    Command("sleep", 3, "admin", NO_KEYS, describe.debug_sleep, "server", "Answers later; --debug-commands only"),
)
MEMORY = (
    Command("usage", -3, "readonly", (2, 2, 1), values.memory_usage, "server", "Bytes that a key takes on one owner"),
)
OBJECT = (
    Command("encoding", 3, "readonly", (2, 2, 1), values.object_encoding, "generic", "raw: a value is kept as it came"),
    Command("freq", 3, "readonly", (2, 2, 1), values.object_freq, "generic", "Refused: uses are not counted"),
    Command("idletime", 3, "readonly", (2, 2, 1), values.object_idletime, "generic", "Refused: uses are not noted"),
    Command("refcount", 3, "readonly", (2, 2, 1), values.object_refcount, "generic", "1: no value is shared"),
)
CLUSTER = (
    Command("count-failure-reports", 3, "admin stale", NO_KEYS, cluster.count_failure_reports, "cluster",
            "1 where this node sees the member down"),
    Command("countkeysinslot", 3, "readonly", NO_KEYS, keyspace.count_keys_in_slot, "cluster", "How many keys a slot has",
            all_keys=True, barrier=True),
    Command("getkeysinslot", 4, "readonly", NO_KEYS, keyspace.keys_in_slot, "cluster", "Names of keys of a slot: slot count",
            all_keys=True, barrier=True),
    Command("info", 2, "stale", NO_KEYS, cluster.info, "cluster", "State of the cluster as this node sees it"),
    Command("keyslot", 3, "stale", NO_KEYS, cluster.keyslot, "cluster", "The slot of a key"),
    Command("links", 2, "stale", NO_KEYS, cluster.links, "cluster", "Connections of this node to the other members"),
    Command("myid", 2, "stale", NO_KEYS, cluster.my_id, "cluster", "The id of this node"),
    Command("myshardid", 2, "stale", NO_KEYS, cluster.my_shard_id, "cluster", "As MYID: slots share no fixed group of owners"),
    Command("nodes", 2, "stale", NO_KEYS, cluster.nodes, "cluster", "All members, one a line"),
    Command("replicas", 3, "admin stale", NO_KEYS, cluster.replicas, "cluster", "Empty: every member is a primary"),
    Command("shards", 2, ABOUT, NO_KEYS, cluster.shards, "cluster", "Groups of slots with the same owners"),
    Command("slots", 2, ABOUT, NO_KEYS, cluster.slots, "cluster", "Ranges of slots with their owners, a live one first"),
    Command("slaves", 3, "admin stale", NO_KEYS, cluster.replicas, "cluster", "As REPLICAS"),
)


def _inner_keys(arguments: list[bytes]) -> list[bytes]:
    """RW.AT: the keys of the command inside. Another RW.AT in it is refused, so it has none."""
    inner = arguments[2:]
    return TABLE.keys_of(inner) if inner and inner[0].lower() != b"rw.at" else []


def _command(call: Call) -> None:
    (describe.everything if len(call.arguments) == 1 else _of_command)(call)


_of_command = with_subcommands("command", COMMAND)

TABLE = CommandTable((
    # name, arity, flags, keys, handler, group, summary
    Command("append", 3, "write denyoom fast", ONE_KEY, values.append, "string", "Adds to a value; its length"),
    Command("asking", 1, FREE, NO_KEYS, connection.readonly, "cluster", "Accepted: nobody is redirected"),
    Command("auth", -2, HANDSHAKE, NO_KEYS, connection.auth, CONNECTION, "Refused: there are no users"),
    Command("client", -2, "", NO_KEYS, with_subcommands("client", CLIENT), CONNECTION, "Connections", subcommands=CLIENT),
    Command("cluster", -2, "", NO_KEYS, with_subcommands("cluster", CLUSTER), "cluster", "The cluster", subcommands=CLUSTER),
    Command("command", -1, ABOUT, NO_KEYS, _command, "server", "About commands", subcommands=COMMAND),
    Command("config", -2, "", NO_KEYS, with_subcommands("config", CONFIG), "server", "About settings", subcommands=CONFIG),
    Command("dbsize", 1, "readonly", NO_KEYS, keyspace.dbsize, "server", "How many keys there are; looks at each",
            all_keys=True, barrier=True),
    Command("debug", -2, "admin", NO_KEYS, with_subcommands("debug", DEBUG), "server", "For tests of clients",
            subcommands=DEBUG),
    Command("decr", 2, "write denyoom fast", ONE_KEY, counters.decr, "string",
            "Takes 1 from a number"),
    Command("decrby", 3, "write denyoom fast", ONE_KEY, counters.decrby, "string",
            "Takes so much from a number"),
    Command("del", -2, "write", ALL_KEYS, strings.delete, "generic", "Deletes keys; how many there were"),
    Command("discard", 1, FREE, NO_KEYS, transaction.discard, "transactions", "Forgets the commands since MULTI"),
    Command("echo", 2, FREE, NO_KEYS, connection.echo, CONNECTION, "The argument"),
    Command("exec", 1, ABOUT, NO_KEYS, transaction.exec_, "transactions", "Runs the commands since MULTI, in order"),
    Command("exists", -2, "readonly fast", ALL_KEYS, strings.exists, "generic", "How many of the keys exist"),
    Command("expire", -3, "write fast", ONE_KEY, expiry.expire, "generic",
            "Expiry in so many seconds: [NX | XX | GT | LT]"),
    Command("expireat", -3, "write fast", ONE_KEY, expiry.expire, "generic", "Expiry at a Unix time in seconds"),
    Command("expiretime", 2, "readonly fast", ONE_KEY, expiry.expiretime, "generic", "When a key expires, in Unix seconds"),
    Command("flushall", -1, "write", NO_KEYS, buckets.flushall, "server", "FLUSHDB of every bucket", barrier=True),
    Command("flushdb", -1, "write", NO_KEYS, buckets.flushdb, "server",
            "Removes all keys of the bucket, on every node: [ASYNC | SYNC], which are the same", barrier=True),
    Command("get", 2, "readonly fast", ONE_KEY, strings.get, "string", "The newest value of a key"),
    Command("getdel", 2, "write fast", ONE_KEY, values.getdel, "string", "Deletes a key; the value it had"),
    Command("getex", -2, "write fast", ONE_KEY, expiry.getex, "string",
            "The value of a key, and another expiry: [EX s | PX ms | EXAT s | PXAT ms | PERSIST]"),
    Command("getrange", 4, "readonly", ONE_KEY, values.getrange, "string", "A part of a value: first and last byte"),
    Command("getset", 3, "write denyoom fast", ONE_KEY, values.getset, "string", "Sets a key; the value it had"),
    Command("hello", -1, HANDSHAKE, NO_KEYS, connection.hello, CONNECTION, "Chooses the protocol", barrier=True),
    Command("incr", 2, "write denyoom fast", ONE_KEY, counters.incr, "string",
            "Adds 1 to a number"),
    Command("incrby", 3, "write denyoom fast", ONE_KEY, counters.incrby, "string", "Adds so much to a number"),
    Command("incrbyfloat", 3, "write denyoom fast", ONE_KEY, counters.incrbyfloat, "string",
            "Adds a decimal number"),
    Command("info", -1, ABOUT, NO_KEYS, describe.info, "server", "About this node"),
    Command("keys", 2, "readonly", NO_KEYS, keyspace.keys, "generic", "Keys that match a pattern, 100,000 at most",
            all_keys=True, barrier=True),
    Command("memory", -2, "readonly", NO_KEYS, with_subcommands("memory", MEMORY), "server", "About memory", subcommands=MEMORY),
    Command("lolwut", -1, "readonly fast", NO_KEYS, describe.lolwut, "server", "The ring"),
    Command("mget", -2, "readonly fast", ALL_KEYS, strings.mget, "string", "The newest values of keys"),
    Command("mset", -3, "write denyoom", PAIRS, strings.mset, "string", "Sets keys, each by itself"),
    Command("multi", 1, FREE, NO_KEYS, transaction.multi, "transactions", "Queues what follows, as an ordered batch"),
    Command("object", -2, "readonly", NO_KEYS, with_subcommands("object", OBJECT), "generic", "A value", subcommands=OBJECT),
    Command("persist", 2, "write fast", ONE_KEY, expiry.persist, "generic", "No expiry any more"),
    Command("pexpire", -3, "write fast", ONE_KEY, expiry.expire, "generic", "Expiry in so many milliseconds"),
    Command("pexpireat", -3, "write fast", ONE_KEY, expiry.expire, "generic",
            "Expiry at a Unix time in milliseconds"),
    Command("pexpiretime", 2, "readonly fast", ONE_KEY, expiry.pexpiretime, "generic",
            "When a key expires, in Unix milliseconds"),
    Command("ping", -1, FREE, NO_KEYS, connection.ping, CONNECTION, "PONG, or the argument"),
    Command("psetex", 4, "write denyoom", ONE_KEY, values.setex, "string", "Sets a key for so many milliseconds"),
    Command("pttl", 2, "readonly fast", ONE_KEY, expiry.pttl, "generic", "Milliseconds until a key expires"),
    Command("quit", -1, HANDSHAKE, NO_KEYS, connection.quit_, CONNECTION, "Closes the connection"),
    Command("randomkey", 1, "readonly", NO_KEYS, keyspace.randomkey, "generic", "Any key", all_keys=True, barrier=True),
    Command("readonly", 1, FREE, NO_KEYS, connection.readonly, "cluster", "Accepted: any node reads"),
    Command("readwrite", 1, FREE, NO_KEYS, connection.readonly, "cluster", "Accepted: any node writes"),
    Command("reset", 1, HANDSHAKE, NO_KEYS, connection.reset, CONNECTION, "As a new connection", barrier=True),
    Command("role", 1, FREE, NO_KEYS, describe.role, "server", "master: every node takes writes"),
    Command("rw.at", -3, "write movablekeys", NO_KEYS, connection.rw_at, "ringwise", "One command at a level",
            find_keys=_inner_keys),
    Command("rw.bucket", -2, "admin", NO_KEYS, buckets.rw_bucket, "ringwise",
            "Buckets: LIST | SHOW name | CREATE name … | SET name [N n] [R r] [W w] [POLICY p] [TTL s] [ENGINE e] | DROP name"),
    Command("rw.consistency", -1, "fast", NO_KEYS, connection.rw_consistency, "ringwise", "The level of this connection"),
    Command("rw.del", -2, "write", ONE_KEY, siblings.rw_del, "ringwise", "Deletes what a context has seen: key [CONTEXT c]"),
    Command("rw.dev", -2, "admin", NO_KEYS, connection.rw_dev, "ringwise",
            "PARTITION [BOTH | IN | OUT] or HEAL, on nodes of ringwise dev"),
    Command("rw.explain", 2, "readonly", ONE_KEY, explain.rw_explain, "ringwise",
            "What each owner of a key holds, how the copies compare, what a read would answer"),
    Command("rw.get", 2, "readonly fast", ONE_KEY, siblings.rw_get, "ringwise", "All siblings of a key and their context"),
    Command("rw.incr", 7, "write denyoom", ONE_KEY, counters.rw_incr, "ringwise",
            "Adds to a number, once however often it is sent: key amount SESSION name SEQ n, with n counting from 1"),
    Command("rw.members", 1, ABOUT, NO_KEYS, ring.rw_members, "ringwise", "host:port of every member, for clients"),
    Command("rw.put", -3, "write denyoom", ONE_KEY, siblings.rw_put, "ringwise",
            "Replaces what a context has seen: key value [CONTEXT c] [TYPE mime] [FLAGS n] [EX s | PX ms]"),
    Command("rw.repair", -1, "admin", NO_KEYS, repair.rw_repair, "ringwise",
            "Compares this node's copies with its peers' and mends both: [SLOT n | STATUS]"),
    Command("rw.replace", -1, "admin", NO_KEYS, replace.rw_replace, "ringwise",
            "Gives a member's data up for lost, so that an empty node takes its place: [NAME | STATUS]"),
    Command("sadd", -3, "write denyoom fast", ONE_KEY, sets.sadd, "set", "Adds members; how many are new"),
    Command("scard", 2, "readonly fast", ONE_KEY, sets.scard, "set", "How many members a set has"),
    Command("scan", -2, "readonly", NO_KEYS, keyspace.scan, "generic",
            "A page of keys: cursor [MATCH pattern] [COUNT n] [TYPE t]", all_keys=True, barrier=True),
    Command("rw.ring", -1, ABOUT, NO_KEYS, ring.rw_ring, "ringwise", "Who owns what, or a slot's preference list: [SLOT n]"),
    Command("sdiff", -2, "readonly", ALL_KEYS, sets.combine, "set", "Members of the first set and of no other"),
    Command("sdiffstore", -3, "write denyoom", ALL_KEYS, sets.store, "set", "As SDIFF, kept under the first key"),
    Command("select", 2, FREE, NO_KEYS, buckets.select, CONNECTION, "Chooses a bucket: 0 to 15, or its name"),
    Command("set", -3, "write denyoom", ONE_KEY, strings.set_, "string", "Sets a key, replacing what this node knows of it"),
    Command("setex", 4, "write denyoom", ONE_KEY, values.setex, "string", "Sets a key for so many seconds"),
    Command("setrange", 4, "write denyoom", ONE_KEY, values.setrange, "string", "Overwrites a part of a value; its length"),
    Command("sinter", -2, "readonly", ALL_KEYS, sets.combine, "set", "Members of all the sets"),
    Command("sintercard", -3, "readonly movablekeys", NO_KEYS, sets.sintercard, "set",
            "How many members all the sets have in common: numkeys key … [LIMIT n]", find_keys=sets.card_keys),
    Command("sinterstore", -3, "write denyoom", ALL_KEYS, sets.store, "set", "As SINTER, kept under the first key"),
    Command("sismember", 3, "readonly fast", ONE_KEY, sets.sismember, "set", "1 where it is a member"),
    Command("smembers", 2, "readonly", ONE_KEY, sets.smembers, "set", "All members"),
    Command("smismember", -3, "readonly fast", ONE_KEY, sets.smismember, "set", "1 for each that is a member"),
    Command("smove", 4, "write fast", (1, 2, 1), sets.smove, "set", "Takes a member from one set to another"),
    Command("spop", -2, "write fast", ONE_KEY, sets.spop, "set", "Takes members out: [count]"),
    Command("srandmember", -2, "readonly", ONE_KEY, sets.srandmember, "set", "Members by chance: [count]"),
    Command("srem", -3, "write fast", ONE_KEY, sets.srem, "set", "Removes members; how many there were"),
    Command("sscan", -3, "readonly", ONE_KEY, sets.sscan, "set", "A page of members: cursor [MATCH pattern] [COUNT n]"),
    Command("strlen", 2, "readonly fast", ONE_KEY, values.strlen, "string", "The length of a value"),
    Command("substr", 4, "readonly", ONE_KEY, values.getrange, "string", "As GETRANGE"),
    Command("sunion", -2, "readonly", ALL_KEYS, sets.combine, "set", "Members of any of the sets"),
    Command("sunionstore", -3, "write denyoom", ALL_KEYS, sets.store, "set", "As SUNION, kept under the first key"),
    Command("time", 1, FREE, NO_KEYS, describe.time_, "server", "This node's clock: seconds, microseconds"),
    Command("touch", -2, "readonly fast", ALL_KEYS, strings.exists, "generic", "How many of the keys exist"),
    Command("ttl", 2, "readonly fast", ONE_KEY, expiry.ttl, "generic", "Seconds until a key expires"),
    Command("type", 2, "readonly fast", ONE_KEY, values.type_, "generic", "string, set, or none"),
    Command("unlink", -2, "write fast", ALL_KEYS, strings.delete, "generic", "As DEL"),
    Command("unwatch", 1, FREE, NO_KEYS, transaction.unwatch, "transactions", "Accepted: nothing is watched"),
    Command("wait", 3, "noscript", NO_KEYS, waiting.wait, "generic", "Other replicas that hold this connection's writes",
            barrier=True),
    Command("watch", -2, FREE, ALL_KEYS, transaction.watch, "transactions", "Refused: it needs linearizable keys"),
))
# fmt: on
