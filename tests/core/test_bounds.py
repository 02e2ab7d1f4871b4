"""B3 for answers and forwards: no frame grows with what a turn happens to bring."""

from __future__ import annotations

from tests.core.cluster import Cluster, Heard

from ringwise.core.config import NodeConfig
from ringwise.core.levels import QUORUM, Level
from ringwise.core.ring import slot_of

W3 = Level.parse(b"w=3")
FRAME = 10_000
COUNT = 50


def row(key: bytes) -> bytes:
    return b"\0\0\0\0\0\1" + len(key).to_bytes(2, "big") + key


def test_b3_what_was_loaded_in_one_turn_leaves_in_frames_of_a_bounded_size() -> None:
    cluster, heard = Cluster(config=NodeConfig(frame_bytes_max=FRAME)), Heard()
    a, b, c = cluster.nodes
    keys = [b"k%d" % i for i in range(COUNT)]
    for i, key in enumerate(keys):
        a.put(key, b"x" * 1000, W3, heard, i)
    cluster.run()
    for key in keys:
        del cluster.stores[2].records[row(key)]  # it differs, so all is sent
    cluster.stores[0].cold.update(map(row, keys))
    cluster.stores[1].cold.update(map(row, keys))
    for i, key in enumerate(keys):
        c.get(key, QUORUM, heard, COUNT + i)
    cluster.step(c)
    cluster.deliver()
    sizes = []
    for node in (a, b):
        cluster.step(node)
        cluster.stores[cluster.nodes.index(node)].loaded()
        cluster.step(node)
        sizes += [len(frame) for frame in cluster.back[c.id, node.id].wire]
    assert sizes and max(sizes) < FRAME + 2000
    cluster.run()
    assert all(heard.outcomes[COUNT + i][0] == "found" for i in range(COUNT))


def test_b3_forwards_and_their_outcomes_are_capped() -> None:
    cluster, heard = Cluster(5, config=NodeConfig(frame_bytes_max=FRAME)), Heard()
    outsider = cluster.nodes[0]
    keys = [
        key for key in (b"k%d" % i for i in range(400)) if outsider.id not in outsider.topology.owners[slot_of(key)]
    ]
    for i, key in enumerate(keys):
        outsider.put(key, b"x" * 1000, QUORUM, heard, i)
    cluster.step(outsider)
    sizes = [len(frame) for link in cluster.links.values() for frame in link.wire]
    while cluster.deliver():
        for node in cluster.nodes:
            cluster.step(node)
        sizes += [len(frame) for link in cluster.back.values() for frame in link.wire]
    assert len(keys) > 50 and all(heard.outcomes[i][0] == "stored" for i in range(len(keys)))
    assert max(sizes) < FRAME + 2000
