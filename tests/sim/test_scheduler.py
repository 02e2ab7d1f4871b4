"""Virtual time goes forward only, and events of one instant keep their order."""

from ringwise.sim.scheduler import Scheduler


def test_events_run_in_order_of_time_then_of_making() -> None:
    scheduler = Scheduler()
    seen: list[tuple[float, str]] = []

    def note(what: str) -> None:
        seen.append((scheduler.now_ms, what))

    scheduler.after(5, note, "late")
    scheduler.after(1, note, "first")
    scheduler.at(1, note, "second")
    scheduler.run(10)
    assert seen == [(1, "first"), (1, "second"), (5, "late")]
    assert scheduler.now_ms == 10


def test_an_event_may_make_others_and_none_runs_in_the_past() -> None:
    scheduler = Scheduler()
    seen: list[float] = []
    scheduler.after(3, lambda: scheduler.at(1, lambda: seen.append(scheduler.now_ms)))
    scheduler.run(3)
    assert seen == [3]


def test_what_lies_beyond_the_end_waits() -> None:
    scheduler = Scheduler()
    seen: list[float] = []
    scheduler.after(20, lambda: seen.append(scheduler.now_ms))
    scheduler.run(10)
    assert not seen
    assert scheduler.waiting == 1
    scheduler.run(20)
    assert seen == [20]
