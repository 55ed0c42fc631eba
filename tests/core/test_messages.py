"""Messages know what they were made of, and are translated with their values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.messages import TranslatableMessage, decode_message, encode_message, message, translated

GERMAN = {
    "at most %(limit)s characters": "höchstens %(limit)s Zeichen",
    "%(place)s: %(fault)s": "%(place)s – %(fault)s",
    "is empty": "ist leer",
}


def german(text: str) -> str:
    return GERMAN.get(text, text)


def test_message_is_its_english_text() -> None:
    made = message("at most %(limit)s characters", limit=5)
    assert made == "at most 5 characters"
    assert translated(made, german) == "höchstens 5 Zeichen"
    assert translated("is empty", german) == "ist leer"
    assert translated("no translation", german) == "no translation"


def test_value_can_be_a_message_too() -> None:
    inner = message("at most %(limit)s characters", limit="100%")
    assert inner == "at most 100% characters"
    outer = message("%(place)s: %(fault)s", place="name", fault=inner)
    assert (outer, translated(outer, german)) == ("name: at most 100% characters", "name – höchstens 100% Zeichen")


def test_message_reaches_another_process() -> None:
    made = message("at most %(limit)s characters", limit=5)
    arrived = decode_message(encode_message(made))
    assert (arrived, translated(arrived, german)) == (made, "höchstens 5 Zeichen")
    assert decode_message(encode_message("is empty")) == "is empty"


@pytest.mark.parametrize("content", [b"plain text", b"[1, 2, 3]", b'["a", "b", [1]]', b'["a", "b", {"c": 1}]', b"\xff"])
def test_other_bytes_become_text(content: bytes) -> None:
    assert decode_message(content) == content.decode(errors="replace")


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_template_of_another_process_is_never_filled_in(text: str, template: str, values: dict[str, str]) -> None:
    """A format such as `%(a)9999999999s` takes all memory; only the page's own templates are used."""
    assert translated(TranslatableMessage(text, template, values), lambda same: same) == text
