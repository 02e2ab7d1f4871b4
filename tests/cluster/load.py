"""A client process under load: writes through one node until it is told to stop, and notes what was acknowledged.

    python load.py PORT PREFIX FILE      stops at the end of stdin; one JSON line into FILE:
    {"acknowledged": {key: value}, "unknown": {key: [values]}, "errors": [text]}

It writes new keys, and overwrites a few again and again; a value that failed is noted as one that may be there.
"""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOT_KEYS = 20


def main(port: int, prefix: str, path: Path) -> None:
    acknowledged: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    errors: list[str] = []
    number = 0
    client = redis.Redis(port=port, socket_timeout=30, retry=Retry(NoBackoff(), 0))
    while not select.select([sys.stdin], [], [], 0)[0]:
        number += 1
        key = f"{prefix}:hot{number % HOT_KEYS}" if number % 2 else f"{prefix}:{number}"
        value = f"{prefix}-{number}"
        try:
            client.set(key, value)
        except redis.RedisError as error:
            errors.append(f"{type(error).__name__}: {error}")
            unknown.setdefault(key, []).append(value)
            if isinstance(error, redis.ConnectionError) and len(errors) > 1:
                break
        else:
            acknowledged[key] = value
            unknown.pop(key, None)
    client.close()
    path.write_text(json.dumps({"acknowledged": acknowledged, "unknown": unknown, "errors": errors}))


main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
