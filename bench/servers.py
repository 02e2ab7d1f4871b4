"""The systems under test: started on free ports of the loopback, measured from outside, stopped by process id.

Whatever serves a system's ports is looked up in /proc, so that CPU and memory are counted the same way for
every system and whoever started the processes. CPU is counted until the system is quiet again: a flush or a
replica that runs after the last answer was caused by the load, and would otherwise be paid by the system
measured next.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import hiredis
from bench.generator import command

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
QUIET_SECONDS_MAX = 90.0
QUIET_WINDOW_SECONDS = 0.3
QUIET_CPU_SHARE = 0.15  # of one core, all servers of a system together: timers and heartbeats, no work
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NODES = 3
AOF_BYTES_MAX = 1 << 30  # past this it is rewritten before the next run, so that the table fits on a disk


class BenchmarkError(Exception):
    """Something that stops the run, with a message for the person who started it."""


def ask(port: int, *words: str, timeout_seconds: float = 5.0) -> object:
    """One command on a connection of its own; an error answer comes back as an exception object."""
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    with socket.create_connection(("127.0.0.1", port), timeout_seconds) as connection:
        connection.sendall(command(*(word.encode() for word in words)))
        while (answer := reader.gets()) is False:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError(f"port {port} closed the connection")
            reader.feed(data)
    return answer


def pids_listening(ports: Sequence[int]) -> list[int]:
    """The processes that accept connections on `ports`, from /proc alone."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) in ports:
            inodes.add(f"socket:[{fields[9]}]")
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # processes end while we look, and some are not ours to look at
            if any(str(handle.readlink()) in inodes for handle in (directory / "fd").iterdir()):
                found.append(int(directory.name))
    return sorted(found)


