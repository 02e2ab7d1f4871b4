"""Runs the nodes of a same-machine cluster as child processes, one `ringwise serve` each.

A node that dies stays down until `dev start N` asks for it, so that a kill can be watched. The nodes do not outlive the
supervisor, however that ends: each holds the read end of a pipe as its stdin and stops cleanly when the pipe closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ringwise.cli.plan import DIRECTORY, HOST, NodePlan, Plan
from ringwise.cli.resp import NodeError, UnreachableError, call
from ringwise.runtime.settings import CLIENT_PORT, StartError

# A node with a gigabyte of log to replay takes most of this.
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
HEAL_TIMEOUT_S = 5.0  # several of a dialer's longest pauses
POLL_S = 0.05
# A second Ctrl-C means "at once", unless it is the same one twice, as from a process group and its leader.
INSIST_AFTER_S = 1.0
CUT = {"both": "", "in": " (nothing sent to it arrives)", "out": " (nothing it sends arrives)"}


class NodeProcess:
    """One node, running or not."""

    def __init__(self, plan: NodePlan, arguments: list[str]) -> None:
        self.plan = plan
        self.stopping = False
        self.arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        self.stopping = False
        with self.plan.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ringwise.cli",
                "serve",
                *self.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, which stops its nodes in order
            )

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """Ask it to stop, and insist where that takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.stopping = True
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self.kill()
            await process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def ready(self, members: int) -> bool:
        """It answers, and has links to all members. Blocks: called in a thread."""
        try:
            fields = self._info()
        except (UnreachableError, NodeError):
            return False
        return fields.get("node") == self.plan.name and int(fields["members_up"]) >= members

    def cut_off(self) -> bool:
        """Whether `dev partition` holds. Blocks; raises UnreachableError or NodeError."""
        return self._info().get("cut_off") == "1"

    def _info(self) -> dict[str, str]:
        info = call(HOST, self.plan.port, "INFO", "ringwise")
        assert isinstance(info, bytes)
        return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)

    def last_words(self) -> str:
        """Why it ended: its own error line, else the last line of its log."""
        with self.plan.log.open("rb") as log:
            log.seek(self._log_start)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("ringwise: ") for line in lines if line.startswith("ringwise: ")]
        return (errors or lines or ["it said nothing"])[-1]


