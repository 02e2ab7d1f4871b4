"""Latencies as a histogram of fixed width: one integer more for each answer, whatever the length of the run.

A list of floats would have to be sorted (nine million of them after a minute at 150,000/s) and would make the
load generator, which shares the machine with the servers it measures, dearer with every answer. Buckets are 10
µs wide; everything past the last counts in the last.
"""

from array import array

BUCKETS_PER_SECOND = 100_000
BUCKETS = 10 * BUCKETS_PER_SECOND  # ten seconds: longer than any deadline a request has


class Histogram:
    """`counts[min(int(seconds * BUCKETS_PER_SECOND), BUCKETS)] += 1` is written out where it is hot."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * (BUCKETS + 1)))

    def add(self, seconds: float) -> None:
        self.counts[min(int(seconds * BUCKETS_PER_SECOND), BUCKETS)] += 1

    def total(self) -> int:
        return sum(self.counts)

    def percentile_ms(self, percent: float) -> float:
        """The upper edge of the bucket that holds the percentile: never flattering."""
        rank = self.total() * percent / 100
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                return (bucket + 1) * 1000 / BUCKETS_PER_SECOND
        return 0.0
