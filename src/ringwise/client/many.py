"""Outcomes to what a call returns or raises; batches of a pipeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ringwise.client.commands import Command
from ringwise.client.errors import PartialFailure, RingwiseError
from ringwise.client.exchange import Exchange
from ringwise.client.results import Reply, Sibling, Written

T = TypeVar("T")
K = TypeVar("K")

# Both sides of a pipeline must never wait for the other to read: what is under way at once fits into sockets' buffers, or its
# replies are short.
BATCH_COMMANDS = 128
BATCH_BYTES = 256 * 1024
MERGES_MAX = 8  # who has lost that often writes into a key that is written all the time


def batches(commands: Sequence[Command[T]]) -> Iterator[list[Command[T]]]:
    batch: list[Command[T]] = []
    size = 0
    for command in commands:
        if batch and (len(batch) == BATCH_COMMANDS or size + len(command.wire) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(command)
        size += len(command.wire)
    if batch:
        yield batch


def of_single(exchange: Exchange[T]) -> T:
    outcome = exchange.outcomes[0]
    if isinstance(outcome, RingwiseError):
        raise outcome
    return outcome


def of_many(keys: Sequence[K], outcomes: Sequence[T | RingwiseError]) -> dict[K, T]:
    results: dict[K, T] = {}
    failed: dict[K, RingwiseError] = {}
    for key, outcome in zip(keys, outcomes, strict=True):
        if isinstance(outcome, RingwiseError):
            failed[key] = outcome
        else:
            results[key] = outcome
    if failed:
        raise PartialFailure(results, failed)  # type: ignore[arg-type]  # a mapping's keys are invariant
    return results


def merged_reply(newest: Sibling, value: bytes, written: Written) -> Reply:
    """What a read would show after a merge that nobody disturbed."""
    assert written.version is not None and written.context is not None
    merged = Sibling(value, written.version, newest.stamp, newest.ttl, newest.content_type, newest.flags)
    return Reply((merged,), written.context)
