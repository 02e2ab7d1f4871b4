"""The identity of a data directory, and the proof that nothing in it was lost (V2, T3).

A node *is* its directory: six random bytes drawn when the directory was empty. The dots it issues also carry an
*incarnation*, four random bytes which are drawn anew at each start that is not *proven complete*, so that a write which
a lost tail has forgotten can never be named again by another write.

A start is proven complete when the mark of a clean stop is there and says where the commit log ended, the log ends there,
and the file with the mark is the very one that the stop wrote, which its inode and time of change tell. The mark is
removed, durably, before the first write of the run: a crash, a failed sync, a directory brought back from a copy, whether
it was taken while running or after a clean stop, find none. (A snapshot of a whole file system is no copy in this sense:
who goes back to one removes the file `original`.) Key epochs are counted on after a clean stop and from 1 under a new
incarnation; so no durable lease of them is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ringwise.storage.disk import Disk
from ringwise.storage.errors import ForeignDirectory, FormatTooNew, FormatTooOld

FORMAT = 2  # 1 had collections in the general form of records
NODE_BYTES = 6
INCARNATION_BYTES = 4

_FILE = "identity"
_ORIGINAL = "original"  # the fingerprint of the identity file that a clean stop wrote


class _Content(msgspec.Struct):
    """The file, JSON so that an operator can read it."""

    format: int
    node: str
    name: str
    cluster: str = ""
    incarnation: str = ""
    next_epoch: int = 1
    clean: int | None = None  # the commit log's end at a clean stop


class _Format(msgspec.Struct):
    format: int


class Identity:
    """Who this directory is. `begin` comes before the first write of a run, `stopped` after its last sync."""

    def __init__(self, disk: Disk, content: _Content) -> None:
        self._disk = disk
        self._content = content

    @property
    def node(self) -> bytes:
        return bytes.fromhex(self._content.node)

    @property
    def name(self) -> str:
        return self._content.name

    @property
    def cluster(self) -> bytes:
        """Empty until the node has founded or joined one."""
        return bytes.fromhex(self._content.cluster)

    @property
    def incarnation(self) -> bytes:
        return bytes.fromhex(self._content.incarnation)

    @property
    def next_epoch(self) -> int:
        return self._content.next_epoch

    def begin(self, log_end: int, rng_bytes: Callable[[int], bytes]) -> bool:
        """Start a run on a log that ends there. True: proven complete, the incarnation goes on."""
        content = self._content
        complete = content.clean == log_end and self._is_original()
        if not complete:
            content.incarnation = rng_bytes(INCARNATION_BYTES).hex()
            content.next_epoch = 1
        content.clean = None
        self._save()
        return complete

    def joined(self, cluster: bytes) -> None:
        """Bind the directory to a cluster, once."""
        assert self.cluster in (b"", cluster)
        self._content.cluster = cluster.hex()
        self._save()

    def stopped(self, log_end: int, next_epoch: int) -> None:
        """Mark a clean stop: all of the log up to its end is durable, and nothing follows."""
        self._content.clean = log_end
        self._content.next_epoch = next_epoch
        self._save()
        self._disk.replace(_ORIGINAL, self._disk.fingerprint(_FILE))

    def _is_original(self) -> bool:
        """Whether this is the file that the clean stop wrote. A directory brought back from a copy has forgotten the dots
        of the runs since, though its log is whole."""
        return _ORIGINAL in self._disk.names() and self._disk.read(_ORIGINAL) == self._disk.fingerprint(_FILE)

    def _save(self) -> None:
        _save(self._disk, self._content)


def open_identity(disk: Disk, name: str, rng_bytes: Callable[[int], bytes]) -> Identity:
    """The identity of the directory; an empty directory is given one."""
    names = disk.names()
    if _FILE not in names:
        if names:
            raise ForeignDirectory(f"the data directory holds {names[0]}, but no identity of a node: not ours")
        content = _Content(format=FORMAT, node=rng_bytes(NODE_BYTES).hex(), name=name)
        _save(disk, content)
        return Identity(disk, content)
    data = disk.read(_FILE)
    try:
        format_ = msgspec.json.decode(data, type=_Format).format
        if format_ > FORMAT:
            raise FormatTooNew("the data directory", format_, FORMAT)
        if format_ < FORMAT:
            raise FormatTooOld("the data directory", format_, FORMAT)
        content = msgspec.json.decode(data, type=_Content)
    except msgspec.DecodeError as error:
        raise ForeignDirectory(f"the file {_FILE} of the data directory is not ours: {error}") from error
    if content.name != name:
        raise ForeignDirectory(f"the data directory belongs to node {content.name}, not to {name}")
    return Identity(disk, content)


def _save(disk: Disk, content: _Content) -> None:
    disk.replace(_FILE, msgspec.json.encode(content))
