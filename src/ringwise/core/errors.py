"""What can go wrong with a request, in words a user can act on.

Whoever gets an error for a write asks one question: may I send it again? So there are two families.

* `Refused`: the operation was certainly **not** applied, anywhere. Sending it again is safe.
* `UnknownOutcome`: some replica may hold the write, and repair may yet complete it: there is no rollback in a store
  without a leader. Read before sending it again, unless writing twice does no harm.

`code` is the first word of the Redis error reply; the message names the limit that was hit and what to do.
Errors here are of the world (peers, disks, clients); mistakes in this program are assertions.
"""


class Failure(Exception):
    """Any answer other than the result. `str(failure)` is the message, `reply()` the whole error line."""

    code: str = "ERR"

    def reply(self) -> str:
        return f"{self.code} {self}"


class Refused(Failure):
    """Certainly not applied by anyone; safe to send again."""


class Relayed(Failure):
    """What the replica that coordinated a forwarded operation answered (R1), passed on word for word."""

    def __init__(self, code: str, text: str, *, unknown: bool) -> None:
        super().__init__(text)
        self.code = code
        self.unknown = unknown  # whether the operation may have been applied


class QuorumNotReached(Refused):
    """Too few owners could be reached before a write was sent to any of them (R1)."""

    code = "NOQUORUM"

    def __init__(self, needed: int, acknowledged: int) -> None:
        super().__init__(self._text(needed, acknowledged))
        self.needed = needed
        self.acknowledged = acknowledged

    def _text(self, needed: int, acknowledged: int) -> str:
        return f"{acknowledged} of {needed} needed owners answered, nothing was changed; {_or_less(needed)}"


class ReadNotAnswered(QuorumNotReached):
    """Too few owners answered a read."""

    def _text(self, needed: int, acknowledged: int) -> str:
        return f"{acknowledged} of {needed} needed owners answered; {_or_less(needed)}"


class FlushNotAgreed(QuorumNotReached):
    """No majority of the voters agreed on a flush before it was proposed to any (T3). It has no level."""

    def _text(self, needed: int, acknowledged: int) -> str:
        return (
            f"no majority agreed in time, nothing was flushed ({acknowledged} of the voters up, {needed} needed); "
            "try again when most nodes are up"
        )


def _or_less(needed: int) -> str:
    """There is no level below one owner."""
    return "try again, or ask for a lower consistency level" if needed > 1 else "try again"


class UnknownOutcome(Failure):
    """A write reached fewer owners than asked for, in time; it may still surface."""

    code = "UNKNOWN"

    def __init__(self, needed: int, acknowledged: int, detail: str = "") -> None:
        because = f" ({detail})" if detail else ""
        super().__init__(
            f"outcome: {acknowledged} of {needed} needed owners acknowledged the write{because}; "
            "it may have been applied and may still surface, so read before writing again"
        )
        self.needed = needed
        self.acknowledged = acknowledged


class Overloaded(Refused):
    """A queue is at its limit: an immediate refusal rather than a growing latency (section 8)."""

    code = "TRYAGAIN"

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(f"the {queue} queue is full ({limit}), nothing was done; try again after a pause")
        self.queue = queue
        self.limit = limit


class WritesStopped(Refused):
    """The commit log failed a write or a sync: this node writes nothing more until it is restarted (S3)."""

    code = "READONLYNODE"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this node's commit log failed ({reason}) and takes no writes until it is restarted")


class NotReady(Refused):
    """The node has no topology document yet, or the cluster is not formed (T3)."""

    code = "CLUSTERDOWN"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again once the cluster has formed")


class TooLate(Refused):
    """This node was paused, or gets what it is asked late: it may have been given to another owner meanwhile (R1)."""

    code = "TOOLATE"

    def __init__(self) -> None:
        super().__init__(
            "this node was paused, and what it was asked for may be done by another; nothing was changed, try again"
        )


class Replaced(Refused):
    """Another data directory has this node's place among the members (T4): it is fenced."""

    code = "CLUSTERDOWN"

    def __init__(self, name: str, epoch: int) -> None:
        super().__init__(f"{name} was replaced by another data directory at epoch {epoch}; ask any other node")


class KeyTooLong(Refused):
    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the key has {size_bytes} bytes, the limit is {limit_bytes}; use a shorter key")


