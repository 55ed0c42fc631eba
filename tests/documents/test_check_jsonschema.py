"""The check of files with JSON Schemas, with the tool that docs/mqtt.md shows, in an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents.shown import ROOT, commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Run = Callable[[str], subprocess.CompletedProcess[str]]

INSTALL, CHECK = [one for one in commands(ROOT / "docs" / "mqtt.md") if "check-jsonschema" in one]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in a folder with the documents and the installed tool."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"}
    (tmp_path / "docs").symlink_to(ROOT / "docs")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    installed = run(INSTALL)
    assert installed.returncode == 0, installed.stderr
    return run


def test_the_shown_commands_check_a_person(run: Run, tmp_path: Path) -> None:
    person = tmp_path / "ada.json"
    person.write_text(json.dumps({"id": "1001", "name": "Ada", "enabled": True}))
    assert run(CHECK).returncode == 0
    person.write_text(json.dumps({"id": "1001", "enabled": None}))
    wrong = run(CHECK)
    assert wrong.returncode == 1
    assert "enabled" in wrong.stdout


def test_the_compose_file_of_the_example_is_valid(run: Run, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "broker" / "compose.yaml").read_text()
    check = "check-jsonschema --builtin-schema vendor.compose-spec compose.yaml"
    (tmp_path / "compose.yaml").write_text(text)
    valid = run(check)
    assert valid.returncode == 0, valid.stdout
    (tmp_path / "compose.yaml").write_text(text.replace("restart:", "restrat:"))
    assert run(check).returncode == 1
