"""A connection in one line, as CLIENT LIST shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringwise.server.call import shown

if TYPE_CHECKING:
    from ringwise.server.session import Session


def client_line(session: Session) -> str:
    now_ms = session.now.wall_ms
    fields: dict[str, object] = {
        "id": session.id,
        "addr": session.address,
        "laddr": "",
        "fd": -1,
        "name": session.client_name.decode("ascii", "replace"),
        "age": max(0, now_ms - session.since_ms) // 1000,
        "idle": max(0, now_ms - session.seen_ms) // 1000,
        "flags": "N",
        "db": session.node.space.number,
        "sub": 0,
        "psub": 0,
        "multi": -1 if session.queue is None else len(session.queue.commands),
        "cmd": shown(session.last_command.lower()) or "NULL",
        "user": "default",
        "resp": session.protocol,
        "lib-name": session.library.get("lib-name", ""),
        "lib-ver": session.library.get("lib-ver", ""),
        "level": session.level.name,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items())
