"""JSON, read as a stream."""

import json
from pathlib import Path
from typing import Any

import ijson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.import_export import rows as byte_source
from bridge.import_export.json_reading import read_json
from bridge.import_export.reading import open_person_file
from bridge.import_export.rows import ByteSource, PersonFileError
from tests.import_export.file_system import read

ADA: dict[str, Any] = {"id": "1001", "name": "Ada", "valid_from": 1700000000.5, "valid_until": -1, "weekly": None}
GRACE: dict[str, Any] = {"id": "1002", "visitor": True, "weekly": {"Monday": ["09:00-10:00", "11:00-12:00"]}}
DEEP = b"[" * 100_000


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "persons.json"


def error_of(table: Path, content: str | bytes) -> str:
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PersonFileError) as caught:
        read(table)
    return str(caught.value)


@pytest.mark.parametrize("root", [[ADA, GRACE], {"persons": [ADA, GRACE]}])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_persons_is_read_by_itself_or_in_an_object(
    table: Path, root: object, encoding: str, indent: int | None
) -> None:
    table.write_text(json.dumps(root, indent=indent), encoding=encoding)
    rows = read(table)
    assert [(row.number, row.data, row.picture, row.faults) for row in rows] == [
        (1, ADA, None, ()),
        (2, GRACE, None, ()),
    ]


@pytest.mark.parametrize("text", ["[]", '{"persons": []}', " [ ] \n"])
def test_an_empty_list_has_no_persons(table: Path, text: str) -> None:
    table.write_text(text)
    assert read(table) == []


def test_numbers_stay_numbers(table: Path) -> None:
    table.write_text('[{"id": "1", "pass_count": 3, "valid_from": 3.0, "valid_until": 1e3}]')
    (row,) = read(table)
    assert {key: type(value) for key, value in row.data.items()} == {
        "id": str,
        "pass_count": int,
        "valid_from": float,
        "valid_until": float,
    }


def test_a_repeated_id_is_a_fault_of_the_later_row(table: Path) -> None:
    table.write_text('[{"id": "1"}, {"id": 7}, {"name": "Ada"}, {"id": 7}, {"id": "1"}]')
    assert [len(row.faults) for row in read(table)] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("", "the file ends in the middle of it"),
        (" \n", "the file ends in the middle of it"),
        ("7", "must be a list of persons"),
        ('"Eve"', "must be a list of persons"),
        ("{}", "must be a list of persons"),
        (json.dumps({"id": "1", "name": "Eve"}), "must be a list of persons"),
        ('{"persons": {}}', "must be a list of persons"),
        ('{"request_id": "1", "persons": []}', "must be a list of persons"),
        ('{"persons": [], "Eve": 1}', "must be a list of persons"),
        ('{"persons": [], "persons": []}', "must be a list of persons"),
        ('["Eve"]', "person 1: must be an object"),
        ('[{"id": "1"}, ["Eve"]]', "person 2: must be an object"),
        ('[{"id": "1"}, {"name": "Eve", ]', "person 2: is not JSON"),
        ('[{"id": "1"}, {"name": "Eve"', "person 2: the file ends in the middle"),
        ('[{"id": "1"}, {"name": "Eve"}', "person 3: the file ends in the middle"),
        ("[{'name': 'Eve'}]", "person 1: is not JSON"),
        ('[{"valid_from": NaN, "name": "Eve"}]', "person 1: is not JSON"),
        ('[{"name": "Eve", "pass_count": ' + "9" * 400 + ".0}]", "person 1: "),
        ('[{"name": "Eve", "pass_count": ' + "9" * 400 + "}]", "person 1: "),
        ('[{"id": "1"}] {"name": "Eve"}', "something follows the end"),
        (b'[{"id": "1"}, {"name": "Ev\xe4, Eve"}]', "person 2: is not UTF-8"),
        (b'[{"id": "1"}, {"name": "Eve\x00"}]', "person 2: is not JSON"),
        ('[{"id": "1", "name": "Eve"}]'.encode("utf-16"), "is in UTF-16"),
        (b'[{"a": ' + DEEP, "person 1: contains more than a person can have"),
        (b"[" + DEEP, "person 1: contains more than a person can have"),
        (
            "[{" + ",".join(f'"{number}": 0' for number in range(10_000)) + "}]",
            "person 1: contains more than a person can have",
        ),
    ],
)
def test_a_file_that_is_not_json_of_persons_is_an_error(table: Path, content: str | bytes, hint: str) -> None:
    message = error_of(table, content)
    assert message.startswith(hint)
    assert "Eve" not in message


def test_persons_before_a_broken_one_are_read(table: Path) -> None:
    table.write_text('[{"id": "1"}, {"id": "2"}, {')
    with open_person_file(table, None) as opened:
        rows = opened.rows()
        assert [next(rows).data["id"], next(rows).data["id"]] == ["1", "2"]
        with pytest.raises(PersonFileError, match="person 3"):
            next(rows)


def test_an_endless_person_is_not_read_to_its_end(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_source, "MAXIMUM_ROW_BYTES", 200_000)
    # All persons together are longer than the limit, but none of them is.
    table.write_text(json.dumps([{"id": str(number), "photo": "x" * 100_000} for number in range(10)]))
    assert len(read(table)) == 10
    assert error_of(table, '[{"id": "1"}, {"name": "' + "x" * 600_000).startswith("person 2: is longer than")


persons = st.lists(
    st.dictionaries(
        st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]))
        | st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.none(), max_size=3),
        max_size=5,
    ),
    max_size=5,
)


@given(persons, st.integers(1, 40), st.booleans())
def test_json_is_read_in_any_pieces(data: list[dict[str, Any]], piece: int, ascii_only: bool) -> None:
    rest = json.dumps(data, ensure_ascii=ascii_only).encode()

    def take(size: int) -> bytes:
        nonlocal rest
        taken, rest = rest[: min(size, piece)], rest[min(size, piece) :]
        return taken

    assert [row.data for row in read_json(ByteSource(take, len(rest)))] == data


@pytest.mark.parametrize("backend", ["yajl2_c", "python"])
def test_all_backends_of_ijson_give_the_same(table: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(ijson, "basic_parse", ijson.get_backend(backend).basic_parse)
    for content, hint in (
        ('[{"id": "1"}, {"name": "Ada', "person 2: the file ends in the middle"),
        ('[{"id": "1"}] 7', "something follows the end"),
        ('[{"id": "1", "name": "Ada" "card": 7}]', "person 1: is not JSON"),
        (b'[{"id": "1", "name": "\xff"}]', "is not UTF-8"),
    ):
        assert hint in error_of(table, content)
    table.write_text(json.dumps({"persons": [ADA, GRACE]}))
    assert [row.data for row in read(table)] == [ADA, GRACE]
