"""CSV as people and spreadsheets write it."""

import csv
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.import_export import csv_reading
from bridge.import_export import rows as byte_source
from bridge.import_export.reading import open_person_file
from bridge.import_export.rows import PersonFileError
from bridge.model.faults import InvalidError
from bridge.persons.schema import parse_person
from tests.import_export.file_system import read

HEADER = "id,name,card,id_number,valid_from,valid_until,pass_count,visitor,weekly,enabled"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "persons.csv"


def data_of(table: Path, text: str) -> list[dict[str, Any]]:
    table.write_text(text, newline="")
    rows = read(table)
    assert [row.faults for row in rows] == [()] * len(rows)
    return [dict(row.data) for row in rows]


def error_of(table: Path, content: str | bytes) -> str:
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PersonFileError) as caught:
        read(table)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_csv_of_spreadsheets_is_read(table: Path, delimiter: str, line_end: str, mark: str) -> None:
    lines = [["id", "name", "card"], ["1001", '"Ada, ""the; first"""', "0042"], ["1002", "王小明", ""]]
    text = mark + line_end.join(delimiter.join(cells) for cells in lines)
    expected = [
        {"id": "1001", "name": 'Ada, "the; first"', "card": "0042"},
        {"id": "1002", "name": "王小明", "card": None},
    ]
    assert data_of(table, text) == expected
    assert data_of(table, text + line_end) == expected


@pytest.mark.parametrize("separator", ["sep=;\r\n", '"sep=;"\n', "SEP=;\r"])
def test_the_file_of_a_german_excel_is_read(table: Path, separator: str) -> None:
    text = separator + "ID;Name;IC_no;validFrom\r\n1001;Jürgen Groß;0042;\r\n1002;Zoë O’Brien–Šťáva;;\r\n"
    text = text.replace("validFrom", "VALID_FROM").replace("ť", "t")
    table.write_bytes(text.encode("cp1252"))
    first, second = read(table)
    assert dict(first.data) == {"id": "1001", "name": "Jürgen Groß", "IC_NO": "0042", "valid_from": None}
    assert (second.number, second.data["name"]) == (3, "Zoë O’Brien–Štáva")


@pytest.mark.parametrize("column", ["id", "name", "card", "id_number", "valid_until", "pass_count"])
@pytest.mark.parametrize("cell", ["4.21E+09", "4,21E+09", "1E+15", "4.21e+09"])
def test_a_number_that_excel_has_shortened_is_a_fault(table: Path, column: str, cell: str) -> None:
    others = {"id": "1001", "name": "Ada"} | {column: cell}
    table.write_text(";".join(others) + "\n" + ";".join(others.values()) + "\n")
    (row,) = read(table)
    (fault,) = row.faults
    assert (fault.path, "a spreadsheet has shortened" in fault.message) == (column, True)


@pytest.mark.parametrize("cell", ["12E3", "1E-05", "E+05", "4.21E+09a", "1234E5"])
def test_a_card_number_with_an_e_is_no_shortened_number(table: Path, cell: str) -> None:
    assert data_of(table, f"id,card\n1,{cell}\n") == [{"id": "1", "card": cell}]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("'=1+1", "=1+1"),
        ("'+49 30", "+49 30"),
        ("'-1", "-1"),
        ("'@x", "@x"),
        ("''=1", "'=1"),
        ("'4.21E+09", "4.21E+09"),
        ("'t Hooft", "'t Hooft"),
        ("''t Hooft", "''t Hooft"),
        ("'", "'"),
        ("=1+1", "=1+1"),
    ],
)
def test_the_apostrophe_before_a_formula_is_removed(table: Path, cell: str, value: str) -> None:
    assert data_of(table, f"id,name\n1,{cell}\n") == [{"id": "1", "name": value}]


def test_a_lone_column_needs_no_delimiter(table: Path) -> None:
    assert data_of(table, "id\n1\n2\n") == [{"id": "1"}, {"id": "2"}]


def test_cells_are_trimmed_and_may_be_quoted_after_a_space(table: Path) -> None:
    assert data_of(table, 'id, name ,card\n 1 , "Ada, L." ,"\u3000 7 "\n'.replace('" ,', '",')) == [
        {"id": "1", "name": "Ada, L.", "card": "7"}
    ]


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("card", "00042", "00042"),
        ("card", "", None),
        ("IC_NO", "42", "42"),
        ("ID_NO", "", None),
        ("valid_from", "2026-11-24", "2026-11-24"),
        ("valid_until", "1700000000", 1700000000),
        ("valid_until", "1700000000.5", 1700000000.5),
        ("startTs", "-1", -1),
        ("endTs", "", None),
        ("valid_from", "soon", "soon"),
        ("valid_from", "9" * 5000, "9" * 5000),
        ("valid_from", "٣", "٣"),
        ("pass_count", "3", 3),
        ("passCount", "10000", 10000),
        ("pass_count", "", None),
        ("pass_count", "many", "many"),
        ("visitor", "TRUE", True),
        ("visitor", "no", False),
        ("visitor", "1", True),
        ("visitor", "", None),
        ("enabled", "0", False),
        ("enabled", "Yes", True),
        ("weekly", "", None),
        ("weekly", "09:00-17:00", {"default": "09:00-17:00"}),
        ("weekly", "09:00-12:35;13:25-16:25", {"default": "09:00-12:35;13:25-16:25"}),
        ("weekly", '"{""default"": null}"', '{"default": null}'),
        ("photo_file", "ada.jpg", "ada.jpg"),
        ("photo", "AAAA", "AAAA"),
    ],
)
def test_a_cell_becomes_json_of_a_person(table: Path, column: str, cell: str, value: object) -> None:
    assert data_of(table, f"id,{column}\n1,{cell}\n") == [{"id": "1", column: value}]


