"""Debian's Chromium, without a screen, on the pages of the tests' Home Assistant."""

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

_PATIENCE = 60_000.0
"""Milliseconds, as Playwright counts; a page takes some three seconds on an idle machine."""

_WIDTH, _HEIGHT = 1000, 700
"""Pixels: as wide as Home Assistant needs for two columns."""

_ACTION_HEIGHT = 590
"""Of a picture of the Actions page: to the end of what is to be filled in."""

_COLOURS = 128
"""Of a picture: text on plain ground has few, and the file is a third."""

_PICTURES_FOLDER = "PICTURES_FOLDER"
"""The variable that names where pictures are kept; scripts/draw-home-assistant-pictures sets it."""

_LASTS = 10**15
"""Milliseconds since 1970 after which the pages would ask for a new token."""

_ROW = ", ".join(f"hui-{kind}-entity-row" for kind in ("button", "event", "sensor", "simple"))
"""A line of a device's cards, by the kind of entity."""

_NO_PICTURE = '<svg xmlns="http://www.w3.org/2000/svg"/>'


class Browser:
    """A window that is logged in to Home Assistant.

    What it finds it waits for, and a page's shadow trees are no walls to it.

    Attributes:
        page: the window, for what is not here.
    """

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder

    async def open(self, path: str) -> None:
        """Go to a page, by its address after the host."""
        # What a dialog that is still open does to the history must not take the next page away.
        await self.page.goto("about:blank")
        await self.page.goto(path)

    async def open_device(self, device_id: str) -> None:
        """Go to the page of a device."""
        await self.open(f"/config/devices/device/{device_id}")

    def row(self, name: str) -> Locator:
        """Return the line of an entity on its device's page."""
        return self.page.locator(_ROW).filter(has=self.page.get_by_text(name, exact=True))

    async def open_details(self, name: str) -> Locator:
        """Have an entity of the device's page shown with its attributes, and return where they are."""
        await self.row(name).click()
        dialog = self.page.locator("ha-more-info-dialog")
        await dialog.get_by_role("button", name="Menu").last.click()
        await self.page.get_by_text("Details", exact=True).click()
        return dialog

    async def shows(self, *texts: str) -> None:
        """Wait until each text is to be seen."""
        for text in texts:
            await expect(self.page.get_by_text(text, exact=True).filter(visible=True).first).to_be_visible()

    async def perform(self, action: str, name: str) -> None:
        """Have the Actions page perform an action, written as YAML, and keep a picture of it before."""
        await self.open("/config/tools/action")
        await self.page.get_by_text("YAML mode", exact=True).click()
        editor = self.page.locator("ha-yaml-editor .cm-content")
        await editor.fill(action)
        await expect(editor).to_contain_text(action.splitlines()[-1].strip())
        await self.picture(name, _ACTION_HEIGHT)
        await self.page.get_by_role("button", name="Perform action").click()

    async def picture(self, name: str, height: int = _HEIGHT) -> None:
        """Keep a picture of what is to be seen, `name`.png.

        Args:
            name: of the picture.
            height: of the window, so that what matters is in it and nothing else.
        """
        await self.page.set_viewport_size({"width": _WIDTH, "height": height})
        await self.page.evaluate("document.fonts.ready")
        # Without the pointer over anything, and without a cursor that blinks.
        await self.page.mouse.move(_WIDTH - 1, height - 1)
        shot = await self.page.screenshot(animations="disabled", caret="hide")
        with Image.open(io.BytesIO(shot)) as image:
            few = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
            few.save(self._folder / f"{name}.png", optimize=True)


@asynccontextmanager
async def browser_in(home_assistant: HomeAssistant, folder: Path, language: str = "en") -> AsyncIterator[Browser]:
    """Open a window.

    Args:
        home_assistant: whose pages.
        folder: for the pictures, unless the environment names another.
        language: as Home Assistant calls it.
    """
    assert _CHROMIUM.exists(), f"{_CHROMIUM} is missing; scripts/test --all installs it"
    kept = {
        "hassTokens": {
            "hassUrl": home_assistant.url,
            "clientId": f"{home_assistant.url}/",
            "access_token": home_assistant.token,
            "token_type": "Bearer",
            "refresh_token": "",
            "expires_in": _LASTS,
            "expires": _LASTS,
        },
        "dockedSidebar": "always_hidden",
        "selectedLanguage": language,
    }
    remember = "".join(
        f"localStorage.setItem({name!r}, {json.dumps(json.dumps(value))});" for name, value in kept.items()
    )
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=_CHROMIUM)
        try:
            context = await chromium.new_context(
                base_url=home_assistant.url,
                viewport={"width": _WIDTH, "height": _HEIGHT},
                reduced_motion="reduce",
                timezone_id="UTC",
            )
            context.set_default_timeout(_PATIENCE)
            expect.set_options(timeout=_PATIENCE)
            await context.add_init_script(remember)
            # It would fetch them from the internet: what is not there looks broken, and not the same everywhere.
            await context.route(
                "**/api/brands/**", lambda route: route.fulfill(body=_NO_PICTURE, content_type="image/svg+xml")
            )
            yield Browser(await context.new_page(), Path(os.environ.get(_PICTURES_FOLDER, folder)))
        finally:
            await chromium.close()


def onboard_but_for_its_user(folder: Path) -> None:
    """Spare a Home Assistant that was never started its first pages but the one that makes a user.

    By its API the others would set up a weather forecast and a radio, for which there is no network here.
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