def cpu_seconds(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, of all threads
    return ticks / TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """All processors, all processes, what a hypervisor took away included; neither idle nor waiting for a disk."""
    total = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, irq, softirq, steal = (int(n) for n in total.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def rss_bytes(pids: Sequence[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * PAGE_BYTES


def free_ports(offsets: Sequence[int]) -> int:
    """A port P below the ephemeral range with every P + offset free.

    Another process may still take one before we do.
    """
    rng = random.Random(os.getpid() ^ time.monotonic_ns())
    for _ in range(200):
        first = rng.randrange(12_000, 28_000)
        with ExitStack() as sockets, suppress(OSError):
            for offset in offsets:
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", first + offset))
            return first
    raise BenchmarkError("no free ports found")


@dataclass
class System:
    key: str
    title: str
    ports: list[int]
    pids: list[int] = field(default_factory=list)
    prepare: Callable[[], None] = lambda: (
        None
    )  # before a run, unmeasured; raises when the title no longer tells the truth
    restart: Callable[[], None] | None = None
    # False: work is left that begins only when it has been quiet for some seconds.
    done: Callable[[], bool] = lambda: True

    def refresh(self) -> None:
        self.pids = pids_listening(self.ports)
        if len(self.pids) != len(self.ports):
            raise BenchmarkError(f"{self.title}: {len(self.ports)} ports, but served by processes {self.pids}")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pids)

    def rss_bytes(self) -> int:
        return rss_bytes(self.pids)

    def settle(self) -> None:
        """Wait until the work the last load left behind is done.

        One that never rests (a compaction, say) must not stop the table.
        """
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(QUIET_WINDOW_SECONDS)
            if self.cpu_seconds() - before <= QUIET_CPU_SHARE * QUIET_WINDOW_SECONDS and self.done():
                return
        print(f"warning: {self.title} was still busy after {QUIET_SECONDS_MAX:.0f} s", file=sys.stderr)


def running(key: str, title: str, ports: list[int]) -> System:
    """Servers that somebody else started and will stop."""
    system = System(key, title, ports)
    system.refresh()
    return system


class Process:
    """A server of ours, in a session of its own: Ctrl-C reaches us, and we stop it."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


def _wait_until(ready: Callable[[], bool], process: Process, what: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            raise BenchmarkError(f"{what} ended with status {process.popen.returncode}:\n{process.tail()}")
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.05)
    raise BenchmarkError(f"{what} was not ready after {START_SECONDS_MAX:.0f} s:\n{process.tail()}")


def _info(port: int, section: str, name: str) -> int:
    lines = str(ask(port, "INFO", section)).splitlines()
    return int(next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:")))


def _redis_server(stack: ExitStack, directory: Path, port: int, options: Sequence[str]) -> None:
    directory.mkdir(parents=True)
    binary = shutil.which("redis-server")
    if binary is None:
        raise BenchmarkError("redis-server is not installed; the table stands beside Redis, so it is needed")
    fixed = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--daemonize", "no"]
    process = Process([binary, *fixed, *options], directory / "log")
    stack.callback(process.stop)
    _wait_until(lambda: ask(port, "PING") == "PONG", process, f"redis-server on port {port}")


def redis_alone(stack: ExitStack, directory: Path) -> System:
    port = free_ports([0])
    _redis_server(stack, directory, port, ["--appendonly", "no"])
    return running("redis", "Redis alone", [port])


def redis_replicated(stack: ExitStack, directory: Path) -> System:
    """One primary and two replicas, the same number of copies as Ringwise; the append-only file is synced every second.

    The file is rewritten only between runs (a fork would land in somebody's figures), and a replica may fall
    behind without limit: both favour Redis.
    """
    first = free_ports([0, 1, 2])
    ports = [first, first + 1, first + 2]
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"]
    durable += ["--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0"]
    for port in ports:
        role = ["--replicaof", "127.0.0.1", str(first)] if port != first else []
        _redis_server(stack, directory / str(port), port, durable + role)

    def prepare() -> None:
        state = str(ask(first, "INFO", "replication"))
        if state.count("state=online") != 2:
            raise BenchmarkError(f"Redis lost a replica:\n{state}")
        for port in ports:
            if _info(port, "persistence", "aof_current_size") > AOF_BYTES_MAX:
                ask(port, "BGREWRITEAOF")
                while _info(port, "persistence", "aof_rewrite_in_progress"):
                    time.sleep(0.05)

    deadline = time.monotonic() + START_SECONDS_MAX
    while str(ask(first, "INFO", "replication")).count("state=online") != 2:
        if time.monotonic() > deadline:
            raise BenchmarkError("the Redis replicas did not attach")
        time.sleep(0.05)
    system = running("redis_replicas", "Redis, 2 replicas", ports)
    system.prepare = prepare
    return system


def ringwise(
    stack: ExitStack,
    directory: Path,
    level: str,
    membership: str = "local",
    nodes: int = NODES,
    more: Sequence[str] = (),
) -> System:
    """A cluster as a user would start it, with another default level, and `more` options."""
    binary = Path(sys.executable).with_name("ringwise")
    if not binary.exists():
        raise BenchmarkError(f"{binary} is missing: run make setup")
    # Clients, HTTP and peers each count up from a port of their own, a thousand apart.
    first = free_ports([base + node for base in (0, 1000, 2000, 3000) for node in range(nodes)])
    ports = [first + node for node in range(nodes)]
    directory.mkdir(parents=True)
    options = [
        "dev",
        "--nodes",
        str(nodes),
        "--port",
        str(first),
        "--data-dir",
        str(directory / "data"),
        "--level",
        level,
        "--membership",
        membership,
        *more,
    ]

    def ready() -> bool:
        return all(ask(port, "PING") == "PONG" and ask(port, "SET", f"probe:{port}", "1") == "OK" for port in ports)

    def start() -> Process:
        process = Process([str(binary), *options], directory / "log")
        current.append(process)
        _wait_until(ready, process, f"ringwise {level}")
        return process

    def stop() -> None:
        process = current.pop()
        process.stop()
        _end_leftovers(system.pids)

    def hashed() -> bool:
        """Hash trees that a load has outrun are made anew once it is quiet, at some share of a core (R5)."""
        return all("repair_ready:16384\r" in str(ask(port, "INFO", "ringwise")) for port in ports)

    def restart() -> None:
        stop()
        start()
        system.refresh()

    current: list[Process] = []
    system = System(f"ringwise_{level}", f"Ringwise, {level}", ports, restart=restart, done=hashed)
    stack.callback(lambda: stop() if current else None)
    start()
    system.refresh()
    return system


def _end_leftovers(pids: Sequence[int]) -> None:
    """Nodes that outlived the process that started them: none, unless that one was killed."""
    for pid in pids:
        with suppress(ProcessLookupError, FileNotFoundError):
            if (
                b"ringwise" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ):  # the number may belong to somebody else by now
                os.kill(pid, signal.SIGKILL)


def ports_of(text: str) -> list[int]:
    """An option's value: ports with commas between them."""
    return [int(port) for port in text.split(",")]


def run_to_the_end(work: Callable[[], None]) -> int:
    """Exit status of `work`. SIGTERM unwinds the stack as Ctrl-C does, so that the servers are stopped either way."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        work()
    except (BenchmarkError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
