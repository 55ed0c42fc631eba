"""Opening doors with the blueprints, as their users do."""

from contextlib import AbstractAsyncContextManager

import pytest

from tests.home_assistant.scene import Scene, SceneMaker
from tests.support.phone import Phone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"D1": {"name": "Front door"}}


async def asking(scene: Scene, *phones: Phone, **details: object) -> AbstractAsyncContextManager[str]:
    """Use the blueprint that asks phones, at an event of the test's own."""
    return scene.blueprint(
        "automation",
        "open_from_notification",
        ask_when=[{"trigger": "event", "event_type": "somebody_is_there"}],
        terminal=await scene.device_id("D1"),
        phones=[phone.device_id for phone in phones],
        **details,
    )


async def test_open_from_a_notification(bridge_with: SceneMaker, phone: Phone) -> None:
    async with (
        bridge_with(KNOWN) as scene,
        scene.terminal("D1").running() as terminal,
        await asking(scene, phone),
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "on")
        await scene.api.fire("somebody_is_there")
        question = await phone.wait_for_text("Front door\nSomebody is at the door.")
        await phone.choose(question, "Open")
        confirmation = await phone.wait_for_text("Really open it now?")
        assert terminal.opened == 0
        await phone.choose(confirmation, "Yes, open")
        await phone.wait_for_text("The terminal has opened it.")
        assert terminal.opened == 1
