"""Each row of the benchmarks runs to its end at the smallest size. No test looks at the figures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import FAILED, MEMORY_MB
from benchmarks.processes import set_real_time
from benchmarks.results import Run
from benchmarks.rows import ROWS
from benchmarks.subjects.starting import OTHERS, subject_kinds
from tests.support.environment import program_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]

SMALLEST = ("--blocks", "1", "--scale", "0.02", "--memory")


def bench(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, env=program_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ROWS)
def test_every_figure_of_a_row_is_measured(name: str, tmp_path: Path) -> None:
    file, row = tmp_path / "run.json", ROWS[name]
    broker = row.brokers[-1]
    bench(name, "--broker", broker, "--terminals", "2", "--folder", str(tmp_path), "--save", str(file), *SMALLEST)
    run = Run.load(file)
    for subject in subject_kinds({}):
        for metric in row.metrics:
            found = run.find(name, broker, 2, subject, metric.key)
            if row.only_product and subject in OTHERS:
                assert found is None
                continue
            assert found is not None, (subject, metric)
            assert len(found.values) == 1
            if metric is FAILED:
                assert found.values == (0,), f"{subject}: some commands did not end ok"
            if metric is MEMORY_MB:
                assert found.values[0] > 1


def test_an_interrupted_run_ends_with_1_and_keeps_what_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    command = [
        sys.executable, "-m", "benchmarks", "open", "open-200", "--subject", "floor", "--broker", "nodelay",
        "--scale", "0.02", "--blocks", "3", "--memory", "--folder", str(tmp_path), "--save", str(file),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, env=program_environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # The second line means that the first row is saved.
        assert [process.stderr.readline() for _ in range(2)][1].startswith("measuring: open, 200 opens/s")
        process.terminate()
        assert process.wait(60) == 1
    assert {one.row for one in Run.load(file).measured} == {"open"}


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    file, document = tmp_path / "grow.json", tmp_path / "performance.md"
    document.write_text("before\n<!-- growth -->\nold\n<!-- end of growth -->\nafter\n")
    shown = bench(
        "grow", "open", "--size", "1", "--size", "3", "--subject", "product", "--broker", "nodelay",
        "--folder", str(tmp_path), "--save", str(file), *SMALLEST,
    )  # fmt: skip
    assert "exponent" in shown
    assert bench("show", str(file)) == shown
    changed = bench("publish", str(file), "--document", str(document))
    assert changed.split() == [str(document), str(tmp_path / "charts" / "growth.svg")]


def test_a_soak_leaves_nothing_over(tmp_path: Path) -> None:
    shown = bench("soak", "--minutes", "0.2", "--terminals", "5", "--folder", str(tmp_path))
    assert "left over after all terminals disconnected: 0 open files, 0 tasks" in shown
    assert re.search(r"reconnections: [1-9]\d*; connections that ended without an order: 0", shown)


def test_the_measured_processes_run_before_others() -> None:
    code = "import os, time; print(os.sched_getscheduler(0), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == os.SCHED_OTHER
        try:
            set_real_time(process.pid)
        except PermissionError:
            pytest.skip("this user may not set priorities")
        finally:
            scheduler = os.sched_getscheduler(process.pid)
            process.kill()
    assert scheduler == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK


def test_another_checkout_is_measured_beside_this_one(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    (tmp_path / "other").mkdir()
    for name in ("bridge", ".venv"):
        (tmp_path / "other" / name).symlink_to(ROOT / name)
    bench(
        "open", "--subject", "product", "--checkout", f"before={tmp_path / 'other'}", "--broker", "nodelay",
        "--folder", str(tmp_path), "--save", str(file), *SMALLEST,
    )  # fmt: skip
    run = Run.load(file)
    assert {one.subject for one in run.measured} == {"floor", "product", "before"}
    compared = bench("compare", str(file), str(file))
    assert "open, idle, 1 terminal, nodelay: p50" in compared
