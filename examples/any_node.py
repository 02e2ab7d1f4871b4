"""redis-py that goes on when its node dies: a connection that tries one node after another.

Every node answers for every key, so any that is up will do. Whatever takes a `redis.Redis`, or a connection class,
takes this:

    redis_of(["127.0.0.1:7379", "127.0.0.1:7380"]).set("k", "v")

A command that was sent and not answered is sent again, to the next node: that is right for SET, GET and DEL; an INCR
may count twice.
"""

import sys
from typing import Any

from redis import Connection, ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NODES = sys.argv[1:] or ["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]


class AnyNode(Connection):
    """A connection to the first node that is up."""

    def __init__(self, nodes: list[str], **options: Any) -> None:
        super().__init__(**options)
        self._nodes = nodes

    def _connect(self) -> Any:
        trouble: OSError | None = None
        for node in self._nodes:
            self.host, _, port = node.rpartition(":")
            self.port = int(port)
            try:
                return super()._connect()
            except OSError as error:
                trouble = error
        raise trouble or OSError("no nodes were named")


def redis_of(nodes: list[str]) -> Redis:
    """A client of all of them."""
    retry = Retry(NoBackoff(), 3)
    pool = ConnectionPool(connection_class=AnyNode, nodes=nodes, retry=retry, socket_timeout=5)
    return Redis(connection_pool=pool)


def pause(what: str) -> None:
    """Time for you to do something; where nobody is there to do it, the example goes on."""
    print(f"{what}, then press Enter.", flush=True)
    sys.stdin.readline()