class Supervisor:
    """All the nodes of a plan, and the socket that `dev start` and `dev stop` talk to."""

    def __init__(self, plan: Plan, options: list[str], tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._options = options
        self._nodes = {node.number: NodeProcess(node, self._arguments(node, options)) for node in plan.nodes()}
        self._watchers: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._stop_asked_s = 0.0
        self._lock: IO[bytes] | None = None

    async def run(self, welcome: Callable[[list[tuple[NodePlan, int]], float], None]) -> None:
        """Start all, say so, and run until a signal; raises StartError, with nothing left running."""
        self._claim_directory()
        _check_ports(self._plan.nodes())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        server = await self._listen()
        try:
            began = time.monotonic()
            # Once formed, a cluster serves without some of its members; before, a missing one is a mistake in the set-up.
            formed = self._plan.state.formed
            await self._until_ready(await self._start_all(), all_needed=not formed)
            if not self._stop.is_set():
                self._plan.state.formed = True
                self._plan.save()
                running = [(node.plan, node.pid) for node in self._nodes.values() if node.pid is not None]
                welcome(running, time.monotonic() - began)
                await self._stop.wait()
        finally:
            self._stop.set()
            server.close()
            (self._plan.directory / "dev.sock").unlink(missing_ok=True)
            await asyncio.gather(*(node.stop() for node in self._nodes.values()))

    def _on_signal(self) -> None:
        now = time.monotonic()
        if not self._stop.is_set():
            self._stop.set()
            self._stop_asked_s = now
        elif now - self._stop_asked_s > INSIST_AFTER_S:
            for node in self._nodes.values():
                node.kill()

    def _arguments(self, node: NodePlan, options: list[str], join: str | None = None) -> list[str]:
        join = join or self._plan.join_address(node)
        return [
            *("--name", node.name, "--data-dir", str(node.data_dir), "--host", HOST),
            *("--port", str(node.port), "--http-port", str(node.http_port), "--peer-port", str(node.peer_port)),
            *("--cluster-port", str(node.cluster_port)),
            *(("--join", join) if join is not None else ()),
            *("--expect", str(self._plan.state.nodes)),
            *options,
            "--stop-with-stdin",
        ]

    def _claim_directory(self) -> None:
        directory = self._plan.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "dev.lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._plan.save()
        except BlockingIOError as error:
            raise StartError(f"another 'ringwise dev' is running on {directory}") from error
        except OSError as error:
            raise StartError(f"cannot write to {directory}: {error.strerror}") from error

    async def _start_all(self) -> list[NodeProcess]:
        """Starts every node that can be; raises StartError where none can."""
        # Nobody runs yet who could say that one of them is to be replaced: `dev start` asks.
        losses = {number: self._loss(node.plan) for number, node in self._nodes.items()}
        able = [node for number, node in self._nodes.items() if losses[number] is None]
        for loss in losses.values():
            if loss is not None and not able:
                raise StartError(loss)
            if loss is not None:
                self._tell(f"{loss}. The others go on.")
        for node in able:
            await self._start(node)
        return able

    def _loss(self, node: NodePlan) -> str | None:
        """Why a node must not be started: its directory is lost, and an empty one would be refused as a stranger's, unless the
        others were told that it is lost for good (`ringwise replace`).

        It is not even created, so that the lost one can be put back in its place.
        """
        if not self._plan.state.formed or (node.data_dir / "identity").exists():
            return None
        return (
            f"{node.name} cannot start: {node.data_dir}, which made it a member of this cluster, is gone; "
            f"put it back, or give it up: {replace_command(self._plan, node)}; then: {start_command(self._plan, node)}"
        )

    def _given_up(self, node: NodePlan) -> NodePlan | None:
        """A node that runs, and says that this one's data are lost. Blocks: called in a thread."""
        for other in self._nodes.values():
            if other.pid is not None:
                with contextlib.suppress(UnreachableError, NodeError):
                    info = call(HOST, other.plan.port, "INFO", "ringwise")
                    assert isinstance(info, bytes)
                    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
                    if node.name in fields.get("lost_members", "").split(","):
                        return other.plan
        return None

    async def _start(self, node: NodeProcess) -> None:
        await node.start()
        watcher = asyncio.create_task(self._watch(node))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, node: NodeProcess) -> None:
        pid = node.pid
        code = await node.wait()
        if not node.stopping and not self._stop.is_set() and self._plan.state.formed:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}: {node.last_words()}"
            self._tell(f"{node.plan.name} (pid {pid}) {how}. Start it again: {start_command(self._plan, node.plan)}")

    async def _until_ready(self, nodes: list[NodeProcess], *, all_needed: bool = True) -> None:
        """Waits until all are ready; one that ends ends the wait, or, unless all are needed, is told and left out."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        waiting = list(nodes)
        while waiting and not self._stop.is_set():
            ended = [node for node in nodes if node.pid is None]
            if ended and (all_needed or len(ended) == len(nodes)):
                raise StartError(f"{ended[0].plan.name} did not start: {ended[0].last_words()}")
            waiting = [node for node in waiting if node not in ended]  # its watcher says why
            if time.monotonic() > deadline:
                names = ", ".join(node.plan.name for node in waiting)
                raise StartError(f"{names} not ready after {READY_TIMEOUT_S:.0f} s; see {waiting[0].plan.log}")
            # To be up is to have links to all that run: others may have been killed, and stay so.
            running = sum(node.pid is not None for node in self._nodes.values())
            answers = await asyncio.gather(*(asyncio.to_thread(node.ready, running) for node in waiting))
            waiting = [node for node, ready in zip(waiting, answers, strict=True) if not ready]
            if waiting:
                await asyncio.sleep(POLL_S)

    async def _listen(self) -> asyncio.Server:
        # Bound by its name alone: the path of a socket may not exceed 107 bytes, that of a directory may.
        listener = socket.socket(socket.AF_UNIX)
        with contextlib.chdir(self._plan.directory):
            Path("dev.sock").unlink(missing_ok=True)
            listener.bind("dev.sock")
        (self._plan.directory / "dev.sock").chmod(0o600)
        return await asyncio.start_unix_server(self._answer, sock=listener)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            try:
                text = await self._do(request["command"], request["node"], request["direction"])
                reply: dict[str, object] = {"text": text, "nodes": self.described()}
            except StartError as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            self._tell("a 'ringwise dev' command went away before its answer")
        finally:
            writer.close()

    def described(self) -> list[dict[str, object]]:
        """All nodes, for programs; a node that does not run has no pid."""
        return [
            {
                "name": node.plan.name,
                "pid": node.pid,
                "port": node.plan.port,
                "http_port": node.plan.http_port,
                "peer_port": node.plan.peer_port,
                "cluster_port": node.plan.cluster_port,
                "data_dir": str(node.plan.data_dir),
                "log": str(node.plan.log),
            }
            for node in self._nodes.values()
        ]

    async def _do(self, command: str, number: int | None, direction: str) -> str:
        if number is None:
            assert command == "heal"
            return await self._heal_all()
        node = self._nodes.get(number)
        if node is None:
            raise StartError(f"there is no n{number}; the nodes are n1 to n{len(self._nodes)}")
        name = node.plan.name
        if command == "stop":
            if node.pid is None:
                raise StartError(f"{name} is not running")
            await node.stop()
            return f"{name} is stopped; start it again: {start_command(self._plan, node.plan)}"
        if command in ("partition", "heal"):
            return await self._cut(node, command, direction)
        if node.pid is not None:
            raise StartError(f"{name} is running already (pid {node.pid})")
        loss = self._loss(node.plan)
        if loss is not None:
            seed = await asyncio.to_thread(self._given_up, node.plan)
            if seed is None:
                raise StartError(loss)
            node.arguments = self._arguments(node.plan, self._options, f"{HOST}:{seed.peer_port}")
        _check_ports([node.plan])
        await self._start(node)
        await self._until_ready([node])
        if loss is not None:
            return f"{name} is up, with an empty directory, and is being filled: pid {node.pid}, port {node.plan.port}"
        return f"{name} is up: pid {node.pid}, port {node.plan.port}"

    async def _cut(self, node: NodeProcess, command: str, direction: str) -> str:
        """Cuts a node off, or joins it again and waits until it has its links."""
        name, port = node.plan.name, node.plan.port
        if command == "partition":
            await self._switch(node, command, direction)
            healing = f"{program()} dev heal {node.plan.number}{data_dir_option(self._plan)}"
            return f"{name} is cut off from the others{CUT[direction]}, and answers clients on port {port}; heal it: {healing}"
        was_cut_off = await self._is_cut_off(node)
        await self._switch(node, command)
        if not was_cut_off:
            others = [other for other in self._nodes.values() if other is not node and await self._is_cut_off(other)]
            named = ", ".join(other.plan.name for other in others)
            return f"{name} was not cut off" + (
                f", but {named} {'is' if len(others) == 1 else 'are'}" if others else ""
            )
        if await self._linked([node]):
            return f"{name} is joined to the others again"
        return f"{name} is no longer cut off, but has not reached all others yet"

    async def _is_cut_off(self, node: NodeProcess) -> bool:
        """As far as it says; one that does not run is not, since a partition ends with its node."""
        try:
            return node.pid is not None and await asyncio.to_thread(node.cut_off)
        except (UnreachableError, NodeError):
            return False

    async def _heal_all(self) -> str:
        running = [node for node in self._nodes.values() if node.pid is not None]
        for node in running:
            await self._switch(node, "heal")
        if await self._linked(running):
            return "no node is cut off"
        return "no node is cut off any longer, but not all have reached one another yet"

    async def _switch(self, node: NodeProcess, command: str, *words: str) -> None:
        name = node.plan.name
        if node.pid is None:
            raise StartError(f"{name} is not running")
        try:
            await asyncio.to_thread(call, HOST, node.plan.port, "RW.DEV", command.upper(), *words)
        except (UnreachableError, NodeError) as error:
            raise StartError(f"{name} cannot {command}: {error}") from error

    async def _linked(self, nodes: list[NodeProcess]) -> bool:
        """Whether these have links to all that run, soon."""
        running = sum(each.pid is not None for each in self._nodes.values())
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        for node in nodes:
            while not await asyncio.to_thread(node.ready, running):
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(POLL_S)
        return True


def start_command(plan: Plan, node: NodePlan) -> str:
    """What to type to start a node again."""
    return f"{program()} dev start {node.number}{data_dir_option(plan)}"


def replace_command(plan: Plan, node: NodePlan) -> str:
    """What to type to give a node's data up for lost."""
    other = plan.node(2 if node.number == 1 else 1)
    port = "" if other.port == CLIENT_PORT else f" --port {other.port}"
    return f"{program()} replace {node.name}{port}"


