"""Replies of real nodes beside those of a real redis-server: the same random commands, the same bytes.

    .venv/bin/python -m tests.server.compare_replies --commands 100000 --nodes 1 3 --protocols 2 3

Each pipeline goes to one of the nodes, chosen at random, and to the connection of the redis-server that belongs to it. Where the
replies are not equal the difference must be one of `DIFFERENCES`, each with its reason; test_differences.py has a test for each.
Ends with 1 at the first reply that is neither.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import hiredis
from tests.cluster.conftest import Cluster
from tests.server.fake import request
from tests.server.map_commands import random_unordered_hash_command, random_unordered_sorted_command
from tests.server.test_differential import (
    KEYS,
    NUMBERS,
    ON_PURPOSE,
    SETS,
    random_batch,
    random_command,
)

Arguments = list[bytes]


@dataclass(frozen=True)
class Difference:
    """A command that is answered differently on purpose. `sent` false: Redis would change something, so it is not sent there."""

    why: str
    command: tuple[bytes, ...]
    ours: bytes  # how the reply begins; b"" for any of the kind that Redis answers with
    theirs: bytes = b""
    sent: bool = True


LONG_KEY = b"k" * 257
LONG_VALUE = b"v" * (1024 * 1024 + 1)
LINEARIZABLE = "it needs linearizable keys: concurrent writers must be told apart"
OWN = "it describes this node, and every server has its own"
LIMITS = "keys have 1 to 256 bytes, values at most 1 MiB"

DIFFERENCES = (
    Difference(
        "buckets have names, too", (b"SELECT", b"sessions"), b"-NOBUCKET there is no bucket", b"-ERR value is not an integer"
    ),
    Difference("there are no users", (b"AUTH", b"password"), b"-ERR AUTH was sent, but", b"-ERR AUTH <password> called"),
    Difference("a value is kept as it came", (b"OBJECT", b"ENCODING", b"a"), b"$3\r\nraw"),
    Difference("no value is shared by keys", (b"OBJECT", b"REFCOUNT", b"a"), b":1\r\n"),
    Difference("uses are not noted", (b"OBJECT", b"IDLETIME", b"a"), b"-ERR no node notes", b":"),
    Difference("uses are not counted", (b"OBJECT", b"FREQ", b"a"), b"-ERR no node counts", b"-ERR An LFU"),
    Difference("records carry clocks", (b"MEMORY", b"USAGE", b"a"), b":", b":"),
    Difference(LINEARIZABLE, (b"SET", b"a", b"1", b"NX"), b"-ERR SET with NX or XX needs", sent=False),
    Difference(LINEARIZABLE, (b"SET", b"a", b"1", b"XX", b"EX", b"1000000"), b"-ERR SET with NX or XX needs", sent=False),
    Difference(LINEARIZABLE, (b"SETNX", b"a", b"1"), b"-ERR SETNX is not served yet", sent=False),
    Difference(LINEARIZABLE, (b"MSETNX", b"a", b"1"), b"-ERR MSETNX is not served yet", sent=False),
    Difference(LINEARIZABLE, (b"WATCH", b"a"), b"-ERR WATCH is not served", sent=False),
    Difference(LIMITS, (b"SET", b"", b"1"), b"-ERR the key is empty", sent=False),
    Difference(LIMITS, (b"GET", LONG_KEY), b"-ERR the key has 257 bytes, the limit is 256"),
    Difference(LIMITS, (b"SET", b"a", LONG_VALUE), b"-ERR the value has 1048577 bytes, the limit is 1048576", sent=False),
    Difference(LIMITS, (b"SETRANGE", b"absent", b"1048576", b"x"), b"-ERR the value has 1048577 bytes", sent=False),
    Difference("it comes later", (b"SETNX", b"absent", b"m"), b"-ERR SETNX is not served yet: it comes", sent=False),
    Difference("decimal sums are exact", (b"INCRBYFLOAT", b"big", b"123456789012345678901.5"), b"$", b"$"),
    Difference("scores are written as Redis 7.2 writes them", (b"ZINCRBY", b"tenths", b"0.1", b"m"), b""),
    Difference(LINEARIZABLE, (b"HSETNX", b"h", b"f", b"1"),
               b"-ERR HSETNX is not served yet", sent=False),
    Difference("it needs one order", (b"LPUSH", b"list", b"1"), b"-ERR LPUSH is not served: it needs", sent=False),
    Difference("it needs one node", (b"EVAL", b"return 1", b"0"), b"-ERR EVAL is not served: it needs", sent=False),
    Difference(
        "keys are not tracked", (b"CLIENT", b"TRACKING", b"on"), b"-ERR client-side caching is not served", sent=False
    ),
    Difference("every command is answered", (b"CLIENT", b"REPLY", b"OFF"), b"-ERR CLIENT REPLY OFF", sent=False),
    Difference("settings belong to the start", (b"CONFIG", b"SET", b"port", b"1"), b"-ERR CONFIG SET failed", sent=False),
    Difference("nothing is kept", (b"CONFIG", b"REWRITE"), b"-ERR CONFIG REWRITE is not served", b"-ERR"),
    *(
        Difference(OWN, tuple(line.split()), b"")
        for line in (
            b"INFO", b"INFO server", b"TIME", b"LOLWUT", b"CLIENT ID", b"CLIENT INFO", b"CLIENT LIST", b"COMMAND COUNT",
            b"COMMAND LIST", b"COMMAND INFO get", b"COMMAND DOCS get", b"CONFIG GET port", b"CLIENT HELP", b"CONFIG HELP",
            b"OBJECT HELP", b"MEMORY HELP", b"COMMAND HELP",
        )
    ),
)  # fmt: skip

# Beside what test_differential.py sends to nodes of its own.
ALIKE = [
    line.split()
    for line in (
        b"ROLE", b"ASKINGX", b"TIME x", b"ROLE x", b"CONFIG RESETSTAT", b"CONFIG SET", b"CONFIG SET nonsense 1",
        b"CONFIG SET maxmemory", b"CONFIG SET maxmemory 0", b"CLIENT KILL ID 999999999", b"CLIENT KILL ID 0",
        b"CLIENT KILL ID x", b"CLIENT KILL 1.2.3.4:5", b"CLIENT KILL TYPE x", b"CLIENT KILL TYPE pubsub", b"CLIENT KILL",
        b"CLIENT KILL ADDR 1.2.3.4:5", b"CLIENT UNPAUSE", b"CLIENT REPLY ON", b"CLIENT REPLY x", b"CLIENT GETREDIR",
        b"CLIENT TRACKING off", b"CLIENT TRACKING x", b"CLIENT NO-EVICT off", b"CLIENT TRACKINGINFO", b"DBSIZE", b"DBSIZE x",
        b"COMMAND LIST FILTERBY MODULE x", b"COMMAND LIST x", b"OBJECT", b"OBJECT x", b"OBJECT ENCODING", b"MEMORY",
        b"OBJECT ENCODING absent", b"OBJECT REFCOUNT absent", b"MEMORY USAGE absent SAMPLES 3", b"MEMORY USAGE a SAMPLES x",
        b"MEMORY USAGE a b", b"EXEC", b"DISCARD", b"UNWATCH", b"UNWATCH x", b"KEYS", b"KEYS nothing*", b"KEYS *", b"KEYS {a}1",
        b"SCAN x", b"SCAN 0 COUNT 0", b"SCAN 0 MATCH", b"SCAN 0 COUNT x", b"SCAN", b"RANDOMKEY x", b"WAIT x 0", b"WAIT 0 -1",
        b"WAIT 0 x", b"WAIT", b"RESETX", b"QUITX", b"LOLWUT VERSION x", b"CLIENT ID x", b"CLIENT SETNAME", b"INFO nothing",
        b"HELLO 1", b"HELLO 3 SETNAME", b"HELLO 3 AUTH a", b"FLUSHDB", b"FLUSHALL", b"FLUSHDB ASYNC", b"FLUSHALL sync",
        b"FLUSHDB x", b"FLUSHALL x", b"SCAN 0 COUNT 900", b"SCAN 0 COUNT 900 MATCH a*", b"SCAN 0 COUNT 900 TYPE hash",
        b"RANDOMKEY",
    )
]  # fmt: skip


TIMES = [b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]


@dataclass(frozen=True)
class Step:
    command: Arguments
    difference: Difference | None = None

    def to_redis(self) -> Arguments:
        return self.command if self.difference is None or self.difference.sent else [b"PING"]


def random_steps(rng: random.Random) -> list[Step]:
    """A pipeline: commands of every kind, or a batch."""
    if rng.random() < 0.15:
        return [Step(command) for command in [*random_batch(rng), [b"DISCARD"]]]
    return [_random_step(rng) for _ in range(rng.choice((1, 1, 5, 20, 50)))]


def _random_step(rng: random.Random) -> Step:
    chance = rng.random()
    if chance < 0.07:
        difference = rng.choice(DIFFERENCES)
        if len(b"".join(difference.command)) > 10_000 and rng.random() < 0.98:
            return Step([b"PING"])  # a megabyte now and then is enough
        return Step(list(difference.command), difference)
    if chance < 0.17:
        return Step(rng.choice(ALIKE))
    if chance < 0.19:  # anything at all
        name = rng.choice([b"GET", b"SET", b"MSET", b"APPEND", b"CLIENT", b"OBJECT", b"GETRANGE", b"TYPE", b"x"])
        return Step([name, *rng.choices([*KEYS, *(number for number in NUMBERS if number)], k=rng.randint(0, 4))])
    if chance < 0.24:
        return Step(random_unordered_set_command(rng))
    if chance < 0.27:
        return Step([rng.choice(TIMES), rng.choice([*KEYS, b"n", b"h", b"z"])])
    if chance < 0.32:
        return Step(rng.choice([random_unordered_hash_command, random_unordered_sorted_command])(rng))
    return Step(random_command(rng))


def random_unordered_set_command(rng: random.Random) -> Arguments:
    """What two servers answer in different orders, or by chance."""
    key, others = rng.choice(SETS), rng.choices(SETS, k=rng.randint(0, 2))
    return rng.choice(
        [
            [b"SMEMBERS", key], [b"SUNION", key, *others], [b"SINTER", key, *others], [b"SDIFF", key, *others],
            [b"SSCAN", key, b"0", b"COUNT", b"1000"], [b"SSCAN", key, b"0", b"COUNT", b"1000", b"MATCH", b"m*"],
            [b"SSCAN", key, b"x"], [b"SSCAN", key, b"0", b"COUNT", b"0"], [b"SSCAN", key, b"0", b"x"],
            [b"SRANDMEMBER", key, b"0"], [b"SRANDMEMBER", key, b"100"], [b"SRANDMEMBER", key, b"-7"],
            [b"SRANDMEMBER", key, b"x"], [b"SRANDMEMBER", key, b"1", b"1"], [b"SRANDMEMBER", b"absent"],
            [b"SPOP", b"absent"], [b"SPOP", b"absent", b"3"], [b"SPOP", key, b"-1"], [b"SPOP", key, b"x"], [b"SPOP", key, b"0"],
        ]
    )  # fmt: skip


class Peer:
    """A connection to a node or a redis-server: a pipeline out, its replies back, each as bytes."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self._socket.settimeout(30)
        self._socket.connect(address)

    def send(self, commands: list[Arguments]) -> list[bytes]:
        self._socket.sendall(b"".join(request(*command) for command in commands))
        reader, data, got = hiredis.Reader(), b"", 0
        while got < len(commands):
            chunk = self._socket.recv(1 << 20)
            assert chunk, f"closed after {commands}"
            data += chunk
            reader.feed(chunk)
            while reader.gets() is not False:
                got += 1
        return list(split_replies(data))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def split_replies(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = _end_of_reply(data, at)
        yield data[at:end]
        at = end


def _end_of_reply(data: bytes, at: int) -> int:
    kind, end = data[at : at + 1], data.index(b"\r\n", at) + 2
    if kind in b"$=":
        length = int(data[at + 1 : end - 2])
        return end if length < 0 else end + length + 2
    if kind in b"*~%>":
        for _ in range(max(0, int(data[at + 1 : end - 2])) * (2 if kind == b"%" else 1)):
            end = _end_of_reply(data, end)
    return end


def explained(step: Step, ours: bytes, theirs: bytes) -> bool:
    """Whether replies that are not equal differ as they are meant to."""
    difference = step.difference
    if difference is not None:
        if not difference.sent:
            return ours.startswith(difference.ours)
        # Of what describes a server, the kind is compared: bulk and verbatim strings are both text, arrays and sets lists.
        alike = {b"=": b"$", b"~": b"*"}
        kinds = [alike.get(reply[:1], reply[:1]) for reply in (ours, theirs)]
        absent = theirs[:1] == b"_" or theirs == b"$-1\r\n" or theirs.startswith(b"-ERR no such key")
        if step.command[0] == b"MEMORY" and ours in (b"_\r\n", b"$-1\r\n"):
            return True  # Redis weighs what has expired until it is removed
        if not difference.ours:
            return kinds[0] == kinds[1]
        return ours.startswith(difference.ours) and (theirs.startswith(difference.theirs) or absent)
    expected = ON_PURPOSE.get(theirs[1:-2])
    if theirs[:1] == b"-" and expected is not None:
        return ours == b"-" + expected + b"\r\n"
    name = step.command[0].upper()
    if ours.startswith(b"-ERR unknown subcommand"):
        return theirs.startswith(b"-ERR unknown subcommand")
    if ours.startswith(b"-ERR unknown command"):  # bytes that are no text are shown as such, not passed on
        return theirs.startswith(b"-ERR unknown command")
    if (
        name == b"DBSIZE"
    ):  # Redis counts what has expired until it is removed; KEYS *, which does not, is compared as well
        return ours[:1] == theirs[:1] == b":" and int(ours[1:]) < int(theirs[1:])
    if name in TIMES:  # a lifetime began when the command came
        some_ms = 10_000 if name.startswith(b"P") else 10
        positive = ours[:1] == theirs[:1] == b":" and ours[1:2] != b"-" != theirs[1:2]
        return positive and abs(int(ours[1:]) - int(theirs[1:])) <= some_ms
    if name == b"RANDOMKEY":  # any will do
        return ours[:1] == theirs[:1] == b"$" and b"$-1\r\n" not in (ours, theirs)
    if name == b"SCAN":  # one page has all keys
        page = b"*2\r\n$1\r\n0\r\n"
        return ours.startswith(page) and _elements(ours.removeprefix(page)) == _elements(theirs.removeprefix(page))
    if name in (b"SSCAN", b"HSCAN", b"ZSCAN"):  # one page has all members
        page = b"*2\r\n$1\r\n0\r\n"
        ours, theirs = ours.removeprefix(page), theirs.removeprefix(page)
        return ours[:1] == theirs[:1] == b"*" and _grouped(ours, 1 + (name != b"SSCAN")) == _grouped(
            theirs, 1 + (name != b"SSCAN")
        )
    if name in (b"KEYS", b"SMEMBERS", b"SUNION", b"SINTER", b"SDIFF", b"HKEYS", b"HVALS"):
        return ours[:1] == theirs[:1] and _elements(ours) == _elements(theirs)
    if name == b"HGETALL":
        return ours[:1] == theirs[:1] and _grouped(ours, 2) == _grouped(theirs, 2)
    if name in (b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER"):  # by chance: as many, of those that there are
        return ours[:1] == theirs[:1] and len(_elements(ours)) == len(_elements(theirs))
    return False


def _grouped(array: bytes, size: int) -> list[list[bytes]]:
    """Names with what belongs to them, in any order."""
    parts = list(split_replies(array.partition(b"\r\n")[2]))
    return sorted(parts[at : at + size] for at in range(0, len(parts), size))


def _elements(array: bytes) -> list[bytes]:
    """In any order."""
    return sorted(split_replies(array.partition(b"\r\n")[2]))


def compare(
    nodes: list[Peer], redis: list[Peer], rng: random.Random, commands: int, counted: Counter[str]
) -> list[tuple[Step, bytes, bytes]]:
    """Sends at least so many commands; what nobody has explained."""
    sent = 0
    wrong: list[tuple[Step, bytes, bytes]] = []
    while sent < commands and not wrong:
        steps = random_steps(rng)
        which = rng.randrange(len(nodes))
        ours = nodes[which].send([step.command for step in steps])
        theirs = redis[which].send([step.to_redis() for step in steps])
        assert len(ours) == len(theirs) == len(steps)
        for step, mine, other in zip(steps, ours, theirs, strict=True):
            counted[step.command[0].upper().decode("latin-1")[:20]] += 1
            if mine != other and not explained(step, mine, other):
                wrong.append((step, mine, other))
        sent += len(steps)
    return wrong


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    path = directory / "s"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--databases", "16", "--dir", str(directory)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not path.exists():
            time.sleep(0.01)
        yield str(path)
    finally:
        process.terminate()
        process.wait()


def run(
    count: int, protocol: int, commands: int, seed: int
) -> tuple[int, Counter[str], list[tuple[Step, bytes, bytes]]]:
    """One comparison, on a new cluster of so many nodes; how many commands it took."""
    counted: Counter[str] = Counter()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringwise-")))
        path = stack.enter_context(redis_server(directory))
        cluster = Cluster(directory, nodes=count)
        stack.callback(cluster.abandon)
        cluster.start()
        nodes = [Peer(("127.0.0.1", cluster.port + number)) for number in range(count)]
        redis = [Peer(path) for _ in nodes]
        for peer in (*nodes, *redis):
            stack.callback(peer.close)
            peer.send([[b"HELLO", b"%d" % protocol]])
        wrong = compare(nodes, redis, random.Random(seed), commands, counted)
    return counted.total(), counted, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commands", type=int, default=100_000, help="of each comparison")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--protocols", type=int, nargs="+", default=[2, 3], choices=(2, 3))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for count in options.nodes:
        for protocol in options.protocols:
            started = time.monotonic()
            total, counted, wrong = run(count, protocol, options.commands, options.seed)
            took_s = time.monotonic() - started
            print(
                f"{count} nodes, RESP{protocol}: {total} commands, {len(counted)} names, {len(wrong)} unexplained, {took_s:.0f} s"
            )
            for step, mine, other in wrong[:10]:
                print(
                    f"  {[each[:60] for each in step.command]}\n    ours   {mine[:200]!r}\n    theirs {other[:200]!r}"
                )
            if wrong:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
