"""A page cache that no dead node empties, and that never takes the site down with it.

Pages are kept for a minute, on three nodes; a page is read at level `one`, from the nearest copy, since a page that
is a second old does no harm. Where no node answers, the page is rendered: slower, and there.

    .venv/bin/python examples/page_cache.py
"""

import sys
import time
from collections.abc import Callable
from functools import wraps

from ringwise import Client
from ringwise.client import RingwiseError

NODES = sys.argv[1:] or ["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]
Page = Callable[[str], str]


def cached(kv: Client, seconds: float) -> Callable[[Page], Page]:
    """Keeps what a function of a path returns."""

    def around(render: Page) -> Page:
        @wraps(render)
        def page(path: str) -> str:
            key = f"example:page:{path}"
            try:
                reply = kv.get(key, level="one", timeout=0.5)
                if reply is not None:
                    return reply.text
            except RingwiseError as error:
                print(f"  (not from the cache: {error})")
            text = render(path)
            try:
                kv.put(key, text, ttl=seconds, content_type="text/html", level="one", timeout=0.5)
            except RingwiseError as error:
                print(f"  (not into the cache: {error})")
            return text

        return page

    return around


def main() -> None:
    with Client(NODES) as kv:
        for key in list(kv.scan(prefix="example:page:")):
            kv.delete(key)

        @cached(kv, seconds=60)
        def page(path: str) -> str:
            time.sleep(0.2)  # a database, templates
            return f"<h1>{path}</h1>"

        def show(path: str) -> None:
            began = time.perf_counter()
            text = page(path)
            slow = "rendered" if time.perf_counter() - began >= 0.2 else "from the cache"
            print(f"{path}: {text}  {slow}")

        show("/")
        show("/")
        show("/about")
        print("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't. Then press Enter.", flush=True)
        sys.stdin.readline()
        show("/")
        show("/about")
        show("/new")
        show("/new")


if __name__ == "__main__":
    main()
