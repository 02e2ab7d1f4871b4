"""Deliberate faults in quorum, version, batch, storage and agreement code: the simulator finds each within a few seeds.

Each fault is a small, plausible mistake.  That the checks find it is what their silence about the real code is worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import msgspec
import pytest
from tests.sim.planted import Fault, Patch, expect_caught

from ringwise.core import flush as flush_module
from ringwise.core import hashing, hyperloglog, keys, sets, versions
from ringwise.core.buckets import flush_all
from ringwise.core.changes import AddElements, Increment, RemoveMembers
from ringwise.core.counters import age
from ringwise.core.dots import DotSource
from ringwise.core.exchange import Exchange
from ringwise.core.filling import Filling
from ringwise.core.flush import Flushes
from ringwise.core.forward import ForwardGroup, ForwardPath
from ringwise.core.get import GetPath, ReadGroup
from ringwise.core.gossip.membership import Membership
from ringwise.core.gossip.presets import PRESETS
from ringwise.core.hints import HintPath
from ringwise.core.hyperloglog import ESTIMATE
from ringwise.core.levels import Level
from ringwise.core.map_changes import RemoveFields, SetFields
from ringwise.core.maps import KINDS, Field
from ringwise.core.node import Node
from ringwise.core.operations import OPERATIONS
from ringwise.core.peers import Link
from ringwise.core.put import PutPath
from ringwise.core.replica import Replica
from ringwise.core.ring import slot_of
from ringwise.core.scan import END, ScanPath
from ringwise.core.space import Space
from ringwise.core.standins import StandIns
from ringwise.core.topology import Document, Topology
from ringwise.core.versions import Write
from ringwise.core.writegroup import WriteGroup
from ringwise.sim.network import Weather
from ringwise.sim.simulator import Scenario, run
from ringwise.sim.workload import COUNTERS, FLUSHES, Mix
from ringwise.storage import walk
from ringwise.storage.commitlog import CommitLog
from ringwise.storage.identity import Identity
from ringwise.storage.purge import Purge
from ringwise.storage.store import Store
from ringwise.storage.trees import Trees

KILLS = Scenario(faults=("crash", "crash all", "crash all after a reply", "crash while writing", "break", "partition"))
WRITES = Mix(kinds=(("set", 3), ("inspect", 1)), levels=(("one", 1), ("quorum", 1)), stampede=0.5, keys=10)
POWER = Scenario(power=True, work_ms=100.0, faults=("crash all after a reply",), mix=WRITES)
LOST_TAILS = replace(POWER, faults=("crash after a send",), mix=replace(WRITES, kinds=(("set", 1),), keys=60))
FORWARDS = Scenario(
    nodes=5, faults=("crash after a send",), mix=replace(WRITES, levels=(("all", 1), ("quorum", 1)), keys=20)
)
DISORDER = Scenario(
    nodes=5,
    faults=("disorder",),
    mix=Mix(kinds=(("put", 1), ("inspect", 1))),
)
NETWORK = Scenario(faults=("partition", "one way", "break", "loss", "pause", "disorder"))
SCANS = replace(
    NETWORK,
    nodes=4,
    # Mostly of keys that are written once, each with its chance to be missed by an owner.
    mix=Mix(kinds=(("set", 3), ("get", 1)), levels=(("quorum", 1),), keys=400, stampede=0.0, scans=0.5),
)
# A flush is nearly always under way, and a page is of one owner's names.
FLUSHING = replace(
    SCANS, memtable_bytes=5_000, work_ms=100.0, faults=("skew",), mix=replace(SCANS.mix, levels=(("r=1,w=3", 1),))
)
# And most keys are in no table on disk yet.
FIRST_FLUSHES = replace(FLUSHING, nodes=3, work_ms=400.0, mix=replace(FLUSHING.mix, scans=1.0, keys=3000))
ONE_SLOT = replace(SCANS, mix=replace(SCANS.mix, tag=b"{t}", keys=100))
FLUSHED = Scenario(
    faults=("partition", "one way", "pause", "crash", "loss"),
    mix=replace(
        FLUSHES, levels=(("quorum", 1),), kinds=(("set", 10), ("get", 6), ("inspect", 12), ("flush", 1)), keys=8
    ),
)
# Writes are under way all the time, and none is lost.
SLOW = Scenario(
    faults=("skew",),
    weather=Weather(100.0, 100.0),
    mix=replace(WRITES, kinds=(("set", 1),), keys=4),
    repairs=True,
)
REPAIRS = replace(NETWORK, repairs=True)
HINTS = replace(NETWORK, mix=WRITES, hints=True)  # reads repair, and would hide what was not handed over
# Each key is written about once, so what is lost of it stays lost.
ONCE = replace(WRITES, kinds=(("set", 1),), keys=1000, stampede=0.0)
LOST_HANDOVERS = replace(HINTS, faults=("loss", "break", "partition"), weather=Weather(50.0, 50.0), mix=ONCE)
STAND_INS = replace(NETWORK, nodes=5, hints=True, faults=("partition", "one way", "break", "loss"))
PAUSES = replace(NETWORK, faults=("pause",))
REFILLS = replace(
    NETWORK,
    faults=("empty disk", "partition", "one way", "loss"),
    mix=replace(WRITES, kinds=(("set", 1), ("inspect", 1)), levels=(("strong", 1),), keys=100, stampede=0.0),
)
COLD = Scenario(memtable_bytes=20_000, cache_bytes=1_000, segment_bytes=4_000, work_ms=10.0)


# Quorums.


def one_acknowledgement_too_few(patch: Patch) -> None:
    needed = Level.needed_writes
    patch.setattr(Level, "needed_writes", lambda *at: max(1, needed(*at) - 1))


def newer_answer_ignored(patch: Patch) -> None:
    """The coordinator reads its own record and takes the others' answers for agreement."""

    def reconcile(_: GetPath, group: ReadGroup, i: int, others: list[bytes]) -> None:
        group.sinks[i].found(group.indexes[i], group.records[i] or others[0])

    patch.setattr(GetPath, "_reconcile", reconcile)


