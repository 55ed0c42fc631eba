"""The documents as a site: it builds strictly, in two languages, and loads nothing from other servers."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest
from aiohttp import web
from playwright.async_api import TimeoutError as PlaywrightTimeoutError
from playwright.async_api import async_playwright

from tests.support.ports import free_port
from tools.site import ROOT, collect, site_documents, with_site_links

CHINESE_PAGES = sorted(path.name.removesuffix(".zh.md") for path in (ROOT / "docs").glob("*.zh.md"))


def build(documents: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SITE_DOCS": str(documents), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    documents, folder = tmp_path_factory.mktemp("documents"), tmp_path_factory.mktemp("site")
    collect(documents)
    done = build(documents, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(180)
def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    for path in site_documents():
        if path.endswith(".md") and not path.endswith(".zh.md"):
            name = re.sub(r"(^|/)(README|index)$", r"\1", path.removesuffix(".md"))
            for language in ("", "zh/"):
                assert (site / language / name / "index.html").is_file(), path


@pytest.mark.timeout(180)
def test_pages_are_in_their_language(site: Path) -> None:
    assert {"index", "first-door", "concepts", "faq", "recipes", "trouble", "upgrade", "security"} <= set(CHINESE_PAGES)
    for name in CHINESE_PAGES:
        folder = "" if name == "index" else name
        chinese = (site / "zh" / folder / "index.html").read_text()
        assert '<html lang="zh"' in chinese
        assert re.search(r"<h1[^>]*>[^<]*(?:[\u4e00-\u9fff]|Facebridge)", chinese), name
        assert '<html lang="en"' in (site / folder / "index.html").read_text()


@pytest.mark.timeout(180)
def test_no_page_loads_anything_from_other_servers(site: Path) -> None:
    loaded = re.compile(
        r'<(?:script|img|iframe)\b[^>]*\bsrc="(https?:)?//|<link\b(?=[^>]*\brel="(?:stylesheet|icon|preload|preconnect)")[^>]*\bhref="(?:https?:)?//'
    )
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not loaded.search(text), page
        # The theme would load Mermaid from another server for such a block.
        assert 'class="mermaid"' not in text, page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", style.read_text()), style


@pytest.mark.timeout(180)
def test_diagrams_are_pictures(site: Path) -> None:
    page = (site / "persons" / "index.html").read_text()
    (picture,) = re.findall(r'<img[^>]*src="([^"]+\.svg)"', page)
    ElementTree.fromstring((site / "persons" / picture).read_text())
    assert not [page for page in site.rglob("*.html") if "flowchart " in page.read_text()]


def test_a_diagram_without_a_picture_is_a_fault() -> None:
    with pytest.raises(FileNotFoundError, match="run scripts/draw-diagrams"):
        with_site_links("```mermaid\nflowchart LR\n  a --> b\n```\n", "faq.md", site_documents())


@pytest.mark.timeout(180)
def test_both_languages_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    texts = {entry["location"]: entry["title"] + entry["text"] for entry in index["docs"]}
    assert any(location.startswith("zh/concepts/") and "待批准" in text for location, text in texts.items())
    assert any(location.startswith("concepts/") and "pending" in text for location, text in texts.items())
    # An English page that stands in for a missing Chinese one is found once.
    assert "promises/" in texts
    assert "zh/promises/" not in texts


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_browser_finds_pages_and_asks_no_other_server(site: Path) -> None:
    application = web.Application()
    application.router.add_static("/", site)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = await browser.new_page()
            requested: list[str] = []
            page.on("request", lambda request: requested.append(request.url))
            for start, words, found in (
                ("", "persons purge everywhere", "/reference-command-line/"),
                ("zh/", "待批准", "/zh/"),
            ):
                await page.goto(f"http://127.0.0.1:{port}/{start}index.html")
                query = page.locator("[data-md-component=search-query]")
                result = page.locator(f".md-search-result__link[href*='{found}']").first
                # The page reads what is entered when a key is released. Text that is entered before the index is loaded
                # is not searched, and the page does not say when it is.
                async with asyncio.timeout(110):
                    while not await result.count():
                        for text in ("", words):
                            await query.fill(text)
                            await query.press("End")
                        with suppress(PlaywrightTimeoutError):
                            await result.wait_for(state="attached", timeout=15_000)
            await browser.close()
        assert requested
        assert not [url for url in requested if not url.startswith((f"http://127.0.0.1:{port}/", "data:"))]
    finally:
        await runner.cleanup()


@pytest.mark.timeout(180)
def test_a_wrong_link_ends_the_build(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    collect(documents)
    (documents / "faq.md").write_text("# Questions\n\n[nowhere](nowhere.md)\n")
    done = build(documents, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


@pytest.mark.timeout(180)
def test_a_page_without_a_place_in_the_menu_ends_the_build(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    collect(documents)
    (documents / "forgotten.md").write_text("# Forgotten\n")
    done = build(documents, tmp_path / "site")
    assert done.returncode != 0
    assert "forgotten.md" in done.stderr


@pytest.mark.parametrize(
    ("path", "link", "wanted"),
    [
        ("faq.md", "(../SECURITY.md#check-a-release)", "(SECURITY.md#check-a-release)"),
        ("faq.md", "(../examples/broker/README.md)", "(examples/broker/README.md)"),
        ("examples/broker/README.md", "(../../docs/operation.md#limits)", "(../../operation.md#limits)"),
        ("faq.md", "(../config.yaml)", "(https://github.com/facebridge/facebridge/blob/main/config.yaml)"),
        ("faq.md", "(../examples/broker)", "(https://github.com/facebridge/facebridge/tree/main/examples/broker)"),
        ("faq.zh.md", "(concepts.md#groups)", "(concepts.md#groups)"),
        ("faq.md", "(https://example.org/a.md)", "(https://example.org/a.md)"),
        ("faq.md", "(#does-it-work)", "(#does-it-work)"),
    ],
)
def test_links_lead_to_the_site_or_to_github(path: str, link: str, wanted: str) -> None:
    files = site_documents()
    assert with_site_links(f"see [x]{link}\n", path, files) == f"see [x]{wanted}\n"
    in_code = f"```\n[x]{link}\n```"
    assert with_site_links(in_code, path, files) == in_code


def test_a_picture_of_another_server_becomes_its_text() -> None:
    text = "[![Import](https://example.org/badge.svg)](https://example.org/import)\n"
    assert with_site_links(text, "faq.md", site_documents()) == "[Import](https://example.org/import)\n"
