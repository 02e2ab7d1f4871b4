"""Hinted handoff at the end of a history (R4): all is mended, and what owners missed is brought to them.

handed     every hint is handed over in bounded time; and where the faults cost no coordinator its memory of what is under way,
           the owners of each key then hold the same record, though nobody has read it and no repair has run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ringwise.sim.checker import Violation
from ringwise.sim.machine import Machine
from ringwise.sim.scheduler import Scheduler

# Under any other a coordinator may die, or be without a disk, before it knows that an owner has missed a write.
REMEMBERED = {"skew", "pause", "partition", "one way", "break", "loss", "disorder", "slow disk"}
HANDED_MS_MAX = 60_000.0
STEP_MS = 50.0


def check_handoff(
    scheduler: Scheduler,
    machines: Sequence[Machine],
    keys: Sequence[bytes],
    replicas: Callable[[bytes], dict[str, bytes]],
    remembered: bool,
) -> Iterator[Violation]:
    """Waits for the hints of all machines; `remembered`: as if the faults were among REMEMBERED."""
    deadline_ms = scheduler.now_ms + HANDED_MS_MAX
    while _waiting(machines) and scheduler.now_ms < deadline_ms:
        scheduler.run(scheduler.now_ms + STEP_MS)
    if _waiting(machines):
        told = ", ".join(
            f"{machine.name} {machine.node.hints.waiting}" for machine in machines if machine.node is not None
        )
        yield Violation("handed", b"", f"hints still wait after {HANDED_MS_MAX / 1000:.0f} s: {told}")
    if not remembered or any(machine.node is None or machine.node.hints.dropped for machine in machines):
        return
    for key in keys:
        held = {name: record[:8].hex() or "nothing" for name, record in replicas(key).items()}
        if len(set(held.values())) > 1:
            told = ", ".join(f"{name} {digest}" for name, digest in sorted(held.items()))
            yield Violation("handed", key, f"its owners differ after handoff: {told}")


def _waiting(machines: Sequence[Machine]) -> bool:
    """Also while a node that was started has not yet made its index."""
    return any(
        machine.node is not None and (machine.node.hints.waiting or not machine.node.hints.ready)
        for machine in machines
    )
