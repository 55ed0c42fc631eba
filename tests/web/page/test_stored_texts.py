"""Texts from the log, beside persons and from the doctor are in the language of the page."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.web.page.page_system import PageSystem

OWN_WORDS = "no face found; the terminal is not connected; not carried out"
"""Words of a terminal that look like the bridge's."""

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CHINESE = {"Accept": "text/html", "Accept-Language": "zh-CN"}


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PageSystem]:
    async with PageSystem(tmp_path) as system:
        yield system


@pytest.fixture
async def session(system: PageSystem) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(system.url, headers=CHINESE) as session:
        yield session


async def page(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as response:
        return await response.text()


def english_in(text: str) -> Sequence[str]:
    """Return the texts that are marked as English."""
    return re.findall(r'<span lang="en">(.*?)</span>', text)


async def test_reasons_in_the_log_are_translated_and_the_terminals_words_are_not(
    system: PageSystem, session: aiohttp.ClientSession
) -> None:
    requests: Sequence[tuple[str, str, object]] = (
        ("POST", "/api/terminals/T2/open", {}),
        ("POST", "/api/terminals/T9/open", {}),
        ("POST", "/api/groups/nowhere/open", {}),
        ("POST", "/api/terminals/T1/open", {"asked_at": "2020-01-01T00:00:00Z"}),
        ("POST", "/api/terminals/T1/open", {"askedat": 1}),
        ("PUT", "/api/terminals/T1/persons/p2", {"name": "Ada"}),
        ("PUT", "/api/terminals/T1/persons/p2", {"name": "", "photo": "!", "valid_from": "x y", "card": [1]}),
        ("PUT", "/api/terminals/T1/persons/p2", {"weekly": {"Monday": "25:00-26:00"}}),
        ("POST", "/api/terminals/T1/sync", {"clear": True, "confirm": "T2"}),
        ("DELETE", "/api/terminals/T1", None),
        ("POST", "/api/pending/T7/admit", {"groups": ["all"]}),
        ("POST", "/api/pending/T1/admit", {}),
    )
    async with system.terminal("T1").running() as terminal:
        await terminal.wait_connected()
        for method, path, body in requests:
            async with session.request(method, path, json=body) as response:
                assert response.status >= 400, await response.text()
        terminal.behaviour = Behaviour(refusal=Refusal(7, OWN_WORDS))
        form = aiohttp.FormData({"name": "Ada"})
        form.add_field("photo", sample_photo(1), filename="ada.jpg", content_type="image/jpeg")
        async with session.put("/api/terminals/T1/persons/p1", data=form) as response:
            assert response.status == 202
        # The bridge writes the log after the responses.
        while (log := await page(session, "/log")).count('class="state bad"') < len(requests) + 1:
            await asyncio.sleep(0.1)
    assert english_in(log) == []
    for translation in (
        "终端未连接；未执行",
        "未知的终端 T9：请检查序列号",
        "组 &#39;nowhere&#39; 中没有终端",
        "未知的键 &#39;askedat&#39;",
    ):
        assert translation in log
    assert f"<q>{OWN_WORDS}</q>" in log
    person = await page(session, "/persons/p1")
    assert f"<q>{OWN_WORDS}</q>" in person
    async with session.get("/log", headers={"Accept-Language": "en"}) as response:
        english = await response.text()
    assert 'lang="en">' not in english.split("<main", 1)[1].split("<footer", 1)[0]
    assert "the terminal is not connected; not carried out" in english


@pytest.mark.parametrize(
    ("method", "path", "headers", "data", "status", "sentence"),
    [
        ("GET", "/persons/p1", {"Origin": "http://attacker.example"}, None, 403, "不允许来自其他网站的请求"),
        ("GET", "/nowhere", {}, None, 404, "未知的路径"),
        ("GET", "/terminals/T9", {}, None, 404, "T9"),
        ("DELETE", "/log", {}, None, 405, "此路径不允许方法 DELETE"),
        ("POST", "/preferences", FORM, b"x" * 100_000, 413, "表单太大"),
        ("POST", "/preferences", {"Content-Type": "text/plain"}, b"x", 415, "表单必须是"),
        ("GET", "/log", {}, b"x", 400, "此路径不接受正文"),
        ("GET", "/static/none.css", {}, None, 404, "未知的"),
    ],
)
async def test_errors_are_pages_in_the_language_of_the_user(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    headers: dict[str, str],
    data: bytes | None,
    status: int,
    sentence: str,
) -> None:
    async with session.request(method, path, headers=headers, data=data) as response:
        text = await response.text()
        assert response.status == status
        assert response.content_type == "text/html"
    assert sentence in text
    assert english_in(text) == []
    assert re.search(r"<h1>[^a-zA-Z]+</h1>", text)
