"""The layout of a same-machine cluster: names, ports and directories, all counted up from the first node.

data/dev.json       how many nodes, from which port on; whether the cluster was ever complete
data/dev.lock       held by the `ringwise dev` that runs it      data/dev.sock   where that takes `dev start|stop N`
data/n1/            the directory of a node                      data/n1.log     what it wrote to stderr
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ringwise.runtime.settings import CLIENT_PORT, CLUSTER_PORT, HTTP_PORT, PEER_PORT, StartError

FORMAT = 1
NODES_MAX = 100
NODES = 3
HOST = "127.0.0.1"
DIRECTORY = Path("data")


@dataclass(frozen=True)
class NodePlan:
    number: int
    port: int
    http_port: int
    peer_port: int
    cluster_port: int
    data_dir: Path
    log: Path

    @property
    def name(self) -> str:
        return f"n{self.number}"


class ClusterState(msgspec.Struct):
    """dev.json."""

    format: int
    nodes: int
    port: int
    formed: bool = False  # every node has been a member: an empty directory now joins, whichever it is


@dataclass
class Plan:
    directory: Path
    state: ClusterState

    @classmethod
    def open(cls, directory: Path, nodes: int | None, port: int | None) -> Plan:
        """The plan recorded in the directory, which the options may not contradict, or a new one."""
        if (directory / "identity").exists():
            raise StartError(f"{directory} is the directory of a single node; choose another --data-dir")
        try:
            state = msgspec.json.decode((directory / "dev.json").read_bytes(), type=ClusterState)
        except FileNotFoundError:
            state = ClusterState(FORMAT, nodes or NODES, port or CLIENT_PORT)
            if state.port + CLUSTER_PORT - CLIENT_PORT + state.nodes > 65536:
                raise StartError(f"no room for {state.nodes} nodes above port {state.port}") from None
            return cls(directory, state)
        except OSError as error:
            raise StartError(f"{directory}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise StartError(f"{directory / 'dev.json'} is damaged: {error}") from error
        if state.format > FORMAT:
            raise StartError(f"{directory} was written by a newer version (format {state.format}, known: {FORMAT})")
        for option, asked, kept in (("--nodes", nodes, state.nodes), ("--port", port, state.port)):
            if asked is not None and asked != kept:
                made = f"{directory} holds a cluster made with {option} {kept}"
                raise StartError(f"{made}; leave {option} out, or choose another --data-dir")
        return cls(directory, state)

    def save(self) -> None:
        path = self.directory / "dev.json"
        fresh = path.with_suffix(".json.new")
        fresh.write_bytes(msgspec.json.encode(self.state))
        fresh.replace(path)

    def nodes(self) -> list[NodePlan]:
        return [self.node(number) for number in range(1, self.state.nodes + 1)]

    def node(self, number: int) -> NodePlan:
        port = self.state.port + number - 1
        return NodePlan(
            number,
            port,
            port + HTTP_PORT - CLIENT_PORT,
            port + PEER_PORT - CLIENT_PORT,
            port + CLUSTER_PORT - CLIENT_PORT,
            self.directory / f"n{number}",
            self.directory / f"n{number}.log",
        )

    def join_address(self, node: NodePlan) -> str | None:
        """Whom a node joins if its directory is empty. Only the first node of a new cluster joins nobody."""
        if self.state.nodes == 1 or (node.number == 1 and not self.state.formed):
            return None
        other = self.node(2 if node.number == 1 else 1)
        return f"{HOST}:{other.peer_port}"
