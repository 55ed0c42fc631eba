"""The forms of the palette's nodes in the editor of real Node-REDs, in English and Chinese."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests.node_red.palette import OUTPUTS, PACKAGE, install, pack
from tests.support.node_red import NodeRed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FIELDS = {
    "facebridge-open": {"command": "reboot", "scope": "group", "target": "lobby", "timeout": "7", "name": "Reboot all"},
    "facebridge-person": {
        "action": "remove",
        "scope": "group",
        "target": "lobby",
        "person": "a",
        "timeout": "7",
        "name": "x",
    },
    "facebridge-events": {"target": "T1", "name": "Events of T1"},
}
"""The values that the form of each node shows, besides the broker and the base topic."""


@pytest_asyncio.fixture(params=["5", "4"])
async def node_red(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NodeRed]:
    """A Node-RED of each supported major version, with the package."""
    folder = tmp_path / "user"
    folder.mkdir()
    (tmp_path / "package").mkdir()
    install(pack(tmp_path / "package"), folder)
    process = NodeRed(request.param, folder)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


async def open_form(page: Page, kind: str) -> None:
    """Open the form of a new node, as a double click does."""
    nodes = [
        {"id": "b1", "type": "mqtt-broker", "broker": "broker.example", "port": "1883", "name": "The broker"},
        {"id": kind, "type": kind, "x": 100, "y": 100, "broker": "b1", "baseTopic": "doors", "targetType": "str",
         "personType": "str", "wires": [[] for _ in range(OUTPUTS[kind])], **FIELDS[kind]},
    ]  # fmt: skip
    await page.evaluate(
        "([nodes, id]) => { RED.nodes.import(nodes, {generateIds: false}); RED.editor.edit(RED.nodes.node(id)); }",
        [nodes, kind],
    )
    await page.locator("#node-input-name").wait_for()


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
async def test_each_form_has_its_fields_with_labels_and_values(node_red: NodeRed, language: str) -> None:
    texts = json.loads((PACKAGE / f"nodes/locales/{language}/facebridge.json").read_text())["facebridge"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for kind, fields in FIELDS.items():
            page = await browser.new_page(locale=language)
            await page.goto(node_red.url)
            await page.wait_for_function("window.RED?.nodes?.getType?.('facebridge-events')")
            await open_form(page, kind)
            for name, value in fields.items():
                assert await page.locator(f"#node-input-{name}").input_value() == value, name
                label = "only" if (kind, name) == ("facebridge-events", "target") else name
                assert await page.locator(f"label[for=node-input-{name}]").inner_text() == f" {texts['label'][label]}"
            assert await page.locator("#node-input-baseTopic").input_value() == "doors"
            assert await page.locator("select#node-input-broker").input_value() == "b1"
            for name in {"command", "action", "scope"} & fields.keys():
                shown = await page.locator(f"#node-input-{name} option").all_inner_texts()
                assert shown == list(texts[name].values())
            await page.close()
        await browser.close()
