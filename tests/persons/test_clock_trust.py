"""Expired persons are not removed by a clock that has jumped ahead."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.persons.clock_trust import MAX_JUMP, WAIT_SECONDS, ClockTrust
from bridge.persons.maintenance import ExpiryJob
from tests.persons.person_system import PersonSystem, person, person_system
from tests.support.core import ManualClock

YEAR_SECONDS = 365 * 86400.0


class JumpingClock(ManualClock):
    """A clock whose time of day can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.jump = timedelta()

    def now(self) -> datetime:
        return super().now() + self.jump


def expiry(system: PersonSystem, *, is_synchronised: bool = False) -> ExpiryJob:
    return ExpiryJob(system.transactions, 7, lambda: is_synchronised)


async def test_a_clock_that_jumps_while_the_bridge_runs_removes_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = JumpingClock()
    async with person_system(tmp_path, clock=clock) as system:
        await system.set(person("p1", valid_until="2026-12-24"))
        job = expiry(system)
        await job.remove_expired()
        clock.jump = timedelta(seconds=YEAR_SECONDS)
        await job.remove_expired()
        assert await system.delivery() == {"p1": "pending"}
        assert "the clock says" in caplog.text
        clock.jump = timedelta()
        await job.remove_expired()
        assert await system.delivery() == {"p1": "pending"}


async def test_a_clock_that_is_wrong_after_a_restart_removes_nobody(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with person_system(tmp_path, clock=clock) as system:
        await system.set(person("p1", valid_until="2026-12-24"))
    clock.jump = timedelta(seconds=YEAR_SECONDS)
    async with person_system(tmp_path, clock=clock) as system:
        job = expiry(system)
        await job.remove_expired()
        assert await system.delivery() == {"p1": "pending"}
        # The clock was not set for a day, so it is right.
        clock.seconds += WAIT_SECONDS
        await job.remove_expired()
        assert await system.delivery() == {}


async def test_a_synchronised_clock_is_right_after_a_long_time_off(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with person_system(tmp_path, clock=clock) as system:
        await system.set(person("p1", valid_until="2026-12-24"))
    clock.jump = timedelta(seconds=YEAR_SECONDS)
    async with person_system(tmp_path, clock=clock) as system:
        await expiry(system, is_synchronised=True).remove_expired()
        assert await system.delivery() == {}


async def test_time_that_passes_is_trusted(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with person_system(tmp_path, clock=clock) as system:
        await system.set(person("p1", valid_until="2026-12-24"))
        job = expiry(system)
        await job.remove_expired()
        clock.seconds += YEAR_SECONDS
        await job.remove_expired()
        assert await system.delivery() == {}


def test_the_limit_of_a_jump() -> None:
    clock = JumpingClock()
    known = datetime(2026, 11, 1, tzinfo=UTC)
    for ahead, is_trusted in ((MAX_JUMP, True), (MAX_JUMP + timedelta(seconds=1), False), (-MAX_JUMP, True)):
        clock.jump = known + ahead - ManualClock().now()
        assert (ClockTrust(clock, lambda: False).now(known) is not None) is is_trusted
