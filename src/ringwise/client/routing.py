"""Which node to ask. Pure: the time (seconds, monotonic) and randomness are arguments.

A client stays with one node until that fails, then goes to the next; a node that failed is asked again after a pause that
doubles with each failure, with jitter, so that a thousand clients do not come back at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Set
from dataclasses import dataclass

PAUSE_S = 0.25  # after the first failure: a restart takes longer, a lost packet does not
PAUSE_S_MAX = 10.0
MEMBERS_AGE_S = 30.0  # how long the members that a node named are believed to be all
ADDRESSES_MAX = 1024  # a reply that names more is not a cluster's

Address = tuple[str, int]
DEFAULT_PORT = 7379


@dataclass(slots=True)
class _State:
    failures: int = 0
    retry_at: float = 0.0


def parse_address(text: str) -> Address:
    """`host`, `host:port`, `[v6]:port`."""
    if not isinstance(text, str):
        raise TypeError(f"an address is a str such as 127.0.0.1:7379, not {type(text).__name__}")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"an address is host:port, not {text!r}")
    return host, int(port)


class Routing:
    """The known nodes, in the order in which they are asked: those given first, then those learned."""

    def __init__(self, addresses: Iterable[str], rng: random.Random) -> None:
        if isinstance(addresses, str):
            addresses = [addresses]
        self._states: dict[Address, _State] = {parse_address(text): _State() for text in addresses}
        if not self._states:
            raise ValueError("at least one address is needed, such as 127.0.0.1:7379")
        self._given = list(self._states)
        self._current = self._given[0]
        self._rng = rng
        self._members_due = 0.0

    @property
    def addresses(self) -> list[Address]:
        return list(self._states)

    def pick(self, now: float, tried: Set[Address]) -> Address | None:
        """The node to ask next. One that is pausing is asked only where there is no other; None: all were tried."""
        states = self._states
        current = self._current
        if current not in tried and current in states and states[current].retry_at <= now:
            return current
        left = [address for address in states if address not in tried]
        if not left:
            return None
        ready = [address for address in left if states[address].retry_at <= now]
        return ready[0] if ready else min(left, key=lambda address: states[address].retry_at)

    def failed(self, address: Address, now: float) -> None:
        state = self._states.get(address)
        if state is not None:
            pause = min(PAUSE_S_MAX, PAUSE_S * 2 ** min(state.failures, 10))
            state.failures += 1
            state.retry_at = now + pause * (0.5 + self._rng.random())
        self._members_due = 0.0

    def answered(self, address: Address) -> None:
        self._current = address
        state = self._states.get(address)
        if state is not None and state.failures:
            self._states[address] = _State()

    def pause(self, rounds: int) -> float:
        """Seconds to wait before all nodes are asked once more."""
        return 0.05 * float(1 << rounds) * (0.5 + self._rng.random())

    def wants_members(self, now: float) -> bool:
        """Whether it is time to ask who the members are; whoever is told so asks, and others do not meanwhile."""
        if now < self._members_due:
            return False
        self._members_due = now + MEMBERS_AGE_S
        return True

    def learn(self, members: Iterable[str]) -> None:
        """Members that a node named: new ones are added, and learned ones that are no longer named are forgotten."""
        named = [parse_address(text) for text in members][:ADDRESSES_MAX]
        if named:
            order = dict.fromkeys([*self._given, *named])
            self._states = {address: self._states.get(address) or _State() for address in order}