@pytest.mark.parametrize("column", ["photo", "photo_file"])
def test_an_empty_photo_cell_leaves_the_photo_unchanged(table: Path, column: str) -> None:
    assert data_of(table, f"id,{column},name\n1, ,Ada\n") == [{"id": "1", "name": "Ada"}]


@pytest.mark.parametrize(
    ("column", "cell", "hint"),
    [
        ("visitor", "maybe", "must be true, false, yes, no, 1 or 0"),
        ("enabled", "", "must be true, false, yes, no, 1 or 0"),
        ("enabled", "2", "must be true, false, yes, no, 1 or 0"),
    ],
)
def test_a_cell_that_cannot_be_read_is_a_fault_and_the_rest_is_read(
    table: Path, column: str, cell: str, hint: str
) -> None:
    table.write_text(f"id,{column},name\n1,{cell},Ada\n")
    (row,) = read(table)
    (fault,) = row.faults
    assert (fault.path, hint in fault.message) == (column, True)
    assert row.data == {"id": "1", "name": "Ada"}


@pytest.mark.parametrize(
    ("column", "cell", "path", "hint"),
    [
        ("name", "", "name", "must not be empty"),
        ("weekly", "always", "weekly.default", "not a range"),
        ("weekly", '"{""Monday"""', "weekly", "JSON"),
        ("pass_count", "3.0", "pass_count", "whole number"),
        ("valid_until", "soon", "valid_until", "must be a time"),
    ],
)
def test_the_faults_of_a_person_fit_a_cell(table: Path, column: str, cell: str, path: str, hint: str) -> None:
    (data,) = data_of(table, f"id,{column}\n1,{cell}\n")
    with pytest.raises(InvalidError) as caught:
        parse_person(data, timezone=UTC)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert hint in fault.message


def test_rows_are_numbered_as_a_spreadsheet_shows_them(table: Path) -> None:
    table.write_text('id,name\n\n1,Ada\n , \n2,"Grace\nHopper"\n,,,\n3,Joan\n\n')
    assert [(row.number, row.data["id"]) for row in read(table)] == [(3, "1"), (5, "2"), (7, "3")]


@pytest.mark.parametrize(
    ("row", "counts"), [("1,Ada", "has 2 cells and the header 3"), ("1,Ada,7,x", "has 4 cells and the header 3")]
)
def test_a_row_with_other_cells_than_the_header_is_a_fault(table: Path, row: str, counts: str) -> None:
    table.write_text(f"id,name,card\n{row}\n2,Grace,8\n")
    first, second = read(table)
    assert counts in first.faults[0].message
    assert first.faults[0].path == ""
    assert first.data["name"] == "Ada"
    assert second.faults == ()


def test_empty_cells_after_the_last_column_are_ignored(table: Path) -> None:
    assert data_of(table, "id,name,,\n1,Ada,,,,\n") == [{"id": "1", "name": "Ada"}]


def test_a_repeated_id_is_a_fault_of_the_later_row(table: Path) -> None:
    table.write_text("id\nada\nAda\nada\nada\n")
    rows = read(table)
    assert [[(fault.path, fault.message) for fault in row.faults] for row in rows] == [
        [],
        [],
        [("id", "is also the id of row 2; keep one row for each person")],
        [("id", "is also the id of row 2; keep one row for each person")],
    ]


