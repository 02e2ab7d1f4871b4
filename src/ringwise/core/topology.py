"""The topology: who is a member, and who owns which slot; one agreed document with an epoch (design T2, T3, T5).

Liveness is gossip's business; this is what has been *decided*. A `Document` is immutable; the next one comes from a
change (`found`, `join`, `form`, `flush`, `lose`, `filled`: pure functions) and counts once it is agreed upon (agreement.py).
`Topology` is the view of the document in force that the hot path reads: arrays by slot, nothing to compute.

    document 7 -- join(member) --> document 8 -- agreed --> Topology.install() --> owners[slot], changed[slot]

Invariants
- Nodes follow the table, never the planner: two versions of the program cannot disagree about owners (T2).
- A bucket's owners of a slot are the first N of the slot's list; lists are as long as the greatest N of any bucket, or
  as long as there are members.
- `changed[slot]` is the epoch that last changed *or reordered* the slot's list (T4, T5). A new incarnation of a bucket
  changes no slot: it is in the row keys, so that other buckets are not disturbed (core/space.py).
- While `formed` is false no owner applies a write; once true, join() refuses (T3), but for who takes a lost member's place.
- Who is `filling` has taken such a place, has the data not yet, and counts for nothing (T4): `serving` are the others.
"""

import struct
from collections.abc import Sequence
from itertools import groupby

import msgspec

from ringwise.core.keys import Bucket
from ringwise.core.placement import plan
from ringwise.core.ring import SLOTS

NodeId = bytes  # six random bytes: the identity of a data directory (T3)

FORMAT = 3
FORMAT_REPLACED = 2  # of documents in which somebody was replaced, and there is one bucket
FORMAT_PLAIN = 1  # of documents in which nobody was ever replaced: what an older version reads, too
NODE_ID_BYTES = 6
MEMBERS_MAX = 1024  # a document of 1,000 members is about 250 KB: what a frame and a state file are built for
FORMER_MAX = 256  # former members that are remembered, so that one that comes back is told; 20 KB
VOTERS_MAX = 7  # three may be away; more voters would only make every change slower
WEIGHT_MAX = 100.0  # 25,600 virtual nodes
NAME_CHARACTERS_MAX = 64
INCARNATION_MAX = 0xFFFF_FFFF  # the field of a row key has four bytes: a flush a second for 136 years
NUMBERED = 16  # buckets that are there from the start, as clients SELECT them by number; 0 is the default bucket


