"""One node in this process: what is built from what, the way into a cluster, and the way out.

    directory (lock, identity) ─▶ store (replays its log) ─▶ topology ─▶ node ─▶ client port ─▶ peer port ─▶ ready
                                                                            │
    SIGTERM ─▶ no new requests, the taken ones answered ─▶ links closed ─▶ worker idle ─▶ log synced ─▶ clean mark

* A directory that is in a cluster goes on there. An empty one founds a cluster of its own, or, with `--join`, asks to be
  let into another and founds nothing, however long it is refused (T3).
* `PING` and `INFO` answer as soon as the log is replayed, before there are peers or a topology.
* The mark of a clean stop is written last, when all of the log is durable; any other end draws a new incarnation (V2).
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import secrets
import signal
import socket
import sys
import time
from functools import partial

import uvloop

from ringwise.core.agreement import Agreement, AgreementFailed, AgreementStateDamaged, Join
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import ImpossibleLevel, UnknownLevel
from ringwise.core.gossip.packets import HOST_BYTES_MAX, State
from ringwise.core.levels import Level
from ringwise.core.messages import Hello, NodeId
from ringwise.core.node import Node
from ringwise.core.topology import (
    ChangeRefused,
    Document,
    Member,
    Topology,
    TopologyDamaged,
    TopologyTooNew,
    join,
)
from ringwise.runtime import log
from ringwise.runtime.gossip import Datagrams
from ringwise.runtime.http import HttpServer
from ringwise.runtime.hugepages import HugePages
from ringwise.runtime.merging import Merger, functions
from ringwise.runtime.peers import Dialer, Peers
from ringwise.runtime.server import ClientServer
from ringwise.runtime.settings import MEBIBYTE, Settings, StartError
from ringwise.runtime.turn import Turn
from ringwise.runtime.worker import ThreadWorker
from ringwise.server.clients import Clients
from ringwise.storage.disk import OsDisk
from ringwise.storage.errors import StorageError
from ringwise.storage.identity import open_identity
from ringwise.storage.lsm import LsmEngine
from ringwise.storage.store import Store, StoreConfig

TOPOLOGY_FILE = "topology"
ENGINE_DIRECTORY = "engine"
EARLY_MAX = 0.4  # a flush begins at 60 to 100% of its limits (S5)
# How long a node asks to be let in: longer than a cluster takes to decide (10 s), short enough for who waits for it.
JOIN_TIMEOUT_S = 12.0
JOIN_PAUSE_S = 0.3
# A node whose state cannot be trusted any more ends like this (EX_SOFTWARE), without touching its files again.
EXIT_FAILED = 70


class Replaced(StartError):
    """Another data directory has this node's place (T4): to start it again would not help."""

    code = 78  # EX_CONFIG


def run(settings: Settings) -> int:
    """Run the node until it is told to stop; the exit code. Raises StartError where it cannot start."""
    log.set_up(settings.name)
    _raise_file_limit()
    try:
        return uvloop.run(_main(settings))
    except (StorageError, TopologyTooNew, TopologyDamaged, AgreementStateDamaged) as error:
        raise StartError(str(error)) from error


async def _main(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.stop_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _end_of_stdin, stop)
    loop.set_exception_handler(_unexpected)
    _check_ports(settings)
    process = Process(loop, settings)
    try:
        process.stop_asked = stop
        await process.start(stop)
        # What is alive now (modules, tables, the replayed log) lives as long as the process: the collector need not
        # look at it again. A full collection over millions of records would hold the loop for a second, and the hot
        # path makes no cycles that wait for one: so young objects are looked at rarely, and old ones hardly ever.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 1_000)
        await stop.wait()
    finally:
        code = await process.stop()
    return code


