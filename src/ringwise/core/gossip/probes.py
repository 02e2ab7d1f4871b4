"""Probes under way, and relays: the probes that this node makes for others (SWIM 3.1).

A number ties an answer to its question and is not used twice in a run, so a late answer to an old probe proves nothing.
At most one probe of a member is under way.
"""

from __future__ import annotations

import math
import random

from ringwise.core.gossip.presets import Preset
from ringwise.core.topology import NodeId

RELAYS_MAX = 256  # more asked at once means that the network is in trouble anyway
NACK_SHARE = 0.8  # of the probe timeout: the helper's nack has to be back before the asker gives up
RELAY_INTERVALS = 4  # how long a late answer is still passed on


class Probe:
    __slots__ = ("asked", "due_ms", "ends_ms", "nacks", "number", "target")

    def __init__(self, target: NodeId, number: int, due_ms: float, ends_ms: float) -> None:
        self.target = target
        self.number = number
        self.due_ms = due_ms  # the timeout of the direct ping, then `ends_ms`
        self.ends_ms = ends_ms
        self.asked: int | None = None  # helpers, once the direct ping has timed out
        self.nacks: set[NodeId] = set()


class Relay:
    __slots__ = ("asker", "due_ms", "ends_ms", "nacked", "number", "own_number", "target")

    def __init__(
        self, asker: NodeId, number: int, target: NodeId, own_number: int, due_ms: float, ends_ms: float
    ) -> None:
        self.asker = asker
        self.number = number  # the asker's
        self.target = target
        self.own_number = own_number  # of this node's ping
        self.due_ms = due_ms  # of the nack, then of being forgotten
        self.ends_ms = ends_ms
        self.nacked = False


class Probes:
    """Of one node."""

    def __init__(self, preset: Preset, rng: random.Random) -> None:
        self.due_ms = math.inf  # a bound from below: of whatever is under way, the earliest that may be due
        self._preset = preset
        self._number = rng.getrandbits(31)  # answers to an earlier run of this node are none to this one
        self._probes: dict[NodeId, Probe] = {}
        self._relays: dict[int, Relay] = {}

    def next_number(self) -> int:
        self._number = (self._number + 1) & 0xFFFF_FFFF
        return self._number

    def begin(self, target: NodeId, timeout_ms: float, interval_ms: float, now_ms: float) -> Probe | None:
        """A new probe, or None where one of this member is under way."""
        if target in self._probes:
            return None
        probe = Probe(target, self.next_number(), now_ms + timeout_ms, now_ms + interval_ms)
        self._probes[target] = probe
        self.due_ms = min(self.due_ms, probe.due_ms)
        return probe

    def of(self, target: NodeId, number: int) -> Probe | None:
        probe = self._probes.get(target)
        return probe if probe is not None and probe.number == number else None

    def end(self, probe: Probe) -> None:
        self._probes.pop(probe.target, None)
        self._set_due()

    def relay(self, asker: NodeId, number: int, target: NodeId, now_ms: float) -> Relay | None:
        if len(self._relays) >= RELAYS_MAX:
            return None
        nack_ms = now_ms + self._preset.probe_timeout_ms * NACK_SHARE
        ends_ms = now_ms + self._preset.probe_interval_ms * RELAY_INTERVALS
        relay = Relay(asker, number, target, self.next_number(), nack_ms, ends_ms)
        self._relays[relay.own_number] = relay
        self.due_ms = min(self.due_ms, nack_ms)
        return relay

    def answered_relay(self, target: NodeId, number: int) -> Relay | None:
        relay = self._relays.get(number)
        if relay is None or relay.target != target:
            return None
        del self._relays[number]
        self._set_due()
        return relay

    def overdue(self, now_ms: float) -> list[Probe]:
        """Probes that wait for the caller's next step; each is then due at its end."""
        overdue = [probe for probe in self._probes.values() if probe.due_ms <= now_ms]
        for probe in overdue:
            probe.due_ms = probe.ends_ms
        self._set_due()
        return overdue

    def overdue_relays(self, now_ms: float) -> list[Relay]:
        """Relays to be nacked now; those too old for an answer are forgotten."""
        overdue = [relay for relay in self._relays.values() if relay.due_ms <= now_ms]
        for relay in overdue:
            relay.due_ms = relay.ends_ms
            if relay.nacked:
                del self._relays[relay.own_number]
        fresh = [relay for relay in overdue if not relay.nacked]
        for relay in fresh:
            relay.nacked = True
        self._set_due()
        return fresh

    def postpone(self, milliseconds: float) -> None:
        waiting: list[Probe | Relay] = [*self._probes.values(), *self._relays.values()]
        for one in waiting:
            one.due_ms += milliseconds
            one.ends_ms += milliseconds
        self._set_due()

    def forget(self, node: NodeId) -> None:
        self._probes.pop(node, None)
        self._set_due()

    def clear(self) -> None:
        self._probes.clear()
        self._relays.clear()
        self._set_due()

    def _set_due(self) -> None:
        waiting: list[Probe | Relay] = [*self._probes.values(), *self._relays.values()]
        self.due_ms = min((one.due_ms for one in waiting), default=math.inf)
