"""YAML is read with its lines, and nothing a file can hold brings the reader down."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.document import DocumentError, parse_document
from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: [1\nb: 2", "config.yaml:2: is not YAML: expected ',' or ']', but got ':'"),
        (b"mqtt:\n\thost: x", "config.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        (b"mqtt:\n  host: \xff", "config.yaml:2: is not UTF-8"),
        (b"mqtt:\n  host: \x01", "config.yaml:2: holds a character that YAML does not allow"),
        (b"- a", "config.yaml:1: must hold keys like mqtt and terminals, one a line"),
        (b"a: " + b"[" * 3000, "config.yaml: is nested too deeply"),
        (b"a: &a [*a]", "config.yaml:1: is nested too deeply"),
        (b"a: 1\n---\nb: 2", "config.yaml:2: is not YAML: a second document begins here, and only one is allowed"),
        (b"a: &a {<<: *a}", "config.yaml: is nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "config.yaml: has more than 1048576 bytes"),
    ],
)
def test_what_is_no_configuration_is_told(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "config.yaml", {})
    assert [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.faults] == [fault]


@pytest.mark.parametrize("form", ["[%s]", "{<<: [%s]}"])
def test_a_bomb_of_aliases_is_told(form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {form % ', '.join([f'*a{n - 1}'] * 10)}" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="too many values"):
        parse_document("\n".join(lines), {})


def test_a_merged_key_gives_way_to_the_mappings_own() -> None:
    document = parse_document(
        """\
one: &one {name: a, area: A, list: [1]}
two: &two {name: b, extra: B}
three:
  <<: [*one, *two]
  area: C
""",
        {},
    )
    assert document.faults == []
    assert document.value["three"] == {"area": "C", "name": "a", "list": [1], "extra": "B"}
    assert [document.lines["three", key] for key in ("area", "name", "extra")] == [5, 1, 2]


@pytest.mark.parametrize(
    ("text", "path", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", ("a",), 3, "stands here again, first in line 1"),
        ("12: x", ("12",), 1, "YAML takes this key for a number: put it in quotes"),
        ("yes: x", ("yes",), 1, "YAML takes this key for true or false: put it in quotes"),
        ("? [a]\n: x", (), 1, "a key must be text, without a tag"),
        ("!name x: y", (), 1, "a key must be text, without a tag"),
        ("a: !other x", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !name [x]", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !!binary eA==", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !!set {x}", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a:\n  !!bool x", ("a",), 2, "YAML takes this for true or false, which it is not: put it in quotes"),
        ("a: !!int ''", ("a",), 1, "YAML takes this for a number, which it is not: put it in quotes"),
        ("a: !!timestamp x", ("a",), 1, "YAML takes this for a date, which it is not: put it in quotes"),
        ("a: 2026-99-99", ("a",), 1, "YAML takes this for a date, which it is not: put it in quotes"),
        ("<<: 7", (), 1, "<< takes a mapping, or a list of them"),
    ],
)
def test_what_the_structure_has_wrong_is_told(text: str, path: tuple[str, ...], line: int, message: str) -> None:
    assert parse_document(text, {"!name": str}).faults == [(path, line, message)]


@pytest.mark.parametrize("text", ["a: =", "a: '<<'", "a: '1'", "a: !!str 1"])
def test_text_stays_text(text: str) -> None:
    document = parse_document(text, {})
    assert document.faults == []
    assert isinstance(document.value["a"], str)


PIECES = st.sampled_from([
    "a", "&a ", "*a", "<<", ": ", ":", "- ", "? ", "\n", "  ", "\t", "[", "]", "{", "}", ", ", "!", "!name ", "!!int ",
    "!!bool ", "!!timestamp ", "!!float ", "!!null ", "!!omap ", "'", '"', "\\x", "|", ">", "#", "%", "---\n", "...",
    "1", "0x", "1_0", "1:2", "2026-13-01", "~", "=", "@", "\0", "\ufeff", "\x85", "é",
])  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_only_document_errors_come_out(text: str) -> None:
    with suppress(DocumentError):
        document = parse_document(text, {"!name": str})
        assert all(line >= 1 for line in document.lines.values())
