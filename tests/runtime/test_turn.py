"""A turn is one batch: told the time once, ended once, after every input that was ready with it."""

import asyncio
from collections.abc import Callable

import uvloop

from ringwise.runtime.turn import SLICE_MS_MAX, SLICE_MS_MIN, Turn, slice_ms
from ringwise.runtime.worker import ThreadWorker


class FakeNode:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.slices = 0

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.broken:
            raise RuntimeError(call)

    def begin(self, wall_ms: int, now_ms: float) -> None:
        assert wall_ms > 1_500_000_000_000 and now_ms > 0
        self._note("begin")

    def end_turn(self) -> None:
        self._note("end")

    def tick(self) -> None:
        self._note("tick")

    pressure = 0.0

    def background(self, budget_ms: float) -> bool:
        assert budget_ms > 0
        self._note("slice")
        self.slices -= 1
        return self.slices > 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_inputs_that_are_ready_together_are_one_turn() -> None:
    async def scenario() -> None:
        node = FakeNode()
        loop = asyncio.get_running_loop()
        turn = Turn(loop, node, node, _nothing, _raise)

        def input_(name: str) -> None:
            turn.enter()
            node.calls.append(name)

        loop.call_soon(input_, "a")
        loop.call_soon(input_, "b")
        await until(lambda: "end" in node.calls)
        loop.call_soon(input_, "c")
        await until(lambda: node.calls.count("end") == 2)
        assert node.calls == ["begin", "a", "b", "end", "begin", "c", "end"]

    uvloop.run(scenario())


def test_ticks_and_slices_run_inside_turns_until_stopped() -> None:
    async def scenario() -> None:
        node = FakeNode()
        node.slices = 3
        turn = Turn(asyncio.get_running_loop(), node, node, _nothing, _raise)
        turn.start()
        await until(lambda: node.calls.count("slice") >= 3 and node.calls.count("tick") >= 2)
        turn.stop()
        await until(lambda: node.calls[-1] == "end")
        depth = 0
        for call in node.calls:
            depth += {"begin": 1, "end": -1}.get(call, 0)
            assert depth == (0 if call == "end" else 1), node.calls
        count = len(node.calls)
        await asyncio.sleep(0)
        assert len(node.calls) == count

    uvloop.run(scenario())


def test_a_slice_is_in_proportion_to_the_turns_around_it_and_to_what_is_behind() -> None:
    assert slice_ms(0.1, 0.0) == SLICE_MS_MIN
    assert slice_ms(6.0, 0.0) == SLICE_MS_MIN, "there is time"
    assert slice_ms(50.0, 0.0) == 6.0
    assert slice_ms(6.0, 0.3) == 3.0
    assert slice_ms(6.0, 1.5) == 9.0
    assert slice_ms(60.0, 2.0) == SLICE_MS_MAX


def test_an_error_at_the_end_of_a_turn_stops_the_process_and_not_only_the_turn() -> None:
    async def scenario() -> None:
        failures: list[BaseException] = []
        for broken in ("end", "tick", "slice"):
            node = FakeNode()
            node.broken = {broken}
            turn = Turn(asyncio.get_running_loop(), node, node, _nothing, failures.append)
            turn.start()
            await until(lambda: bool(failures))
            turn.stop()
            assert str(failures[0]) == broken
            failures.clear()

    uvloop.run(scenario())


def test_results_of_the_worker_come_back_inside_a_turn_errors_included() -> None:
    async def scenario() -> None:
        node = FakeNode()
        loop = asyncio.get_running_loop()
        worker = ThreadWorker(loop, _raise)
        turn = Turn(loop, node, node, _nothing, _raise)
        worker.attach(turn)
        results: list[object] = []

        def done(result: object) -> None:
            node.calls.append("done")
            results.append(result)
            if len(results) == 1:
                worker.submit(lambda: 1 // 0, done)

        worker.submit(lambda: 42, done)
        await worker.drain()
        worker.close()
        await until(lambda: node.calls[-1] == "end")
        assert results[0] == 42
        assert isinstance(results[1], ZeroDivisionError)
        assert [call for call in node.calls if call != "end"] == ["begin", "done", "begin", "done"]

    uvloop.run(scenario())


def _nothing() -> None: ...


def _raise(error: BaseException) -> None:
    raise error