def refusal_after_a_lost_coordinator(patch: Patch) -> None:
    """A write is told as refused though the owner that died with it may have applied it."""
    forwarded = ForwardPath.forwarded

    def forget_first(self: ForwardPath, link: Any, message: Any) -> None:
        group = self._peers.request(link.peer, message.id)
        if group is not None:
            group.second = False  # type: ignore[attr-defined]
        forwarded(self, link, message)

    patch.setattr(ForwardPath, "forwarded", forget_first)


def differences_not_repaired(patch: Patch) -> None:
    """R3: `strong` answers with what it merged, and nobody else is told."""

    def reconcile(_: GetPath, group: ReadGroup, i: int, others: list[bytes]) -> None:
        state = group.records[i]
        for record in others:
            state = versions.merge(state, record)
        group.sinks[i].found(group.indexes[i], state)

    patch.setattr(GetPath, "_reconcile", reconcile)


def forward_coordinated_twice(patch: Patch) -> None:
    """R1: the same frame again is the same operation again."""
    patch.setattr(ForwardPath, "_first", lambda *_: True)


def coordinated_by_no_owner(patch: Patch) -> None:
    """V2: what is not owned is opened like the rest, so that the second SET of a turn is not forwarded."""
    open_group = PutPath._open_group

    def open_any(self: PutPath, code: int, *rest: Any) -> WriteGroup | None:
        group = open_group(self, code, *rest)
        if group is not None:
            self._open[code] = group
        return group

    patch.setattr(PutPath, "_open_group", open_any)


# Versions.


def unseen_siblings_dropped(patch: Patch) -> None:
    write = DotSource.write
    patch.setattr(
        DotSource,
        "write",
        lambda self, old, what, stamp: write(self, old, msgspec.structs.replace(what, context=None), stamp),
    )


def merge_keeps_the_newest_only(patch: Patch) -> None:
    patch.setattr(versions, "merge", lambda a, b: max(a, b, key=lambda record: (versions.max_stamp(record), record)))