class Process:
    """The node of this process and everything around it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.settings = settings
        self._loop = loop
        self._disk = disk = OsDisk(settings.data_dir)
        self._identity = identity = open_identity(disk, settings.name, secrets.token_bytes)
        self._worker = ThreadWorker(loop, _fail)
        self._merge_worker = ThreadWorker(loop, _fail, threads=1)
        self._merger = Merger(self._merge_worker)
        config = NodeConfig(
            replicas=settings.replicas,
            default_level=_level(settings.level, settings.replicas),
            members_expected=settings.expect,
            membership=settings.membership,
            hints_max=settings.hints_max,
            repair_interval_ms=settings.repair_interval_s * 1000,
            key_bytes_max=settings.key_bytes_max,
            value_bytes_max=settings.value_bytes_max,
            collection_bytes_max=settings.collection_bytes_max,
            memtable_bytes=settings.memtable_mb * MEBIBYTE,
        )
        self._store = store = Store(
            disk,
            LsmEngine(settings.data_dir / ENGINE_DIRECTORY),
            self._worker,
            StoreConfig(
                sync_mode=settings.sync,
                memtable_bytes=config.memtable_bytes,
                cache_bytes=settings.cache_mb * MEBIBYTE,
                cold_queue_max=config.cold_queue_max,
            ),
            early=partial(random.SystemRandom().uniform, 0.0, EARLY_MAX),
        )
        complete = identity.begin(store.position, secrets.token_bytes)
        log.info("recovered", entries=store.recovered.entries, torn_bytes=store.recovered.torn_bytes, clean=complete)
        rng = random.Random(secrets.randbits(128))
        saved = disk.read(TOPOLOGY_FILE) if TOPOLOGY_FILE in disk.names() else None
        if saved is None and identity.cluster:
            raise StartError(f"{settings.data_dir} belongs to a cluster, but its file {TOPOLOGY_FILE} is missing")
        topology = Topology()
        agreement = Agreement(identity.node, topology, rng, saved)
        self._member = Member(
            settings.name,
            identity.node,
            settings.host,
            settings.peer_port,
            settings.port,
            settings.http_port,
            settings.weight,
            settings.rack,
            cluster_port=settings.cluster_port,
        )
        self._node = Node(
            self._member,
            topology,
            agreement,
            store,
            DotSource(identity.node, identity.incarnation, identity.next_epoch),
            Clock(config.max_clock_offset_ms, store.stamp),
            partial(disk.replace, TOPOLOGY_FILE),
            config,
            rng,
            time.time_ns() // 1_000_000,
        )
        self._turn = Turn(loop, self._node, store, self._follow, _fail)
        self._worker.attach(self._turn)
        self._merge_worker.attach(self._turn)
        self._node.merging.run = self._merger.run
        self._node.merging.names = functions()
        clients = Clients(settings.port, os.getpid(), time.time_ns() // 1_000_000, settings.sync)
        clients.multi = settings.multi
        clients.debug = settings.debug_commands
        self._server = ClientServer(loop, self._turn, self._node, clients)
        self._http = HttpServer(loop, self._turn, self._node)
        self._peers = Peers(loop, self._node, self._turn, rng, self._refused)
        liveness = self._node.liveness
        self._datagrams = Datagrams(loop, liveness, self._turn, lambda: self._node.now.now_ms, lambda: self._peers.cut)
        liveness.watchers.append(self._member_changed)
        self._moves = 0  # of members, as far as they are dialled
        if settings.stop_with_stdin:  # a node of `ringwise dev`
            clients.partition = self._peers.isolate
        self._huge_pages = HugePages()
        self._epoch = 0
        self._filling = False
        self._jumped = False  # the clock, and the log says so
        self._dials = topology.document is None  # a member first looks whether --join names its own cluster
        self._refusal = ""
        self.stop_asked: asyncio.Event | None = None  # set: the node is to end

    async def start(self, stop: asyncio.Event) -> None:
        """Open the ports, and become a member of a cluster; raises StartError."""
        settings, node = self.settings, self._node
        self.check_replaced()
        self._turn.enter()
        self._turn.start()
        self._huge_pages.start()
        await self._server.listen(settings.host, settings.port)
        await self._http.listen(settings.host, settings.http_port)
        await self._server.listen(settings.host, settings.cluster_port, first_only=True)
        await self._peers.listen((settings.host, settings.peer_port))
        await self._datagrams.listen((settings.host, settings.peer_port))
        seed = self._peers.dial_seed(settings.join) if settings.join is not None else None
        if node.topology.document is not None:
            if seed is not None:
                await self._try(seed, stop)
            self._update_address()
            self._dials = True
            self._peers.follow()
        elif seed is None:
            node.agreement.found(self._member, secrets.token_bytes(16), settings.replicas)
            await self._turn.ended()
        else:
            await self._join(seed, stop)
        if stop.is_set():
            return
        document = node.topology.document
        assert document is not None
        log.info(
            "ready",
            pid=os.getpid(),
            port=settings.port,
            http_port=settings.http_port,
            peer_port=settings.peer_port,
            cluster_port=settings.cluster_port,
            cluster=document.cluster,
            epoch=document.epoch,
            data=settings.data_dir,
        )

    async def stop(self) -> int:
        """The clean way out; the exit code."""
        log.info("stopping")
        self._turn.enter()
        self._node.leave()
        drain_s = self._node.config.request_timeout_ms / 1000 + 0.1
        await asyncio.gather(self._server.drain(drain_s), self._http.drain(drain_s))
        self._server.close()
        await self._peers.close()
        self._datagrams.close()
        self._huge_pages.stop()
        self._turn.stop()
        await self._turn.ended()
        await self._merge_worker.drain()
        self._merge_worker.close()
        self._merger.close()
        await self._worker.drain()
        self._worker.close()
        whole = not self._store.failed
        end = self._store.close() if whole else 0
        # Else the next start draws a new incarnation (V2).
        if whole and not (self._node.cold.damaged or self._node.dots.retired):
            self._identity.stopped(end, self._node.dots.next_epoch)
        self._disk.close()
        log.info("stopped", clean=whole)
        self.check_replaced()
        return 0 if whole else 1

    def check_replaced(self) -> None:
        """Raises where this node is a member no more."""
        replaced = self._node.replaced
        if replaced is not None:
            raise Replaced(
                f"{replaced.name} was replaced by another data directory, at epoch {replaced.epoch} of the topology; "
                f"{self.settings.data_dir} belongs to no member any more, and can be removed"
            )

    async def _join(self, seed: Dialer, stop: asyncio.Event) -> None:
        """Ask to be let in until a document has this node as a member."""
        agreement, address = self._node.agreement, "{}:{}".format(*seed.address)
        deadline = self._loop.time() + JOIN_TIMEOUT_S
        while not stop.is_set():
            self._check_refusal()
            document = self._node.topology.document
            if document is not None and document.member(self._member.id) is not None:
                return
            refused = agreement.refused
            if refused is not None and not refused.again:
                raise StartError(f"the cluster at {address} refuses this node: {refused.reason}")
            if self._loop.time() > deadline:
                reason = refused.reason if refused is not None else seed.complaint or "it does not answer"
                raise StartError(f"cannot join the cluster at {address} ({JOIN_TIMEOUT_S:.0f} s tried): {reason}")
            peer = seed.connected_to()
            if peer:
                self._turn.enter()
                agreement.outbox.append((peer, Join(self._member)))
            await asyncio.sleep(JOIN_PAUSE_S if peer else 0.05)

    async def _try(self, seed: Dialer, stop: asyncio.Event) -> None:
        """A member already: it needs nobody's leave, but a mistaken --join should be told."""
        while not (stop.is_set() or seed.connected_to() or seed.complaint):
            await asyncio.sleep(0.01)
        self._check_refusal()

    def _check_refusal(self) -> None:
        if self._refusal:
            raise StartError(self._refusal)

    def _refused(self, hello: Hello, reason: str) -> None:
        """The node named by --join is not of our cluster."""
        self._refusal = f"{self.settings.data_dir} cannot join {hello.host}:{hello.peer_port}: {reason}"

    def _update_address(self) -> None:
        """This node may have been given another address since it was last up: the others learn it by agreement."""
        document = self._node.topology.document
        assert document is not None
        try:
            if join(document, self._member) is None:
                return
        except ChangeRefused as refusal:
            raise StartError(refusal.reason) from refusal
        self._turn.enter()
        self._node.agreement.propose(
            lambda document: join(document, self._member), self._address_decided, self._node.now.now_ms
        )

    def _address_decided(self, result: Document | AgreementFailed) -> None:
        if isinstance(result, AgreementFailed):
            log.warning("address_not_decided", reason=result.reason)
        else:
            log.info("address_decided", epoch=result.epoch)

    def _follow(self) -> None:
        """After each turn: datagrams, what a new document means for the shell, and what the operator should know."""
        self._datagrams.flush()
        if self._node.now.jumped != self._jumped:
            self._jumped = self._node.now.jumped
            if self._jumped:
                ahead_ms = self._node.now.machine_ms - self._node.now.wall_ms
                log.warning(
                    "clock_jumped", ahead_ms=ahead_ms, action="not believed; set it right, or restart this node"
                )
            else:
                log.info("clock_believed")
        topology = self._node.topology
        document = topology.document
        moves = self._node.liveness.moves
        if document is None or (topology.epoch == self._epoch and moves == self._moves):
            return
        if self._dials:
            self._moves = moves
            self._peers.follow()
        if topology.epoch == self._epoch:
            return
        self._epoch = topology.epoch
        if not self._identity.cluster:
            self._identity.joined(document.cluster)
        log.info("topology", epoch=document.epoch, formed=document.formed, members=len(document.members))
        replaced = self._node.replaced
        if replaced is not None and self.stop_asked is not None:  # T4: it is fenced, and serves nobody any more
            self.stop_asked.set()
            return
        filling = topology.document is not None and self._member.id in topology.filling
        if filling != self._filling:
            self._filling = filling
            received = self._node.filling.received
            log.info("filling" if filling else "filled", **({} if filling else {"keys": received}))

    def _member_changed(self, node: NodeId, before: State, after: State) -> None:
        member = self._node.topology.members.get(node)
        name = node if member is None else member.name
        tell = log.warning if after in (State.SUSPECT, State.DEAD) else log.info
        incarnation = self._node.liveness.incarnation(node)
        tell(f"member_{after.name.lower()}", member=name, before=before.name.lower(), incarnation=incarnation)


