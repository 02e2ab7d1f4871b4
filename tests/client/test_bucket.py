"""A client of one bucket: each connection selects it first, and where there is none, nothing else is sent."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.client.fake import FakeNode

from ringwise.client import AsyncClient, Client, NoSuchBucket
from ringwise.wire.resp import RequestParser

REFUSED = b"-NOBUCKET there is no bucket none\r\n"


class Without(FakeNode):
    """A node that has no bucket but its own."""

    def _serve(self, connection: socket.socket) -> None:
        parser = RequestParser()
        with connection:
            while data := connection.recv(65536):
                for request in parser.feed(data):
                    self.requests.append(request)
                    connection.sendall(b"*0\r\n" if request[0] == b"RW.MEMBERS" else REFUSED)


def about_keys(node: FakeNode) -> list[list[bytes]]:
    return [request[:2] for request in node.requests if request[0] != b"RW.MEMBERS"]


def test_a_connection_selects_its_bucket_once() -> None:
    with FakeNode() as node, Client(node.address) as home, home.bucket("sessions") as kv:
        kv.put("a", "1")
        kv.put("b", "1")
        home.put("c", "1")
        assert about_keys(node) == [[b"SELECT", b"sessions"], [b"RW.PUT", b"a"], [b"RW.PUT", b"b"], [b"RW.PUT", b"c"]]


def test_bucket_0_is_what_there_is_without_a_word() -> None:
    with FakeNode() as node, Client(node.address, bucket=0) as kv:
        kv.put("a", "1")
        assert about_keys(node) == [[b"RW.PUT", b"a"]]


def test_no_write_reaches_another_bucket() -> None:
    with Without() as node, Client(node.address, bucket="none") as kv:
        with pytest.raises(NoSuchBucket, match="there is no bucket none"):
            kv.put("a", "1")
        assert about_keys(node) == [[b"SELECT", b"none"]]


def test_the_same_on_asyncio() -> None:
    async def run() -> None:
        with FakeNode() as node, Without() as without:
            async with AsyncClient(node.address) as home, home.bucket(3) as kv:
                await kv.put("a", "1")
                await kv.put("b", "1")
            assert about_keys(node) == [[b"SELECT", b"3"], [b"RW.PUT", b"a"], [b"RW.PUT", b"b"]]
            async with AsyncClient(without.address, bucket="none") as kv:
                with pytest.raises(NoSuchBucket):
                    await kv.put("a", "1")
            assert about_keys(without) == [[b"SELECT", b"none"]]

    asyncio.run(run())


def test_what_is_no_bucket() -> None:
    with pytest.raises(TypeError):
        Client(bucket=True)
