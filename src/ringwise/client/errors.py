"""What a caller may get instead of a result. All are `RingwiseError`; the class answers "may I send it again?".

| class              | was the write applied? | what to do                                             |
| ------------------ | ---------------------- | ------------------------------------------------------ |
| `Refused`          | certainly not          | what the message says; sending it again is safe        |
| `ConnectionFailed` | certainly not          | see that a node is up; sending it again is safe        |
| `TimedOut`         | no (see `WriteTimedOut`) | ask again, or with a longer `timeout=`               |
| `UnknownOutcome`   | perhaps                | read before writing again, unless twice does no harm   |
| `WriteTimedOut`    | perhaps                | as `UnknownOutcome`; it is a `TimedOut` too            |
| `StillConflicting` | siblings stand         | others kept writing: merge again later                 |
| `PartialFailure`   | see `.errors`, by key  | by key, as above; `.results` holds what went well      |
"""

from __future__ import annotations

from collections.abc import Mapping


class RingwiseError(Exception):
    """Anything that went wrong with a request."""


class Refused(RingwiseError):
    """Certainly not applied by any node; safe to send again."""


class QuorumNotReached(Refused):
    """Too few owners of the key can be reached for this level."""


class Overloaded(Refused):
    """A queue of the node is full: try again after a pause."""


class NotReady(Refused):
    """The node is in no formed cluster yet, or takes no writes until it is restarted."""


class BadContext(Refused):
    """The context is not one that this cluster gave for this key."""


class InvalidRequest(Refused):
    """A limit, an option or a level that the node does not take; the message names it. Sending it again does not help."""


class NoSuchBucket(InvalidRequest):
    """There is no bucket of that name: it was never created, or has been dropped."""


class UnknownOutcome(RingwiseError):
    """The write may have been applied, and may still surface: read before writing again."""


class TimedOut(RingwiseError, TimeoutError):
    """No answer within `timeout` seconds; nothing was written, unless it is a `WriteTimedOut`."""


class WriteTimedOut(UnknownOutcome, TimedOut):
    """No answer to a write that had been sent: it may have been applied."""


class ConnectionFailed(RingwiseError, ConnectionError):
    """No node could be reached, or none answered a read; nothing was written."""


class StillConflicting(RingwiseError):
    """`resolve=` merged as often as it may, and each time somebody else had written meanwhile."""


class PartialFailure(RingwiseError):
    """Some keys of `get_many` or `put_many` failed: `errors` by key, and the `results` of the others."""

    def __init__(self, results: Mapping[object, object], errors: Mapping[object, RingwiseError]) -> None:
        first = next(iter(errors))
        super().__init__(
            f"{len(errors)} of {len(errors) + len(results)} keys failed, the first is {first!r}: {errors[first]}"
        )
        self.results = dict(results)
        self.errors = dict(errors)


_BY_CODE: dict[str, type[RingwiseError]] = {
    "NOQUORUM": QuorumNotReached,
    "TRYAGAIN": Overloaded,
    "CLUSTERDOWN": NotReady,
    "READONLYNODE": NotReady,
    "TOOLATE": NotReady,
    "WRONGTYPE": InvalidRequest,
    "BADCONTEXT": BadContext,
    "NOBUCKET": NoSuchBucket,
    "CLOCKSKEW": Refused,
    "UNKNOWN": UnknownOutcome,
    "ERR": InvalidRequest,
    "NOPROTO": InvalidRequest,
}


def of_reply(line: str, *, write: bool) -> RingwiseError:
    """The error that an error reply means. A code that this client does not know says nothing about a write: unknown."""
    found = _BY_CODE.get(line.partition(" ")[0])
    if found is None:
        found = UnknownOutcome if write else RingwiseError
    return found(line)


def not_applied(error: BaseException) -> bool:
    """Whether it is certain that nothing was written."""
    if isinstance(error, UnknownOutcome):
        return False
    return isinstance(error, (Refused, ConnectionFailed, TimedOut))


def elsewhere_may_help(error: RingwiseError) -> bool:
    """Whether another node may well do what this one refused, so that asking it is worth while and safe."""
    return isinstance(error, (QuorumNotReached, Overloaded, NotReady))
