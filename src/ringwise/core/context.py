"""The causal context a client has seen of a key, and the opaque token in which it carries it (V1).

A context is a set of dots, kept as a version vector (all of 1…counter of each actor) plus a dot cloud (dots beyond a
gap), and the greatest stamp among the versions seen: a put that returns the context is stamped above it.

    token    urlsafe base64, unpadded, of: format u8 = 1 | checksum u32 | stamp u64 | entries u16 | entry… | cloud dot…

The checksum covers the key too, so the context of one key is refused at another, whose dots it would cover unseen.
A token has one spelling; a changed one is refused, not guessed at.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from itertools import pairwise

import msgspec
from xxhash import xxh32_digest

from ringwise.core.errors import BadContext
from ringwise.core.record import ENTRY_BYTES, Dot, Record, entries

FORMAT = 1
TOKEN_BYTES_MAX = 64 * 1024  # some 2,400 dots: one for each node, and each unclean restart of it, that wrote the key

_HEAD_BYTES = 1 + 4
_DOTS_AT = _HEAD_BYTES + 8 + 2


class Context(msgspec.Struct, frozen=True):
    """What was seen of a key. The empty context has seen nothing, and a put with it replaces nothing."""

    vector: list[Dot] = []  # sorted by actor
    cloud: list[Dot] = []  # sorted
    stamp: int = 0

    def token(self, key: bytes = b"") -> bytes:
        """The context of `key` for a client to keep."""
        body = b"".join(
            (
                self.stamp.to_bytes(8, "big"),
                len(self.vector).to_bytes(2, "big"),
                *[entries.pack(actor, counter) for actor, counter in self.vector],
                *[entries.pack(actor, counter) for actor, counter in self.cloud],
            )
        )
        return urlsafe_b64encode(bytes((FORMAT,)) + xxh32_digest(key + body) + body).rstrip(b"=")

    @classmethod
    def parse(cls, token: bytes, key: bytes = b"") -> "Context":
        """The context in a token that was made for `key`; raises BadContext."""
        if len(token) > TOKEN_BYTES_MAX:
            raise BadContext(f"the context has {len(token)} bytes, the limit is {TOKEN_BYTES_MAX}")
        try:
            raw = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
        except ValueError as error:
            raise BadContext("the context is not a token of this store") from error
        if len(raw) < _DOTS_AT or (len(raw) - _DOTS_AT) % ENTRY_BYTES:
            raise BadContext("the context is cut short")
        if raw[0] != FORMAT:
            raise BadContext(f"the context is of format {raw[0]}, this version knows {FORMAT}")
        body = raw[_HEAD_BYTES:]
        if xxh32_digest(key + body) != raw[1:_HEAD_BYTES]:
            raise BadContext("the context was altered or belongs to another key")
        count = int.from_bytes(body[8:10], "big")
        dots = list(entries.iter_unpack(body[10:]))
        context = cls(vector=dots[:count], cloud=dots[count:], stamp=int.from_bytes(body[:8], "big"))
        if not _well_formed(context) or context.token(key) != token:
            raise BadContext("the context is not a token of this store")
        return context


class Seen:
    """A context taken apart, to ask and to add to: the only place that knows how vector and cloud go together."""

    __slots__ = ("cloud", "vector")

    def __init__(self, of: Record | Context | None = None) -> None:
        self.vector: dict[bytes, int] = {}
        self.cloud: set[Dot] = set()
        if of is not None:
            self.vector = dict(of.context if isinstance(of, Record) else of.vector)
            self.cloud = set(of.cloud)

    def has(self, actor: bytes, counter: int) -> bool:
        return counter <= self.vector.get(actor, 0) or (actor, counter) in self.cloud

    def add(self, other: "Seen") -> None:
        """Union. A gap that the other side fills is closed: its dots move from the cloud into the vector."""
        vector = self.vector
        for actor, counter in other.vector.items():
            if counter > vector.get(actor, 0):
                vector[actor] = counter
        self.cloud |= other.cloud
        if self.cloud:
            self._compact()

    def add_dot(self, actor: bytes, counter: int) -> None:
        if counter == self.vector.get(actor, 0) + 1:
            self.vector[actor] = counter
        else:
            self.cloud.add((actor, counter))
        if self.cloud:
            self._compact()

    def add_dots(self, dots: Iterable[Dot]) -> None:
        """As `add_dot` for each, in one pass over them."""
        self.cloud.update(dots)
        self._compact()

    def add_few(self, dots: Iterable[Dot]) -> None:
        """As `add_dots`, of some in ascending order; mostly each is the next one of its actor, and nothing lies beyond a gap."""
        if self.cloud:
            self.add_dots(dots)
            return
        vector = self.vector
        for actor, counter in dots:
            reached = vector.get(actor, 0)
            if counter == reached + 1:
                vector[actor] = counter
            elif counter > reached:
                self.cloud.add((actor, counter))

    def names(self, actor: bytes) -> bool:
        """Has anything of this actor been seen?"""
        return actor in self.vector or any(other == actor for other, _ in self.cloud)

    def of_prefix(self, prefix: bytes) -> dict[bytes, int]:
        """The greatest counter seen of each actor that begins with `prefix`."""
        found = {actor: counter for actor, counter in self.vector.items() if actor.startswith(prefix)}
        for actor, counter in self.cloud:
            if actor.startswith(prefix):
                found[actor] = max(counter, found.get(actor, 0))
        return found

    def lists(self) -> tuple[list[Dot], list[Dot]]:
        """(vector, cloud) as records and contexts hold them."""
        return sorted(self.vector.items()), sorted(self.cloud)

    def _compact(self) -> None:
        beyond: set[Dot] = set()
        for actor, counter in sorted(self.cloud):
            reached = self.vector.get(actor, 0)
            if counter == reached + 1:
                self.vector[actor] = counter
            elif counter > reached:
                beyond.add((actor, counter))
        self.cloud = beyond


def _well_formed(context: Context) -> bool:
    vector = dict(context.vector)
    return (
        _ascending(actor for actor, _ in context.vector)
        and _ascending(context.cloud)
        and all(vector.values())
        and all(counter > vector.get(actor, 0) + 1 for actor, counter in context.cloud)
    )


def _ascending(items: Iterable[bytes] | Iterable[Dot]) -> bool:
    return all(a < b for a, b in pairwise(items))  # type: ignore[operator]
