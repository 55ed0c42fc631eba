"""Every page: accessible, in both languages and themes, on a phone and a desktop, bare and under a path prefix."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.web.page.page_system import (
    PageBrowser,
    PageSystem,
    accessibility_faults,
    open_door,
    prefix_proxy,
    small_targets,
    wait_live,
)

STATIC = Path(__file__).parents[3] / "bridge" / "web" / "page" / "static"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATHS = [
    "",
    "?state=offline&q=x",
    "terminals/T1",
    "terminals/T1/open",
    "pending/NEW1",
    "connect",
    "terminals/NEW2/edit",
    "terminals/NEW2/forget",
]


@pytest.fixture
async def busy_system(system: PageSystem) -> AsyncIterator[PageSystem]:
    """A bridge with a connected, an offline, a waiting and an approved terminal."""
    async with AsyncExitStack() as stack:
        terminals = [await stack.enter_async_context(system.terminal(sn).running()) for sn in ("T1", "NEW1", "NEW2")]
        await terminals[0].wait_connected()
        for terminal in terminals[1:]:
            await terminal.wait_refused()
        yield system


async def approve(browser: PageBrowser, system: PageSystem, sn: str) -> None:
    page = await browser.open(system.url, f"pending/{sn}")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", name=sn)).to_be_visible()
    await page.context.close()


@pytest.mark.parametrize(
    ("width", "options"),
    [
        (1280, {"color_scheme": "light"}),
        (390, {"color_scheme": "dark", "locale": "zh-CN"}),
        (1920, {"color_scheme": "dark"}),
        (320, {"color_scheme": "light", "locale": "zh-CN", "has_touch": True}),
        (640, {"forced_colors": "active"}),
    ],
)
async def test_pages_are_accessible_and_fit(
    busy_system: PageSystem, browser: PageBrowser, width: int, options: dict[str, Any]
) -> None:
    await approve(browser, busy_system, "NEW2")
    page = await browser.open(busy_system.url, width=width, **options)
    for path in PATHS:
        await page.goto(f"{busy_system.url}/{path}")
        await wait_live(page)
        assert not await accessibility_faults(page), path
        assert not await small_targets(page), path
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, path
    await page.goto(busy_system.url)
    dialog = await open_door(page)
    await expect(dialog.get_by_role("status")).to_be_visible()
    assert not await accessibility_faults(page)


async def test_everything_works_under_a_path_prefix(busy_system: PageSystem, browser: PageBrowser) -> None:
    async with prefix_proxy(busy_system.url) as url:
        page = await browser.open(url)
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        dialog = await open_door(page)
        await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
        await dialog.get_by_role("link", name="Close").click()
        await page.get_by_role("link", name="Front door", exact=True).click()
        await wait_live(page)
        await page.get_by_label("Language").select_option("zh-CN")
        await page.get_by_label("Appearance").select_option("dark")
        await page.get_by_role("button", name="Apply").click()
        await expect(page.locator("html[lang=zh-CN][data-theme=dark]")).to_be_attached()
        assert page.url == f"{url}/terminals/T1"
        await page.get_by_role("link", name="Facebridge").click()
        await expect(page.locator("html[lang=zh-CN][data-theme=dark]")).to_be_attached()
        await page.locator("#pending-NEW1 a").click()
        await page.locator("form.card button").click()
        await expect(page).to_have_url(f"{url}/terminals/NEW1")
        await wait_live(page)
        await browser.close_pages()
        assert requested
        assert not [one for one in requested if not one.startswith(url)]


async def test_language_and_theme_are_kept_without_javascript(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url, "?state=offline", java_script_enabled=False)
    await page.locator("select[name=language]").select_option("zh-CN")
    await page.locator("select[name=theme]").select_option("dark")
    await page.locator("footer button").click()
    await expect(page.locator("html[lang=zh-CN][data-theme=dark]")).to_be_attached()
    assert page.url == f"{system.url}/?state=offline"
    await page.goto(f"{system.url}/connect")
    await expect(page.get_by_role("heading", name="连接终端")).to_be_visible()
    assert not await accessibility_faults_without_scripts(page)


async def test_every_page_can_be_read_and_a_terminal_approved_without_javascript(
    busy_system: PageSystem, browser: PageBrowser
) -> None:
    page = await browser.open(busy_system.url, java_script_enabled=False)
    await page.get_by_role("link", name="Approve NEW1").click()
    await page.get_by_label("Name of the door").fill("Garage")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", name="Garage")).to_be_visible()
    await page.goto(busy_system.url)
    await page.get_by_role("button", name="Refuse NEW2").click()
    await expect(page.get_by_role("heading", name="waits for approval")).to_have_count(0)
    for section in ("Terminals", "Persons", "Log", "Health"):
        await page.get_by_role("navigation", name="Sections").get_by_role("link", name=section).click()
        await expect(page.get_by_role("heading", level=1, name=section)).to_be_visible()
        assert not await accessibility_faults_without_scripts(page)
        # Nothing says that the page is live: only a script can know.
        await expect(page.locator("#live")).to_be_hidden()
    await page.goto(f"{busy_system.url}/log")
    await expect(page.locator(".rows.log > li").first).to_contain_text("Forget")
    await expect(page.locator("time").first).not_to_be_empty()


async def accessibility_faults_without_scripts(page: Any) -> list[str]:
    """Return headings that skip a level: axe cannot run where scripts are off."""
    levels = [
        int(tag[1]) for tag in await page.locator("h1, h2, h3").evaluate_all("all => all.map(one => one.tagName)")
    ]
    return [] if levels and levels[0] == 1 else ["the page does not begin with h1"]


async def test_first_page_is_small(system: PageSystem, browser: PageBrowser) -> None:
    context = await browser.context(system.url)
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    await session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    await page.goto(system.url)
    await wait_live(page)
    assert len(sizes) <= 8
    assert sum(sizes) <= 60_000
    assert sum(len(file.read_bytes()) for file in STATIC.glob("*.js")) <= 15_000
    sizes.clear()
    await page.goto(f"{system.url}/?state=online")
    await wait_live(page)
    from_server = [size for size in sizes if size]
    assert len(from_server) <= 3
