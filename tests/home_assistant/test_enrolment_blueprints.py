"""The form for visitors, which consists of helpers, filled in as its users do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, SystemFactory
from tests.support.phone import Phone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KNOWN = {"D1": {"name": "Front door"}}
NAME = """Zoë "Z" O'Brien {{ 1 + 1 }} 李"""

VISITOR = "input_text.facebridge_visitor"
PHOTO = "input_text.facebridge_visitor_photo"
UNTIL = "input_datetime.facebridge_visitor_until"
ENROL = "input_button.facebridge_visitor_enrol"


class Form:
    """The form for visitors."""

    def __init__(self, system: HomeAssistantSystem) -> None:
        self._system = system

    async def fill(self, name: str, photo: str = "ada.jpg") -> None:
        """Enter a name and the name of a photo."""
        for helper, value in ((VISITOR, name), (PHOTO, photo)):
            await self._system.api.perform_action("input_text.set_value", helper, value=value)

    async def enrol(self, message: str) -> None:
        """Press the button, and wait for a notification that starts with this text."""
        for notification in await self._notifications():
            await self._system.api.call(
                "call_service",
                domain="persistent_notification",
                service="dismiss",
                service_data={"notification_id": notification["notification_id"]},
            )
        await self._system.api.perform_action("input_button.press", ENROL)

        async def notified() -> bool:
            return [one["message"] for one in await self._notifications() if one["message"].startswith(message)] != []

        try:
            await self._system.api.wait_until(notified, f"a notification starts with {message!r}")
        except AssertionError as error:
            error.add_note(str(await self._notifications()))
            raise

    async def wait_content(self, name: str, photo: str) -> None:
        """Wait until the fields have this content."""
        await self._system.api.wait_state(VISITOR, name)
        await self._system.api.wait_state(PHOTO, photo)

    async def _notifications(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = await self._system.api.call("persistent_notification/get")
        return shown


@asynccontextmanager
async def form(system: HomeAssistantSystem, media: Path, **inputs: Any) -> AsyncIterator[Form]:
    """Create the script, and the automation with the package's helpers."""
    async with (
        system.blueprint("script", "enrol_visitor", media_folder=str(media), patience=5) as script,
        form_of(system, script, **inputs) as visitors,
    ):
        yield visitors


@asynccontextmanager
async def form_of(system: HomeAssistantSystem, script: str, **inputs: Any) -> AsyncIterator[Form]:
    """Create the automation with the package's helpers and a script of this id, which need not exist."""
    terminals = [await system.device_id("D1")]
    given = {"script": script, "terminals": terminals, "button": ENROL, "visitor": VISITOR, "photo": PHOTO, **inputs}
    async with system.blueprint("automation", "enrol_visitor_from_helpers", **given):
        yield Form(system)


async def test_visitor_is_enrolled_until_the_time_of_a_helper(
    make_system: SystemFactory, media: Path, phone: Phone
) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        form(system, media, until=UNTIL, phones=[phone.device_id]) as visitors,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
        await system.api.perform_action("input_datetime.set_datetime", UNTIL, timestamp=end.timestamp())
        await visitors.fill(NAME)
        await visitors.enrol("Front door: enrolled.")
        await visitors.wait_content("", "")
        (person,) = terminal.persons.values()
        assert (person.name, person.visitor, person.end_ts) == (NAME, True, end.timestamp())
        await phone.wait_for_text(f"Visitor {NAME}\nFront door: enrolled.")
        assert {heard.qos for heard in system.client.heard if heard.topic.endswith("/person/set")} == {1}


async def test_fields_keep_their_content_until_the_visitor_is_accepted(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        form(system, media, hours=2) as visitors,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await visitors.fill(" ", "ada.jpg")
        await visitors.enrol("Not enrolled: enter the visitor's name.")
        await visitors.fill(NAME, "")
        await visitors.enrol("Not enrolled: enter the photo's file.")
        await visitors.fill(NAME, "missing.jpg")
        await visitors.enrol("Front door: not enrolled: ")
        await visitors.wait_content(NAME, "missing.jpg")
        terminal.behaviour = Behaviour(refusal=Refusal(5, "no face found"))
        await visitors.fill(NAME)
        await visitors.enrol("Front door: the terminal refused: no face found")
        await visitors.wait_content(NAME, "ada.jpg")
        assert not terminal.persons

        terminal.behaviour = Behaviour()
        before = datetime.now(UTC)
        await visitors.enrol("Front door: enrolled.")
        await visitors.wait_content("", "")
        (person,) = terminal.persons.values()
        left = datetime.fromtimestamp(person.end_ts, UTC) - before
        assert timedelta(hours=2) <= left + timedelta(seconds=1) <= timedelta(hours=2, minutes=1)


async def test_second_press_does_not_enrol_twice(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        form(system, media) as visitors,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        terminal.behaviour = Behaviour(answer_delay=3)
        await visitors.fill("Ada")
        await system.api.perform_action("input_button.press", ENROL)
        await visitors.enrol("The previous enrolment is still running.")
        await visitors.wait_content("", "")
        assert len(terminal.persons) == 1
        assert len([heard for heard in system.client.heard if heard.topic.endswith("/person/set")]) == 1


async def test_photo_from_a_dropdown_or_by_the_name(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        system.helper("input_select", "Photo", options=["-", "ada.jpg"]) as dropdown,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        async with form(system, media, photo=dropdown) as visitors:
            await visitors.fill("Ada")
            await visitors.enrol("Not enrolled: enter the photo's file.")
            await system.api.perform_action("input_select.select_option", dropdown, option="ada.jpg")
            await visitors.enrol("Front door: enrolled.")
            await system.api.wait_state(dropdown, "-")
        async with form(system, media, photo="") as visitors:
            await visitors.fill("ada")
            await visitors.enrol("Front door: enrolled.")
        assert sorted(person.name for person in terminal.persons.values()) == ["Ada", "ada"]


async def test_script_that_is_renamed_fails_or_is_missing(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(
            KNOWN,
            photos={"folders": [str(media)]},
            expected=("[homeassistant.components.script", "[homeassistant] Error doing job: Task exception"),
        ) as system,
        system.terminal("D1").running() as terminal,
        system.blueprint("script", "enrol_visitor", media_folder=str(media)) as script,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        renamed = "script.let_visitors_in"
        await system.api.call("config/entity_registry/update", entity_id=script, new_entity_id=renamed)
        async with form_of(system, renamed) as visitors:
            await visitors.fill("Ada")
            await visitors.enrol("Front door: enrolled.")
            assert len(terminal.persons) == 1
        async with form_of(system, "script.missing") as visitors:
            await visitors.fill("Ada")
            await visitors.enrol("Not enrolled: the script does not exist")
            await visitors.wait_content("Ada", "ada.jpg")
        async with form_of(system, renamed, hours="many") as visitors:
            await visitors.enrol("The script failed")
            await visitors.wait_content("Ada", "ada.jpg")
        await system.api.call("config/entity_registry/update", entity_id=renamed, new_entity_id=script)
        assert len(terminal.persons) == 1