def not_issued_above_what_replicas_know(patch: Patch) -> None:
    """V5 without its second issue: a SET is shadowed by one from a faster clock."""
    count = PutPath._count

    def deaf(self: PutPath, group: WriteGroup, positions: Sequence[int]) -> None:
        group.higher = {}
        count(self, group, positions)

    patch.setattr(PutPath, "_count", deaf)


def actor_kept_after_a_lost_tail(patch: Patch) -> None:
    """V2: an unclean restart goes on under the old incarnation, though the log may have lost what it had issued."""
    begin = Identity.begin

    def keep(self: Identity, log_end: int, rng_bytes: Callable[[int], bytes]) -> bool:
        before = self.incarnation
        begin(self, log_end, rng_bytes)
        if before:
            self._content.incarnation = before.hex()
        return True

    patch.setattr(Identity, "begin", keep)


# Batches.


def acknowledged_before_it_is_logged(patch: Patch) -> None:
    """What a turn wrote is appended in the next turn."""
    append = Store.append

    def late(self: Store, chunks: Sequence[bytes]) -> int:
        held: list[bytes] = self.__dict__.setdefault("held", [])
        now, held[:] = list(held), list(chunks)
        return append(self, now)

    patch.setattr(Store, "append", late)


def acknowledged_before_it_is_synced(patch: Patch) -> None:
    patch.setattr(Store, "synced", property(lambda self: self.position))


def cold_key_taken_as_absent(patch: Patch) -> None:
    """B4: a write does not wait for its old record."""
    find = Store.find
    patch.setattr(Store, "find", lambda self, slot, rkey: find(self, slot, rkey) or b"")


# Scans.


def names_of_one_owner(patch: Patch) -> None:
    """Whatever the level, the names that the asked node holds are taken for all."""
    ask = ScanPath._ask

    def ask_one(self: ScanPath, asked: Any) -> None:
        asked.needs = [(owners, 1) for owners, _ in asked.needs]
        ask(self, asked)

    patch.setattr(ScanPath, "_ask", ask_one)


def page_to_the_furthest_end(patch: Patch) -> None:
    """A page reaches as far as the owner that holds least, and jumps over what another had no room for."""
    count = ScanPath._count

    def furthest(self: ScanPath, asked: Any, owner: bytes, names: Any, upto: int) -> None:
        before = asked.upto if asked.answered else 0
        count(self, asked, owner, names, upto)
        asked.upto = max(before, upto)

    patch.setattr(ScanPath, "_count", furthest)


def cursor_one_too_far(patch: Patch) -> None:
    """The next page begins behind its first key."""
    scan = ScanPath.scan

    def beyond(
        self: ScanPath,
        cursor: int,
        count: int,
        level: Level,
        done: Any,
        first_only: bool = False,
        space: Space | None = None,
    ) -> None:
        at = self._next_name(cursor) if cursor else 0  # type: ignore[attr-defined]
        scan(self, at, count, level, done, first_only, space)

    def next_name(self: ScanPath, cursor: int) -> int:
        found: list[int] = []
        self._store.names(self._spaces.home.prefix, cursor, END, 1, lambda _, upto: found.append(upto))
        return found[0] if found and found[0] < END else cursor

    patch.setattr(ScanPath, "_next_name", next_name, raising=False)
    patch.setattr(ScanPath, "scan", beyond)


def few_positions(patch: Patch) -> None:
    """No fault: all keys of a slot share eight hashes, as two in 2^48 might."""
    patch.setattr(keys, "xxh3_64_digest", lambda key: bytes([key[-1] & 7]) * 8)


def keys_of_one_position_parted(patch: Patch) -> None:
    """A page ends in the middle of keys with one hash, and the next one begins behind them."""
    few_positions(patch)
    whole = walk.cut

    def parted(names: Any, upto: int, limit: int) -> Any:
        names, upto = whole(names, upto, limit)
        return names[:limit], upto

    patch.setattr(walk, "cut", parted)


def frozen_memtable_forgotten(patch: Patch) -> None:
    """What a flush is about to bring to the disk is named by nobody."""
    patch.setattr(Store, "_layers", lambda self: [self.tables])


