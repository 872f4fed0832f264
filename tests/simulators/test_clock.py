"""Virtual time: it jumps, it is repeatable, it waits for threads, and it reports a deadlock instead of hanging."""

from __future__ import annotations

import asyncio
import threading

import pytest

from engine.errors import LocalError
from simulators.clock import Deadlock, VirtualLoop, run


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_pytest_runs_coroutines_in_virtual_time() -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(10**6)
    assert now() >= 10**6


@pytest.mark.parametrize("start", [0.0, 1.0, 3600.0])
def test_timers_less_than_a_nanosecond_apart_fire_one_after_another(start: float) -> None:
    async def main() -> list[float]:
        loop, fired = asyncio.get_running_loop(), list[float]()
        await asyncio.sleep(start)
        moments = [start + 1e-3, start + 1e-3 + 1e-10, start + 1e-3 + 2e-10]
        for at in reversed(moments):
            loop.call_at(at, lambda: fired.append(now()))
        await asyncio.sleep(1)
        assert fired == moments
        return fired

    assert len(run(main())) == 3


def test_sleeping_takes_exactly_its_time() -> None:
    async def main() -> list[float]:
        times = [now()]
        for pause in (3600.0, 0.1, 1e-9, 7 * 86400.0):
            await asyncio.sleep(pause)
            times.append(now())
        return times

    expected = [0.0]
    for pause in (3600.0, 0.1, 1e-9, 7 * 86400.0):
        expected.append(expected[-1] + pause)
    assert run(main()) == expected


def test_timers_fire_in_order_and_repeatably() -> None:
    async def main() -> list[tuple[float, int]]:
        log: list[tuple[float, int]] = []

        async def worker(number: int) -> None:
            for step in range(5):
                await asyncio.sleep((number * 7 + step * 3) % 5 + 0.5)
                log.append((now(), number))

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(worker(number))
        return log

    first = run(main())
    assert first == run(main())
    assert [time for time, _ in first] == sorted(time for time, _ in first)


def test_timeouts_run_on_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000.0):
                await asyncio.Event().wait()
        return now()

    assert run(main()) == 1000.0


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> float:
        release = threading.Event()
        job = asyncio.create_task(asyncio.to_thread(release.wait, 10.0))
        ticking = asyncio.create_task(asyncio.sleep(5.0))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(release.set)
        assert await job
        assert now() == 0.0 and not ticking.done()
        await ticking
        return now()

    assert run(main()) == 5.0


def test_a_thread_that_fails_hands_its_error_over() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        await asyncio.sleep(1.0)
        assert now() == 1.0

    run(main())


def test_a_deadlock_is_an_error_that_names_the_tasks() -> None:
    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()

        async def wait_then_set(mine: asyncio.Event, other: asyncio.Event) -> None:
            await mine.wait()
            other.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(wait_then_set(first, second), name="left")
            group.create_task(wait_then_set(second, first), name="right")

    with pytest.raises(Deadlock, match=r"(?s)stands still at 0 s.*left at .*test_clock.py:\d+, right at .*test_clock"):
        run(main())
    assert issubclass(Deadlock, LocalError)


def test_a_deadlock_after_thread_work_is_found_too() -> None:
    async def main() -> None:
        await asyncio.to_thread(int)
        await asyncio.sleep(2.0)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="at 2 s"):
        run(main())


def test_real_sockets_are_polled_before_time_moves() -> None:
    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        server.close()

    run(main())
