"""The page while much happens: a storm of changes, many tabs, a bridge that restarts, ten thousand terminals."""

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import CDPSession, Page, Response, expect

from bridge.simulator.faces import sample_photo
from tests.support.core import RecordingConnection, known_terminal
from tests.support.waiting import until
from tests.support.web import WebServerUnderTest
from tests.web.page.page_system import PageBrowser, PageSystem, open_door, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STORM_TERMINALS = 500
CHANGES_A_SECOND = 1_000
TICK_SECONDS = 0.02

MAX_HEAP_GROWTH_BYTES = 3_000_000
"""Of JavaScript's objects in eight seconds of storm: a page that kept each of 8,000 changes would need more."""


class Storm:
    """Connects and disconnects terminals, a thousand times a second.

    Attributes:
        changes: how many changes there were.
    """

    def __init__(self, server: WebServerUnderTest) -> None:
        self.changes = 0
        self._registry = server.registry
        for number in range(STORM_TERMINALS):
            self._registry.put(known_terminal(f"S{number:03}", name=f"Storm {number:03}"))
        self._sns = [f"S{number:03}" for number in range(STORM_TERMINALS)]
        self._connected: dict[str, RecordingConnection] = {}
        self._random = random.Random(7)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            while self.changes < (loop.time() - begin) * CHANGES_A_SECOND:
                self._change(self._random.choice(self._sns))

    def _change(self, sn: str) -> None:
        self.changes += 1
        connection = self._connected.pop(sn, None)
        known = self._registry.get(sn)
        assert known is not None
        if connection is None:
            self._connected[sn] = RecordingConnection(self._registry, sn)
            self._registry.connected(self._connected[sn])
        else:
            self._registry.disconnected(connection, "left")

    @property
    def online(self) -> int:
        """How many terminals of the storm are connected."""
        return len(self._connected)


async def heap(session: CDPSession) -> float:
    """Return the bytes of JavaScript's objects after a garbage collection."""
    await session.send("HeapProfiler.collectGarbage")
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    used: float = next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize")
    return used


async def test_page_stays_usable_in_a_storm_of_changes(browser: PageBrowser) -> None:
    server = WebServerUnderTest(has_page=True)
    storm = Storm(server)
    async with server.open():
        context = await browser.context(server.url)
        page = await context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        await page.goto(server.url)
        await wait_live(page)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        search = page.get_by_role("searchbox")
        running = asyncio.get_running_loop().create_task(storm.run())
        try:
            await search.fill("half a")
            await page.evaluate("scrollTo(0, 300)")
            await until(lambda: storm.changes > CHANGES_A_SECOND)
            before, begin, asked = await heap(session), storm.changes, len(requests)
            for letter in " name":
                await search.press(letter, no_wait_after=True)
                await asyncio.sleep(1)
            await until(lambda: storm.changes > begin + 8 * CHANGES_A_SECOND)
            assert await heap(session) - before < MAX_HEAP_GROWTH_BYTES
            # It asks for the list less than twice a second, although it hears of every change.
            seconds = (storm.changes - begin) / CHANGES_A_SECOND
            assert len(requests) - asked < 2 * seconds
            assert await page.evaluate("document.activeElement.type") == "search"
            await expect(search).to_have_value("half a name")
            dialog = await open_door(page)
            await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
            await expect(page.locator("#live")).to_have_attribute("data-state", "yes")
        finally:
            running.cancel()
        # The last state of the storm is shown.
        await dialog.get_by_role("link", name="Close").click()
        await expect(page.get_by_text(f"{storm.online + 1} of {STORM_TERMINALS + 2} online")).to_be_visible()
        await browser.close_pages()
    assert server.connection.commands == ["OpenRequest"]


_HIDEABLE = """
Object.defineProperty(Document.prototype, "hidden", { get: () => window.isTestHidden ?? false });
window.hideTest = (hidden) => { window.isTestHidden = hidden; document.dispatchEvent(new Event("visibilitychange")); };
"""
"""A headless browser shows every tab. This says to the page what a browser says when it hides a tab."""


async def test_ten_tabs_work_and_hidden_ones_hold_no_stream(browser: PageBrowser) -> None:
    server = WebServerUnderTest(has_page=True)
    async with server.open():
        context = await browser.context(server.url)
        await context.add_init_script(_HIDEABLE)
        tabs: list[Page] = []
        for _ in range(10):
            if tabs:
                await tabs[-1].evaluate("hideTest(true)")
            tabs.append(await context.new_page())
            await tabs[-1].goto(server.url)
            await wait_live(tabs[-1])
        await until(lambda: server.server.open_streams == 1)
        server.registry.connected(RecordingConnection(server.registry, "T2"))
        await expect(tabs[-1].locator("#terminal-T2")).to_contain_text("Online")
        await expect(tabs[0].locator("#terminal-T2")).to_contain_text("Offline")
        # A tab that is shown again has the present state, also of changes while it was hidden, and can open.
        await tabs[-1].evaluate("hideTest(true)")
        await until(lambda: server.server.open_streams == 0)
        await tabs[0].evaluate("hideTest(false)")
        await expect(tabs[0].locator("#terminal-T2")).to_contain_text("Online")
        dialog = await open_door(tabs[0], "T2")
        await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
        assert server.server.open_streams == 1
        await browser.close_pages()


