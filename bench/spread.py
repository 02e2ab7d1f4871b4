"""How evenly slots spread, and how much moves when a node joins or leaves (T1): prints the table of docs/placement.md.

    .venv/bin/python bench/spread.py

`worst load` is the most-loaded node against its fair share, the best that weights and racks allow; `first owners` the same
for the first owner of each slot, which cluster-aware clients talk to. `moved` is the number of copies that change hands
when one node joins or leaves, against the least that must (what the fair shares gain; what the leaving node held).
"""

import time
from collections import Counter
from collections.abc import Iterator

from ringwise.core.placement import Owners, apart, fair_shares, plan
from ringwise.core.ring import SLOTS
from ringwise.core.topology import Member

REPLICAS = 3


def cluster(count: int, *, racks: int, weighted: bool) -> list[Member]:
    def member(number: int) -> Member:
        return Member(
            name=f"n{number}",
            id=number.to_bytes(6, "big"),
            host=f"host-{number}",
            peer_port=9379,
            port=7379,
            http_port=8379,
            weight=(1.0, 1.0, 2.0, 0.5)[number % 4] if weighted else 1.0,
            rack=f"rack-{number % racks}" if racks else "",
        )

    return [member(number) for number in range(1, count + 1)]


def loads(owners: Owners, first: int) -> Counter[bytes]:
    return Counter(node for nodes in owners for node in nodes[:first])


def worst(members: list[Member], owners: Owners, first: int) -> tuple[float, float]:
    """The most-loaded node against its share: as a factor, and in slots."""
    load = loads(owners, first)
    shares = fair_shares(members, min(REPLICAS, len(members)))
    part = first / min(REPLICAS, len(members))
    pairs = [(load[member.id], share * part) for member, share in zip(members, shares, strict=True)]
    return max(held / share for held, share in pairs), max(held - share for held, share in pairs)


def moved(before: Owners, after: Owners) -> int:
    return sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))


def ideal(before: list[Member], old: Owners, after: list[Member]) -> float:
    """The least that must move: what members lack of their fair shares, and what has to be copied for one that left."""
    held = loads(old, REPLICAS)
    shares = fair_shares(after, min(REPLICAS, len(after)))
    gained = sum(max(0, int(share + 1e-6) - held[member.id]) for member, share in zip(after, shares, strict=True))
    left = sum(held[member.id] for member in before if member not in after)
    fewer_copies = min(REPLICAS, len(before)) - min(REPLICAS, len(after))
    return max(gained, left - fewer_copies * SLOTS)


def rows() -> Iterator[list[str]]:
    for count in (3, 5, 10, 100, 1000):
        for racks, weighted in ((0, False), (3, False), (5, False), (0, True), (5, True)):
            if racks > count:
                continue
            members = cluster(count + 1, racks=racks, weighted=weighted)
            before, joiner = members[:-1], members[-1]
            started = time.perf_counter()
            table = plan(before, REPLICAS, None)
            seconds = time.perf_counter() - started
            factor, slots = worst(before, table, REPLICAS)
            first_factor, _ = worst(before, table, 1)
            cells = [
                f"{count:,}",
                str(racks or "none"),
                "0.5 to 2" if weighted else "equal",
                "/".join(map(str, apart(before, REPLICAS))),
                f"{factor:.3f} ({slots:+.1f})",
                f"{first_factor:.3f}",
            ]
            for after in ([*before, joiner], before[:-1]):
                least = ideal(before, table, after)
                next_table = plan(after, REPLICAS, table)
                changed = moved(table, next_table)
                share = f"{changed / (SLOTS * REPLICAS):.1%}"
                cells.append(f"{share}, {changed / least:.3f}" if least else f"{share}, none needed")
                cells.append(f"{worst(after, next_table, len(next_table[0]))[0]:.3f}")
            yield [*cells, f"{seconds:.2f}"]


def main() -> None:
    head = [
        "nodes",
        "racks",
        "weights",
        "copies a rack/host",
        "worst load (slots)",
        "first owners",
        "moved on join",
        "worst after",
        "moved on leave",
        "worst after",
        "seconds to plan",
    ]
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows():
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
