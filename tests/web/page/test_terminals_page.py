"""The pages of terminals in a real browser: opening, the live list, approval, the first connection."""

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, ask_to_open, open_door, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_door_is_opened_once_and_the_outcome_is_shown(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await wait_live(page)
        await page.get_by_role("link", name="Open Front door").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_have_text("Open Front door?")
        assert terminal.opened == 0
        await dialog.get_by_role("button", name="Open Front door").dblclick()
        await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
        assert await dialog.locator("[aria-live=polite] .note").count() == 1
        assert terminal.opened == 1
        await dialog.get_by_role("link", name="Close").click()
        await expect(dialog).to_be_hidden()
        await expect(page.locator("#terminal-T1")).to_contain_text("Open: done")
        await page.reload()
        await wait_live(page)
        assert terminal.opened == 1


async def test_escape_and_cancel_open_nothing(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await wait_live(page)
        for leave in ("Escape", "Cancel"):
            await page.get_by_role("link", name="Open Front door").focus()
            await page.keyboard.press("Enter")
            dialog = page.get_by_role("dialog")
            await expect(dialog.get_by_role("heading")).to_have_text("Open Front door?")
            if leave == "Escape":
                await page.keyboard.press(leave)
            else:
                await dialog.get_by_role("link", name=leave).click()
            await expect(dialog).to_be_hidden()
        assert terminal.opened == 0


@pytest.mark.parametrize(
    ("locale", "texts"),
    [("en", ["Not opened.", "The terminal refused."]), ("zh-CN", ["未开门。", "终端拒绝了。"])],
)
async def test_refusal_is_shown_with_the_terminals_words(
    system: PageSystem, browser: PageBrowser, locale: str, texts: list[str]
) -> None:
    async with system.terminal("T1").running() as terminal:
        terminal.behaviour = Behaviour(refusal=Refusal(7, "the lock is stuck"))
        await terminal.wait_connected()
        dialog = await open_door(await browser.open(system.url, locale=locale))
        for text in (*texts, "the lock is stuck"):
            await expect(dialog.get_by_role("status")).to_contain_text(text)


async def test_silent_terminal_leaves_the_outcome_open(tmp_path: Path, browser: PageBrowser) -> None:
    async with (
        PageSystem(tmp_path, commands={"deadline": 8}) as system,
        system.terminal("T1").running() as terminal,
    ):
        terminal.behaviour = Behaviour(silent=True)
        await terminal.wait_connected()
        dialog = await open_door(await browser.open(system.url))
        await expect(dialog.get_by_role("status").last).to_contain_text("Perhaps opened: look at the door.")
        assert terminal.opened == 1
        await browser.close_pages()


async def test_a_confirmation_for_an_offline_terminal_stays_disabled(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url, "terminals/T2/open")
    await wait_live(page)
    button = page.get_by_role("button", name="Open Back door")
    await expect(button).to_be_disabled()
    await expect(page.get_by_text("The terminal is offline.")).to_be_visible()
    # A page that becomes live enables the buttons of presses.
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(button).to_be_disabled()
    without_scripts = await browser.open(system.url, "terminals/T2/open", java_script_enabled=False)
    await expect(without_scripts.get_by_role("button", name="Open Back door")).to_be_disabled()


async def test_open_is_disabled_for_an_offline_terminal(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url)
    await wait_live(page)
    button = page.locator("#terminal-T2 .actions a")
    await expect(button).to_have_attribute("aria-disabled", "true")
    assert await button.get_attribute("href") is None
    async with system.terminal("T2").running():
        await expect(button).not_to_have_attribute("aria-disabled", "true")
    await expect(button).to_have_attribute("aria-disabled", "true")


async def test_open_is_disabled_while_the_page_is_not_live(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await wait_live(page)
        button = page.locator("#terminal-T1 .actions a")
        system.bridge.freeze()
        await expect(page.locator("#live")).to_contain_text("Not live since")
        await expect(button).to_have_attribute("aria-disabled", "true")
        await button.click(force=True)
        await expect(page.get_by_role("dialog")).to_be_hidden()
        system.bridge.thaw()
        await expect(page.locator("#live")).to_have_text("Live")
        assert terminal.opened == 0


async def test_press_that_gets_no_answer_is_not_repeated(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        button = (await ask_to_open(page)).locator("button.primary")
        await page.route("**/terminals/T1/open", lambda route: route.abort())
        await button.click()
        await expect(page.get_by_text("The bridge did not answer.")).to_be_visible()
        await expect(button).to_be_disabled()
        await page.unroute("**/terminals/T1/open")
        await asyncio.sleep(2)
        assert terminal.opened == 0
    assert all("ERR_FAILED" in error or "htmx:error" in error for error in browser.errors)
    browser.errors.clear()


async def test_press_is_neither_queued_nor_repeated_while_the_browser_is_offline(
    system: PageSystem, browser: PageBrowser
) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        dialog = await ask_to_open(page)
        await page.context.set_offline(True)
        await dialog.locator("button.primary").click()
        await expect(dialog.get_by_text("The bridge did not answer.")).to_be_visible()
        presses: list[str] = []
        page.on("request", lambda request: presses.append(request.url) if request.method == "POST" else None)
        await page.context.set_offline(False)
        await expect(page.locator("#live")).to_have_attribute("data-state", "yes")
        assert await page.evaluate("async () => (await fetch(location.href)).status") == 200
        assert not presses
        await expect(dialog.locator("button.primary")).to_be_disabled()
        # A new confirmation is needed.
        await dialog.get_by_role("link", name="Cancel").click()
        opened = await open_door(page)
        await expect(opened.get_by_role("status")).to_contain_text("The door is open.")
        assert terminal.opened == len(presses) == 1
    browser.errors.clear()


async def test_press_that_the_network_delays_opens_nothing(tmp_path: Path, browser: PageBrowser) -> None:
    async with (
        PageSystem(tmp_path, commands={"deadline": 2}) as system,
        system.terminal("T1").running() as terminal,
    ):
        await terminal.wait_connected()
        page = await browser.open(system.url)
        dialog = await ask_to_open(page)
        delayed = asyncio.Event()

        async def delay(route: Route) -> None:
            delayed.set()
            await asyncio.sleep(3)
            await route.continue_()

        await page.route("**/terminals/T1/open", delay)
        await dialog.locator("button.primary").click()
        await asyncio.wait_for(delayed.wait(), 20)
        await expect(dialog.get_by_role("status").last).to_contain_text("Not opened.")
        assert terminal.opened == 0
        await browser.close_pages()


async def test_door_is_opened_without_javascript_and_never_again(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url, java_script_enabled=False)
        await page.get_by_role("link", name="Open Front door").click()
        await page.get_by_role("button", name="Open Front door").click()
        await expect(page.get_by_role("status").first).to_contain_text("The door is open.")
        assert terminal.opened == 1
        await page.reload()
        await expect(page.get_by_role("status").first).to_contain_text("The door is open.")
        await page.go_back()
        await page.go_forward()
        assert terminal.opened == 1


async def test_button_from_before_a_restart_does_nothing(system: PageSystem, browser: PageBrowser) -> None:
    terminal = system.terminal("T1")
    async with terminal.running():
        await terminal.wait_connected()
        page = await browser.open(system.url)
        dialog = await ask_to_open(page)
        await system.bridge.kill()
        await expect(page.locator("#live")).to_contain_text("Not live since")
        await expect(dialog.locator("button.primary")).to_be_disabled()
        await system.bridge.start()
        await wait_live(page)
        await until(lambda: terminal.connected)
        await dialog.locator("button.primary").click()
        await expect(dialog.get_by_role("status")).to_contain_text("Nothing was done.")
        assert terminal.opened == 0
    browser.errors.clear()


async def test_filter_and_search_stay_over_a_reload(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await page.get_by_role("link", name="Offline", exact=True).click()
        for _ in range(2):
            await expect(page.locator(".rows.terminals > li")).to_have_count(1)
            await expect(page.locator("#terminal-T2")).to_be_visible()
            await page.reload()
        await page.get_by_role("searchbox").fill("no such door")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("No terminal matches.")).to_be_visible()
        await page.get_by_role("link", name="All", exact=True).click()
        await page.get_by_role("searchbox").fill("LOBBY")
        await page.keyboard.press("Enter")
        await expect(page.locator(".rows.terminals > li")).to_have_count(2)


async def test_refused_changes_are_shown_filtered_and_kept_over_a_reload(
    system: PageSystem, browser: PageBrowser
) -> None:
    async with system.terminal("T1").running() as terminal:
        terminal.behaviour = Behaviour(refusal=Refusal(3, "no face found"))
        await terminal.wait_connected()
        page = await browser.open(system.url)
        person = {"name": "Ada", "photo": b64encode(sample_photo(1)).decode()}
        await page.request.put("/api/groups/lobby/persons/1001", data=person)
        await expect(page.locator("#terminal-T1")).to_contain_text("1 change refused")
        await expect(page.locator("#terminal-T2")).to_contain_text("1 change pending")
        for name, sn, other in (("With refused changes", "T1", "T2"), ("With pending changes", "T2", "T1")):
            await page.get_by_role("link", name=name).click()
            for _ in range(2):
                await expect(page.locator(f"#terminal-{sn}")).to_be_visible()
                await expect(page.locator(f"#terminal-{other}")).to_have_count(0)
                await expect(page.get_by_role("link", name=name)).to_have_attribute("aria-current", "true")
                await page.reload()


async def test_updates_leave_focus_and_typed_text_alone(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url)
    await wait_live(page)
    await page.get_by_role("searchbox").fill("half a na")
    async with system.terminal("T2").running():
        await expect(page.locator("#terminal-T2")).to_contain_text("Online")
        assert await page.evaluate("document.activeElement.type") == "search"
        await expect(page.get_by_role("searchbox")).to_have_value("half a na")
        link = page.locator("#terminal-T2 .name")
        await link.focus()
        await page.set_viewport_size({"width": 1280, "height": 300})
        await page.evaluate("scrollTo(0, 120)")
    await expect(page.locator("#terminal-T2")).to_contain_text("Offline")
    assert await page.evaluate("document.activeElement.textContent") == "Back door"
    assert await page.evaluate("scrollY") == 120


async def test_terminal_is_approved_and_another_refused(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("NEW1").running() as terminal:
        await terminal.wait_refused()
        page = await browser.open(system.url)
        await expect(page.get_by_role("heading", name="1 terminal waits for approval")).to_be_visible()
        await page.get_by_role("link", name="Approve NEW1").click()
        await page.get_by_label("Name of the door").fill("Garage")
        await page.get_by_label("Area").fill("Yard")
        await page.get_by_label("Groups").fill("lobby, no group!")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.locator(".field-error")).to_be_visible()
        await expect(page.get_by_label("Name of the door")).to_have_value("Garage")
        browser.errors.clear()
        await page.get_by_label("Groups").fill("lobby, night")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("heading", name="Garage")).to_be_visible()
        await terminal.wait_connected()
        await expect(page.locator("#terminal")).to_contain_text("lobby, night")
        await expect(page.locator("#terminal")).to_contain_text("Online")
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Name of the door").fill("Old garage")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Old garage")).to_be_visible()
    other = system.terminal("NEW2")
    async with other.running():
        await other.wait_refused()
    await page.get_by_role("navigation", name="Sections").get_by_role("link", name="Terminals").click()
    await page.get_by_role("button", name="Refuse NEW2").click()
    await expect(page.get_by_role("heading", name="waits for approval")).to_be_hidden()


async def test_first_connection_shows_what_to_enter_and_lights_up(tmp_path: Path, browser: PageBrowser) -> None:
    async with PageSystem(tmp_path, {}) as system:
        page = await browser.open(system.url)
        await expect(page.get_by_role("heading", name="No terminal is connected yet")).to_be_visible()
        await page.get_by_role("link", name="Show what to enter").click()
        address = f"ws://127.0.0.1:{system.bridge.terminals_port}/devs/"
        await expect(page.get_by_text(address, exact=True)).to_be_visible()
        assert "123" not in await page.locator("dl").inner_text()
        await page.get_by_role("button", name="Show the password").click()
        await expect(page.locator("[data-password]")).to_have_text("123")
        await expect(page.get_by_role("img", name="QR code of the server address")).to_be_visible()
        async with system.terminal("NEW1").running() as terminal:
            await expect(page.get_by_text("NEW1 waits for approval")).to_be_visible()
            await page.get_by_role("link", name="Approve NEW1").click()
            await page.get_by_role("button", name="Approve").click()
            await terminal.wait_connected()
            await expect(page.locator("#terminal")).to_contain_text("Online")
            await page.goto(f"{system.url}/connect")
            await expect(page.get_by_text("Terminal NEW1 is connected")).to_be_visible()
            await browser.close_pages()


async def test_restart_and_sync_ask_first(system: PageSystem, browser: PageBrowser) -> None:
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url, "terminals/T1")
        await wait_live(page)
        await page.get_by_role("link", name="Send all persons again").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Send again").click()
        await expect(dialog.get_by_role("status")).to_contain_text("Everything is sent again.")
        await dialog.get_by_role("link", name="Close").click()
        await page.get_by_role("link", name="Restart").click()
        await dialog.get_by_role("button", name="Restart Front door").click()
        await expect(dialog.get_by_role("status")).to_contain_text("The terminal restarts.")
        assert terminal.rebooted == 1


