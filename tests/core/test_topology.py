"""The topology document, its changes and the view of it (T2, T3, T5)."""

from functools import cache
from itertools import pairwise

import msgspec
import pytest

from ringwise.core.ring import SLOTS
from ringwise.core.topology import (
    FORMAT,
    FORMAT_REPLACED,
    VOTERS_MAX,
    BucketRules,
    ChangeRefused,
    Document,
    Member,
    Topology,
    TopologyDamaged,
    TopologyTooNew,
    choose_voters,
    epoch_of,
    filled,
    form,
    found,
    join,
    lose,
)

CLUSTER = b"c" * 16


def member(number: int, rack: str = "") -> Member:
    return Member(f"n{number}", b"node-%d" % number, f"10.0.0.{number}", 9379, 7379, 8379, rack=rack)


def joined(document: Document, newcomer: Member) -> Document:
    result = join(document, newcomer)
    assert result is not None
    return result


@cache
def cluster(count: int) -> Document:
    return found(CLUSTER, member(1)) if count == 1 else joined(cluster(count - 1), member(count))


@cache
def formed(count: int) -> Document:
    document = form(cluster(count))
    assert document is not None
    return document


def test_the_founder_owns_everything_and_is_its_own_voter() -> None:
    document = cluster(1)
    assert (document.epoch, document.formed, document.voters) == (1, False, [b"node-1"])
    assert document.owners() == [(b"node-1",)] * SLOTS
    assert document.changed() == [1] * SLOTS


def test_each_join_is_an_epoch_and_there_are_as_many_copies_as_members() -> None:
    for count, copies in ((2, 2), (3, 3), (4, 3)):
        document = cluster(count)
        assert document.epoch == count
        assert {len(nodes) for nodes in document.owners()} == {copies}
        assert {node for nodes in document.owners() for node in nodes} == {each.id for each in document.members}


def test_forming_keeps_the_table_and_happens_once() -> None:
    before, after = cluster(3), formed(3)
    assert (after.epoch, after.formed) == (before.epoch + 1, True)
    assert after.table == before.table
    assert form(after) is None


def test_a_formed_cluster_says_why_it_takes_nobody_in() -> None:
    with pytest.raises(ChangeRefused, match="is formed, and its slots hold data"):
        join(formed(3), member(4))


def test_joining_twice_changes_nothing() -> None:
    assert join(cluster(3), member(2)) is None
    assert join(formed(3), member(2)) is None


def test_a_new_address_is_noted_and_moves_no_slot() -> None:
    moved = msgspec.structs.replace(member(2), host="10.9.9.9", peer_port=1234)
    for before in (cluster(3), formed(3)):
        after = joined(before, moved)
        assert after.epoch == before.epoch + 1
        assert after.member(b"node-2") == moved
        assert (after.owners(), after.voters) == (before.owners(), before.voters)


def test_a_formed_cluster_notes_an_address_but_no_other_weight() -> None:
    heavy = msgspec.structs.replace(member(2), weight=5.0)
    assert join(formed(3), heavy) is None, "owners of a formed cluster change by moves only (T4)"
    assert joined(cluster(3), heavy).owners() != cluster(3).owners()


def test_a_name_is_bound_anew_only_in_its_own_place_and_while_forming() -> None:
    # T3: n2 lost its directory while the cluster was forming, and comes back at its address with a new id.
    back = msgspec.structs.replace(member(2), id=b"newnew")
    after = joined(cluster(3), back)
    assert [each.id for each in after.members] == [b"node-1", b"newnew", b"node-3"]
    assert after.voters == [b"node-1", b"node-3", b"newnew"]
    expected = [tuple(b"newnew" if node == b"node-2" else node for node in nodes) for nodes in cluster(3).owners()]
    assert after.owners() == expected, "it stands where it stood"
    with pytest.raises(ChangeRefused, match="the name n2 belongs to another data directory"):
        join(cluster(3), msgspec.structs.replace(back, host="10.7.7.7"))
    with pytest.raises(ChangeRefused, match="the name n2 belongs to another data directory"):
        join(formed(3), back)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": ""}, "a name has"),
        ({"name": "x" * 65}, "a name has"),
        ({"id": b"short"}, "a node id has 6 bytes"),
        ({"weight": 0.0}, "a weight is above 0"),
        ({"weight": 101.0}, "a weight is above 0"),
        ({"host": "10.0.0.1"}, "is the address of member n1"),
        ({"id": b"node-2"}, "is member n2; it cannot come back as n4"),
    ],
)
def test_members_that_make_no_sense_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ChangeRefused, match=reason):
        join(cluster(3), msgspec.structs.replace(member(4), **change))


