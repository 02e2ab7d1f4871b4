"""One run of the real `redis-benchmark`, unmodified, and what it says."""

import csv
import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.servers import BenchmarkError

RUN_SECONDS_MAX = 900


@dataclass(frozen=True)
class Figures:
    rps: float
    p50_ms: float
    p99_ms: float


def run(
    port: int, test: str, *, requests: int, keys: int, value_bytes: int, pipeline: int, connections: int
) -> Figures:
    options = ["-t", test, "-n", str(requests), "-r", str(keys), "-d", str(value_bytes), "-c", str(connections)]
    return measured(port, [*options, "-P", str(pipeline), "--csv"], test.upper())


def run_command(port: int, words: Sequence[str], *, requests: int, numbers: int, connections: int) -> Figures:
    """A command of its own, in which `__rand_int__` stands for twelve digits of a number below `numbers`."""
    options = ["-n", str(requests), "-r", str(numbers), "-c", str(connections), "--csv"]
    return measured(port, [*options, *words], " ".join(words))


def measured(port: int, options: Sequence[str], title: str) -> Figures:
    """What it says of one test, which it calls by that title."""
    binary = shutil.which("redis-benchmark")
    if binary is None:
        raise BenchmarkError("redis-benchmark is not installed; it is the load generator of this table")
    arguments = [binary, "-h", "127.0.0.1", "-p", str(port), *options]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    rows = [row for row in csv.reader(io.StringIO(ended.stdout)) if row]
    if ended.returncode or len(rows) < 2 or rows[-1][0] != title:
        raise BenchmarkError(f"{' '.join(arguments)} failed ({ended.returncode}): {ended.stdout} {ended.stderr}")
    named = dict(zip(rows[-2], rows[-1], strict=True))
    return Figures(float(named["rps"]), float(named["p50_latency_ms"]), float(named["p99_latency_ms"]))
