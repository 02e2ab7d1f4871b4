"""Merge functions run in a process of their own, with a deadline: one that loops, crashes or eats memory ends that process only.

    loop ─ run(name, values) ─▶ thread ─ length, msgpack ─▶ python -m ringwise.runtime.mergechild ─▶ value
                                   └ nothing after 50 ms ─▶ killed, and started anew for the next one

Functions come from installed packages, as entry points of the group `ringwise.merge`: `Callable[[list[bytes]], bytes]`, called
with the siblings' values, oldest first. To load one may take longer than to run it, so that has a deadline of its own.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points

import msgspec

from ringwise.runtime.mergechild import GROUP
from ringwise.runtime.worker import ThreadWorker

DEADLINE_S = 0.050
LOAD_S = 5.0  # imports, the interpreter's own start included
ANSWER_BYTES_MAX = 64 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[bool, bytes])


class MergeFailed(Exception):
    """Why there is no merged value."""


def functions() -> list[str]:
    """The names of those that are installed."""
    return sorted({found.name for found in entry_points(group=GROUP)})


class MergeProcess:
    """The process, started when it is needed. Blocks; for one thread."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()

    def merge(self, name: str, values: Sequence[bytes]) -> bytes:
        """The function's value; raises MergeFailed."""
        if name not in self._loaded:
            self._ask(["load", name, []], LOAD_S, "to load")
            self._loaded.add(name)
        return self._ask(["merge", name, list(values)], self._deadline_s, "to merge")

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        self._loaded.clear()
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            process.wait()

    def _ask(self, question: list[object], deadline_s: float, what: str) -> bytes:
        try:
            if self._process is None:
                command = [sys.executable, "-m", "ringwise.runtime.mergechild"]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            done, answer = self._exchange(self._process, _encoder.encode(question), deadline_s)
        except TimeoutError as error:
            self.close()
            raise MergeFailed(f"it took longer than {deadline_s * 1000:.0f} ms {what}, and was ended") from error
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.close()
            raise MergeFailed(f"its process has ended: {error}") from error
        if done:
            return answer
        raise MergeFailed(answer.decode("utf-8", "replace"))

    def _exchange(self, process: subprocess.Popen[bytes], body: bytes, deadline_s: float) -> tuple[bool, bytes]:
        assert process.stdin is not None and process.stdout is not None
        deadline = time.monotonic() + deadline_s
        data = memoryview(len(body).to_bytes(4, "big") + body)
        while data:  # a process that does not read is late, too
            _wait(process.stdin.fileno(), select.POLLOUT, deadline)
            data = data[process.stdin.write(data[: select.PIPE_BUF]) or 0 :]
        size = int.from_bytes(self._read(process, 4, deadline), "big")
        if size > ANSWER_BYTES_MAX:
            raise EOFError("its answer is too long")
        return _decoder.decode(self._read(process, size, deadline))

    def _read(self, process: subprocess.Popen[bytes], count: int, deadline: float) -> bytes:
        assert process.stdout is not None
        parts: list[bytes] = []
        while count:
            _wait(process.stdout.fileno(), select.POLLIN, deadline)
            part = process.stdout.read(count)
            if not part:
                raise EOFError("it closed its output")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Until the descriptor is ready, or its other end is closed; raises TimeoutError."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


class Merger:
    """Runs functions for a node; their outcomes come back as inputs of turns."""

    def __init__(self, worker: ThreadWorker) -> None:
        self._worker = worker
        self._process = MergeProcess()

    def run(self, name: str, values: Sequence[bytes], done: Callable[[bytes | str], None]) -> None:
        """`done` is called in a later turn, with the value or with why there is none."""

        def told(result: bytes | BaseException) -> None:
            if isinstance(result, MergeFailed):
                done(str(result))
            elif isinstance(result, BaseException):
                raise result  # a mistake in the program
            else:
                done(result)

        self._worker.submit(partial(self._process.merge, name, values), told)

    def close(self) -> None:
        """The worker is idle."""
        self._process.close()
