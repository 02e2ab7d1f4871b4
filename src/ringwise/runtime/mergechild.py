"""The process in which merge functions run (runtime/merging.py): a question on stdin, its answer on stdout, until stdin ends.

What a function prints goes to stderr, so that it cannot be taken for an answer. Whoever asks ends this process where it is late;
an alarm does, should that one be dead.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import msgspec

GROUP = "ringwise.merge"
MEMORY_BYTES_MAX = 1 << 30
ALARM_S = 10.0


def main() -> None:
    """Answers questions, one after another."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, meant for the node
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    loaded: dict[str, Callable[[list[bytes]], bytes]] = {}
    while head := questions.read(4):
        kind, name, values = msgspec.msgpack.decode(questions.read(int.from_bytes(head, "big")))
        signal.setitimer(signal.ITIMER_REAL, ALARM_S)
        try:
            if kind == "load":
                loaded[name] = _load(name)
                answer = True, b""
            else:
                answer = True, _bytes(loaded[name](values))
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace")
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        body = msgspec.msgpack.encode(answer)
        data = memoryview(len(body).to_bytes(4, "big") + body)
        while data:
            data = data[answers.write(data) or 0 :]


def _load(name: str) -> Callable[[list[bytes]], bytes]:
    for found in entry_points(group=GROUP, name=name):
        function = found.load()
        assert callable(function), f"the entry point {name} is no function"
        return function  # type: ignore[no-any-return]
    raise LookupError(f"no installed package has an entry point {name} in group {GROUP}")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise TypeError(f"it returned {type(value).__name__}, not bytes")


if __name__ == "__main__":
    main()