class TopologyTooNew(Exception):
    """The document was written by a newer version of the program; an older one must not guess at it."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the topology has format {found}, this version knows up to {FORMAT}: use a newer ringwise")
        self.found = found


class TopologyDamaged(Exception):
    """The bytes are no topology document."""


class ChangeRefused(Exception):
    """The change makes no sense on the document in force; certain not to have been applied."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again  # it may make sense soon: who asks may ask again


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A node as the document knows it: a configured name, bound to the id of its data directory (T3)."""

    name: str
    id: NodeId
    host: str  # an address, and the label of the machine: copies stay off one host while there are enough hosts
    peer_port: int
    port: int
    http_port: int
    weight: float = 1.0
    rack: str = ""
    dc: str = ""
    cluster_port: int = 0  # for clients in cluster mode; 0: it has none, and they come to `port`


class BucketRules(msgspec.Struct, array_like=True, frozen=True):
    """The rules of a bucket that every owner must share, so they are agreed upon (T2)."""

    number: int = 0
    name: str = ""
    n: int = 3
    policy: str = "siblings"
    engine: str = "lsm"
    incarnation: int = 1
    r: str = ""  # R2: what reads and writes on it ask for that do not say; levels by name, or numbers
    w: str = ""
    ttl_s: int = 0  # of what is written without saying how long; 0: for ever


class Move(msgspec.Struct, array_like=True, frozen=True):
    """A slot on its way to other owners (T4): `lists[pending]` takes over, now in `phase`."""

    slot: int
    pending: int
    phase: int


class Table(msgspec.Struct, array_like=True, frozen=True):
    """Slot -> preference list, compactly: few distinct lists, 16,384 indexes into them, runs of equal epochs."""

    lists: list[bytes]  # each a preference list: u16 indexes into the document's members, first owner first
    slots: bytes  # for each slot the u16 index of its list
    changed: list[tuple[int, int]]  # runs (slots, epoch of their last change), in slot order
    moves: list[Move] = []  # slots that have pending owners


class Former(msgspec.Struct, array_like=True, frozen=True):
    """A member that was replaced: it may come back, and must be told."""

    id: NodeId
    name: str
    epoch: int  # of the document that put another in its place


class Document(msgspec.Struct, array_like=True, frozen=True):
    """Everything that is agreed upon. With several data centres a list holds theirs one after another (labels tell)."""

    format: int
    cluster: bytes
    epoch: int
    formed: bool
    members: list[Member]  # in the order they joined
    voters: list[NodeId]  # decide the next document (T3)
    buckets: list[BucketRules]  # by number; 0 is the default bucket
    table: Table
    lost: list[
        NodeId
    ] = []  # members whose data an operator has given up: an empty node of that name may take the place
    filling: list[NodeId] = []  # members that took one, and have not all of its data yet (T4)
    former: list[Former] = []
    named: int = 0  # buckets with a name that were ever created: the next one's number, which nobody had before

    def encode(self) -> bytes:
        return _encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Document":
        try:
            found = _head_decoder.decode(data).format
            if found > FORMAT:
                raise TopologyTooNew(found)
            document = _decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise TopologyDamaged(f"not a topology document: {error}") from error
        table = document.table
        if len(table.slots) != 2 * SLOTS or max(document.list_numbers()) >= len(table.lists):
            raise TopologyDamaged("the topology's table does not name a list for each slot")
        if any(len(raw) % 2 or max(indexes(raw), default=0) >= len(document.members) for raw in table.lists):
            raise TopologyDamaged("the topology's table names owners that are no members")
        if sum(count for count, _ in table.changed) != SLOTS or min(count for count, _ in table.changed) < 0:
            raise TopologyDamaged("the topology's table does not name an epoch for each slot")
        if not {*document.lost, *document.filling} <= {member.id for member in document.members}:
            raise TopologyDamaged("the topology calls somebody lost, or filling, who is no member")
        return document

    @property
    def replicas(self) -> int:
        """The length that lists have once there are members enough: the greatest N of any bucket."""
        return max(bucket.n for bucket in self.buckets)

    def member(self, node: NodeId) -> Member | None:
        return next((member for member in self.members if member.id == node), None)

    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    def lists(self) -> list[tuple[NodeId, ...]]:
        """The distinct preference lists."""
        ids = [member.id for member in self.members]
        return [tuple(ids[index] for index in indexes(raw)) for raw in self.table.lists]

    def list_numbers(self) -> tuple[int, ...]:
        """By slot: the index of its list in lists()."""
        return indexes(self.table.slots)

    def owners(self) -> list[tuple[NodeId, ...]]:
        """By slot; equal lists are the same tuple object."""
        lists = self.lists()
        return [lists[number] for number in self.list_numbers()]

    def bucket(self, number: int) -> Bucket:
        """A bucket in its present incarnation."""
        rules = self.rules(number)
        assert rules is not None
        return Bucket(number, rules.incarnation)

    def rules(self, number: int) -> BucketRules | None:
        """A bucket's rules; the numbered ones have those of bucket 0 at first, but for what is its own."""
        found = next((rules for rules in self.buckets if rules.number == number), None)
        if found is None and number < NUMBERED:
            return BucketRules(number, n=self.replicas)
        return found

    def in_force(self) -> list[BucketRules]:
        """All buckets, by number."""
        stored = {rules.number: rules for rules in self.buckets}
        numbers = sorted({*range(NUMBERED), *stored})
        return [stored.get(number) or BucketRules(number, n=self.replicas) for number in numbers]

    def changed(self) -> list[int]:
        """By slot: the epoch of the last change of its owners."""
        epochs: list[int] = []
        for count, epoch in self.table.changed:
            epochs.extend([epoch] * count)
        return epochs


def indexes(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(raw) // 2}H", raw)


def epoch_of(data: bytes) -> int:
    """The epoch of an encoded document, without reading all of it."""
    try:
        return _head_decoder.decode(data).epoch
    except msgspec.MsgspecError as error:
        raise TopologyDamaged(f"not a topology document: {error}") from error


class _Head(msgspec.Struct, array_like=True):
    format: int
    cluster: bytes
    epoch: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Document)
