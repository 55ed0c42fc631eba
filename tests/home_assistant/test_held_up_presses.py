"""A press that waits in Home Assistant's own connection to the broker does not open the door late."""

import asyncio
from pathlib import Path

import pytest

from tests.home_assistant.home_assistant_system import Installation, home_assistant_system
from tests.support.freezing_proxy import FreezingProxy
from tests.support.home_assistant import HomeAssistant
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FREEZE_SECONDS = 12.0
"""More than twice the deadline, and so short that Home Assistant does not notice (its keep-alive is 60 s)."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    names = ("home-assistant", "mosquitto", "bridge")
    for name in names:
        (tmp_path / name).mkdir()
    home_assistant, mosquitto, bridge = (tmp_path / name for name in names)
    return home_assistant, mosquitto, bridge


async def test_a_press_that_waits_in_home_assistants_connection_expires(folders: tuple[Path, Path, Path]) -> None:
    home_assistant = HomeAssistant(folders[0])
    async with Mosquitto(folders[1]) as broker, FreezingProxy(broker.port).running() as link:
        try:
            await home_assistant.start()
            await home_assistant.onboard()
            await home_assistant.add_mqtt(link.port, "5")
            installation = Installation(home_assistant, broker, "5")
            async with (
                home_assistant_system(installation, folders[2], {"T1": {"name": "Front door"}}) as system,
                system.terminal("T1").running() as terminal,
            ):
                await system.api.wait_state("binary_sensor.front_door_connection", "on")
                await system.api.press("button.front_door_open")
                await system.wait_reply("event.front_door_reply", command="open", event_type="ok")
                assert terminal.opened == 1

                link.freeze()
                await system.api.press("button.front_door_open")
                await asyncio.sleep(FREEZE_SECONDS)
                link.thaw()
                reply = await system.wait_reply("event.front_door_reply", command="open", event_type="expired")
                assert reply["delivered"] is False
                assert "asked_at" in reply["message"]
                assert terminal.opened == 1

                await system.api.press("button.front_door_open")
                await terminal.wait_until(lambda: terminal.opened == 2)
        finally:
            await home_assistant.stop()
