"""The page behind a real nginx that ends TLS, under another name and path, and one that holds streams back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.support.nginx import BUFFERING, Nginx
from tests.web.page.page_system import PageBrowser, PageSystem, open_door, wait_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOGIN: Mapping[str, Any] = {"username": "admin", "password": "secret", "trusted_proxies": ["127.0.0.1"]}


@asynccontextmanager
async def behind(nginx: Nginx, folder: Path, **web: Any) -> AsyncIterator[PageSystem]:
    """Run a bridge behind nginx."""
    folder.mkdir()
    async with (
        PageSystem(folder, web={"url": f"{nginx.url}/", **LOGIN, **web}) as system,
        nginx.running(system.bridge.web_port),
    ):
        yield system


async def sign_in(page: Page) -> None:
    await page.get_by_label("User").fill("admin")
    await page.get_by_label("Password").fill("secret")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


@pytest.mark.parametrize(("path", "prefix"), [("/", "__Host-"), ("/doors/", "__Secure-")])
async def test_a_person_signs_in_and_opens_over_tls(
    tmp_path: Path, browser: PageBrowser, path: str, prefix: str
) -> None:
    nginx = Nginx(tmp_path / "nginx", path)
    async with behind(nginx, tmp_path / "system") as system, system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        page = await browser.open(nginx.url, "terminals/T1", ignore_https_errors=True)
        assert page.url == f"{nginx.url}/login?next=terminals%2FT1"
        await sign_in(page)
        assert page.url == f"{nginx.url}/terminals/T1"
        (cookie,) = await page.context.cookies()
        assert cookie["name"] == f"{prefix}facebridge_session"
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert cookie["path"] == (path.rstrip("/") or "/")
        await page.get_by_role("link", name="Facebridge").click()
        dialog = await open_door(page)
        await expect(dialog.get_by_role("status")).to_contain_text("The door is open.")
        await dialog.get_by_role("link", name="Close").click()
        assert terminal.opened == 1
        streams: list[str] = []
        page.on("request", lambda request: streams.append(request.url) if "api/events" in request.url else None)
        await page.reload()
        await wait_live(page)
        assert streams == [one for one in streams if one.startswith(f"{nginx.url}/api/events")]
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("status")).to_have_text("You have signed out.")
        assert not await page.context.cookies()
        await page.go_back()
        await expect(page.get_by_label("Password")).to_be_visible()
        await browser.close_pages()


@pytest.mark.parametrize("extra", ["", BUFFERING], ids=["passing", "buffering"])
async def test_the_page_is_current_and_says_when_it_is_not_live(
    tmp_path: Path, browser: PageBrowser, extra: str
) -> None:
    nginx = Nginx(tmp_path / "nginx", "/doors/", extra)
    async with behind(nginx, tmp_path / "system") as system:
        page = await browser.open(nginx.url, ignore_https_errors=True)
        await sign_in(page)
        received: list[str] = []
        page.on("response", lambda response: received.append(response.url) if "api/events" in response.url else None)
        await wait_live(page)
        async with system.terminal("T1").running() as terminal:
            await terminal.wait_connected()
            await expect(page.locator("#terminal-T1")).to_contain_text("Online")
        await expect(page.locator("#terminal-T1")).to_contain_text("Offline")
        await wait_live(page)
        nginx.stop()
        await expect(page.locator("#live")).to_have_attribute("data-state", "no")
        await expect(page.locator("#live")).to_contain_text("Not live since")
        await nginx.start()
        await wait_live(page)
        await browser.close_pages()
        # The browser reports each request that failed while nginx was down.
        assert all("ERR_" in error for error in browser.errors)
        browser.errors.clear()


async def test_the_proxy_that_buffers_holds_the_stream_back(tmp_path: Path) -> None:
    """Without this, the test above would prove nothing about polling."""
    nginx = Nginx(tmp_path / "nginx", "/", BUFFERING)
    async with behind(nginx, tmp_path / "system") as system:
        headers = {"Authorization": aiohttp.encode_basic_auth("admin", "secret"), "Accept-Encoding": "gzip"}
        for url, arrives in ((system.url, True), (nginx.url, False)):
            async with aiohttp.ClientSession(headers=headers) as session:
                try:
                    timeout = aiohttp.ClientTimeout(sock_read=12)
                    async with session.get(f"{url}/api/events", ssl=nginx.tls, timeout=timeout) as response:
                        await response.content.readuntil(b"event: heartbeat")
                except TimeoutError:
                    assert not arrives
                else:
                    assert arrives


async def test_wrong_logins_are_counted_for_the_client_of_the_proxy(tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx")
    async with behind(nginx, tmp_path / "system") as system, aiohttp.ClientSession() as session:

        async def attempt(number: int, url: str, forwarded_for: str) -> int:
            headers = {"Authorization": f"Bearer {number}", "X-Forwarded-For": forwarded_for}
            async with session.get(f"{url}/api/terminals", headers=headers, ssl=nginx.tls) as response:
                return response.status

        # nginx replaces the header, so a client cannot choose the address that is counted.
        statuses = [await attempt(number, nginx.url, f"192.0.2.{number}") for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert await attempt(20, system.url, "192.0.2.20") == 401


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_a_trusted_proxy_says_that_the_browser_uses_https(tmp_path: Path, trusted: bool) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    web = {**LOGIN, "trusted_proxies": ["127.0.0.1"] if trusted else ["192.0.2.1"]}
    async with PageSystem(folder, web=web) as system, aiohttp.ClientSession(system.url) as session:
        # Without `web.url`, the page's address is that of the request.
        port = system.bridge.web_port
        for scheme in ("http", "https"):
            fields = {"name": "admin", "password": "secret"}
            headers = {"X-Forwarded-Proto": "https", "Origin": f"{scheme}://127.0.0.1:{port}", "Accept": "text/html"}
            async with session.post("/login", data=fields, headers=headers, allow_redirects=False) as response:
                assert response.status == 303
                is_secure = "Secure" in response.headers["Set-Cookie"]
                assert is_secure is (trusted or scheme == "https")
