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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ringwise.core.agreement import Agreement, Join
from ringwise.core.clock import Clock
from ringwise.core.config import NodeConfig
from ringwise.core.gossip.packets import State
from ringwise.core.messages import Hello, Message, NodeId, encode
from ringwise.core.topology import Member, Topology
from ringwise.server.clients import Clients
from ringwise.sim.connection import ClientSide
from ringwise.sim.disk import Crash, TornDisk
from ringwise.sim.engine import Medium, ModelEngine
from ringwise.sim.model import Witness
from ringwise.sim.network import Network, Side
from ringwise.sim.policies import FAILS, FUNCTION, union
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.trace import Trace
from ringwise.sim.watched import WitnessedDots, WitnessedNode, WitnessedStore
from ringwise.sim.worker import VirtualWorker
from ringwise.sim.workload import Client
from ringwise.storage.identity import Identity, open_identity
from ringwise.storage.store import Store, StoreConfig

TOPOLOGY_FILE = "topology"
EPOCH_MS = 1_700_000_000_000  # what the wall clocks show when a history begins
TICK_MS = 20.0
HELLO_TIMEOUT_MS = 2_000.0
DIAL_PAUSE_MS_MIN = 50.0
DIAL_PAUSE_MS_MAX = 1_000.0
JOIN_PAUSE_MS = 300.0
STOP_PATIENCE_MS = 5_000.0
SLICE_MS = 1.0
SLICE_PAUSE_MS = 2.0
CLOCK_READ_MS = 0.01
PAUSE_MS_MAX = 2_000.0  # of the promise that nobody is called dead for it (core/gossip/presets.py)


AHEAD_MS = 120_000  # no clock of a history is so far ahead
SET_RIGHT_MS = 5_000  # a machine that is further off asks for the time when it starts


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
    def stood_in(self, rkey: bytes) -> None: ...
    def merge_failed(self) -> None: ...
    def member_changed(self, machine: "Machine", node: NodeId, before: State, after: State) -> None: ...


@dataclass(slots=True)
class Moment:
    """Something is to happen right behind the `left`-th reply to a client, or send to a peer, before all else."""

    what: str  # "reply" or "send"
    left: int
    then: Callable[[], None]


class Machine:
    def __init__(
        self,
        world: World,
        rng: random.Random,
        name: str,
        seed: str,
        store_config: StoreConfig,
        work_ms: float,
        turn_ms: float,
    ) -> None:
        self.world = world
        self.name = name
        self.disk = TornDisk(rng)
        self.medium = Medium()
        self.up = False
        self.paused = False
        self.paused_ms = 0.0  # since when, where it is
        self.away_ms = 0.0  # when it was last down, or paused for long enough to be taken for dead
        self.life = 0
        self.skew_ms = 0
        self.work_ms = work_ms
        self._turn_ms = turn_ms  # inputs that come within it share a turn
        self.moment: Moment | None = None
        self.node: WitnessedNode | None = None
        self.clients: Clients | None = None
        self.client_sides: list[ClientSide] = []
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
        if abs(self.skew_ms) > SET_RIGHT_MS:
            self.skew_ms = 0
        self.away_ms = self.world.scheduler.now_ms
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

    def lose_disk(self, seed: str) -> None:
        """The process dies, and nothing of its disk is left; it will ask `seed` to be let in."""
        if self.up:
            self._end("killed, its disk is lost", False)
        self.disk, self.medium = TornDisk(self._rng), Medium()
        self._seed = seed

    @property
    def read_only(self) -> bool:
        return self.node is not None and self.node.store.failed

    def pause(self) -> None:
        if self.up and not self.paused:
            self.paused = True
            self.paused_ms = self.world.scheduler.now_ms

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self.world.scheduler.now_ms - self.paused_ms > PAUSE_MS_MAX:
                self.away_ms = self.world.scheduler.now_ms
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
            self.later(self._turn_ms, self.guarded, self._end_turn)

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
        store.wall_ms = lambda: EPOCH_MS + AHEAD_MS + int(world.scheduler.now_ms)
        identity.begin(store.position, rng.randbytes)
        host = f"{self.name}.sim"
        member = Member(self.name, identity.node, host, 9379, 7379, 8379)
        topology = Topology()
        saved = disk.read(TOPOLOGY_FILE) if TOPOLOGY_FILE in disk.names() else None
        agreement = Agreement(identity.node, topology, rng, saved)
        dots = WitnessedDots(world.witness, self.name, identity.node, identity.incarnation, identity.next_epoch)
        clock = Clock(config.max_clock_offset_ms, store.stamp)
        save = partial(disk.replace, TOPOLOGY_FILE)
        started_ms = self._wall_ms()
        self.node = node = WitnessedNode(member, topology, agreement, store, dots, clock, save, config, rng, started_ms)
        node.liveness.watchers.append(partial(self.world.member_changed, self))
        node.witness = world.witness
        node.stand_ins.counted = world.stood_in
        node.merging.run, node.merging.names = self._merge, (FUNCTION,)
        self.clients = Clients()
        self.enter()
        if topology.document is None and self._seed == self.name:
            agreement.found(member, rng.randbytes(16))
        self._tick()

    def _merge(self, name: str, values: Sequence[bytes], done: Callable[[bytes | str], None]) -> None:
        """As runtime/merging.py does in a process of its own."""
        assert self._worker is not None
        fails = self._rng.random() < FAILS
        if fails:
            self.world.merge_failed()
        self._worker.submit(lambda: f"{name} took too long" if fails else union(values), done)  # type: ignore[arg-type]

    def _stop(self) -> None:
        """As `runtime` does on a clean stop, but clients are cut off at once."""
        assert self.node is not None
        self.enter()
        self.node.leave()
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
            if not (node.cold.damaged or node.dots.retired):
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
        packets, node.liveness.datagrams = node.liveness.datagrams, []
        for packet in packets:
            assert packet.address is not None
            self.world.network.datagram(
                self, self.world.machine(packet.address.host.removesuffix(".sim")), packet.payload
            )
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

    def datagram(self, payload: bytes) -> None:
        self.input(self._heard, payload)

    def _heard(self, payload: bytes) -> None:
        assert self.node is not None
        self.node.liveness.receive(payload, self.node.now.now_ms)

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
