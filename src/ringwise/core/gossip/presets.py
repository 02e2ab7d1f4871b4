"""The numbers of the membership protocol, for three kinds of network; each with its reason.

Two promises bound them: a process that is paused for two seconds (garbage, a slow disk, a moved virtual machine) is never
called dead, and a killed one is known everywhere within five (`LOCAL`) or ten (`LAN`) seconds. A suspicion begins one probe
interval after the pause at the earliest, so `suspicion_min_ms` has to last for the rest of the pause and for the refutation.
"""

from __future__ import annotations

import math

import msgspec


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    probe_interval_ms: float  # each node probes one member in each interval
    probe_timeout_ms: float  # then others are asked, for the rest of the interval: several round trips of this network
    suspicion_min_ms: float  # how long a suspicion lasts that was confirmed by enough
    gossip_interval_ms: float  # how often news is told besides what rides on probes
    sync_interval_ms: float  # how often two members compare everything, up to 32 members; then rarer by log2
    dead_interval_ms: float  # how often one dead member is pinged: sets how soon a healed partition is found
    helpers: int = 3  # asked for an indirect probe: with 5 % loss, all three fail once in 150 times (SWIM 4.1)
    confirmations: int = 3  # from others, that bring a suspicion down to its minimum (Lifeguard's K)
    # How much longer it lasts unconfirmed: an observer alone is likely to be the slow one.
    suspicion_max_factor: float = 3.0
    gossip_fanout: int = 3  # members told in a gossip interval: 1,000 are reached in about six
    retransmit: int = 4  # times log10(n+1): how often each node passes on one piece of news
    health_max: int = 8  # timeouts and intervals at most nine times as long (Lifeguard's S)

    def suspicion_ms(self, members: int) -> tuple[float, float]:
        """Shortest and longest time of suspicion. News takes longer to travel beyond 100 members, with their logarithm."""
        shortest = self.suspicion_min_ms * max(1.0, math.log10(max(members, 1)) / 2)
        return shortest, shortest * self.suspicion_max_factor

    def sync_ms(self, members: int) -> float:
        """A state has a line for each member, so its cost is kept level as they grow in number."""
        return self.sync_interval_ms * max(1.0, math.log2(max(members, 1)) - 4)

    def transmissions(self, members: int) -> int:
        """How often one node passes one piece of news on."""
        return self.retransmit * math.ceil(math.log10(members + 1))


LOCAL = Preset(  # one machine: round trips below a millisecond; what is slow is a process that waits for its turn
    name="local",
    probe_interval_ms=250,  # a dead node among 100 is probed within about six intervals: 1.5 of the five seconds
    probe_timeout_ms=100,  # an event loop is seldom held up for longer
    suspicion_min_ms=2_500,  # 250 + 2,500 is 750 ms more than the longest pause that must do no harm
    gossip_interval_ms=100,
    sync_interval_ms=10_000,
    dead_interval_ms=1_000,
)
LAN = Preset(  # one data centre: round trips of a millisecond or a few; machines that share hosts with others
    name="lan",
    probe_interval_ms=500,
    probe_timeout_ms=200,  # a packet lost and sent again by TCP (200 ms at least) is left to the indirect probes
    suspicion_min_ms=4_000,  # 4 s of 10; six intervals to be probed and one to be suspected leave 2.5 s for the news
    gossip_interval_ms=200,
    sync_interval_ms=30_000,
    dead_interval_ms=2_000,
)
WAN = Preset(  # between data centres: round trips up to 300 ms, and routes that come back after some seconds
    name="wan",
    probe_interval_ms=2_000,
    probe_timeout_ms=800,
    suspicion_min_ms=12_000,  # longer than most changes of a route
    gossip_interval_ms=500,
    sync_interval_ms=60_000,
    dead_interval_ms=5_000,
)
PRESETS = {preset.name: preset for preset in (LOCAL, LAN, WAN)}
