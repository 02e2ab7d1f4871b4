"""Django's own Redis cache back end, unmodified, on Ringwise.

What works: get, set, get_many, set_many, touch, delete, delete_many, has_key, incr, decr, clear (which empties the
whole database).

What does not: `cache.add`, and so `get_or_set`, and the session engine `django.contrib.sessions.backends.cache`,
which makes new sessions with `add`. It is SET with NX: of two callers at once exactly one has to be told "yes", which
needs linearizable keys; these come later. They are refused with that reason and change nothing. For sessions take the
engine `signed_cookies` or `db`.

    .venv/bin/pip install Django
    .venv/bin/python examples/django_cache.py
"""

import django
from any_node import NODES, AnyNode, pause
from django.conf import settings
from django.core.cache import cache
from redis import ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://{NODES[0]}",
            "KEY_PREFIX": "example",
            # These three lines let it go on when the node it talks to dies; without them it works on that one node.
            "OPTIONS": {"connection_class": AnyNode, "nodes": NODES, "retry": Retry(NoBackoff(), 3)},
        }
    }
)
django.setup()


def main() -> None:
    cache.set("greeting", {"text": "hello", "to": ["ada", "eve"]}, timeout=60)
    cache.set_many({"a": 1, "b": 2}, timeout=60)
    print("get:", cache.get("greeting"), cache.get_many(["a", "b", "none"]))
    print("incr:", cache.incr("a"), "has_key:", cache.has_key("a"), "touch:", cache.touch("a", 120))

    pause("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't")
    print("get:", cache.get("greeting"), "incr:", cache.incr("a"), "decr:", cache.decr("b"))
    cache.delete("greeting")
    print("after delete:", cache.get("greeting", "nothing"), cache.get("b"))

    for name, attempt in (("add", cache.add), ("get_or_set", cache.get_or_set)):
        try:
            attempt("new", 1)
        except ResponseError as error:
            print(f"{name} does not work: {error}")
        else:
            raise AssertionError(f"{name} was expected to be refused")
    assert cache.get("new") is None


if __name__ == "__main__":
    main()
