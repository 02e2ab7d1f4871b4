"""Clients: Redis sessions that read, write, delete, scan and pass contexts on, at every level, and lose their nodes.

A client sends a volley of one to three commands, waits for the replies, thinks, and goes on; a *stampede* makes all
clients turn to one key at once, which is where concurrency is.  A connection that dies, or answers nothing for
`PATIENCE_MS`, is closed, and what was open on it has an unknown outcome; the client then connects to any node that is
up.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis

from ringwise.sim.history import BRIEF, EVERY, OTHER, RULED, History, Operation, Scan, bucket_of
from ringwise.sim.merging import ADDITIONS, NUMBER, REMOVALS
from ringwise.sim.scheduler import Scheduler

PATIENCE_MS = 6_000.0
# Scales the pauses so that a history has its operations even where clients often wait for a node to come back.
THINKING = 1.15
WANDERS = 0.1  # share of the volleys before which a client moves to another node, so that none is left alone
FAR_S = b"864000"  # an expiry that no history reaches: what matters here is that such a version is of the general form

# (r, w) at N = 3, by level as a client names it.
LEVELS: dict[str, tuple[int, int]] = {"one": (1, 1), "quorum": (2, 2), "all": (3, 3), "strong": (2, 2)}
LEVELS |= {f"r={r},w={w}": (r, w) for r in (1, 2, 3) for w in (1, 2, 3)}


@dataclass(frozen=True)
class Mix:
    """What clients ask for: weights by kind and by level."""

    kinds: tuple[tuple[str, float], ...] = (
        ("set", 26),
        ("update", 5),
        ("put", 22),
        ("delete", 7),
        ("get", 16),
        ("inspect", 24),
    )
    levels: tuple[tuple[str, float], ...] = (
        ("quorum", 56),
        ("one", 14),
        ("all", 8),
        ("strong", 12),
        ("r=1,w=3", 4),
        ("r=3,w=1", 3),
        ("r=2,w=3", 3),
    )
    keys: int = 20
    counters: int = 0  # keys of their own
    sets: int = 0  # the same
    leases: int = 0  # the same
    hashes: int = 0
    sorted_sets: int = 0
    others: int = 0  # keys in another bucket
    policies: int = 0  # keys in each of those that have rules of their own (sim/policies.py)
    estimates: int = 0
    tag: bytes = b""  # before each key: a hashtag puts all of them into one slot
    operations: int = 1_000
    stampede: float = 0.25  # share of the volleys that start one
    scans: float = 0.0  # share of the volleys before which a scan is begun; the next volleys take a page of it each


# Flushes among the rest, of two buckets, each by itself or both at once. A context from before a flush covers versions that are
# void: such puts have no place in the model.
FLUSHES = Mix(
    kinds=(("set", 36), ("update", 5), ("delete", 6), ("get", 18), ("inspect", 34), ("flush", 1)),
    keys=12,
    others=8,
    operations=1_100,
)


# Increments, sets, hashes, sorted sets, and expiries of values, among the rest.
COUNTERS = Mix(
    kinds=(
        ("set", 20),
        ("update", 4),
        ("put", 14),
        ("delete", 5),
        ("get", 10),
        ("inspect", 15),
        ("expire", 6),
        ("incr", 14),
        ("once", 8),
        ("count", 6),
        ("add", 10),
        ("remove", 4),
        ("members", 6),
        ("hincr", 6),
        ("hset", 6),
        ("hdel", 3),
        ("fields", 4),
        ("zincr", 6),
        ("zadd", 6),
        ("zrem", 3),
        ("scores", 4),
        ("pfadd", 6),
        ("estimate", 3),
    ),
    counters=6,
    sets=3,
    hashes=2,
    sorted_sets=2,
    estimates=1,
)
# Buckets in which the last write wins, in which everything expires, and in which a function merges siblings.
POLICIES = Mix(
    kinds=(("set", 28), ("update", 4), ("put", 24), ("delete", 6), ("get", 16), ("inspect", 22)),
    keys=2,
    policies=6,
)


BITS = 62  # of a counter
SCORE_BITS = 52  # of a score, which is a double


# Many deletes and few keys, so that each is deleted, reaped and written again; and values that expire soon.
REAPED = Mix(
    kinds=(("set", 24), ("update", 4), ("put", 14), ("delete", 22), ("get", 12), ("inspect", 18), ("lease", 6)),
    keys=8,
    leases=4,
)


class Connection(Protocol):
    """A client's end of a connection to a node; it tells the client what comes, and of its end, each with itself."""

    def send(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Server(Protocol):
    """A node as clients see it."""

    name: str
    up: bool

    def connect(self, client: "Client") -> Connection: ...


class Client:
    """One session's worth of requests at a time, all of them noted in the history."""

    def __init__(self, number: int, workload: "Workload", rng: random.Random) -> None:
        self.number = number
        self.replies = hiredis.Reader()
        self.open: deque[list[Operation]] = deque()  # by command, as sent
        self._workload = workload
        self._rng = rng
        self._connection: Connection | None = None
        self._node = ""
        self._volley = 0
        self._scan: Scan | None = None
        self._added: dict[bytes, list[Operation]] = {}  # by set
        self._once: dict[bytes, Operation] = {}  # by counter: the last increment with a number
        self._tokens: dict[bytes, list[bytes]] = {}  # by key: contexts read, oldest first

    # What the network calls.

    def received(self, connection: Connection, data: bytes) -> None:
        if connection is not self._connection:
            return
        self.replies.feed(data)
        while self.open:
            reply = self.replies.gets()
            if reply is False:
                return
            for operation, part in _shares(self.open.popleft(), reply):
                self._answered(operation, part)
        self._workload.rest(self)

    def disconnected(self, connection: Connection, why: str) -> None:
        if connection is self._connection:
            self._abandon(why)
            self._workload.rest(self)

    def _abandon(self, why: str) -> None:
        self._connection = None
        self.replies = hiredis.Reader()
        for operations in self.open:
            for operation in operations:
                operation.outcome = "unknown"
                operation.error = why
        self.open.clear()

    # What the workload calls.

    @property
    def idle(self) -> bool:
        return not self.open

    def send(self, key: bytes | None = None) -> None:
        """A volley, of which the first command is on that key."""
        if self._rng.random() < WANDERS:
            self.leave()
        if self._connection is None and not self._reconnect():
            self._workload.rest(self)
            return
        rng = self._rng
        requests = self._page()
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            operations, request = self._draw(key if key is not None else self._workload.any_key())
            requests.append(self._in_bucket(operations, request))
            key = None if rng.random() < 0.7 else key
        self._volley += 1
        self._workload.scheduler.after(PATIENCE_MS, self._impatient, self._volley)
        assert self._connection is not None
        self._connection.send(b"".join(requests))

    def ask(self, server: Server, kind: str, key: bytes, level: str) -> Operation:
        """One command at one node, for the checks at the end of a history."""
        if self._connection is None or self._node != server.name:
            self.leave()
            self._connection, self._node = server.connect(self), server.name
        operation = self._begin(kind, key, level)
        request = _command(b"RW.AT", level.encode(), *_words(operation, b""))
        self._connection.send(self._in_bucket([operation], request))
        return operation

    def _in_bucket(self, operations: list[Operation], request: bytes) -> bytes:
        """The command, with its bucket selected before, and the default one behind; these replies are of no operation."""
        bucket = operations[0].bucket if operations[0].kind == "flush" else bucket_of(operations[0].key)
        if bucket in (0, EVERY):
            self.open.append(operations)
            return request
        self.open.extend([[], operations, []])
        return _command(b"SELECT", b"%d" % bucket) + request + _command(b"SELECT", b"0")

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._abandon("no answer in time")

    def _impatient(self, volley: int) -> None:
        if self.open and volley == self._volley and self._connection is not None:
            self.leave()
            self._workload.rest(self)

    def _reconnect(self) -> bool:
        servers = [server for server in self._workload.servers if server.up]
        if not servers:
            return False
        server = self._rng.choice(servers)
        self._connection, self._node = server.connect(self), server.name
        return True

    def _page(self) -> list[bytes]:
        """The next page of a scan, if one is under way or is begun now."""
        rng, workload, scan = self._rng, self._workload, self._scan
        if scan is None:
            if not workload.mix.scans or rng.random() >= workload.mix.scans:
                return []
            level = workload.any_level()
            count = rng.choice((1, 3, 10, 1000))
            scan = self._scan = Scan(self.number, level, LEVELS[level][0], count, workload.scheduler.now_ms)
            workload.history.scans.append(scan)
        self.open.append([self._begin("scan", b"", scan.level)])
        return [_command(b"RW.AT", scan.level.encode(), b"SCAN", b"%d" % scan.cursor, b"COUNT", b"%d" % scan.count)]

    def _scanned(self, cursor: bytes, keys: list[bytes]) -> None:
        scan = self._scan
        assert scan is not None
        scan.keys.update(keys)
        scan.cursor = int(cursor)
        if not scan.cursor:
            scan.ended_ms = self._workload.scheduler.now_ms
            self._scan = None

    def _draw(self, key: bytes) -> tuple[list[Operation], bytes]:
        rng, workload = self._rng, self._workload
        kind = workload.any_kind()
        if kind == "flush":
            flush = self._begin("flush", b"", "quorum")
            flush.bucket = rng.choice((0, OTHER, OTHER, EVERY)) if workload.mix.others else 0
            return [flush], _command(b"FLUSHALL" if flush.bucket == EVERY else b"FLUSHDB")
        level = workload.any_level()
        if kind == "get" and rng.random() < 0.2:
            keys = sorted({key, workload.any_key(), workload.any_key()})
            keys = [each for each in keys if bucket_of(each) == bucket_of(key)]
            operations = [self._begin("get", each, level) for each in keys]
            return operations, _command(b"RW.AT", level.encode(), b"MGET", *keys)
        if kind in ("incr", "once", "count"):
            key = workload.any_counter()
        if kind in ("add", "remove", "members"):
            key = workload.any_set()
        if kind == "lease":
            key = rng.choice(workload.leases)
        if kind in ("hincr", "hset", "hdel", "fields"):
            key = workload.any_hash()
        if kind in ("zincr", "zadd", "zrem", "scores"):
            key = workload.any_sorted_set()
        if kind in ("pfadd", "estimate"):
            key = rng.choice(workload.estimates)
        if kind == "once" and LEVELS[level][0] + LEVELS[level][1] <= 3:
            level = "quorum"
        operation = self._begin(kind, key, level)
        option = b"%d" % rng.randint(50, 1_000) if kind == "lease" else b""
        if kind == "set" and bucket_of(key) != BRIEF and rng.random() < 0.15:
            option = b"EX"
        elif kind == "update":
            option = rng.choice((b"GET", b"KEEPTTL")) if bucket_of(key) != BRIEF else b"GET"
        elif kind == "put":
            tokens = self._tokens.get(key, [])
            draw = rng.random()
            if tokens and draw < 0.85:  # mostly what was read last, sometimes something older: then siblings come about
                operation.context = tokens[-1] if draw < 0.55 else rng.choice(tokens)
        words = _words(operation, option)
        if level == workload.default_level and rng.random() < 0.5:
            return [operation], _command(*words)
        return [operation], _command(b"RW.AT", level.encode(), *words)

    def _begin(self, kind: str, key: bytes, level: str) -> Operation:
        r, w = LEVELS[level]
        workload = self._workload
        operations = workload.history.operations
        number = len(operations)
        operation = Operation(number, self.number, self._node, kind, key, level, r, w, workload.scheduler.now_ms)
        if kind in ("set", "update", "put", "lease"):
            operation.value = b"%s.%d" % (key, number)
        elif kind in ("incr", "hincr", "zincr"):
            operation.amount = workload.next_bit(key)
        elif kind == "once":
            self._number(operation)
        elif kind == "pfadd":
            operation.value = b"%s.%d" % (key, number)
        elif kind in ADDITIONS:
            operation.value = b"%s.%d" % (key, number)
            self._added.setdefault(key, []).append(operation)
        elif kind in REMOVALS:
            mine = [each.value for each in self._added.get(key, []) if each.outcome == "ok"]
            operation.value = self._rng.choice(mine) if mine else b"nothing"
        operations.append(operation)
        return operation

    def _number(self, operation: Operation) -> None:
        """The last one on that counter again, until it is acknowledged; then the next."""
        last = self._once.get(operation.key)
        if last is None or last.outcome == "ok":
            operation.sequence = 1 if last is None else last.sequence + 1
            operation.amount = self._workload.next_bit(operation.key)
        else:
            operation.sequence, operation.amount = last.sequence, last.amount
        self._once[operation.key] = operation

    def _answered(self, operation: Operation, reply: Any) -> None:
        operation.ended_ms = self._workload.scheduler.now_ms
        if isinstance(reply, Exception):
            operation.error = str(reply)
            operation.outcome = "unknown" if operation.error.startswith("UNKNOWN") else "refused"
            return
        operation.outcome = "ok"
        if operation.kind in ("get", "count", "estimate"):
            operation.found = reply
        elif operation.kind in ("incr", "hincr", "zincr"):
            operation.found = b"%d" % int(reply)
        elif operation.kind in ("fields", "scores"):
            shown = _map(reply)
            operation.found = shown.pop(NUMBER, None)
            operation.siblings = sorted(shown)
        elif operation.kind == "once":
            operation.found = b"%d" % _map(reply)[b"value"]
        elif operation.kind == "members":
            operation.siblings = sorted(reply)
        elif operation.kind == "update":
            operation.found = reply if isinstance(reply, bytes) and reply != b"OK" else None
        elif operation.kind == "delete":
            operation.deleted = bool(reply)
        elif operation.kind == "put":
            operation.token = read_put_reply(reply)
        elif operation.kind == "inspect":
            operation.siblings, operation.token = read_inspect_reply(reply)
        elif operation.kind == "scan":
            self._scanned(*reply)
        if operation.token:
            tokens = self._tokens.setdefault(operation.key, [])
            tokens.append(operation.token)
            del tokens[:-4]


class Workload:
    """Draws what clients do, and keeps them going until enough was asked."""

    def __init__(
        self,
        scheduler: Scheduler,
        rng: random.Random,
        mix: Mix,
        servers: Sequence[Server],
        default_level: str,
        clients: int,
        until_ms: float,
        history: History,
    ) -> None:
        self.scheduler = scheduler
        self.history = history
        self.servers = servers
        self.default_level = default_level
        self.mix = mix
        self._rng = rng
        self.counters = [mix.tag + b"n%d" % number for number in range(mix.counters)]
        self.sets = [mix.tag + b"s%d" % number for number in range(mix.sets)]
        self.leases = [mix.tag + b"l%d" % number for number in range(mix.leases)]
        self.hashes = [mix.tag + b"h%d" % number for number in range(mix.hashes)]
        self.estimates = [mix.tag + b"e%d" % number for number in range(mix.estimates)]
        self.sorted_sets = [mix.tag + b"z%d" % number for number in range(mix.sorted_sets)]
        self._bits = dict.fromkeys([*self.counters, *self.hashes, *self.sorted_sets], 0)
        self._keys = [mix.tag + b"k%d" % number for number in range(mix.keys)]
        self._keys += [b"b%d" % number for number in range(mix.others)]
        self._keys += [b"%s%d" % (initial, number) for initial in RULED for number in range(mix.policies)]
        self._until_ms = until_ms
        self._kinds = [kind for kind, _ in mix.kinds], [weight for _, weight in mix.kinds]
        self._levels = [level for level, _ in mix.levels], [weight for _, weight in mix.levels]
        self.clients = [Client(number, self, rng) for number in range(clients)]
        self._resting: set[int] = set()  # clients that have a wake-up call already
        # Volleys of 1.6 commands on average, spread over the time, stampedes included.
        volleys = mix.operations / 1.6 / clients / (1 + mix.stampede * (clients - 1) / clients)
        self._thinking_ms = (until_ms - scheduler.now_ms) / volleys * THINKING

    @property
    def keys(self) -> list[bytes]:
        """All of them, of whatever type."""
        return self._keys + self.counters + self.sets + self.hashes + self.sorted_sets + self.estimates

    def start(self) -> None:
        for client in self.clients:
            self.rest(client)

    def rest(self, client: Client) -> None:
        """The client has all its replies, or none will come: it thinks, then goes on."""
        if client.number not in self._resting and client.idle:
            self._resting.add(client.number)
            self.scheduler.after(self._rng.expovariate(1.0) * self._thinking_ms, self._wake, client)

    def any_key(self) -> bytes:
        return self._rng.choice(self._keys)

    def any_counter(self) -> bytes:
        return self._rng.choice(self.counters)

    def any_set(self) -> bytes:
        return self._rng.choice(self.sets)

    def any_hash(self) -> bytes:
        return self._rng.choice(self.hashes)

    def any_sorted_set(self) -> bytes:
        return self._rng.choice(self.sorted_sets)

    def next_bit(self, key: bytes) -> int:
        """A power of two that nobody has added to the number under this key; 0 where there is none left."""
        bit = self._bits[key]
        self._bits[key] += 1
        return 1 << bit if bit < (SCORE_BITS if key in self.sorted_sets else BITS) else 0

    def any_kind(self) -> str:
        return self._rng.choices(*self._kinds)[0]

    def any_level(self) -> str:
        return self._rng.choices(*self._levels)[0]

    def _wake(self, client: Client) -> None:
        self._resting.discard(client.number)
        if self.scheduler.now_ms >= self._until_ms:
            return
        if self._rng.random() >= self.mix.stampede:
            self._go(client, None)
            return
        key = self.any_key()
        for each in self.clients:
            self.scheduler.after(self._rng.random() * 3, self._go, each, key)

    def _go(self, client: Client, key: bytes | None) -> None:
        if client.idle:
            client.send(key)


def _words(operation: Operation, option: bytes) -> Iterator[bytes]:
    key = operation.key
    match operation.kind:
        case "get" | "count" | "estimate":
            yield from (b"GET", key)
        case "incr":
            yield from (b"INCRBY", key, b"%d" % operation.amount)
        case "add":
            yield from (b"SADD", key, operation.value)
        case "remove":
            yield from (b"SREM", key, operation.value)
        case "members":
            yield from (b"SMEMBERS", key)
        case "pfadd":
            yield from (b"PFADD", key, operation.value)
        case "hincr" | "hset" | "hdel" | "fields" | "zincr" | "zadd" | "zrem" | "scores":
            yield from _map_words(operation)
        case "once":
            yield from (b"RW.INCR", key, b"%d" % operation.amount)
            yield from (b"SESSION", b"c%d" % operation.client, b"SEQ", b"%d" % operation.sequence)
        case "lease":
            yield from (b"SET", key, operation.value, b"PX", option)
        case "expire":
            yield from (b"EXPIRE", key, FAR_S)
        case "inspect":
            yield from (b"RW.GET", key)
        case "delete":
            yield from (b"DEL", key)
        case "put":
            yield from (b"RW.PUT", key, operation.value)
            if operation.context:
                yield from (b"CONTEXT", operation.context)
        case _:
            yield from (b"SET", key, operation.value)
            if option == b"EX":
                yield from (b"EX", FAR_S)
            elif option:
                yield option


def _map_words(operation: Operation) -> Iterator[bytes]:
    """On a hash or a sorted set. Some fields and members come about by an increment."""
    key, value, amount = operation.key, operation.value, b"%d" % operation.amount
    by_increment = operation.number % 3 == 0
    match operation.kind:
        case "hincr":
            yield from (b"HINCRBY", key, NUMBER, amount)
        case "hset":
            yield from (b"HINCRBY", key, value, b"1") if by_increment else (b"HSET", key, value, b"v")
        case "hdel":
            yield from (b"HDEL", key, value)
        case "fields":
            yield from (b"HGETALL", key)
        case "zincr":
            yield from (b"ZINCRBY", key, amount, NUMBER)
        case "zadd":
            yield from (b"ZINCRBY", key, b"1", value) if by_increment else (b"ZADD", key, b"1", value)
        case "zrem":
            yield from (b"ZREM", key, value)
        case _:
            yield from (b"ZRANGE", key, b"0", b"-1", b"WITHSCORES")


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _shares(operations: list[Operation], reply: Any) -> Iterator[tuple[Operation, Any]]:
    """What a command's reply says about each of its operations."""
    if len(operations) == 1 and operations[0].kind != "get":
        yield operations[0], reply
    elif isinstance(reply, list):
        yield from zip(operations, reply, strict=True)
    else:
        yield from ((operation, reply) for operation in operations)


def _map(reply: Any) -> dict[bytes, Any]:
    """A map, as RESP2 sends it: names and values in turn."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def read_put_reply(reply: Any) -> bytes:
    """The context to go on with, where the put left no siblings."""
    context = _map(reply)[b"context"]
    return context if isinstance(context, bytes) else b""


def read_inspect_reply(reply: Any) -> tuple[list[bytes], bytes]:
    """The values of all siblings, and the context."""
    fields = _map(reply)
    return [_map(sibling)[b"value"] for sibling in fields[b"siblings"]], fields[b"context"]
