"""The adversary: breaks things at random times, several at once, and mends each after a while.

A table of faults; a history draws at least `FAULTS_MIN` of them.  Each fault is a generator: it breaks something,
says what, and yields how long to leave it so before it goes on to mend it.  At the end of a history `Nemesis.mend`
sets everything right at once, whatever is still under way.

Two rules keep a history worth checking.  Power is lost only where every acknowledged write was synced (sync mode
`batch`), since `periodic` promises no more than Redis's `everysec`.  And a disk that fails a sync, which may lose
what was acknowledged there under `periodic`, is likewise left to `batch`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from ringwise.core.keys import key_of, split_storage_key
from ringwise.core.record import intact
from ringwise.sim.disk import TornDisk
from ringwise.sim.engine import Medium
from ringwise.sim.history import History
from ringwise.sim.machine import Moment
from ringwise.sim.network import Network, Weather
from ringwise.sim.refill import ASK_AGAIN_MS, ask_to_replace, whole
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.trace import Trace
from ringwise.sim.watched import WitnessedNode

FAULTS_MIN = 5
FAULTS_MAX = 11
DISORDER_LASTS_MS = 2_000.0  # after the storm: frames sent in it are still under way
JUMP_MS_MIN = 120_000
JUMP_MS_MAX = 2 * 86_400_000
SKEW_MS_MAX = 5_000  # far below the maximum clock offset: refusing a stamp is not what is tested here

Fault = Iterator[tuple[str, float]]  # what was done, and how long until the next step


class Machine(Protocol):
    name: str
    up: bool
    paused: bool
    disk: TornDisk
    skew_ms: int
    work_ms: float  # how long a piece of disk work takes
    moment: Moment | None
    medium: Medium

    @property
    def read_only(self) -> bool: ...
    @property
    def node(self) -> WitnessedNode | None: ...
    def input(self, call: Callable[..., None], *arguments: object) -> None: ...
    def lose_disk(self, seed: str) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def crash(self, power: bool) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Nemesis:
    def __init__(
        self,
        scheduler: Scheduler,
        rng: random.Random,
        machines: Sequence[Machine],
        network: Network,
        history: History,
        power: bool,
        trace: Trace,
        kinds: tuple[str, ...] = (),
    ) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self._machines = machines
        self._network = network
        self._history = history
        self._power = power
        self._trace = trace
        self._work_ms = [machine.work_ms for machine in machines]
        self._calm = network.weather
        self._over = False
        self._rotting = machines[rng.randrange(len(machines))]
        self._replacing = False
        self._partitions = 0
        self._storms = 0
        faults: dict[str, tuple[float, Callable[[], Fault]]] = {
            "crash": (4, self._crash),
            "crash while writing": (3, self._crash_while_writing),
            "crash all": (1.5, self._crash_all),
            "crash after a reply": (1, partial(self._crash_in_the_act, "reply")),
            "crash after a send": (1, partial(self._crash_in_the_act, "send")),
            "crash all after a reply": (1, partial(self._crash_in_the_act, "reply", of_all=True)),
            "stop": (1, self._stop),
            "pause": (2, self._pause),
            "partition": (4, self._partition),
            "one way": (1.5, self._one_way),
            "break": (3, self._break),
            "loss": (2, self._loss),
            "disorder": (2, self._disorder),
            "slow disk": (2, self._slow_disk),
            "skew": (2, self._skew),
            "jump": (1, self._jump),
            "damage": (1, self._damage),
            "empty disk": (1, self._empty_disk),
        }
        if power:
            faults["bad disk"] = (1, self._bad_disk)
        self._faults = [(weight, fault) for name, (weight, fault) in faults.items() if not kinds or name in kinds]

    def plan(self, from_ms: float, until_ms: float, faults_max: int = FAULTS_MAX) -> None:
        """Draw the faults of a history."""
        weights = [weight for weight, _ in self._faults]
        for _ in range(self._rng.randint(FAULTS_MIN, faults_max)):
            fault = self._rng.choices(self._faults, weights)[0][1]
            self._scheduler.at(self._rng.uniform(from_ms, until_ms), self._begin, fault())

    def mend(self) -> None:
        """No more faults; what is broken is made whole."""
        self._over = True
        self._network.heal()
        self._network.weather = self._calm
        for machine, work_ms in zip(self._machines, self._work_ms, strict=True):
            machine.disk.fail_syncs = machine.disk.fail_appends = False
            machine.disk.crash_at_append = 0
            machine.moment = None
            machine.work_ms = work_ms
            if abs(machine.skew_ms) > SKEW_MS_MAX:
                machine.skew_ms = 0
            machine.resume()
            if machine.read_only:  # its log failed, which only a restart ends (S3)
                machine.crash(power=False)
            machine.start()

    def note(self, what: str) -> None:
        self._history.steps.append((self._scheduler.now_ms, what))
        self._trace.event("nemesis", what)

    def _begin(self, fault: Fault) -> None:
        self._history.faults += 1
        self._step(fault)

    def _step(self, fault: Fault) -> None:
        if self._over:
            return
        for what, for_ms in fault:
            if what:
                self.note(what)
            self._scheduler.after(for_ms, self._step, fault)
            return

    # Faults of machines.

    def _crash(self) -> Fault:
        machine = self._any()
        power = self._power and self._rng.random() < 0.7
        machine.crash(power)
        yield f"{machine.name} {'loses power' if power else 'is killed'}", self._between(50, 8_000)
        machine.start()

    def _crash_while_writing(self) -> Fault:
        """In the middle of an append to the commit log, whenever that comes."""
        machine = self._any()
        machine.disk.crash_at_append = self._rng.randint(1, 20)
        yield f"{machine.name} will be killed in the middle of a write", self._between(1_000, 5_000)
        machine.disk.crash_at_append = 0
        machine.start()

    def _crash_in_the_act(self, what: str, of_all: bool = False) -> Fault:
        """Right behind a reply to a client or a send to a peer: what should have been done by then is done, or lost."""
        machine = self._any()
        power = self._power and self._rng.random() < 0.8
        victims = self._machines if of_all else [machine]

        def crash() -> None:
            for victim in victims:
                victim.crash(power)
                self._scheduler.after(self._between(20, 2_000), victim.start)
            self.note(f"{' '.join(victim.name for victim in victims)} {'lose power' if power else 'are killed'}")

        machine.moment = Moment(what, self._rng.randint(1, 5), crash)
        yield f"{machine.name} is about to {what} for the last time", self._between(1_000, 5_000)
        machine.moment = None

    def _crash_all(self) -> Fault:
        power = self._power and self._rng.random() < 0.7
        for machine in self._machines:
            machine.crash(power)
        yield f"all {'lose power' if power else 'are killed'}", self._between(10, 1_500)
        for machine in self._rng.sample(self._machines, len(self._machines)):
            machine.start()
            yield "", self._between(0, 800)

    def _stop(self) -> Fault:
        machine = self._any()
        machine.stop()
        yield f"{machine.name} is stopped", self._between(200, 4_000)
        machine.start()

    def _pause(self) -> Fault:
        machine = self._any()
        machine.pause()
        yield f"{machine.name} is paused", self._between(100, 6_000)
        machine.resume()

    def _slow_disk(self) -> Fault:
        machine = self._any()
        usual_ms, machine.work_ms = machine.work_ms, self._rng.choice((30.0, 200.0, 1_500.0))
        yield f"the disk of {machine.name} takes {machine.work_ms:.0f} ms", self._between(1_000, 8_000)
        machine.work_ms = usual_ms

    def _bad_disk(self) -> Fault:
        """A failed sync ends writing until a restart (S3), so there is one, on a mended disk."""
        machine = self._any()
        if self._rng.random() < 0.7:
            machine.disk.fail_syncs = True
        else:
            machine.disk.fail_appends = True
        yield f"the disk of {machine.name} fails", self._between(500, 4_000)
        machine.disk.fail_syncs = machine.disk.fail_appends = False
        machine.crash(power=False)
        yield f"{machine.name} is restarted on a mended disk", self._between(50, 1_000)
        machine.start()

    def _damage(self) -> Fault:
        """Records rot on one disk (S4): always the same one, since what all owners have lost nobody can bring back."""
        medium = self._rotting.medium
        keys = [key for key in medium.sorted_keys() if intact(medium.records[key])]
        damaged = self._rng.sample(keys, min(len(keys), self._rng.randint(1, 5)))
        for key in damaged:
            medium.damage(key)
            self._history.damaged.add(key_of(split_storage_key(key)[1]))
        yield f"{len(damaged)} records of {self._rotting.name} rot", 0.0

    def _empty_disk(self) -> Fault:
        """All is lost on one disk (T4): the one on which records rot, too, for the same reason. It is brought back as an operator
        would, and may lose its disk again once it has been filled."""
        machine = self._rotting
        others = [other.name for other in self._machines if other is not machine]
        if self._replacing or not whole(machine):
            return
        self._replacing = True
        machine.lose_disk(self._rng.choice(others))
        self._history.emptied.append(self._scheduler.now_ms)
        started_first = self._rng.random() < 0.5
        yield f"{machine.name} has lost its disk", self._between(50, 3_000)
        if started_first:
            machine.start()
        while machine.node is None or machine.node.id not in machine.node.topology.members:
            ask_to_replace(self._machines, machine)
            yield "", self._between(0.5, 1) * ASK_AGAIN_MS
            machine.start()
        yield f"{machine.name} has its place again", 0.0
        while not whole(machine):
            yield "", ASK_AGAIN_MS
        self._replacing = False
        yield f"{machine.name} is filled", 0.0

    @property
    def emptied(self) -> Machine:
        """The machine that loses its disk, if one does."""
        return self._rotting

    def _skew(self) -> Fault:
        machine = self._any()
        machine.skew_ms = self._rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX)
        self._history.skews_ms.append(machine.skew_ms)
        yield f"the clock of {machine.name} is set {machine.skew_ms} ms off", 0.0

    def _jump(self) -> Fault:
        """A step far beyond the maximum clock offset (V7), which somebody sets right again."""
        machine = self._any()
        step_ms = self._rng.choice((-1, 1)) * self._rng.randint(JUMP_MS_MIN, JUMP_MS_MAX)
        usual_ms, machine.skew_ms = machine.skew_ms, machine.skew_ms + step_ms
        self._history.skews_ms.append(machine.skew_ms)
        yield f"the clock of {machine.name} jumps by {step_ms / 1000:.0f} s", self._between(500, 8_000)
        machine.skew_ms = usual_ms
        yield f"the clock of {machine.name} is set right", 0.0

    # Faults of the network.

    def _partition(self) -> Fault:
        names = [machine.name for machine in self._machines]
        self._rng.shuffle(names)
        cut = self._rng.randint(1, len(names) - 1)
        some, others = sorted(names[:cut]), sorted(names[cut:])
        directions = {pair for a in some for b in others for pair in ((a, b), (b, a))}
        yield from self._block(directions, f"partition: {' '.join(some)} | {' '.join(others)}")

    def _one_way(self) -> Fault:
        machine = self._any()
        others = [other.name for other in self._machines if other is not machine]
        if self._rng.random() < 0.5:
            directions = {(machine.name, other) for other in others}
            yield from self._block(directions, f"nothing that {machine.name} sends arrives")
        else:
            directions = {(other, machine.name) for other in others}
            yield from self._block(directions, f"nothing sent to {machine.name} arrives")

    def _block(self, directions: set[tuple[str, str]], what: str) -> Fault:
        self._partitions += 1
        self._network.block(directions)
        yield what, self._between(200, 8_000)
        self._partitions -= 1
        if not self._partitions:
            self._network.heal()
            yield "the network is whole", 0.0

    def _break(self) -> Fault:
        first, second = self._rng.sample(self._machines, 2)
        for _ in range(self._rng.choice((1, 1, 5))):
            self._network.break_between(first.name, second.name)
            yield f"links between {first.name} and {second.name} break", self._between(5, 500)

    def _loss(self) -> Fault:
        share = self._rng.choice((0.02, 0.1, 0.4))
        yield from self._storm(
            Weather(1.0, 2.0, loss=share, datagram_loss=share), f"{share:.0%} of the frames are lost"
        )

    def _disorder(self) -> Fault:
        jitter_ms = self._rng.choice((2.0, 20.0, 100.0))
        weather = Weather(1.0, jitter_ms, duplicate=0.2, reorder=0.3, datagram_duplicate=0.2, datagram_late=0.1)
        began_ms = self._scheduler.now_ms
        yield from self._storm(weather, f"frames are doubled and reordered, jitter {weather.jitter_ms:.0f} ms")
        self._history.disorder.append((began_ms, self._scheduler.now_ms + DISORDER_LASTS_MS))

    def _storm(self, weather: Weather, what: str) -> Fault:
        self._storms += 1
        self._network.weather = weather
        yield what, self._between(500, 6_000)
        self._storms -= 1
        if not self._storms:
            self._network.weather = self._calm

    def _any(self) -> Machine:
        return self._rng.choice(self._machines)

    def _between(self, low_ms: float, high_ms: float) -> float:
        return self._rng.uniform(low_ms, high_ms)
