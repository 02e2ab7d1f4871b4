"""The commands that Redis has too, against a real redis-server: the same random commands, the same reply bytes.

The node is a fake one, so this is about words, arities, options and encodings. What differs on purpose is not generated, or
is listed in `ON_PURPOSE`.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest
from tests.core.forms import both_forms as both_forms
from tests.server.fake import Connection, FakeNode, request
from tests.server.map_commands import random_hash_command, random_sorted_command

COMMANDS = 4000
KEYS = [b"a", b"b", b"c", b"{a}1", b"Key", b"\xff\x00"]
VALUES = [b"", b"1", b"two words", b"\r\n", b"\xff\xfe\x00", b"x" * 5000]
# Of those that are valid as a time to live none ends within the test, however slow the machine is.
NUMBERS = [b"0", b"1000000", b"-1", b"10000000", b"+1", b"01", b"1.5", b"", b"x", b"9223372036854775807", b"9223372036854775808",
           b"92233720368547758", b"-9223372036854775808", b" 1", b"1000001"]  # fmt: skip
OPTIONS = [b"EX", b"px", b"EXAT", b"PXAT", b"KEEPTTL", b"GET", b"get", b"ZZ"]
PLACES = [
    b"0",
    b"1",
    b"-1",
    b"-2",
    b"3",
    b"-3",
    b"5000",
    b"-5000",
    b"",
    b"x",
    b"9223372036854775807",
    b"-9223372036854775808",
]
FAR = b"99999999999"  # no test lives to see it, in seconds or milliseconds

ON_PURPOSE = {
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?": b"ERR AUTH was sent, but this node has no users: connect without a password",
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "s"
    arguments = [
        program,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--databases",
        "16",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _listens(path):
            time.sleep(0.01)
        yield path
    finally:
        process.terminate()
        process.wait()


def _listens(path: Path) -> bool:
    """The path is there a moment before anybody listens on it."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class RealRedis:
    """One connection to a redis-server; replies as raw bytes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def send(self, data: bytes, replies: int) -> bytes:
        self._socket.sendall(data)
        reader = hiredis.Reader()
        output = b""
        while replies:
            chunk = self._socket.recv(1 << 20)
            assert chunk
            output += chunk
            reader.feed(chunk)
            while reader.gets() is not False:
                replies -= 1
        return output

    def close(self) -> None:
        self._socket.close()


def random_command(rng: random.Random) -> list[bytes]:
    """Sensible more often than not."""
    key, value = rng.choice(KEYS), rng.choice(VALUES)
    number = rng.choice(NUMBERS) if rng.random() < 0.5 else FAR
    kind = rng.randrange(42)
    if kind >= 40:
        return random_copy_command(rng)
    if kind == 39:
        return random_estimate_command(rng)
    if kind >= 34:
        return random_sorted_command(rng)
    if kind >= 31:
        return random_hash_command(rng)
    if kind >= 28:
        return random_set_command(rng)
    if kind >= 25:
        return random_expiry_command(rng)
    if kind >= 22:
        return random_counter_command(rng)
    if kind >= 16:
        return random_part_command(rng)
    if kind < 3:
        return [rng.choice([b"GET", b"get", b"gEt"]), key]
    if kind < 6:
        return [rng.choice([b"SET", b"set", b"Set"]), key, value]
    if kind < 9:
        command = [b"SET", key, value]
        for _ in range(rng.randint(1, 3)):
            option = rng.choice(OPTIONS)
            command.append(option)
            if option.upper() in (b"EX", b"PX", b"EXAT", b"PXAT") and rng.random() < 0.9:
                command.append(number)
        return command
    if kind < 14:
        name = rng.choice([b"MGET", b"EXISTS", b"DEL", b"MSET"])
        many = [rng.choice(KEYS) for _ in range(rng.randint(1, 4))]
        if name == b"MSET":
            many = [each for one in many for each in (one, rng.choice(VALUES))]
        return [name, *many]
    return rng.choice(
        [
            [b"PING"], [b"PING", value], [b"PING", value, value], [b"ECHO", value], [b"ECHO"], [b"GET"], [b"SET", key],
            [b"MSET", key], [b"MSET", key, value, key], [b"nonsense", b"a", b"x" * rng.randrange(300), b"b"],
            [b"NO\r\nPE"], [b"SELECT", number[:1].replace(b"x", b"0x")],
            [b"SELECT", b"0"], [b"DEL"], [b"EXISTS"], [b"MGET"], [b"CLIENT"], [b"CLIENT", b"GETNAME"],
            [b"CLIENT", b"GETNAME", key],
            [b"CLIENT", b"SETNAME", b"name"], [b"CLIENT", b"SETNAME", rng.choice(VALUES[:5])],
            [b"CLIENT", b"NO-EVICT", value], [b"CLIENT", b"NO-EVICT", b"on"], [b"CLIENT", b"nonsense"], [b"QUIET", b"x" * 300],
            [b"COMMAND", b"GETKEYS", b"MGET", b"a", b"b"], [b"COMMAND", b"GETKEYS", b"MSET", b"a", b"b"],
            [b"COMMAND", b"GETKEYS", b"nope", b"a"], [b"COMMAND", b"GETKEYS", b"ECHO", b"a"],
            [b"COMMAND", b"GETKEYS", b"GET", b"a", b"b"], [b"COMMAND", b"GETKEYS", b"DEL", b"a"],
            [b"COMMAND", b"nonsense"], [b"HELLO", b"4"], [b"HELLO", number[:0] + b"x"], [b"HELLO", b"3", b"FOO"],
            [b"AUTH", b"password"], [b"CONFIG", b"GET", b"maxmemory"], [b"CONFIG", b"GET"], [b"CLIENT", b"LIST", b"TYPE", b"x"],
        ]
    )  # fmt: skip


def random_part_command(rng: random.Random) -> list[bytes]:
    """On a part of a value, or about it."""
    key, value, place, end = rng.choice(KEYS), rng.choice(VALUES), rng.choice(PLACES), rng.choice(PLACES)
    near = rng.choice([place for place in PLACES if len(place) < 8])  # Redis would fill up to half a gigabyte
    command = rng.choice(
        [
            [b"APPEND", key, value], [b"SETRANGE", key, near, value], [b"GETRANGE", key, place, end],
            [b"SUBSTR", key, place, end], [b"STRLEN", key], [b"GETSET", key, value], [b"GETDEL", key],
            [b"SETEX", key, rng.choice([FAR, *NUMBERS]), value], [b"PSETEX", key, rng.choice([FAR, *NUMBERS]), value],
            [b"UNLINK", key, rng.choice(KEYS)], [b"TOUCH", key, key], [b"TYPE", key],
            [b"MEMORY", b"USAGE", b"absent"], [b"UNWATCH"],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


COUNTERS = [b"n", b"{n}1", b"a"]
AMOUNTS = [
    b"1",
    b"-1",
    b"10",
    b"0",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1.5",
    b"x",
    b"",
    b" 1",
    b"+1",
    b"01",
]
NUMBERS_KEPT = [b"5", b"1.5", b"-3", b"text"]
REALS = [b"0.5", b"-0.25", b"1e3", b"3", b"1.0", b"x", b"", b"nan", b" 1", b"-7.125"]


def random_counter_command(rng: random.Random) -> list[bytes]:
    key, amount = rng.choice(COUNTERS), rng.choice(AMOUNTS)
    command = rng.choice(
        [
            [b"INCR", key], [b"INCR", key], [b"DECR", key], [b"INCRBY", key, amount], [b"DECRBY", key, amount],
            [b"INCRBYFLOAT", b"f", rng.choice(REALS)], [b"INCRBY", b"f", b"3"], [b"GET", b"f"],
            [b"SET", key, rng.choice(NUMBERS_KEPT)],
            [b"GET", key], [b"DEL", key], [b"APPEND", key, b"0"], [b"STRLEN", key],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


SETS = [b"s", b"{s}1", b"{s}2", b"a"]
MEMBERS = [b"m1", b"m2", b"3", b"-4", b"", b"two words", b"\xff\x00", b"m" * 100]


def random_set_command(rng: random.Random) -> list[bytes]:
    key, target, members = rng.choice(SETS), rng.choice(SETS), rng.choices(MEMBERS, k=rng.randint(1, 4))
    others = rng.choices(SETS, k=rng.randint(0, 2))
    command = rng.choice(
        [
            [b"SADD", key, *members], [b"SADD", key, *members], [b"SADD", key, *members], [b"SREM", key, *members],
            [b"SCARD", key], [b"SISMEMBER", key, members[0]], [b"SMISMEMBER", key, *members], [b"SMOVE", key, target, members[0]],
            [b"SUNIONSTORE", target, key, *others], [b"SINTERSTORE", target, key, *others], [b"SDIFFSTORE", target, key, *others],
            [b"SINTERCARD", b"1", key], [b"SINTERCARD", b"2", key, target], [b"SINTERCARD", b"2", key, target, b"LIMIT", b"1"],
            [b"SINTERCARD", b"2", key, target, b"limit", b"0"], [b"SINTERCARD", b"0", key], [b"SINTERCARD", b"x", key],
            [b"SINTERCARD", b"3", key], [b"SINTERCARD", b"1", key, b"LIMIT"], [b"SINTERCARD", b"1", key, b"LIMIT", b"-1"],
            [b"SINTERCARD", b"1", key, b"x", b"1"], [b"SREM", key, *MEMBERS], [b"DEL", key], [b"TYPE", key], [b"EXISTS", key],
            [b"GET", key], [b"SET", key, b"1", b"GET"], [b"APPEND", key, b"x"], [b"INCR", key], [b"STRLEN", key],
            [b"GETDEL", key], [b"GETSET", key, b"2"], [b"GETEX", key, b"PERSIST"], [b"MGET", key, b"b"], [b"PERSIST", key],
            [b"EXPIRE", key, b"1000000"], [b"PEXPIREAT", key, b"1"], [b"SET", key, b"3"], [b"GETRANGE", key, b"0", b"1"],
            [b"SETRANGE", key, b"1", b"x"], [b"INCRBYFLOAT", key, b"1"],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


# Not read by other commands: Redis shows its own encoding, and a count kept from before.
ESTIMATES = [b"pf", b"{pf}1", b"{pf}2"]


def random_estimate_command(rng: random.Random) -> list[bytes]:
    key, others = rng.choice(ESTIMATES), rng.choices([*ESTIMATES, *ESTIMATES, b"a", b"s"], k=rng.randint(0, 3))
    elements = [b"%d" % rng.randrange(5000) for _ in range(rng.choice((0, 1, 3, 300)))]
    command = rng.choice(
        [
            [b"PFADD", key, *elements], [b"PFADD", key, *elements], [b"PFADD", key, *elements], [b"PFCOUNT", key],
            [b"PFCOUNT", key, *others], [b"PFCOUNT", key, *others], [b"PFMERGE", key, *others], [b"PFMERGE", key, *others],
            [b"DEL", key], [b"TYPE", key], [b"EXISTS", key], [b"SET", key, b"text"], [b"SADD", key, b"m"], [b"PERSIST", key],
            [b"EXPIRE", key, b"1000000"], [b"PEXPIREAT", key, b"1"], [b"SISMEMBER", key, b"m"], [b"SCARD", key],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


def random_copy_command(rng: random.Random) -> list[bytes]:
    source, target = rng.choices(rng.choice([[*KEYS, *COUNTERS, *SETS], ESTIMATES]), k=2)
    option = rng.choice([b"REPLACE", b"replace", b"DB", b"ZZ"])
    number = rng.choice([b"0", b"0", b"0", b"1", b"x", b"99999999999", b"99999999999999999999"])
    command = rng.choice(
        [
            [b"COPY", source, target], [b"COPY", source, target, b"REPLACE"], [b"COPY", source, target, b"DB", number],
            [b"COPY", source, target, option, number], [b"COPY", source, target, b"REPLACE", b"db", b"0"],
            [b"COPY", b"absent", target], [b"RENAME", source, target], [b"RENAME", source, target],
            [b"RENAME", b"absent", target],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


# Relative ones are told apart by more than a test takes, so that conditions have one answer.
LIFETIMES = [b"1000000", b"2000000000", b"0", b"-1", b"x", b"9223372036854775807", b"-9223372036854775808", b"1.5"]
MOMENTS = [b"99999999999999", b"99999999999", b"1", b"-5", b"x", b"9223372036854775807", b"4102444800"]


def random_expiry_command(rng: random.Random) -> list[bytes]:
    key, lifetime, moment = rng.choice([*KEYS, b"n"]), rng.choice(LIFETIMES), rng.choice(MOMENTS)
    conditions = rng.choice(
        [[], [], [b"NX"], [b"xx"], [b"GT"], [b"LT"], [b"NX", b"XX"], [b"GT", b"LT"], [b"XX", b"GT"], [b"ZZ"]]
    )
    relative = [] if b"GT" in conditions or b"LT" in conditions else conditions
    command = rng.choice(
        [
            [b"EXPIRE", key, lifetime, *relative], [b"PEXPIRE", key, lifetime, *relative],
            [b"EXPIREAT", key, moment, *conditions], [b"PEXPIREAT", key, moment, *conditions], [b"PERSIST", key],
            [b"GETEX", key], [b"GETEX", key, b"PERSIST"], [b"GETEX", key, b"EX", b"1000000"],
            [b"GETEX", key, rng.choice([b"EX", b"PX", b"EXAT", b"PXAT", b"ZZ", b"PERSIST"]), rng.choice([FAR, *NUMBERS])],
        ]
    )  # fmt: skip
    return command[: rng.randint(1, len(command))] if rng.random() < 0.05 else command


def random_batch(rng: random.Random) -> list[list[bytes]]:
    """MULTI, commands, EXEC or DISCARD; now and then what does not belong there."""
    commands = [[b"MULTI"]]
    for _ in range(rng.randint(0, 6)):
        choice = rng.random()
        if choice < 0.05:
            commands.append(rng.choice([[b"MULTI"], [b"nonsense", b"a"], [b"GET"], [b"WATCH", b"a"]]))
        elif choice < 0.4:
            commands.append(random_part_command(rng))
        else:
            name = rng.choice([b"GET", b"SET", b"DEL", b"MGET", b"EXISTS"])
            commands.append([name, rng.choice(KEYS), *([rng.choice(VALUES)] if name == b"SET" else [])])
    return [*commands, rng.choice([[b"EXEC"], [b"EXEC"], [b"EXEC"], [b"DISCARD"], [b"EXEC", b"a"]])]


def test_the_same_batches_as_redis(redis: Path) -> None:
    rng = random.Random(5)
    for delay in (False, True):
        node = FakeNode(delay=delay)
        node.now.wall_ms = time.time_ns() // 1_000_000
        ours, theirs = Connection(node), RealRedis(redis)
        theirs.send(request("FLUSHALL"), 1)
        for _ in range(COMMANDS // 10):
            commands = [command for _ in range(rng.randint(1, 3)) for command in random_batch(rng)]
            commands += [[b"DISCARD"], [b"EXEC"], [b"GET", rng.choice(KEYS)]]
            data = b"".join(request(*command) for command in commands)
            expected = theirs.send(data, len(commands))
            assert ours.send(data) + ours.finish() == expected, commands
        theirs.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_same_replies_as_redis(redis: Path, protocol: int) -> None:
    rng = random.Random(protocol)
    node = FakeNode()
    node.now.wall_ms = time.time_ns() // 1_000_000
    ours, theirs = Connection(node), RealRedis(redis)
    hello = request("HELLO", str(protocol))
    ours.send(hello)
    theirs.send(hello + request("FLUSHALL"), 2)
    for _ in range(COMMANDS):
        command = random_command(rng)
        expected = theirs.send(request(*command), 1)
        expected = b"-" + ON_PURPOSE.get(expected[1:-2], expected[1:-2]) + b"\r\n" if expected[:1] == b"-" else expected
        assert ours.run(*command) == expected, command
    theirs.close()


def test_the_same_replies_as_redis_in_pipelines(redis: Path) -> None:
    rng = random.Random(4)
    node = FakeNode(delay=True)
    node.now.wall_ms = time.time_ns() // 1_000_000
    ours, theirs = Connection(node), RealRedis(redis)
    theirs.send(request("FLUSHALL"), 1)
    for _ in range(COMMANDS // 10):
        commands = [random_command(rng) for _ in range(rng.randint(1, 20))]
        data = b"".join(request(*command) for command in commands)
        expected = theirs.send(data, len(commands))
        for theirs_, ours_ in ON_PURPOSE.items():
            expected = expected.replace(b"-" + theirs_ + b"\r\n", b"-" + ours_ + b"\r\n")
        assert ours.send(data) + ours.finish() == expected, commands
    theirs.close()


@pytest.mark.parametrize(
    "data",
    [
        b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"GET 'a\r\n", b"PING 'a'b\r\n",
        b"*2147483648\r\n", b"*1\r\n$600000000\r\n", b"x" * 70000,
    ],
)  # fmt: skip
def test_the_same_protocol_errors_as_redis(redis: Path, data: bytes) -> None:
    ours, theirs = Connection(FakeNode()), RealRedis(redis)
    assert ours.send(b"PING\r\n" + data) == b"+PONG\r\n" + theirs.send(b"PING\r\n" + data, 2).removeprefix(b"+PONG\r\n")
    assert ours.is_closed
    theirs.close()


@pytest.mark.parametrize(
    "line", [b"PING\r\n", b"\r\n\r\nSET k 'a b'\nGET k\n", b'SET k "\\x41\\n"\r\nget k\r\n', b"EXISTS  k\tk\r\n"]
)
def test_the_same_inline_commands_as_redis(redis: Path, line: bytes) -> None:
    ours, theirs = Connection(FakeNode()), RealRedis(redis)
    theirs.send(b"FLUSHALL\r\n", 1)
    expected = theirs.send(line, len(line.strip().split(b"\n")))
    assert ours.send(line) == expected
    theirs.close()
