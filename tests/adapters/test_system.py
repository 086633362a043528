from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters.system import (
    ClockFileMissing,
    ClockRanBackwards,
    SteppedClock,
    SystemClock,
    SystemRandomness,
    SystemTimer,
)

START = datetime(2022, 3, 27, 0, 59, 59, 999_999, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    return SteppedClock.create(tmp_path / "clock", at=START)


def test_a_stepped_clock_stands_still_between_steps(clock: SteppedClock) -> None:
    assert clock.now() == clock.now() == START


@given(steps=st.lists(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)), max_size=20))
def test_every_reader_sees_each_step_to_the_microsecond(
    steps: list[timedelta], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("clock") / "clock"
    master, reader, moment = SteppedClock.create(path, at=START), SteppedClock(path), START
    for step in steps:
        moment += step
        master.step_to(moment)

        assert reader.now() == moment


def test_a_stepped_clock_never_goes_back(clock: SteppedClock) -> None:
    with pytest.raises(ClockRanBackwards) as refusal:
        clock.step_to(START - timedelta(microseconds=1))

    assert refusal.value.now == START
    assert clock.now() == START


@pytest.mark.parametrize("content", [None, b"", b"short", b"much longer than a clock"])
def test_a_file_that_is_no_clock_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "clock"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ClockFileMissing, match=str(path)):
        SteppedClock(path)


async def test_sleepers_wake_when_the_master_passes_their_moment(clock: SteppedClock) -> None:
    woken: list[int] = []

    async def sleeper(number: int) -> None:
        await clock.sleep_until(START + number * SECOND)
        woken.append(number)

    tasks = {number: asyncio.create_task(sleeper(number)) for number in (3, 1, 2)}
    await asyncio.sleep(0)
    clock.step_to(START + SECOND)
    await tasks[1]
    assert woken == [1]
    clock.step_to(START + 5 * SECOND)
    await asyncio.gather(*tasks.values())

    assert woken == [1, 2, 3]


async def test_a_sleeper_that_gave_up_does_not_hold_up_the_next(clock: SteppedClock) -> None:
    gone = asyncio.create_task(clock.sleep_until(START + SECOND))
    await asyncio.sleep(0)
    gone.cancel()
    waiting = asyncio.create_task(clock.sleep_until(START + 2 * SECOND))
    await asyncio.sleep(0)

    clock.step_to(START + 3 * SECOND)

    await waiting
    await clock.sleep_until(START)


async def test_a_clock_serves_one_loop_after_another(clock: SteppedClock) -> None:
    abandoned = asyncio.create_task(clock.sleep_until(START + timedelta(days=1)))
    await asyncio.sleep(0)
    abandoned.cancel()

    def in_another_loop() -> None:
        async def sleep() -> None:
            sleeping = asyncio.create_task(clock.sleep_until(START + SECOND))
            await asyncio.sleep(0)
            clock.step_to(START + SECOND)
            await sleeping

        asyncio.run(sleep())

    await asyncio.to_thread(in_another_loop)


async def test_a_step_is_seen_in_another_process(clock: SteppedClock, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from datetime import *; from pathlib import Path\n"
        "from emobility.adapters.system import SteppedClock\n"
        "clock = SteppedClock(Path(sys.argv[1])); print('watching', flush=True)\n"
        "asyncio.run(clock.sleep_until(datetime.fromisoformat(sys.argv[2]))); print(clock.now().isoformat())"
    )
    at = START + timedelta(days=3)
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, tmp_path / "clock", at.isoformat(), stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    await other.stdout.readline()

    clock.step_to(at)

    assert (await other.stdout.read()).decode().strip() == at.isoformat()
    assert await other.wait() == 0


async def test_real_time_is_aware_and_its_past_needs_no_sleep() -> None:
    clock = SystemClock()

    assert clock.now().tzinfo is UTC
    await clock.sleep_until(clock.now() - SECOND)
    soon = clock.now() + timedelta(milliseconds=20)
    await clock.sleep_until(soon)
    assert clock.now() >= soon


async def test_transport_time_moves_on() -> None:
    timer = SystemTimer()
    before = timer.monotonic_s()

    await timer.sleep(0.01)

    assert timer.monotonic_s() >= before + 0.01


def test_randomness_does_not_repeat() -> None:
    randomness = SystemRandomness()

    assert len({randomness.token_bytes(16) for _ in range(100)}) == 100
    assert len({randomness.uuid() for _ in range(100)}) == 100
