"""A node for clients: it takes every write and knows no members."""

from __future__ import annotations

import socket
import threading
from typing import Self

from ringwise.wire.replies import encode
from ringwise.wire.resp import RequestParser

WRITTEN = encode({"version": "ab:1", "siblings": 1, "context": "c"}, 2)


class FakeNode:
    """Listens while the `with` lasts; `requests` are those it has answered."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        parser = RequestParser()
        with connection:
            while data := connection.recv(65536):
                for request in parser.feed(data):
                    self.requests.append(request)
                    connection.sendall(b"*0\r\n" if request[0] == b"RW.MEMBERS" else WRITTEN)