# Hinted handoff.


def hint_forgotten_on_handover(patch: Patch) -> None:
    """R4: what was sent is taken for what has arrived."""
    hand_over = HintPath._hand_over

    def forget(self: HintPath, noted: bytes, owner: bytes, kept: Any) -> bool:
        sent = hand_over(self, noted, owner, kept)
        for rkey in [rkey for rkey in kept.sequences if rkey not in kept.waiting]:
            self._forget(noted, kept, rkey)
        return sent

    patch.setattr(HintPath, "_hand_over", forget)


def silence_leaves_no_hint(patch: Patch) -> None:
    """R4: no answer by the deadline is no reason for a hint."""
    patch.setattr(Node, "_forgotten", lambda *_: None)


# Sloppy quorums.


def stand_in_counted_at_strong(patch: Patch) -> None:
    """R2: whatever the level, who is next on the ring counts."""
    patch.setattr(Level, "sloppy", True)


def own_copy_and_hint_counted_as_two(patch: Patch) -> None:
    """R4: a coordinator that keeps a hint for an owner counts as that owner, too."""
    missed, able = PutPath.missed, StandIns.able

    def counted(self: PutPath, group: WriteGroup, peer: bytes, positions: Any) -> None:
        missed(self, group, peer, positions)
        if positions is None and group.owned and peer not in group.pending:
            group.tally.need = max(1, group.tally.need - 1)

    patch.setattr(PutPath, "missed", counted)
    patch.setattr(StandIns, "able", lambda self, owners: able(self, owners) or list(owners))


def absence_at_a_stand_in_believed(patch: Patch) -> None:
    """R2: that a node which owns nothing holds nothing is taken for an answer."""

    def believe(self: GetPath, link: Link, group: ReadGroup, message: Any) -> None:
        group.owners = (*group.owners, link.peer)
        self.found(link, message)

    patch.setattr(GetPath, "_found_by_stand_in", believe)


def copy_of_a_stand_in_dropped_when_sent(patch: Patch) -> None:
    """R4: what was sent is taken for what has arrived, and the only other copy goes with the hint."""
    hint_forgotten_on_handover(patch)


# Counters.


def increment_written_as_a_sum(patch: Patch) -> None:
    """V9: the number that was read, and one more: of two at once one is lost."""

    def put(before: bytes, arguments: Any, wall_ms: int) -> Write:
        shown = versions.value_of(before, wall_ms)
        return Write(b"%d" % (int(shown or b"0") + int(arguments[0])))

    patch.setitem(OPERATIONS, "increment", put)


def increment_forwarded_once_more(patch: Patch) -> None:
    """R1: one whose coordinator died unanswered is given to another owner, as a SET is."""

    def lost(self: ForwardPath, group: ForwardGroup, peer: bytes) -> None:
        if self._groups.pop(group.id, None) is not None:
            for i in sorted(group.left):
                operation = group.operations[i]
                self._hand_over(operation, slot_of(operation.key), group.sinks[i], group.indexes[i], peer)

    patch.setattr(ForwardPath, "lost", lost)


def numbered_increment_under_a_dot_of_its_coordinator(patch: Patch) -> None:
    """V9: sent again, it is another increment."""
    patch.setitem(OPERATIONS, "increment_once", lambda _before, arguments, _wall_ms: Increment(int(arguments[0])))


def removal_covers_all_that_it_has_seen(patch: Patch) -> None:
    """V9: not the one member that it names."""

    def apply(_self: Any, dots: DotSource, held: bytes, stamp: int, _wall_ms: int) -> bytes:
        return dots.write_each(held, [(sets.MARK, b"")], versions.context_of(held), stamp)

    patch.setattr(RemoveMembers, "apply", apply)


def members_merged_without_their_context(patch: Patch) -> None:
    """V9: the union of both sides' members: what was removed comes back."""
    survivors = versions.survivors

    def all_of(mine: Any, other: Any, seen: Any) -> set[Any]:
        return survivors(mine, other, seen) | {each for each in mine.siblings if each.content_type == sets.MEMBER}

    patch.setattr(versions, "survivors", all_of)


