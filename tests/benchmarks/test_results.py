"""Ratios, growth and comparisons of measured values."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.charts import write_charts
from benchmarks.harness import Measured, Options
from benchmarks.processes import Machine
from benchmarks.publishing import publish
from benchmarks.results import Run, comparison, growth, growth_exponent, markdown, significant, table
from benchmarks.rows import ROWS

ROOT = Path(__file__).parents[2]

MACHINE = Machine("a processor", 2, 4, "6.1", "3.11.7", "2.0.11", "ext4 on /dev/sda1", 1.6, 0.0)


def run_of(**values: tuple[float, ...]) -> Run:
    """Return a run with values of `open`, p50, by subject."""
    measured = tuple(Measured("open", "stock", 1, name, "p50_ms", those) for name, those in values.items())
    return Run("2026-11-28T00:00+00:00", "abc", MACHINE, 3, 1.0, measured)


def test_a_ratio_compares_values_of_the_same_block() -> None:
    run = run_of(floor=(1.0, 2.0, 4.0), product=(3.0, 4.0, 16.0))
    ratio = run.ratio(run.measured[1], "floor")
    assert ratio is not None
    assert (ratio.median, ratio.least, ratio.largest) == (3.0, 2.0, 4.0)


def test_there_is_no_ratio_to_nothing() -> None:
    run = run_of(floor=(1.0, 0.0, -1.0), product=(3.0, 4.0, 16.0))
    assert run.ratio(run.measured[1], "floor") is None
    assert run.ratio(run.measured[1], "script") is None


def test_a_saved_run_is_read_again(tmp_path: Path) -> None:
    run = run_of(floor=(1.0, 2.0), product=(3.0, 4.0))
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_a_table_shows_values_and_ratios() -> None:
    lines = list(table(run_of(floor=(1.0,), product=(2.5,)), ROWS))
    assert re.fullmatch(r"  p50 +product +2\.50 ms +2\.50 × floor", lines[2])
    assert "| open, idle, 1 terminal | p50, ms | 1.00 | 2.50 | 2.50 | 1.5 × floor |" in list(
        markdown(run_of(floor=(1.0,), product=(2.5,)), ROWS)
    )


def test_a_comparison_shows_the_change_and_that_of_the_ratio() -> None:
    before, after = run_of(floor=(1.0,), product=(4.0,)), run_of(floor=(2.0,), product=(4.0,))
    (line,) = comparison(before, after, ROWS)
    assert "4.00 → 4.00 (1.00 of it) ms" in line
    assert "× floor 4.00 → 2.00 (0.50 of it)" in line


@pytest.mark.parametrize(
    ("points", "exponent"),
    [({10: 5.0, 1000: 5.0}, 0.0), ({10: 1.0, 100: 7.0, 1000: 100.0}, 1.0), ({10: 1.0}, None), ({1: 0.0, 2: 1.0}, None)],
)
def test_growth_is_a_power_law(points: dict[int, float], exponent: float | None) -> None:
    assert growth_exponent(points) == (None if exponent is None else pytest.approx(exponent))


def test_growth_shows_every_size() -> None:
    measured = tuple(Measured("open", "stock", size, "product", "p50_ms", (size / 10,)) for size in (10, 100))
    lines = list(growth(Run("", "", MACHINE, 1, 1.0, measured), ROWS))
    assert lines[1].endswith("1.00 at 10, 10.0 at 100 ms   exponent 1.00")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (12.34, "12.3"), (999.6, "1000"), (4321, "4,321")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_charts_adapt_to_a_dark_background(tmp_path: Path) -> None:
    (file,) = write_charts(run_of(floor=(1.0,), product=(2.5,)), ROWS, tmp_path)
    assert "prefers-color-scheme: dark" in file.read_text()
    assert "product: 2.50 × floor" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["opne"], "'opne' is not one of"),
        (["open", "--subject", "flor", "--memory"], "--subject flor: not one of floor, script, node-red, product"),
        (["open", "--checkout", "before", "--memory"], "not NAME=FOLDER"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_results_replace_the_former_ones(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    run = run_of(floor=(1.0,), product=(2.5,))
    for _ in range(2):
        assert list(publish(run, ROWS, document)) == [document, tmp_path / "charts" / "stock.svg"]
    text = document.read_text()
    assert text.startswith("before\n<!-- results -->\n\nMeasured on 2026-11-28 (commit `abc`): a processor, 2 cores")
    assert text.count("| open, idle, 1 terminal | p50, ms | 1.00 | 2.50 | 2.50 | 1.5 × floor |") == 1
    assert "stock Mosquitto. Left is better.](charts/stock.svg)" in text
    assert "old" not in text
    assert text.endswith("\n<!-- end of results -->\nafter\n")


def test_a_document_without_a_place_for_results_is_named(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n")
    with pytest.raises(ValueError, match="<!-- results -->"):
        list(publish(run_of(floor=(1.0,)), ROWS, document))


def test_every_row_is_documented() -> None:
    document = (ROOT / "docs" / "performance.md").read_text()
    for name in ROWS:
        assert f"`{name}`" in document, name


def test_every_chart_is_shown() -> None:
    document = (ROOT / "docs" / "performance.md").read_text()
    charts = {file.name for file in (ROOT / "docs" / "charts").glob("*")}
    assert charts == set(re.findall(r"\(charts/([\w.-]+)\)", document))


def test_a_quick_run_has_fewer_blocks_of_the_rows_that_take_minutes() -> None:
    quick = Options(Path(), blocks=3, scale=0.2, most_slow_blocks=2)
    assert {ROWS[name].most_blocks for name in ("storm", "idle")} == {3}
    assert [quick.blocks_of(ROWS[name]) for name in ("open", "start", "storm", "idle", "import")] == [3, 3, 2, 2, 2]
    full = Options(Path(), blocks=5)
    assert [full.blocks_of(ROWS[name]) for name in ("open", "start", "storm", "idle", "import")] == [5, 5, 3, 3, 2]
