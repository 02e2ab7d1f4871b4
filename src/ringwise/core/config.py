"""The settings of a node that its protocols read. Every limit has its reason beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Times are milliseconds, sizes bytes."""

    replicas: int = 3  # N of bucket 0, for the document that a founding node writes
    default_level: str = "quorum"
    request_timeout_ms: int = 1000  # a client rarely waits longer; after it the outcome of a write is told as unknown
    flush_timeout_ms: int = 5_000  # a flush is rare, and several at once have to settle who goes first
    hedge_ms: int = 30  # a read asks one more owner after this: well past the usual p99, far below the deadline
    key_bytes_max: int = 256
    value_bytes_max: int = 1024 * 1024
    collection_bytes_max: int = 32 * 1024 * 1024  # a repair sends it whole, and a frame has 64 MiB at most
    frame_bytes_max: int = 256 * 1024  # B3: a frame holds the loop and the link no longer than about a millisecond
    max_clock_offset_ms: int = 60_000  # stamps further ahead are refused: one mad clock must not shadow everyone (V7)
    cold_queue_max: int = 100_000  # operations that wait for the disk; past it they are refused at once (section 8)
    memtable_bytes: int = 256 * 1024 * 1024  # what a flush writes at once; twice that refuses writes (S5)
    repair_interval_ms: int = 10_000  # between two rounds with all peers (R5); 0: none but those asked for
    repair_confirm_ms: int = 2_000  # a difference must last so long: a write in flight is settled or given up by then
    repair_keys_per_s: int = 20_000  # that repair exchanges: a quarter of what a busy node writes
    reap_after_ms: int = 10_000  # what is deleted or expired is left alone so long (V8); 0: for ever
    reap_interval_ms: int = 10_000  # between two passes over all keys that look for it
    membership: str = "lan"  # which of core/gossip/presets.py: how fast a network to expect between members (R6)
    fill_keys_per_s: int = 50_000  # that a node with an empty disk is filled with (T4); less where requests are busy
    members_expected: int = 1  # the first write waits for so many: afterwards members come by moves only (T3, T4)
    # Each takes some 300 bytes of memory; past it they are dropped, and repair does the rest (R4).
    hints_max: int = 1_000_000
    # Of all nodes together towards one that is back: far below what it can take.
    hint_bytes_per_s: int = 32 * 1024 * 1024
    hint_bytes_in_flight_max: int = 512 * 1024  # towards one owner
    hint_pause_ms: int = 1_000  # before what was not acknowledged is sent again
    forming_queue_max: int = 10_000  # operations that wait for the document to be formed, before the first write (T3)
