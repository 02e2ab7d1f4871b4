#!/usr/bin/env python3
"""Does what a page says, and compares what comes out with what the page shows: docs that are tests.

    scripts/transcript.py docs/first-hour.md                       as a reader would: on the ports and in the directory it names
    scripts/transcript.py docs/first-hour.md --port 20000 --data-dir DIR     beside a cluster that is running: other ports

In a block marked `console`, a line that starts with `$ ` is a command (`> ` continues it), and the lines below it are what it
prints. `...` stands for anything: in a line for a part, alone for any lines. A command with the comment `# soon` is repeated
for ten seconds until it prints that, because the cluster needs a moment. `make up`, and `ringwise dev --data-dir …`, run until
the end, or until the next one of them.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
COMMAND_TIMEOUT_S = 60.0
UP_TIMEOUT_S = 300.0  # the first `make up` installs
SOON_S = 10.0
PAUSE_S = 0.1
NODES = 5  # of the largest cluster on a page
# The first port of each kind, as pages name them; those of the other nodes count up from there.
PORTS = (7379, 8379, 9379, 10379)
UP = re.compile(r"make up|\.venv/bin/ringwise dev --data-dir \S+( --[-a-z]+ \d+)*")


class Differs(Exception):
    """A command printed something else than the page shows."""


@dataclass
class Step:
    """A command and what it prints."""

    command: str
    expected: list[str]

    @property
    def soon(self) -> bool:
        return "# soon" in self.command


def steps_of(page: str) -> list[Step]:
    """The commands of a page, in order."""
    steps: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            elif (line.startswith("> ") or line == ">") and not steps[-1].expected:
                steps[-1].command += "\n" + line[2:]
            else:
                steps[-1].expected.append(line)
    return steps


def matches(expected: list[str], printed: str) -> bool:
    """Whether the output is what the page shows, blanks at line ends aside."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else ".*?".join(map(re.escape, line.rstrip().split("..."))) + "\n"
        for line in expected
    ]
    text = "".join(line.rstrip() + "\n" for line in printed.splitlines())
    return re.fullmatch("".join(lines) + r"\n*", text) is not None


class Reader:
    """Somebody with a shell, in the directory of the project."""

    def __init__(self, port: int | None, data_dir: Path | None) -> None:
        self._shift = port - PORTS[0] if port else 0
        self._data_dir = data_dir
        self._cluster: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the reader
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}" if port else os.environ["PATH"],
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        if port:
            self._environment["RINGWISE_PORT"] = str(port)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down()
        self._output.close()

    def _down(self) -> None:
        if self._cluster is not None:
            if self._cluster.poll() is None:
                os.killpg(self._cluster.pid, signal.SIGINT)
            self._cluster.wait(COMMAND_TIMEOUT_S)

    def do(self, step: Step) -> str:
        """Runs it and returns what it printed, in the page's own ports; raises Differs."""
        if UP.fullmatch(step.command):
            return self._up(step)
        deadline = time.monotonic() + (SOON_S if step.soon else 0)
        while True:
            printed = self._run(step.command)
            if matches(step.expected, printed):
                return printed
            if time.monotonic() >= deadline:
                expected = "\n".join(step.expected)
                raise Differs(f"$ {step.command}\n--- the page shows\n{expected}\n--- it printed\n{printed}")
            time.sleep(PAUSE_S)

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self._moved(command)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return self._moved_back(done.stdout.decode("utf-8", "replace"))

    def _up(self, step: Step) -> str:
        self._down()
        self._output.seek(0)
        self._output.truncate()
        command = step.command.split()
        if self._shift:
            words = self._moved(step.command if step.command != "make up" else "ringwise dev ").split()
            command = [*words, "--port", str(PORTS[0] + self._shift)]
        self._cluster = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + UP_TIMEOUT_S
        while time.monotonic() < deadline and self._cluster.poll() is None:
            self._output.seek(0)
            printed = self._moved_back(self._output.read().decode())
            if matches(step.expected, printed):
                return printed
            time.sleep(PAUSE_S)
        self._output.seek(0)
        raise Differs(f"$ {step.command}\n{self._output.read().decode()}")

    def _moved(self, command: str) -> str:
        if not self._shift:
            return command
        command = command.replace(".venv/bin/", "")
        if " --data-dir " in command:
            command = command.replace(" --data-dir ", f" --data-dir {self._data_dir}-")
        else:
            command = command.replace("ringwise dev ", f"ringwise dev --data-dir {self._data_dir} ")
        moved = {str(port + node): str(port + node + self._shift) for port in PORTS for node in range(NODES)}
        return re.sub(r"\b\d+\b", lambda number: moved.get(number[0], number[0]), command)

    def _moved_back(self, printed: str) -> str:
        if not self._shift:
            return printed
        moved = {str(port + node + self._shift): str(port + node) for port in PORTS for node in range(NODES)}
        printed = re.sub(r"\b\d+\b", lambda number: moved.get(number[0], number[0]), printed)
        return printed.replace(f"{self._data_dir}-", "").replace(f"{self._data_dir}", "data")


def run(page: Path, port: int | None, data_dir: Path | None) -> int:
    """All steps of a page, told as they happen; the number of steps. Raises Differs."""
    steps = steps_of(page.read_text())
    with Reader(port, data_dir) as reader:
        for step in steps:
            print(f"$ {step.command}", flush=True)
            print(reader.do(step), end="", flush=True)
    return len(steps)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--port", type=int, help="of the first node, in place of 7379")
    parser.add_argument("--data-dir", type=Path, help="of that cluster")
    options = parser.parse_args()
    try:
        count = run(options.page, options.port, options.data_dir)
    except Differs as difference:
        sys.exit(f"\n{options.page}: {difference}")
    print(f"\n{options.page}: all {count} commands did what the page shows")


if __name__ == "__main__":
    main()