def _level(text: str, replicas: int) -> str:
    try:
        level = Level.parse(text.encode())
        level.check(replicas)
    except (UnknownLevel, ImpossibleLevel) as error:
        raise StartError(str(error)) from error
    return level.name


def _check_ports(settings: Settings) -> None:
    """Before anything is touched: can we listen there? Two nodes on one port are a mistake to be told at once."""
    if len(settings.host) > HOST_BYTES_MAX or not settings.host.isascii():  # it is told to others as it is
        raise StartError(f"--host {settings.host[:80]!r} is no address, nor a name in ASCII")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for option, port in (
        ("port", settings.port),
        ("peer-port", settings.peer_port),
        ("http-port", settings.http_port),
        ("cluster-port", settings.cluster_port),
    ):
        with socket.socket(family) as listener, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            what = ""
            try:
                listener.bind((settings.host, port))
                listener.listen(1)
                if option == "peer-port":
                    what = " for datagrams"
                    datagrams.bind((settings.host, port))
            except OSError as error:
                raise StartError(
                    f"cannot listen on {settings.host}:{port}{what}: {error.strerror}; choose another --{option}"
                ) from error


def _raise_file_limit() -> None:
    """As many connections and SSTables as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_of_stdin(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        log.warning("transport_failed", reason=error)
    elif isinstance(error, BaseException):
        _fail(error)
    else:
        loop.default_exception_handler(context)


def _fail(error: BaseException) -> None:
    """A mistake in the program where the node's state is at stake: stop at once, acknowledge nothing more."""
    log.error("failed", error)
    os._exit(EXIT_FAILED)
