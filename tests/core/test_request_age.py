"""`asked_at` of presses: a press counts from the older of the bridge's measure and the requester's time."""

from datetime import datetime, timedelta

import pytest

from bridge.core.event_bus import EventBus
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Open
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply
from tests.support.core import ManualClock, RecordingConnection, known_terminal, msgids

DEADLINE = 5.0
UPTIME_SECONDS = 0.75
"""A press that was asked for earlier may have been carried out by the bridge before its start."""
ORIGIN = Origin(source="test")


class PressSystem:
    """A core with one connected terminal."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        events = EventBus()
        registry = TerminalRegistry(events, self.clock)
        registry.put(known_terminal("T1", groups=("lobby",)))
        self.presses = Presses(registry, events, self.clock, msgids(), DEADLINE)
        self.connection = RecordingConnection(registry, "T1")
        registry.connected(self.connection)
        self.clock.seconds += UPTIME_SECONDS

    def ago(self, seconds: float) -> datetime:
        return self.clock.now() - timedelta(seconds=seconds)

    async def press(self, *, asked_seconds_ago: float, measured_seconds_ago: float | None = 0.0) -> Reply:
        command = Open(request_id="r1", asked_at=self.ago(asked_seconds_ago))
        measured_at = None if measured_seconds_ago is None else self.clock.seconds - measured_seconds_ago
        return await self.presses.press("T1", command, ORIGIN, measured_at)


@pytest.fixture
def system() -> PressSystem:
    return PressSystem()


@pytest.mark.parametrize("seconds", [DEADLINE, DEADLINE + 7, 3600.0, 1e9])
async def test_a_press_that_was_asked_for_too_long_ago_is_not_carried_out(system: PressSystem, seconds: float) -> None:
    reply = await system.press(asked_seconds_ago=seconds)
    assert (reply.outcome, reply.delivered) == (Outcome.EXPIRED, False)
    assert system.connection.frames == []


async def test_every_member_of_a_group_counts_from_asked_at(system: PressSystem) -> None:
    command = Open(asked_at=system.ago(60.0))
    summary = await system.presses.press_group("lobby", command, ORIGIN, system.clock.seconds)
    assert isinstance(summary, GroupSummary)
    assert summary.outcomes == {Outcome.EXPIRED: 1}
    assert system.connection.frames == []


@pytest.mark.parametrize("seconds", [0.0, 0.5, -0.5, -3600.0, -1e9])
async def test_a_press_that_was_asked_for_now_or_in_the_future_is_carried_out(
    system: PressSystem, seconds: float
) -> None:
    assert (await system.press(asked_seconds_ago=seconds)).outcome is Outcome.OK


@pytest.mark.parametrize(("seconds", "is_carried_out"), [(UPTIME_SECONDS - 0.01, True), (UPTIME_SECONDS + 0.01, False)])
async def test_a_press_from_before_the_start_is_not_carried_out(
    system: PressSystem, seconds: float, is_carried_out: bool
) -> None:
    reply = await system.press(asked_seconds_ago=seconds)
    if is_carried_out:
        assert reply.outcome is Outcome.OK
    else:
        # A bridge that was killed may have carried it out.
        assert (reply.outcome, reply.delivered) == (Outcome.EXPIRED, None)
        assert reply.message is not None
        assert reply.message.endswith("press again")
    assert len(system.connection.frames) == is_carried_out


@pytest.mark.parametrize("measured", [DEADLINE + 1, None])
async def test_asked_at_makes_no_press_younger(system: PressSystem, measured: float | None) -> None:
    for asked in (0.0, -3600.0):
        reply = await system.press(asked_seconds_ago=asked, measured_seconds_ago=measured)
        assert reply.outcome is Outcome.EXPIRED
    assert system.connection.frames == []


@pytest.mark.parametrize(
    ("asked", "measured"),
    [(3600.0, 0.0), (-3600.0, None), (-3600.0, DEADLINE + 1), (1.6, 0.0), (1.6, 0.5), (DEADLINE + 2.1, DEADLINE + 1)],
)
async def test_the_reply_names_both_clocks_if_they_differ_by_more_than_a_second(
    system: PressSystem, asked: float, measured: float | None
) -> None:
    reply = await system.press(asked_seconds_ago=asked, measured_seconds_ago=measured)
    assert reply.message is not None
    assert system.ago(asked).isoformat(timespec="milliseconds") in reply.message
    assert system.ago(measured or 0.0).isoformat(timespec="milliseconds") in reply.message
    assert "within a second" in reply.message


async def test_the_reply_names_no_clocks_if_they_agree(system: PressSystem) -> None:
    reply = await system.press(asked_seconds_ago=DEADLINE + 2, measured_seconds_ago=DEADLINE + 1)
    assert reply.message == "reached the bridge too late; not carried out"
