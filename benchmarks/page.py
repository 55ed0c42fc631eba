"""The page in a real browser: bytes, requests, processor time until it is usable, and opens beside open pages.

    python -m benchmarks.page [--terminals 10000] [--pages 100] [--rounds 10]

Needs Chromium (`/usr/bin/chromium`). Server, browser and load share the machine, so only the ratio of the two open
round trips, the sizes and the processor times are comparable between machines.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from playwright.async_api import BrowserContext

from bridge.core.clock import Clock
from tests.support.core import RecordingConnection, known_terminal
from tests.support.waiting import until
from tests.support.web import WebServerUnderTest
from tests.web.page.page_system import PageBrowser, accessibility_faults, page_browser, wait_live

CLOCK = Clock()

OPENS_A_ROUND = 100

DEADLINE_SECONDS = 60
"""Also beside other work on the machine, no open expires."""

PHONE_SLOWDOWN = 4
PHONE_BYTES_A_SECOND = 1.6e6 / 8
PHONE_LATENCY_MS = 150
"""Lighthouse's slow 4G."""


@asynccontextmanager
async def server_with(terminals: int) -> AsyncIterator[WebServerUnderTest]:
    """Run a server with this many known terminals; T1 is connected and answers."""
    server = WebServerUnderTest(has_page=True, deadline=DEADLINE_SECONDS)
    for number in range(terminals):
        server.registry.put(known_terminal(f"D{number:05}", name=f"Door {number:05}", groups=(f"g{number % 50}",)))
    async with server.open():
        yield server


_LIVE = """new Promise((done) => {
  const look = () => {
    const isLive = document.getElementById("live")?.dataset.state === "yes";
    if (isLive) done({ live: performance.now(), shown: performance.getEntriesByType("paint").at(-1)?.startTime ?? 0 });
    return isLive;
  };
  if (!look()) {
    const observer = new MutationObserver(() => { if (look()) observer.disconnect(); });
    observer.observe(document, { subtree: true, childList: true, attributes: true });
  }
})"""
"""Waits in the page: Playwright's own checks would take a third of the processor time that is measured."""


async def visit(context: BrowserContext, url: str, *, as_phone: bool) -> str:
    """Open the first page; return its figures as text."""
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    await session.send("Network.enable")
    await session.send("Performance.enable")
    if as_phone:
        await session.send("Emulation.setCPUThrottlingRate", {"rate": PHONE_SLOWDOWN})
        limits = {"downloadThroughput": PHONE_BYTES_A_SECOND, "uploadThroughput": PHONE_BYTES_A_SECOND}
        await session.send(
            "Network.emulateNetworkConditions", {"offline": False, "latency": PHONE_LATENCY_MS, **limits}
        )
    used = time.process_time()
    await session.send("Page.navigate", {"url": url})
    times = await session.send("Runtime.evaluate", {"expression": _LIVE, "awaitPromise": True, "returnByValue": True})
    server = time.process_time() - used
    metrics = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
    loaded = [size for size in sizes if size]
    await page.close()
    milliseconds = times["result"]["value"]
    return (
        f"shown after {milliseconds['shown'] / 1000:.2f} s, live after {milliseconds['live'] / 1000:.2f} s (page's own"
        f" work {metrics['TaskDuration']:.2f} s, of which script {metrics['ScriptDuration']:.2f} s and layout"
        f" {metrics['LayoutDuration'] + metrics['RecalcStyleDuration']:.2f} s; server's {server:.3f} s of processor"
        f" time); {len(loaded)} requests, {sum(loaded) / 1000:.1f} kB"
    )


async def show_visits(browser: PageBrowser, server: WebServerUnderTest) -> None:
    """Print the figures of first and repeated visits, on a desktop and on a slow phone."""
    for name, width, as_phone in (("desktop", 1280, False), ("phone", 390, True)):
        context = await browser.context(server.url, width=width)
        for kind in ("first visit", "second visit", "third visit"):
            print(f"{name}, {kind}: {await visit(context, server.url, as_phone=as_phone)}", flush=True)
        await context.close()


async def show_delay(browser: PageBrowser, server: WebServerUnderTest) -> None:
    """Print how long a change of a terminal takes to the screen."""
    page = await browser.open(server.url)
    await wait_live(page)
    text = page.locator("#terminal-D00000")
    delays = []
    for _ in range(10):
        connection = RecordingConnection(server.registry, "D00000")
        for state in ("Online", "Offline"):
            begin = CLOCK.boottime()
            if state == "Online":
                server.registry.connected(connection)
            else:
                server.registry.disconnected(connection, "left")
            await text.get_by_text(state, exact=True).wait_for()
            delays.append(CLOCK.boottime() - begin)
            await asyncio.sleep(1.1)
    print(f"a change is visible after {statistics.median(delays):.2f} s (median), {max(delays):.2f} s (largest)")
    await page.context.close()


async def open_once(session: aiohttp.ClientSession) -> float:
    """Open a door over HTTP; return the seconds of the round trip."""
    begin = time.perf_counter()
    async with session.post("/api/terminals/T1/open") as response:
        assert response.status == 200
        await response.read()
    return time.perf_counter() - begin


@asynccontextmanager
async def open_pages(server: WebServerUnderTest, pages: int) -> AsyncIterator[None]:
    """Keep pages open in a process of its own, so that their work is not the server's."""
    command = (sys.executable, "-m", "benchmarks.page_listeners", server.url, str(pages))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        assert server.server.open_streams == pages
        yield
    finally:
        process.kill()
        await process.wait()
        await until(lambda: server.server.open_streams == 0)


async def show_opens(server: WebServerUnderTest, pages: int, rounds: int) -> None:
    """Print the round trip of an open with and without open pages, in alternating rounds of one run."""
    medians: dict[int, list[float]] = {0: [], pages: []}
    async with aiohttp.ClientSession(server.url) as session:
        await open_once(session)
        for number in range(rounds * 2):
            present = (0, pages)[number % 2]
            async with open_pages(server, present):
                times = []
                for _ in range(OPENS_A_ROUND):
                    times.append(await open_once(session))
                    await asyncio.sleep(0.01)
                medians[present].append(statistics.median(times))
    without, beside = statistics.median(medians[0]), statistics.median(medians[pages])
    ratios = sorted(one / other for one, other in zip(medians[pages], medians[0], strict=True))
    print(
        f"open p50: {without * 1000:.2f} ms without pages, {beside * 1000:.2f} ms beside {pages} open pages:"
        f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


async def run(terminals: int, pages: int, rounds: int) -> None:
    """Measure all of it."""
    async with page_browser() as browser, server_with(terminals) as server:
        print(f"{terminals:,} terminals")
        await show_visits(browser, server)
        await show_delay(browser, server)
        page = await browser.open(server.url)
        await wait_live(page)
        print(f"axe: {len(await accessibility_faults(page))} violations on the first page")
        await browser.close_pages()
    async with server_with(2) as server:
        await show_opens(server, pages, rounds)
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB at most")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--terminals", type=int, default=10_000)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    asyncio.run(run(options.terminals, options.pages, options.rounds))


if __name__ == "__main__":
    main()
