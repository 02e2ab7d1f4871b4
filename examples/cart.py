"""A shopping cart that loses nothing: two devices change it at the same time, and both changes stand.

This is what Amazon built Dynamo for. The cart is one value, in JSON. Each writer passes on the context of what it has
read; two who had not seen each other leave two versions side by side, *siblings*, and the next reader merges them.

    .venv/bin/python examples/cart.py
"""

import json
import sys

from ringwise import Client
from ringwise.client import Reply, Sibling

NODES = sys.argv[1:] or ["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]
KEY = "example:cart:42"
Cart = dict[str, int]  # what, and how many


def merged(siblings: tuple[Sibling, ...]) -> bytes:
    """The most that anybody has of each thing. What one side removed may come back: better than a thing that is gone."""
    cart: Cart = {}
    for sibling in siblings:
        for thing, count in json.loads(sibling.value).items():
            cart[thing] = max(count, cart.get(thing, 0))
    return json.dumps(cart, sort_keys=True).encode()


class Device:
    """A phone or a laptop: it shows the cart, and writes what was changed in what it shows."""

    def __init__(self, kv: Client) -> None:
        self._kv = kv
        self._cart: Cart = {}
        self._context: bytes | None = None

    def look(self) -> Cart:
        reply: Reply | None = self._kv.get(KEY, resolve=merged)  # siblings are merged, and the merger is written
        if reply is not None:
            self._cart, self._context = json.loads(reply.value), reply.context
        return self._cart

    def add(self, thing: str, count: int = 1) -> None:
        self._cart[thing] = self._cart.get(thing, 0) + count
        written = self._kv.put(KEY, json.dumps(self._cart), context=self._context, content_type="application/json")
        self._context = written.context or self._context  # None: somebody else has written too; the next look shows it


def main() -> None:
    with Client(NODES) as kv, Client(NODES[::-1]) as other:  # each talks to another node
        kv.delete(KEY)
        phone, laptop = Device(kv), Device(other)
        phone.add("apples", 3)
        print("the laptop sees", laptop.look())

        print("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't. Then press Enter.", flush=True)
        sys.stdin.readline()

        phone.add("pears")  # neither has seen what
        laptop.add("a melon")  # the other one did
        reply = kv.get(KEY)
        assert reply is not None
        print("siblings:", *(sibling.value.decode() for sibling in reply.siblings), sep="\n  ")
        print("\nthe phone sees", phone.look())
        print("the laptop sees", laptop.look())
        assert phone.look() == {"apples": 3, "pears": 1, "a melon": 1}


if __name__ == "__main__":
    main()