# Hashes and sorted sets.


def field_increment_written_as_a_sum(patch: Patch) -> None:
    """V9: the number that was read, and more, as an entry: of two at once one is lost."""

    def put(before: bytes, arguments: Any, wall_ms: int) -> SetFields:
        bytes_max, field, amount, _ = arguments
        shown = (versions.fields(before, wall_ms) or {}).get(field, b"0")
        return SetFields(((field, b"%d" % (int(shown) + int(amount))),), bytes_max)

    patch.setitem(OPERATIONS, "hash_increment", put)


def contributions_of_others_taken_over(patch: Patch) -> None:
    """V9: a contribution replaces all that are seen, and takes in their sum: what comes later of those counts twice."""
    patch.setattr(Field, "of_actor", lambda self, _actor: self.counted)


def removal_of_a_field_covers_the_others(patch: Patch) -> None:
    """V9: not the one field that it names."""

    def apply(_self: Any, dots: DotSource, held: bytes, stamp: int, _wall_ms: int) -> bytes:
        return dots.write_each(held, [(sets.MARK, b"")], versions.context_of(held), stamp)

    patch.setattr(RemoveFields, "apply", apply)


def fields_merged_without_their_context(patch: Patch) -> None:
    """V9: the union of both sides' fields: what was removed comes back."""
    survivors = versions.survivors

    def all_of(mine: Any, other: Any, seen: Any) -> set[Any]:
        return survivors(mine, other, seen) | {each for each in mine.siblings if each.content_type in KINDS}

    patch.setattr(versions, "survivors", all_of)


# HyperLogLogs.


def estimate_written_over_what_was_not_read(patch: Patch) -> None:
    """V9: what is added, in the place of all that this node holds, as a SET would be."""

    def apply(self: AddElements, dots: DotSource, held: bytes, stamp: int, _wall_ms: int) -> bytes:
        return dots.write(held, Write(self.value, content_type=ESTIMATE), stamp)

    patch.setattr(AddElements, "apply", apply)


def estimates_shown_by_the_newest(patch: Patch) -> None:
    """V9: of versions beside each other the newest, not the maximum of all."""
    shown = hyperloglog.shown
    patch.setattr(hyperloglog, "shown", lambda found, wall_ms: sorted(shown(found, wall_ms), key=age)[-1:])


# Anti-entropy.


def difference_believed_once(patch: Patch) -> None:
    """What differs is exchanged at once, though a write may be under way."""
    add = Exchange.add

    def at_once(self: Exchange, *what: Any) -> None:
        add(self, *what)
        self._differing.append(self._differing.pop()._replace(seen_ms=-inf))

    patch.setattr(Exchange, "add", at_once)
    patch.setattr(Exchange, "_compare", Exchange._merge)


def tree_not_updated_on_merge(patch: Patch) -> None:
    """What a replica merges, unlike what it replaces, is not told to the tree."""
    merge_in = Replica._merge_in

    def unseen(self: Replica, slot: int, rkey: bytes, *rest: Any) -> bytes:
        store: Any = self._store
        count = len(store._touched)
        state = merge_in(self, slot, rkey, *rest)
        for column in (store._written_slots, store._touched, store._bases, store._records):
            del column[count:]
        return state

    patch.setattr(Replica, "_merge_in", unseen)


# Liveness.


def refutation_ignored(patch: Patch) -> None:
    """Who is called dead hears of it, and says nothing against it."""
    patch.setattr(Membership, "_refute", lambda *_: None)


def suspected_too_briefly(patch: Patch) -> None:
    """A suspicion that is shorter than the pauses which must do no harm."""
    brief = msgspec.structs.replace(PRESETS["local"], suspicion_min_ms=500.0)
    patch.setitem(PRESETS, "local", brief)


# The log.