def test_a_csv_with_only_a_header_has_no_persons(table: Path) -> None:
    assert data_of(table, HEADER) == []


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("", "is empty; its first row must be the header"),
        ("\ufeff", "is empty"),
        ("\n\nid,name\n", "row 1: must be the header"),
        ("1001,Ada,7\n", "row 1: must be the header"),
        ("id,nmae\n", "row 1, column 2: unknown key 'nmae' (did you mean 'name'?)"),
        ("id;Nmae\n", "row 1, column 2: unknown key 'Nmae' (did you mean 'name'?)"),
        ("ID;name;NAME\n", "row 1, column 3: 'NAME' is given twice"),
        ("sep=|\nid|name\n", "its first line names a separator that is no comma, semicolon or tab"),
        ("sep=;\n", "is empty"),
        ("sep=;\nid;nmae\n", "row 1, column 2: unknown key"),
        ("id,,name\n", "row 1, column 2: has no name"),
        ("id,name,name\n", "row 1, column 3: 'name' is given twice"),
        ("id,card,IC_NO\n", "row 1, column 3: 'IC_NO' is given twice"),
        ("name,card\n", "row 1: has no column 'id'"),
        ('id,name\n1,"Ada\n2,Grace\n', "row 2: has a quotation mark that is not closed"),
        ('id,"name\n', "row 1: has a quotation mark that is not closed"),
        ('id,name\n\n1,"Ada" L.\n', "row 3: has text behind a closing quotation mark"),
        ("id,name\n1,Ada\n2,王小明\n".encode("gbk"), "row 3: is neither UTF-8 nor Windows-1252"),
        ("id,name\n1,Ада\n".encode("cp1251"), "row 2: is neither UTF-8 nor Windows-1252"),
        (b"id,name\n1,Ada\x81\n", "row 2: is neither UTF-8 nor Windows-1252"),
        ("id,name\n1,Jürgen\n".encode() + "2,Jürgen\n".encode("cp1252"), "row 3: is in Windows-1252 and rows before"),
        ("id,name\n1,Jürgen\n".encode("cp1252") + "2,Jürgen\n".encode(), "row 3: is in UTF-8 and rows before"),
        (b"id,name\n1,Ada\x00\n", "row 2: contains a NUL byte"),
        ("id,name\n1,Ada\n".encode("utf-16"), "is in UTF-16"),
    ],
)
def test_a_file_that_is_not_a_csv_of_persons_is_an_error(table: Path, content: str | bytes, hint: str) -> None:
    message = error_of(table, content)
    assert message.startswith(hint)
    assert "Ada" not in message


def test_rows_before_a_broken_one_are_read(table: Path) -> None:
    table.write_bytes(b'id\n1\n2\n"3"4\n')
    with open_person_file(table, None) as opened:
        rows = opened.rows()
        assert [next(rows).data["id"], next(rows).data["id"]] == ["1", "2"]
        with pytest.raises(PersonFileError, match="row 4: has text behind"):
            next(rows)


def test_a_photo_of_many_megabytes_fits_into_a_cell(table: Path) -> None:
    photo = "A" * 14_000_000
    assert data_of(table, f"id,photo,name\n1,{photo},Ada\n") == [{"id": "1", "photo": photo, "name": "Ada"}]


@pytest.mark.parametrize("content", ["id,name\n1,{}\n", 'id,name\n1,"{}\n', "id,name\n1,x{}", "id,name\n1,\n2,{}"])
def test_an_endless_row_is_not_read_to_its_end(table: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(byte_source, "MAXIMUM_ROW_BYTES", 200_000)
    assert "MB; is a quotation mark" in error_of(
        table, content.format("Ada\r\n," * 100_000 if '"' in content else "x" * 600_000)
    )


def test_the_error_of_a_too_long_cell_names_its_row(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = csv.field_size_limit(100_000)
    monkeypatch.setattr(csv_reading, "MAXIMUM_ROW_BYTES", 150_000)
    try:
        assert error_of(table, f"id,name\n1,{'x' * 149_999}\n2,{'x' * 150_001}\n").startswith("row 3: has a cell")
    finally:
        csv.field_size_limit(before)


@given(
    cells=st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9]{1,5}", fullmatch=True),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80),
        ),
        max_size=20,
    ),
    piece=st.integers(1, 40),
    terminator=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_output_of_the_csv_module_is_read_in_any_pieces(
    cells: list[tuple[str, str]], piece: int, terminator: str
) -> None:
    written: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            written.append(text)

    writer = csv.writer(Sink(), lineterminator=terminator, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "name"), *cells])
    content = "".join(written).encode()
    rest = memoryview(content)

    def take(size: int) -> bytes:
        nonlocal rest
        taken, rest = bytes(rest[:piece]), rest[piece:]
        return taken

    rows = list(csv_reading.read_csv(byte_source.ByteSource(take, len(content))))
    assert [(row.number, row.data["id"], row.data["name"]) for row in rows] == [
        (number, one, name.strip()) for number, (one, name) in enumerate(cells, 2)
    ]


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_rows_or_an_error(content: bytes) -> None:
    rest = b"id,name,visitor\n" + content

    def take(size: int) -> bytes:
        nonlocal rest
        taken, rest = rest[:7], rest[7:]
        return taken

    try:
        for row in csv_reading.read_csv(byte_source.ByteSource(take, 100)):
            assert row.data or row.faults
    except PersonFileError as error:
        assert str(error)  # noqa: PT017  both ends are right, each in its way


def test_progress_counts_bytes(table: Path) -> None:
    table.write_text("id,name\n" + "".join(f"{number},{'x' * 100}\n" for number in range(10_000)))
    with open_person_file(table, None) as opened:
        seen = [opened.progress() for _ in opened.rows()]
        assert opened.progress() == 1.0
    assert seen == sorted(seen)
    assert seen[0] < 0.1
    assert any(0.4 < share < 0.6 for share in seen)
