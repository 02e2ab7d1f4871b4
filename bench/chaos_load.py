"""Client processes for bench.chaos: redis-py, unmodified, a few threads each, every thread with a connection and keys of its own.

A key has one writer, which sends one command at a time. So it knows what a read may answer: the last value acknowledged, or
one whose outcome was told as unknown since. What was refused (NOQUORUM, say) was not applied, and must not be seen either.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Role = Literal["plain", "rmw", "victim"]
Kind = Literal["read", "write", "rmw"]  # GET, RW.GET; SET, DEL; APPEND, RW.PUT

HEALTHY_TIMEOUT_S = 30.0
VICTIM_TIMEOUT_S = 2.0
PAUSE_S = 0.05  # after an error of the node that fails: a client would pause, too
UNCONNECTED = "unconnected"
BEHIND_S_MAX = 0.5  # a thread that is further behind its rate does not catch up
HOT_KEYS = 8
RECENT_KEYS = 32
APPENDS_PER_KEY = 10
THREADS: dict[Role, int] = {"plain": 4, "rmw": 4, "victim": 2}
_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Key:
    """What its only writer knows of a key."""

    appended: bool = False  # then values are tokens with a comma after each
    acknowledged: str | None = None
    unknown: list[str | None] = field(default_factory=list)
    written_s: float = 0.0  # begin of the last write that was not refused

    def allows(self, found: str | None) -> bool:
        if not self.appended:
            return found == self.acknowledged or found in self.unknown
        tokens = (found or "").split(",")[:-1]
        certain = [token + "," for token in tokens if token + "," not in self.unknown]
        return "".join(certain) == (self.acknowledged or "") and len(set(tokens)) == len(tokens)

    def acknowledge(self, value: str | None, began_s: float) -> None:
        self.written_s = began_s
        if self.appended:
            self.acknowledged = (self.acknowledged or "") + (value or "")
        else:
            self.acknowledged = value
            self.unknown.clear()  # what is acknowledged later is newer, whatever becomes of them

    def doubt(self, value: str | None, began_s: float) -> None:
        self.written_s = began_s
        self.unknown.append(value)


@dataclass(frozen=True)
class Operation:
    began_s: float  # time.monotonic, which all processes of a machine share
    seconds: float
    kind: Kind
    error: str  # UNKNOWN, NOQUORUM, TimeoutError, ...; "" where it was answered


@dataclass
class Story:
    """What the threads of one process did and saw."""

    role: Role
    keys: dict[str, Key] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # reads that do not show what was acknowledged
    errors: list[str] = field(default_factory=list)  # the first text of each kind and code


class Thread:
    """One connection and its keys."""

    def __init__(self, story: Story, port: int, name: str, rate: float, count: Callable[[], None]) -> None:
        self._story = story
        self._victim = story.role == "victim"
        self._name = name
        self._interval_s = 1 / rate
        self._count = count
        self._rng = random.Random(name)
        self._number = 0
        self._generation = 0
        self._recent: list[str] = []
        self._client = redis.Redis(
            port=port,
            socket_timeout=VICTIM_TIMEOUT_S if self._victim else HEALTHY_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=3,
            decode_responses=True,
        )

    def run(self, stop: threading.Event, generation: Callable[[], int], appends: bool) -> None:
        """Until told to stop; keys of an earlier generation are left alone, even by reads, which would repair them."""
        due_s = time.monotonic()
        while not stop.is_set():
            if generation() != self._generation:
                self._generation = generation()
                self._recent.clear()
            if self._story.role != "rmw":
                self._plain()
            elif appends:
                self._append()
            else:
                self._replace()
            due_s = max(due_s + self._interval_s, time.monotonic() - BEHIND_S_MAX)
            time.sleep(max(0.0, due_s - time.monotonic()))
        self._client.close()

    def _plain(self) -> None:
        chance = self._rng.random()
        if chance < 0.35 and self._recent:
            self._read(self._rng.choice(self._recent))
        elif chance < 0.45 and self._recent:
            key = self._rng.choice(self._recent)
            self._write("write", key, None, "DEL", key)
        else:
            hot = chance > 0.85
            key = self._key("hot", self._rng.randrange(HOT_KEYS)) if hot else self._key("new", self._number)
            value = self._value()
            self._write("write", key, value, "SET", key, value)
            self._remember(key)

    def _append(self) -> None:
        key, token = self._key("appended", self._number // APPENDS_PER_KEY), self._value() + ","
        self._note(key).appended = True
        self._write("rmw", key, token, "APPEND", key, token)
        if not self._number % APPENDS_PER_KEY:
            self._read(key)

    def _replace(self) -> None:
        """Read with context, replaced with it: as a client with data of its own to merge does."""
        hot = self._rng.random() < 0.5
        key = self._key("hot", self._rng.randrange(HOT_KEYS)) if hot else self._key("put", self._number)
        reply = self._ask("read", "RW.GET", key)
        if reply is None:
            return
        found = [sibling["value"] for sibling in reply["siblings"]]
        if len(found) > 1 or not self._note(key).allows(found[0] if found else None):
            self._wrong(key, found)
        value = self._value()
        self._write("rmw", key, value, "RW.PUT", key, value, "CONTEXT", reply["context"])

    def _read(self, key: str) -> None:
        failed = len(self._story.operations)
        found = self._ask("read", "GET", key)
        if not self._story.operations[failed].error and not self._note(key).allows(found):
            self._wrong(key, found)

    def _write(self, kind: Kind, key: str, value: str | None, *words: str) -> None:
        note, began_s = self._note(key), time.monotonic()
        error = self._ask_noted(kind, *words)[1]
        if not error:
            note.acknowledge(value, began_s)
        elif error == "UNKNOWN" or error.endswith("Error"):
            note.doubt(value, began_s)

    def _ask(self, kind: Kind, *words: str) -> Any:
        return self._ask_noted(kind, *words)[0]

    def _ask_noted(self, kind: Kind, *words: str) -> tuple[Any, str]:
        began_s = time.monotonic()
        reply, code, text = None, "", ""
        try:
            reply = self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            text = str(error)
            code = text.split(" ", 1)[0]
        except redis.RedisError as error:
            text = str(error)
            # ConnectionError, TimeoutError: it may have been applied; but not where no connection could be made.
            code = UNCONNECTED if " connecting to " in text else type(error).__name__
        ended_s = time.monotonic()
        story = self._story
        story.operations.append(Operation(began_s, ended_s - began_s, kind, code))
        if not code:
            self._count()
        else:
            told = f"{words[0]}: {code}: {text}"
            if sum(f"{words[0]}: {code}: " in each for each in story.errors) < 3:
                story.errors.append(told)
            if self._victim:
                time.sleep(PAUSE_S)
        return reply, code

    def _wrong(self, key: str, found: object) -> None:
        note = self._note(key)
        self._story.wrong.append(f"{key}: {found!r}, written {note.acknowledged!r}, perhaps {note.unknown!r}")

    def _value(self) -> str:
        self._number += 1
        return f"{self._name}.{self._number}"

    def _key(self, what: str, number: int) -> str:
        return f"{self._name}:{self._generation}:{what}:{number}"

    def _note(self, key: str) -> Key:
        return self._story.keys.setdefault(key, Key())

    def _remember(self, key: str) -> None:
        if key not in self._recent:
            self._recent = [*self._recent[-RECENT_KEYS + 1 :], key]


def _serve(channel: Connection, counter: Any, role: Role, port: int, rate: float) -> None:
    """The process: runs its threads, and answers the parent until that says stop, or is gone."""
    stories = [Story(role) for _ in range(THREADS[role])]  # one a thread: nothing is shared but the count
    stop = threading.Event()
    generation = 0

    def count() -> None:
        with counter.get_lock():
            counter.value += 1

    threads = []
    for number, story in enumerate(stories):
        client = Thread(story, port, f"{role}{number}", rate / len(stories), count)
        threads.append(threading.Thread(target=client.run, args=(stop, lambda: generation, number % 2 == 0)))
        threads[-1].start()
    try:
        with contextlib.suppress(EOFError):
            while (since_s := channel.recv()) is not None:
                generation += 1
                noted = [pair for story in stories for pair in list(story.keys.items())]
                channel.send([key for key, note in noted if note.written_s >= since_s])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    whole = Story(role)
    for story in stories:
        whole.keys |= story.keys
        whole.operations += story.operations
        whole.wrong += story.wrong
        whole.errors += story.errors
    channel.send(whole)


class Load:
    """A client process, seen from the one that started it."""

    def __init__(self, role: Role, port: int, rate: float) -> None:
        self.role = role
        self._counter = _SPAWN.Value("Q", 0)
        self._channel, other = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(other, self._counter, role, port, rate), daemon=True)
        self._process.start()
        other.close()

    def answered(self) -> int:
        """Operations answered without an error so far."""
        return int(self._counter.value)

    def written_since(self, since_s: float) -> list[str]:
        """Keys written since then; from now on the process leaves them alone."""
        self._channel.send(since_s)
        keys: list[str] = self._channel.recv()
        return keys

    def stop(self) -> Story:
        self._channel.send(None)
        story: Story = self._channel.recv()
        self._process.join()
        return story

    def abandon(self) -> None:
        """However the scenario ended."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
