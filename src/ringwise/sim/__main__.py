"""`python -m ringwise.sim`: histories by seed.

    python -m ringwise.sim --seeds 200              the first 200 seeds, on every processor
    python -m ringwise.sim --seed 17 --trace        one of them again, told step by step
    python -m ringwise.sim --seed 17 --trace --key k3
    python -m ringwise.sim --pairs 3                all nine pairs of R and W: where stale reads are found, and where
                                                    not

Ends with 1 if a history breaks a promise, or too few of them count.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from ringwise.sim.pairs import search
from ringwise.sim.simulator import Report, run

UNCOUNTED_SHARE_MAX = 0.1  # more histories than this below the acknowledged share, and the run proves too little


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ringwise.sim", description=__doc__.partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seeds", type=int, default=200, metavar="N", help="run N seeds (default: %(default)s)")
    which.add_argument("--seed", type=int, metavar="N", help="run this seed alone")
    which.add_argument("--pairs", type=int, metavar="N", help="run N seeds of each pair of R and W")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="the first seed of several (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="at least so many nodes in each history")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell every step")
    parser.add_argument("--key", default="", metavar="KEY", help="with --trace: only frames with this key in them")
    options = parser.parse_args(arguments)
    if options.pairs is not None:
        return run_pairs(options.pairs, options.jobs)
    if options.seed is not None:
        return run_one(options.seed, options.nodes, options.trace, options.key)
    return run_many(range(options.first, options.first + options.seeds), options.nodes, options.jobs)


def run_one(seed: int, nodes: int, trace: bool, key: str) -> int:
    def tell(line: str) -> None:
        if key in line or ">" not in line:
            print(line)

    report = run(seed, tell=tell if trace else None, nodes=nodes)
    print(report)
    return 1 if report.violations else 0


def run_many(seeds: range, nodes: int, jobs: int) -> int:
    began = time.perf_counter()
    reports: list[Report] = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for report in pool.map(partial(run, nodes=nodes), seeds, chunksize=1):
            print(report, flush=True)
            reports.append(report)
    took_s = time.perf_counter() - began
    failing = [report.seed for report in reports if report.violations]
    uncounted = [report.seed for report in reports if not report.counts]
    operations = sum(report.operations for report in reports)
    acknowledged = sum(report.acknowledged for report in reports)
    print(
        f"\n{len(reports)} histories in {took_s:.0f} s: {operations:,} operations, {acknowledged / operations:.0%} of them "
        f"acknowledged, {sum(report.faults for report in reports):,} faults; "
        f"{len(uncounted)} do not count, {len(failing)} fail"
    )
    if uncounted:
        print("under half acknowledged, so not counted: " + ", ".join(map(str, uncounted)))
    for report in reports:
        if report.violations:
            print(f"failing: {report.again} --trace")
    return 1 if failing or len(uncounted) > UNCOUNTED_SHARE_MAX * len(reports) else 0


def run_pairs(seeds: int, jobs: int) -> int:
    pairs = [(r, w) for r in (1, 2, 3) for w in (1, 2, 3)]
    good = True
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for (r, w), found in zip(pairs, pool.map(partial(search, seeds=range(1, seeds + 1)), pairs), strict=True):
            expected = r + w <= 3
            good &= expected == bool(found.stale) and not found.violations
            print(f"R={r} W={w}  {found}  {'' if expected == bool(found.stale) else 'WRONG'}", flush=True)
            for violation in found.violations:
                print("   ", violation)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
