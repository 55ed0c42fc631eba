"""The examples of `scripts/test` with arguments, in the script itself and in the documents."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "scripts" / "test", *ROOT.glob("*.md")]
EXAMPLES = sorted(
    {example.strip() for file in FILES for example in re.findall(r"scripts/test (tests/[^#`\n]+)", file.read_text())}
)


def test_there_is_an_example() -> None:
    assert "scripts/test tests/" in (ROOT / "scripts" / "test").read_text()


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_selects_tests(example: str) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "not slow", *shlex.split(example)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