class ValueTooLong(Refused):
    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the value has {size_bytes} bytes, the limit is {limit_bytes}; split it over several keys")


class WrongType(Refused):
    """A command of one type on a key of another; in Redis's words."""

    code = "WRONGTYPE"

    def __init__(self) -> None:
        super().__init__("Operation against a key holding the wrong kind of value")


class NotHyperLogLog(WrongType):
    """PFADD and its kin on another string; in Redis's words."""

    def __init__(self) -> None:
        Refused.__init__(self, "Key is not a valid HyperLogLog string value.")


class WrittenBeside(Failure):
    """Something was written, and another type at the same time, which is shown (V9): there is no sum or length to tell."""

    code = "UNKNOWN"

    def __init__(self) -> None:
        super().__init__(
            "outcome: it was written, and another type under this key at the same time, which is shown; RW.GET shows both"
        )


class CollectionTooLarge(Refused):
    def __init__(self, size_bytes: int, limit_bytes: int, noun: str = "set") -> None:
        super().__init__(
            f"the {noun} would take {size_bytes} bytes, the limit is {limit_bytes} (--collection-bytes-max); "
            "split it over several keys"
        )


class NotANumber(Refused):
    """A value that is to be added to, or what is to be added, is no number; in Redis's words."""

    def __init__(self, *, real: bool) -> None:
        super().__init__("value is not a valid float" if real else "value is not an integer or out of range")


class FieldNotANumber(NotANumber):
    """A field of a hash that is to be added to is no number; in Redis's words."""

    def __init__(self, *, real: bool) -> None:
        Refused.__init__(self, "hash value is not a float" if real else "hash value is not an integer")


class ScoreNotANumber(Refused):
    """What an increment would make of a score; in Redis's words."""

    def __init__(self) -> None:
        super().__init__("resulting score is not a number (NaN)")


class BadRange(Refused):
    """Ends of a range that make no sense; in Redis's words."""


class NumberOverflow(Refused):
    """The sum cannot be kept; in Redis's words."""

    def __init__(self, *, real: bool) -> None:
        super().__init__("increment would produce NaN or Infinity" if real else "increment or decrement would overflow")


class SequenceGap(Refused):
    """RW.INCR: a number that is not the next one of its session."""

    def __init__(self, asked: int, last: int) -> None:
        super().__init__(f"SEQ {asked} does not follow the last of this session, {last}; send {last + 1} first")


class TooManySessions(Refused):
    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} sessions have added to this key, which is the limit; use one session for each client process"
        )


class UnknownLevel(Refused):
    def __init__(self, text: str) -> None:
        super().__init__(f"unknown consistency level {text!r}; use one, quorum, all, strong, or r=<n>,w=<n>")


class ImpossibleLevel(Refused):
    def __init__(self, level: str, asked: int, copies: int) -> None:
        super().__init__(
            f"consistency level {level} needs {asked} owners and the key has {copies}; ask for at most {copies}"
        )


class BadContext(Refused):
    """A context token that this cluster did not hand out for this key, or that was cut or altered on the way."""

    code = "BADCONTEXT"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; pass back, unchanged, the context of a read of the same key")


class NoSuchBucket(Refused):
    """It was never created, or has been dropped; or this node has not heard of it yet."""

    code = "NOBUCKET"

    def __init__(self, label: str) -> None:
        super().__init__(f"there is no bucket {label}; create it with: ringwise bucket create {label}")


class Flushed(Refused):
    """The bucket got a new incarnation before anything of the write was logged or sent (T5)."""

    code = "TRYAGAIN"

    def __init__(self) -> None:
        super().__init__("the database was flushed before this operation began; nothing was changed, try again")


class StampTooFar(Refused):
    """A stamp beyond the maximum clock offset: one such write would shadow everybody's for that long (V1, V7)."""

    code = "CLOCKSKEW"

    def __init__(self, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(
            f"a stamp lies {ahead_ms} ms ahead of this node's clock, the limit is {limit_ms} ms; "
            "set the clocks of all nodes (NTP)"
        )
        self.ahead_ms = ahead_ms
        self.limit_ms = limit_ms


class RecordDamaged(Failure):
    """A stored or received record whose checksum or shape is wrong; it is fetched from another replica (S4)."""

    code = "DAMAGED"

    def __init__(self, reason: str) -> None:
        super().__init__(f"damaged record: {reason}; another replica still has it")