def last_entry_not_replayed(patch: Patch) -> None:
    init, replay = Store.__init__, Store._replay

    def skip_last(self: Store, *arguments: Any) -> None:
        waiting: list[bytes] = []

        def delayed(chunk: bytes) -> None:
            waiting.append(chunk)
            if len(waiting) > 1:
                replay(self, waiting.pop(0))

        self._replay = delayed  # type: ignore[method-assign]
        init(self, *arguments)

    patch.setattr(Store, "__init__", skip_last)


def log_cut_below_what_is_synced(patch: Patch) -> None:
    """S2: the log goes as far as it is durable, though the engine does not hold it yet."""
    done = CommitLog._sync_done

    def cut_too(self: CommitLog, *result: Any) -> None:
        done(self, *result)
        self.cut(self.synced)

    patch.setattr(CommitLog, "_sync_done", cut_too)


def sync_claims_what_came_meanwhile(patch: Patch) -> None:
    done = CommitLog._sync_done
    patch.setattr(CommitLog, "_sync_done", lambda self, _position, *rest: done(self, self.position, *rest))


def failed_sync_tried_again(patch: Patch) -> None:
    """S3: the second sync succeeds, without the data that the first has lost."""
    done = CommitLog._sync_done

    def again(self: CommitLog, position: int, rotated: Any, result: BaseException | None) -> None:
        done(self, position, rotated, None if isinstance(result, OSError) else result)

    patch.setattr(CommitLog, "_sync_done", again)


# Flushes.


def answered_before_a_majority_holds_the_epoch(patch: Patch) -> None:
    """A flush is decided by a majority of the voters; that they have accepted it is not yet that owners follow it."""
    patch.setattr(Flushes, "_lacking", lambda *_: (0, 0))


def old_incarnation_accepted(patch: Patch) -> None:
    """T5: owners take frames of an incarnation that is void."""

    class Everything:
        def __contains__(self, prefix: bytes) -> bool:
            return True

    patch.setattr(Replica, "_live", property(lambda _: Everything(), lambda *_: None), raising=False)


def void_rows_merged(patch: Patch) -> None:
    """What is written in a new incarnation is put where the old one's rows are: the paths do not follow."""
    patch.setattr(Node, "_follow", lambda _: None)


def flush_of_one_bucket_voids_another(patch: Patch) -> None:
    """T5: whoever flushes a bucket takes all of them along."""
    patch.setattr(flush_module, "flush", lambda document, _number: flush_all(document))


def purge_of_one_bucket_takes_another(patch: Patch) -> None:
    """What is removed is not looked at closely: rows of the default bucket go with those of the one that was flushed."""
    begin: Any = Purge.__init__

    def beyond(self: Purge, *arguments: Any) -> None:
        *before, void, purged, failed = arguments
        begin(self, *before, [(bytes(6), b"\0\1" + bytes(4)), *void[void[0][0] == bytes(6) :]], purged, failed)

    patch.setattr(Purge, "__init__", beyond)


def terms_of_a_flushed_bucket_stay_in_the_trees(patch: Patch) -> None:
    """R5: where several buckets are in use, the trees are not made anew."""

    def follow(self: Trees, live: frozenset[bytes], _fresh: object) -> None:
        self._live = live
        self._followed += 1

    patch.setattr(Trees, "follow", follow)


# A lost member's place.


def filling_node_counts(patch: Patch) -> None:
    """T4: an empty node is asked, and counted, as an owner from the moment on that it has its place."""
    patch.setattr(hashing, "PAGE_KEYS", 4)  # so that it takes a while
    install = Topology.install

    def serve(self: Topology, document: Document) -> bool:
        installed = install(self, document)
        self.serving[:] = self.owners
        self.serving_sets[:] = self.sets
        return installed

    patch.setattr(Topology, "install", serve)


def filled_from_one_owner_only(patch: Patch) -> None:
    """T4: with the lost copy, the other owner may have made the majority of some writes."""
    patch.setattr(Filling, "_enough", lambda self: any(source.done for source in self.sources.values()))


