"""The translations are complete and compiled, and a request gets the language it prefers."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from bridge.simulator.faces import sample_photo
from bridge.web.page.recognition import TextRecognizer
from bridge.web.page.translations import choose_language, load_catalogs
from tests.web.page.page_system import PageSystem
from tools import translations
from tools.message_sources import MessageSources

CHINESE = {"Accept": "text/html", "Accept-Language": "zh-CN"}

FROM_ELSEWHERE = {
    *("answer.message", "error.message", "error.reason", "error.args[0]", "error.faults[0].message", "self.message"),
    *(
        "error",
        "str(error)",
        "str(new.error)",
        "str(failure)",
        "fault",
        "fault['message']",
        "problem",
        "remedy",
        "text",
    ),
    *("reply.message or ''", "job.drop_message or ''", "inspection.photo_key_problem", "end.result()"),
    *("decode_message(content)", "self._ended.result() if self._ended.done() else CONNECTION_LOST"),
    (
        "'; '.join((f'{fault.path}: {fault.message}' if fault.path else fault.message for fault in "
        "faults[:_MAX_FAULTS_IN_MESSAGE]))"
    ),
    "f'{path} cannot be written: {error.strerror}'.lstrip()",
    "failure",
}
"""Texts that were made before."""


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


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_documents_name_what_the_page_shows(language: str) -> None:
    """Buttons and states are in bold and italic type in docs/page.md, with the page's own words."""
    catalog = next(translations.read(file) for file in translations.catalog_files())
    shown = [message.id if language == "en" else message.string for message in catalog if message.id]
    words = {text.rstrip(".。") for one in shown for text in ([one] if isinstance(one, str) else one or [])}
    document = translations.PAGE.parents[2] / "docs" / ("page.md" if language == "en" else "page.zh.md")
    named = re.findall(r"\*{1,2}([^*\n]+)\*{1,2}", document.read_text())
    assert len(named) > 20
    assert {name for name in named if name not in words} <= {
        # A request, and a text with the time in it.
        *("Configure a login.", "请配置登录。", "not live", "不再实时"),
    }


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


def test_every_text_that_the_page_shows_has_a_template() -> None:
    """What reports a text leads to literals; else the page could not translate it, and this test names the place."""
    found = translations.texts()
    assert len(found.texts) > 600
    assert {one.text for one in found.texts} >= {
        # From dictionaries, conditions and functions.
        "no answer from the terminal",
        "the connection to the broker was lost",
        "nothing listens on %(address)s",
        "free some space on its disk",
        "the store's folder %(folder)s does not exist",
        "this machine's clock is %(seconds)s s behind the clock of %(name)s",
    }
    assert [one for one in found.unresolved if one.text not in FROM_ELSEWHERE] == []


def test_a_new_text_is_found_wherever_it_is_written(tmp_path: Path) -> None:
    module = tmp_path / "new.py"
    module.write_text(
        """
LATE = "the door is late"

def refuse(reason: str) -> None:
    raise InvalidError.at("door", reason)

def why(number: int) -> str:
    if number > 1:
        return f"{number:,} doors are open"
    return LATE

def act(number: int, name: str) -> None:
    refuse(why(number))
    stuck, other = "a stuck door", name
    found = stuck if number else other
    raise UnavailableError(f"{found} of {name}: look at it" if name else message("no door in %(where)s", where=name))

def fail(error: Exception) -> None:
    raise UnavailableError(error.reason)
"""
    )
    found = MessageSources(tmp_path, [module])
    assert {one.text for one in found.texts} == {
        "the door is late",
        "%(number)s doors are open",
        "a stuck door",
        "%(found)s of %(name)s: look at it",
        "no door in %(where)s",
    }
    assert {one.text for one in found.unresolved} == {"error.reason"}


@pytest.fixture(scope="module")
def recognizer() -> TextRecognizer:
    return TextRecognizer(load_catalogs()["zh-CN"])


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("the terminal is not connected; not carried out", "终端未连接；未执行"),
        ("terminal T1 is not known: check the SN", "未知的终端 T1：请检查序列号"),
        # A fault with its place, and several faults.
        ("photo: is not a picture; give a JPEG, PNG, WebP or HEIC", "photo：不是图片；请使用 JPEG、PNG、WebP 或 HEIC"),
        (
            "sn: terminal T1 is not known: check the SN; photo: is empty",
            "sn：未知的终端 T1：请检查序列号；photo：是空的",
        ),
        # A text in a text, and the driver's own reason.
        (
            "changes cannot be stored now: the store is full (disk full): free some space on its disk",
            "现在无法保存更改：数据库已满（disk full）：释放其磁盘上的空间",
        ),
        (
            "reached the bridge too late; not carried out (no terminal is in group 'x': check the name)",
            "到达网桥太迟；未执行（组 'x' 中没有终端：请检查名称）",
        ),
        # The log shortens texts.
        ("the terminal is not connected; not ca…", "终端未连接；未执行"),
        ("terminal T1 is not known: check…", "未知的终端 T1：请检查序列号"),
        (
            "name: must not be empty; asked_at is A, and the bridge's clock sho…",
            "name：不能为空；asked_at 为 A，而请求到达时网桥的时钟显示 …：请求在途中滞留，或…；请用 NTP 校准双方，误差在一秒以内",  # noqa: E501  a text
        ),
        ("no…", None),
        # Names and the terminals' own words stay as they are, also if they look like messages.
        ("terminal Open is not known: check the SN", "未知的终端 Open：请检查序列号"),
        ("no face found", None),
        ("", None),
        (" ", None),
        ("x" * 100_000, None),
        ("; " * 1_900, None),
        ("a (" * 900 + ")" * 900, None),
        # Values are no templates.
        ("must be %(expected)s, not %s", "必须是%(expected)s，不能是 %s"),
        ("must be a list; not 'x y'", None),
        ("must be an object, not a list; not 'x y'", "必须是对象，不能是 列表；不能是 'x y'"),
    ],
)
def test_stored_texts_are_recognised(recognizer: TextRecognizer, text: str, translation: str | None) -> None:
    found = recognizer.translate(text)
    if translation is None:
        assert found is None
    else:
        assert found == translation


def test_every_template_is_recognised_with_any_values(recognizer: TextRecognizer) -> None:
    """Each message of the code is found again when its values are put in, and no place is left."""
    catalog = load_catalogs()["zh-CN"]
    for template in {one.text for one in translations.texts().texts}:
        names = re.findall(r"%\((\w+)\)s", template)
        text = template % {name: f"<{number}>" for number, name in enumerate(names)} if names else template
        letters = re.sub(r"%\(\w+\)s|[^A-Za-z]", "", template)
        if len(letters) >= 5 and catalog.gettext(template) != template:
            assert recognizer.translate(text) is not None, template


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
