"""A rate limiter: so many requests in a window of time, counted by all web servers together, whichever node each of them
asks.

The recipe: a counter for each user and window, `INCR`, and an expiry so that old windows go away. What to expect of it:

* No request is forgotten: every acknowledged INCR counts, so the limit holds for the sum, and a dead node loses
  nothing.
* Two INCRs at the same time on *different* nodes may both be answered with the same number, since no node asks the
  others for leave. So a few more than the limit are let in: at most as many as are under way on other nodes when it
  is reached. A limit that must never be passed needs one order of all requests, and costs a round of agreement for
  each.
* A window begins on the clock (a minute past), so twice the limit may come around its edge, as with any fixed window.
* Where the cluster does not answer, requests are let in: a limiter is no reason to be down. Turn that round for
  log-ins.

    .venv/bin/python examples/rate_limiter.py
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from any_node import NODES, pause, redis_of
from redis import Redis, RedisError


class Limiter:
    """`limit` requests in each window of `seconds`."""

    def __init__(self, redis: Redis, limit: int, seconds: int) -> None:
        self._redis = redis
        self._limit = limit
        self._seconds = seconds

    def allows(self, user: str, now: float) -> bool:
        window = int(now // self._seconds)
        key = f"example:limit:{user}:{window}"
        try:
            with self._redis.pipeline(transaction=False) as both:  # one round trip; each is answered by itself
                both.incr(key)
                both.expire(key, 2 * self._seconds)
                count, _ = both.execute()
        except RedisError as error:
            print(f"  (not counted: {error})")
            return True
        return int(count) <= self._limit


def flood(limiters: list[Limiter], user: str, requests: Iterable[int], now: float) -> int:
    """Requests through all web servers at once; how many were let in."""
    with ThreadPoolExecutor(len(limiters)) as servers:
        return sum(servers.map(lambda number: limiters[number % len(limiters)].allows(user, now), requests))


def main() -> None:
    # Three web servers, each with another node first.
    servers = [Limiter(redis_of(NODES[i:] + NODES[:i]), limit=20, seconds=60) for i in range(len(NODES))]
    now = time.time()
    user = f"ada-{now}"

    allowed = [servers[0].allows(user, now) for _ in range(25)]
    print(f"25 requests one after another: {sum(allowed)} let in")
    assert allowed == [True] * 20 + [False] * 5

    pause("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't")
    print(f"still counted: the next one is {'let in' if servers[1].allows(user, now) else 'refused'}")

    user = f"eve-{now}"
    let_in = flood(servers, user, range(100), now)
    counted = int(redis_of(NODES).get(f"example:limit:{user}:{int(now // 60)}") or 0)
    print(f"100 requests at once, through {len(servers)} nodes: {let_in} let in, {counted} counted")
    assert counted >= 100 and 20 <= let_in <= 20 + len(servers)
    print("a window later:", "let in" if servers[0].allows(user, now + 60) else "refused")


if __name__ == "__main__":
    main()
