"""The tokens of buttons: each acts once, for its own purpose, and not too late."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.model.reply import Outcome, Reply
from bridge.web.errors import RequestError
from bridge.web.page.buttons import Buttons, UnusableButtonError
from tests.support.core import ManualClock


class Door:
    """Counts what buttons do."""

    def __init__(self, clock: ManualClock) -> None:
        self.opened = 0
        self._clock = clock
        self.may_end = asyncio.Event()

    async def open(self) -> Reply:
        self.opened += 1
        await self.may_end.wait()
        return Reply(command="open", outcome=Outcome.OK, at=self._clock.now(), sn="T1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def buttons(clock: ManualClock) -> AsyncIterator[Buttons]:
    buttons = Buttons(clock)
    yield buttons
    await buttons.stop(0)


async def test_same_token_acts_once_also_at_the_same_time(buttons: Buttons, clock: ManualClock) -> None:
    door = Door(clock)
    token = buttons.issue("open T1")
    tasks = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(buttons.run(buttons.read("open T1", token, ""), door.open)) for _ in range(3)]
        await asyncio.sleep(0)
        door.may_end.set()
    assert [task.result() for task in tasks] == [tasks[0].result()] * 3
    assert await buttons.run(buttons.read("open T1", token, ""), door.open) == tasks[0].result()
    result = buttons.result(token)
    assert result is not None
    assert await result == tasks[0].result()
    assert door.opened == 1


async def test_client_that_leaves_does_not_end_the_action(buttons: Buttons, clock: ManualClock) -> None:
    door = Door(clock)
    press = buttons.read("open T1", buttons.issue("open T1"), "")
    leaving = asyncio.get_running_loop().create_task(buttons.run(press, door.open))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.sleep(0)
    door.may_end.set()
    assert (await buttons.run(press, door.open)).outcome is Outcome.OK
    assert door.opened == 1


@pytest.mark.parametrize("token", ["", "x", "1.0123456789abcdef." + "0" * 32, "9" * 400])
async def test_invented_tokens_are_refused(buttons: Buttons, token: str) -> None:
    with pytest.raises(UnusableButtonError):
        buttons.read("open T1", token, "")


async def test_token_is_for_one_purpose_and_one_run_of_the_bridge(buttons: Buttons, clock: ManualClock) -> None:
    token = buttons.issue("open T1")
    for purpose in ("open T2", "reboot T1"):
        with pytest.raises(UnusableButtonError):
            buttons.read(purpose, token, "")
    with pytest.raises(UnusableButtonError):
        Buttons(clock).read("open T1", token, "")


async def test_press_is_dated_by_the_browser_within_what_is_possible(buttons: Buttons, clock: ManualClock) -> None:
    start = clock.seconds
    token = buttons.issue("open T1")
    clock.seconds += 1000
    for offset, expected in ((-5, 0), (900, 900), (2000, 1000)):
        press = buttons.read("open T1", token, str(int((start + offset) * 1000)))
        assert press.pressed_at == pytest.approx(start + expected, abs=0.01)
    # A browser that does not date the press has no long time for it.
    for unknown in ("", "-1", "1e3", "x"):
        with pytest.raises(UnusableButtonError):
            buttons.read("open T1", token, unknown)


async def test_forgotten_tokens_do_not_act_again(
    buttons: Buttons, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.web.page.buttons._MAX_USED", 3)
    door = Door(clock)
    door.may_end.set()
    tokens = []
    for _ in range(5):
        clock.seconds += 1
        tokens.append(buttons.issue("open T1"))
        await buttons.run(buttons.read("open T1", tokens[-1], ""), door.open)
    assert door.opened == 5
    for token in tokens[:2]:
        with pytest.raises(UnusableButtonError):
            buttons.read("open T1", token, "")
    await buttons.run(buttons.read("open T1", tokens[-1], ""), door.open)
    assert door.opened == 5


async def test_stopping_bridge_accepts_no_press(buttons: Buttons, clock: ManualClock) -> None:
    press = buttons.read("open T1", buttons.issue("open T1"), "")
    await buttons.stop(0)
    with pytest.raises(RequestError):
        await buttons.run(press, Door(clock).open)