def test_voters_are_odd_in_number_at_most_seven_and_stay() -> None:
    members = [member(number) for number in range(1, 10)]
    counts = [len(choose_voters(members[:count], [])) for count in range(1, 10)]
    assert counts == [1, 1, 3, 3, 5, 5, VOTERS_MAX, VOTERS_MAX, VOTERS_MAX]
    assert choose_voters(members[:3], [b"node-3"])[0] == b"node-3"
    assert b"node-9" not in choose_voters(members[:5], [b"node-9"])


def test_voters_come_from_different_racks_first() -> None:
    members = [member(1, "a"), member(2, "a"), member(3, "a"), member(4, "b"), member(5, "c")]
    assert set(choose_voters(members, [])) >= {b"node-1", b"node-4", b"node-5"}
    assert choose_voters(members[:4], []) == [b"node-1", b"node-4", b"node-2"]


def test_changed_is_the_epoch_of_the_last_change_or_reordering() -> None:
    # T5: frames older than this are fenced, slot by slot.
    history = [cluster(count) for count in range(1, 6)]
    for before, after in pairwise(history):
        pairs = zip(before.owners(), after.owners(), before.changed(), after.changed(), strict=True)
        for old, new, since, now in pairs:
            assert now == (since if old == new else after.epoch)
    assert len(set(history[-1].changed())) > 1, "some slots did not change at the last join"


@pytest.mark.parametrize("count", [1, 3, 5])
def test_documents_survive_the_wire(count: int) -> None:
    document = cluster(count)
    assert Document.decode(document.encode()) == document
    assert epoch_of(document.encode()) == document.epoch


def test_a_newer_format_is_named() -> None:
    newer = msgspec.msgpack.encode([FORMAT + 1, CLUSTER, 7, "what newer versions know"])
    with pytest.raises(TopologyTooNew, match=f"has format {FORMAT + 1}, this version knows up to {FORMAT}"):
        Document.decode(newer)


def test_damage_is_named() -> None:
    document = cluster(3)
    table = document.table
    for damaged in (
        msgspec.structs.replace(table, slots=table.slots[:-2]),
        msgspec.structs.replace(table, slots=b"\xff\xff" + table.slots[2:]),
        msgspec.structs.replace(table, lists=[b"\x00\x09", *table.lists[1:]]),
        msgspec.structs.replace(table, lists=[b"\x00", *table.lists[1:]]),
        msgspec.structs.replace(table, changed=[(SLOTS - 1, 1)]),
        msgspec.structs.replace(table, changed=[]),
    ):
        with pytest.raises(TopologyDamaged):
            Document.decode(msgspec.structs.replace(document, table=damaged).encode())
    for data in (b"", b"nonsense", document.encode()[:-1]):
        with pytest.raises(TopologyDamaged):
            Document.decode(data)
    with pytest.raises(TopologyDamaged):
        epoch_of(b"nonsense")


def test_lists_are_as_long_as_the_greatest_n_of_any_bucket() -> None:
    document = found(CLUSTER, member(1), [BucketRules(1, "wide", 5), BucketRules()])
    assert [bucket.number for bucket in document.buckets] == [0, 1]
    for number in range(2, 7):
        document = joined(document, member(number))
    assert {len(nodes) for nodes in document.owners()} == {5}


def test_the_view_shows_the_document_in_force() -> None:
    topology = Topology()
    assert (topology.epoch, topology.formed, len(topology.owners)) == (0, False, SLOTS)
    owners, changed, members = topology.owners, topology.changed, topology.members
    assert topology.install(formed(4))
    assert (owners, changed, members) == (topology.owners, topology.changed, topology.members)
    assert owners is topology.owners and changed is topology.changed and members is topology.members, "arrays stay"
    assert topology.epoch == 5 and topology.formed
    assert topology.owners == formed(4).owners()
    assert topology.changed_max == max(topology.changed) == 4
    assert list(topology.members) == [b"node-1", b"node-2", b"node-3", b"node-4"]
    for slot in range(0, SLOTS, 97):
        assert topology.sets[topology.owner_set[slot]] == tuple(sorted(topology.owners[slot]))
    assert len(topology.sets) == len(set(topology.sets)) == 4


def test_equal_lists_are_one_tuple() -> None:
    topology = Topology()
    topology.install(cluster(3))
    assert len({id(nodes) for nodes in topology.owners}) == len(set(topology.owners))


