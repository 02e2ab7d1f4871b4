"""A machine of the simulated cluster: the real node, with a virtual shell around it.

What `runtime` does with sockets, threads and timers is done here with events: turns, links and their Hellos, dialling
again after a pause, client connections, disk work, ticks.  A machine outlives the processes on it: its disk and what
the engine has stored stay, all else ends with `crash`.

    input (client bytes, frames, a timer, disk work) ─▶ enter: node.begin ─▶ node … ─▶ a little later: node.end_turn

Everything that a process is to do later carries the number of the life it belongs to, so that nothing of it happens
after its death.  A paused process (SIGSTOP) gets all of it at once when it goes on.
"""

import random
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ringwise.core import record
from ringwise.core.agreement import Agreement, Join
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.errors import Failure
from ringwise.core.levels import Level
from ringwise.core.messages import Hello, Message, NodeId, encode
from ringwise.core.node import Node
from ringwise.core.sink import Sink
from ringwise.core.topology import Member, Topology
from ringwise.core.versions import DotSource, Write
from ringwise.server.clients import Clients
from ringwise.server.session import Session
from ringwise.sim.disk import TornDisk
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.sim.faults import Crash
from ringwise.sim.history import Operation
from ringwise.sim.model import Key, Witness
from ringwise.sim.network import Network, Side
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.trace import Trace
from ringwise.sim.worker import VirtualWorker
from ringwise.sim.workload import Client
from ringwise.storage.identity import Identity, open_identity
from ringwise.storage.store import Store, StoreConfig

TOPOLOGY_FILE = "topology"
EPOCH_MS = 1_700_000_000_000  # what the wall clocks show when a history begins
TICK_MS = 20.0
TURN_MS = 0.05  # inputs that come within it share a turn
CLIENT_LATENCY_MS = 0.2
HELLO_TIMEOUT_MS = 2_000.0
DIAL_PAUSE_MS_MIN = 50.0
DIAL_PAUSE_MS_MAX = 1_000.0
JOIN_PAUSE_MS = 300.0
STOP_PATIENCE_MS = 5_000.0
SLICE_MS = 1.0
SLICE_PAUSE_MS = 2.0
CLOCK_READ_MS = 0.01


class World(Protocol):
    """The cluster and its history, as a machine sees them."""

    scheduler: Scheduler
    network: Network
    witness: Witness
    trace: Trace
    config: NodeConfig

    def machine(self, name: str) -> "Machine": ...
    def bug(self, machine: "Machine", text: str) -> None: ...
    def topology_installed(self, machine: "Machine", topology: Topology) -> None: ...


class WitnessedDots(DotSource):
    """Issues dots, and tells the witness of each."""

    __slots__ = ("_name", "_node_id", "_witness")

    def __init__(self, witness: Witness, name: str, node_id: NodeId, incarnation: bytes, next_epoch: int) -> None:
        super().__init__(node_id, incarnation, next_epoch)
        self._witness = witness
        self._name = name
        self._node_id = node_id

    def put(self, old: bytes, value: bytes, stamp: int) -> bytes:
        new = super().put(old, value, stamp)
        self._witness.issued(self._name, self._node_id, old, new, None)
        return new

    def write(self, old: bytes, write: Write, stamp: int) -> bytes:
        new = super().write(old, write, stamp)
        self._witness.issued(self._name, self._node_id, old, new, write.context)
        return new


class WitnessedStore(Store):
    """Shows the witness every record that is put."""

    witness: Witness
    name: str

    def put(self, slot: int, rkey: bytes, record: bytes) -> None:
        self.witness.stored(self.name, rkey, record)
        super().put(slot, rkey, record)

    def replace_many(
        self, slots: Sequence[int], rkeys: Sequence[bytes], bases: Sequence[bytes], records: Sequence[bytes]
    ) -> list[int]:
        others = super().replace_many(slots, rkeys, bases, records)
        for position, rkey in enumerate(rkeys):
            if position not in others:
                self.witness.stored(self.name, rkey, records[position])
        return others


