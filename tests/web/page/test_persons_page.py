"""The pages of persons in a real browser: search, adding with a photo, editing, the state on each terminal, removal."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Page, expect

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, accessibility_faults, small_targets, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "ada.jpg"
    file.write_bytes(sample_photo(1))
    return file


async def add_person(page: Page, system: PageSystem, photo: Path, name: str = "Ada", number: str = "1001") -> None:
    await page.goto(f"{system.url}/person-new")
    await page.get_by_label("Number", exact=True).fill(number)
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("Choose a picture").set_input_files(photo)
    await page.get_by_label("All terminals").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


async def test_person_is_added_with_a_cropped_photo(system: PageSystem, browser: PageBrowser, photo: Path) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url, "persons")
        await expect(page.get_by_role("heading", name="No persons yet")).to_be_visible()
        await page.get_by_role("link", name="Add a person").first.click()
        await page.get_by_label("Number", exact=True).fill("1001")
        await page.get_by_label("Name", exact=True).fill("Ada")
        await page.get_by_label("Choose a picture").set_input_files(photo)
        await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")
        await page.get_by_role("slider", name="Zoom").fill("1.5")
        await page.locator("canvas").focus()
        await page.keyboard.press("ArrowLeft")
        await page.get_by_label("All terminals").check()
        await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")
        assert not await accessibility_faults(page)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", level=1, name="Ada")).to_be_visible()
        await until(lambda: "1001" in terminal.persons)
        with Image.open(await saved_photo(page, system, photo)) as stored:
            assert stored.size == (640, 480)
        await expect(page.get_by_role("heading", name="On 1 of 2 terminals")).to_be_visible()
        await expect(page.locator(".places li").nth(1)).to_contain_text("waits until the terminal is online")
        assert await page.locator("img.portrait").evaluate("image => image.naturalWidth") == 640


async def saved_photo(page: Page, system: PageSystem, photo: Path) -> Path:
    response = await page.request.get(f"{system.url}/persons/1001/photo")
    file = photo.with_name("stored.jpg")
    file.write_bytes(await response.body())
    return file


async def test_hints_and_errors_of_a_photo_are_shown_at_once(
    system: PageSystem, browser: PageBrowser, tmp_path: Path
) -> None:
    dark, tiny, broken = tmp_path / "dark.png", tmp_path / "tiny.png", tmp_path / "broken.jpg"
    Image.new("RGB", (800, 600), (20, 20, 20)).save(dark)
    Image.new("RGB", (120, 90), (200, 180, 160)).save(tiny)
    broken.write_bytes(b"this is no picture")
    page = await browser.open(system.url, "person-new")
    choose = page.get_by_label("Choose a picture")
    await choose.set_input_files(dark)
    await expect(page.locator("[data-hint]")).to_contain_text("The face is dark")
    await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")
    await choose.set_input_files(tiny)
    await expect(page.locator("[data-hint]")).to_contain_text("The picture is small")
    await choose.set_input_files(broken)
    await expect(page.locator("#photo-verdict")).to_contain_text("This picture cannot be used.")


async def test_camera_takes_the_photo(system: PageSystem, browser: PageBrowser) -> None:
    context = await browser.context(system.url, permissions=["camera"])
    page = await context.new_page()
    await page.goto(f"{system.url}/person-new")
    await page.get_by_role("button", name="Use this device's camera").click()
    await page.get_by_role("button", name="Take the picture").click()
    await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")


async def test_refusal_stands_beside_the_photo_and_in_the_list(
    system: PageSystem, browser: PageBrowser, photo: Path
) -> None:
    async with system.terminal("T1").running() as first, system.terminal("T2").running() as second:
        first.behaviour = Behaviour(refusal=Refusal(3, "no face found"))
        await first.wait_connected()
        await second.wait_connected()
        page = await browser.open(system.url)
        await add_person(page, system, photo)
        await expect(page.get_by_role("heading", name="On 1 of 2 terminals")).to_be_visible()
        await expect(page.locator(".places li").first).to_contain_text("no face found")
        await expect(page.locator("img.portrait")).to_be_visible()
        await page.get_by_role("link", name="Persons").first.click()
        await page.get_by_role("link", name="Refused", exact=True).click()
        await expect(page.locator(".rows.persons > li")).to_have_count(1)
        await page.get_by_role("link", name="Confirmed", exact=True).click()
        await page.get_by_role("searchbox").fill("aDa")
        await page.keyboard.press("Enter")
        await expect(page.locator(".rows.persons > li")).to_have_count(1)
        await page.get_by_role("searchbox").fill("Grace")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("No person matches.")).to_be_visible()


async def test_person_is_edited_by_keyboard(system: PageSystem, browser: PageBrowser, photo: Path) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await add_person(page, system, photo)
        await page.get_by_role("link", name="Edit").focus()
        await page.keyboard.press("Enter")
        await page.get_by_label("Card").fill("0042")
        await page.get_by_label("Valid until").fill("2030-01-31T18:00")
        await page.get_by_label("Monday").fill("09:00-12:35;13:25-16:25")
        await expect(page.locator("dl.week dd").first.locator(".bar")).to_have_count(2)
        await expect(page.get_by_label("Only at these hours")).to_be_checked()
        await page.get_by_role("button", name="Copy to every day").press("Enter")
        await page.get_by_label("Sunday").fill("")
        await page.get_by_role("button", name="Save").press("Enter")
        await expect(page.locator("#person")).to_contain_text("0042")
        await expect(page.locator("dl.week dd").first).to_contain_text("09:00-12:35, 13:25-16:25")
        await expect(page.locator("dl.week dd").last).to_contain_text("closed")
        await until(lambda: terminal.persons["1001"].card == "0042")
        assert (terminal.persons["1001"].weekly or {})["Tuesday"] == "09:00-12:35;13:25-16:25"
        await page.get_by_role("link", name="Edit").click()
        await expect(page.get_by_label("Valid until")).to_have_value("2030-01-31T18:00")
        await page.get_by_label("Tuesday").fill("25:00-26:00")
        await page.get_by_label("Passes").fill("many")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert").first).to_contain_text("Nothing was saved.")
        await expect(page.get_by_label("Tuesday")).to_have_value("25:00-26:00")
        await expect(page.get_by_label("Passes")).to_have_attribute("aria-invalid", "true")
        browser.errors.clear()


async def test_person_is_disabled_and_removed_with_proof(system: PageSystem, browser: PageBrowser, photo: Path) -> None:
    second = system.terminal("T2")
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await add_person(page, system, photo)
        await until(lambda: "1001" in terminal.persons)
        await page.get_by_role("button", name="Disable").click()
        await expect(page.get_by_role("button", name="Enable")).to_be_visible()
        await until(lambda: "1001" not in terminal.persons)
        await page.get_by_role("button", name="Enable").click()
        await until(lambda: "1001" in terminal.persons)
        await page.get_by_role("link", name="Remove everywhere").click()
        await page.get_by_role("button", name="Remove Ada").click()
        await until(lambda: "1001" not in terminal.persons)
        await expect(page.get_by_text("The terminals below have not confirmed it yet.")).to_be_visible()
        await wait_live(page)
        async with second.running():
            await expect(page.get_by_text("Removed everywhere.")).to_be_visible()


async def test_person_is_added_without_javascript(system: PageSystem, browser: PageBrowser, photo: Path) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url, java_script_enabled=False)
        await page.goto(f"{system.url}/person-new")
        await page.get_by_label("Number", exact=True).fill("1001")
        await page.get_by_label("Name", exact=True).fill("<b>Ada</b>")
        await page.get_by_label("Choose a picture").set_input_files(photo)
        await page.get_by_label("Front door").check()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", level=1, name="<b>Ada</b>")).to_be_visible()
        await until(lambda: "1001" in terminal.persons)


@pytest.mark.parametrize(
    ("width", "locale", "scheme"), [(1280, "en", "light"), (390, "zh-CN", "dark"), (320, "en", "dark")]
)
async def test_pages_of_persons_are_accessible_and_fit(
    system: PageSystem, browser: PageBrowser, photo: Path, width: int, locale: str, scheme: str
) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        await add_person(await browser.open(system.url), system, photo)
        page = await browser.open(system.url, width=width, locale=locale, color_scheme=scheme)
        for path in ("persons", "persons/1001", "persons/1001/edit", "person-new", "persons/1001/remove"):
            await page.goto(f"{system.url}/{path}")
            await wait_live(page)
            assert not await accessibility_faults(page), path
            assert not await small_targets(page), path
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
