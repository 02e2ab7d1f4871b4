"""What histories of HyperLogLogs must satisfy: `member` of the checker.

    member     what was added, and acknowledged, is counted in every read that began after it, where R + W > N

A count tells only about how many; but `GET` shows the registers, and no register may be less than what an element set it to. The
other way round there is nothing to check: another element may have set the same register.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringwise.core.hyperloglog import covers, from_redis, of_elements
from ringwise.sim.history import Operation

ADDITION = "pfadd"
READ = "estimate"


def check_estimates(operations: list[Operation], copies: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Of one key, as merging.py does."""
    added = [(each, of_elements([each.value])) for each in operations if each.kind == ADDITION]
    for reading in operations:
        if not added or reading.outcome != "ok" or reading.kind not in (READ, "inspect"):
            continue
        shown = reading.siblings if reading.kind == "inspect" else [reading.found] if reading.found is not None else []
        for write, element in added:
            counted = any(covers(from_redis(each), element) for each in shown)
            if not counted and write.before(reading) and reading.r + write.w > copies:
                yield "member", f"{reading} misses {write}", (write.number, reading.number)
