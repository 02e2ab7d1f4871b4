"""An owner's part in reaping (V8): what it can say of dead records, and how they go. Who asks is in core/reaping.py.

    Reap ─▶ each record looked up, from disk too ─▶ the same as the asker's, and dead by this node's clock, or nothing at all?
                                                     └─▶ all of that on the disk ─▶ Reapable
    Settle ─▶ the clock goes on above the asker's ─▶ everything under way has ended (core/settling.py) ─▶ Settled
    Drop ─▶ each record that is still the same goes ─▶ Dropped      from now on, what was sent before is refused: `floor`

Nothing of it need outlive a restart. A frame that was sent before the floor was given up by its sender before it settled; it can
only come on a connection that was there then, and connections end with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ringwise.core import messages, versions
from ringwise.core.clock import Clock, wall_of
from ringwise.core.cold import Cold
from ringwise.core.config import NodeConfig
from ringwise.core.dots import DotSource
from ringwise.core.errors import Failure, StampTooFar
from ringwise.core.keys import BUCKET_BYTES, key_of
from ringwise.core.messages import DIGEST_BYTES, Drop, Dropped, Reap, Reapable, Settle, Settled, encode
from ringwise.core.now import Now
from ringwise.core.peers import Link, Peers
from ringwise.core.ring import slot_of
from ringwise.core.settling import Settling
from ringwise.core.space import Spaces
from ringwise.core.store import Store
from ringwise.core.topology import Topology

QUESTIONS_MAX = 100  # of peers, that wait for the disk


class Look:
    """Dead records, by row key and digest, looked up one by one. `proved`: all their owners hold them dead, or not at all."""

    __slots__ = ("_left", "absent", "digests", "position", "proved", "rkeys", "same", "then")

    def __init__(
        self, rkeys: list[bytes], digests: list[bytes], then: Callable[[Look], None], *, proved: bool = False
    ) -> None:
        self.proved = proved
        self.rkeys = rkeys
        self.digests = digests
        self.same: list[int] = []
        self.absent: list[int] = []
        self.position = 0  # of the log, where all that was found is in it
        self.then = then
        self._left = len(rkeys)

    def counted(self) -> None:
        """One more is known, or cannot be."""
        self._left -= 1
        if not self._left:
            self.then(self)


class Owner:
    """Looks up and drops dead records of this node, for itself and for others."""

    def __init__(
        self,
        peers: Peers,
        topology: Topology,
        store: Store,
        clock: Clock,
        config: NodeConfig,
        now: Now,
        cold: Cold,
        chunks: list[bytes],
        settling: Settling,
        dots: DotSource,
        spaces: Spaces,
    ) -> None:
        self._live = spaces.live  # the incarnations in force, as row keys begin with them; changed in place
        self.floor = 0  # frames with a lower stamp were given up by who sent them
        self._peers = peers
        self._topology = topology
        self._store = store
        self._clock = clock
        self._config = config
        self._now = now
        self._cold = cold
        self._chunks = chunks
        self._settling = settling
        self._dots = dots
        self._unsynced: list[tuple[Look, Callable[[list[int]], None]]] = []

    def dead(self, record: bytes) -> bool:
        """Whether it has shown nothing for long enough."""
        return versions.dead(record, self._now.wall_ms - self._config.reap_after_ms)

    # -- what may go

    def look(self, rkeys: list[bytes], digests: list[bytes], then: Callable[[list[int]], None]) -> None:
        """Tells the positions that this node holds as they are, or not at all, once that is on its disk."""
        self._look_up(Look(rkeys, digests, partial(self._found, then)))

    def _look_up(self, look: Look) -> None:
        for position in range(len(look.rkeys)):
            self._look_at(look, position)

    def _look_at(self, look: Look, position: int) -> None:
        rkey = look.rkeys[position]
        slot = slot_of(key_of(rkey))
        held = self._store.find(slot, rkey) if rkey[:BUCKET_BYTES] in self._live else b"?"
        if held is None:
            self._cold.load(slot, rkey, partial(self._look_at, look, position), partial(_unknown, look))
            return
        if not held:
            look.absent.append(position)
        elif held[:DIGEST_BYTES] == look.digests[position] and (look.proved or self.dead(held)):
            look.same.append(position)
        look.counted()

    def _found(self, then: Callable[[list[int]], None], look: Look) -> None:
        look.position = -1  # what was found may be of this very turn, which is not in the log yet
        self._unsynced.append((look, then))

    def end_turn(self) -> None:
        """The turn is in the log: tells what is on the disk by now."""
        if not self._unsynced:
            return
        store, waiting = self._store, self._unsynced
        self._unsynced = []
        for look, then in waiting:
            if look.position < 0:
                look.position = store.position
            if store.failed:
                then([])
            elif store.sync_mode == "off" or store.synced >= look.position:
                then(sorted([*look.same, *look.absent]))
            else:
                self._unsynced.append((look, then))

    # -- what goes

    def drop(self, rkeys: list[bytes], digests: list[bytes], stamp: int, then: Callable[[], None]) -> None:
        """Records that are still the same go; `then` is called in the turn in which the last one has."""
        self.floor = max(self.floor, stamp)
        self._look_to_drop(rkeys, digests, then)

    def _look_to_drop(self, rkeys: list[bytes], digests: list[bytes], then: Callable[[], None]) -> None:
        self._look_up(Look(rkeys, digests, partial(self._drop, then), proved=True))

    def _drop(self, then: Callable[[], None], look: Look) -> None:
        rows: list[tuple[int, bytes, bytes, bytes]] = []
        cold: list[tuple[bytes, bytes]] = []
        for position in look.same:
            rkey, digest = look.rkeys[position], look.digests[position]
            slot = slot_of(key_of(rkey))
            held = self._store.find(slot, rkey)
            if held is None:  # out of memory again, while others were waited for
                cold.append((rkey, digest))
            elif held[:DIGEST_BYTES] == digest and not self._store.failed:
                self._dots.retire(held)
                self._store.put(slot, rkey, digest, b"")
                rows.append((slot, rkey, digest, b""))
        if rows:
            self._chunks.append(messages.encode_rows(rows))
        if cold and not self._store.failed:
            self._look_to_drop([rkey for rkey, _ in cold], [digest for _, digest in cold], then)
        else:
            then()

    # -- questions of others

    def reap(self, link: Link, message: Reap) -> None:
        """A question for what may go."""
        refused = self._refusal(message.epoch)
        if not refused and not _whole(message):
            refused = messages.DAMAGED
        if not refused and len(self._unsynced) >= QUESTIONS_MAX:
            refused = messages.OVERLOADED
        if refused:
            self._peers.post(link, encode(Reapable(message.id, [], refused)))
            return

        def told(positions: list[int]) -> None:
            refused = self._refusal(message.epoch)
            self._peers.post(link, encode(Reapable(message.id, [] if refused else positions, refused)))

        self.look(message.rkeys, split(message.digests), told)

    def settle(self, link: Link, message: Settle) -> None:
        """A question for when this node has settled; none for whom it never does."""
        if self._refusal(message.epoch) or not self._observe(message.stamp):
            return
        self._settling.ask(lambda: self._peers.post(link, encode(Settled(message.id))))

    def _observe(self, stamp: int) -> bool:
        try:
            self._clock.observe(stamp, self._now.wall_ms)
        except StampTooFar:
            return self._now.confirm(wall_of(stamp), self._clock.max_offset_ms)
        return True

    def drop_for(self, link: Link, message: Drop) -> None:
        """All owners hold these records or nothing, and everybody has settled."""
        refused = self._refusal(message.epoch)
        if refused or not _whole(message):
            self._peers.post(link, encode(Dropped(message.id, refused or messages.DAMAGED)))
            return

        def dropped() -> None:
            failed = messages.NOT_WRITING if self._store.failed else 0
            self._peers.post(link, encode(Dropped(message.id, failed)))

        self.drop(message.rkeys, split(message.digests), message.stamp, dropped)

    def _refusal(self, epoch: int) -> int:
        if epoch > self._topology.epoch:
            return messages.BEHIND
        if epoch < self._topology.epoch:
            return messages.STALE
        return messages.NOT_WRITING if self._store.failed else 0


def split(digests: bytes) -> list[bytes]:
    """Digests that came in one string."""
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]


def _whole(message: Reap | Drop) -> bool:
    return bool(message.rkeys) and len(message.digests) == DIGEST_BYTES * len(message.rkeys)


def _unknown(look: Look, _error: Failure) -> None:
    """A record that cannot be read: neither the same nor absent."""
    look.counted()
