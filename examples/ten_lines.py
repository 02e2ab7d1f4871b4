"""Ten lines of Python, against the cluster that `make up` starts."""

from ringwise import Client

with Client(["127.0.0.1:7379", "127.0.0.1:7380"]) as kv:
    kv.put("cart:42", "apples", ttl=3600)
    reply = kv.get("cart:42")
    assert reply is not None
    print(reply.text, reply.version, reply.ttl)
    kv.put("cart:42", reply.text + ", pears", context=reply.context)
    print([key.decode() for key in kv.scan(prefix="cart:")])
    kv.delete("cart:42")
    print(kv.get("cart:42"))
