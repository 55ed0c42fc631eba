"""The translations are complete and compiled, and a request gets the language it prefers."""

import ast
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from bridge.simulator.faces import sample_photo
from bridge.web.page.translations import choose_language
from tests.web.page.page_system import PageSystem
from tools import translations

CHINESE = {"Accept": "text/html", "Accept-Language": "zh-CN"}

MESSAGE_ARGUMENT = {"Fault": 1, "at": 1, "PersonFileError": 0}
"""For each call that makes a fault, which argument is the message."""


def test_every_message_is_translated_and_no_other() -> None:
    files = list(translations.catalog_files())
    assert files
    wanted = {message.id for message in translations.extracted() if message.id}
    assert len(wanted) > 50
    for file in files:
        catalog = translations.read(file)
        assert {message.id for message in catalog if message.id} == wanted, "run scripts/translate"
        for message in catalog:
            texts = message.string if isinstance(message.string, tuple | list) else [message.string]
            assert not message.id or all(texts), message.id
            assert not message.fuzzy or not message.id, message.id
            assert not list(message.check(catalog)), message.id


def test_compiled_catalogs_are_current() -> None:
    for file in translations.catalog_files():
        compiled = file.with_suffix(".mo").read_bytes()
        assert compiled == translations.compiled(translations.read(file)), "run scripts/translate"


@pytest.mark.parametrize(
    ("chosen", "header", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        (None, "zh-Hans-SG", "zh-CN"),
        (None, "zh-TW,en;q=0.5", "en"),
        (None, "de-DE, zh;q=0.4, en;q=0.8", "en"),
        (None, "de, fr", "en"),
        (None, "zh;q=0", "en"),
        (None, ";;;q=x,,\xff zh;q=NaN", "en"),
        ("zh-CN", "en", "zh-CN"),
        ("en", "zh-CN", "en"),
        ("xx", "zh-CN", "zh-CN"),
    ],
)
def test_language_is_chosen(chosen: str | None, header: str, language: str) -> None:
    assert choose_language(chosen, header) == language


def messages_of_faults() -> Iterator[tuple[str, ast.expr]]:
    """Return the place and the expression of each message of a fault that the page shows."""
    for file in translations.fault_files():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                position = MESSAGE_ARGUMENT.get(name)
                if position is not None and len(node.args) > position:
                    yield f"{file.name}:{node.lineno}", node.args[position]


def test_every_fault_can_be_translated() -> None:
    """An f-string has lost what it was made of: it must be `message("…%(name)s…", name=…)`."""
    found = list(messages_of_faults())
    assert len(found) > 90
    assert [place for place, expression in found if isinstance(expression, ast.JoinedStr | ast.BinOp)] == []


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with PageSystem(tmp_path) as system, aiohttp.ClientSession(system.url, headers=CHINESE) as session:
        yield session


async def post(session: aiohttp.ClientSession, path: str, fields: dict[str, str], photo: bytes) -> str:
    form = aiohttp.FormData(fields)
    form.add_field("photo", photo, filename="ada.jpg", content_type="image/jpeg")
    async with session.post(path, data=form) as response:
        return await response.text()


async def test_faults_of_a_form_are_in_the_language_of_the_page(session: aiohttp.ClientSession) -> None:
    fields = {"id": "1001", "name": "", "on-group-all": "yes", "enabled": "yes"}
    text = await post(session, "/person-new", fields, b"no picture")
    assert "不是图片；请使用 JPEG、PNG、WebP 或 HEIC" in text
    assert "缺失：新人员需要姓名" in await post(session, "/person-new", fields, sample_photo(1))
    fields |= {"weekly": "yes", "day-Monday": "25:00-26:00", "valid_until": "yesterday", "card": "1" * 200}
    text = await post(session, "/person-new", fields, sample_photo(1))
    assert "星期一：" in text
    assert "不是像“09:00-12:35”这样的时段" in text
    assert "必须是像“2026-11-24T08:00”的时间" in text
    assert "必须是最多" in text or "最多 " in text
    fields = {"id": "1001", "name": "Ada", "on-group-nowhere": "yes", "enabled": "yes"}
    assert "未知的终端或组 nowhere" in await post(session, "/person-new", fields, sample_photo(1))
    text = await post(session, "/photo-check", {}, b"GIF89a" + bytes(100))
    assert "请使用 JPEG、PNG、WebP 或 HEIC" in text


async def page_at(session: aiohttp.ClientSession, address: URL) -> str:
    async with session.get(address) as response:
        return await response.text()


async def test_faults_of_a_file_are_in_the_language_of_the_page(session: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData({"target": "group:all"})
    form.add_field("file", b"id,name,nmae\n?,,x\n", filename="persons.csv", content_type="text/csv")
    async with session.post("/import", data=form) as response:
        address = response.url
    while "data-poll" in (text := await page_at(session, address)):
        pass
    assert "第 1 行第 3 列：未知的键 &#39;nmae&#39;（您是指 &#39;name&#39; 吗？）" in text
