"""Collections as `RW.GET` and HTTP tell them: one version with a media type of its own and a value in JSON.

Text is told as text, other bytes as {"base64": …}. No name in a JSON object can be told like that, so a hash with a field that is
no text is a list of pairs. JSON has no infinity either: such a score is the text "inf" or "-inf".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf

import msgspec
from msgspec import structs

from ringwise.core import hyperloglog, maps, sets
from ringwise.core.record import Sibling

SET_TYPE = "application/vnd.ringwise.set+json"
HASH_TYPE = "application/vnd.ringwise.hash+json"
SORTED_TYPE = "application/vnd.ringwise.sorted-set+json"
ESTIMATE_TYPE = "application/vnd.ringwise.hyperloglog"
COLLECTION_TYPES = (SET_TYPE, HASH_TYPE, SORTED_TYPE)


def as_told(whole: Sibling, siblings: Sequence[Sibling], wall_ms: int) -> Sibling:
    """A collection (of `as_version`), with what is in it."""
    if whole.content_type == hyperloglog.ESTIMATE:
        return structs.replace(whole, content_type=ESTIMATE_TYPE)
    content_type, value = _TOLD[whole.content_type](siblings, wall_ms)
    return structs.replace(whole, content_type=content_type, value=value)


def _set(siblings: Sequence[Sibling], wall_ms: int) -> tuple[str, bytes]:
    return SET_TYPE, msgspec.json.encode([_text(each) for each in sorted(sets.members_of(siblings, wall_ms))])


def _hash(siblings: Sequence[Sibling], wall_ms: int) -> tuple[str, bytes]:
    pairs = [(_text(field), _text(value)) for field, value in sorted(maps.values_of(siblings, wall_ms).items())]
    as_object = all(isinstance(field, str) for field, _ in pairs)
    return HASH_TYPE, msgspec.json.encode(dict(pairs) if as_object else pairs)


def _sorted_set(siblings: Sequence[Sibling], wall_ms: int) -> tuple[str, bytes]:
    ranked = sorted((score, member) for member, score in maps.scores_of(siblings, wall_ms).items())
    return SORTED_TYPE, msgspec.json.encode(
        [(_text(member), str(score) if isinf(score) else score) for score, member in ranked]
    )


_TOLD = {sets.MEMBER: _set, maps.HASH.entry: _hash, maps.SORTED.entry: _sorted_set}


def _text(value: bytes) -> str | dict[str, bytes]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": value}
