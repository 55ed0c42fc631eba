"""The Chinese documents have the headings and the commands of the English ones."""

import re
from pathlib import Path

import pytest

from tests.documents.shown import ROOT, chinese_pages, commands, commands_in_sentences, documents

PAIRS = {english: documents()[english] for english in chinese_pages()}
USERS_PAGES = (
    "building", "concepts", "faq", "first-door", "home-assistant", "http", "index", "mqtt", "operation", "page",
    "persons", "privacy", "recipes", "security", "trouble", "upgrade",
)  # fmt: skip
"""Pages in docs/ that users need, and that therefore exist in Chinese."""


def headings(path: Path) -> list[tuple[int, str]]:
    """Return the level and the anchor of each heading. A Chinese heading has the anchor of the English one, too."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r'^(?:<a id="([\w-]+)"></a>\n\n)?(#+) (.+)$', text, re.MULTILINE)
    return [
        (len(level), anchor or re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"))
        for anchor, level, title in found
    ]


@pytest.mark.parametrize("english", PAIRS)
def test_a_chinese_page_has_the_headings_of_the_english_one(english: str) -> None:
    chinese = headings(chinese_pages()[english])
    assert [level for level, _ in chinese] == [level for level, _ in headings(PAIRS[english])]


@pytest.mark.parametrize("english", PAIRS)
def test_a_chinese_page_shows_the_commands_of_the_english_one(english: str) -> None:
    assert commands(chinese_pages()[english]) == commands(PAIRS[english])


@pytest.mark.parametrize("english", PAIRS)
def test_sentences_of_a_chinese_page_name_commands_of_the_english_one(english: str) -> None:
    known = {*commands_in_sentences(PAIRS[english]), *commands(PAIRS[english])}
    assert set(commands_in_sentences(chinese_pages()[english])) <= known


@pytest.mark.parametrize("english", PAIRS)
def test_a_chinese_page_shows_the_examples_of_the_english_one(english: str) -> None:
    def examples(path: Path) -> list[str]:
        return re.findall(r"^```(?:json|yaml|csv|ini)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)

    # Comments in examples are in the language of the page.
    without_comments = [
        [re.sub(r"#.*", "", one) for one in examples(path)] for path in (chinese_pages()[english], PAIRS[english])
    ]
    assert without_comments[0] == without_comments[1]


@pytest.mark.parametrize("english", PAIRS)
def test_the_tables_of_a_chinese_page_have_the_rows_of_the_english_ones(english: str) -> None:
    def rows(path: Path) -> list[int]:
        return [table.count("\n") for table in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.MULTILINE)]

    assert rows(chinese_pages()[english]) == rows(PAIRS[english])


@pytest.mark.parametrize("english", PAIRS)
def test_links_of_a_chinese_page_lead_to_chinese_pages(english: str) -> None:
    page = chinese_pages()[english]
    chinese = {PAIRS[one].resolve(): path for one, path in chinese_pages().items()}
    links = {link: (page.parent / link).resolve() for link in re.findall(r"\]\(([^)#:]+\.md)", page.read_text())}
    assert not [link for link, path in links.items() if path in chinese and path != PAIRS[english].resolve()]


@pytest.mark.parametrize("page", USERS_PAGES)
def test_every_page_for_users_exists_in_chinese(page: str) -> None:
    assert f"docs/{page}.md" in PAIRS


def test_pages_that_lack_a_heading_or_a_command_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# 一\n\n<a id="two"></a>\n\n## 二\n\n```sh\nfacebridge run   # 运行\n# no heading\n```\n')
    assert headings(page) == [(1, "一"), (2, "two")]
    assert commands(page) == ["facebridge run"]
    assert (ROOT / "README.zh-CN.md") in chinese_pages().values()
