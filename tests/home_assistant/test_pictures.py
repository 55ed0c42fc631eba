"""Home Assistant's pages in the order of docs/home-assistant.md, and the pictures of that document."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from playwright.async_api import expect

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.home_assistant.home_assistant_system import Installation, SystemFactory
from tests.support.browser import Browser, browser_in, skip_onboarding_except_user
from tests.support.home_assistant import HomeAssistant
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FRONT = "FEDCBA9876543210"
BACK = "FEDCBA9876543211"
KNOWN = {FRONT: {"name": "Front door", "area": "Lobby"}, BACK: {"name": "Back door", "area": "Yard"}}

DOCUMENT = (Path(__file__).parents[2] / "docs" / "home-assistant.md").read_text()


def example(start: str) -> dict[str, Any]:
    """Return the YAML example of the document that starts with this text."""
    found: dict[str, Any] = yaml.safe_load(start + DOCUMENT.partition(f"```yaml\n{start}")[2].partition("```")[0])
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """A Home Assistant with its pages, and a broker."""
    folder = tmp_path_factory.mktemp("home-assistant")
    skip_onboarding_except_user(folder)
    automations = json.dumps([example("alias:")])
    home_assistant = HomeAssistant(folder, f"frontend:\nautomation: {automations}\n")
    async with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        try:
            await home_assistant.start()
            await home_assistant.onboard()
            await home_assistant.add_mqtt(broker.port, "5")
            yield Installation(home_assistant, broker, "5")
        finally:
            await home_assistant.stop()


@pytest_asyncio.fixture
async def browser(installation: Installation, tmp_path: Path) -> AsyncIterator[Browser]:
    """A window in English."""
    async with browser_in(installation.home_assistant, tmp_path) as browser:
        yield browser


def publish_action(topic: str, payload: Mapping[str, str]) -> str:
    """Return the action that publishes a payload; the document must contain the same YAML."""
    action = f"action: mqtt.publish\ndata:\n  topic: {topic}\n  qos: 1\n  payload: >-\n    {json.dumps(payload)}\n"
    assert f"```yaml\n{action}```" in DOCUMENT
    return action


async def test_terminal_waits_and_is_approved(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system({}) as system, system.terminal(FRONT).running() as terminal:
        await system.api.wait_state("sensor.facebridge_pending_terminals", "1")
        await browser.open_device((await system.api.devices())["facebridge"]["id"])
        details = await browser.open_details("Pending terminals")
        await expect(details).to_contain_text(re.compile(rf"address: 127\.0\.0\.1\s*sn: {FRONT}"))
        await browser.picture("pending")

        await browser.perform(
            publish_action("facebridge/bridge/admit/set", {"sn": FRONT, "name": "Front door", "area": "Lobby"}),
            "approve",
        )
        await system.wait_devices("Facebridge", "Front door")
        await terminal.wait_connected()


async def test_integration_and_its_devices(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system(KNOWN) as system, system.terminal(FRONT).running(), system.terminal(BACK).running():
        await system.api.wait_state("sensor.facebridge_terminals_online", "2")
        await browser.open("/config/integrations/integration/mqtt")
        await browser.wait_visible("Facebridge", "Front door", "Back door")
        await browser.picture("integration")
        entry = (await system.api.call("config_entries/get", domain="mqtt"))[0]["entry_id"]
        await browser.open(f"/config/devices/dashboard?config_entry={entry}")
        await browser.wait_visible("Facebridge", "Front door", "Lobby", "Back door", "Yard")
        await browser.picture("devices", 400)


async def test_press_on_the_page(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system(KNOWN) as system, system.terminal(FRONT).running() as terminal:
        await system.api.wait_state("button.front_door_open", "unknown")
        await browser.open_device((await system.api.devices())[f"facebridge_{FRONT}"]["id"])
        await expect(browser.row("Connection")).to_contain_text("Connected")
        await browser.picture("terminal", 940)

        await browser.row("Open").get_by_text("Press").click()
        await system.wait_reply("event.front_door_reply", command="open", event_type="ok")
        assert terminal.opened == 1
        details = await browser.open_details("Reply")
        # The page's text has each value before its name.
        await expect(details).to_contain_text(re.compile(r"\bopen\s+Command\b"))
        await expect(details).to_contain_text(re.compile(r"\bok\s+Event type\b"))
        await browser.picture("reply", 850)
        assert terminal.opened == 1


async def test_example_card_and_example_automation(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system(KNOWN) as system, system.terminal(FRONT).running() as terminal:
        await system.api.wait_state("button.front_door_open", "unknown")
        view = {"title": "Doors", "cards": [example("type: button")]}
        await system.api.call("lovelace/dashboards/create", url_path="our-doors", title="Doors", mode="storage")
        await system.api.call("lovelace/config/save", url_path="our-doors", config={"views": [view]})
        await browser.open("/our-doors")
        card = browser.page.locator("hui-button-card")
        await card.click()
        await browser.page.get_by_role("button", name="Cancel").click()
        terminal.behaviour = Behaviour(refusal=Refusal(7, "the lock is stuck"))
        await card.click()
        await browser.wait_visible("Open the front door?")
        await browser.page.get_by_role("button", name="OK").click()
        await system.wait_reply("event.front_door_reply", command="open", event_type="refused")

        async def notified() -> bool:
            shown = await system.api.call("persistent_notification/get")
            return "refused: the lock is stuck" in [notification["message"] for notification in shown]

        await system.api.wait_until(notified, "the automation has sent its notification")
        assert [request.cmd for request in terminal.requests] == ["open"]


async def test_offline_terminal(make_system: SystemFactory, browser: Browser) -> None:
    async with make_system(KNOWN) as system:
        terminal = system.terminal(FRONT)
        async with terminal.running():
            await system.api.wait_state("button.front_door_open", "unknown")
        await system.api.wait_state("button.front_door_open", "unavailable")
        await browser.open_device((await system.api.devices())[f"facebridge_{FRONT}"]["id"])
        await expect(browser.row("Connection")).to_contain_text("Disconnected")
        await expect(browser.row("Open").get_by_role("button", name="Press")).to_be_disabled()
        await browser.picture("away", 940)
        assert terminal.opened == 0


async def test_person_is_enrolled(make_system: SystemFactory, browser: Browser, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal(FRONT).running() as terminal,
    ):
        (media / "ada.jpg").write_bytes(sample_photo(1))
        person = {"id": "1001", "name": "Ada", "photo_file": "ada.jpg"}
        await browser.perform(publish_action(f"facebridge/terminal/{FRONT}/person/set", person), "enrol")
        attributes = await system.wait_reply("event.front_door_reply", command="setPerson", event_type="ok")
        assert (attributes["person_id"], set(terminal.persons)) == ("1001", {"1001"})
        # With QoS 0 the message would contain a warning.
        accepted = next(heard.json for heard in system.client.heard if heard.topic.endswith(f"{FRONT}/reply"))
        assert (accepted["outcome"], accepted["message"]) == ("accepted", "stored")


async def test_in_chinese(make_system: SystemFactory, installation: Installation, tmp_path: Path) -> None:
    # A serial number of its own: Home Assistant remembers the area of a terminal that it had before.
    sn = "FEDCBA9876543212"
    async with (
        make_system({sn: {"name": "前门", "area": "大堂"}}) as system,
        system.terminal(sn).running(),
        browser_in(installation.home_assistant, tmp_path, "zh-Hans") as browser,
    ):
        await system.api.wait_state(f"button.terminal_{sn.lower()}_open", "unknown")
        await browser.open_device((await system.api.devices())[f"facebridge_{sn}"]["id"])
        await browser.wait_visible("前门", "位于：大堂", "控制", "Open")
        await expect(browser.row("Connection")).to_contain_text("已连接")
        await browser.picture("terminal-zh", 940)
