"""SETs that are issued once more, above a greater stamp that an owner knows (V5).

    SET k 1 ─▶ W owners, of whom one: "I hold k above that" ─▶ SET k 1 under a fresh dot, above ─▶ W owners ─▶ answered

What has replaced one meanwhile keeps its place (core/succession.py). The put path counts, and hands over what is to be done.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ringwise.core import versions
from ringwise.core.clock import Clock
from ringwise.core.cold import Cold
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, Flushed, UnknownOutcome
from ringwise.core.keys import BUCKET_BYTES
from ringwise.core.now import Now
from ringwise.core.record import Dot, Sibling
from ringwise.core.store import Store
from ringwise.core.succession import Ended, Made, successor
from ringwise.core.versions import Write
from ringwise.core.writegroup import WriteGroup

if TYPE_CHECKING:
    from ringwise.core.put import PutPath


class Reissue:
    """What is answered only once its second write has reached its level."""

    def __init__(
        self, put: PutPath, store: Store, dots: DotSource, clock: Clock, now: Now, cold: Cold, live: set[bytes]
    ) -> None:
        self._put = put
        self._find = store.find
        self._dots = dots
        self._clock = clock
        self._now = now
        self._cold = cold
        self._live = live  # changed in place
        self._ended = Ended()
        self._waiting = 0  # SETs to be issued again, whose records are cold

    def issue(self, group: WriteGroup, i: int) -> None:
        """V5: a replica knows a greater stamp, so this SET would be shadowed: a fresh dot above it that covers the first.

        What has replaced it meanwhile keeps its place: the owners get that, above the greater stamp where it may be hidden.
        """
        slot, rkey, first = group.slots[i], group.rkeys[i], group.records[i]
        sink, index = group.sinks[i], group.indexes[i]
        if rkey[:BUCKET_BYTES] not in self._live:
            self._fail(group, i, Flushed())
            return
        if rkey in self._put.reading:
            self._put.seal()
        held = self._find(slot, rkey)
        if held is None:
            self._waiting += 1
            again, refused = partial(self._loaded, group, i), partial(self._refused, group, i)
            self._cold.load(slot, rkey, again, refused)
            return
        version = versions.newest(first)
        assert version is not None
        context = versions.context_without(first, version)
        # Not where nothing is held: a stand-in's copy may be where it belongs by now.
        if held and versions.version_at(held, version.actor, version.counter) is None:
            version = self._successor(rkey, held, version)
            if version is None or version.stamp > group.higher[i]:
                same = self._put.group_for(slot, rkey, group.tally.need, False, group)
                self._put.add(same, slot, rkey, held, held, sink, index)
                return
            context = versions.with_version(context, version, held)
        try:
            self._clock.observe(group.higher[i], self._now.wall_ms)
        except Failure as error:
            self._fail(group, i, error)
            return
        if held:
            version, taken_in = versions.carried(version, held)
            context = versions.with_dots(context, taken_in)
        write = Write(
            value=version.value,
            content_type=version.content_type,
            flags=version.flags,
            expiry_ms=version.expiry_ms,
            tombstone=version.tombstone,
            context=context,
        )
        self._clock.last = stamp = self._clock.last + 2
        fresh = self._put.group_for(slot, rkey, group.tally.need, True, group)
        self._put.add(fresh, slot, rkey, held, self._dots.write(held, write, stamp), sink, index)

    def _loaded(self, group: WriteGroup, i: int) -> None:
        self._waiting -= 1
        self.issue(group, i)

    def _refused(self, group: WriteGroup, i: int, error: Failure) -> None:
        self._waiting -= 1
        self._fail(group, i, error)

    def _successor(self, rkey: bytes, held: bytes, replaced: Sibling) -> Sibling | None:
        """V5: what has replaced a SET here, if what that has met may hide it (core/succession.py)."""

        def find(dot: Dot) -> Made | None:
            return self._put.under_way(rkey, dot) or self._ended.find(rkey, dot)

        return successor(held, replaced, find)

    def end(self, group: WriteGroup, positions: Iterable[int]) -> None:
        """These have ended without having met what owners know: for the SETs under way that they have replaced."""
        for i in positions if self._waiting or self._put.sets_under_way else ():
            self._remember(group, i)

    def _remember(self, group: WriteGroup, i: int) -> None:
        for (rkey, dot), made in group.made(i):
            self._ended.add(rkey, dot, made)

    def _fail(self, group: WriteGroup, i: int, error: Failure) -> None:
        """Whatever refuses the second dot, the first is on W owners already, if shadowed: nobody can say "not applied"."""
        need = group.tally.need
        self._remember(group, i)
        group.sinks[i].failed(group.indexes[i], UnknownOutcome(needed=need, acknowledged=need, detail=str(error)))

    def tick(self, kept_ms: float) -> None:
        """Forgets what has ended longer ago."""
        self._ended.tick(self._now.now_ms, kept_ms)