_head_decoder = msgspec.msgpack.Decoder(_Head)


class Topology:
    """The document in force, as arrays. They are changed in place, so a reference to one stays good."""

    def __init__(self) -> None:
        self.epoch = 0  # 0: no document yet
        self.document: Document | None = None
        self.formed = False
        self.owners: list[tuple[NodeId, ...]] = [()] * SLOTS  # in order of preference
        self.sets: list[tuple[NodeId, ...]] = [()]  # the distinct sets of owners, each sorted
        self.owner_set: list[int] = [0] * SLOTS  # by slot: index into sets
        self.changed: list[int] = [0] * SLOTS
        self.changed_max = 0
        self.members: dict[NodeId, Member] = {}
        self.filling: frozenset[NodeId] = frozenset()
        self.serving: list[tuple[NodeId, ...]] = [()] * SLOTS  # `owners` without those that are filling
        self.serving_sets: list[tuple[NodeId, ...]] = [()]  # and `sets`
        self.former: dict[NodeId, Former] = {}

    def present(self, node: NodeId) -> NodeId | None:
        """Who has this member's place now: itself, or who replaced it; None: nobody knows of it."""
        if node in self.members:
            return node
        former = self.former.get(node)
        if former is None:
            return None
        return next((member.id for member in self.members.values() if member.name == former.name), None)

    def install(self, document: Document) -> bool:
        """Put a decided document in force; only a newer one, and only of the same cluster."""
        if self.document is not None and (document.cluster != self.document.cluster or document.epoch <= self.epoch):
            return False
        self.document = document
        self.epoch = document.epoch
        self.formed = document.formed
        lists, numbers = document.lists(), document.list_numbers()
        self.owners[:] = [lists[number] for number in numbers]
        ordered = [tuple(sorted(owners)) for owners in lists]
        self.sets[:] = sorted(set(ordered))
        index_of = {owners: index for index, owners in enumerate(self.sets)}
        set_of_list = [index_of[owners] for owners in ordered]
        self.owner_set[:] = [set_of_list[number] for number in numbers]
        self.changed[:] = document.changed()
        self.changed_max = max(self.changed)
        self.members.clear()
        self.members.update((member.id, member) for member in document.members)
        self.former = {former.id: former for former in document.former}
        self.filling = filling = frozenset(document.filling)
        if filling:
            without = [tuple(owner for owner in owners if owner not in filling) for owners in lists]
            self.serving[:] = [without[number] for number in numbers]
        else:
            self.serving[:] = self.owners
        self.serving_sets[:] = [tuple(owner for owner in owners if owner not in filling) for owners in self.sets]
        return True


# Changes: each takes the document in force and returns the next one, or None where nothing is left to do.


def found(cluster: bytes, member: Member, buckets: Sequence[BucketRules] = (BucketRules(),)) -> Document:
    """Document 1: the founding node alone, forming (T3)."""
    _check(member)
    blank = Document(
        FORMAT_PLAIN, cluster, 0, False, [], [], sorted(buckets, key=lambda rules: rules.number), _NO_TABLE
    )
    return _with_members(blank, [member])


