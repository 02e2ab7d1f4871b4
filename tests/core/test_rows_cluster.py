"""Large collections between nodes (V3, V4): what is logged and sent of a change is the change, whoever takes it or reads."""

from __future__ import annotations

import pytest
from tests.core.cluster import Cluster, Heard
from tests.core.test_hints import isolate, rejoin, settle
from tests.core.test_standins import parts

from ringwise.core import messages, rows, versions
from ringwise.core.errors import QuorumNotReached
from ringwise.core.keys import Bucket
from ringwise.core.levels import QUORUM, STRONG, Level
from ringwise.core.node import Node
from ringwise.core.record import whole

ROW = Bucket(0, 1).row_key(b"k")
LIMIT = 1 << 25
COUNT = 3000
SMALL = 4000  # bytes, where the collection has some two hundred thousand


class Scene(Cluster):
    """Counts the bytes on its wires, and those in its logs."""

    def __init__(self, count: int = 5) -> None:
        super().__init__(count)
        self.heard = Heard()
        self.sent = 0
        self.numbers = 0

    def deliver(self) -> bool:
        self.sent += sum(len(frame) for link in (*self.links.values(), *self.back.values()) for frame in link.wire)
        return super().deliver()

    @property
    def logged(self) -> int:
        return sum(len(chunk) for store in self.stores for chunk in store.log)

    def update(self, node: Node, operation: str, *arguments: bytes | int) -> int:
        self.numbers += 1
        node.update(b"k", operation, arguments, QUORUM, self.heard, self.numbers)
        return self.numbers

    def members(self, node: Node, level: Level = QUORUM) -> set[bytes]:
        self.numbers += 1
        node.get(b"k", level, self.heard, self.numbers)
        self.run()
        how, record = self.heard.outcomes[self.numbers]
        assert how == "found" and isinstance(record, bytes), record
        return set(versions.members(record, self.wall_ms) or ())

    def cost(self) -> tuple[int, int]:
        """(Bytes sent, bytes logged) since it was asked last."""
        sent, logged, self.sent = self.sent, self.logged, 0
        for store in self.stores:
            store.log.clear()
        return sent, logged


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    owner = parts(scene)[0][0]
    scene.update(owner, "set_add", LIMIT, *[b"member-%d" % each for each in range(COUNT)])
    scene.run()
    settle(scene)
    scene.update(owner, "set_add", LIMIT, b"first")
    scene.run()
    assert all(len(scene.members(node)) == COUNT + 1 for node in scene.nodes)
    scene.cost()
    return scene


def test_a_change_is_sent_and_logged_as_such(scene: Scene) -> None:
    for owner in parts(scene)[0]:
        scene.update(owner, "set_add", LIMIT, b"from " + owner.id)
        scene.run()
        sent, logged = scene.cost()
        assert sent < SMALL and logged < SMALL
    assert len({whole(scene.stores[scene.nodes.index(owner)].records[ROW]) for owner in parts(scene)[0]}) == 1


def test_changes_at_once_on_all_owners_are_all_there(scene: Scene) -> None:
    owners = parts(scene)[0]
    for number in range(20):
        for owner in owners:
            scene.update(owner, "set_add", LIMIT, b"%d of " % number + owner.id)
        if number % 5 == 4:
            scene.run()
    sent, logged = scene.cost()
    assert sent < 30 * SMALL and logged < 20 * SMALL, "reads meanwhile differ, by what is on its way"
    assert len(scene.members(owners[0], Level.parse(b"all"))) == COUNT + 1 + 60


def test_who_owns_no_copy_is_sent_what_is_new(scene: Scene) -> None:
    other = parts(scene)[1][0]
    for number in range(3):
        at = scene.update(other, "set_add", LIMIT, b"through another %d" % number)
        scene.run()
        assert scene.heard.outcomes[at][0] == "updated"
        assert len(scene.members(other)) == COUNT + 2 + number
        sent, _ = scene.cost()
        assert sent < 2 * SMALL


def test_what_was_kept_of_it_counts_for_nothing_by_itself(scene: Scene) -> None:
    """It is deleted, so the owners have nothing of what this node has read before."""
    owner, other = parts(scene)[0][0], parts(scene)[1][0]
    scene.update(owner, "delete")
    scene.run()
    assert scene.members(other) == set()
    scene.update(owner, "set_add", LIMIT, b"anew")
    scene.run()
    assert scene.members(other) == {b"anew"}


def test_a_record_that_was_reaped_is_not_brought_back_by_who_had_read_it(scene: Scene) -> None:
    other = parts(scene)[1][0]
    for owner in parts(scene)[0]:
        scene.stores[scene.nodes.index(owner)].records.pop(ROW)
    assert scene.members(other) == set()


def test_strong_reads_repair_what_differs_before_they_answer(scene: Scene) -> None:
    a, b, c = parts(scene)[0]
    scene.cut(a, b)
    scene.cut(a, c)
    before = scene.stores[scene.nodes.index(b)].records[ROW]
    scene.nodes[scene.nodes.index(b)].update(b"k", "set_add", (LIMIT, b"x"), QUORUM, scene.heard, 10_000)
    scene.run()
    scene.stores[scene.nodes.index(c)].records[ROW] = before  # as if it had missed it
    assert b"x" in scene.members(b, STRONG)
    assert b"x" in (versions.members(scene.stores[scene.nodes.index(c)].records[ROW], scene.wall_ms) or ())