def program() -> str:
    """The command as the user typed it."""
    name = sys.argv[0]
    return name if name.endswith("ringwise") else "ringwise"


def data_dir_option(plan: Plan) -> str:
    return "" if plan.directory == DIRECTORY else f" --data-dir {plan.directory}"


def ask(directory: Path, command: str, node: int | None, direction: str = "both") -> dict[str, object]:
    """Send a command to the supervisor that runs on a directory; its answer (text, nodes), or StartError."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with contextlib.chdir(directory):
                connection.connect("dev.sock")
        except OSError as error:
            where = "" if directory == DIRECTORY else f" --data-dir {directory}"
            raise StartError(f"no cluster is running on {directory}; start one with: {program()} dev{where}") from error
        connection.settimeout(READY_TIMEOUT_S + STOP_TIMEOUT_S)
        try:
            connection.sendall(json.dumps({"command": command, "node": node, "direction": direction}).encode() + b"\n")
            line = connection.makefile("rb").readline()
        except OSError as error:
            raise StartError(f"the cluster on {directory} does not answer: {error}") from error
    if not line:
        raise StartError(f"the cluster on {directory} stopped")
    reply: dict[str, object] = json.loads(line)
    if "error" in reply:
        raise StartError(str(reply["error"]))
    return reply


def _check_ports(nodes: list[NodePlan]) -> None:
    for node in nodes:
        for port in (node.port, node.http_port, node.peer_port, node.cluster_port):
            with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((HOST, port))
                    listener.listen(1)
                    if port == node.peer_port:
                        datagrams.bind((HOST, port))
                except OSError as error:
                    raise StartError(
                        f"port {port}, for {node.name}, cannot be used: {error.strerror}; choose others with --port"
                    ) from error
