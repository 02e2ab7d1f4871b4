"""The page at GET /: the OpenAPI document, readable, with a curl line and a try-it form for each operation.

One file without anything from elsewhere; the content security policy allows its own script and style, by hash, and no others.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

PAGE = files(__package__).joinpath("page.html").read_bytes()


def _hash(tag: bytes) -> str:
    found = re.search(b"<%b>(.*?)</%b>" % (tag, tag), PAGE, re.DOTALL)
    assert found is not None
    return f"'sha256-{b64encode(sha256(found[1]).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    f"frame-ancestors 'none'; script-src {_hash(b'script')}; style-src {_hash(b'style')}",
    "X-Content-Type-Options": "nosniff",
}