def join(document: Document, member: Member) -> Document | None:
    """Take a member in while the cluster is forming, or take note of a known member's new address.

    A known name comes with another id when its directory was lost. While forming, it is bound anew if it is at the old
    address: there its predecessor cannot be running any more. A second node with the same name elsewhere is a mistake.
    Once formed, it takes the place of a member that was declared lost (`lose`), with the same slots.
    """
    _check(member)
    members = list(document.members)
    if any(former.id == member.id for former in document.former):
        raise ChangeRefused(f"this data directory was member {member.name} once, and has been replaced")
    known = document.member(member.id)
    if known == member:
        return None
    if known is not None and known.name != member.name:
        raise ChangeRefused(f"this data directory is member {known.name}; it cannot come back as {member.name}")
    for index, other in enumerate(members):
        same_place = (other.host, other.peer_port) == (member.host, member.peer_port)
        if other.id == member.id:
            continue
        if other.name == member.name and document.formed:
            if other.id in document.lost:
                return _replaced(document, other, member)
            raise ChangeRefused(
                f"the name {member.name} belongs to another data directory, at {other.host}:{other.peer_port}; "
                f"if that is lost for good: ringwise replace {member.name}",
                again=True,
            )
        if other.name == member.name and not same_place:
            raise ChangeRefused(
                f"the name {member.name} belongs to another data directory, at {other.host}:{other.peer_port}"
            )
        if other.name != member.name and same_place:
            raise ChangeRefused(f"{member.host}:{member.peer_port} is the address of member {other.name}")
        if other.name == member.name:
            members[index] = member
            return _with_members(document, members)
    if document.formed:
        if known is None:
            raise ChangeRefused("the cluster is formed, and its slots hold data: it cannot take in new members yet")
        moved = msgspec.structs.replace(
            known,
            host=member.host,
            peer_port=member.peer_port,
            port=member.port,
            http_port=member.http_port,
            cluster_port=member.cluster_port,
        )
        if moved == known:
            return None
        members[members.index(known)] = moved
        return msgspec.structs.replace(document, epoch=document.epoch + 1, members=members)
    if known is not None:
        members[members.index(known)] = member
    elif len(members) == MEMBERS_MAX:
        raise ChangeRefused(f"the cluster has {MEMBERS_MAX} members, the most there can be")
    else:
        members.append(member)
    return _with_members(document, members)


def form(document: Document) -> Document | None:
    """The same table, decided as formed: from now on owners apply writes, and change by moves only (T3)."""
    if document.formed:
        return None
    return msgspec.structs.replace(document, epoch=document.epoch + 1, formed=True)


def flush(document: Document, number: int) -> Document:
    """A new incarnation of a bucket: every row of the one before is void, in all slots (T5)."""
    rules = document.rules(number)
    if rules is None:
        raise ChangeRefused("this bucket was dropped meanwhile")
    return with_rules(document, [next_incarnation(rules)])


def next_incarnation(rules: BucketRules) -> BucketRules:
    if rules.incarnation >= INCARNATION_MAX:
        raise ChangeRefused(f"bucket {rules.number} was flushed {INCARNATION_MAX:,} times, the most there can be")
    return msgspec.structs.replace(rules, incarnation=rules.incarnation + 1)


def with_rules(document: Document, changed: Sequence[BucketRules]) -> Document:
    """The next document, with these buckets' rules."""
    rules = {each.number: each for each in (*document.buckets, *changed)}
    buckets = [rules[number] for number in sorted(rules)]
    plain = all(each == BucketRules(n=each.n, incarnation=each.incarnation) for each in buckets)
    format_ = document.format if plain else FORMAT
    return msgspec.structs.replace(document, format=format_, epoch=document.epoch + 1, buckets=buckets)


def lose(document: Document, name: str, node: NodeId | None = None) -> Document | None:
    """Declare a member's data lost: an empty node with its name may now take its place (T4). `node`: who that was when it was
    asked; where another has taken its place meanwhile, there is nothing left to do."""
    old = next((member for member in document.members if member.name == name), None)
    if old is None:
        raise ChangeRefused(f"there is no member {name}")
    if old.id in document.lost or node not in (None, old.id):
        return None
    if not document.formed:
        raise ChangeRefused(f"the cluster holds no data yet: start {name} on an empty directory with --join")
    _check_alone(document, old)
    format_ = max(document.format, FORMAT_REPLACED)
    return msgspec.structs.replace(document, format=format_, epoch=document.epoch + 1, lost=[*document.lost, old.id])


def filled(document: Document, node: NodeId) -> Document | None:
    """A member has all data of its slots: from now on it is an owner as any other."""
    if node not in document.filling:
        return None
    filling = [each for each in document.filling if each != node]
    return msgspec.structs.replace(document, epoch=document.epoch + 1, filling=filling)


def _check_alone(document: Document, old: Member) -> None:
    """T4: at most one owner of a slot is on its way, or a majority of the others might hold nothing."""
    for member in document.members:
        if member.id in document.filling and member.id != old.id:
            raise ChangeRefused(
                f"{member.name} is being filled, and one is replaced at a time: wait for it", again=True
            )


