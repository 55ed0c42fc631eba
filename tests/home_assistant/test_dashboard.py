"""The example dashboard in Home Assistant's pages, and its picture."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from playwright.async_api import expect

from bridge.simulator.faces import sample_photo
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, Installation, SystemFactory
from tests.support.blueprints import EXAMPLES, add_visitors_package
from tests.support.browser import Browser, browser_in, skip_onboarding_except_user
from tests.support.home_assistant import HomeAssistant
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KNOWN = {"FEDCBA9876543210": {"name": "Front door", "area": "Lobby"}}
SN = "FEDCBA9876543210"
DASHBOARD: dict[str, Any] = yaml.safe_load((EXAMPLES / "dashboard.yaml").read_text())
WAITING = "FEDCBA9876543219"
HEIGHT_PIXELS = 1080
"""The height of the complete dashboard."""

BUILT_IN_CARDS = {"button", "conditional", "entities", "grid", "heading", "logbook", "markdown", "tile"}
"""The types of cards in the dashboard; all are part of Home Assistant."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """A Home Assistant with its pages, the visitors' helpers, a logbook and the dashboard; and a broker."""
    folder = tmp_path_factory.mktemp("home-assistant")
    skip_onboarding_except_user(folder)
    home_assistant = HomeAssistant(folder, f"frontend:\nlogbook:\n{add_visitors_package(folder)}")
    async with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        try:
            await home_assistant.start()
            await home_assistant.onboard()
            await home_assistant.add_mqtt(broker.port, "5")
            async with home_assistant.api() as api:
                await api.call("lovelace/dashboards/create", url_path="our-doors", title="Doors", mode="storage")
                await api.call("lovelace/config/save", url_path="our-doors", config=DASHBOARD)
            yield Installation(home_assistant, broker, "5")
        finally:
            await home_assistant.stop()


@pytest_asyncio.fixture
async def browser(installation: Installation, tmp_path: Path) -> AsyncIterator[Browser]:
    """A window as high as the dashboard, with 24-hour times."""
    async with browser_in(installation.home_assistant, tmp_path, "en-GB") as browser:
        await browser.page.set_viewport_size({"width": 1000, "height": HEIGHT_PIXELS})
        yield browser


@asynccontextmanager
async def contact(system: HomeAssistantSystem) -> AsyncIterator[None]:
    """Add a door contact of the user to Home Assistant, closed."""
    discovery = {
        "name": "Front door contact",
        "unique_id": "contact",
        "default_entity_id": "binary_sensor.front_door_contact",
        "device_class": "door",
        "state_topic": "contact",
    }
    await system.client.publish("homeassistant/binary_sensor/contact/config", discovery, retain=True)
    await system.client.publish("contact", "OFF", retain=True)
    await system.api.wait_state("binary_sensor.front_door_contact", "off")
    yield