ADDING = Scenario(
    nodes=6,
    work_ms=10.0,
    weather=Weather(20.0, 20.0),
    mix=Mix(kinds=(("incr", 10), ("count", 1)), levels=(("quorum", 1),), counters=20),
    faults=("crash", "break"),
)
ADDING_MEMBERS = Mix(kinds=(("add", 5), ("remove", 3), ("members", 3)), levels=(("quorum", 1),), sets=2)
# Few keys, so that much is at once on each, and hashes do not grow for long.
ADDING_FIELDS = Mix(kinds=(("hincr", 6), ("fields", 2)), levels=(("quorum", 1),), hashes=12)
ADDING_SCORES = Mix(kinds=(("zincr", 6), ("scores", 2)), levels=(("quorum", 1),), sorted_sets=14)
FIELDS = Mix(kinds=(("hset", 5), ("hdel", 3), ("fields", 3)), levels=(("quorum", 1),), hashes=4)
SCORED = Mix(kinds=(("zadd", 5), ("zrem", 3), ("scores", 3)), levels=(("quorum", 1),), sorted_sets=4)
ESTIMATES = Mix(kinds=(("pfadd", 5), ("estimate", 3)), levels=(("quorum", 1),), estimates=4)
FAULTS: list[Fault] = [
    (one_acknowledgement_too_few, NETWORK, {"stale", "lost", "shadowed", "blind"}, 4),
    (newer_answer_ignored, NETWORK, {"stale"}, 4),
    (refusal_after_a_lost_coordinator, FORWARDS, {"ghost"}, 12),
    (forward_coordinated_twice, DISORDER, {"twice", "ghost"}, 4),
    (coordinated_by_no_owner, replace(FORWARDS, faults=("break",)), {"dots"}, 4),
    (differences_not_repaired, NETWORK, {"backwards", "converged"}, 8),
    (unseen_siblings_dropped, NETWORK, {"siblings"}, 4),
    (merge_keeps_the_newest_only, NETWORK, {"siblings", "lost"}, 4),
    (not_issued_above_what_replicas_know, replace(NETWORK, faults=("skew", "partition")), {"shadowed"}, 16),
    (actor_kept_after_a_lost_tail, LOST_TAILS, {"dots"}, 24),
    (acknowledged_before_it_is_logged, KILLS, {"lost", "stale"}, 16),
    (acknowledged_before_it_is_synced, POWER, {"lost", "stale"}, 8),
    (cold_key_taken_as_absent, COLD, {"siblings", "lost", "stale", "dots"}, 4),
    (names_of_one_owner, SCANS, {"missed"}, 16),
    (page_to_the_furthest_end, SCANS, {"missed"}, 8),
    (cursor_one_too_far, SCANS, {"missed"}, 4),
    (keys_of_one_position_parted, ONE_SLOT, {"missed"}, 4),
    (frozen_memtable_forgotten, FIRST_FLUSHES, {"missed"}, 16),
    (last_entry_not_replayed, KILLS, {"lost", "stale"}, 16),
    (log_cut_below_what_is_synced, replace(KILLS, segment_bytes=4_000), {"lost", "stale", "exception"}, 8),
    (sync_claims_what_came_meanwhile, POWER, {"lost", "stale"}, 24),
    (
        answered_before_a_majority_holds_the_epoch,
        replace(FLUSHED, nodes=5, faults=("partition",)),
        {"flushed", "stale"},
        24,
    ),
    (old_incarnation_accepted, FLUSHED, {"flushed", "lost", "stale"}, 8),
    (void_rows_merged, FLUSHED, {"flushed"}, 4),
    (flush_of_one_bucket_voids_another, FLUSHED, {"lost", "stale"}, 4),
    (purge_of_one_bucket_takes_another, FLUSHED, {"lost", "stale"}, 4),
    (terms_of_a_flushed_bucket_stay_in_the_trees, replace(FLUSHED, repairs=True), {"tree"}, 4),
    (hint_forgotten_on_handover, LOST_HANDOVERS, {"handed"}, 4),
    (silence_leaves_no_hint, HINTS, {"handed"}, 8),
    (stand_in_counted_at_strong, STAND_INS, {"backwards", "stale"}, 16),
    (own_copy_and_hint_counted_as_two, replace(STAND_INS, nodes=3), {"stale", "lost", "shadowed", "blind"}, 32),
    (absence_at_a_stand_in_believed, replace(STAND_INS, mix=replace(WRITES, levels=(("quorum", 1),))), {"stale"}, 16),
    (copy_of_a_stand_in_dropped_when_sent, replace(STAND_INS, weather=Weather(100.0, 100.0)), {"lost", "handed"}, 16),
    (increment_written_as_a_sum, Scenario(mix=COUNTERS), {"counted"}, 4),
    (increment_forwarded_once_more, ADDING, {"counted"}, 16),
    (
        numbered_increment_under_a_dot_of_its_coordinator,
        replace(ADDING, mix=replace(ADDING.mix, kinds=(("once", 10), ("count", 1)))),
        {"counted"},
        16,
    ),
    (removal_covers_all_that_it_has_seen, replace(ADDING, mix=ADDING_MEMBERS), {"member"}, 8),
    (members_merged_without_their_context, replace(ADDING, mix=ADDING_MEMBERS), {"member", "siblings"}, 8),
    (field_increment_written_as_a_sum, replace(ADDING, mix=ADDING_FIELDS), {"counted"}, 8),
    (contributions_of_others_taken_over, replace(ADDING, mix=ADDING_SCORES), {"counted"}, 8),
    (removal_of_a_field_covers_the_others, replace(ADDING, mix=SCORED), {"member"}, 8),
    (fields_merged_without_their_context, replace(ADDING, mix=FIELDS), {"member", "siblings"}, 8),
    (estimate_written_over_what_was_not_read, replace(ADDING, mix=ESTIMATES), {"member"}, 8),
    (estimates_shown_by_the_newest, replace(ADDING, mix=ESTIMATES), {"member"}, 8),
    (difference_believed_once, SLOW, {"needless"}, 48),  # one history in seven shows it
    (tree_not_updated_on_merge, REPAIRS, {"tree"}, 4),
    (refutation_ignored, replace(NETWORK, faults=("partition", "pause")), {"unseen"}, 4),
    (suspected_too_briefly, PAUSES, {"death"}, 8),
    (filling_node_counts, replace(REFILLS, weather=Weather(50.0, 50.0)), {"stale", "backwards", "dots"}, 16),
    (filled_from_one_owner_only, REFILLS, {"filled", "stale", "lost"}, 24),
    (failed_sync_tried_again, replace(POWER, faults=("bad disk", "crash all")), {"lost", "stale"}, 16),
]