def _replaced(document: Document, old: Member, member: Member) -> Document:
    """A new data directory in the place of a lost one: the same slots, weight and labels, and its seat among the voters.

    The table numbers members, so it stays as it is; `changed` fences who does not know yet (T5).
    """
    for other in document.members:
        if other is not old and (other.host, other.peer_port) == (member.host, member.peer_port):
            raise ChangeRefused(f"{member.host}:{member.peer_port} is the address of member {other.name}")
    _check_alone(document, old)
    epoch, index = document.epoch + 1, document.members.index(old)
    members = list(document.members)
    members[index] = msgspec.structs.replace(member, weight=old.weight, rack=old.rack, dc=old.dc)
    raws = document.table.lists
    mine = [index in indexes(raw) for raw in raws]
    pairs = zip(document.list_numbers(), document.changed(), strict=True)
    changed = [epoch if mine[number] else since for number, since in pairs]
    filling = [node for node in document.filling if node != old.id]
    if any(own and len(raw) > 2 for own, raw in zip(mine, raws, strict=True)):  # else nobody has its data
        filling.append(member.id)
    return msgspec.structs.replace(
        document,
        format=max(document.format, FORMAT_REPLACED),
        epoch=epoch,
        members=members,
        voters=[member.id if node == old.id else node for node in document.voters],
        table=msgspec.structs.replace(document.table, changed=_runs(changed)),
        lost=[node for node in document.lost if node != old.id],
        filling=filling,
        former=[*document.former, Former(old.id, old.name, epoch)][-FORMER_MAX:],
    )


def choose_voters(members: Sequence[Member], voters: Sequence[NodeId]) -> list[NodeId]:
    """An odd number, at most seven: a fourth voter would add a vote to collect and tolerate no further loss.

    Voters stay while they are members; new ones come from racks that have none yet, then in the order of joining.
    """
    count = min(VOTERS_MAX, len(members))
    count -= 1 - count % 2
    by_id = {member.id: member for member in members}
    chosen = [by_id[node] for node in voters if node in by_id][:count]
    while len(chosen) < count:
        racks = [(member.dc, member.rack) for member in chosen]
        left = [member for member in members if member not in chosen]
        chosen.append(min(left, key=lambda member: racks.count((member.dc, member.rack))))
    return [member.id for member in chosen]


def _check(member: Member) -> None:
    if not 0 < len(member.name) <= NAME_CHARACTERS_MAX:
        raise ChangeRefused(f"a name has 1 to {NAME_CHARACTERS_MAX} characters")
    if len(member.id) != NODE_ID_BYTES:
        raise ChangeRefused(f"a node id has {NODE_ID_BYTES} bytes")
    if not 0 < member.weight <= WEIGHT_MAX:
        raise ChangeRefused(f"a weight is above 0 and at most {WEIGHT_MAX:g}")


def _with_members(document: Document, members: list[Member]) -> Document:
    """The next document with these members, planned afresh: while forming there are no data to move."""
    epoch = document.epoch + 1
    owners = plan(members, document.replicas, None)
    if document.epoch:
        pairs = zip(owners, document.owners(), document.changed(), strict=True)
        changed = [since if new == old else epoch for new, old, since in pairs]
    else:
        changed = [epoch] * SLOTS
    return msgspec.structs.replace(
        document,
        epoch=epoch,
        members=members,
        voters=choose_voters(members, document.voters),
        table=pack_table(members, owners, changed),
    )


def pack_table(members: Sequence[Member], owners: Sequence[tuple[NodeId, ...]], changed: Sequence[int]) -> Table:
    index_of = {member.id: index for index, member in enumerate(members)}
    number: dict[tuple[NodeId, ...], int] = {}
    slots = [number.setdefault(nodes, len(number)) for nodes in owners]
    lists = [struct.pack(f">{len(nodes)}H", *(index_of[node] for node in nodes)) for nodes in number]
    return Table(lists, struct.pack(f">{SLOTS}H", *slots), _runs(changed))


def _runs(changed: Sequence[int]) -> list[tuple[int, int]]:
    return [(sum(1 for _ in run), epoch) for epoch, run in groupby(changed)]


_NO_TABLE = Table([], b"", [])
