"""YAML is read with its lines, and no content of a file makes the reader fail."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.document import DocumentError, parse_document
from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: [1\nb: 2", "config.yaml:2: is not valid YAML: a list in brackets is not closed, or a comma is missing"),
        (b"mqtt:\n\thost: x", "config.yaml:2: is not valid YAML: a tab: indent with spaces"),
        (b"mqtt:\n  host: \xff", "config.yaml:2: is not UTF-8"),
        (b"mqtt:\n  host: \x01", "config.yaml:2: contains a character that YAML does not allow"),
        (b"- a", "config.yaml:1: must contain sections such as mqtt and terminals"),
        (b"a: " + b"[" * 3000, "config.yaml: is nested too deeply"),
        (b"a: &a [*a]", "config.yaml:1: is nested too deeply"),
        (
            b"a: 1\n---\nb: 2",
            "config.yaml:2: is not valid YAML: a second document begins here, and only one is allowed",
        ),
        (b"a: &a {<<: *a}", "config.yaml: is nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "config.yaml: is larger than 1.0 MB"),
    ],
)
def test_a_file_that_is_no_configuration_is_reported(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "config.yaml", {})
    assert [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.faults] == [fault]


@pytest.mark.parametrize("form", ["[%s]", "{<<: [%s]}"])
def test_exponential_aliases_are_refused(form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {form % ', '.join([f'*a{n - 1}'] * 10)}" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="too many values"):
        parse_document("\n".join(lines), {})


def test_a_key_of_the_mapping_wins_over_a_merged_one() -> None:
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
        ("a: 1\nb: 2\na: 3", ("a",), 3, "this key exists already, in line 1: remove one of them"),
        ("12: x", ("12",), 1, "YAML reads this key as a number: put it in quotes"),
        ("yes: x", ("yes",), 1, "YAML reads this key as true or false: put it in quotes"),
        ("? [a]\n: x", (), 1, "a key must be text, without a tag"),
        ("!name x: y", (), 1, "a key must be text, without a tag"),
        ("a: !other x", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !name [x]", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !!binary eA==", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a: !!set {x}", ("a",), 1, "unknown tag (known: !name); text that begins with ! must be in quotes"),
        ("a:\n  !!bool x", ("a",), 2, "YAML reads this as true or false, but it is not a valid one: put it in quotes"),
        ("a: !!int ''", ("a",), 1, "YAML reads this as a number, but it is not a valid one: put it in quotes"),
        ("a: !!timestamp x", ("a",), 1, "YAML reads this as a date, but it is not a valid one: put it in quotes"),
        ("a: 2026-99-99", ("a",), 1, "YAML reads this as a date, but it is not a valid one: put it in quotes"),
        ("<<: 7", (), 1, "<< must have a mapping or a list of mappings"),
    ],
)
def test_faults_of_the_structure_are_reported(text: str, path: tuple[str, ...], line: int, message: str) -> None:
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
def test_any_text_raises_only_document_errors(text: str) -> None:
    with suppress(DocumentError):
        document = parse_document(text, {"!name": str})
        assert all(line >= 1 for line in document.lines.values())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.dates() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@given(VALUES, st.sampled_from([True, False, None]))
def test_libyaml_and_the_parser_of_pyyaml_read_the_same(value: object, flow: bool | None) -> None:
    """Some builds of PyYAML have no libyaml."""
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    results = []
    for has_libyaml in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml, "__with_libyaml__", has_libyaml)
            try:
                results.append(repr(parse_document(text, {})))
            except DocumentError as error:
                results.append(f"{error.line}: {error}")
    assert results[0] == results[1]


def test_a_large_configuration_is_read_by_libyaml(tmp_path: Path) -> None:
    """PyYAML's own parser needs two seconds of processor time for ten thousand terminals."""
    file = tmp_path / "config.yaml"
    file.write_text('terminals: {username: dev, password: "123456", known: {T1: {name: Front door}}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", None)
        assert [one.name for one in load_settings(file, {}).terminals.known] == ["Front door"]