def test_only_newer_documents_of_the_same_cluster_are_installed() -> None:
    topology = Topology()
    assert topology.install(cluster(2))
    assert not topology.install(cluster(2))
    assert not topology.install(cluster(1))
    assert not topology.install(msgspec.structs.replace(cluster(3), cluster=b"d" * 16))
    assert topology.epoch == 2
    assert topology.install(cluster(3))


# A lost member's place (T4).


def newcomer(old: Member) -> Member:
    return msgspec.structs.replace(old, id=b"new" + old.id[-3:], host="10.9.9.9", weight=3.0, rack="elsewhere")


@cache
def formed_of(count: int) -> Document:
    document = found(CLUSTER, member(1))
    for number in range(2, count + 1):
        document = joined(document, member(number))
    return form(document) or document


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_the_new_one_has_the_same_slots_and_seat_and_is_filling(count: int, which: int) -> None:
    document = formed_of(count)
    old = document.members[which]
    new = newcomer(old)
    with pytest.raises(ChangeRefused, match=f"ringwise replace {old.name}") as refusal:
        join(document, new)
    assert refusal.value.again
    lost = lose(document, old.name)
    assert lost is not None and lost.lost == [old.id] and lose(lost, old.name) is None
    assert lost.changed() == document.changed() and lost.owners() == document.owners()
    after = joined(lost, new)

    def renamed(nodes: tuple[bytes, ...] | list[bytes]) -> list[bytes]:
        return [new.id if node == old.id else node for node in nodes]

    assert [list(owners) for owners in after.owners()] == [renamed(owners) for owners in document.owners()]
    assert after.voters == renamed(document.voters)
    changed = zip(after.owners(), after.changed(), lost.changed(), strict=True)
    assert all(now == (after.epoch if new.id in owners else before) for owners, now, before in changed)
    assert (after.filling, after.lost) == ([new.id], [])
    bound = after.member(new.id)
    assert bound is not None and (bound.host, bound.weight, bound.rack) == (new.host, old.weight, old.rack)
    assert Document.decode(after.encode()) == after
    assert join(after, new) is None
    with pytest.raises(ChangeRefused, match="has been replaced"):
        join(after, old)
    done = filled(after, new.id)
    assert done is not None and not done.filling and filled(done, new.id) is None
    assert done.changed() == after.changed()  # nobody has to be fenced: who did not count before may count now

    view = Topology()
    view.install(after)
    for owners, serving in zip(view.owners, view.serving, strict=True):
        assert serving == tuple(owner for owner in owners if owner != new.id)
    assert view.present(old.id) == new.id and view.present(b"nobody") is None
    view.install(done)
    assert view.serving == view.owners and view.serving_sets == view.sets


def test_a_place_can_be_lost_again_and_the_first_one_still_leads_there() -> None:
    document = formed_of(3)
    old = document.members[2]
    ids = [old.id]
    for round_ in range(3):
        document = lose(document, old.name) or document
        ids.append(b"again%d" % round_)
        document = joined(document, msgspec.structs.replace(old, id=ids[-1]))
        assert document.filling == [ids[-1]]
    view = Topology()
    view.install(document)
    assert {view.present(node) for node in ids} == {ids[-1]}


def test_one_is_replaced_at_a_time() -> None:
    document = formed_of(3)
    first, second = document.members[1:]
    both = lose(lose(document, first.name) or document, second.name)
    assert both is not None
    one = joined(both, newcomer(first))
    with pytest.raises(ChangeRefused, match="is being filled"):
        join(one, msgspec.structs.replace(newcomer(second), host="10.8.8.8"))
    with pytest.raises(ChangeRefused, match="no member"):
        lose(document, "n9")


def test_who_has_taken_a_lost_place_is_not_lost_by_a_late_decision() -> None:
    """Whoever was asked knew of the one before: the place is not to be freed of the next one, too."""
    document = formed_of(3)
    old = document.members[2]
    freed = lose(document, old.name, old.id)
    assert freed is not None
    replaced = joined(freed, newcomer(old))
    assert replaced.lost == [] and lose(replaced, old.name, old.id) is None
    assert lose(replaced, old.name, replaced.members[2].id) is not None


def test_the_only_copy_cannot_be_filled_from_anywhere() -> None:
    document = found(CLUSTER, member(1), [BucketRules(n=1)])
    document = form(joined(document, member(2))) or document
    document = lose(document, "n2") or document
    assert joined(document, newcomer(member(2))).filling == []


def test_documents_without_replacements_are_what_older_versions_read() -> None:
    document = formed_of(3)
    assert document.format == 1
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(document.encode())[:8])
    assert Document.decode(old) == document
    lost = lose(document, "n3")
    assert lost is not None and lost.format == FORMAT_REPLACED == 2  # an older version would count who is filling
