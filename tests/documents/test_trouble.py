"""The page of troubles: it quotes messages as the code writes them, in both languages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def quoted(name: str) -> list[str]:
    """Return the texts of messages in the first two tables of a page."""
    tables = (ROOT / "docs" / name).read_text().split("\n## ")[1:3]
    return [text for table in tables for text in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)]


def source() -> str:
    """Return the code of the bridge, with the parts of strings joined."""
    text = "".join(path.read_text() for path in (ROOT / "bridge").rglob("*.py"))
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


@pytest.mark.parametrize("message", quoted("trouble.md"))
def test_a_quoted_message_exists(message: str) -> None:
    assert message in source()


def test_both_languages_quote_the_same_messages() -> None:
    assert len(quoted("trouble.md")) >= 10
    assert quoted("trouble.md") == quoted("trouble.zh.md")
