"""Each row of the benchmarks runs to its end at the smallest size. No test looks at the figures."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ROWS
from benchmarks.harness import FAILED
from benchmarks.results import Run, comparison, table
from benchmarks.subjects.starting import subject_kinds
from tests.support.environment import program_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, env=program_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ROWS)
def test_every_subject_can_be_measured(name: str, tmp_path: Path) -> None:
    file, row = tmp_path / "run.json", ROWS[name]
    shown = bench(
        name, "--broker", row.brokers[-1], "--blocks", "2", "--scale", "0.02",
        "--terminals", "2", "--folder", str(tmp_path), "--memory", "--save", str(file),
    )  # fmt: skip
    run = Run.load(file)
    for subject in subject_kinds({}):
        for metric in row.metrics:
            measured = run.find(name, row.brokers[-1], 2, subject, metric.key)
            assert measured is not None, (subject, metric)
            assert len(measured.values) == 2
            if metric is FAILED:
                assert not any(measured.values), f"{subject}: some did not end ok"
    assert "\n".join(table(run, ROWS)).strip() == shown.strip()
    assert list(comparison(run, run, ROWS))
