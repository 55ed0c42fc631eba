"""Imports on the page: the differences before anything changes, progress, faults, and the export; log and health."""

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from bridge.simulator.faces import sample_photo
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, accessibility_faults, open_door, small_targets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def archive(folder: Path, rows: list[dict[str, str]], name: str = "persons.zip") -> Path:
    """Write a ZIP of a CSV and a photo for each person."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    file = folder / name
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("persons.csv", table.getvalue())
        for number, row in enumerate(rows):
            opened.writestr(f"{row['id']}.jpg", sample_photo(number))
    return file


async def upload(page: Page, system: PageSystem, file: Path, *, prune: bool = False) -> None:
    await page.goto(f"{system.url}/import")
    await page.get_by_label("File", exact=True).set_input_files(file)
    if prune:
        await page.get_by_label("Remove persons that are not in the file").check()
    await page.get_by_role("button", name="Check the file").click()


async def test_import_shows_differences_first_and_then_applies_them(
    system: PageSystem, browser: PageBrowser, tmp_path: Path
) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        rows = [{"id": str(number), "name": f"Person {number}"} for number in range(1, 6)]
        await upload(page, system, archive(tmp_path, rows))
        await expect(page.get_by_text("10 new, 0 changed, 0 removed; 0 unchanged; on 2 terminals")).to_be_visible()
        assert not terminal.persons
        assert not await accessibility_faults(page)
        assert not await small_targets(page)
        await page.get_by_role("button", name="Apply the differences").click()
        await expect(page.get_by_text("Imported.")).to_be_visible()
        await until(lambda: len(terminal.persons) == 5)

        rows = [{"id": "1", "name": "<b>Renamed</b>"}, {"id": "2", "name": "Person 2"}]
        await upload(page, system, archive(tmp_path, rows), prune=True)
        await expect(page.locator(".differences")).to_contain_text("<b>Renamed</b>")
        await expect(page.get_by_text("6 removed")).to_be_visible()
        await page.get_by_role("button", name="Apply the differences").click()
        # The browser asks for the confirmation.
        await expect(page.get_by_text("Imported.")).to_be_hidden()
        await page.get_by_label("Yes, remove 3 of 5 persons").check()
        await page.get_by_role("button", name="Apply the differences").click()
        await expect(page.get_by_text("Imported.")).to_be_visible()
        await until(lambda: set(terminal.persons) == {"1", "2"})
        assert not list(tmp_path.glob("facebridge-import-*/*"))

        await page.goto(f"{system.url}/export")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Export").click()
        exported = tmp_path / "exported.zip"
        await (await download.value).save_as(exported)
        with zipfile.ZipFile(exported) as opened:
            table = next(name for name in opened.namelist() if name.endswith(".csv"))
            assert {row["name"] for row in csv.DictReader(io.StringIO(opened.read(table).decode("utf-8-sig")))} == {
                "<b>Renamed</b>",
                "Person 2",
            }


async def test_faults_are_listed_and_nothing_is_changed(
    system: PageSystem, browser: PageBrowser, tmp_path: Path
) -> None:
    page = await browser.open(system.url)
    await upload(page, system, archive(tmp_path, [{"id": "1", "name": "Ada"}, {"id": "?", "name": "x"}]))
    await expect(page.get_by_text("The file has faults, so nothing was changed.")).to_be_visible()
    await expect(page.locator(".faults")).to_contain_text("row 3")
    assert await page.get_by_role("button", name="Apply the differences").count() == 0
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"persons": 5}))
    await upload(page, system, broken)
    await expect(page.get_by_role("alert").first).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("heading", name="Import persons")).to_be_visible()


async def test_import_works_without_javascript(system: PageSystem, browser: PageBrowser, tmp_path: Path) -> None:
    async with system.terminal("T1").running() as terminal:
        page = await browser.open(system.url, java_script_enabled=False)
        await upload(page, system, archive(tmp_path, [{"id": "1", "name": "Ada"}]))
        await page.get_by_role("button", name="Apply the differences").click()
        await expect(page.get_by_text("Imported.")).to_be_visible()
        await until(lambda: "1" in terminal.persons)


async def test_log_is_live_and_filtered(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        log = await browser.open(system.url, "log")
        await expect(log.get_by_text("Nothing here yet")).to_be_visible()
        await open_door(await browser.open(system.url))
        await expect(log.locator(".rows.log > li")).to_have_count(1)
        await expect(log.locator(".rows.log")).to_contain_text("Front door")
        assert not await accessibility_faults(log)
        await log.get_by_label("Outcome").select_option("refused")
        await log.get_by_role("button", name="Filter").click()
        await expect(log.get_by_text("Nothing here yet")).to_be_visible()
        await log.reload()
        await expect(log.get_by_label("Outcome")).to_have_value("refused")


@pytest.mark.parametrize(("width", "locale"), [(1280, "en"), (320, "zh-CN")])
async def test_health_names_problems_and_is_accessible(
    system: PageSystem, browser: PageBrowser, width: int, locale: str
) -> None:
    page = await browser.open(system.url, "health", width=width, locale=locale)
    await expect(page.locator(".state.good")).to_have_count(3)
    for path in ("health", "log", "import", "export"):
        await page.goto(f"{system.url}/{path}")
        await expect(page.locator("#live")).to_have_attribute("data-state", "yes")
        assert not await accessibility_faults(page), path
        assert not await small_targets(page), path
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    await page.goto(f"{system.url}/health")
    await system.broker.stop()
    await expect(page.locator(".state.bad")).to_have_count(2)
    await system.broker.start()
    # The bridge waits longer and longer between its attempts to connect.
    await expect(page.locator(".state.bad")).to_have_count(0, timeout=60_000)
