"""A headless Chromium that is logged in to a test's Home Assistant."""

import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.support.home_assistant import HomeAssistant

_CHROMIUM = Path("/usr/bin/chromium")

_TIMEOUT_MS = 60_000.0
"""A page takes about three seconds on an idle machine."""

_WIDTH_PIXELS, _HEIGHT_PIXELS = 1000, 700
"""Home Assistant shows two columns from this width on."""

_ACTION_HEIGHT_PIXELS = 590
"""The height of the Actions page down to the end of its form."""

_PICTURE_COLOURS = 128
"""Text on a plain background needs few colours; the file becomes a third of its size."""

_PICTURES_FOLDER = "PICTURES_FOLDER"
"""The environment variable with the folder for pictures; scripts/draw-home-assistant-pictures sets it."""

_TOKEN_EXPIRES_MS = 10**15
"""Milliseconds since 1970, far in the future: the pages must not try to refresh the token."""

_ENTITY_ROW = ", ".join(f"hui-{kind}-entity-row" for kind in ("button", "event", "sensor", "simple"))
"""A CSS selector of the rows of a device's cards, by kind of entity."""

_EMPTY_SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


class Browser:
    """A browser window that is logged in to Home Assistant.

    Playwright's locators wait for elements and search in shadow trees too.

    Attributes:
        page: Playwright's page.
    """

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder

    async def open(self, path: str) -> None:
        """Open a page by its path."""
        # A dialog that is still open changes the history, which could leave the new page again.
        await self.page.goto("about:blank")
        await self.page.goto(path)

    async def open_device(self, device_id: str) -> None:
        """Open the page of a device."""
        await self.open(f"/config/devices/device/{device_id}")

    def row(self, name: str) -> Locator:
        """Return the row of an entity on its device's page."""
        return self.page.locator(_ENTITY_ROW).filter(has=self.page.get_by_text(name, exact=True))

    async def open_details(self, name: str) -> Locator:
        """Open the details of an entity on its device's page; return the dialog, which shows the attributes."""
        await self.row(name).click()
        dialog = self.page.locator("ha-more-info-dialog")
        await dialog.get_by_role("button", name="Menu").last.click()
        await self.page.get_by_text("Details", exact=True).click()
        return dialog

    async def wait_visible(self, *texts: str) -> None:
        """Wait until each of these texts is visible."""
        for text in texts:
            await expect(self.page.get_by_text(text, exact=True).filter(visible=True).first).to_be_visible()

    async def perform(self, action: str, name: str) -> None:
        """Perform an action, given as YAML, on the Actions page; save a picture of the page before."""
        await self.open("/config/tools/action")
        await self.page.get_by_text("YAML mode", exact=True).click()
        editor = self.page.locator("ha-yaml-editor .cm-content")
        await editor.fill(action)
        await expect(editor).to_contain_text(action.splitlines()[-1].strip())
        await self.picture(name, _ACTION_HEIGHT_PIXELS)
        await self.page.get_by_role("button", name="Perform action").click()

    async def picture(self, name: str, height: int = _HEIGHT_PIXELS) -> None:
        """Save a picture of the window as `name`.png.

        Args:
            name: the file's name without the suffix.
            height: the window's height in pixels.
        """
        await self.page.set_viewport_size({"width": _WIDTH_PIXELS, "height": height})
        await self.page.evaluate("document.fonts.ready")
        # No element is hovered and no cursor blinks, so that the picture is the same each time.
        await self.page.mouse.move(_WIDTH_PIXELS - 1, height - 1)
        shot = await self.page.screenshot(animations="disabled", caret="hide")
        with Image.open(io.BytesIO(shot)) as image:
            reduced = image.convert("RGB").quantize(_PICTURE_COLOURS, dither=Image.Dither.NONE)
            reduced.save(self._folder / f"{name}.png", optimize=True)


@asynccontextmanager
async def browser_in(home_assistant: HomeAssistant, folder: Path, language: str = "en") -> AsyncIterator[Browser]:
    """Open a browser window.

    Args:
        home_assistant: the Home Assistant to log in to.
        folder: for pictures, unless the environment variable names another.
        language: the language of the pages, by Home Assistant's name for it.
    """
    assert _CHROMIUM.exists(), f"{_CHROMIUM} is missing: run scripts/test --all, which installs it"
    local_storage = {
        "hassTokens": {
            "hassUrl": home_assistant.url,
            "clientId": f"{home_assistant.url}/",
            "access_token": home_assistant.token,
            "token_type": "Bearer",
            "refresh_token": "",
            "expires_in": _TOKEN_EXPIRES_MS,
            "expires": _TOKEN_EXPIRES_MS,
        },
        "dockedSidebar": "always_hidden",
        "selectedLanguage": language,
    }
    fill_local_storage = "".join(
        f"localStorage.setItem({name!r}, {json.dumps(json.dumps(value))});" for name, value in local_storage.items()
    )
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=_CHROMIUM)
        try:
            context = await chromium.new_context(
                base_url=home_assistant.url,
                viewport={"width": _WIDTH_PIXELS, "height": _HEIGHT_PIXELS},
                reduced_motion="reduce",
                timezone_id="UTC",
            )
            context.set_default_timeout(_TIMEOUT_MS)
            expect.set_options(timeout=_TIMEOUT_MS)
            await context.add_init_script(fill_local_storage)
            # Home Assistant loads brand images from the internet; without a network the pictures would differ.
            await context.route(
                "**/api/brands/**", lambda route: route.fulfill(body=_EMPTY_SVG, content_type="image/svg+xml")
            )
            yield Browser(await context.new_page(), Path(os.environ.get(_PICTURES_FOLDER, folder)))
        finally:
            await chromium.close()


def skip_onboarding_except_user(folder: Path) -> None:
    """Mark all onboarding steps but the first as done, in the folder of a Home Assistant that has not run yet.

    The first step creates the user. The others would set up a weather forecast and a radio, which need the internet.
    """
    done = {
        "version": 4,
        "minor_version": 1,
        "key": "onboarding",
        "data": {"done": ["core_config", "analytics", "integration"]},
    }
    storage = folder / ".storage"
    storage.mkdir()
    (storage / "onboarding").write_text(json.dumps(done))
