"""The photo in the form of a person, in a real browser: drop, phone's camera, oval, crop, keyboard, verdict."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.async_api import Page, expect

from bridge.simulator.faces import sample_photo
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, accessibility_faults, small_targets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LEFT, RIGHT = (200, 40, 40), (40, 40, 200)
"""The colours of the halves of a wide picture."""

_DROP = """([field, { data, type }]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], "dropped.jpg", { type }));
  for (const name of ["dragover", "drop"]) {
    const event = new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: dropped });
    if (field.dispatchEvent(event)) throw new Error(`${name} was left to the browser, which would leave the page`);
  }
}"""
"""Drops a file, as a browser does. Playwright can only drag elements of the page."""


def wide_picture(size: tuple[int, int] = (1600, 600)) -> bytes:
    """Return a JPEG with a red left and a blue right half."""
    image = Image.new("RGB", size, LEFT)
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, *size), fill=RIGHT)
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


async def open_form(page: Page, system: PageSystem) -> None:
    await page.goto(f"{system.url}/person-new")
    await page.get_by_label("Number", exact=True).fill("1001")
    await page.get_by_label("Name", exact=True).fill("Ada")
    await page.get_by_label("All terminals").check()


async def save(page: Page, system: PageSystem) -> Image.Image:
    """Save the person; return the stored photo."""
    await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1, name="Ada")).to_be_visible()
    response = await page.request.get(f"{system.url}/persons/1001/photo")
    return Image.open(BytesIO(await response.body())).convert("RGB")


def is_like(pixel: Sequence[int], colour: Sequence[int]) -> bool:
    return all(abs(one - other) < 60 for one, other in zip(pixel, colour, strict=True))


async def test_picture_is_dropped_and_cropped_around_its_middle(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url)
    await open_form(page, system)
    await expect(page.locator("[data-editor]")).to_be_hidden()
    file = {"data": b64encode(wide_picture()).decode(), "type": "image/jpeg"}
    handle = await page.locator("[data-photo] legend").element_handle()
    assert handle is not None
    await page.evaluate(_DROP, [handle, file])
    await expect(page.locator("canvas")).to_be_visible()
    stored = await save(page, system)
    assert stored.width * 3 == stored.height * 4
    assert is_like(stored.getpixel((20, stored.height // 2)), LEFT)  # type: ignore[arg-type]
    assert is_like(stored.getpixel((stored.width - 20, stored.height // 2)), RIGHT)  # type: ignore[arg-type]


@pytest.mark.parametrize(("keys", "colour"), [(["ArrowLeft"] * 25, LEFT), (["ArrowRight"] * 25, RIGHT)])
async def test_crop_is_moved_by_keyboard(
    system: PageSystem, browser: PageBrowser, tmp_path: Path, keys: list[str], colour: tuple[int, int, int]
) -> None:
    picture = tmp_path / "wide.jpg"
    picture.write_bytes(wide_picture())
    page = await browser.open(system.url)
    await open_form(page, system)
    await page.get_by_label("Choose a picture").set_input_files(picture)
    canvas = page.locator("canvas")
    await canvas.focus()
    for key in ["+"] * 5 + keys:
        await canvas.press(key)
    assert await page.get_by_role("slider", name="Zoom").input_value() == "1.5"
    stored = await save(page, system)
    assert is_like(stored.getpixel((stored.width // 2, stored.height // 2)), colour)  # type: ignore[arg-type]


async def test_oval_lies_over_the_crop_and_lets_the_pointer_through(
    system: PageSystem, browser: PageBrowser, tmp_path: Path
) -> None:
    picture = tmp_path / "face.jpg"
    picture.write_bytes(sample_photo(1))
    for width in (390, 1280):
        page = await browser.open(system.url, width=width)
        await open_form(page, system)
        await page.get_by_label("Choose a picture").set_input_files(picture)
        canvas, oval = page.locator(".frame canvas"), page.locator(".frame ellipse")
        await expect(oval).to_be_visible()
        frame, guide = await canvas.bounding_box(), await oval.bounding_box()
        assert frame is not None
        assert guide is not None
        assert frame["width"] / frame["height"] == pytest.approx(4 / 3, abs=0.02)
        # A head fills about three quarters of the height; the oval is in the middle.
        assert guide["height"] / frame["height"] == pytest.approx(0.73, abs=0.05)
        assert guide["x"] + guide["width"] / 2 == pytest.approx(frame["x"] + frame["width"] / 2, abs=3)
        assert frame["y"] <= guide["y"]
        assert guide["y"] + guide["height"] <= frame["y"] + frame["height"]
        # The crop is dragged through the oval.
        before = await canvas.evaluate("canvas => canvas.toDataURL()")
        await page.get_by_role("slider", name="Zoom").fill("2")
        zoomed = await canvas.evaluate("canvas => canvas.toDataURL()")
        await canvas.scroll_into_view_if_needed()
        frame = await canvas.bounding_box()
        assert frame is not None
        x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        await page.mouse.move(x, y)
        await page.mouse.down()
        await page.mouse.move(x + 40, y + 30, steps=4)
        await page.mouse.up()
        dragged = await canvas.evaluate("canvas => canvas.toDataURL()")
        assert len({before, zoomed, dragged}) == 3
        await page.context.close()


async def test_phone_offers_its_own_camera(system: PageSystem, browser: PageBrowser, tmp_path: Path) -> None:
    picture = tmp_path / "phone.jpg"
    picture.write_bytes(wide_picture((1200, 1600)))
    desktop = await browser.open(system.url, "person-new")
    await expect(desktop.get_by_label("Or take one with the phone's camera")).to_be_hidden()
    page = await browser.open(system.url, width=390, has_touch=True, is_mobile=True)
    await open_form(page, system)
    field = page.get_by_label("Or take one with the phone's camera")
    await expect(field).to_have_attribute("capture", "user")
    await expect(field).to_have_attribute("accept", "image/*")
    assert not await small_targets(page)
    await field.set_input_files(picture)
    stored = await save(page, system)
    assert stored.width * 3 == stored.height * 4


async def test_phone_camera_works_without_javascript(system: PageSystem, browser: PageBrowser, tmp_path: Path) -> None:
    picture = tmp_path / "phone.jpg"
    picture.write_bytes(sample_photo(2))
    page = await browser.open(system.url, width=390, has_touch=True, is_mobile=True, java_script_enabled=False)
    await open_form(page, system)
    await page.get_by_label("Or take one with the phone's camera").set_input_files(picture)
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1, name="Ada")).to_be_visible()
    assert (await page.request.get(f"{system.url}/persons/1001/photo")).status == 200


async def test_camera_is_shown_with_the_oval_and_released_after_the_picture(
    system: PageSystem, browser: PageBrowser
) -> None:
    context = await browser.context(system.url, permissions=["camera"])
    page = await context.new_page()
    await open_form(page, system)
    await page.get_by_role("button", name="Use this device's camera").press("Enter")
    video = page.locator("video")
    await expect(video).to_be_visible()
    await expect(page.locator(".frame ellipse")).to_be_visible()
    tracks = await video.evaluate_handle("video => video.srcObject.getTracks()")
    assert await tracks.evaluate("tracks => tracks.map((track) => track.readyState)") == ["live"]
    assert not await accessibility_faults(page)
    # The button has the focus.
    await page.keyboard.press("Enter")
    await expect(video).to_be_hidden()
    assert await tracks.evaluate("tracks => tracks.map((track) => track.readyState)") == ["ended"]
    stored = await save(page, system)
    assert stored.width * 3 == stored.height * 4


async def test_refused_camera_is_explained(system: PageSystem, browser: PageBrowser) -> None:
    page = await browser.open(system.url, "person-new")
    await page.get_by_role("button", name="Use this device's camera").click()
    await expect(page.locator("[data-hint]")).to_contain_text("No camera is available here.")


async def test_week_is_edited_with_the_keyboard_alone(system: PageSystem, browser: PageBrowser, tmp_path: Path) -> None:
    picture = tmp_path / "face.jpg"
    picture.write_bytes(sample_photo(1))
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(system.url)
        await open_form(page, system)
        await page.get_by_label("Choose a picture").set_input_files(picture)
        await expect(page.locator("#photo-verdict")).to_contain_text("This picture can be used.")
        await page.get_by_label("Only at these hours").focus()
        await page.keyboard.press("Space")
        await page.keyboard.press("Tab")
        await page.keyboard.type("08:00-12:00;13:00-17:30")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Copy to every day")).to_be_focused()
        await page.keyboard.press("Enter")
        for _ in range(6):
            await page.keyboard.press("Tab")
        await expect(page.get_by_label("Sunday")).to_be_focused()
        await page.keyboard.press("Control+a")
        await page.keyboard.press("Delete")
        bars = page.locator("dl.week dd")
        for day, count in enumerate([2, 2, 2, 2, 2, 2, 0]):
            await expect(bars.nth(day).locator(".bar")).to_have_count(count)
        bar = bars.nth(1).locator(".bar").first
        assert [await bar.get_attribute(name) for name in ("x", "width")] == ["480", "240"]
        await page.get_by_label("Sunday").press("Enter")
        await expect(page.get_by_role("heading", level=1, name="Ada")).to_be_visible()
        await until(lambda: "1001" in terminal.persons)
        weekly = terminal.persons["1001"].weekly or {}
        assert weekly["Saturday"] == "08:00-12:00;13:00-17:30"
        assert not weekly["Sunday"]
