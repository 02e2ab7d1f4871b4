"""A machine that has lost its disk is brought back as an operator would (T4), and must then hold what it has to.

    disk emptied ─▶ started, it asks to join and is refused ─▶ `replace` on another node ─▶ admitted, filled ─▶ whole

The nemesis does these in any order, and only ever to the machine whose records rot, too: what all owners lost nobody can bring
back, so one machine of a history loses data, and the others lose none.

filled     at the end of a history nobody is filling, and the machine holds every write that a majority of owners acknowledged
           before its disk was lost, though nobody has read it since and no repair has run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from ringwise.core import record
from ringwise.core.errors import Failure
from ringwise.core.replace import Lost
from ringwise.sim.checker import N, Violation, covers, flushes_of, issues_of
from ringwise.sim.history import History, bucket_of
from ringwise.sim.model import Witness
from ringwise.sim.scheduler import Scheduler
from ringwise.sim.watched import WitnessedNode

REFILLED_MS_MAX = 90_000.0
ASK_AGAIN_MS = 400.0
STEP_MS = 50.0


class Machine(Protocol):
    name: str
    up: bool
    paused: bool

    @property
    def node(self) -> WitnessedNode | None: ...
    def input(self, call: Callable[..., None], *arguments: object) -> None: ...


def whole(machine: Machine) -> bool:
    """Whether it is a member that has its data."""
    node = machine.node
    return node is not None and node.id in node.topology.members and not node.topology.filling


def ask_to_replace(machines: Sequence[Machine], machine: Machine) -> None:
    """`replace`, asked of every other node that is up."""
    for other in machines:
        if other is not machine and other.up and not other.paused:
            other.input(partial(_ask, other, machine.name))


def _ask(machine: Machine, name: str) -> None:
    if machine.node is not None:
        machine.node.replace(name, _answered)


def _answered(_result: Lost | Failure) -> None:
    """Refused or not, it is asked again until the machine is a member."""


def refill(scheduler: Scheduler, machines: Sequence[Machine], emptied: Machine) -> Iterator[Violation]:
    """All is mended: the machine comes to its data in bounded time."""
    deadline_ms, ask_ms = scheduler.now_ms + REFILLED_MS_MAX, 0.0
    while not all(map(whole, machines)) and scheduler.now_ms < deadline_ms:
        node = emptied.node
        if scheduler.now_ms >= ask_ms and (node is None or node.id not in node.topology.members):
            ask_ms = scheduler.now_ms + ASK_AGAIN_MS
            ask_to_replace(machines, emptied)
        scheduler.run(scheduler.now_ms + STEP_MS)
    if not all(map(whole, machines)):
        told = ", ".join(f"{each.name} {'whole' if whole(each) else 'is not'}" for each in machines)
        yield Violation("filled", b"", f"not filled in {REFILLED_MS_MAX / 1000:.0f} s after all was mended: {told}")


def check_filled(
    history: History, witness: Witness, replicas: Callable[[bytes], dict[str, bytes]], emptied: str
) -> Iterator[Violation]:
    """What was acknowledged by owners before the disk was lost is there again."""
    flushes = flushes_of(history)
    end_ms = max((operation.ended_ms for operation in history.operations), default=0.0)
    for operation in history.of_owners():
        if not operation.writes or operation.outcome != "ok" or operation.w <= N // 2:
            continue
        if operation.ended_ms >= history.emptied[-1] or any(
            began < end_ms for began, _, _ in flushes[bucket_of(operation.key)].spans
        ):
            continue
        held = replicas(operation.key)
        if emptied not in held:
            continue
        state = held[emptied]
        versions = witness.key(operation.key)
        covered = versions.with_reaped(dict(record.decode(state).context) if state else {})
        issues = issues_of(operation, versions)
        if issues and not any(covers(covered, issue) for issue in issues):
            text = f"{emptied} was filled without {operation}"
            yield Violation("filled", operation.key, text, (operation.number,))
