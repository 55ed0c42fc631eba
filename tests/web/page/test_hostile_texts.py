"""Texts from others stay text on every page: names, groups, refusals, files, users, and in the export."""

import asyncio
import csv
import io
import json
import zipfile
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Page, expect

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.web.page.page_system import PageBrowser, PageSystem, open_door, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EVIL = "<img src=x onerror=\"document.title='broken'\">{{7*7}}%(name)s&amp;"
USER = "<b onclick=x>admin</b>"


async def assert_only_text(page: Page, path: str) -> None:
    """Check that nothing of a text became an element, and no script of it ran."""
    assert await page.locator("img[src=x], b[onclick], script:not([src])").count() == 0, path
    assert await page.title() != "broken", path
    assert "49" not in await page.locator("main").inner_text(), path


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
async def test_texts_of_others_stay_text_everywhere(tmp_path: Path, browser: PageBrowser, locale: str) -> None:
    web = {"username": USER, "password": "secret"}
    person = {
        "name": EVIL,
        "card": "<img src=x>",
        "id_number": "<img src=x>",
        "photo": b64encode(sample_photo(1)).decode(),
    }
    login = {"Authorization": aiohttp.encode_basic_auth(USER, "secret")}
    async with (
        PageSystem(tmp_path, {"T1": {"name": EVIL, "area": EVIL}}, web=web) as system,
        system.terminal("T1").running() as terminal,
        system.terminal("NEW1").running() as waiting,
        aiohttp.ClientSession(system.url, headers=login) as session,
    ):
        await terminal.wait_connected()
        await waiting.wait_refused()
        terminal.behaviour = Behaviour(refusal=Refusal(7, EVIL))
        async with session.put("/api/terminals/T1/persons/1001", json=person) as response:
            assert response.status == 202, await response.text()
        # A pending terminal gets the name as its name, area and refusal.
        async with session.post("/api/pending/NEW2/admit", json={"name": EVIL, "area": EVIL}) as response:
            assert response.status == 200, await response.text()
        page = await browser.open(system.url, locale=locale, extra_http_headers=login)
        dialog = await open_door(page)
        await expect(dialog.get_by_role("status")).to_contain_text("document.title")
        await assert_only_text(page, "dialog")

        async def is_refused() -> bool:
            async with session.get("/api/persons?delivery=refused") as response:
                return bool((await response.json())["total"])

        async with asyncio.timeout(30):
            while not await is_refused():
                await asyncio.sleep(0.1)
        search = quote(EVIL)
        paths = [
            "", f"?q={search}", "terminals/T1", "terminals/T1/open", "terminals/NEW2/edit", "terminals/NEW2/forget",
            "pending/NEW1", "persons", f"persons?q={search}", "persons/1001", "persons/1001/edit",
            "persons/1001/remove", "person-new", "import", "export", "log", f"log?user={search}&sn={search}", "health",
        ]  # fmt: skip
        shown = 0
        for path in paths:
            await page.goto(f"{system.url}/{path}")
            await wait_live(page)
            await assert_only_text(page, path)
            shown += (await page.content()).count("document.title=")
        assert shown > len(paths)
        await expect_import_stays_text(page, system, tmp_path)
        async with session.post("/export", data={"target": "terminal:T1"}) as response:
            with zipfile.ZipFile(io.BytesIO(await response.read())) as archive:
                name = next(one for one in archive.namelist() if one.endswith(".csv"))
                (row,) = csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig")))
        assert row["name"] == EVIL
        await browser.close_pages()
    browser.errors[:] = [error for error in browser.errors if "Failed to load resource" not in error]


async def expect_import_stays_text(page: Page, system: PageSystem, folder: Path) -> None:
    """Import a file whose name, values and faults are hostile."""
    for rows in ([{"id": "1001", "name": EVIL + "2"}], [{"id": EVIL, "name": EVIL, EVIL: EVIL}]):
        file = folder / "<img src=x onerror=alert(1)>.json"
        file.write_text(json.dumps({"persons": rows}))
        await page.goto(f"{system.url}/import")
        await page.locator("#target").select_option("terminal:T1")
        await page.locator("#file").set_input_files(file)
        await page.locator("form.card button").click()
        await expect(page.locator(".differences, .faults, .note.bad").first).to_be_visible()
        await assert_only_text(page, "import job")
        await page.goto(f"{system.url}/import")
        await assert_only_text(page, "import")