class WitnessedNode(Node):
    """Notes which tombstone a DEL became, since its value does not tell."""

    machine: "Machine"

    def update(
        self, key: bytes, operation: str, arguments: tuple[bytes | int, ...], level: Level, sink: Sink, index: int
    ) -> None:
        serving = self.machine.serving
        if serving is not None and operation == "delete":
            asked = next((each for each in serving.deletes if each.key == key), None)
            if asked is not None:
                serving.deletes.remove(asked)
                sink = DeleteSink(sink, asked, self.machine.world.witness.key(key))
        super().update(key, operation, arguments, level, sink, index)


class DeleteSink:
    """Finds the tombstone of one DEL: the state may hold those of others too, but only its own has seen just what it read."""

    def __init__(self, sink: Sink, operation: Operation, versions: Key) -> None:
        self._sink = sink
        self._operation = operation
        self._versions = versions

    def updated(self, index: int, before: bytes, after: bytes) -> None:
        if after != before:
            seen = dict(record.decode(before).context)
            for sibling in record.decode(after).siblings:
                issue = self._versions.issues.get((sibling.actor, sibling.counter))
                if sibling.tombstone and issue is not None and issue.seen == seen:
                    self._operation.dot = issue.dot
        self._sink.updated(index, before, after)

    def failed(self, index: int, error: Failure) -> None:
        self._sink.failed(index, error)

    def stored(self, index: int, record: bytes) -> None:
        self._sink.stored(index, record)

    def found(self, index: int, record: bytes) -> None:
        self._sink.found(index, record)


@dataclass(slots=True)
class Moment:
    """Something is to happen right behind the `left`-th reply to a client, or send to a peer, before all else."""

    what: str  # "reply" or "send"
    left: int
    then: Callable[[], None]


