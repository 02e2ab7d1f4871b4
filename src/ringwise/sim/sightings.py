"""What nodes say of one another (R6), held against what the simulator knows of them.

    death    nobody was called dead that ran all the time, save for pauses of up to two seconds, with a sound network
    unseen   once everything is mended, every node soon sees every other one as alive

A death shortly after a real fault is not judged: a suspicion may outlast what gave rise to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ringwise.core.gossip.packets import State
from ringwise.core.messages import NodeId
from ringwise.sim.checker import Violation
from ringwise.sim.machine import PAUSE_MS_MAX, Machine
from ringwise.sim.network import Network
from ringwise.sim.scheduler import Scheduler

EXCUSED_MS = 12_000.0  # the longest suspicion of `local`, unconfirmed, and time for the refutation to get round
SEEN_MS_MAX = 20_000.0  # many times what a dead node waits for its ping
STEP_MS = 100.0


class Sightings:
    """Judges changes of state as they come, and the views at the end."""

    def __init__(self, scheduler: Scheduler, network: Network, machines: Sequence[Machine]) -> None:
        self.violations: list[Violation] = []
        self.suspicions = 0
        self.deaths = 0
        self._scheduler = scheduler
        self._network = network
        self._machines = machines

    def changed(self, observer: Machine, node: NodeId, after: State) -> None:
        self.suspicions += after == State.SUSPECT
        if after != State.DEAD:
            return
        self.deaths += 1
        victim = next((machine for machine in self._machines if machine.node and machine.node.id == node), None)
        if victim is not None and not self._excused(victim):
            now_ms = self._scheduler.now_ms
            self.violations.append(
                Violation("death", b"", f"{observer.name} calls {victim.name} dead at {now_ms:.1f} ms")
            )

    def _excused(self, victim: Machine) -> bool:
        now_ms = self._scheduler.now_ms
        if victim.paused and now_ms - victim.paused_ms > PAUSE_MS_MAX:
            return True
        return now_ms - max(victim.away_ms, self._network.troubled_ms) < EXCUSED_MS

    def check(self) -> Iterator[Violation]:
        """Lets time pass until all that run see one another."""
        deadline_ms = self._scheduler.now_ms + SEEN_MS_MAX
        while (unseen := self._unseen()) and self._scheduler.now_ms < deadline_ms:
            self._scheduler.run(self._scheduler.now_ms + STEP_MS)
        yield from self.violations
        if unseen:
            yield Violation("unseen", b"", f"when all is mended, {', '.join(unseen)}")

    def _unseen(self) -> list[str]:
        nodes = [machine.node for machine in self._machines if machine.node is not None]
        return [
            f"{observer.name} sees {other.name} as {state.name.lower()}"
            for observer in nodes
            for other in nodes
            if (state := observer.liveness.state(other.id)) != State.ALIVE
        ]
