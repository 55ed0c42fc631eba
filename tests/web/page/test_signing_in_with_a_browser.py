"""The login page in a real Chromium: with and without scripts, both languages and themes, the end of a session."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.web.page.page_system import (
    PageBrowser,
    PageSystem,
    accessibility_faults,
    prefix_proxy,
    small_targets,
    wait_live,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOKENS = {"guard": {"hash": "guard-token", "role": "operator"}}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[PageSystem]:
    """A bridge that needs a login."""
    async with PageSystem(tmp_path, web={"username": "admin", "password": "secret", "tokens": TOKENS}) as system:
        yield system


async def sign_in(page: Page, name: str = "admin", password: str = "secret") -> None:
    await page.locator("#name").fill(name)
    await page.locator("#password").fill(password)
    await page.locator("form.card button").click()


async def test_the_login_page_is_accessible_and_fits(guarded: PageSystem, browser: PageBrowser) -> None:
    for width, options in (
        (390, {"color_scheme": "dark", "locale": "zh-CN"}),
        (1280, {"color_scheme": "light"}),
        (320, {"color_scheme": "light", "has_touch": True}),
        (640, {"forced_colors": "active"}),
    ):
        page = await browser.open(guarded.url, width=width, **options)
        await expect(page.locator("#name")).to_be_focused()
        await check_page(page)
        await sign_in(page, password="guess")
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.locator("#password")).to_be_focused()
        await expect(page.locator("#name")).to_have_value("admin")
        await check_page(page)
        await sign_in(page)
        await wait_live(page)
        await check_page(page)
        await page.context.close()
    # The browser reports the response to the wrong login.
    assert all("403" in error for error in browser.errors)
    browser.errors.clear()


async def check_page(page: Page) -> None:
    assert not await accessibility_faults(page)
    assert not await small_targets(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("has_scripts", [True, False])
async def test_an_operator_signs_in_by_keyboard_under_a_path_prefix(
    guarded: PageSystem, browser: PageBrowser, has_scripts: bool
) -> None:
    async with guarded.terminal("T1").running() as terminal, prefix_proxy(guarded.url) as url:
        await terminal.wait_connected()
        options: dict[str, Any] = {"java_script_enabled": has_scripts}
        page = await browser.open(url, "terminals/T1", **options)
        assert page.url == f"{url}/login?next=terminals%2FT1"
        await page.keyboard.type("guard")
        await page.keyboard.press("Tab")
        await page.keyboard.type("guard-token")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{url}/terminals/T1")
        (cookie,) = await page.context.cookies()
        assert url.endswith(cookie["path"])
        await expect(page.get_by_role("link", name="Restart")).to_have_count(0)
        if has_scripts:
            await wait_live(page)
        await page.get_by_role("link", name=re.compile("^Open")).click()
        await page.locator("form.confirm button.primary").click()
        await expect(page.get_by_text("The door is open.")).to_be_visible()
        assert terminal.opened == 1
        if not has_scripts:
            await page.get_by_label("Language").select_option("zh-CN")
            await page.get_by_role("button", name="Apply").click()
            await page.get_by_role("button", name="退出登录").click()
            await expect(page.locator("#password")).to_be_visible()
            await page.goto(f"{url}/log")
            await expect(page.locator("#password")).to_be_visible()
        await browser.close_pages()


async def test_a_page_says_that_it_is_signed_out_and_keeps_what_is_typed(
    guarded: PageSystem, browser: PageBrowser
) -> None:
    page = await browser.open(guarded.url, "person-new")
    await sign_in(page)
    await wait_live(page)
    await page.get_by_label("Name", exact=True).fill("Ada Lovelace")
    other = await page.context.new_page()
    await other.goto(guarded.url)
    await other.get_by_role("button", name="Sign out").click()
    await expect(other.locator("#password")).to_be_visible()
    await expect(page.get_by_role("link", name="Signed out. Sign in")).to_be_visible()
    await expect(page.locator("#live")).to_be_hidden()
    await sign_in(other)
    await wait_live(other)
    # Headless tabs are always visible, so the event of a user who comes back to the tab is sent by hand.
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await wait_live(page)
    await expect(page.get_by_role("link", name="Signed out. Sign in")).to_be_hidden()
    await expect(page.get_by_label("Name", exact=True)).to_have_value("Ada Lovelace")
    # The form has the token of the new session: the bridge checks the fields.
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert").filter(has_text="Nothing was saved.")).to_be_visible()
    # The browser reports the responses while it was signed out, and that of the form with faults.
    assert all("401" in error or "400" in error for error in browser.errors)
    browser.errors.clear()


async def test_a_form_in_a_part_that_was_refreshed_has_the_token(guarded: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(guarded.url)
    await sign_in(page)
    await wait_live(page)
    async with guarded.terminal("NEW1").running() as waiting:
        await waiting.wait_refused()
        await page.locator("#pending-NEW1 button").click()
        await expect(page.locator("#pending-NEW1 button")).to_be_hidden()
        await expect(page.locator("h1")).to_have_text("Terminals")
        await browser.close_pages()


async def test_open_after_the_session_has_ended_leads_to_the_login(guarded: PageSystem, browser: PageBrowser) -> None:
    async with guarded.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(guarded.url)
        await sign_in(page)
        await wait_live(page)
        await page.context.clear_cookies()
        await page.locator("#terminal-T1 .actions a").click()
        await expect(page.locator("#password")).to_be_visible()
        assert terminal.opened == 0
        await browser.close_pages()
    assert all("401" in error for error in browser.errors)
    browser.errors.clear()
