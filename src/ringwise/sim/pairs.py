"""All pairs of R and W at N = 3: a read misses no earlier acknowledged write where R + W > N, and is seen to do so elsewhere.

The checker holds every history to the first half.  This is the other: if stale reads could not be found where the
quorums need not meet, finding none where they must would prove nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ringwise.sim.simulator import Scenario, run
from ringwise.sim.workload import Mix

FAULTS = ("partition", "one way", "break", "loss", "crash", "pause")


@dataclass
class Found:
    seeds: int = 0
    reads: int = 0
    stale: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.stale:5} stale of {self.reads:6,} reads in {self.seeds} histories"


def scenario(pair: tuple[int, int]) -> Scenario:
    level = f"r={pair[0]},w={pair[1]}"
    kinds = (("set", 30), ("put", 20), ("inspect", 50))
    return Scenario(mix=Mix(kinds=kinds, levels=((level, 1),), keys=8), faults=FAULTS)


def search(pair: tuple[int, int], seeds: Iterable[int]) -> Found:
    found = Found()
    for seed in seeds:
        report = run(seed, scenario(pair))
        found.seeds += 1
        found.reads += report.reads
        found.stale += report.stale
        found.violations += report.violations
    return found
