"""A bridge that stood still knows it."""

import asyncio
import contextlib

from bridge.core.clock import StallDetector
from tests.support.core import ManualClock


async def ticked(watch: StallDetector) -> None:
    """Let the watch look at the clock once."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(watch.run(), timeout=0.01)


async def test_in_ordinary_times_a_request_arrives_when_it_is_read() -> None:
    clock = ManualClock()
    watch = StallDetector(clock)
    await ticked(watch)
    clock.seconds += 0.05
    assert watch.arrived_at() == clock.seconds


async def test_after_a_stall_a_request_may_be_as_old_as_the_stall() -> None:
    clock = ManualClock()
    watch = StallDetector(clock)
    await ticked(watch)
    before = clock.seconds
    clock.seconds += 7
    assert watch.arrived_at() == before, "read before the watch itself has noticed"
    await ticked(watch)
    clock.seconds += 0.1
    assert watch.arrived_at() == before, "read just after it has noticed"


async def test_caution_ends() -> None:
    clock = ManualClock()
    watch = StallDetector(clock)
    clock.seconds += 7
    for _ in range(12):
        await ticked(watch)
        clock.seconds += 0.1
    assert watch.arrived_at() == clock.seconds


async def test_a_second_stall_within_the_caution_reaches_back_to_the_first() -> None:
    clock = ManualClock()
    watch = StallDetector(clock)
    before = clock.seconds
    clock.seconds += 3
    await ticked(watch)
    clock.seconds += 0.9
    await ticked(watch)
    assert watch.arrived_at() == before
