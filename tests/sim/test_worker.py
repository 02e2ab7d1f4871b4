"""Disk work happens between its submission and its answer, and ends with the process."""

import random
from collections.abc import Callable

from ringwise.sim.scheduler import Scheduler
from ringwise.sim.worker import THREADS, VirtualWorker


def make(delay_ms: float = 10.0) -> tuple[Scheduler, VirtualWorker, list[str]]:
    scheduler = Scheduler()
    seen: list[str] = []
    worker = VirtualWorker(scheduler.after, random.Random(3), lambda: delay_ms, lambda: seen.append("entered"))
    return scheduler, worker, seen


def test_work_sees_what_was_there_when_it_ran_not_when_its_answer_came() -> None:
    scheduler, worker, seen = make()
    written = ["a"]
    worker.submit(lambda: len(written), lambda synced: seen.append(f"synced {synced}"))
    scheduler.after(10, written.append, "b")
    scheduler.run(10)
    assert not seen
    scheduler.run(100)
    assert seen == ["entered", "synced 1"]
    assert written == ["a", "b"]


def test_an_error_is_handed_to_done() -> None:
    scheduler, worker, seen = make()
    worker.submit(lambda: 1 // 0, lambda result: seen.append(type(result).__name__))
    scheduler.run(100)
    assert seen == ["entered", "ZeroDivisionError"]


def test_past_its_threads_work_waits() -> None:
    scheduler, worker, seen = make()
    running: list[float] = []

    def work() -> float:
        running.append(scheduler.now_ms)
        return 0.0

    done: Callable[[float | BaseException], None] = lambda _: None  # noqa: E731
    for _ in range(THREADS + 1):
        worker.submit(work, done)
    scheduler.run(10)
    assert len(running) == THREADS
    scheduler.run(100)
    assert len(running) == THREADS + 1
    assert worker.idle
    assert len(seen) == THREADS + 1
