"""Pictures of each page for docs/page.md; scripts/draw-page-pictures saves them in docs/pictures."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Page, expect

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PICTURES_FOLDER = "PICTURES_FOLDER"
"""The environment variable with the folder for pictures; scripts/draw-page-pictures sets it."""

_COLOURS = 160
"""Text on a plain background needs few colours; the file becomes a third of its size."""

KNOWN: dict[str, dict[str, Any]] = {
    "FEDCBA9876543210": {"name": "Front door", "area": "Lobby", "groups": ["lobby"]},
    "FEDCBA9876543211": {"name": "Back door", "area": "Yard", "groups": ["lobby"]},
    "FEDCBA9876543212": {"name": "Garage", "area": "Yard"},
}
FRONT, BACK, GARAGE = KNOWN


async def save(page: Page, folder: Path, name: str, *, full_page: bool = True) -> None:
    await page.mouse.move(1, 1)
    shot = await page.screenshot(animations="disabled", caret="hide", full_page=full_page)
    folder = Path(os.environ.get(PICTURES_FOLDER, folder))
    with Image.open(io.BytesIO(shot)) as image:
        reduced = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        reduced.save(folder / f"{name}.png", optimize=True)
    assert (folder / f"{name}.png").stat().st_size < 150_000


async def test_pictures(tmp_path: Path, browser: PageBrowser) -> None:
    async with (
        PageSystem(tmp_path, KNOWN) as system,
        system.terminal(FRONT).running() as front,
        system.terminal(BACK).running() as back,
        system.terminal("FEDCBA9876543213").running() as waiting,
    ):
        await front.wait_connected()
        await back.wait_connected()
        await waiting.wait_refused()
        back.behaviour = Behaviour(refusal=Refusal(3, "no face found"), only_for=frozenset({"1002"}))
        photo = tmp_path / "photo.jpg"
        for number, name in ((1001, "Ada Lovelace"), (1002, "Grace Hopper")):
            photo.write_bytes(sample_photo(number))
            page = await browser.open(system.url, "person-new", width=1100)
            await page.get_by_label("Number", exact=True).fill(str(number))
            await page.get_by_label("Name", exact=True).fill(name)
            await page.get_by_label("Monday").fill("08:00-12:00;13:00-17:30")
            await page.get_by_role("button", name="Copy to every day").click()
            await page.get_by_label("Sunday").fill("")
            await page.get_by_label("Choose a picture").set_input_files(photo)
            await expect(page.locator("#photo-verdict")).to_contain_text("can be used")
            await page.get_by_label("All terminals").check()
            if number == 1001:
                await save(page, tmp_path, "page-form")
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
        await until(lambda: set(front.persons) == {"1001", "1002"} and set(back.persons) == {"1001"})

        page = await browser.open(system.url, width=1100)
        await wait_live(page)
        await expect(page.locator(f"#terminal-{BACK}")).to_contain_text("refused")
        await save(page, tmp_path, "page-terminals")
        await page.locator(f"#terminal-{FRONT} .actions a").click()
        await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("Open Front door?")
        await save(page, tmp_path, "page-open", full_page=False)
        await page.get_by_role("dialog").locator("button.primary").click()
        await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("The door is open.")

        phone: dict[str, Any] = {"width": 390, "locale": "zh-CN", "color_scheme": "dark"}
        for path, name, options in (
            ("persons/1002", "page-person", {"width": 1100}),
            ("", "page-phone", phone),
            ("log", "page-log", {"width": 1100}),
            ("health", "page-health", {"width": 1100}),
            ("connect", "page-connect", {"width": 1100}),
        ):
            page = await browser.open(system.url, path, **options)
            await wait_live(page)
            await save(page, tmp_path, name)

        table = tmp_path / "persons.csv"
        table.write_text("id,name,card\n1001,Ada King,0042\n1002,Grace Hopper,\n")
        page = await browser.open(system.url, "import", width=1100)
        await page.get_by_label("File", exact=True).set_input_files(table)
        await page.get_by_role("button", name="Check the file").click()
        await expect(page.get_by_role("button", name="Apply the differences")).to_be_visible()
        await save(page, tmp_path, "page-import")
        await browser.close_pages()


async def test_picture_of_the_login(tmp_path: Path, browser: PageBrowser) -> None:
    async with PageSystem(tmp_path, KNOWN, web={"username": "admin", "password": "secret"}) as system:
        page = await browser.open(system.url, width=700)
        await page.get_by_label("User").fill("guard")
        await page.get_by_label("Password").fill("secret")
        await save(page, tmp_path, "page-login")
        await browser.close_pages()