class ClientSide:
    """A client's connection to a process: bytes each way, in order, after a while."""

    def __init__(self, machine: "Machine", client: Client) -> None:
        self.machine = machine
        self.client = client
        self.open = True
        self.deletes: deque[Operation] = deque()  # sent and not yet begun by the node
        self._life = machine.life
        self._held: list[bytes] | None = None  # what came while the session does not read
        self._last_ms = 0.0
        self._session: Session | None = None
        machine.input(self._accept)

    # The client's end.

    def send(self, data: bytes) -> None:
        self.deletes += [op for ops in self.client.open for op in ops if op.kind == "delete" and op not in self.deletes]
        self.machine.world.scheduler.after(CLIENT_LATENCY_MS, self._arrive, data)

    def close(self) -> None:
        if self.open:
            self.open = False
            self.machine.world.scheduler.after(CLIENT_LATENCY_MS, self._hang_up)

    # The process's end.

    def _accept(self) -> None:
        machine = self.machine
        node = machine.node
        assert node is not None and machine.clients is not None
        self._session = Session(
            node,
            self._write,
            self._close,
            later=self._later,
            pause_reading=self._pause,
            resume_reading=self._resume,
            clients=machine.clients,
            address=f"client:{self.client.number}",
        )
        machine.client_sides.append(self)

    def _arrive(self, data: bytes) -> None:
        if self.machine.life == self._life:
            self.machine.input(self._receive, data)

    def _receive(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self._session is not None:
            with_delete, self.machine.serving = self.machine.serving, self
            try:
                self._session.receive(data)
            finally:
                self.machine.serving = with_delete

    def _later(self, call: Callable[[], None]) -> None:
        self.machine.later(0.0, self.machine.guarded, self._resumed, call)

    def _resumed(self, call: Callable[[], None]) -> None:
        if self._session is not None:
            self.machine.serving = self
            try:
                call()
            finally:
                self.machine.serving = None

    def _pause(self) -> None:
        self._held = [] if self._held is None else self._held

    def _resume(self) -> None:
        held, self._held = self._held, None
        for data in held or ():
            self.machine.later(0.0, self.machine.guarded, self._receive, data)

    def _write(self, data: bytes) -> None:
        self._deliver(self.client.received, self, data)
        self.machine.passed("reply")

    def _close(self) -> None:
        self._ended("closed by the node")

    def _hang_up(self) -> None:
        if self.machine.life == self._life:
            self.machine.input(self._closed)

    def _closed(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.closed()
            self.machine.client_sides.remove(self)

    def ended(self, why: str) -> None:
        """The process is gone; what it had written still arrives."""
        self._ended(why)

    def _ended(self, why: str) -> None:
        self._deliver(self._tell, why)

    def _tell(self, why: str) -> None:
        if self.open:
            self.open = False
            self.client.disconnected(self, why)

    def _deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        scheduler = self.machine.world.scheduler
        self._last_ms = max(self._last_ms, scheduler.now_ms + CLIENT_LATENCY_MS)
        scheduler.at(self._last_ms, call, *arguments)


class Machine:
    def __init__(
        self, world: World, rng: random.Random, name: str, seed: str, store_config: StoreConfig, work_ms: float
    ) -> None:
        self.world = world
        self.name = name
        self.disk = TornDisk(rng)
        self.medium = Medium()
        self.up = False
        self.paused = False
        self.life = 0
        self.skew_ms = 0
        self.work_ms = work_ms
        self.moment: Moment | None = None
        self.node: WitnessedNode | None = None
        self.clients: Clients | None = None
        self.client_sides: list[ClientSide] = []
        self.serving: ClientSide | None = None  # the connection whose commands the node is being given
        self._rng = rng
        self._seed = seed  # the machine to join; its own name: it founds the cluster
        self._store_config = store_config
        self._parked: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._turn_open = False
        self._reset()

    def _reset(self) -> None:
        """What ends with a process."""
        self.node = None
        self.clients = None
        self.client_sides = []
        self.serving = None
        self.paused = False
        self._parked = []
        self._turn_open = False
        self._worker: VirtualWorker | None = None
        self._identity: Identity | None = None
        self._links: dict[str, Side | None] = {}  # dialled, by name; None while there is none yet
        self._pauses_ms: dict[str, float] = {}
        self._epoch = 0
        self._asked_ms = -JOIN_PAUSE_MS
        self._clock_reads = 0
        self._slicing = False

    # What the nemesis does.

    def start(self) -> None:
        if self.up:
            return
        self.up = True
        self.guarded(self._boot)

    def stop(self) -> None:
        """A clean stop: what was taken is finished first, then the log's end is marked."""
        if self.up and not self.paused:
            self.guarded(self._stop)

    def crash(self, power: bool) -> None:
        if self.up:
            self._end("killed", power)
        elif power:
            self.disk.power_lost()

    @property
    def read_only(self) -> bool:
        return self.node is not None and self.node.store.failed

    def pause(self) -> None:
        if self.up:
            self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            parked, self._parked = self._parked, []
            for call, arguments in parked:
                self.input(call, *arguments)

    def passed(self, what: str) -> None:
        """A reply or frames for a peer have left."""
        moment = self.moment
        if moment is not None and moment.what == what:
            moment.left -= 1
            if not moment.left:
                self.moment = None
                self.world.scheduler.after(0.0, moment.then)

    def sent(self, side: Side) -> None:
        if side.dialled:
            self.passed("send")

    # Inputs.

    def input(self, call: Callable[..., None], *arguments: Any) -> None:
        """Something comes to the process from outside."""
        if not self.up:
            return
        if self.paused:
            self._parked.append((call, arguments))
            return
        self.guarded(self._in_turn, call, *arguments)

    def later(self, delay_ms: float, call: Callable[..., None], *arguments: Any) -> None:
        """Run a call in this life of the process."""
        self.world.scheduler.after(delay_ms, self._if_alive, self.life, call, arguments)

    def guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run a piece of the process; a planted crash ends it there, and an exception is a mistake in the program."""
        try:
            call(*arguments)
        except Crash:
            self._end("killed in the middle of a write", False)
        except Exception:
            if self.disk.fail_appends or self.disk.fail_syncs:
                self._end("stopped by its failing disk", False)
            else:
                self.world.bug(self, traceback.format_exc())
                self._end("stopped by an exception", False)

    def enter(self) -> None:
        """Open a turn unless one is open."""
        if not self._turn_open:
            self._turn_open = True
            assert self.node is not None
            self.node.begin(self._wall_ms(), self.world.scheduler.now_ms)
            self.later(TURN_MS, self.guarded, self._end_turn)

    def connect(self, client: Client) -> ClientSide:
        return ClientSide(self, client)

    def _in_turn(self, call: Callable[..., None], *arguments: Any) -> None:
        self.enter()
        call(*arguments)

    def _if_alive(self, life: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.paused:
            self._parked.append((self._if_alive, (life, call, arguments)))
        else:
            call(*arguments)

    def _wall_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self.world.scheduler.now_ms)

    # A process's life.

    def _boot(self) -> None:
        """As `runtime` does on start: identity, store, topology, node, then the timers."""
        world, rng, disk = self.world, self._rng, self.disk
        config = world.config
        self._identity = identity = open_identity(disk, self.name, rng.randbytes)
        self._worker = VirtualWorker(self._later_guarded, rng, self._work_delay_ms, self.enter)
        store = WitnessedStore(disk, ModelEngine(self.medium), self._worker, self._store_config, self._clock_ms)
        store.witness, store.name = world.witness, self.name
        identity.begin(store.position, rng.randbytes)
        host = f"{self.name}.sim"
        member = Member(self.name, identity.node, host, 9379, 7379, 8379)
        topology = Topology()
        saved = disk.read(TOPOLOGY_FILE) if TOPOLOGY_FILE in disk.names() else None
        agreement = Agreement(identity.node, topology, rng, saved)
        dots = WitnessedDots(world.witness, self.name, identity.node, identity.incarnation, identity.next_epoch)
        clock = Clock(config.max_clock_offset_ms, store.stamp)
        save = partial(disk.replace, TOPOLOGY_FILE)
        self.node = node = WitnessedNode(member, topology, agreement, store, dots, clock, save, config, rng)
        node.machine = self
        self.clients = Clients()
        self.enter()
        if topology.document is None and self._seed == self.name:
            agreement.found(member, rng.randbytes(16))
        self._tick()

    def _stop(self) -> None:
        """As `runtime` does on a clean stop, but clients are cut off at once."""
        for side in self.client_sides:
            side.ended("the node stops")
        self._stop_when_idle(self.world.scheduler.now_ms + STOP_PATIENCE_MS)

    def _stop_when_idle(self, deadline_ms: float) -> None:
        node, worker, identity = self.node, self._worker, self._identity
        assert node is not None and worker is not None and identity is not None
        if self._turn_open or not worker.idle:
            if self.world.scheduler.now_ms < deadline_ms:
                self.later(5.0, self.guarded, self._stop_when_idle, deadline_ms)
            else:
                self._end("killed, since it does not stop", False)
            return
        store = node.store
        assert isinstance(store, Store)
        if not store.failed:
            end = store.close()
            if not node.cold.damaged:
                identity.stopped(end, node.dots.next_epoch)
        self._end("stopped", False)

    def _end(self, why: str, power: bool) -> None:
        self.world.trace.event(self.name, why)
        self.up = False
        self.life += 1
        sides = self.client_sides
        self._reset()
        if power:
            self.disk.power_lost()
        else:
            self.disk.process_died()
        self.world.network.host_died(self)
        for side in sides:
            side.ended(why)

    def _tick(self) -> None:
        node = self.node
        assert node is not None
        self.enter()
        node.tick()
        if not self._slicing:
            self._slice()
        self._join()
        self._follow()
        self.later(TICK_MS, self.guarded, self._tick)

    def _slice(self) -> None:
        node = self.node
        assert node is not None and isinstance(node.store, Store)
        self.enter()
        self._slicing = node.store.background(SLICE_MS)
        if self._slicing:
            self.later(SLICE_PAUSE_MS, self.guarded, self._slice)

    def _end_turn(self) -> None:
        self._turn_open = False
        node = self.node
        assert node is not None
        node.end_turn()
        epoch = node.topology.epoch
        if epoch != self._epoch:
            self._epoch = epoch
            document = node.topology.document
            assert document is not None and self._identity is not None
            self.world.topology_installed(self, node.topology)
            if not self._identity.cluster:
                self._identity.joined(document.cluster)

    def _later_guarded(self, delay_ms: float, call: Callable[..., None], *arguments: Any) -> None:
        self.later(delay_ms, self.guarded, call, *arguments)

    def _work_delay_ms(self) -> float:
        return self.work_ms * self._rng.uniform(0.2, 2.0)

    def _clock_ms(self) -> float:
        """The store's clock goes on while it is read, so that its work is cut into slices here as it is elsewhere."""
        self._clock_reads += 1
        return self.world.scheduler.now_ms + self._clock_reads * CLOCK_READ_MS

    # Links.

    def accepted(self, side: Side) -> None:
        self.input(self._hello, side)

    def connected(self, side: Side) -> None:
        self.input(self._hello, side)

    def dial_failed(self, name: str) -> None:
        self.input(self._dial_later, name)

    def received(self, side: Side, messages: list[Message]) -> None:
        self.input(self._received, side, messages)

    def broken(self, side: Side) -> None:
        self.input(self._broken, side)

    def _hello(self, side: Side) -> None:
        assert self.node is not None
        if not side.open:
            self._broken(side)
            return
        side.greet(encode(self.node.hello()))
        self.later(HELLO_TIMEOUT_MS, self._no_hello, side)

    def _no_hello(self, side: Side) -> None:
        if side.open and not side.greeted:
            side.close()
            self._broken(side)

    def _received(self, side: Side, messages: list[Message]) -> None:
        node, trace = self.node, self.world.trace
        assert node is not None
        for message in messages:
            if not side.open:
                return
            if trace.written:
                trace.message(side.other.host.name, self.name, message)
            if side.greeted:
                node.receive(side, message)
            else:
                self._greet(side, message)

    def _greet(self, side: Side, message: Message) -> None:
        node = self.node
        assert node is not None
        assert isinstance(message, Hello), "the first frame is a Hello, whatever happens to the others"
        reason = node.check_hello(message)
        if reason is not None:
            self.world.trace.event(self.name, f"refuses {message.name}: {reason}")
            side.close()
            self._broken(side)
            return
        side.greeted = True
        side.peer = message.node
        if side.dialled:
            self._links[message.name] = side
            self._pauses_ms[message.name] = DIAL_PAUSE_MS_MIN
            node.link_up(side)

    def _broken(self, side: Side) -> None:
        assert self.node is not None
        if side.dialled:
            if side.greeted:
                self.node.link_down(side)
            self._dial_later(side.other.host.name)

    def _follow(self) -> None:
        """Dial everybody whom the document names, and the machine to join."""
        node = self.node
        assert node is not None
        names = [self._seed, *(member.name for member in node.topology.members.values())]
        for name in names:
            if name != self.name and name not in self._links:
                self._links[name] = None
                self.world.network.dial(self, self.world.machine(name))

    def _dial_later(self, name: str) -> None:
        self._links[name] = None
        pause_ms = self._pauses_ms.get(name, DIAL_PAUSE_MS_MIN)
        self._pauses_ms[name] = min(DIAL_PAUSE_MS_MAX, 2 * pause_ms)
        self.later(pause_ms * self._rng.uniform(0.5, 1.0), self._dial, name)

    def _dial(self, name: str) -> None:
        self.world.network.dial(self, self.world.machine(name))

    def _join(self) -> None:
        node, now_ms = self.node, self.world.scheduler.now_ms
        assert node is not None
        link = self._links.get(self._seed)
        if not node.topology.epoch and link is not None and now_ms - self._asked_ms >= JOIN_PAUSE_MS:
            self._asked_ms = now_ms
            link.outbox.append(encode(Join(node.member)))
            link.flush()