def values_of(document: object, key: str) -> Iterator[Any]:
    """Yield all values of a key at any depth."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield from value if isinstance(value, list) else [value]
            yield from values_of(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value, key)


async def test_all_cards_are_built_in_and_their_entities_exist(make_system: SystemFactory, browser: Browser) -> None:
    cards = list(values_of(DASHBOARD, "cards")) + list(values_of(DASHBOARD, "card"))
    assert {card["type"] for card in cards} <= BUILT_IN_CARDS
    async with (
        make_system(KNOWN) as system,
        system.terminal(SN).running(),
        system.terminal(WAITING).running(),
        contact(system),
    ):
        await system.api.wait_state("sensor.facebridge_pending_terminals", "1")
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        await system.api.press("button.front_door_open")
        await system.wait_reply("event.front_door_reply", event_type="ok")
        for helper, value in (("visitor", "Ada"), ("visitor_photo", "visitors/ada.jpg")):
            await system.api.perform_action("input_text.set_value", f"input_text.facebridge_{helper}", value=value)
        until = "input_datetime.facebridge_visitor_until"
        await system.api.perform_action("input_datetime.set_datetime", until, datetime="2026-11-27 18:00:00")
        expected = {
            *values_of(DASHBOARD, "entity"),
            *values_of(DASHBOARD, "entity_id"),
            *(each for each in values_of(DASHBOARD, "entities") if isinstance(each, str)),
        }
        assert expected <= set(await system.api.states())
        await browser.open("/our-doors")
        await browser.wait_visible("Front door", "Visitors", "Administration", "Waiting for approval")
        await expect(browser.page.locator("hui-markdown-card").filter(has_text=f"{WAITING}, from")).to_be_visible()
        await expect(browser.page.locator("hui-logbook-card")).to_contain_text("Front door")
        assert await browser.page.locator("hui-tile-card").count() == sum(card["type"] == "tile" for card in cards)
        await expect(browser.page.locator("hui-error-card, hui-warning, hui-warning-element")).to_have_count(0)
        await expect(browser.page.get_by_text("not found")).to_have_count(0)
        await browser.picture("dashboard", HEIGHT_PIXELS)


async def test_door_opens_after_the_confirmation(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system(KNOWN) as system, system.terminal(SN).running() as terminal, contact(system):
        await system.api.wait_state("button.front_door_open", "unknown")
        await browser.open("/our-doors")
        page = browser.page
        door = page.locator("hui-tile-card").filter(has=page.get_by_text("Door", exact=True))
        await expect(door).to_contain_text("Closed")
        card = page.locator("hui-button-card").filter(has=page.get_by_text("Open", exact=True))
        await card.click()
        await browser.wait_visible("Really open the front door?")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(page.get_by_text("Really open the front door?")).to_have_count(0)
        await card.click()
        await page.get_by_role("button", name="OK", exact=True).click()
        await system.wait_reply("event.front_door_reply", command="open", event_type="ok")
        await system.client.publish("contact", "ON", retain=True)
        await expect(door).to_contain_text("Open")

        for name, question in (("Sync persons", "Send all persons"), ("Reboot", "Really reboot")):
            await page.locator("hui-button-card").filter(has=page.get_by_text(name, exact=True)).click()
            await expect(page.get_by_text(question)).to_be_visible()
            await page.get_by_role("button", name="Cancel", exact=True).click()
            await expect(page.get_by_text(question)).to_have_count(0)
        await system.api.press("button.front_door_open")
        await terminal.wait_until(lambda: terminal.opened == 2)
        assert [request.cmd for request in terminal.requests] == ["open", "open"]


async def test_visitor_is_enrolled_from_the_form(make_system: SystemFactory, browser: Browser, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "ada.jpg").write_bytes(sample_photo(1))
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal(SN).running() as terminal,
        contact(system),
        system.blueprint("script", "enrol_visitor", media_folder=str(media)) as script,
        system.blueprint(
            "automation",
            "enrol_visitor_from_helpers",
            script=script,
            terminals=[await system.device_id(SN)],
            button="input_button.facebridge_visitor_enrol",
            visitor="input_text.facebridge_visitor",
            photo="input_text.facebridge_visitor_photo",
            until="input_datetime.facebridge_visitor_until",
        ),
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "on")
        until = "input_datetime.facebridge_visitor_until"
        await system.api.perform_action("input_datetime.set_datetime", until, datetime="2099-01-01 12:00:00")
        await browser.open("/our-doors")
        for name, value in (("Visitor's name", "Ada"), ("Photo's file", "ada.jpg")):
            field = browser.page.locator("hui-input-text-entity-row").filter(has_text=name).locator("input")
            await field.fill(value)
            await field.press("Tab")
        await system.api.wait_state("input_text.facebridge_visitor", "Ada")
        await system.api.wait_state("input_text.facebridge_visitor_photo", "ada.jpg")
        await browser.page.get_by_text("Press", exact=True).click()
        await terminal.wait_until(lambda: [one.name for one in terminal.persons.values()] == ["Ada"])
        await system.api.wait_state("input_text.facebridge_visitor", "")
