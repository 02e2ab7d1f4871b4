"""Local health: a node that hears little asks itself first whether it is the slow one (Lifeguard, arXiv 1707.00788, LHA-Probe).

The score rises with each sign that this process or its network is in trouble (a probe that even the helpers' nacks did
not come back from, being suspected itself, waking up late) and falls with each probe that is answered. Timeouts and
intervals of its own probes are multiplied by score + 1.
"""


class Awareness:
    """The score, between 0 (well) and its maximum."""

    def __init__(self, score_max: int) -> None:
        self.score = 0
        self._max = score_max

    def worse(self, by: int = 1) -> None:
        self.score = min(self._max, self.score + by)

    def better(self) -> None:
        self.score = max(0, self.score - 1)

    def scaled(self, milliseconds: float) -> float:
        """A timeout or an interval, as long as this node's health asks for."""
        return milliseconds * (self.score + 1)