@pytest.mark.parametrize(("fault", "scenario", "checks", "seeds"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_deliberate_fault_is_caught(
    fault: Callable[[Patch], None], scenario: Scenario, checks: set[str], seeds: int, monkeypatch: Patch
) -> None:
    expect_caught(fault, scenario, checks, seeds, monkeypatch)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_pauses_alone_kill_nobody(seed: int) -> None:
    """What the faults of liveness are planted in is right without them."""
    assert run(seed, PAUSES).violations == []


def test_writes_under_way_are_no_difference() -> None:
    """What the fault above is planted in is right without it."""
    for seed in (1, 2, 3, 4):
        assert run(seed, SLOW).violations == []


def test_keys_of_one_position_are_all_shown(monkeypatch: Patch) -> None:
    """What the fault above is planted in is right without it."""
    few_positions(monkeypatch)
    for seed in (1, 2):
        assert run(seed, ONE_SLOT).violations == []


@pytest.mark.parametrize("mix", [ADDING_FIELDS, ADDING_SCORES, FIELDS, SCORED, ESTIMATES])
def test_fields_and_scores_are_kept(mix: Mix) -> None:
    """What the faults of hashes and sorted sets are planted in is right without them."""
    report = run(1, replace(ADDING, mix=mix))
    assert report.violations == [] and report.operations > 700


def test_a_lost_disk_loses_nothing() -> None:
    """What the faults above are planted in is right without them."""
    for seed in (1, 2, 3, 4):
        assert run(seed, REFILLS).violations == []
