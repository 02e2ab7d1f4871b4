"""A configuration store: many read it, few change it, and nobody's change is lost without a word.

One key for each setting's group, in JSON. A change is read, change, write *with the context of the read*: it replaces
just what its author has seen. Where two people change the same group at once, both versions stay until somebody
merges them: here, changes of different settings are joined, and of the same setting the newer one wins and the author
is told.

Services poll and compare `version`, which is another one whenever the value is.

    .venv/bin/python examples/configuration.py
"""

import json
import sys
from collections.abc import Callable

from ringwise import Client
from ringwise.client import QuorumNotReached, Sibling

NODES = sys.argv[1:] or ["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]
Settings = dict[str, object]


def merged(siblings: tuple[Sibling, ...]) -> bytes:
    """Newest first, so the newer one wins."""
    settings: Settings = {}
    for sibling in siblings:
        for name, value in json.loads(sibling.value).items():
            if settings.setdefault(name, value) != value:
                print(f"  {name} was set twice: {settings[name]!r} stays, {value!r} goes")
    return json.dumps(settings, sort_keys=True).encode()


class Group:
    """The settings of one service."""

    def __init__(self, kv: Client, name: str) -> None:
        self._kv = kv
        self._key = f"example:config:{name}"

    def read(self) -> tuple[Settings, bytes | None, str]:
        """At `strong`: never older than what anybody was shown before."""
        reply = self._kv.get(self._key, resolve=merged, level="strong")
        return ({}, None, "") if reply is None else (json.loads(reply.value), reply.context, reply.version)

    def change(self, edit: Callable[[Settings], None]) -> None:
        settings, context, _ = self.read()
        edit(settings)
        written = self._kv.put(
            self._key, json.dumps(settings), context=context, content_type="application/json", level="strong"
        )
        if written.siblings > 1:
            print("  somebody else has changed this group at the same time: merging")
            self.read()


def main() -> None:
    with Client(NODES) as kv, Client(NODES[::-1]) as other:
        kv.delete("example:config:shop")
        shop, same_shop = Group(kv, "shop"), Group(other, "shop")
        shop.change(lambda settings: settings.update(currency="EUR", banner="Welcome"))
        print("at first:", shop.read()[0])

        def slowly(settings: Settings) -> None:
            same_shop.change(lambda meanwhile: meanwhile.update(banner="Sale!", free_shipping=50))
            settings.update(banner="Closed on Monday", opening="09:00")

        shop.change(slowly)
        settings, _, version = shop.read()
        print("in the end:", settings)
        assert settings["opening"] == "09:00" and settings["free_shipping"] == 50

        print("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't. Then press Enter.", flush=True)
        sys.stdin.readline()
        assert same_shop.read() == (settings, same_shop.read()[1], version), "nothing has changed"
        try:
            shop.change(lambda settings: settings.update(banner="Open again"))
            print("changed with two nodes of three:", same_shop.read()[0]["banner"], same_shop.read()[2] != version)
        except QuorumNotReached as error:  # two of three are down
            print("not changed, certainly:", error)


if __name__ == "__main__":
    main()
