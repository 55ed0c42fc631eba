"""A bridge process with its page, a real browser, and a proxy that serves the page under a path prefix."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, async_playwright, expect
from playwright.async_api import Error as PlaywrightError

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port

_CHROMIUM = Path("/usr/bin/chromium")

_FAKE_CAMERA = ["--use-fake-device-for-media-stream"]
"""Chromium's own test picture instead of a camera."""

TIMEOUT_MS = 20_000.0
"""A page takes a tenth of a second on an idle machine."""

PREFIX = "/api/hassio_ingress/token"
"""The path under which the proxy serves the page, as Home Assistant's ingress does."""

DEFAULT_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "T1": {"name": "Front door", "area": "Lobby", "groups": ["lobby"]},
    "T2": {"name": "Back door", "groups": ["lobby"]},
}


class PageSystem:
    """A bridge and its terminals; `async with` starts and stops it."""

    def __init__(self, folder: Path, known: Mapping[str, Mapping[str, Any]] | None = None, **sections: Any) -> None:
        self._folder = folder
        self._known = DEFAULT_KNOWN if known is None else known
        self._sections = sections
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "PageSystem":
        for name in ("broker", "bridge"):
            (self._folder / name).mkdir()
        broker = await self._stack.enter_async_context(Mosquitto(self._folder / "broker"))
        # The page dates a press with caution, and a loaded machine must not make it too old.
        sections = {"commands": {"deadline": 30}, **self._sections}
        store_url = f"sqlite:///{self._folder / 'page.db'}"
        settings = fixed_port_configuration(broker.port, [], store_url=store_url, **sections)
        settings["terminals"]["known"] = {sn: dict(details) for sn, details in self._known.items()}
        # The page stays at the same address when the bridge restarts.
        settings["web"]["port"] = free_port()
        self.broker = broker
        self.bridge = KillableBridge(self._folder / "bridge", settings)
        await self._stack.enter_async_context(self.bridge.running())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return self.bridge.web_url

    def terminal(self, sn: str) -> SimulatedTerminal:
        """Return a terminal; it connects when it runs."""
        options = ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)
        return SimulatedTerminal(self.bridge.terminal_url, sn, options=options)


class PageBrowser:
    """A browser that records errors: messages on the console, violations of the CSP, exceptions of scripts."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self.errors: list[str] = []

    async def open(self, url: str, path: str = "", *, width: int = 1280, **options: Any) -> Page:
        """Open a page in a new window.

        Args:
            url: of the page's root.
            path: below it.
            width: of the window, in pixels.
            options: of Playwright's context.
        """
        page = await (await self.context(url, width=width, **options)).new_page()
        try:
            await page.goto(f"{url}/{path}")
        except PlaywrightError as error:
            # Other tests add network interfaces to the machine, and Chromium then aborts every request.
            if "ERR_NETWORK_CHANGED" not in error.message:
                raise
            await page.goto(f"{url}/{path}")
        return page

    async def context(self, url: str, *, width: int = 1280, **options: Any) -> BrowserContext:
        """Return a new, empty profile."""
        options.setdefault("locale", "en")
        context = await self._chromium.new_context(
            base_url=url, viewport={"width": width, "height": 800}, reduced_motion="reduce", **options
        )
        context.set_default_timeout(TIMEOUT_MS)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        return context

    async def close_pages(self) -> None:
        """Close every page, before the server that it asks stops."""
        for context in self._chromium.contexts:
            await context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url')})")


@asynccontextmanager
async def page_browser() -> AsyncIterator[PageBrowser]:
    """Run a headless Chromium."""
    assert _CHROMIUM.exists(), f"{_CHROMIUM} is missing: run scripts/test --all, which installs it"
    expect.set_options(timeout=TIMEOUT_MS)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_FAKE_CAMERA)
        try:
            yield PageBrowser(chromium)
        finally:
            await chromium.close()


async def wait_live(page: Page) -> None:
    """Wait until the page is live."""
    await expect(page.locator("#live")).to_have_attribute("data-state", "yes")


async def open_door(page: Page, sn: str = "T1") -> Locator:
    """Press Open of a terminal in the list, and confirm; return the dialog."""
    dialog = await ask_to_open(page, sn)
    await dialog.locator("button.primary").click()
    return dialog


async def ask_to_open(page: Page, sn: str = "T1") -> Locator:
    """Press Open of a terminal in the list; return the dialog, which asks for a confirmation."""
    await wait_live(page)
    await page.locator(f"#terminal-{sn} .actions a").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("heading")).to_be_visible()
    return dialog


async def accessibility_faults(page: Page) -> Sequence[str]:
    """Return what axe finds on a page, by WCAG 2.2 AA and its best practices."""
    results = await Axe().run(page)
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]


async def small_targets(page: Page) -> Sequence[str]:
    """Return the buttons, links and fields that are smaller than 44 pixels in both directions.

    Links inside a line of text are exempt, as in WCAG 2.5.8.
    """
    found: Sequence[str] = await page.evaluate(
        """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary")]
          .filter((element) => element.checkVisibility() && getComputedStyle(element).display !== "inline")
          .filter((element) => { const box = element.getBoundingClientRect();
            return box.width > 1 && !element.closest(".skip, label.check") && (box.height < 43.5 || box.width < 23.5) })
          .map((element) => `${element.outerHTML.slice(0, 120)} ${element.getBoundingClientRect().height}`)"""
    )
    return found


@asynccontextmanager
async def prefix_proxy(target: str) -> AsyncIterator[str]:
    """Serve a site under `PREFIX`, as a reverse proxy does; yield the URL of the site behind it."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            path = request.rel_url.raw_path_qs.removeprefix(PREFIX)
            headers = [(name, value) for name, value in request.headers.items() if name != "Connection"]
            body = await request.read()
            async with session.request(
                request.method, target + path, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                response = web.StreamResponse(status=answer.status)
                for name, value in answer.headers.items():
                    if name not in ("Connection", "Transfer-Encoding", "Content-Length"):
                        response.headers.add(name, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", PREFIX + "/{rest:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}"
        finally:
            await runner.cleanup()
