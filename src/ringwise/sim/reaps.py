"""Reaping at the end of a history (V8): all is mended and read, and what is deleted or expired goes from every owner.

reaped     in bounded time no owner holds a dead record; and nothing that had been reaped is there again

Rounds are suspended while the owners' records are compared: one owner drops what another still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ringwise.core import versions
from ringwise.sim.checker import Violation
from ringwise.sim.machine import Machine
from ringwise.sim.scheduler import Scheduler

REAPED_MS_MAX = 60_000.0
STEP_MS = 100.0


def suspend(scheduler: Scheduler, machines: Sequence[Machine]) -> None:
    """No node begins a round, and those under way come to their end."""
    nodes = [machine.node for machine in machines if machine.node is not None]
    for node in nodes:
        node.reaping.suspended = True
    while any(node.reaping.running for node in nodes):
        scheduler.run(scheduler.now_ms + STEP_MS)


def check_reaped(
    scheduler: Scheduler,
    machines: Sequence[Machine],
    keys: Sequence[bytes],
    replicas: Callable[[bytes], dict[str, bytes]],
) -> Iterator[Violation]:
    """Waits until nothing dead is left."""
    nodes = [machine.node for machine in machines if machine.node is not None]
    for node in nodes:
        node.repair.begin()  # what one owner alone has, the first one does not find
    while any(node.repair.running for node in nodes):
        scheduler.run(scheduler.now_ms + STEP_MS)
    for node in nodes:
        node.reaping.suspended = False
    deadline_ms = scheduler.now_ms + REAPED_MS_MAX
    while scheduler.now_ms < deadline_ms and any(_dead(nodes[0].wall_ms, replicas(key)) for key in keys):
        scheduler.run(scheduler.now_ms + STEP_MS)
    for key in keys:
        for name in _dead(nodes[0].wall_ms, replicas(key)):
            told = [(each.name, each.reaping.waits_for, each.reaping.waiting) for each in nodes]
            text = f"dead, and still at {name} after {REAPED_MS_MAX / 1000:.0f} s: {told}"
            yield Violation("reaped", key, text)


def _dead(wall_ms: int, held: dict[str, bytes]) -> list[str]:
    return [name for name, record in held.items() if versions.dead(record, wall_ms)]
