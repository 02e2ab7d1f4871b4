"""Collections that become empty are reaped (V8), and what is put into them meanwhile is kept."""

from __future__ import annotations

import random

from ringwise.sim.simulator import Scenario, Simulation
from ringwise.sim.workload import Mix

# More removals than additions, and many keys: most have nothing or one thing in them, some of that by an increment.
EMPTIED = Mix(
    kinds=(
        ("hset", 5), ("hdel", 7), ("fields", 2), ("zadd", 5), ("zrem", 7), ("scores", 2), ("add", 4), ("remove", 6),
        ("members", 2),
    ),
    hashes=14,
    sorted_sets=14,
    sets=8,
    keys=2,
)  # fmt: skip


def test_what_becomes_empty_is_reaped_and_nothing_else() -> None:
    dropped: set[bytes] = set()
    for seed in (1, 2, 3):
        scenario = Scenario(nodes=(3, 5)[seed % 2], mix=EMPTIED, reaps=True, hints=True, repairs=True)
        simulation = Simulation(seed, scenario, random.Random(seed))
        simulation.run()
        report = simulation.report()
        assert not report.violations and report.counts, str(report)
        dropped |= {key[:1] for key, known in simulation.witness.keys.items() if known.drops}
    assert dropped == {b"h", b"z", b"s"}
