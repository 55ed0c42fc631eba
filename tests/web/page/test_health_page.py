"""The doctor's findings on the page: found in the background, each with what to do, without secrets."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from bridge.model.faults import UnavailableError
from bridge.web.page.checks import MIN_INTERVAL_SECONDS, BackgroundChecks, HealthFinding
from tests.support.core import ManualClock
from tests.support.waiting import until
from tests.web.page.page_system import PageBrowser, PageSystem, accessibility_faults, small_targets, wait_live

FINDINGS = [
    HealthFinding(code="clock_ok", area="clock", level="ok", what="synchronised", to_do=""),
    HealthFinding(code="nagle", area="broker", level="hint", what="the broker delays", to_do="set a option"),
    HealthFinding(code="store_disk_full", area="store", level="wrong", what="10 MB are free", to_do="delete files"),
]


class Doctor:
    """Counts the runs; each ends when it may."""

    def __init__(self) -> None:
        self.runs = 0
        self.may_end = asyncio.Event()
        self.fault: str | None = None

    async def find(self) -> list[HealthFinding]:
        self.runs += 1
        await self.may_end.wait()
        if self.fault is not None:
            raise UnavailableError(self.fault)
        return FINDINGS


async def test_one_run_at_a_time_and_not_again_at_once() -> None:
    doctor, clock = Doctor(), ManualClock()
    checks = BackgroundChecks(doctor.find, clock)
    for _ in range(3):
        checks.start()
        await asyncio.sleep(0)
    assert (doctor.runs, checks.started_at is None, checks.ended_at) == (1, False, None)
    doctor.may_end.set()
    await until(lambda: checks.started_at is None)
    assert [one.code for one in checks.findings] == ["store_disk_full", "nagle", "clock_ok"]
    checks.start()
    assert checks.started_at is None
    clock.seconds += MIN_INTERVAL_SECONDS
    doctor.fault = "the doctor cannot be started"
    checks.start()
    await until(lambda: checks.error is not None)
    assert (doctor.runs, checks.error) == (2, "the doctor cannot be started")
    # The earlier findings stay, with their time.
    assert len(checks.findings) == 3
    await checks.stop()


async def test_a_run_ends_with_the_bridge() -> None:
    doctor = Doctor()
    checks = BackgroundChecks(doctor.find, ManualClock())
    checks.start()
    await until(lambda: doctor.runs == 1)
    await checks.stop()
    assert checks.started_at is None


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_findings_are_shown_with_what_to_do_and_no_secret(tmp_path: Path) -> None:
    web = {"username": "admin", "password": "secret-of-page", "tokens": {"g": {"hash": "guard", "role": "operator"}}}
    admin = {"Authorization": aiohttp.encode_basic_auth("admin", "secret-of-page"), "Accept": "text/html"}
    operator = {"Authorization": "Bearer guard", "Accept": "text/html"}
    async with (
        PageSystem(tmp_path, web=web) as system,
        system.terminal("T1").running() as terminal,
        aiohttp.ClientSession(system.url) as session,
    ):
        await terminal.wait_connected()

        async def page(**headers: str) -> str:
            async with session.get("/health", headers={**admin, **headers}) as response:
                assert response.status == 200
                return await response.text()

        async with session.post("/health/check", data={}, headers=operator) as response:
            assert response.status == 403
        assert 'action="./health/check"' not in await page(**operator)
        assert "finding" not in (await page()).replace("findings", "")
        async with session.post("/health/check", data={}, headers=admin) as response:
            assert "is being checked" in await response.text()
        # The bridge answers and opens meanwhile.
        async with session.post("/api/terminals/T1/open", headers=admin) as response:
            assert response.status == 200
        async with asyncio.timeout(120):
            while "terminal_password_short" not in (text := await page()):
                await asyncio.sleep(0.2)
        assert "The checks failed" not in text
        assert "To do" in text
        assert "checks are in order" in text
        for secret in ("secret-of-page", "guard", ">123<"):
            assert secret not in text


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("width", "locale", "scheme"), [(1280, "en", "light"), (390, "zh-CN", "dark")])
async def test_findings_appear_while_the_page_is_open(
    system: PageSystem, browser: PageBrowser, width: int, locale: str, scheme: str
) -> None:
    page = await browser.open(system.url, "health", width=width, locale=locale, color_scheme=scheme)
    await page.locator("form[action$='health/check'] button").click()
    await wait_live(page)
    await expect(page.locator(".findings > li").first).to_be_visible(timeout=120_000)
    await page.locator("details > summary").click()
    await expect(page.locator("details .findings > li").first).to_be_visible()
    # A refresh of the page leaves the list open.
    await asyncio.sleep(2)
    await expect(page.locator("details .findings > li").first).to_be_visible()
    assert not await accessibility_faults(page)
    assert not await small_targets(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
