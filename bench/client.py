"""Our asyncio client beside redis-py's, on the same node, in one run: 100 callers, systems in turns, the median of the ratios.

Ours reads all siblings with their context (RW.GET, RW.PUT); redis-py reads and writes a plain value (GET, SET).

    python -m bench.client --port 7379 [--callers 100] [--calls 20000] [--pairs 7]
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import redis.asyncio

from ringwise import AsyncClient

VALUE = b"x" * 100
KEYS = 10_000

Call = Callable[[str], Awaitable[object]]


async def rate(call: Call, callers: int, calls: int) -> float:
    """Calls a second of so many callers, each with one call under way."""
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await call(f"bench:{number * 7919 % KEYS}")

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return calls / (time.perf_counter() - begun)


async def compare(port: int, callers: int, calls: int, pairs: int) -> None:
    theirs = redis.asyncio.Redis(port=port, max_connections=callers)
    async with AsyncClient([f"127.0.0.1:{port}"], max_connections=callers, timeout=60) as ours, theirs:
        await ours.put_many({f"bench:{number}": VALUE for number in range(KEYS)})
        both: dict[str, tuple[Call, Call]] = {
            "get": (ours.get, theirs.get),
            "put": (lambda key: ours.put(key, VALUE), lambda key: theirs.set(key, VALUE)),
        }
        print(
            "| operation | AsyncClient | redis-py asyncio | ratio, median | ratios |\n| --- | --- | --- | --- | --- |"
        )
        for name, systems in both.items():
            for system in systems:  # connections are made before anything is measured
                await rate(system, callers, callers * 10)
            found: list[tuple[float, float]] = []
            for pair in range(pairs):
                order = (0, 1) if pair % 2 else (1, 0)
                rates = {which: await rate(systems[which], callers, calls) for which in order}
                found.append((rates[0], rates[1]))
            ratios = sorted(mine / other for mine, other in found)
            mine, other = (statistics.median(column) for column in zip(*found, strict=True))
            print(
                f"| {name} | {mine:,.0f}/s | {other:,.0f}/s | {statistics.median(ratios):.2f} "
                f"| {', '.join(f'{ratio:.2f}' for ratio in ratios)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=7379)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    asyncio.run(compare(options.port, options.callers, options.calls, options.pairs))


if __name__ == "__main__":
    main()