WINDOWS = 8
"""More than the six connections that a browser opens to a host."""


async def test_eight_visible_windows_load_stay_current_and_open(browser: PageBrowser) -> None:
    server = WebServerUnderTest(has_page=True, deadline=30)
    async with server.open():
        context = await browser.context(server.url)
        windows: list[Page] = []
        for _ in range(WINDOWS):
            windows.append(await context.new_page())
            await windows[-1].goto(server.url)
            await wait_live(windows[-1])
        await until(lambda: server.server.open_streams == 3)
        server.registry.connected(RecordingConnection(server.registry, "T2"))
        for window in windows:
            await expect(window.locator("#terminal-T2")).to_contain_text("Online")
        for number, window in enumerate(windows, 1):
            dialog = await open_door(window)
            await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
            assert server.connection.commands == ["OpenRequest"] * number
            await dialog.get_by_role("link", name="Close").click()
        # A window that is used again gets a stream; the one that has had its own for longest gives it up.
        requests: list[str] = []
        context.on("request", lambda request: requests.append(request.url))
        await windows[0].evaluate("dispatchEvent(new Event('focus'))")
        await until(lambda: any("/api/events" in url for url in requests))
        await until(lambda: server.server.open_streams == 3)
        for window in windows:
            await expect(window.locator("#live")).to_have_attribute("data-state", "yes")
        await browser.close_pages()


async def test_page_that_has_just_loaded_does_not_load_its_list_again(browser: PageBrowser) -> None:
    server = WebServerUnderTest(has_page=True)
    for number in range(10_000):
        server.registry.put(known_terminal(f"D{number:04}", name=f"Door {number:04}"))
    async with server.open():
        context = await browser.context(server.url)
        page = await context.new_page()
        statuses: list[int] = []

        def note(response: Response) -> None:
            if response.url == f"{server.url}/":
                statuses.append(response.status)

        page.on("response", note)
        await page.goto(server.url)
        await wait_live(page)
        await until(lambda: len(statuses) >= 2)
        assert statuses == [200, 304]
        assert await page.locator(".rows.terminals > li").count() == 50
        server.registry.connected(RecordingConnection(server.registry, "D0001"))
        await expect(page.locator("#terminal-D0001")).to_contain_text("Online")
        assert statuses.count(200) == 2
        await browser.close_pages()


async def test_hidden_tab_that_is_shown_again_opens_nothing_before_it_is_live(browser: PageBrowser) -> None:
    server = WebServerUnderTest(has_page=True)
    async with server.open():
        context = await browser.context(server.url)
        await context.add_init_script(_HIDEABLE)
        page = await context.new_page()
        await page.goto(server.url)
        await wait_live(page)
        await page.evaluate("hideTest(true)")
        await expect(page.locator("#live")).to_have_attribute("data-state", "no")
        await expect(page.locator("#terminal-T1 .actions a")).to_have_attribute("aria-disabled", "true")
        await page.evaluate("hideTest(false)")
        await wait_live(page)
        await expect(page.locator("#terminal-T1 .actions a")).not_to_have_attribute("aria-disabled", "true")
        await browser.close_pages()


PAGES = ["", "terminals/T1", "persons", "persons/1001", "persons/1001/edit", "log", "health", "connect", "import"]


@pytest.fixture
async def enrolled(system: PageSystem) -> AsyncIterator[PageSystem]:
    """A bridge with a connected terminal that holds a person."""
    person = {"name": "Ada", "photo": b64encode(sample_photo(1)).decode()}
    async with system.terminal("T1").running() as terminal, aiohttp.ClientSession(system.url) as session:
        await terminal.wait_connected()
        async with session.put("/api/terminals/T1/persons/1001", json=person) as response:
            assert response.status == 202
        await until(lambda: "1001" in terminal.persons)
        yield system


async def test_every_page_survives_a_restart_of_the_bridge(enrolled: PageSystem, browser: PageBrowser) -> None:
    # Each page in a profile of its own, as on several machines: a browser has six connections for all of its windows.
    pages = {path: await browser.open(enrolled.url, path) for path in PAGES}
    for page in pages.values():
        await wait_live(page)
    form = pages["persons/1001/edit"]
    await form.get_by_label("Name", exact=True).fill("Ada Lovel")
    await pages[""].get_by_role("searchbox").fill("half a na")
    await enrolled.bridge.kill()
    for path, page in pages.items():
        await expect(page.locator("#live"), path).to_contain_text("Not live since")
    for path in ("", "terminals/T1"):
        await expect(pages[path].get_by_role("link", name="Open Front door")).to_have_attribute("aria-disabled", "true")
    await enrolled.bridge.start()
    for page in pages.values():
        await wait_live(page)
    await expect(pages[""].locator("#terminal-T1")).to_contain_text("Online")
    await expect(pages[""].get_by_role("searchbox")).to_have_value("half a na")
    await expect(form.get_by_label("Name", exact=True)).to_have_value("Ada Lovel")
    assert await form.evaluate("document.activeElement.name") == "name"
    await form.keyboard.type("ace")
    await form.get_by_role("button", name="Save").click()
    await expect(form.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
    dialog = await open_door(pages[""])
    await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
    # Browsers log each attempt to reach a bridge that is away.
    assert all("ERR_" in error for error in browser.errors), browser.errors
    browser.errors.clear()
    await browser.close_pages()