async def test_everyone_is_removed_first_from_a_device_that_was_used_elsewhere(
    system: PageSystem, browser: PageBrowser
) -> None:
    async with system.terminal("NEW1").running() as terminal:
        page = await browser.open(system.url)
        person = {"name": "Ada", "photo": b64encode(sample_photo(1)).decode()}
        await terminal.wait_refused()
        await page.request.post("/api/pending/NEW1/admit")
        await page.request.put("/api/terminals/NEW1/persons/1001", data=person)
        await until(lambda: "1001" in terminal.persons)
        # The bridge does not know any more that the device holds Ada.
        await page.request.delete("/api/terminals/NEW1")
        await page.request.post("/api/pending/NEW1/admit", data={"name": "Garage"})
        await page.goto(f"{system.url}/terminals/NEW1")
        await wait_live(page)
        await page.get_by_role("link", name="Remove everyone and send again").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_have_text("Remove everyone from Garage first?")
        assert "1001" in terminal.persons
        await dialog.get_by_role("button", name="Remove everyone and send again").click()
        await expect(dialog.get_by_role("status")).to_contain_text("Everything is sent again.")
        await until(lambda: not terminal.persons)


async def test_long_list_has_pages(tmp_path: Path, browser: PageBrowser) -> None:
    known = {f"D{number:04}": {"name": f"Door {number:04}"} for number in range(120)}
    async with PageSystem(tmp_path, known) as system:
        page = await browser.open(system.url)
        await expect(page.locator(".rows.terminals > li")).to_have_count(50)
        await page.get_by_role("link", name="Next").click()
        await page.get_by_role("link", name="Next").click()
        await expect(page.locator(".rows.terminals > li")).to_have_count(20)
        await expect(page.get_by_text("Page 3 of 3")).to_be_visible()
        await browser.close_pages()


async def test_names_stay_text(tmp_path: Path, browser: PageBrowser) -> None:
    name = "<img src=x onerror=alert(1)>'\"&amp;"
    async with PageSystem(tmp_path, {"T1": {"name": name}}) as system, system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await expect(page.locator("#terminal-T1 .name")).to_have_text(name)
        dialog = await open_door(page)
        await expect(dialog.get_by_role("heading")).to_have_text(name)
        assert await page.locator("img[src=x]").count() == 0
        await browser.close_pages()
