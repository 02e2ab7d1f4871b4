"""What one node is told at its start. Every setting is an option of `ringwise serve` and a key of its TOML file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SYNC_MODES = ("periodic", "batch", "off")
MEMBERSHIPS = ("local", "lan", "wan")  # core/gossip/presets.py
MEBIBYTE = 1024 * 1024

CLIENT_PORT = 7379
HTTP_PORT = 8379
PEER_PORT = 9379
CLUSTER_PORT = 10379  # as far above CLIENT_PORT as every node's is above its own, unless it is named


class StartError(Exception):
    """A node or cluster cannot start; the message is one line that a user can act on."""

    code = 1  # of the process that ends with it


@dataclass(frozen=True)
class Settings:
    data_dir: Path
    name: str
    host: str = "127.0.0.1"
    port: int = CLIENT_PORT
    http_port: int = HTTP_PORT
    peer_port: int = PEER_PORT
    cluster_port: int = CLUSTER_PORT
    join: tuple[str, int] | None = None
    sync: Literal["periodic", "batch", "off"] = "periodic"
    level: str = "quorum"
    replicas: int = 3
    weight: float = 1.0
    rack: str = ""
    expect: int = 1
    membership: Literal["local", "lan", "wan"] = "lan"
    memtable_mb: int = 256
    cache_mb: int = 256
    hints_max: int = 1_000_000
    repair_interval_s: int = 10
    key_bytes_max: int = 256
    value_bytes_max: int = MEBIBYTE
    collection_bytes_max: int = 32 * MEBIBYTE
    multi: bool = True  # MULTI is served, as an ordered batch
    debug_commands: bool = False  # DEBUG SLEEP, for tests of clients
    stop_with_stdin: bool = False  # end when stdin does: nodes of `ringwise dev` do not outlive it


def machine_memory_mb() -> int:
    """All of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEBIBYTE


def default_memtable_mb() -> int:
    """A 32nd of the machine: few, large SSTables, since a flush costs a record more than its put did; and yet a log that is
    replayed in seconds."""
    return min(512, max(16, machine_memory_mb() // 32))


def default_cache_mb() -> int:
    """A 16th of the machine, so that three nodes of a trial cluster leave most of it to others."""
    return max(64, machine_memory_mb() // 16)
