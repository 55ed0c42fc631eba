"""The translations are complete and compiled, and a request gets the language it prefers."""

import pytest

from bridge.web.page.translations import choose_language
from tools import translations


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
