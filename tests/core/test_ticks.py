"""Periodic work shares the wake-ups of the event loop."""

import asyncio
import selectors
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.core.clock import TICK_SECONDS, seconds_to_tick, sleep_ticks

TOLERANCE_SECONDS = 0.002


class Jumping(selectors.SelectSelector):
    """Lets time jump instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait; a test sets its time."""

    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    @property
    def now(self) -> float:
        return self.jumping.now

    @now.setter
    def now(self, seconds: float) -> None:
        self.jumping.now = seconds

    def time(self) -> float:
        return self.jumping.now


@pytest.fixture(scope="module")
def loop() -> Iterator[ManualLoop]:
    manual = ManualLoop()
    yield manual
    manual.close()


def is_tick(seconds: float) -> bool:
    return abs(seconds / TICK_SECONDS - round(seconds / TICK_SECONDS)) < 1e-4


TIMES = st.floats(0, 1e7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(now=TIMES, at_least=st.floats(0, 3600))
@example(now=1.0, at_least=0.1)
@example(now=1.001, at_least=0.1)
def test_a_timer_ends_on_a_tick_and_not_too_early(loop: ManualLoop, now: float, at_least: float) -> None:
    async def measure() -> float:
        return seconds_to_tick(at_least)

    loop.now = now
    seconds = loop.run_until_complete(measure())
    assert at_least <= seconds <= at_least + TICK_SECONDS + 1e-6
    assert is_tick(now + seconds) or seconds - at_least <= TOLERANCE_SECONDS


@given(now=TIMES, number=st.integers(1, 10))
@example(now=1.0999, number=1)
def test_a_pause_ends_on_a_tick_and_is_not_longer_than_its_ticks(loop: ManualLoop, now: float, number: int) -> None:
    loop.now = now
    loop.run_until_complete(sleep_ticks(number))
    assert is_tick(loop.now)
    assert (number - 1) * TICK_SECONDS < loop.now - now <= number * TICK_SECONDS + TOLERANCE_SECONDS


def test_pauses_that_begin_at_different_times_end_together(loop: ManualLoop) -> None:
    ends = []
    for began in (5.01, 5.05, 5.09):
        loop.now = began
        loop.run_until_complete(sleep_ticks(2))
        ends.append(round(loop.now, 6))
    assert ends == [5.2, 5.2, 5.2]
