"""The stall detector: the age of requests after the event loop stood still."""

import asyncio
import contextlib

from bridge.core.clock import StallDetector
from tests.support.core import ManualClock


async def tick(detector: StallDetector) -> None:
    """Let the detector read the clock once."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(detector.run(), timeout=0.01)


async def test_without_a_stall_a_request_arrives_when_it_is_read() -> None:
    clock = ManualClock()
    detector = StallDetector(clock)
    await tick(detector)
    clock.seconds += 0.05
    assert detector.arrived_at() == clock.seconds


async def test_after_a_stall_a_request_may_be_as_old_as_the_stall() -> None:
    clock = ManualClock()
    detector = StallDetector(clock)
    await tick(detector)
    before = clock.seconds
    clock.seconds += 7
    assert detector.arrived_at() == before, "read before the detector has noticed the stall"
    await tick(detector)
    clock.seconds += 0.1
    assert detector.arrived_at() == before, "read just after the detector has noticed the stall"


async def test_the_caution_ends() -> None:
    clock = ManualClock()
    detector = StallDetector(clock)
    clock.seconds += 7
    for _ in range(12):
        await tick(detector)
        clock.seconds += 0.1
    assert detector.arrived_at() == clock.seconds


async def test_a_second_stall_within_the_caution_reaches_back_to_the_first() -> None:
    clock = ManualClock()
    detector = StallDetector(clock)
    before = clock.seconds
    clock.seconds += 3
    await tick(detector)
    clock.seconds += 0.9
    await tick(detector)
    assert detector.arrived_at() == before
