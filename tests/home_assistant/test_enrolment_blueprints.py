"""Enrolling visitors with the blueprints, as their users do."""

from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.scene import Scene, SceneMaker
from tests.support.person_stream import PHOTOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"D1": {"name": "Front door"}}
NAME = """Zoë "Z" O'Brien {{ 1 + 1 }} 李"""


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """What the bridge may read photos from, with one in it."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "ada.jpg").write_bytes(PHOTOS[0])
    return folder


async def enrol(scene: Scene, script: str, **fields: Any) -> dict[str, Any]:
    """Run the script as its page does, and return its response."""
    given = {"terminals": [await scene.device_id("D1")], "name": NAME, "photo": picture("ada.jpg"), **fields}
    result = await scene.api.call(
        "call_service", domain="script", service=script.split(".")[1], service_data=given, return_response=True
    )
    response: dict[str, Any] = result["response"]
    return response


def picture(name: str) -> dict[str, str]:
    """Return what the media selector gives for a picture."""
    return {"media_content_id": f"media-source://media_source/local/{name}", "media_content_type": "image/jpeg"}


async def test_enrol_a_visitor_and_hear_what_came_of_it(bridge_with: SceneMaker, media: Path) -> None:
    async with (
        bridge_with(KNOWN, photos={"folders": [str(media)]}) as scene,
        scene.blueprint("script", "enrol_visitor", media_folder=str(media)) as script,
    ):
        await scene.api.until_state("binary_sensor.front_door_connection", "off")
        stored = await enrol(scene, script, id="12345")
        assert (stored["accepted"], stored["outcomes"]) == (True, {"D1": "accepted"})
        assert stored["text"] == "Front door: stored; the terminal gets it once it is connected."

        async with scene.terminal("D1").running() as terminal:
            await scene.until_told("event.front_door_reply", event_type="ok", person_id="12345")
            assert terminal.persons["12345"].name == NAME
            await scene.api.until_state("binary_sensor.front_door_connection", "on")

            enrolled = await enrol(scene, script, name="007", duration={"hours": 2}, pass_count=3)
            assert enrolled["text"] == "Front door: enrolled."
            assert terminal.persons[enrolled["id"]].name == "007"

            terminal.behaviour = Behaviour(refusal=Refusal(5, "no face found"))
            refused = await enrol(scene, script)
            assert (refused["accepted"], refused["outcomes"]) == (False, {"D1": "refused"})
            assert refused["text"] == "Front door: the terminal refused: no face found"

        outside = await enrol(scene, script, photo=None, photo_file="/etc/hostname")
        assert (outside["accepted"], outside["outcomes"]) == (False, {"D1": "invalid"})
        assert "must lie inside one of photos.folders" in outside["text"]


async def test_a_form_of_helpers_is_emptied_only_after_acceptance(bridge_with: SceneMaker, media: Path) -> None:
    async with (
        bridge_with(KNOWN, photos={"folders": [str(media)]}) as scene,
        scene.terminal("D1").running() as terminal,
        scene.blueprint("script", "enrol_visitor", media_folder=str(media)) as script,
    ):
        api = scene.api
        for name in ("Visitor", "Photo"):
            await api.call("input_text/create", name=name, min=0, max=255)
        await api.call("input_datetime/create", name="Until", has_date=True, has_time=True)
        await api.call("input_button/create", name="Enrol")
        await api.until_state("binary_sensor.front_door_connection", "on")

        async def fill(helper: str, value: str) -> None:
            target = {"entity_id": f"input_text.{helper}"}
            await api.call(
                "call_service", domain="input_text", service="set_value", target=target, service_data={"value": value}
            )

        async def press() -> None:
            target = {"entity_id": "input_button.enrol"}
            await api.call("call_service", domain="input_button", service="press", target=target)

        async def until_notified(text: str) -> None:
            async def notified() -> bool:
                return any(text in one["message"] for one in await api.call("persistent_notification/get"))

            await api.until(notified, f"a notification says {text}")

        async with scene.blueprint(
            "automation",
            "enrol_visitor_from_helpers",
            script=script,
            terminals=[await scene.device_id("D1")],
            button="input_button.enrol",
            visitor="input_text.visitor",
            photo="input_text.photo",
            until="input_datetime.until",
        ):
            target = {"entity_id": "input_datetime.until"}
            await api.call(
                "call_service",
                domain="input_datetime",
                service="set_datetime",
                target=target,
                service_data={"datetime": "2099-01-01 12:00:00"},
            )
            await fill("visitor", NAME)
            await fill("photo", "nobody.jpg")
            await press()
            await until_notified("Front door: not enrolled: ")
            assert (await api.states())["input_text.visitor"]["state"] == NAME
            assert not terminal.persons

            await fill("photo", "ada.jpg")
            await press()
            await until_notified("Front door: enrolled.")
            await api.until_state("input_text.visitor", "")
            (person,) = terminal.persons.values()
            assert person.name == NAME
