"""A table of any length is printed in parts."""

import pytest

from bridge.cli.output import LongTable


def test_a_long_table_is_printed_before_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    table = LongTable("id", "name")
    for number in range(1200):
        table.add_row(f"p{number}", "门" if number == 0 else "Ann")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1001
    assert printed[:3] == ["id    name", "p0    门", "p1    Ann"]
    table.end()
    assert len(capsys.readouterr().out.splitlines()) == 200


def test_a_long_table_widens_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table = LongTable("id", "name")
    for _ in range(500):
        table.add_row("p", "Ann")
    table.add_row("p-long", "Bo")
    table.end()
    lines = capsys.readouterr().out.splitlines()
    assert (lines[1], lines[-1]) == ("p   Ann", "p-long  Bo")


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_every_row_is_printed_once(capsys: pytest.CaptureFixture[str], rows: int) -> None:
    table = LongTable("id", "name")
    for number in range(rows):
        table.add_row(f"p{number}", "Ann")
    table.end()
    assert len(capsys.readouterr().out.splitlines()) == rows + 1