def test_a_part_at_a_stand_in_is_no_copy(scene: Scene) -> None:
    """V3, R2: it holds what was written while it stood in, and must not count as one who knows the rest."""
    (a, b, c), (d, _) = parts(scene)
    isolate(scene, c)
    at = scene.update(a, "set_add", LIMIT, b"meanwhile")
    scene.run()
    assert scene.heard.outcomes[at][0] == "updated"
    assert versions.is_part(scene.stores[scene.nodes.index(d)].records[ROW])
    isolate(scene, b)
    a.get(b"k", QUORUM, scene.heard, 20_000)
    for _ in range(30):
        scene.pass_time(100)
    assert isinstance(scene.heard.outcomes[20_000][1], QuorumNotReached), (
        "one owner, and no stand-in that knows the key"
    )


def test_what_a_write_sends_once_more_is_not_stored(scene: Scene) -> None:
    """It found x there, by a read that brought n: the frame has both, and the store the state alone."""
    a, _, c = parts(scene)[0]
    number = scene.nodes.index(a)
    scene.update(a, "set_add", LIMIT, b"x")
    scene.run()
    before = scene.stores[number].records[ROW]
    scene.update(a, "set_add", LIMIT, b"n")
    scene.run()
    scene.stores[number].records[ROW] = before  # as if it had missed n
    scene.cut(a, c)
    scene.update(a, "set_add", LIMIT, b"x")
    scene.run()
    held = scene.stores[number].records[ROW]
    assert isinstance(held, rows.Rows) and b"n" in held.rows
    assert not held.again


def test_strong_repairs_whole_after_a_write_that_found_all_there(scene: Scene) -> None:
    """What that write sent once more belongs to its frame, and must not stand for the state in a later one."""
    a, b, c = parts(scene)[0]
    scene.update(a, "set_add", LIMIT, b"x")
    scene.run()
    before = scene.stores[scene.nodes.index(c)].records[ROW]
    scene.update(a, "set_add", LIMIT, b"n")
    scene.run()
    scene.update(a, "set_add", LIMIT, b"x")
    scene.run()
    scene.stores[scene.nodes.index(c)].records[ROW] = before  # as if it had missed n
    scene.cut(a, b)
    assert b"n" in scene.members(a, STRONG)
    assert b"n" in (versions.members(scene.stores[scene.nodes.index(c)].records[ROW], scene.wall_ms) or ())


def test_a_delta_that_comes_to_who_holds_nothing_is_kept_as_a_part(scene: Scene) -> None:
    a, b, _ = parts(scene)[0]
    number = scene.nodes.index(b)
    held = scene.stores[number].records.pop(ROW)
    scene.update(a, "set_add", LIMIT, b"later")
    scene.run()
    part = scene.stores[number].records[ROW]
    assert versions.is_part(part)
    assert not versions.is_part(versions.merge(part, held))
    assert b"later" in scene.members(b)


def test_an_owner_that_missed_something_catches_up_while_writes_go_on(scene: Scene) -> None:
    """V3: else all that comes later lies beyond the gap, and each write costs more than the last."""
    a, _, c = parts(scene)[0]
    before = scene.stores[scene.nodes.index(c)].records[ROW]
    scene.update(a, "set_add", LIMIT, b"missed")
    scene.run()
    scene.stores[scene.nodes.index(c)].records[ROW] = before
    widest = 0
    for number in range(300):
        scene.update(a, "set_add", LIMIT, b"x%d" % number)
        scene.pass_time(10)
        held = scene.stores[scene.nodes.index(c)].records[ROW]
        assert isinstance(held, rows.Rows)
        widest = max(widest, len(held.cloud))
    assert isinstance(held, rows.Rows) and not held.cloud
    assert widest < 80
    assert b"missed" in (versions.members(held, scene.wall_ms) or ())


def test_hints_bring_large_collections_whole(scene: Scene) -> None:
    a, b, _ = parts(scene)[0]
    isolate(scene, b)
    for number in range(3):
        scene.update(a, "set_add", LIMIT, b"while it is away %d" % number)
        scene.run()
    rejoin(scene, b)
    settle(scene)
    held = scene.stores[scene.nodes.index(b)].records[ROW]
    assert whole(held) == whole(scene.stores[scene.nodes.index(a)].records[ROW])


def test_no_frame_carries_a_head_alone(scene: Scene) -> None:
    """A record that is held as rows has nine bytes as bytes: nobody must take these for all of it."""
    held = scene.stores[scene.nodes.index(parts(scene)[0][0])].records[ROW]
    assert isinstance(held, rows.Rows) and len(held) == 9
    message = messages.Found(1, [], [(0, held)], [])
    assert whole(held) in messages.encode(message)
    assert whole(held) in messages.encode_chunk([1], [ROW], [b""], [held])
